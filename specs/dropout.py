"""Inverted dropout with its mask given (Srivastava et al. 2014, JMLR 15, section 10)."""

from gradverify import Constant, Input, Output, Spec

dropout = Spec(
    "dropout",
    x=Input("N C"),
    mask=Input("N C", values=(0, 1), differentiable=False),
    p=Constant(0.25, 0.5),
    y=Output("N C"),
    definition="""
        y[n,c] = x[n,c]*mask[n,c] / (1 - p)
    """,
)


@dropout.register
def numpy_dropout(x, mask, *, p):
    y = x * mask / (1 - p)

    def pullback(dy):
        return {"x": dy * mask / (1 - p)}

    return y, pullback
