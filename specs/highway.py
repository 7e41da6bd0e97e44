"""A highway layer (Srivastava, Greff & Schmidhuber 2015, arXiv:1505.00387, eq. 3).

The gate's bias starts below zero, so that the layer starts by carrying its input (section 2.2).
"""

import numpy as np

from gradverify import Input, Output, Param, Spec

highway = Spec(
    "highway",
    x=Input("N D"),
    wh=Param("D D"),
    bh=Param("D", init="zeros"),
    wt=Param("D D"),
    bt=Param("D", init=-2),
    y=Output("N D"),
    definition="""
        h[n,k] = tanh(sum[d](x[n,d]*wh[k,d]) + bh[k])
        g[n,k] = sigmoid(sum[d](x[n,d]*wt[k,d]) + bt[k])
        y[n,k] = h[n,k]*g[n,k] + x[n,k]*(1 - g[n,k])
    """,
)


@highway.register
def numpy_highway(x, wh, bh, wt, bt):
    h = np.tanh(x @ wh.T + bh)
    g = _sigmoid(x @ wt.T + bt)
    y = x + g * (h - x)

    def pullback(dy):
        da = dy * g * (1 - h * h)
        db = dy * (h - x) * g * (1 - g)
        return {
            "x": dy * (1 - g) + da @ wh + db @ wt,
            "wh": da.T @ x,
            "bh": da.sum(axis=0),
            "wt": db.T @ x,
            "bt": db.sum(axis=0),
        }

    return y, pullback


def _sigmoid(z):
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    return np.where(z >= 0, 1, e) / (1 + e)
