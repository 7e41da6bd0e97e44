"""Right ways of writing scaled dot-product attention; naive_* overflows at large scores."""

import math

import numpy as np

from gradverify import catalog

attention = catalog("attention")


@attention.register
def step_by_step(q, k, v):
    root = math.sqrt(q.shape[2])
    z = np.matmul(q, k.transpose(0, 2, 1)) / root
    u = np.exp(z - z.max(axis=-1, keepdims=True))
    total = u.sum(axis=-1, keepdims=True)
    p = u / total

    def pullback(dy):
        dp = np.matmul(dy, v.transpose(0, 2, 1))
        dtotal = -(dp * u).sum(axis=-1, keepdims=True) / total**2
        dz = (dp / total + dtotal) * u / root
        dv = np.matmul(p.transpose(0, 2, 1), dy)
        return {"q": np.matmul(dz, k), "k": np.matmul(dz.transpose(0, 2, 1), q), "v": dv}

    return np.matmul(p, v), pullback


@attention.register
def einsum(q, k, v):
    scale = 1 / math.sqrt(q.shape[2])
    z = np.einsum("btd,bsd->bts", q, k) * scale
    u = np.exp(z - z.max(axis=2)[:, :, None])
    p = np.einsum("bts,bt->bts", u, 1 / np.einsum("bts->bt", u))

    def pullback(dy):
        dp = np.einsum("bte,bse->bts", dy, v)
        dz = p * dp - p * np.einsum("bts,bts->bt", p, dp)[:, :, None]
        dq = scale * np.einsum("bts,bsd->btd", dz, k)
        dk = scale * np.einsum("bts,btd->bsd", dz, q)
        return dq, dk, np.einsum("bts,bte->bse", p, dy)

    return np.einsum("bts,bse->bte", p, v), pullback


# The logarithm of the sum is as large as the scores, and so is its rounding.
@attention.register(dtypes=("float64", "float32"))
def scaled_query_and_logsumexp(q, k, v):
    scaled = q / math.sqrt(q.shape[2])
    z = scaled @ k.swapaxes(1, 2)
    m = z.max(axis=2, keepdims=True)
    p = np.exp(z - (m + np.log(np.exp(z - m).sum(axis=2, keepdims=True))))

    def pullback(dy):
        dp = dy @ v.swapaxes(1, 2)
        dz = p * (dp - (p * dp).sum(axis=2, keepdims=True))
        dq = dz @ k / math.sqrt(q.shape[2])
        return dq, dz.swapaxes(1, 2) @ scaled, p.swapaxes(1, 2) @ dy

    return p @ v, pullback


@attention.register
def loop_over_the_batch(q, k, v):
    scale = 1 / math.sqrt(q.shape[2])
    y, weights = [], []
    for qb, kb, vb in zip(q, k, v, strict=True):
        z = qb.dot(kb.T) * scale
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weights.append(p)
        y.append(p.dot(vb))

    def pullback(dy):
        dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
        for b, p in enumerate(weights):
            dp = dy[b].dot(v[b].T)
            dz = p * (dp - (p * dp).sum(axis=1, keepdims=True)) * scale
            dq[b], dk[b], dv[b] = dz.dot(k[b]), dz.T.dot(q[b]), p.T.dot(dy[b])
        return {"q": dq, "k": dk, "v": dv}

    return np.stack(y), pullback


@attention.register
def jacobian_per_query(q, k, v):
    scale = 1 / math.sqrt(q.shape[2])
    y = np.empty((*q.shape[:2], v.shape[2]), q.dtype)
    p = np.empty((*q.shape[:2], k.shape[1]), q.dtype)
    for b, t in np.ndindex(q.shape[:2]):
        z = scale * (k[b] @ q[b, t])
        u = np.exp(z - z.max())
        p[b, t] = u / u.sum()
        y[b, t] = p[b, t] @ v[b]

    def pullback(dy):
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for b, t in np.ndindex(q.shape[:2]):
            row = p[b, t]
            jacobian = np.diag(row) - np.outer(row, row)
            dz = scale * (jacobian @ (v[b] @ dy[b, t]))
            dq[b, t] = dz @ k[b]
            dk[b] += np.outer(dz, q[b, t])
            dv[b] += np.outer(row, dy[b, t])
        return {"q": dq, "k": dk, "v": dv}

    return y, pullback


