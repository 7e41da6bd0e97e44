"""Each vector of a batch at length 1 (Liu, Rabinovich & Berg 2015, arXiv:1506.04579, sec. 3.3).

A vector shorter than eps is divided by eps instead of its length.
"""

import numpy as np

from gradverify import Constant, Input, Output, Spec

l2_normalize = Spec(
    "l2_normalize",
    x=Input("N D"),
    eps=Constant(1e-12, 0.5),
    y=Output("N D"),
    definition="""
        norm[n] = max(sqrt(sum[d](x[n,d]**2)), eps)
        y[n,d]  = x[n,d] / norm[n]
    """,
)


@l2_normalize.register
def numpy_l2_normalize(x, *, eps):
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    norm = np.maximum(length, eps)
    y = x / norm

    def pullback(dy):
        along = np.where(length > eps, (dy * y).sum(axis=1, keepdims=True), 0)
        return {"x": (dy - along * y) / norm}

    return y, pullback
