"""The parametric rectifier, one slope a channel (He et al. 2015, arXiv:1502.01852, eq. 1)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

prelu = Spec(
    "prelu",
    x=Input("N C"),
    a=Param("C", init=0.25),
    y=Output("N C"),
    definition="""
        y[n,c] = max(x[n,c], 0) + a[c]*min(x[n,c], 0)
    """,
)


@prelu.register
def numpy_prelu(x, a):
    y = np.where(x > 0, x, a * x)

    def pullback(dy):
        return {"x": np.where(x > 0, dy, a * dy), "a": (dy * np.minimum(x, 0)).sum(axis=0)}

    return y, pullback
