"""2-D convolution (LeCun et al. 1998, Proc. IEEE 86; dilation: Yu & Koltun, arXiv:1511.07122).

The stride is S, the zero padding P, the dilation D.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Param, Spec

conv2d = Spec(
    "conv2d",
    x=Input("N C H W", outside=0),
    w=Param("K C R T"),
    b=Param("K", init="zeros"),
    S=Constant(1, 2),
    P=Constant(0, 1, 2),
    D=Constant(1, 2),
    y=Output("N K (H+2*P-D*(R-1)-1)//S+1 (W+2*P-D*(T-1)-1)//S+1"),
    where=["H+2*P >= D*(R-1)+1", "W+2*P >= D*(T-1)+1"],
    definition="""
        y[n,k,p,q] = sum[c,r,t](x[n,c,S*p+D*r-P,S*q+D*t-P]*w[k,c,r,t]) + b[k]
    """,
)


@conv2d.register
def numpy_conv2d(x, w, b, *, S, P, D):
    H, W = x.shape[2:]
    R, T = w.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (P, P), (P, P)))
    windows = sliding_window_view(padded, (D * (R - 1) + 1, D * (T - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::S, ::S, ::D, ::D]  # N C p q R T
    y = np.tensordot(w, windows, axes=((1, 2, 3), (1, 4, 5))).swapaxes(0, 1) + b[:, None, None]

    def pullback(dy):
        down, right = S * dy.shape[2], S * dy.shape[3]
        dwindows = np.tensordot(w, dy, axes=(0, 1))  # C R T N p q
        dpadded = np.zeros_like(padded)
        for r, t in np.ndindex(R, T):
            corner = dpadded[:, :, D * r :, D * t :]
            corner[:, :, :down:S, :right:S] += dwindows[:, r, t].swapaxes(0, 1)
        return {
            "x": dpadded[:, :, P : P + H, P : P + W],
            "w": np.tensordot(dy, windows, axes=((0, 2, 3), (0, 2, 3))),
            "b": dy.sum(axis=(0, 2, 3)),
        }

    return y, pullback
