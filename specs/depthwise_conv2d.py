"""2-D convolution of each channel with its own filter (Howard et al. 2017, arXiv:1704.04861).

The stride is S, the zero padding P.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Param, Spec

depthwise_conv2d = Spec(
    "depthwise_conv2d",
    x=Input("N C H W", outside=0),
    w=Param("C R T"),
    b=Param("C", init="zeros"),
    S=Constant(1, 2),
    P=Constant(0, 1),
    y=Output("N C (H+2*P-R)//S+1 (W+2*P-T)//S+1"),
    where=["H+2*P >= R", "W+2*P >= T"],
    definition="""
        y[n,c,p,q] = sum[r,t](x[n,c,S*p+r-P,S*q+t-P]*w[c,r,t]) + b[c]
    """,
)


@depthwise_conv2d.register
def numpy_depthwise_conv2d(x, w, b, *, S, P):
    H, W = x.shape[2:]
    R, T = w.shape[1:]
    padded = np.pad(x, ((0, 0), (0, 0), (P, P), (P, P)))
    windows = sliding_window_view(padded, (R, T), axis=(2, 3))[:, :, ::S, ::S]  # N C p q R T
    y = np.einsum("ncpqrt,crt->ncpq", windows, w) + b[:, None, None]

    def pullback(dy):
        down, right = S * dy.shape[2], S * dy.shape[3]
        dpadded = np.zeros_like(padded)
        for r, t in np.ndindex(R, T):
            weight = w[:, r, t, None, None]
            dpadded[:, :, r : r + down : S, t : t + right : S] += weight * dy
        return {
            "x": dpadded[:, :, P : P + H, P : P + W],
            "w": np.einsum("ncpq,ncpqrt->crt", dy, windows),
            "b": dy.sum(axis=(0, 2, 3)),
        }

    return y, pullback
