"""Right ways of writing causal attention; naive_* overflows at large scores."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

causal_attention = catalog("causal_attention")


def _softmax(z):
    u = np.exp(z - z.max(axis=-1, keepdims=True))
    return u / u.sum(axis=-1, keepdims=True)


def _backward(p, q, k, v, dy):
    dp = dy @ v.swapaxes(1, 2)
    dz = p * (dp - (dp * p).sum(axis=2, keepdims=True)) / math.sqrt(q.shape[2])
    return dz @ k, dz.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ dy


@causal_attention.register
def additive_mask(q, k, v):
    T = q.shape[1]
    mask = np.triu(np.full((T, T), -np.inf, dtype=q.dtype), k=1)
    p = _softmax(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[2]) + mask)
    return p @ v, partial(_backward, p, q, k, v)


@causal_attention.register
def boolean_assignment(q, k, v):
    z = (q / math.sqrt(q.shape[2])) @ k.transpose(0, 2, 1)
    z[:, ~np.tri(q.shape[1], dtype=bool)] = -np.inf
    p = _softmax(z)
    return np.matmul(p, v), lambda dy: dict(zip("qkv", _backward(p, q, k, v, dy), strict=True))


@causal_attention.register
def multiplicative_mask(q, k, v):
    visible = np.tri(q.shape[1], dtype=q.dtype)
    z = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[2])
    peak = np.where(visible > 0, z, z[:, :, :1]).max(axis=2, keepdims=True)
    u = np.exp(np.minimum(z - peak, 0)) * visible
    total = u.sum(axis=2, keepdims=True)

    def pullback(dy):
        p = u / total
        dp = np.einsum("bte,bse->bts", dy, v)
        dz = (p * dp - p * (p * dp).sum(axis=2, keepdims=True)) / math.sqrt(q.shape[2])
        return {
            "q": np.einsum("bts,bsd->btd", dz, k),
            "k": np.einsum("bts,btd->bsd", dz, q),
            "v": np.einsum("bts,bte->bse", p, dy),
        }

    return (u / total) @ v, pullback


@causal_attention.register
def loop_over_prefixes(q, k, v):
    scale = 1 / math.sqrt(q.shape[2])
    y, weights = np.empty((*q.shape[:2], v.shape[2]), q.dtype), []
    for t in range(q.shape[1]):
        z = np.einsum("bd,bsd->bs", q[:, t], k[:, : t + 1]) * scale
        weights.append(_softmax(z))
        y[:, t] = np.einsum("bs,bse->be", weights[t], v[:, : t + 1])

    def pullback(dy):
        dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
        for t, p in enumerate(weights):
            seen = np.s_[:, : t + 1]
            dp = np.einsum("be,bse->bs", dy[:, t], v[seen])
            dz = p * (dp - (p * dp).sum(axis=1, keepdims=True)) * scale
            dq[:, t] = np.einsum("bs,bsd->bd", dz, k[seen])
            dk[seen] += dz[:, :, None] * q[:, t, None]
            dv[seen] += p[:, :, None] * dy[:, t, None]
        return {"q": dq, "k": dk, "v": dv}

    return y, pullback


@causal_attention.register
def loop_over_batch_and_queries_with_jacobian(q, k, v):
    scale = 1 / math.sqrt(q.shape[2])
    y = np.empty((*q.shape[:2], v.shape[2]), q.dtype)
    weights = {}
    for b, t in np.ndindex(q.shape[:2]):
        p = weights[b, t] = _softmax(k[b, : t + 1] @ q[b, t] * scale)
        y[b, t] = p @ v[b, : t + 1]

    def pullback(dy):
        dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
        for (b, t), p in weights.items():
            dz = (np.diag(p) - np.outer(p, p)) @ (v[b, : t + 1] @ dy[b, t]) * scale
            dq[b, t] = dz @ k[b, : t + 1]
            dk[b, : t + 1] += np.outer(dz, q[b, t])
            dv[b, : t + 1] += np.outer(p, dy[b, t])
        return dq, dk, dv

    return y, pullback


@causal_attention.register
def flash_in_blocks(q, k, v):
    return _flash(q, k, v, block=2, logsumexp=False)


# The logarithm of the sum is as large as the scores, and so is its rounding.
@causal_attention.register(dtypes=("float64", "float32"))
def flash_with_logsumexp(q, k, v):
    return _flash(q, k, v, block=3, logsumexp=True)


def _flash(q, k, v, *, block, logsumexp):
    """Online softmax over blocks of keys; the first block is visible to every query."""
    scale = 1 / math.sqrt(q.shape[2])
    B, T, _ = q.shape
    position = np.arange(T)

    def scores(s):
        z = q @ k[:, s : s + block].swapaxes(1, 2) * scale
        return np.where(position[s : s + block] <= position[:, None], z, -np.inf)

    peak = np.full((B, T, 1), -np.inf, q.dtype)
    total, acc = np.zeros_like(peak), np.zeros((B, T, v.shape[2]), q.dtype)
    for s in range(0, T, block):
        z = scores(s)
        new = np.maximum(peak, z.max(axis=2, keepdims=True))
        u, shrink = np.exp(z - new), np.exp(peak - new)
        total = shrink * total + u.sum(axis=2, keepdims=True)
        acc = shrink * acc + u @ v[:, s : s + block]
        peak = new
    lse = np.log(total) + peak

    def weights(s):
        z = scores(s)
        return np.exp(z - lse) if logsumexp else np.exp(z - peak) / total

    def pullback(dy):
        delta = (dy * acc / total).sum(axis=2, keepdims=True)
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for s in range(0, T, block):
            keys = np.s_[:, s : s + block]
            p = weights(s)
            dz = scale * (p * (dy @ v[keys].swapaxes(1, 2) - delta))
            dq += dz @ k[keys]
            dk[keys] += dz.swapaxes(1, 2) @ q
            dv[keys] += p.swapaxes(1, 2) @ dy
        return {"q": dq, "k": dk, "v": dv}

    return acc / total, pullback


@causal_attention.register
def recomputed_in_float64(q, k, v):
    dtype, visible = q.dtype, np.tri(q.shape[1], dtype=bool)

    def forward():
        wide = [a.astype(np.float64) for a in (q, k, v)]
        z = wide[0] @ wide[1].swapaxes(1, 2) / math.sqrt(q.shape[2])
        return _softmax(np.where(visible, z, -np.inf)), *wide

    def pullback(dy):
        return tuple(g.astype(dtype) for g in _backward(*forward(), dy.astype(np.float64)))

    p, _, _, wide_v = forward()
    return (p @ wide_v).astype(dtype), pullback


@causal_attention.register
def naive_exp(q, k, v):
    u = np.tril(np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[2])))
    p = u / u.sum(axis=2, keepdims=True)
    return p @ v, partial(_backward, p, q, k, v)


class CausalAttention:
    """A callable object; the mask's infinity is a large score, which exp turns into 0."""

    def __call__(self, q, k, v):
        root = math.sqrt(q.shape[2])
        hidden = np.arange(q.shape[1]) > np.arange(q.shape[1])[:, None]
        z = np.where(hidden, np.finfo(q.dtype).min / 2, np.matmul(q / root, k.swapaxes(1, 2)))
        m = z.max(axis=2, keepdims=True)
        p = np.exp(z - m - np.log(np.exp(z - m).sum(axis=2, keepdims=True)))
        return p @ v, partial(self.backward, q / root, k, v, p)

    @staticmethod
    def backward(scaled, k, v, p, dy):
        g = dy @ v.swapaxes(1, 2) * p
        dz = g - p * g.sum(axis=2, keepdims=True)
        dq = dz @ k / math.sqrt(k.shape[2])
        return dq, dz.swapaxes(1, 2) @ scaled, p.swapaxes(1, 2) @ dy


causal_attention.register(name="object_with_call")(CausalAttention())
