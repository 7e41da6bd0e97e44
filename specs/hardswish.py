"""Hard swish, x relu6(x + 3)/6 (Howard et al. 2019, arXiv:1905.02244, section 5.2)."""

import numpy as np

from gradverify import Input, Output, Spec

hardswish = Spec(
    "hardswish",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        y[n,c] = x[n,c]*min(max(x[n,c] + 3, 0), 6) / 6
    """,
)


@hardswish.register
def numpy_hardswish(x):
    gate = np.clip(x + 3, 0, 6) / 6
    y = x * gate

    def pullback(dy):
        return {"x": dy * (gate + x / 6 * (np.abs(x) < 3))}

    return y, pullback
