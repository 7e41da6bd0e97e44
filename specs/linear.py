"""A fully connected layer, y = x w^T + b (Rumelhart, Hinton & Williams 1986, Nature 323)."""

from gradverify import Input, Output, Param, Spec

linear = Spec(
    "linear",
    x=Input("N D"),
    w=Param("K D"),
    b=Param("K", init="zeros"),
    y=Output("N K"),
    definition="""
        y[n,k] = sum[d](x[n,d]*w[k,d]) + b[k]
    """,
)


@linear.register
def numpy_linear(x, w, b):
    y = x @ w.T + b

    def pullback(dy):
        return {"x": dy @ w, "w": dy.T @ x, "b": dy.sum(axis=0)}

    return y, pullback
