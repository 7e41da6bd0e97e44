"""The hyperbolic tangent (LeCun et al. 1998, Efficient BackProp, LNCS 1524, section 4.4)."""

import numpy as np

from gradverify import Input, Output, Spec

tanh = Spec(
    "tanh",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        y[n,c] = tanh(x[n,c])
    """,
)


@tanh.register
def numpy_tanh(x):
    y = np.tanh(x)

    def pullback(dy):
        return {"x": dy * (1 - y * y)}

    return y, pullback
