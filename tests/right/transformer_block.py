"""Right ways of writing a transformer block that normalizes first, of parts written otherwise."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np

from gradverify import catalog

transformer_block = catalog("transformer_block")

SCALE, CUBIC = math.sqrt(2 / math.pi), 0.044715
PARAMETERS = (
    "norm1_gamma", "norm1_beta", "attn_query_w", "attn_query_b", "attn_key_w", "attn_key_b",
    "attn_value_w", "attn_value_b", "attn_out_w", "attn_out_b", "norm2_gamma", "norm2_beta",
    "fc1_w", "fc1_b", "fc2_w", "fc2_b",
)  # fmt: skip


def _softmax(u):
    e = np.exp(u - u.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _total(a):
    """Sum over all axes but the last."""
    return a.reshape(-1, a.shape[-1]).sum(axis=0)


def _outer(a, b):
    """Sum the outer products of the last axes over all others."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


@transformer_block.register
def step_by_step(x, *, G, eps, **parameters):
    m = SimpleNamespace(**parameters)
    B, T, _ = x.shape
    E = len(m.attn_query_b) // G

    def split(a):
        return a.reshape(B, T, G, E).transpose(0, 2, 1, 3)

    def join(a):
        return a.transpose(0, 2, 1, 3).reshape(B, T, G * E)

    mu1 = x.mean(axis=2, keepdims=True)
    s1 = np.sqrt(((x - mu1) ** 2).mean(axis=2, keepdims=True) + eps)
    n1 = (x - mu1) / s1
    u = m.norm1_gamma * n1 + m.norm1_beta
    q = split(u @ m.attn_query_w.T + m.attn_query_b)
    k = split(u @ m.attn_key_w.T + m.attn_key_b)
    v = split(u @ m.attn_value_w.T + m.attn_value_b)
    p = _softmax(q @ k.swapaxes(2, 3) / math.sqrt(E))
    a = join(p @ v)
    r = x + a @ m.attn_out_w.T + m.attn_out_b
    mu2 = r.mean(axis=2, keepdims=True)
    s2 = np.sqrt(((r - mu2) ** 2).mean(axis=2, keepdims=True) + eps)
    n2 = (r - mu2) / s2
    s = m.norm2_gamma * n2 + m.norm2_beta
    z = s @ m.fc1_w.T + m.fc1_b
    t = np.tanh(SCALE * (z + CUBIC * z**3))
    h = 0.5 * z * (1 + t)
    y = r + h @ m.fc2_w.T + m.fc2_b

    def through_norm(dn, n, s):
        return (dn - dn.mean(2, keepdims=True) - n * (dn * n).mean(2, keepdims=True)) / s

    def pullback(dy):
        dh = dy @ m.fc2_w
        dt = dh * 0.5 * z
        dz = dh * 0.5 * (1 + t) + dt * (1 - t * t) * SCALE * (1 + 3 * CUBIC * z * z)
        ds = dz @ m.fc1_w
        dr = dy + through_norm(ds * m.norm2_gamma, n2, s2)
        da = split(dr @ m.attn_out_w)
        dp = da @ v.swapaxes(2, 3)
        dscore = p * (dp - (dp * p).sum(axis=3, keepdims=True)) / math.sqrt(E)
        dq, dk, dv = join(dscore @ k), join(dscore.swapaxes(2, 3) @ q), join(p.swapaxes(2, 3) @ da)
        du = dq @ m.attn_query_w + dk @ m.attn_key_w + dv @ m.attn_value_w
        dx = dr + through_norm(du * m.norm1_gamma, n1, s1)
        return {
            "x": dx,
            "norm1_gamma": _total(du * n1), "norm1_beta": _total(du),
            "attn_query_w": _outer(dq, u), "attn_query_b": _total(dq),
            "attn_key_w": _outer(dk, u), "attn_key_b": _total(dk),
            "attn_value_w": _outer(dv, u), "attn_value_b": _total(dv),
            "attn_out_w": _outer(dr, a), "attn_out_b": _total(dr),
            "norm2_gamma": _total(ds * n2), "norm2_beta": _total(ds),
            "fc1_w": _outer(dz, s), "fc1_b": _total(dz),
            "fc2_w": _outer(dy, h), "fc2_b": _total(dy),
        }  # fmt: skip

    return y, pullback


def _linear(x, w, b):
    def back(dy):
        return np.einsum("...k,kd->...d", dy, w), _outer(dy, x), _total(dy)

    return np.einsum("...d,kd->...k", x, w) + b, back


