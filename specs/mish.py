"""Mish, x tanh(softplus(x)) (Misra 2019, arXiv:1908.08681)."""

import numpy as np

from gradverify import Input, Output, Spec

mish = Spec(
    "mish",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        t[n,c] = tanh(softplus(x[n,c]))
        y[n,c] = x[n,c]*t[n,c]
    """,
)


@mish.register
def numpy_mish(x):
    e = np.exp(-np.abs(x))  # never overflows, unlike exp(x)
    t = np.tanh(np.maximum(x, 0) + np.log1p(e))
    y = x * t

    def pullback(dy):
        sigmoid = np.where(x >= 0, 1, e) / (1 + e)
        return {"x": dy * (t + x * sigmoid * (1 - t * t))}

    return y, pullback
