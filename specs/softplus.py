"""Softplus, a smooth rectifier, of sharpness beta (Dugas et al. 2001, NIPS 13)."""

import numpy as np

from gradverify import Constant, Input, Output, Spec

softplus = Spec(
    "softplus",
    x=Input("N C"),
    beta=Constant(1.0, 3.0),
    y=Output("N C"),
    definition="""
        y[n,c] = softplus(beta*x[n,c]) / beta
    """,
)


@softplus.register
def numpy_softplus(x, *, beta):
    z = beta * x
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(z)
    y = (np.maximum(z, 0) + np.log1p(e)) / beta

    def pullback(dy):
        return {"x": dy * np.where(z >= 0, 1, e) / (1 + e)}

    return y, pullback
