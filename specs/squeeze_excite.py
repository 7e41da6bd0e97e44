"""Channels gated by what the whole image holds (Hu et al. 2018, arXiv:1709.01507, eq. 2 to 4)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

squeeze_excite = Spec(
    "squeeze_excite",
    x=Input("N C H W"),
    w1=Param("R C"),
    b1=Param("R", init="zeros"),
    w2=Param("C R"),
    b2=Param("C", init="zeros"),
    y=Output("N C H W"),
    definition="""
        z[n,c]     = mean[h,w](x[n,c,h,w])
        a[n,r]     = relu(sum[c](z[n,c]*w1[r,c]) + b1[r])
        s[n,c]     = sigmoid(sum[r](a[n,r]*w2[c,r]) + b2[c])
        y[n,c,h,w] = s[n,c]*x[n,c,h,w]
    """,
)


@squeeze_excite.register
def numpy_squeeze_excite(x, w1, b1, w2, b2):
    z = x.mean(axis=(2, 3))
    a = np.maximum(z @ w1.T + b1, 0)
    s = _sigmoid(a @ w2.T + b2)
    y = s[:, :, None, None] * x

    def pullback(dy):
        ds = (dy * x).sum(axis=(2, 3)) * s * (1 - s)
        da = (ds @ w2) * (a > 0)
        dz = da @ w1 / (x.shape[2] * x.shape[3])
        return {
            "x": s[:, :, None, None] * dy + dz[:, :, None, None],
            "w1": da.T @ z,
            "b1": da.sum(axis=0),
            "w2": ds.T @ a,
            "b2": ds.sum(axis=0),
        }

    return y, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
