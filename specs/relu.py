"""The rectified linear unit, max(x, 0) (Nair & Hinton 2010, ICML)."""

import numpy as np

from gradverify import Input, Output, Spec

relu = Spec(
    "relu",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        y[n,c] = max(x[n,c], 0)
    """,
)


@relu.register
def numpy_relu(x):
    y = np.maximum(x, 0)

    def pullback(dy):
        return {"x": dy * (x > 0)}

    return y, pullback
