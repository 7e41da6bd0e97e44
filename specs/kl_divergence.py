"""The divergence of log-probabilities x from t, batch mean (Kullback & Leibler 1951, AMS 22)."""

import numpy as np

from gradverify import Input, Output, Spec

kl_divergence = Spec(
    "kl_divergence",
    x=Input("N C"),
    t=Input("N C", values=(0, 0.1, 0.3, 0.6), differentiable=False),
    loss=Output(""),
    definition="""
        d[n,c] = where(t[n,c] > 0, t[n,c]*(log(t[n,c]) - x[n,c]), 0)
        loss   = sum[n,c](d[n,c]) / N
    """,
)


@kl_divergence.register
def numpy_kl_divergence(x, t):
    N = len(x)
    log_t = np.log(np.where(t > 0, t, 1))  # 0 log 0 is 0
    loss = (t * (log_t - x)).sum() / N

    def pullback(dloss):
        return {"x": -dloss / N * t}

    return loss, pullback
