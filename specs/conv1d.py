"""1-D convolution over time (Waibel et al. 1989, IEEE Trans. ASSP 37).

The stride is S, the zero padding P, the dilation D.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Param, Spec

conv1d = Spec(
    "conv1d",
    x=Input("N C L", outside=0),
    w=Param("K C R"),
    b=Param("K", init="zeros"),
    S=Constant(1, 2),
    P=Constant(0, 1, 2),
    D=Constant(1, 2),
    y=Output("N K (L+2*P-D*(R-1)-1)//S+1"),
    where=["L+2*P >= D*(R-1)+1"],
    definition="""
        y[n,k,p] = sum[c,r](x[n,c,S*p+D*r-P]*w[k,c,r]) + b[k]
    """,
)


@conv1d.register
def numpy_conv1d(x, w, b, *, S, P, D):
    L, R = x.shape[2], w.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (P, P)))
    windows = sliding_window_view(padded, D * (R - 1) + 1, axis=2)[:, :, ::S, ::D]  # N C p R
    y = np.tensordot(w, windows, axes=((1, 2), (1, 3))).swapaxes(0, 1) + b[:, None]

    def pullback(dy):
        dwindows = np.tensordot(w, dy, axes=(0, 1))  # C R N p
        dpadded = np.zeros_like(padded)
        for r in range(R):
            dpadded[:, :, D * r : D * r + S * dy.shape[2] : S] += dwindows[:, r].swapaxes(0, 1)
        return {
            "x": dpadded[:, :, P : P + L],
            "w": np.tensordot(dy, windows, axes=((0, 2), (0, 2))),
            "b": dy.sum(axis=(0, 2)),
        }

    return y, pullback
