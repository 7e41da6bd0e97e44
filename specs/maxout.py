"""Maxout, the largest of M affine pieces (Goodfellow et al. 2013, arXiv:1302.4389, section 3)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

maxout = Spec(
    "maxout",
    x=Input("N D"),
    w=Param("K M D"),
    b=Param("K M", init="zeros"),
    y=Output("N K"),
    definition="""
        z[n,k,m] = sum[d](x[n,d]*w[k,m,d]) + b[k,m]
        y[n,k]   = max[m](z[n,k,m])
    """,
)


@maxout.register
def numpy_maxout(x, w, b):
    z = np.tensordot(x, w, axes=(1, 2)) + b  # N K M
    winner = z.argmax(axis=2, keepdims=True)
    y = np.take_along_axis(z, winner, axis=2)[:, :, 0]

    def pullback(dy):
        dz = np.zeros_like(z)
        np.put_along_axis(dz, winner, dy[:, :, None], axis=2)
        return {
            "x": np.tensordot(dz, w, axes=2),
            "w": np.tensordot(dz, x, axes=(0, 0)),
            "b": dz.sum(axis=0),
        }

    return y, pullback
