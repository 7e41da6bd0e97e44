"""Root mean square normalization (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4)."""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

rms_norm = Spec(
    "rms_norm",
    x=Input("N D"),
    gamma=Param("D", init="ones"),
    eps=Constant(1e-5, 1e-2),
    y=Output("N D"),
    where=["D >= 2"],
    definition="""
        rms[n]    = sqrt(mean[d](x[n,d]**2) + eps)
        xhat[n,d] = x[n,d] / rms[n]
        y[n,d]    = gamma[d]*xhat[n,d]
    """,
)


@rms_norm.register
def numpy_rms_norm(x, gamma, *, eps):
    rms = np.sqrt((x * x).mean(axis=1, keepdims=True) + eps)
    xhat = x / rms
    y = gamma * xhat

    def pullback(dy):
        dxhat = gamma * dy
        dx = (dxhat - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)) / rms
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0)}

    return y, pullback
