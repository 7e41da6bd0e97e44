"""Mean cross entropy with smoothed labels t (Szegedy et al. 2015, arXiv:1512.00567, section 7)."""

import numpy as np

from gradverify import Constant, Input, Output, Spec

label_smoothing = Spec(
    "label_smoothing",
    x=Input("N C"),
    t=Input("N", dtype=int, range="0..C-1"),
    eps=Constant(0.1, 0.4),
    loss=Output(""),
    definition="""
        logp[n,c] = x[n,c] - logsumexp[j](x[n,j])
        loss      = -mean[n]((1 - eps)*logp[n,t[n]] + eps*mean[c](logp[n,c]))
    """,
)


@label_smoothing.register
def numpy_label_smoothing(x, t, *, eps):
    N, C = x.shape
    z = x - x.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    q = np.full_like(x, eps / C)
    q[np.arange(N), t] += 1 - eps
    loss = -(q * logp).sum() / N

    def pullback(dloss):
        return {"x": dloss / N * (np.exp(logp) - q)}

    return loss, pullback
