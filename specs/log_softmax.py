"""The logarithm of softmax over the last axis (Blanchard et al. 2021, arXiv:1909.03469)."""

import numpy as np

from gradverify import Input, Output, Spec

log_softmax = Spec(
    "log_softmax",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        m[n]   = stop_gradient(max[c](x[n,c]))
        z[n,c] = x[n,c] - m[n]
        y[n,c] = z[n,c] - log(sum[j](exp(z[n,j])))
    """,
)


@log_softmax.register
def numpy_log_softmax(x):
    z = x - x.max(axis=1, keepdims=True)
    y = z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def pullback(dy):
        return {"x": dy - np.exp(y) * dy.sum(axis=1, keepdims=True)}

    return y, pullback
