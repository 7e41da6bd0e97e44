"""Layer normalization of each vector of a batch (Ba, Kiros & Hinton 2016, arXiv:1607.06450)."""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

layer_norm = Spec(
    "layer_norm",
    x=Input("N D"),
    gamma=Param("D", init="ones"),
    beta=Param("D", init="zeros"),
    eps=Constant(1e-5, 1e-2),
    y=Output("N D"),
    where=["D >= 2"],
    definition="""
        mu[n]     = mean[d](x[n,d])
        var[n]    = mean[d]((x[n,d] - mu[n])**2)
        sigma[n]  = sqrt(var[n] + eps)
        xhat[n,d] = (x[n,d] - mu[n]) / sigma[n]
        y[n,d]    = gamma[d]*xhat[n,d] + beta[d]
    """,
)


@layer_norm.register
def numpy_layer_norm(x, gamma, beta, *, eps):
    xc = x - x.mean(axis=1, keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=1, keepdims=True) + eps)
    xhat = xc / sigma
    y = gamma * xhat + beta

    def pullback(dy):
        dxhat = gamma * dy
        mean_dxhat = dxhat.mean(axis=1, keepdims=True)
        mean_dxhat_xhat = (dxhat * xhat).mean(axis=1, keepdims=True)
        dx = (dxhat - mean_dxhat - xhat * mean_dxhat_xhat) / sigma
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return y, pullback
