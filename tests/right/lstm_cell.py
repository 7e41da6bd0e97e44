"""Right ways of writing one step of an LSTM; naive_* overflows where a gate is far below zero."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

lstm_cell = catalog("lstm_cell")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@lstm_cell.register
def gates_separately(x, h, c, wx, wh, b):
    H = h.shape[1]
    gates = [np.s_[k * H : (k + 1) * H] for k in range(4)]
    zi, zf, zg, zo = (x @ wx[s].T + h @ wh[s].T + b[s] for s in gates)
    i, f, g, o = _sigmoid(zi), _sigmoid(zf), np.tanh(zg), _sigmoid(zo)
    c_next = f * c + i * g
    h_next = o * np.tanh(c_next)

    def pullback(dh_next, dc_next):
        tanh_c = np.tanh(c_next)
        do = dh_next * tanh_c
        dc = dc_next + dh_next * o * (1 - tanh_c * tanh_c)
        df, di, dg = dc * c, dc * g, dc * i
        dz = di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)
        grads = {"x": np.zeros_like(x), "h": np.zeros_like(h), "c": dc * f}
        for dgate, s in zip(dz, gates, strict=True):
            grads["x"] += dgate @ wx[s]
            grads["h"] += dgate @ wh[s]
        grads["wx"] = np.concatenate([dgate.T @ x for dgate in dz])
        grads["wh"] = np.concatenate([dgate.T @ h for dgate in dz])
        grads["b"] = np.concatenate([dgate.sum(axis=0) for dgate in dz])
        return grads

    return (h_next, c_next), pullback


@lstm_cell.register
def gates_stacked_on_an_axis(x, h, c, wx, wh, b):
    N, H = h.shape
    z = (x @ wx.T + h @ wh.T + b).reshape(N, 4, H)
    s = _sigmoid(z)
    i, f, g, o = s[:, 0], s[:, 1], np.tanh(z[:, 2]), s[:, 3]
    c_next = f * c + i * g
    tanh_c = np.tanh(c_next)

    def pullback(dh_next, dc_next):
        dc = dc_next + o * (1 - tanh_c**2) * dh_next
        slopes = s * (1 - s)
        slopes[:, 2] = 1 - g**2
        dz = np.stack([dc * g, dc * c, dc * i, dh_next * tanh_c], axis=1) * slopes
        dz = dz.reshape(N, 4 * H)
        return dz @ wx, dz @ wh, f * dc, dz.T @ x, dz.T @ h, dz.sum(axis=0)

    return (o * tanh_c, c_next), pullback


@lstm_cell.register
def one_matrix_with_bias_column(x, h, c, wx, wh, b):
    D, H = x.shape[1], h.shape[1]
    inputs = np.concatenate([x, h, np.ones_like(h[:, :1])], axis=1)
    weights = np.concatenate([wx, wh, b[:, None]], axis=1)
    z = inputs @ weights.T
    i, f, o = (_sigmoid(z[:, k * H : (k + 1) * H]) for k in (0, 1, 3))
    g = np.tanh(z[:, 2 * H : 3 * H])
    c_next = i * g + f * c
    tanh_c = np.tanh(c_next)

    def pullback(dh_next, dc_next):
        dc = dh_next * o * (1 - tanh_c) * (1 + tanh_c) + dc_next
        dz = np.empty_like(z)
        dz[:, :H] = dc * g * (i - i * i)
        dz[:, H : 2 * H] = dc * c * (f - f * f)
        dz[:, 2 * H : 3 * H] = dc * i * (1 - g) * (1 + g)
        dz[:, 3 * H :] = dh_next * tanh_c * (o - o * o)
        dinputs, dweights = dz @ weights, dz.T @ inputs
        return {
            "x": dinputs[:, :D].copy(),
            "h": dinputs[:, D : D + H].copy(),
            "c": dc * f,
            "wx": dweights[:, :D].copy(),
            "wh": dweights[:, D : D + H].copy(),
            "b": dweights[:, D + H].copy(),
        }

    return (o * tanh_c, c_next), pullback


@lstm_cell.register
def sigmoid_by_tanh(x, h, c, wx, wh, b):
    z = x @ wx.T + h @ wh.T + b
    half = np.full(b.shape, 0.5, b.dtype)
    half[2 * h.shape[1] : 3 * h.shape[1]] = 1
    t = np.tanh(half * z)
    i, f, o = (0.5 + 0.5 * np.split(t, 4, axis=1)[k] for k in (0, 1, 3))
    g = np.split(t, 4, axis=1)[2]
    c_next = f * c + i * g
    tanh_c = np.tanh(c_next)

    def pullback(dh_next, dc_next):
        dc = dc_next + dh_next * o * (1 - tanh_c**2)
        dgates = np.concatenate([dc * g, dc * c, dc * i, dh_next * tanh_c], axis=1)
        dz = dgates * (half * half * (1 - t * t))
        return dz @ wx, dz @ wh, dc * f, dz.T @ x, dz.T @ h, dz.sum(axis=0)

    return (o * tanh_c, c_next), pullback


@lstm_cell.register
def einsum(x, h, c, wx, wh, b):
    H = h.shape[1]
    wx4, wh4 = wx.reshape(4, H, -1), wh.reshape(4, H, H)
    z = np.einsum("nd,kud->knu", x, wx4) + np.einsum("nm,kum->knu", h, wh4)
    i, f, g, o = z + b.reshape(4, 1, H)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c_next = f * c + i * g

    def pullback(dh_next, dc_next):
        t = np.tanh(c_next)
        dc = dc_next + np.einsum("nu,nu,nu->nu", dh_next, o, 1 - t * t)
        dz = np.stack([
            np.einsum("nu,nu,nu,nu->nu", dc, g, i, 1 - i),
            np.einsum("nu,nu,nu,nu->nu", dc, c, f, 1 - f),
            np.einsum("nu,nu,nu->nu", dc, i, 1 - g * g),
            np.einsum("nu,nu,nu,nu->nu", dh_next, t, o, 1 - o),
        ])  # fmt: skip
        return {
            "x": np.einsum("knu,kud->nd", dz, wx4),
            "h": np.einsum("knu,kum->nm", dz, wh4),
            "c": dc * f,
            "wx": np.einsum("knu,nd->kud", dz, x).reshape(wx.shape),
            "wh": np.einsum("knu,nm->kum", dz, h).reshape(wh.shape),
            "b": np.einsum("knu->ku", dz).reshape(b.shape),
        }

    return (o * np.tanh(c_next), c_next), pullback


@lstm_cell.register
def loop_over_samples_recomputed(x, h, c, wx, wh, b):
    def step(n):
        i, f, g, o = np.split(wx @ x[n] + wh @ h[n] + b, 4)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        return i, f, g, o, f * c[n] + i * g

    h_next, c_next = np.empty_like(h), np.empty_like(c)
    for n in range(len(x)):
        _, _, _, o, c_next[n] = step(n)
        h_next[n] = o * np.tanh(c_next[n])

    def pullback(dh_next, dc_next):
        dx, dh, dc, dwx, dwh, db = (np.zeros_like(v) for v in (x, h, c, wx, wh, b))
        for n in reversed(range(len(x))):
            i, f, g, o, cell = step(n)
            t = np.tanh(cell)
            dcell = dc_next[n] + dh_next[n] * o * (1 - t**2)
            dgates = np.concatenate([dcell * g, dcell * c[n], dcell * i, dh_next[n] * t])
            dz = dgates * np.concatenate([i * (1 - i), f * (1 - f), 1 - g**2, o * (1 - o)])
            dx[n], dh[n], dc[n] = wx.T @ dz, wh.T @ dz, dcell * f
            dwx += np.outer(dz, x[n])
            dwh += np.outer(dz, h[n])
            db += dz
        return dx, dh, dc, dwx, dwh, db

    return (h_next, c_next), pullback


@lstm_cell.register
def scalar_loops(x, h, c, wx, wh, b):
    (N, H), (X, Hs) = h.shape, (x.tolist(), h.tolist())
    rows = list(zip(wx.tolist(), wh.tolist(), b.tolist(), strict=True))

    def dot(u, v):
        return math.fsum(p * q for p, q in zip(u, v, strict=True))

    def sigmoid(z):
        e = math.exp(-abs(z))
        return (1 if z >= 0 else e) / (1 + e)

    h_next, c_next, saved = np.empty_like(h), np.empty_like(c), {}
    for n, u in np.ndindex(N, H):
        z = [dot(X[n], a) + dot(Hs[n], r) + s for a, r, s in rows[u::H]]
        i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), math.tanh(z[2]), sigmoid(z[3])
        cell = f * float(c[n, u]) + i * g
        c_next[n, u], h_next[n, u] = cell, o * math.tanh(cell)
        saved[n, u] = i, f, g, o, math.tanh(cell)

    def pullback(dh_next, dc_next):
        dz, dc = np.empty((N, 4, H)), np.empty_like(c)
        for (n, u), (i, f, g, o, t) in saved.items():
            dh = float(dh_next[n, u])
            dcell = float(dc_next[n, u]) + dh * o * (1 - t * t)
            dc[n, u] = dcell * f
            dz[n, :, u] = (
                dcell * g * i * (1 - i),
                dcell * float(c[n, u]) * f * (1 - f),
                dcell * i * (1 - g * g),
                dh * t * o * (1 - o),
            )
        dz = dz.reshape(N, 4 * H)
        grads = dz @ wx, dz @ wh, dc, dz.T @ x, dz.T @ h, dz.sum(axis=0)
        return tuple(g.astype(x.dtype) for g in grads)

    return (h_next, c_next), pullback


@lstm_cell.register
def naive_sigmoid(x, h, c, wx, wh, b):
    i, f, g, o = np.hsplit(x @ wx.T + h @ wh.T + b, 4)
    i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
    g = np.tanh(g)
    c_next = f * c + i * g
    tanh_c = np.tanh(c_next)

    def pullback(dh_next, dc_next):
        dc = dc_next + dh_next * o * (1 - tanh_c**2)
        dz = np.hstack([
            dc * g * i * (1 - i),
            dc * c * f * (1 - f),
            dc * i * (1 - g**2),
            dh_next * tanh_c * o * (1 - o),
        ])  # fmt: skip
        return dz @ wx, dz @ wh, dc * f, dz.T @ x, dz.T @ h, dz.sum(axis=0)

    return (o * tanh_c, c_next), pullback


class LSTMCell:
    """A callable object that computes in float64, with both signs of each gate's sigmoid."""

    def __call__(self, x, h, c, wx, wh, b):
        dtype = x.dtype
        x, h, c, wx, wh, b = (v.astype(np.float64) for v in (x, h, c, wx, wh, b))
        zi, zf, zg, zo = np.split(x @ wx.T + h @ wh.T + b, 4, axis=1)
        i, f, g, o = _sigmoid(zi), _sigmoid(zf), np.tanh(zg), _sigmoid(zo)
        closed = _sigmoid(-zi), _sigmoid(-zf), _sigmoid(-zo)
        c_next = f * c + i * g
        outputs = (o * np.tanh(c_next)).astype(dtype), c_next.astype(dtype)
        return outputs, partial(self.backward, dtype, (x, h, c, wx, wh), (i, f, g, o), closed)

    @staticmethod
    def backward(dtype, inputs, gates, closed, dh_next, dc_next):
        (x, h, c, wx, wh), (i, f, g, o) = inputs, gates
        t = np.tanh(f * c + i * g)
        dc = dc_next + dh_next * (o * (1 - t * t))
        slopes = i * closed[0], f * closed[1], 1 - g * g, o * closed[2]
        dgates = dc * g, dc * c, dc * i, dh_next * t
        dz = np.concatenate([d * s for d, s in zip(dgates, slopes, strict=True)], axis=1)
        grads = dz @ wx, dz @ wh, dc * f, dz.T @ x, dz.T @ h, dz.sum(axis=0)
        return [v.astype(dtype) for v in grads]


lstm_cell.register(name="object_in_float64")(LSTMCell())
