"""The mean multi-class hinge loss (Weston & Watkins 1999, ESANN), over the number of classes."""

import numpy as np

from gradverify import Constant, Input, Output, Spec

hinge = Spec(
    "hinge",
    x=Input("N C"),
    t=Input("N", dtype=int, range="0..C-1"),
    margin=Constant(1.0, 0.3),
    loss=Output(""),
    definition="""
        l[n,c] = where(c == t[n], 0, max(margin - x[n,t[n]] + x[n,c], 0))
        loss   = mean[n](sum[c](l[n,c]) / C)
    """,
)


@hinge.register
def numpy_hinge(x, t, *, margin):
    rows = np.arange(len(x))
    excess = np.maximum(margin - x[rows, t][:, None] + x, 0)
    excess[rows, t] = 0
    loss = excess.mean()

    def pullback(dloss):
        dx = (excess > 0) * (dloss / excess.size)
        dx[rows, t] = -dx.sum(axis=1)
        return {"x": dx}

    return loss, pullback
