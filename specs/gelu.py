"""The Gaussian error linear unit, tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415, sec. 2)."""

import math

import numpy as np

from gradverify import Input, Output, Spec

gelu = Spec(
    "gelu",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        t[n,c] = tanh(sqrt(2/pi)*(x[n,c] + 0.044715*x[n,c]**3))
        y[n,c] = 0.5*x[n,c]*(1 + t[n,c])
    """,
)


@gelu.register
def numpy_gelu(x):
    scale = math.sqrt(2 / math.pi)
    cubic = 0.044715 * x * x
    t = np.tanh(scale * x * (1 + cubic))
    y = 0.5 * x * (1 + t)

    def pullback(dy):
        dt_dx = (1 - t * t) * scale * (1 + 3 * cubic)
        return {"x": 0.5 * dy * (1 + t + x * dt_dx)}

    return y, pullback
