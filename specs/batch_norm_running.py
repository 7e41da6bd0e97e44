"""Batch normalization with running statistics (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm
2): in training by the batch, whose unbiased variance goes into the running one; else by the
running statistics, which stay as they are."""

import numpy as np

from gradverify import Buffer, Constant, Input, Output, Param, Spec

batch_norm_running = Spec(
    "batch_norm_running",
    x=Input("N C"),
    gamma=Param("C", init="ones"),
    beta=Param("C", init="zeros"),
    running_mean=Buffer("C", update="new_mean", init="zeros"),
    running_var=Buffer("C", update="new_var", init="ones", range="0.1..3"),
    train=Constant(True, False),
    momentum=Constant(0.1, 0.4),
    eps=Constant(1e-5, 1e-2),
    y=Output("N C"),
    new_mean=Output("C"),
    new_var=Output("C"),
    where=["N >= 2"],
    definition="""
        mu[c]       = mean[n](x[n,c])
        var[c]      = mean[n]((x[n,c] - mu[c])**2)
        m[c]        = where(train, mu[c], running_mean[c])
        sigma[c]    = sqrt(where(train, var[c], running_var[c]) + eps)
        xhat[n,c]   = (x[n,c] - m[c]) / sigma[c]
        y[n,c]      = gamma[c]*xhat[n,c] + beta[c]
        mixed[c]    = (1 - momentum)*running_mean[c] + momentum*mu[c]
        spread[c]   = (1 - momentum)*running_var[c] + momentum*var[c]*N/(N - 1)
        new_mean[c] = where(train, mixed[c], running_mean[c])
        new_var[c]  = where(train, spread[c], running_var[c])
    """,
)


@batch_norm_running.register
def numpy_batch_norm_running(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
    N = x.shape[0]
    if train:
        mean, var = x.mean(axis=0), x.var(axis=0)
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * (N / (N - 1)) * var
    else:
        mean, var = running_mean, running_var
        new_mean, new_var = mean.copy(), var.copy()
    sigma = np.sqrt(var + eps)
    xhat = (x - mean) / sigma
    y = gamma * xhat + beta

    def pullback(dy):
        dgamma = (dy * xhat).sum(axis=0)
        dbeta = dy.sum(axis=0)
        dx = gamma / sigma * dy
        if train:
            dx -= gamma / sigma * (dbeta + xhat * dgamma) / N
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return (y, new_mean, new_var), pullback
