"""Group normalization of images, G groups of K channels each (Wu & He 2018, arXiv:1803.08494)."""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

group_norm = Spec(
    "group_norm",
    x=Input("N G*K H W"),
    gamma=Param("G*K", init="ones"),
    beta=Param("G*K", init="zeros"),
    G=Constant(1, 2, 3),
    eps=Constant(1e-5, 1e-2),
    y=Output("N G*K H W"),
    where=["K*H*W >= 2"],
    ranges={"g": "G", "k": "K"},
    definition="""
        mu[n,g]           = mean[k,h,w](x[n,g*K+k,h,w])
        var[n,g]          = mean[k,h,w]((x[n,g*K+k,h,w] - mu[n,g])**2)
        sigma[n,g]        = sqrt(var[n,g] + eps)
        xhat[n,g*K+k,h,w] = (x[n,g*K+k,h,w] - mu[n,g]) / sigma[n,g]
        y[n,c,h,w]        = gamma[c]*xhat[n,c,h,w] + beta[c]
    """,
)


@group_norm.register
def numpy_group_norm(x, gamma, beta, *, G, eps):
    N, C, H, W = x.shape
    xc = x.reshape(N, G, C // G * H * W)
    xc = xc - xc.mean(axis=2, keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=2, keepdims=True) + eps)
    xhat = xc / sigma
    gamma = gamma.reshape(C, 1, 1)
    y = gamma * xhat.reshape(x.shape) + beta.reshape(C, 1, 1)

    def pullback(dy):
        dxhat = (gamma * dy).reshape(xhat.shape)
        mean_dxhat = dxhat.mean(axis=2, keepdims=True)
        mean_dxhat_xhat = (dxhat * xhat).mean(axis=2, keepdims=True)
        dx = (dxhat - mean_dxhat - xhat * mean_dxhat_xhat) / sigma
        dgamma = (dy * xhat.reshape(x.shape)).sum(axis=(0, 2, 3))
        return {"x": dx.reshape(x.shape), "gamma": dgamma, "beta": dy.sum(axis=(0, 2, 3))}

    return y, pullback
