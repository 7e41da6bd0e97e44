"""Rotary position embedding of interleaved pairs (Su et al. 2021, arXiv:2104.09864, eq. 34).

Features 2*d and 2*d+1 at position t are a point in the plane, turned by t*base**(-d/D).
"""

import numpy as np

from gradverify import Constant, Input, Output, Spec

rotary_embedding = Spec(
    "rotary_embedding",
    x=Input("B T 2*D"),
    base=Constant(10000.0, 10.0),
    y=Output("B T 2*D"),
    ranges={"d": "D"},
    definition="""
        angle[t,d]     = t*base**(-d/D)
        y[b,t,2*d]     = x[b,t,2*d]*cos(angle[t,d]) - x[b,t,2*d+1]*sin(angle[t,d])
        y[b,t,2*d + 1] = x[b,t,2*d]*sin(angle[t,d]) + x[b,t,2*d+1]*cos(angle[t,d])
    """,
)


@rotary_embedding.register
def numpy_rotary_embedding(x, *, base):
    T, D = x.shape[1], x.shape[2] // 2
    angle = np.outer(np.arange(T), base ** (-np.arange(D) / D))
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)

    def turned(x, sin):
        y = np.empty_like(x)
        even, odd = x[:, :, 0::2], x[:, :, 1::2]
        y[:, :, 0::2] = even * cos - odd * sin
        y[:, :, 1::2] = even * sin + odd * cos
        return y

    def pullback(dy):
        return {"x": turned(dy, -sin)}

    return turned(x, sin), pullback
