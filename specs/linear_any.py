"""A fully connected layer on the last of any number of dimensions (Rumelhart et al. 1986).

What other libraries call Linear or Dense: a vector, a batch of them or a batch of sequences.
"""

from gradverify import Input, Output, Param, Spec

linear_any = Spec(
    "linear_any",
    x=Input("*N D"),
    w=Param("K D"),
    b=Param("K", init="zeros"),
    y=Output("*N K"),
    definition="""
        y[n,k] = sum[d](x[n,d]*w[k,d]) + b[k]
    """,
)


@linear_any.register
def numpy_linear_any(x, w, b):
    y = x @ w.T + b

    def pullback(dy):
        rows = dy.reshape(-1, dy.shape[-1])
        return {"x": dy @ w, "w": rows.T @ x.reshape(-1, x.shape[-1]), "b": rows.sum(axis=0)}

    return y, pullback
