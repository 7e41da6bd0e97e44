"""A linear layer in front of batch norm (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2).

Batch norm subtracts the mean, and with it the bias b: b is redundant, beta does its job.
"""

import numpy as np

from gradverify import Constant, Input, Output, Param, Spec

linear_batch_norm = Spec(
    "linear_batch_norm",
    x=Input("N D"),
    w=Param("C D"),
    b=Param("C", init="zeros"),
    gamma=Param("C", init="ones"),
    beta=Param("C", init="zeros"),
    eps=Constant(1e-5, 1e-2),
    y=Output("N C"),
    where=["N >= 2"],
    definition="""
        a[n,c]    = sum[d](x[n,d]*w[c,d]) + b[c]
        mu[c]     = mean[n](a[n,c])
        var[c]    = mean[n]((a[n,c] - mu[c])**2)
        sigma[c]  = sqrt(var[c] + eps)
        ahat[n,c] = (a[n,c] - mu[c]) / sigma[c]
        y[n,c]    = gamma[c]*ahat[n,c] + beta[c]
    """,
)


@linear_batch_norm.register
def numpy_linear_batch_norm(x, w, b, gamma, beta, *, eps):
    N = x.shape[0]
    a = x @ w.T + b
    ac = a - a.mean(axis=0)
    sigma = np.sqrt((ac * ac).mean(axis=0) + eps)
    ahat = ac / sigma
    y = gamma * ahat + beta

    def pullback(dy):
        dgamma = (dy * ahat).sum(axis=0)
        dbeta = dy.sum(axis=0)
        da = gamma / sigma * (dy - dbeta / N - ahat * (dgamma / N))
        return {
            "x": da @ w,
            "w": da.T @ x,
            "b": da.sum(axis=0),
            "gamma": dgamma,
            "beta": dbeta,
        }

    return y, pullback
