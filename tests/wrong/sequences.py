"""Wrong embeddings, attentions and LSTM cells; named as in the other files of this folder."""

import math

import numpy as np

from gradverify import catalog

embedding, attention, causal_attention, lstm_cell = map(
    catalog, ("embedding", "attention", "causal_attention", "lstm_cell")
)


@embedding.register
def dw_of_embedding_without_repeated_ids(ids, w):
    def pullback(dy):
        dw = np.zeros_like(w)
        dw[ids] += dy
        return {"w": dw}

    return w[ids], pullback


@embedding.register
def dw_of_embedding_without_id_0(ids, w):
    """Id 0 is taken for padding."""

    def pullback(dy):
        dw = np.zeros_like(w)
        np.add.at(dw, ids, dy)
        dw[0] = 0
        return {"w": dw}

    return w[ids], pullback


@embedding.register
def dw_of_embedding_averaged_by_count(ids, w):
    def pullback(dy):
        dw = np.zeros_like(w)
        np.add.at(dw, ids, dy)
        count = np.bincount(ids, minlength=len(w)).clip(1)
        return {"w": (dw / count[:, None]).astype(w.dtype)}

    return w[ids], pullback


def attend(q, k, v, visible=None):
    scale = 1 / math.sqrt(q.shape[2])
    z = scale * (q @ k.swapaxes(1, 2))
    if visible is not None:
        z = np.where(visible, z, -np.inf)
    u = np.exp(z - z.max(axis=2, keepdims=True))
    p = u / u.sum(axis=2, keepdims=True)

    def pullback(dy, scale=scale, cross=1):
        dp = dy @ v.swapaxes(1, 2)
        dz = p * (dp - cross * (dp * p).sum(axis=2, keepdims=True)) * scale
        return {"q": dz @ k, "k": dz.swapaxes(1, 2) @ q, "v": p.swapaxes(1, 2) @ dy}

    return p @ v, pullback


@attention.register
def dq_of_attention_not_scaled(q, k, v):
    y, pullback = attend(q, k, v)
    return y, lambda dy: pullback(dy) | {"q": pullback(dy, scale=1)["q"]}


@attention.register
def dk_of_attention_without_the_softmaxs_cross_terms(q, k, v):
    y, pullback = attend(q, k, v)
    return y, lambda dy: pullback(dy) | {"k": pullback(dy, cross=0)["k"]}


@attention.register
def dv_of_attention_of_the_first_batch(q, k, v):
    y, pullback = attend(q, k, v)
    return y, lambda dy: pullback(dy) | {"v": np.repeat(pullback(dy)["v"][:1], len(v), axis=0)}


@attention.register
def dq_of_attention_where_queries_are_as_many_as_keys(q, k, v):
    y, pullback = attend(q, k, v)

    def wrong(dy):
        grads = pullback(dy)
        if q.shape[1] > k.shape[1]:
            grads["q"][:, k.shape[1] :] = 0
        return grads

    return y, wrong


@causal_attention.register
def y_of_causal_attention_sees_one_step_ahead(q, k, v):
    """Consistent: the backward fits the forward, and both look into the future."""
    return attend(q, k, v, np.tri(q.shape[1], k=1, dtype=bool))


@causal_attention.register
def dk_of_causal_attention_without_the_last_step(q, k, v):
    y, pullback = attend(q, k, v, np.tri(q.shape[1], dtype=bool))

    def wrong(dy):
        grads = pullback(dy)
        grads["k"][:, -1] = 0
        return grads

    return y, wrong


def sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def cell(x, h, c, wx, wh, b):
    i, f, g, o = np.split(x @ wx.T + h @ wh.T + b, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c_next = f * c + i * g
    tanh_c = np.tanh(c_next)

    def pullback(dh_next, dc_next, order=(0, 1, 2, 3)):
        dc = dc_next + dh_next * o * (1 - tanh_c**2)
        gates = [
            dc * g * i * (1 - i),
            dc * c * f * (1 - f),
            dc * i * (1 - g**2),
            dh_next * tanh_c * o * (1 - o),
        ]
        dz = np.concatenate([gates[k] for k in order], axis=1)
        return {
            "x": dz @ wx, "h": dz @ wh, "c": dc * f,
            "wx": dz.T @ x, "wh": dz.T @ h, "b": dz.sum(axis=0),
        }  # fmt: skip

    return (o * tanh_c, c_next), pullback


@lstm_cell.register
def dc_of_lstm_without_the_cells_own_cotangent(x, h, c, wx, wh, b):
    """Right in the last step of a sequence, where nothing comes back through the cell."""
    y, pullback = cell(x, h, c, wx, wh, b)
    return y, lambda dh, dc: pullback(dh, dc) | {"c": pullback(dh, 0 * dc)["c"]}


@lstm_cell.register
def db_of_lstm_with_two_gates_swapped(x, h, c, wx, wh, b):
    y, pullback = cell(x, h, c, wx, wh, b)
    return y, lambda *dy: pullback(*dy) | {"b": pullback(*dy, order=(1, 0, 2, 3))["b"]}


@lstm_cell.register
def dwh_of_lstm_with_the_new_h(x, h, c, wx, wh, b):
    y, pullback = cell(x, h, c, wx, wh, b)

    def wrong(dh, dc):
        grads = pullback(dh, dc)
        _, other = cell(x, y[0], c, wx, wh, b)
        return grads | {"wh": other(dh, dc)["wh"]}

    return y, wrong


@lstm_cell.register
def dh_of_lstm_transposed(x, h, c, wx, wh, b):
    """The first H columns of wh where their transpose belongs."""
    y, pullback = cell(x, h, c, wx, wh, b)
    H = h.shape[1]
    turned = np.concatenate([wh[k * H : (k + 1) * H].T for k in range(4)])
    return y, lambda *dy: pullback(*dy) | {"h": cell(x, h, c, wx, turned, b)[1](*dy)["h"]}


@lstm_cell.register
def h_next_of_lstm_without_the_tanh(x, h, c, wx, wh, b):
    (h_next, c_next), pullback = cell(x, h, c, wx, wh, b)
    return (h_next / np.tanh(c_next) * c_next, c_next), pullback
