"""The logistic sigmoid (Rumelhart, Hinton & Williams 1986, Nature 323, eq. 2)."""

import numpy as np

from gradverify import Input, Output, Spec

sigmoid = Spec(
    "sigmoid",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        y[n,c] = sigmoid(x[n,c])
    """,
)


@sigmoid.register
def numpy_sigmoid(x):
    e = np.exp(-np.abs(x))  # never overflows, unlike exp(-x)
    y = np.where(x >= 0, 1, e) / (1 + e)

    def pullback(dy):
        return {"x": dy * y * (1 - y)}

    return y, pullback
