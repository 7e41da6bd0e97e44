"""A transformer block that normalizes first (Vaswani et al. 2017; Xiong et al. 2020).

The block is that of arXiv:1706.03762, the place of its normalization that of arXiv:2002.04745
(Pre-LN), its activation GELU.
"""

import math

import numpy as np

from gradverify import Constant, Input, Output, Part, Spec, catalog

layer_norm, linear, gelu = catalog("layer_norm"), catalog("linear"), catalog("gelu")

transformer_block = Spec(
    "transformer_block",
    x=Input("B T D"),
    norm1=Part(layer_norm, eps="eps"),
    attn=Part(catalog("multi_head_attention"), G="G"),
    norm2=Part(layer_norm, eps="eps"),
    fc1=Part(linear, K="H"),
    act=Part(gelu),
    fc2=Part(linear, K="D"),
    G=Constant(1, 2),
    eps=Constant(1e-5, 1e-2),
    y=Output("B T D"),
    definition="""
        u[b] = norm1(x[b])
        a    = attn(u)
        r[b,t,d] = x[b,t,d] + a[b,t,d]
        s[b] = norm2(r[b])
        z[b] = fc1(s[b])
        h[b] = act(z[b])
        m[b] = fc2(h[b])
        y[b,t,d] = r[b,t,d] + m[b,t,d]
    """,
)


@transformer_block.register
def numpy_transformer_block(
    x,
    norm1_gamma,
    norm1_beta,
    attn_query_w,
    attn_query_b,
    attn_key_w,
    attn_key_b,
    attn_value_w,
    attn_value_b,
    attn_out_w,
    attn_out_b,
    norm2_gamma,
    norm2_beta,
    fc1_w,
    fc1_b,
    fc2_w,
    fc2_b,
    *,
    G,
    eps,
):
    u, norm1_back = _layer_norm(x, norm1_gamma, norm1_beta, eps)
    q, query_back = _linear(u, attn_query_w, attn_query_b)
    k, key_back = _linear(u, attn_key_w, attn_key_b)
    v, value_back = _linear(u, attn_value_w, attn_value_b)
    a, heads_back = _heads(q, k, v, G)
    a, out_back = _linear(a, attn_out_w, attn_out_b)
    r = x + a
    s, norm2_back = _layer_norm(r, norm2_gamma, norm2_beta, eps)
    z, fc1_back = _linear(s, fc1_w, fc1_b)
    h, gelu_back = _gelu(z)
    m, fc2_back = _linear(h, fc2_w, fc2_b)

    def pullback(dy):
        dh, dfc2_w, dfc2_b = fc2_back(dy)
        ds, dfc1_w, dfc1_b = fc1_back(gelu_back(dh))
        dr, dnorm2_gamma, dnorm2_beta = norm2_back(ds)
        dr = dy + dr
        da, dout_w, dout_b = out_back(dr)
        dq, dk, dv = heads_back(da)
        du_q, dquery_w, dquery_b = query_back(dq)
        du_k, dkey_w, dkey_b = key_back(dk)
        du_v, dvalue_w, dvalue_b = value_back(dv)
        dx, dnorm1_gamma, dnorm1_beta = norm1_back(du_q + du_k + du_v)
        return (
            dr + dx, dnorm1_gamma, dnorm1_beta, dquery_w, dquery_b, dkey_w, dkey_b, dvalue_w,
            dvalue_b, dout_w, dout_b, dnorm2_gamma, dnorm2_beta, dfc1_w, dfc1_b, dfc2_w, dfc2_b,
        )  # fmt: skip

    return r + m, pullback


def _linear(x, w, b):
    def back(dy):
        return dy @ w, np.einsum("btk,btd->kd", dy, x), dy.sum(axis=(0, 1))

    return x @ w.T + b, back


def _layer_norm(x, gamma, beta, eps):
    xc = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=-1, keepdims=True) + eps)
    xhat = xc / sigma

    def back(dy):
        dxhat = dy * gamma
        along = dxhat.mean(axis=-1, keepdims=True)
        along = along + xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        return (dxhat - along) / sigma, (dy * xhat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))

    return gamma * xhat + beta, back


def _heads(q, k, v, G):
    """Attend in each of the G heads of q, k and v [B T G*E]."""
    B, T, E = q.shape[0], q.shape[1], q.shape[2] // G

    def split(a):  # to B G T E
        return a.reshape(B, T, G, E).swapaxes(1, 2)

    def join(a):  # and back
        return a.swapaxes(1, 2).reshape(B, T, G * E)

    q, k, v = split(q), split(k), split(v)
    u = q @ k.swapaxes(2, 3) / math.sqrt(E)
    u = np.exp(u - u.max(axis=3, keepdims=True))
    p = u / u.sum(axis=3, keepdims=True)

    def back(da):
        da = split(da)
        dp = da @ v.swapaxes(2, 3)
        du = p * (dp - (dp * p).sum(axis=3, keepdims=True)) / math.sqrt(E)
        return join(du @ k), join(du.swapaxes(2, 3) @ q), join(p.swapaxes(2, 3) @ da)

    return join(p @ v), back


def _gelu(x):
    scale = math.sqrt(2 / math.pi)
    cubic = 0.044715 * x * x
    t = np.tanh(scale * x * (1 + cubic))

    def back(dy):
        return 0.5 * dy * (1 + t + x * (1 - t * t) * scale * (1 + 3 * cubic))

    return 0.5 * x * (1 + t), back
