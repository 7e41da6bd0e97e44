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
    ranges={"u": "H"},
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
    T, H = len(x), h0.shape[1]
    a = x @ wx.T + bx
    r, z, g, sg, before, h = (np.empty_like(a[:, :, :H]) for _ in range(6))
    state = h0
    for t in range(T):
        before[t] = state
        s = state @ wh.T + bh
        gates = _sigmoid(a[t, :, : 2 * H] + s[:, : 2 * H])
        r[t], z[t], sg[t] = gates[:, :H], gates[:, H:], s[:, 2 * H :]
        g[t] = np.tanh(a[t, :, 2 * H :] + r[t] * sg[t])
        state = h[t] = (1 - z[t]) * g[t] + z[t] * state

    def pullback(dh):
        da, ds = np.empty_like(a), np.empty_like(a)
        dh_to_dz = (before - g) * z * (1 - z)
        dh_to_dg = (1 - z) * (1 - g**2)
        dg_to_dr = sg * r * (1 - r)
        dstate = np.zeros_like(h0)  # what comes back from the next step
        for t in reversed(range(T)):
            dt = dh[t] + dstate
            dg = dt * dh_to_dg[t]
            gates = np.concatenate([dg * dg_to_dr[t], dt * dh_to_dz[t]], axis=1)
            da[t] = np.concatenate([gates, dg], axis=1)
            ds[t] = np.concatenate([gates, dg * r[t]], axis=1)
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
