"""Batch normalization of a batch of vectors (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3)."""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

batch_norm = Spec(
    "batch_norm",
    x=Input("N C"),
    gamma=Param("C", init="ones"),
    beta=Param("C", init="zeros"),
    eps=Constant(1e-5, 1e-2),
    y=Output("N C"),
    where=["N >= 2"],
    definition="""
        mu[c]     = mean[n](x[n,c])
        var[c]    = mean[n]((x[n,c] - mu[c])**2)
        sigma[c]  = sqrt(var[c] + eps)
        xhat[n,c] = (x[n,c] - mu[c]) / sigma[c]
        y[n,c]    = gamma[c]*xhat[n,c] + beta[c]
    """,
    # The six equations at the end of section 3 of the paper.
    gradients="""
        dxhat[n,c] = dy[n,c]*gamma[c]
        dvar[c]    = sum[n](dxhat[n,c]*(x[n,c] - mu[c])*(-1/2)*(var[c] + eps)**-1.5)
        dmu[c]     = sum[n](dxhat[n,c]*(-1/sqrt(var[c] + eps)))
                     + dvar[c]*sum[n](-2*(x[n,c] - mu[c]))/N
        dx[n,c]    = dxhat[n,c]/sqrt(var[c] + eps) + dvar[c]*2*(x[n,c] - mu[c])/N + dmu[c]/N
        dgamma[c]  = sum[n](dy[n,c]*xhat[n,c])
        dbeta[c]   = sum[n](dy[n,c])
    """,
)


@batch_norm.register
def numpy_batch_norm(x, gamma, beta, *, eps):
    N = x.shape[0]
    xc = x - x.mean(axis=0)
    sigma = np.sqrt((xc * xc).mean(axis=0) + eps)
    xhat = xc / sigma
    y = gamma * xhat + beta

    def pullback(dy):
        dgamma = (dy * xhat).sum(axis=0)
        dbeta = dy.sum(axis=0)
        dx = gamma / sigma * (dy - dbeta / N - xhat * (dgamma / N))
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return y, pullback
