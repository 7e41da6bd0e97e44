"""Softmax over the last axis (Bridle 1990, in Neurocomputing, NATO ASI F68)."""

import numpy as np

from gradverify import Input, Output, Spec

softmax = Spec(
    "softmax",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        m[n]   = stop_gradient(max[c](x[n,c]))
        e[n,c] = exp(x[n,c] - m[n])
        y[n,c] = e[n,c] / sum[j](e[n,j])
    """,
)


@softmax.register
def numpy_softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)

    def pullback(dy):
        return {"x": y * (dy - (dy * y).sum(axis=1, keepdims=True))}

    return y, pullback
