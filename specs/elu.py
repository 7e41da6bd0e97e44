"""The exponential linear unit (Clevert, Unterthiner & Hochreiter 2015, arXiv:1511.07289)."""

import numpy as np

from gradverify import Constant, Input, Output, Spec

elu = Spec(
    "elu",
    x=Input("N C"),
    alpha=Constant(1.0, 0.3),
    y=Output("N C"),
    definition="""
        y[n,c] = where(x[n,c] > 0, x[n,c], alpha*expm1(x[n,c]))
    """,
)


@elu.register
def numpy_elu(x, *, alpha):
    below = np.minimum(x, 0)  # exp of a large x would overflow, selected or not
    y = np.where(x > 0, x, alpha * np.expm1(below))

    def pullback(dy):
        return {"x": dy * np.where(x > 0, 1, alpha * np.exp(below))}

    return y, pullback
