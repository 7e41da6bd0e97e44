"""The leaky rectifier, a fixed slope below zero (Maas, Hannun & Ng 2013, ICML)."""

import numpy as np

from gradverify import Constant, Input, Output, Spec

leaky_relu = Spec(
    "leaky_relu",
    x=Input("N C"),
    slope=Constant(0.01, 0.3),
    y=Output("N C"),
    definition="""
        y[n,c] = max(x[n,c], 0) + slope*min(x[n,c], 0)
    """,
)


@leaky_relu.register
def numpy_leaky_relu(x, *, slope):
    y = np.where(x > 0, x, slope * x)

    def pullback(dy):
        return {"x": np.where(x > 0, dy, slope * dy)}

    return y, pullback
