"""Multi-head self-attention with its projections (Vaswani et al. 2017, arXiv:1706.03762, 3.2.2)."""

import math

import numpy as np

from gradverify import Constant, Input, Output, Part, Spec, catalog

linear, attention = catalog("linear"), catalog("attention")

multi_head_attention = Spec(
    "multi_head_attention",
    x=Input("B T D"),
    query=Part(linear, K="G*E"),
    key=Part(linear, K="G*E"),
    value=Part(linear, K="G*E"),
    attend=Part(attention),
    out=Part(linear, D="G*E"),
    G=Constant(1, 2),
    y=Output("B T D"),
    ranges={"g": "G", "e": "E"},
    definition="""
        q[b] = query(x[b])
        k[b] = key(x[b])
        v[b] = value(x[b])
        qh[b,g,t,e] = q[b,t,g*E+e]    # G heads of E elements each
        kh[b,g,t,e] = k[b,t,g*E+e]
        vh[b,g,t,e] = v[b,t,g*E+e]
        heads[b] = attend(qh[b], kh[b], vh[b])
        z[b,t,g*E+e] = heads[b,g,t,e]
        y[b] = out(z[b])
    """,
)


@multi_head_attention.register
def numpy_multi_head_attention(
    x, query_w, query_b, key_w, key_b, value_w, value_b, out_w, out_b, *, G
):
    B, T, _ = x.shape
    E = query_b.size // G

    def split(a):  # B T G*E to B G T E
        return a.reshape(B, T, G, E).swapaxes(1, 2)

    def join(a):  # and back
        return a.swapaxes(1, 2).reshape(B, T, G * E)

    q, k, v = (
        split(x @ query_w.T + query_b),
        split(x @ key_w.T + key_b),
        split(x @ value_w.T + value_b),
    )
    u = q @ k.swapaxes(2, 3) / math.sqrt(E)
    u = np.exp(u - u.max(axis=3, keepdims=True))
    p = u / u.sum(axis=3, keepdims=True)
    z = join(p @ v)
    y = z @ out_w.T + out_b

    def pullback(dy):
        dz = split(dy @ out_w)
        dp = dz @ v.swapaxes(2, 3)
        du = p * (dp - (dp * p).sum(axis=3, keepdims=True)) / math.sqrt(E)
        dq, dk, dv = join(du @ k), join(du.swapaxes(2, 3) @ q), join(p.swapaxes(2, 3) @ dz)

        def weight(da, a):  # of a linear layer, from its output's cotangent and its input
            return np.einsum("btk,btd->kd", da, a)

        return {
            "x": dq @ query_w + dk @ key_w + dv @ value_w,
            "query_w": weight(dq, x),
            "query_b": dq.sum(axis=(0, 1)),
            "key_w": weight(dk, x),
            "key_b": dk.sum(axis=(0, 1)),
            "value_w": weight(dv, x),
            "value_b": dv.sum(axis=(0, 1)),
            "out_w": weight(dy, z),
            "out_b": dy.sum(axis=(0, 1)),
        }

    return y, pullback
