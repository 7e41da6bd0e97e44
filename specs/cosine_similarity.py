"""The cosine of the angle between vectors x and z (Salton, Wong & Yang 1975, CACM 18).

A vector shorter than eps is divided by eps instead of its length.
"""

import numpy as np

from gradverify import Constant, Input, Output, Spec

cosine_similarity = Spec(
    "cosine_similarity",
    x=Input("N D"),
    z=Input("N D"),
    eps=Constant(1e-8, 0.5),
    y=Output("N"),
    definition="""
        a[n] = max(sqrt(sum[d](x[n,d]**2)), eps)
        b[n] = max(sqrt(sum[d](z[n,d]**2)), eps)
        y[n] = sum[d](x[n,d]*z[n,d]) / (a[n]*b[n])
    """,
)


@cosine_similarity.register
def numpy_cosine_similarity(x, z, *, eps):
    xhat, back_to_x = _normalize(x, eps)
    zhat, back_to_z = _normalize(z, eps)
    y = (xhat * zhat).sum(axis=1)

    def pullback(dy):
        return {"x": back_to_x(dy[:, None] * zhat), "z": back_to_z(dy[:, None] * xhat)}

    return y, pullback


def _normalize(x, eps):
    """Return the vectors of x [N D] at length 1 and the pullback of that."""
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    norm = np.maximum(length, eps)
    xhat = x / norm

    def back(dxhat):
        along = np.where(length > eps, (dxhat * xhat).sum(axis=1, keepdims=True), 0)
        return (dxhat - along * xhat) / norm

    return xhat, back
