"""Scaled dot-product attention, open and causal (Vaswani et al. 2017, arXiv:1706.03762, eq. 1)."""

import math

import numpy as np

from gradverify import Input, Output, Spec

attention = Spec(
    "attention",
    q=Input("B T D"),
    k=Input("B S D"),
    v=Input("B S E"),
    y=Output("B T E"),
    definition="""
        z[b,t,s] = sum[d](q[b,t,d]*k[b,s,d]) / sqrt(D)
        m[b,t]   = stop_gradient(max[s](z[b,t,s]))
        u[b,t,s] = exp(z[b,t,s] - m[b,t])
        p[b,t,s] = u[b,t,s] / sum[j](u[b,t,j])
        y[b,t,e] = sum[s](p[b,t,s]*v[b,s,e])
    """,
)

causal_attention = Spec(
    "causal_attention",
    q=Input("B T D"),
    k=Input("B T D"),
    v=Input("B T E"),
    y=Output("B T E"),
    definition="""
        z[b,t,s] = where(s <= t, sum[d](q[b,t,d]*k[b,s,d]) / sqrt(D), -inf)
        m[b,t]   = stop_gradient(max[s](z[b,t,s]))
        u[b,t,s] = exp(z[b,t,s] - m[b,t])
        p[b,t,s] = u[b,t,s] / sum[j](u[b,t,j])
        y[b,t,e] = sum[s](p[b,t,s]*v[b,s,e])
    """,
)


@attention.register
def numpy_attention(q, k, v):
    return _attend(q, k, v)


@causal_attention.register
def numpy_causal_attention(q, k, v):
    return _attend(q, k, v, visible=np.tri(q.shape[1], dtype=bool))


def _attend(q, k, v, *, visible=None):
    """Attend from q [B T D] to k [B S D] and v [B S E], where the mask [T S] says `visible`."""
    scale = 1 / math.sqrt(q.shape[2])
    z = scale * (q @ k.swapaxes(1, 2))
    if visible is not None:
        z = np.where(visible, z, -np.inf)
    u = np.exp(z - z.max(axis=2, keepdims=True))
    p = u / u.sum(axis=2, keepdims=True)
    y = p @ v

    def pullback(dy):
        dp = dy @ v.swapaxes(1, 2)
        dz = p * (dp - (dp * p).sum(axis=2, keepdims=True)) * scale
        return {"q": dz @ k, "k": dz.swapaxes(1, 2) @ q, "v": p.swapaxes(1, 2) @ dy}

    return y, pullback
