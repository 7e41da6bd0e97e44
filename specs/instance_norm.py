"""Instance normalization of images (Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022)."""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

instance_norm = Spec(
    "instance_norm",
    x=Input("N C H W"),
    gamma=Param("C", init="ones"),
    beta=Param("C", init="zeros"),
    eps=Constant(1e-5, 1e-2),
    y=Output("N C H W"),
    where=["H*W >= 2"],
    definition="""
        mu[n,c]       = mean[h,w](x[n,c,h,w])
        var[n,c]      = mean[h,w]((x[n,c,h,w] - mu[n,c])**2)
        sigma[n,c]    = sqrt(var[n,c] + eps)
        xhat[n,c,h,w] = (x[n,c,h,w] - mu[n,c]) / sigma[n,c]
        y[n,c,h,w]    = gamma[c]*xhat[n,c,h,w] + beta[c]
    """,
)


@instance_norm.register
def numpy_instance_norm(x, gamma, beta, *, eps):
    M = x.shape[2] * x.shape[3]
    xc = x - x.mean(axis=(2, 3), keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=(2, 3), keepdims=True) + eps)
    xhat = xc / sigma
    gamma = gamma[:, None, None]
    y = gamma * xhat + beta[:, None, None]

    def pullback(dy):
        along = (dy * xhat).sum(axis=(2, 3), keepdims=True)  # N C 1 1
        total = dy.sum(axis=(2, 3), keepdims=True)
        dx = gamma / sigma * (dy - total / M - xhat * (along / M))
        return {"x": dx, "gamma": along.sum(axis=(0, 2, 3)), "beta": total.sum(axis=(0, 2, 3))}

    return y, pullback
