"""Batch normalization of images, per channel (Ioffe & Szegedy 2015, arXiv:1502.03167, sec. 3.2)."""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

batch_norm_2d = Spec(
    "batch_norm_2d",
    x=Input("N C H W"),
    gamma=Param("C", init="ones"),
    beta=Param("C", init="zeros"),
    eps=Constant(1e-5, 1e-2),
    y=Output("N C H W"),
    where=["N*H*W >= 2"],
    definition="""
        mu[c]         = mean[n,h,w](x[n,c,h,w])
        var[c]        = mean[n,h,w]((x[n,c,h,w] - mu[c])**2)
        sigma[c]      = sqrt(var[c] + eps)
        xhat[n,c,h,w] = (x[n,c,h,w] - mu[c]) / sigma[c]
        y[n,c,h,w]    = gamma[c]*xhat[n,c,h,w] + beta[c]
    """,
)


@batch_norm_2d.register
def numpy_batch_norm_2d(x, gamma, beta, *, eps):
    N, C, H, W = x.shape
    M = N * H * W
    xc = x - x.mean(axis=(0, 2, 3), keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=(0, 2, 3), keepdims=True) + eps)
    xhat = xc / sigma
    gamma = gamma.reshape(1, C, 1, 1)
    y = gamma * xhat + beta.reshape(1, C, 1, 1)

    def pullback(dy):
        dgamma = (dy * xhat).sum(axis=(0, 2, 3), keepdims=True)
        dbeta = dy.sum(axis=(0, 2, 3), keepdims=True)
        dx = gamma / sigma * (dy - dbeta / M - xhat * (dgamma / M))
        return {"x": dx, "gamma": dgamma.reshape(C), "beta": dbeta.reshape(C)}

    return y, pullback
