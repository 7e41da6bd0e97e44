"""Gated recurrent units over time (Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8).

The gates are r, z and the candidate, in this order, with two biases, and r scales the product
with wh and bh: cuDNN's convention.
"""

import numpy as np

from gradverify import Input, Output, Param, Spec

gru = Spec(
    "gru",
    x=Input("T N D"),
    h0=Input("N H"),
    wx=Param("3*H D"),
    wh=Param("3*H H"),
    bx=Param("3*H", init="zeros"),
    bh=Param("3*H", init="zeros"),
    h=Output("T N H"),
    ranges={"t": "T", "u": "H"},
    definition="""
        a[t,n,j]  = sum[d](x[t,n,d]*wx[j,d]) + bx[j]
        s[t,n,j]  = sum[m](h[t-1,n,m]*wh[j,m]) + bh[j]
        r[t,n,u]  = sigmoid(a[t,n,u] + s[t,n,u])
        z[t,n,u]  = sigmoid(a[t,n,u+H] + s[t,n,u+H])
        g[t,n,u]  = tanh(a[t,n,u+2*H] + r[t,n,u]*s[t,n,u+2*H])
        h[-1,n,u] = h0[n,u]
        h[t,n,u]  = (1 - z[t,n,u])*g[t,n,u] + z[t,n,u]*h[t-1,n,u]
    """,
)


@gru.register
def numpy_gru(x, h0, wx, wh, bx, bh):
    (T, N), H = x.shape[:2], h0.shape[1]
    a = x @ wx.T + bx
    sg, r, z, g, h = np.empty((5, T, N, H), x.dtype)
    before = np.empty_like(h)
    state = h0
    for t in range(T):
        before[t] = state
        ar, az, ag = np.split(a[t], 3, axis=1)
        sr, sz, sg[t] = np.split(state @ wh.T + bh, 3, axis=1)
        r[t], z[t] = _sigmoid(ar + sr), _sigmoid(az + sz)
        g[t] = np.tanh(ag + r[t] * sg[t])
        state = h[t] = (1 - z[t]) * g[t] + z[t] * state

    def pullback(dh):
        da, ds = np.empty((2, T, N, 3 * H), x.dtype)
        dstate = np.zeros_like(h0)  # what comes back from the next step
        for t in reversed(range(T)):
            dt = dh[t] + dstate
            dg = dt * (1 - z[t]) * (1 - g[t] ** 2)
            dz = dt * (before[t] - g[t]) * z[t] * (1 - z[t])
            dr = dg * sg[t] * r[t] * (1 - r[t])
            da[t] = np.concatenate([dr, dz, dg], axis=1)
            ds[t] = np.concatenate([dr, dz, dg * r[t]], axis=1)
            dstate = ds[t] @ wh + dt * z[t]
        return {
            "x": da @ wx,
            "h0": dstate,
            "wx": np.tensordot(da, x, axes=((0, 1), (0, 1))),
            "wh": np.tensordot(ds, before, axes=((0, 1), (0, 1))),
            "bx": da.sum(axis=(0, 1)),
            "bh": ds.sum(axis=(0, 1)),
        }

    return h, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
