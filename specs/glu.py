"""The gated linear unit (Dauphin et al. 2017, arXiv:1612.08083, eq. 1; Shazeer 2020, eq. 4)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

glu = Spec(
    "glu",
    x=Input("N D"),
    w=Param("K D"),
    b=Param("K", init="zeros"),
    v=Param("K D"),
    c=Param("K", init="zeros"),
    y=Output("N K"),
    definition="""
        g[n,k] = sigmoid(sum[d](x[n,d]*w[k,d]) + b[k])
        u[n,k] = sum[d](x[n,d]*v[k,d]) + c[k]
        y[n,k] = g[n,k]*u[n,k]
    """,
)


@glu.register
def numpy_glu(x, w, b, v, c):
    g = _sigmoid(x @ w.T + b)
    u = x @ v.T + c
    y = g * u

    def pullback(dy):
        du = dy * g
        da = du * u * (1 - g)
        return {
            "x": da @ w + du @ v,
            "w": da.T @ x,
            "b": da.sum(axis=0),
            "v": du.T @ x,
            "c": du.sum(axis=0),
        }

    return y, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
