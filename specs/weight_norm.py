"""A linear layer with weights g*v/||v|| (Salimans & Kingma 2016, arXiv:1602.07868, eq. 2)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

weight_norm = Spec(
    "weight_norm",
    x=Input("N D"),
    v=Param("K D"),
    g=Param("K", init="ones"),
    b=Param("K", init="zeros"),
    y=Output("N K"),
    definition="""
        norm[k] = sqrt(sum[d](v[k,d]**2))
        w[k,d]  = g[k]*v[k,d] / norm[k]
        y[n,k]  = sum[d](x[n,d]*w[k,d]) + b[k]
    """,
)


@weight_norm.register
def numpy_weight_norm(x, v, g, b):
    norm = np.sqrt((v * v).sum(axis=1))
    vhat = v / norm[:, None]
    w = g[:, None] * vhat
    y = x @ w.T + b

    def pullback(dy):
        dw = dy.T @ x
        dg = (dw * vhat).sum(axis=1)
        # What points along v changes the length of v only, and w does not feel it.
        dv = (g / norm)[:, None] * (dw - dg[:, None] * vhat)
        return {"x": dy @ w, "v": dv, "g": dg, "b": dy.sum(axis=0)}

    return y, pullback
