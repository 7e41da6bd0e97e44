"""Right ways of writing multi-head self-attention with its projections."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

multi_head_attention = catalog("multi_head_attention")


def _softmax(u):
    e = np.exp(u - u.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@multi_head_attention.register
def einsum(x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G):
    D, E = x.shape[2], len(query_b) // G
    wq, wk, wv = (w.reshape(G, E, D) for w in (query_w, key_w, value_w))
    bq, bk, bv = (b.reshape(G, 1, E) for b in (query_b, key_b, value_b))
    wo = out_w.reshape(D, G, E)
    q, k, v = (np.einsum("btd,ged->bgte", x, w) + b for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    p = _softmax(np.einsum("bgte,bgse->bgts", q, k) * E**-0.5)
    z = np.einsum("bgts,bgse->bgte", p, v)

    def pullback(dy):
        dz = np.einsum("btd,dge->bgte", dy, wo)
        dp = np.einsum("bgte,bgse->bgts", dz, v)
        du = p * (dp - np.einsum("bgts,bgts->bgt", p, dp)[..., None]) * E**-0.5
        dq = np.einsum("bgts,bgse->bgte", du, k)
        dk = np.einsum("bgts,bgte->bgse", du, q)
        dv = np.einsum("bgts,bgte->bgse", p, dz)
        grads = {"x": sum(np.einsum("bgte,ged->btd", d, w) for d, w in
                          ((dq, wq), (dk, wk), (dv, wv)))}  # fmt: skip
        for name, d in (("query", dq), ("key", dk), ("value", dv)):
            grads[f"{name}_w"] = np.einsum("bgte,btd->ged", d, x).reshape(G * E, D)
            grads[f"{name}_b"] = np.einsum("bgte->ge", d).reshape(G * E)
        grads["out_w"] = np.einsum("btd,bgte->dge", dy, z).reshape(D, G * E)
        grads["out_b"] = np.einsum("btd->d", dy)
        return grads

    return np.einsum("bgte,dge->btd", z, wo) + out_b, pullback


@multi_head_attention.register
def one_matrix_for_three(
    x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G
):  # fmt: skip
    B, T, D = x.shape
    K = len(query_b)
    weights = np.concatenate([query_w, key_w, value_w])
    qkv = x @ weights.T + np.concatenate([query_b, key_b, value_b])
    q, k, v = qkv.reshape(B, T, 3, G, K // G).transpose(2, 0, 3, 1, 4)
    scale = 1 / math.sqrt(K // G)
    p = _softmax(q @ k.swapaxes(-1, -2) * scale)
    z = (p @ v).transpose(0, 2, 1, 3).reshape(B * T, K)
    y = (z @ out_w.T + out_b).reshape(x.shape)

    def pullback(dy):
        flat = dy.reshape(B * T, D)
        dz = (flat @ out_w).reshape(B, T, G, K // G).transpose(0, 2, 1, 3)
        dp = dz @ v.swapaxes(-1, -2)
        du = (dp - (dp * p).sum(axis=-1, keepdims=True)) * p * scale
        dqkv = np.stack([du @ k, du.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dz])
        dqkv = dqkv.transpose(1, 3, 0, 2, 4).reshape(B * T, 3 * K)
        dweights = np.split(dqkv.T @ x.reshape(B * T, D), 3)
        dbiases = np.split(dqkv.sum(axis=0), 3)
        pairs = [g.copy() for pair in zip(dweights, dbiases, strict=True) for g in pair]
        return (dqkv @ weights).reshape(x.shape), *pairs, flat.T @ z, flat.sum(axis=0)

    return y, pullback


@multi_head_attention.register
def head_by_head(x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G):
    """The output is a sum over heads: each has its own slice of all weights."""
    E = len(query_b) // G
    heads = [slice(g * E, (g + 1) * E) for g in range(G)]
    y, kept = np.zeros_like(x) + out_b, []
    for s in heads:
        q, k, v = (x @ w[s].T + b[s] for w, b in
                   ((query_w, query_b), (key_w, key_b), (value_w, value_b)))  # fmt: skip
        p = _softmax(np.matmul(q, k.transpose(0, 2, 1)) / np.sqrt(x.dtype.type(E)))
        z = p @ v
        kept.append((s, q, k, v, p, z))
        y += z @ out_w[:, s].T

    def pullback(dy):
        given = x, query_w, query_b, key_w, key_b, value_w, value_b, out_w
        dx, dwq, dbq, dwk, dbk, dwv, dbv, dwo = grads = [np.zeros_like(a) for a in given]
        for s, q, k, v, p, z in kept:
            dz = dy @ out_w[:, s]
            dwo[:, s] = np.tensordot(dy, z, axes=((0, 1), (0, 1)))
            dp = dz @ v.transpose(0, 2, 1)
            du = p * dp
            du = (du - p * du.sum(axis=2, keepdims=True)) / np.sqrt(x.dtype.type(E))
            for d, w, dw, db in (
                (du @ k, query_w, dwq, dbq),
                (du.transpose(0, 2, 1) @ q, key_w, dwk, dbk),
                (p.transpose(0, 2, 1) @ dz, value_w, dwv, dbv),
            ):
                dw[s], db[s] = np.tensordot(d, x, axes=((0, 1), (0, 1))), d.sum(axis=(0, 1))
                dx += d @ w[s]
        return *grads, dy.sum(axis=0).sum(axis=0)

    return y, pullback


@multi_head_attention.register
def sequence_by_sequence(
    x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G
):  # fmt: skip
    """Probabilities are computed anew in the pullback, row by row through softmax's Jacobian."""
    E = len(query_b) // G
    parts = (query_w, query_b), (key_w, key_b), (value_w, value_b)

    def split(a):  # T G*E to G T E
        return a.reshape(len(a), G, E).transpose(1, 0, 2)

    def attend(sequence):
        q, k, v = (split(sequence @ w.T + b) for w, b in parts)
        p = _softmax(q @ k.transpose(0, 2, 1) / math.sqrt(E))
        return q, k, v, p, (p @ v).transpose(1, 0, 2).reshape(-1, G * E)

    y = np.stack([attend(sequence)[-1] @ out_w.T + out_b for sequence in x])

    def pullback(dy):
        dx, dws = np.empty_like(x), [np.zeros_like(w) for w, _ in parts]
        dbs = [np.zeros_like(b) for _, b in parts]
        dwo, dbo = np.zeros_like(out_w), np.zeros_like(out_b)
        for n, g in enumerate(dy):
            q, k, v, p, z = attend(x[n])
            dwo += g.T @ z
            dbo += g.sum(axis=0)
            dz = split(g @ out_w)
            dp, du = dz @ v.transpose(0, 2, 1), np.empty_like(p)
            for where in np.ndindex(p.shape[:2]):
                row = p[where]
                du[where] = (np.diag(row) - np.outer(row, row)) @ dp[where] / math.sqrt(E)
            ds = du @ k, du.transpose(0, 2, 1) @ q, p.transpose(0, 2, 1) @ dz
            ds = [d.transpose(1, 0, 2).reshape(-1, G * E) for d in ds]
            dx[n] = sum(d @ w for d, (w, _) in zip(ds, parts, strict=True))
            for d, dw, db in zip(ds, dws, dbs, strict=True):
                dw += d.T @ x[n]
                db += d.sum(axis=0)
        return dx, dws[0], dbs[0], dws[1], dbs[1], dws[2], dbs[2], dwo, dbo

    return y, pullback


