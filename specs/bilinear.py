"""A bilinear form of two vectors, y = x' w z + b (Tenenbaum & Freeman 2000, Neural Comp. 12)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

bilinear = Spec(
    "bilinear",
    x=Input("N D"),
    z=Input("N E"),
    w=Param("K D E"),
    b=Param("K", init="zeros"),
    y=Output("N K"),
    definition="""
        y[n,k] = sum[d,e](x[n,d]*w[k,d,e]*z[n,e]) + b[k]
    """,
)


@bilinear.register
def numpy_bilinear(x, z, w, b):
    wz = np.tensordot(z, w, axes=(1, 2))  # N K D
    y = (wz @ x[:, :, None])[:, :, 0] + b

    def pullback(dy):
        N, D = x.shape
        outer = (x[:, :, None] * z[:, None, :]).reshape(N, D * z.shape[1])
        xw = np.tensordot(x, w, axes=(1, 1))  # N K E
        return {
            "x": (dy[:, None, :] @ wz)[:, 0],
            "z": (dy[:, None, :] @ xw)[:, 0],
            "w": (dy.T @ outer).reshape(dy.shape[1], D, z.shape[1]),
            "b": dy.sum(axis=0),
        }

    return y, pullback
