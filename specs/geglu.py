"""A linear unit with a Gaussian error gate (Shazeer 2020, arXiv:2002.05202, eq. 5)."""

import math

import numpy as np

from gradverify import Input, Output, Param, Spec

geglu = Spec(
    "geglu",
    x=Input("N D"),
    w=Param("K D"),
    b=Param("K", init="zeros"),
    v=Param("K D"),
    c=Param("K", init="zeros"),
    y=Output("N K"),
    definition="""
        a[n,k] = sum[d](x[n,d]*w[k,d]) + b[k]
        u[n,k] = sum[d](x[n,d]*v[k,d]) + c[k]
        y[n,k] = a[n,k]*(1 + erf(a[n,k]/sqrt(2)))/2*u[n,k]
    """,
)


@geglu.register
def numpy_geglu(x, w, b, v, c):
    a = x @ w.T + b
    u = x @ v.T + c
    cdf = _normal_cdf(a)
    gate = a * cdf
    y = gate * u

    def pullback(dy):
        du = dy * gate
        da = dy * u * (cdf + a * np.exp(-a * a / 2) / math.sqrt(2 * math.pi))
        return {
            "x": da @ w + du @ v,
            "w": da.T @ x,
            "b": da.sum(axis=0),
            "v": du.T @ x,
            "c": du.sum(axis=0),
        }

    return y, pullback


def _normal_cdf(a):
    # erfc keeps the digits of the lower tail, which 1 + erf loses.
    return np.vectorize(math.erfc, otypes=[a.dtype])(-a / math.sqrt(2)) / 2
