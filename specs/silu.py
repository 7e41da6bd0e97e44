"""The sigmoid-weighted linear unit, or swish (Elfwing, Uchibe & Doya 2017, arXiv:1702.03118)."""

import numpy as np

from gradverify import Input, Output, Spec

silu = Spec(
    "silu",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        y[n,c] = x[n,c]*sigmoid(x[n,c])
    """,
)


@silu.register
def numpy_silu(x):
    s = _sigmoid(x)
    y = x * s

    def pullback(dy):
        return {"x": dy * s * (1 + x * (1 - s))}

    return y, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
