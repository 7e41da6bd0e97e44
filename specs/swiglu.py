"""A feed-forward layer with a swish gate, no biases (Shazeer 2020, arXiv:2002.05202, eq. 6)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

swiglu = Spec(
    "swiglu",
    x=Input("N D"),
    w=Param("H D"),
    v=Param("H D"),
    o=Param("K H"),
    y=Output("N K"),
    definition="""
        a[n,h] = sum[d](x[n,d]*w[h,d])
        u[n,h] = sum[d](x[n,d]*v[h,d])
        z[n,h] = a[n,h]*sigmoid(a[n,h])*u[n,h]
        y[n,k] = sum[h](z[n,h]*o[k,h])
    """,
)


@swiglu.register
def numpy_swiglu(x, w, v, o):
    a, u = x @ w.T, x @ v.T
    s = _sigmoid(a)
    swish = a * s
    z = swish * u
    y = z @ o.T

    def pullback(dy):
        dz = dy @ o
        du = dz * swish
        da = dz * u * s * (1 + a * (1 - s))
        return {"x": da @ w + du @ v, "w": da.T @ x, "v": du.T @ x, "o": dy.T @ z}

    return y, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
