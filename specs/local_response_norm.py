"""Response normalization over K channels (Krizhevsky et al. 2012, NeurIPS 25, section 3.3)."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import Constant, Input, Output, Spec

local_response_norm = Spec(
    "local_response_norm",
    x=Input("N C H W", outside=0),
    K=Constant(3, 5),
    alpha=Constant(1e-4, 0.5),
    beta=Constant(0.75, 0.5),
    bias=Constant(2.0, 1.0),
    y=Output("N C H W"),
    ranges={"j": "K"},
    definition="""
        s[n,c,h,w] = bias + alpha*sum[j](x[n,c+j-K//2,h,w]**2)
        y[n,c,h,w] = x[n,c,h,w] / s[n,c,h,w]**beta
    """,
)


@local_response_norm.register
def numpy_local_response_norm(x, *, K, alpha, beta, bias):
    def over_channels(v):
        """Return the sums of v [N C H W] over K channels around each one."""
        padded = np.pad(v, ((0, 0), (K // 2, K // 2), (0, 0), (0, 0)))
        return sliding_window_view(padded, K, axis=1).sum(axis=-1)

    s = bias + alpha * over_channels(x * x)
    power = s**-beta
    y = x * power

    def pullback(dy):
        return {"x": dy * power - 2 * alpha * beta * x * over_channels(dy * y / s)}

    return y, pullback
