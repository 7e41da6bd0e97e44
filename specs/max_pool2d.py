"""Max pooling over windows of K x K at stride S (Boureau, Ponce & LeCun 2010, ICML)."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Spec

max_pool2d = Spec(
    "max_pool2d",
    x=Input("N C H W"),
    K=Constant(1, 2, 3),
    S=Constant(1, 2),
    y=Output("N C (H-K)//S+1 (W-K)//S+1"),
    where=["H >= K", "W >= K"],
    ranges={"r": "K", "t": "K"},
    definition="""
        y[n,c,p,q] = max[r,t](x[n,c,S*p+r,S*q+t])
    """,
)


@max_pool2d.register
def numpy_max_pool2d(x, *, K, S):
    windows = sliding_window_view(x, (K, K), axis=(2, 3))[:, :, ::S, ::S]
    windows = windows.reshape(*windows.shape[:4], K * K)
    winner = windows.argmax(axis=4)
    y = windows.max(axis=4)

    def pullback(dy):
        down, right = S * dy.shape[2], S * dy.shape[3]
        dx = np.zeros_like(x)
        for r, t in np.ndindex(K, K):
            dx[:, :, r : r + down : S, t : t + right : S] += dy * (winner == r * K + t)
        return {"x": dx}

    return y, pullback
