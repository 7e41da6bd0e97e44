"""Mean binary cross entropy of sigmoid(x) with targets t (Bishop 2006, PRML, eq. 4.90)."""

import numpy as np

from gradverify import Input, Output, Spec

bce_with_logits = Spec(
    "bce_with_logits",
    x=Input("N C"),
    t=Input("N C", range="0..1", differentiable=False),
    loss=Output(""),
    definition="""
        loss = mean[n,c](softplus(x[n,c]) - x[n,c]*t[n,c])
    """,
)


@bce_with_logits.register
def numpy_bce_with_logits(x, t):
    e = np.exp(-np.abs(x))  # never overflows, unlike exp(x)
    loss = (np.maximum(x, 0) - x * t + np.log1p(e)).mean()

    def pullback(dloss):
        p = np.where(x >= 0, 1, e) / (1 + e)
        return {"x": dloss / x.size * (p - t)}

    return loss, pullback
