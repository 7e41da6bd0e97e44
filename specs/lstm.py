"""An LSTM over time (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000)."""

import numpy as np

from gradverify import Input, Output, Part, Spec, catalog

lstm_cell = catalog("lstm_cell")

lstm = Spec(
    "lstm",
    x=Input("T N D"),
    h0=Input("N H"),
    c0=Input("N H"),
    cell=Part(lstm_cell),
    h=Output("T N H"),
    c=Output("T N H"),
    definition="""
        h[-1,n,k] = h0[n,k]
        c[-1,n,k] = c0[n,k]
        h[t], c[t] = cell(x[t], h[t-1], c[t-1])
    """,
)


@lstm.register
def numpy_lstm(x, h0, c0, cell_wx, cell_wh, cell_b):
    T, N, _ = x.shape
    H = h0.shape[1]
    h = np.empty((T + 1, N, H), x.dtype)  # one more than there are steps: h[t] goes into step t
    c = np.empty((T + 1, N, H), x.dtype)
    gates = np.empty((T, 4, N, H), x.dtype)
    h[0], c[0] = h0, c0
    for t in range(T):
        z = x[t] @ cell_wx.T + h[t] @ cell_wh.T + cell_b
        i, f, g, o = z.reshape(N, 4, H).swapaxes(0, 1)
        gates[t] = i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c[t + 1] = f * c[t] + i * g
        h[t + 1] = o * np.tanh(c[t + 1])

    def pullback(dh, dc):
        dz = np.empty((T, N, 4 * H), x.dtype)
        dh_next, dc_next = np.zeros_like(h0), np.zeros_like(c0)  # from the steps that follow
        for t in reversed(range(T)):
            i, f, g, o = gates[t]
            tanh_c = np.tanh(c[t + 1])
            dh_t = dh[t] + dh_next
            dc_t = dc[t] + dc_next + dh_t * o * (1 - tanh_c**2)
            di, df, do = (
                dc_t * g * i * (1 - i),
                dc_t * c[t] * f * (1 - f),
                dh_t * tanh_c * o * (1 - o),
            )
            dz[t] = np.concatenate([di, df, dc_t * i * (1 - g**2), do], axis=1)
            dh_next, dc_next = dz[t] @ cell_wh, dc_t * f
        return {
            "x": dz @ cell_wx,
            "h0": dh_next,
            "c0": dc_next,
            "cell_wx": np.einsum("tnk,tnd->kd", dz, x),
            "cell_wh": np.einsum("tnk,tnm->km", dz, h[:-1]),
            "cell_b": dz.sum(axis=(0, 1)),
        }

    return (h[1:].copy(), c[1:].copy()), pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