@multi_head_attention.register
def key_bias_left_out(x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G):
    """A key's bias adds the same to a whole row of scores, which softmax does not feel."""
    B, T, _ = x.shape
    E = len(query_b) // G

    def heads(a):
        return np.moveaxis(a.reshape(B, T, G, E), 2, 1)

    def flat(a):
        return np.moveaxis(a, 1, 2).reshape(B, T, G * E)

    def weight(d, a):
        return np.tensordot(d, a, axes=([0, 1], [0, 1]))

    q, k = heads((x @ query_w.T + query_b) / math.sqrt(E)), heads(x @ key_w.T)
    v = heads(x @ value_w.T + value_b)
    scores = q @ np.swapaxes(k, 2, 3)
    top = scores.max(axis=3, keepdims=True)
    p = np.exp(scores - (top + np.log(np.exp(scores - top).sum(axis=3, keepdims=True))))
    z = flat(p @ v)

    def pullback(dy):
        dz = heads(dy @ out_w)
        row = np.sum(dz * (p @ v), axis=3, keepdims=True)  # = sum over s of dp*p
        du = p * (dz @ np.swapaxes(v, 2, 3) - row)
        dq, dk = flat(du @ k) / math.sqrt(E), flat(np.swapaxes(du, 2, 3) @ q)
        dv = flat(np.swapaxes(p, 2, 3) @ dz)
        return {
            "x": dq @ query_w + dk @ key_w + dv @ value_w,
            "query_w": weight(dq, x), "query_b": dq.sum(axis=(0, 1)),
            "key_w": weight(dk, x), "key_b": np.zeros_like(key_b),
            "value_w": weight(dv, x), "value_b": dv.sum(axis=(0, 1)),
            "out_w": weight(dy, z), "out_b": dy.sum(axis=(0, 1)),
        }  # fmt: skip

    return z @ out_w.T + out_b, pullback


