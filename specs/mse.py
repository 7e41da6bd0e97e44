"""The mean squared error (Goodfellow, Bengio & Courville 2016, Deep Learning, eq. 5.4)."""

from gradverify import Input, Output, Spec

mse = Spec(
    "mse",
    x=Input("N C"),
    t=Input("N C", differentiable=False),
    loss=Output(""),
    definition="""
        loss = mean[n,c]((x[n,c] - t[n,c])**2)
    """,
)


@mse.register
def numpy_mse(x, t):
    error = x - t
    loss = (error * error).mean()

    def pullback(dloss):
        return {"x": dloss * (2 / error.size) * error}

    return loss, pullback
