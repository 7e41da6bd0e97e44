"""One step of a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8).

The gates are r, z and the candidate, in this order, with two biases, and r scales the product
with wh and bh: cuDNN's convention.
"""

import numpy as np

from gradverify import Input, Output, Param, Spec

gru_cell = Spec(
    "gru_cell",
    x=Input("N D"),
    h=Input("N H"),
    wx=Param("3*H D"),
    wh=Param("3*H H"),
    bx=Param("3*H", init="zeros"),
    bh=Param("3*H", init="zeros"),
    h_next=Output("N H"),
    ranges={"u": "H"},
    definition="""
        a[n,j]      = sum[d](x[n,d]*wx[j,d]) + bx[j]
        s[n,j]      = sum[m](h[n,m]*wh[j,m]) + bh[j]
        r[n,u]      = sigmoid(a[n,u] + s[n,u])
        z[n,u]      = sigmoid(a[n,u+H] + s[n,u+H])
        g[n,u]      = tanh(a[n,u+2*H] + r[n,u]*s[n,u+2*H])
        h_next[n,u] = (1 - z[n,u])*g[n,u] + z[n,u]*h[n,u]
    """,
)


@gru_cell.register
def numpy_gru_cell(x, h, wx, wh, bx, bh):
    ar, az, ag = np.split(x @ wx.T + bx, 3, axis=1)
    sr, sz, sg = np.split(h @ wh.T + bh, 3, axis=1)
    r, z = _sigmoid(ar + sr), _sigmoid(az + sz)
    g = np.tanh(ag + r * sg)
    h_next = (1 - z) * g + z * h

    def pullback(dh_next):
        dg = dh_next * (1 - z) * (1 - g**2)
        dz = dh_next * (h - g) * z * (1 - z)
        dr = dg * sg * r * (1 - r)
        da = np.concatenate([dr, dz, dg], axis=1)
        ds = np.concatenate([dr, dz, dg * r], axis=1)
        return {
            "x": da @ wx,
            "h": ds @ wh + dh_next * z,
            "wx": da.T @ x,
            "wh": ds.T @ h,
            "bx": da.sum(axis=0),
            "bh": ds.sum(axis=0),
        }

    return h_next, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