@attention.register
def flash_in_blocks(q, k, v, *, block=2):
    """Online softmax over blocks of keys; the pullback recomputes p block by block."""
    scale = 1 / math.sqrt(q.shape[2])
    S = k.shape[1]
    peak = np.full((*q.shape[:2], 1), -np.inf, q.dtype)
    total = np.zeros_like(peak)
    acc = np.zeros((*q.shape[:2], v.shape[2]), q.dtype)
    for s in range(0, S, block):
        z = q @ k[:, s : s + block].swapaxes(1, 2) * scale
        new = np.maximum(peak, z.max(axis=2, keepdims=True))
        u, shrink = np.exp(z - new), np.exp(peak - new)
        total = total * shrink + u.sum(axis=2, keepdims=True)
        acc = acc * shrink + u @ v[:, s : s + block]
        peak = new
    y = acc / total

    def pullback(dy):
        delta = (dy * acc / total).sum(axis=2, keepdims=True)
        dq, dk, dv = np.zeros_like(q), np.empty_like(k), np.empty_like(v)
        for s in range(0, S, block):
            keys = np.s_[:, s : s + block]
            p = np.exp(q @ k[keys].swapaxes(1, 2) * scale - peak) / total
            dz = p * (dy @ v[keys].swapaxes(1, 2) - delta) * scale
            dq += dz @ k[keys]
            dk[keys] = dz.swapaxes(1, 2) @ q
            dv[keys] = p.swapaxes(1, 2) @ dy
        return {"q": dq, "k": dk, "v": dv}

    return y, pullback


@attention.register(dtypes=("float64", "float32"))
def flash_with_logsumexp(q, k, v):
    """One key at a time; all that is kept for the pullback is y and the logsumexp."""
    root = math.sqrt(q.shape[2])

    def score(s):
        return (q * k[:, s, None]).sum(axis=2, keepdims=True) / root

    lse = score(0)
    acc = np.repeat(v[:, :1], q.shape[1], axis=1)
    for s in range(1, k.shape[1]):
        new = np.logaddexp(lse, score(s))
        acc = acc * np.exp(lse - new) + np.exp(score(s) - new) * v[:, s, None]
        lse = new

    def pullback(dy):
        delta = (dy * acc).sum(axis=2, keepdims=True)
        dq, dk, dv = np.zeros_like(q), np.empty_like(k), np.empty_like(v)
        for s in range(k.shape[1]):
            p = np.exp(score(s) - lse)
            dz = p * ((dy * v[:, s, None]).sum(axis=2, keepdims=True) - delta) / root
            dq += dz * k[:, s, None]
            dk[:, s] = (dz * q).sum(axis=1)
            dv[:, s] = (p * dy).sum(axis=1)
        return {"q": dq, "k": dk, "v": dv}

    return acc.copy(), pullback


@attention.register
def recomputed_weights(q, k, v):
    def weights():
        z = (q @ k.swapaxes(1, 2)) / math.sqrt(q.shape[2])
        u = np.exp(z - z.max(axis=2, keepdims=True))
        return u / u.sum(axis=2, keepdims=True)

    def pullback(dy):
        p = weights()
        dp = (v @ dy.swapaxes(1, 2)).swapaxes(1, 2)
        dz = p * (dp - (dy * (p @ v)).sum(axis=2, keepdims=True))
        dz = dz / math.sqrt(q.shape[2])
        return dz @ k, np.swapaxes(q.swapaxes(1, 2) @ dz, 1, 2), p.swapaxes(1, 2) @ dy

    return weights() @ v, pullback


@attention.register
def unnormalised_then_divided(q, k, v):
    z = np.einsum("btd,bsd->bts", q, k) / math.sqrt(q.shape[2])
    u = np.exp(z - np.max(z, axis=2, keepdims=True))
    total = np.sum(u, axis=2, keepdims=True)
    y = (u @ v) / total

    def pullback(dy):
        dn = dy / total
        dtotal = -(dn * ((u @ v) / total)).sum(axis=2, keepdims=True)
        du = dn @ v.swapaxes(1, 2) + dtotal
        dz = du * u / math.sqrt(q.shape[2])
        return {"v": u.swapaxes(1, 2) @ dn, "k": dz.swapaxes(1, 2) @ q, "q": dz @ k}

    return y, pullback


@attention.register
def naive_exp(q, k, v):
    u = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[2]))
    p = u / u.sum(axis=2, keepdims=True)

    def pullback(dy):
        dp = dy @ v.swapaxes(1, 2)
        dz = p * (dp - (p * dp).sum(axis=2, keepdims=True)) / math.sqrt(q.shape[2])
        return dz @ k, dz.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ dy

    return p @ v, pullback


class Attention:
    """A callable object that computes in float64 and answers in the dtype it was given."""

    def __call__(self, *, q, k, v):
        dtype = q.dtype
        q, k, v = (a.astype(np.float64) for a in (q, k, v))
        p = self.softmax(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[2]))

        def pullback(dy):
            dp = dy @ v.swapaxes(1, 2)
            dz = p * (dp - (dp * p).sum(axis=2, keepdims=True)) / math.sqrt(q.shape[2])
            grads = dz @ k, dz.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ dy
            return tuple(g.astype(dtype) for g in grads)

        return (p @ v).astype(dtype), pullback

    @staticmethod
    def softmax(z):
        u = np.exp(z - z.max(axis=2, keepdims=True))
        return u / u.sum(axis=2, keepdims=True)


attention.register(name="object_in_float64")(Attention())
