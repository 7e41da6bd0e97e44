"""Mean cross entropy of softmax(x) with class labels t (Bishop 2006, PRML, section 4.3.4)."""

import numpy as np

from gradverify import Input, Output, Spec

softmax_cross_entropy = Spec(
    "softmax_cross_entropy",
    x=Input("N C"),
    t=Input("N", dtype=int, range="0..C-1"),
    loss=Output(""),
    definition="""
        m[n]      = stop_gradient(max[c](x[n,c]))
        z[n,c]    = x[n,c] - m[n]
        logp[n,c] = z[n,c] - log(sum[j](exp(z[n,j])))
        loss      = -mean[n](logp[n,t[n]])
    """,
)


@softmax_cross_entropy.register
def numpy_softmax_cross_entropy(x, t):
    N = x.shape[0]
    rows = np.arange(N)
    z = x - x.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    loss = -logp[rows, t].mean()

    def pullback(dloss):
        dx = np.exp(logp)
        dx[rows, t] -= 1
        dx *= dloss / N
        return {"x": dx}

    return loss, pullback