def _norm(x, gamma, beta, eps):
    """Scale by a power of the variance, and take the mean off what has come back."""
    xc = x - x.mean(axis=-1, keepdims=True)
    rstd = (x.var(axis=-1, keepdims=True) + eps) ** -0.5

    def back(dy):
        g = dy * gamma
        dxc = rstd * g - xc * rstd**3 * np.mean(g * xc, axis=-1, keepdims=True)
        return dxc - dxc.mean(axis=-1, keepdims=True), _total(dy * (xc * rstd)), _total(dy)

    return gamma * (xc * rstd) + beta, back


def _centering_norm(x, gamma, beta, eps):
    """The mean is taken off by a matrix, each row's Jacobian is made whole."""
    D = x.shape[-1]
    center = np.eye(D, dtype=x.dtype) - x.dtype.type(1 / D)
    xc = x @ center
    sigma = np.sqrt(np.einsum("...d,...d->...", xc, xc) / D + eps)[..., None]
    xhat = xc / sigma

    def back(dy):
        jacobian = (center - xhat[..., :, None] * xhat[..., None, :] / D) / sigma[..., None]
        dx = np.einsum("...d,...de->...e", dy * gamma, jacobian)
        return dx, _total(dy * xhat), _total(dy)

    return xhat * gamma + beta, back


def _attend(q, k, v):
    """Attend in one head, q, k and v [B T E]."""
    E = q.shape[-1]
    p = _softmax(np.einsum("bte,bse->bts", q, k) * E**-0.5)

    def back(da):
        dp = np.einsum("bte,bse->bts", da, v)
        du = p * dp
        du = (du - p * du.sum(axis=2, keepdims=True)) * E**-0.5
        dq, dk = np.einsum("bts,bse->bte", du, k), np.einsum("bts,bte->bse", du, q)
        return dq, dk, np.einsum("bts,bte->bse", p, da)

    return np.einsum("bts,bse->bte", p, v), back


def _heads(q, k, v, G):
    """One head after the other."""
    runs = [_attend(*qkv) for qkv in zip(*(np.split(a, G, axis=2) for a in (q, k, v)), strict=True)]

    def back(da):
        parts = [b(d) for (_, b), d in zip(runs, np.split(da, G, axis=2), strict=True)]
        return tuple(np.concatenate(d, axis=2) for d in zip(*parts, strict=True))

    return np.concatenate([a for a, _ in runs], axis=2), back