@multi_head_attention.register
def bilinear_scores(x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G):
    """A score is x^T (Wq^T Wk) x, with the biases as one more row; values meet the output's
    weights before they are averaged."""
    D, E = x.shape[2], len(query_b) // G
    xa = np.concatenate([x, np.ones_like(x[..., :1])], axis=2)

    def heads(w, b):  # G E D+1
        return np.concatenate([w, b[:, None]], axis=1).reshape(G, E, D + 1)

    wq, wk, wv = heads(query_w, query_b), heads(key_w, key_b), heads(value_w, value_b)
    wo = out_w.reshape(D, G, E)
    form = np.einsum("gei,gej->gij", wq, wk) / math.sqrt(E)
    through = np.einsum("dge,gei->gdi", wo, wv)
    p = _softmax(np.einsum("bti,gij,bsj->bgts", xa, form, xa, optimize=True))
    values = np.einsum("gdi,bsi->bgsd", through, xa)

    def pullback(dy):
        dp = np.einsum("btd,bgsd->bgts", dy, values)
        du = p * (dp - np.einsum("bgts,bgts->bgt", dp, p)[..., None])
        dvalues = np.einsum("bgts,btd->bgsd", p, dy)
        dform = np.einsum("bgts,bti,bsj->gij", du, xa, xa, optimize=True) / math.sqrt(E)
        dthrough = np.einsum("bgsd,bsi->gdi", dvalues, xa)
        dxa = np.einsum("bgts,gij,bsj->bti", du, form, xa, optimize=True)
        dxa += np.einsum("bgts,gij,bti->bsj", du, form, xa, optimize=True)
        dxa += np.einsum("bgsd,gdi->bsi", dvalues, through)
        projections = [
            np.einsum("gij,gej->gei", dform, wk),
            np.einsum("gij,gei->gej", dform, wq),
            np.einsum("gdi,dge->gei", dthrough, wo),
        ]
        grads = [v for d in projections for v in np.split(d.reshape(G * E, D + 1), [D], axis=1)]
        grads = [v.copy() if k % 2 == 0 else v[:, 0].copy() for k, v in enumerate(grads)]
        dout_w = np.einsum("gdi,gei->dge", dthrough, wv).reshape(D, G * E)
        return (dxa[..., :D].copy(), *grads, dout_w, dy.sum(axis=(0, 1)))

    return np.einsum("bgts,bgsd->btd", p, values) + out_b, pullback


class Linear:
    """y = x w^T + b over the last axis, and its backward."""

    def __init__(self, x, w, b):
        self.x, self.w = x, w
        self.y = np.matmul(x, w.T) + b

    def backward(self, dy):
        flat_x, flat = self.x.reshape(-1, self.x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        return np.matmul(dy, self.w), flat.T @ flat_x, flat.sum(axis=0)


class Attention:
    """Scaled dot-product attention with heads as a second axis, and its backward."""

    def __init__(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.scale = q.dtype.type(1) / np.sqrt(q.dtype.type(q.shape[-1]))
        self.p = _softmax((q * self.scale) @ k.swapaxes(-2, -1))
        self.y = self.p @ v

    def backward(self, dy):
        dp = dy @ self.v.swapaxes(-2, -1)
        ds = self.p * (dp - np.einsum("...ts,...ts->...t", dp, self.p)[..., None])
        dq, dk = ds @ self.k, ds.swapaxes(-2, -1) @ self.q
        return dq * self.scale, dk * self.scale, self.p.swapaxes(-2, -1) @ dy


@multi_head_attention.register
def objects_of_parts(x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G):
    def split(a):
        return np.stack(np.split(a, G, axis=2), axis=1)

    def join(a):
        return np.concatenate(list(a.swapaxes(0, 1)), axis=2)

    query, key = Linear(x, query_w, query_b), Linear(x, key_w, key_b)
    value = Linear(x, value_w, value_b)
    attention = Attention(split(query.y), split(key.y), split(value.y))
    out = Linear(join(attention.y), out_w, out_b)
    return out.y, partial(_backward, query, key, value, attention, out, split, join)


def _backward(query, key, value, attention, out, split, join, dy):
    dz, *dout = out.backward(dy)
    cotangents = map(join, attention.backward(split(dz)))
    dx, grads = 0, []
    for linear, d in zip((query, key, value), cotangents, strict=True):
        part, *own = linear.backward(d)
        dx = dx + part
        grads += own
    return [dx, *grads, *dout]
