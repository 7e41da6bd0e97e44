"""A simple recurrent network over time (Elman 1990, Cognitive Science 14)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

rnn = Spec(
    "rnn",
    x=Input("T N D"),
    h0=Input("N H"),
    wx=Param("H D"),
    wh=Param("H H"),
    b=Param("H", init="zeros"),
    h=Output("T N H"),
    definition="""
        h[-1,n,k] = h0[n,k]
        h[t,n,k]  = tanh(sum[d](x[t,n,d]*wx[k,d]) + sum[m](h[t-1,n,m]*wh[k,m]) + b[k])
    """,
)


@rnn.register
def numpy_rnn(x, h0, wx, wh, b):
    h = x @ wx.T + b
    state = h0
    for t in range(len(x)):
        state = h[t] = np.tanh(h[t] + state @ wh.T)

    def pullback(dh):
        dz = np.empty_like(h)
        dstate = np.zeros_like(h0)  # what comes back from the next step
        for t in reversed(range(len(x))):
            dz[t] = (dh[t] + dstate) * (1 - h[t] ** 2)
            dstate = dz[t] @ wh
        before = np.concatenate([h0[None], h[:-1]])
        return {
            "x": dz @ wx,
            "h0": dstate,
            "wx": np.tensordot(dz, x, axes=((0, 1), (0, 1))),
            "wh": np.tensordot(dz, before, axes=((0, 1), (0, 1))),
            "b": dz.sum(axis=(0, 1)),
        }

    return h, pullback
