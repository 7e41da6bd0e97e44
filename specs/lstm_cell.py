"""One step of an LSTM (Hochreiter & Schmidhuber 1997) with forget gates (Gers et al. 2000)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

lstm_cell = Spec(
    "lstm_cell",
    x=Input("N D"),
    h=Input("N H"),
    c=Input("N H"),
    wx=Param("4*H D"),
    wh=Param("4*H H"),
    b=Param("4*H", init="zeros"),
    h_next=Output("N H"),
    c_next=Output("N H"),
    ranges={"u": "H"},
    definition="""
        z[n,j]      = sum[d](x[n,d]*wx[j,d]) + sum[m](h[n,m]*wh[j,m]) + b[j]
        i[n,u]      = sigmoid(z[n,u])
        f[n,u]      = sigmoid(z[n,u+H])
        g[n,u]      = tanh(z[n,u+2*H])
        o[n,u]      = sigmoid(z[n,u+3*H])
        c_next[n,u] = f[n,u]*c[n,u] + i[n,u]*g[n,u]
        h_next[n,u] = o[n,u]*tanh(c_next[n,u])
    """,
)


@lstm_cell.register
def numpy_lstm_cell(x, h, c, wx, wh, b):
    i, f, g, o = np.split(x @ wx.T + h @ wh.T + b, 4, axis=1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c_next = f * c + i * g
    tanh_c = np.tanh(c_next)
    h_next = o * tanh_c

    def pullback(dh_next, dc_next):
        dc_sum = dc_next + dh_next * o * (1 - tanh_c**2)
        dz = np.concatenate(
            [
                dc_sum * g * i * (1 - i),
                dc_sum * c * f * (1 - f),
                dc_sum * i * (1 - g**2),
                dh_next * tanh_c * o * (1 - o),
            ],
            axis=1,
        )
        return {
            "x": dz @ wx,
            "h": dz @ wh,
            "c": dc_sum * f,
            "wx": dz.T @ x,
            "wh": dz.T @ h,
            "b": dz.sum(axis=0),
        }

    return (h_next, c_next), pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
