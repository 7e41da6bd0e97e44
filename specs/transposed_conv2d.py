"""Transposed 2-D convolution (Dumoulin & Visin 2016, arXiv:1603.07285, section 4).

Each pixel stamps its filter into the output, S apart; P is cut off at each edge.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Param, Spec

transposed_conv2d = Spec(
    "transposed_conv2d",
    x=Input("N C H W"),
    w=Param("C K R T"),
    b=Param("K", init="zeros"),
    S=Constant(1, 2, 3),
    P=Constant(0, 1),
    y=Output("N K S*(H-1)+R-2*P S*(W-1)+T-2*P"),
    definition="""
        full[n,k,S*p+r,S*q+t] += sum[c](x[n,c,p,q]*w[c,k,r,t])
        y[n,k,i,j]             = full[n,k,i+P,j+P] + b[k]
    """,
)


@transposed_conv2d.register
def numpy_transposed_conv2d(x, w, b, *, S, P):
    N, _, H, W = x.shape
    K, R, T = w.shape[1:]
    full = np.zeros((N, K, S * (H - 1) + R, S * (W - 1) + T), x.dtype)
    stamps = np.tensordot(w, x, axes=(0, 1))  # K R T N H W
    for r, t in np.ndindex(R, T):
        full[:, :, r : r + S * H : S, t : t + S * W : S] += stamps[:, r, t].swapaxes(0, 1)
    inner = np.s_[:, :, P : full.shape[2] - P, P : full.shape[3] - P]
    y = full[inner] + b[:, None, None]

    def pullback(dy):
        dfull = np.zeros_like(full)
        dfull[inner] = dy
        windows = sliding_window_view(dfull, (R, T), axis=(2, 3))[:, :, ::S, ::S]  # N K H W R T
        return {
            "x": np.tensordot(w, windows, axes=((1, 2, 3), (1, 4, 5))).swapaxes(0, 1),
            "w": np.tensordot(x, windows, axes=((0, 2, 3), (0, 2, 3))),
            "b": dy.sum(axis=(0, 2, 3)),
        }

    return y, pullback
