"""The mean Huber loss, linear beyond delta (Huber 1964, Ann. Math. Stat. 35)."""

import numpy as np

from gradverify import Constant, Input, Output, Spec

huber = Spec(
    "huber",
    x=Input("N C"),
    t=Input("N C", differentiable=False),
    delta=Constant(1.0, 0.3),
    loss=Output(""),
    definition="""
        e[n,c] = x[n,c] - t[n,c]
        l[n,c] = where(abs(e[n,c]) <= delta, e[n,c]**2/2, delta*(abs(e[n,c]) - delta/2))
        loss   = mean[n,c](l[n,c])
    """,
)


@huber.register
def numpy_huber(x, t, *, delta):
    error = x - t
    clipped = np.clip(error, -delta, delta)
    loss = (clipped * (error - clipped / 2)).mean()

    def pullback(dloss):
        return {"x": dloss / error.size * clipped}

    return loss, pullback
