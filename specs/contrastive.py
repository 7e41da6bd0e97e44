"""The mean contrastive loss of pairs (Hadsell, Chopra & LeCun 2006, CVPR, eq. 4).

A pair of t = 0 is alike and drawn together; one of t = 1 is pushed apart up to the margin.
"""

import numpy as np

from gradverify import Constant, Input, Output, Spec

contrastive = Spec(
    "contrastive",
    a=Input("N D"),
    b=Input("N D"),
    t=Input("N", dtype=int, range="0..1"),
    margin=Constant(1.0, 3.0),
    loss=Output(""),
    definition="""
        square[n] = sum[d]((a[n,d] - b[n,d])**2)
        short[n]  = max(margin - sqrt(square[n]), 0)
        loss      = mean[n](where(t[n] == 0, square[n], short[n]**2)) / 2
    """,
)


@contrastive.register
def numpy_contrastive(a, b, t, *, margin):
    apart = a - b
    square = (apart * apart).sum(axis=1)
    distance = np.sqrt(square)
    short = np.maximum(margin - distance, 0)
    loss = np.where(t == 0, square, short * short).mean() / 2

    def pullback(dloss):
        # A pair at distance 0 is pushed nowhere, for want of a direction.
        push = short / np.where(distance > 0, distance, 1)
        da = dloss / len(a) * np.where(t == 0, 1, -push)[:, None] * apart
        return {"a": da, "b": -da}

    return loss, pullback
