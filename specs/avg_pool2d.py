"""Average pooling over windows of K x K at stride S (Boureau, Ponce & LeCun 2010, ICML)."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Spec

avg_pool2d = Spec(
    "avg_pool2d",
    x=Input("N C H W"),
    K=Constant(1, 2, 3),
    S=Constant(1, 2),
    y=Output("N C (H-K)//S+1 (W-K)//S+1"),
    where=["H >= K", "W >= K"],
    ranges={"r": "K", "t": "K"},
    definition="""
        y[n,c,p,q] = mean[r,t](x[n,c,S*p+r,S*q+t])
    """,
)


@avg_pool2d.register
def numpy_avg_pool2d(x, *, K, S):
    y = sliding_window_view(x, (K, K), axis=(2, 3))[:, :, ::S, ::S].mean(axis=(4, 5))

    def pullback(dy):
        down, right = S * dy.shape[2], S * dy.shape[3]
        share = dy / (K * K)
        dx = np.zeros_like(x)
        for r, t in np.ndindex(K, K):
            dx[:, :, r : r + down : S, t : t + right : S] += share
        return {"x": dx}

    return y, pullback