def _folded_heads(q, k, v, G):
    """Heads as more sequences: B*G of them."""
    B, T, K = q.shape

    def fold(a):
        return a.reshape(B, T, G, K // G).swapaxes(1, 2).reshape(B * G, T, K // G)

    def unfold(a):
        return a.reshape(B, G, T, K // G).swapaxes(1, 2).reshape(B, T, K)

    a, attend_back = _attend(fold(q), fold(k), fold(v))
    return unfold(a), lambda da: tuple(map(unfold, attend_back(fold(da))))


def _gelu(z):
    """z times the sigmoid of twice what tanh is taken of."""
    e = np.exp(-np.abs(2 * SCALE * z * (1 + CUBIC * z * z)))
    s = np.where(z >= 0, 1, e) / (1 + e)
    slope = s + z * (s * (1 - s)) * (2 * SCALE * (1 + 3 * CUBIC * z * z))
    return z * s, lambda dh: dh * slope


def _gelu_by_tanh(z):
    t = np.tanh(SCALE * z + SCALE * CUBIC * np.power(z, 3))

    def back(dh):
        sech2 = (1 - t) * (1 + t)
        return dh * (0.5 + 0.5 * t + (0.5 * SCALE * z + 1.5 * SCALE * CUBIC * z**3) * sech2)

    return 0.5 * (z + z * t), back


def _composed(norm, heads, gelu, x, *, G, eps, **parameters):
    """Put the block together from parts that return their backward."""
    m = SimpleNamespace(**parameters)
    u, norm1_back = norm(x, m.norm1_gamma, m.norm1_beta, eps)
    q, query_back = _linear(u, m.attn_query_w, m.attn_query_b)
    k, key_back = _linear(u, m.attn_key_w, m.attn_key_b)
    v, value_back = _linear(u, m.attn_value_w, m.attn_value_b)
    a, heads_back = heads(q, k, v, G)
    a, out_back = _linear(a, m.attn_out_w, m.attn_out_b)
    r = x + a
    s, norm2_back = norm(r, m.norm2_gamma, m.norm2_beta, eps)
    z, fc1_back = _linear(s, m.fc1_w, m.fc1_b)
    h, gelu_back = gelu(z)
    f, fc2_back = _linear(h, m.fc2_w, m.fc2_b)

    def pullback(dy):
        dh, *fc2 = fc2_back(dy)
        ds, *fc1 = fc1_back(gelu_back(dh))
        dr, *norm2 = norm2_back(ds)
        dr = dr + dy
        da, *out = out_back(dr)
        dq, dk, dv = heads_back(da)
        (du_q, *query), (du_k, *key), (du_v, *value) = query_back(dq), key_back(dk), value_back(dv)
        dx, *norm1 = norm1_back(du_q + du_k + du_v)
        return dr + dx, *norm1, *query, *key, *value, *out, *norm2, *fc1, *fc2

    return f + r, pullback


head_by_head = partial(_composed, _norm, _heads, _gelu)
folded_heads = partial(_composed, _centering_norm, _folded_heads, _gelu_by_tanh)
transformer_block.register(name="head_by_head")(head_by_head)
transformer_block.register(name="heads_folded_into_the_batch")(folded_heads)


@transformer_block.register
def sequence_by_sequence(x, **given):
    """The sequences of a batch do not see each other: gradients of parameters are added up."""
    runs = [folded_heads(sequence[None], **given) for sequence in x]

    def pullback(dy):
        dxs, *grads = zip(*(back(g[None]) for (_, back), g in zip(runs, dy, strict=True)),
                          strict=True)  # fmt: skip
        totals = {k: np.sum(np.stack(v), axis=0) for k, v in zip(PARAMETERS, grads, strict=True)}
        return {"x": np.concatenate(dxs), **totals}

    return np.concatenate([y for y, _ in runs]), pullback


@transformer_block.register
def checkpointed(x, **given):
    """Nothing is kept but what was given: the pullback runs the forward anew."""
    return head_by_head(x, **given)[0], lambda dy: head_by_head(x, **given)[1](dy)


@transformer_block.register
def in_float64(x, *, G, eps, **parameters):
    wide = {k: v.astype(np.float64) for k, v in parameters.items()}
    y, back = step_by_step(x.astype(np.float64), G=G, eps=eps, **wide)

    def pullback(dy):
        return {k: g.astype(x.dtype) for k, g in back(dy.astype(np.float64)).items()}

    return y.astype(x.dtype), pullback


class Block:
    """Two residual branches, each with its own backward."""

    def attention_branch(self, x, eps, G, gamma, beta, wq, bq, wk, bk, wv, bv, wo, bo):
        u, norm_back = _norm(x, gamma, beta, eps)
        qkv, qkv_back = _linear(u, np.concatenate([wq, wk, wv]), np.concatenate([bq, bk, bv]))
        a, heads_back = _heads(*np.split(qkv, 3, axis=2), G)
        r, out_back = _linear(a, wo, bo)

        def back(dr):
            da, *out = out_back(dr)
            du, dw, db = qkv_back(np.concatenate(heads_back(da), axis=2))
            pairs = zip(np.split(dw, 3), np.split(db, 3), strict=True)
            dx, *norm = norm_back(du)
            return dx, [*norm, *(g.copy() for pair in pairs for g in pair), *out]

        return r, back

    def feed_forward_branch(self, r, eps, gamma, beta, w1, b1, w2, b2):
        s, norm_back = _centering_norm(r, gamma, beta, eps)
        z, fc1_back = _linear(s, w1, b1)
        h, gelu_back = _gelu_by_tanh(z)
        f, fc2_back = _linear(h, w2, b2)

        def back(df):
            dh, *fc2 = fc2_back(df)
            ds, *fc1 = fc1_back(gelu_back(dh))
            dr, *norm = norm_back(ds)
            return dr, [*norm, *fc1, *fc2]

        return f, back

    def __call__(self, x, *, G, eps, **parameters):
        values = [parameters[name] for name in PARAMETERS]
        a, attention_back = self.attention_branch(x, eps, G, *values[:10])
        r = x + a
        f, feed_forward_back = self.feed_forward_branch(r, eps, *values[10:])
        return r + f, partial(self.backward, attention_back, feed_forward_back)

    def backward(self, attention_back, feed_forward_back, dy):
        dr, second = feed_forward_back(dy)
        dr = dr + dy
        dx, first = attention_back(dr)
        return [dx + dr, *first, *second]


transformer_block.register(name="object_of_two_branches")(Block())
