"""The self-normalizing exponential linear unit (Klambauer et al. 2017, arXiv:1706.02515, eq. 2)."""

import numpy as np

from gradverify import Input, Output, Spec

selu = Spec(
    "selu",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        scale  = 1.0507009873554805
        alpha  = 1.6732632423543772
        y[n,c] = scale*where(x[n,c] > 0, x[n,c], alpha*expm1(x[n,c]))
    """,
)

# With these, mean 0 and variance 1 are a fixed point from layer to layer.
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772


@selu.register
def numpy_selu(x):
    below = np.minimum(x, 0)  # exp of a large x would overflow, selected or not
    y = SCALE * np.where(x > 0, x, ALPHA * np.expm1(below))

    def pullback(dy):
        return {"x": dy * SCALE * np.where(x > 0, 1, ALPHA * np.exp(below))}

    return y, pullback
