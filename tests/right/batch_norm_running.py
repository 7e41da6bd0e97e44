"""Right ways of writing batch norm with running statistics."""

import numpy as np

from gradverify import catalog

batch_norm_running = catalog("batch_norm_running")


@batch_norm_running.register
def step_by_step(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
    N = x.shape[0]
    mean, var = running_mean, running_var
    new = running_mean.copy(), running_var.copy()
    if train:
        mean = x.sum(axis=0) / N
        squares = ((x - mean) ** 2).sum(axis=0)
        var = squares / N
        new = (
            running_mean + momentum * (mean - running_mean),
            running_var + momentum * (squares / (N - 1) - running_var),
        )
    sigma = np.sqrt(var + eps)
    xc = x - mean
    xhat = xc / sigma

    def pullback(dy):
        dxhat = dy * gamma
        dx = dxhat / sigma
        if train:
            dsigma = -(dxhat * xc).sum(axis=0) / (sigma * sigma)
            dxc = dx + 2 * xc * (0.5 * dsigma / sigma) / N
            dx = dxc - dxc.sum(axis=0) / N
        return dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)

    return (gamma * xhat + beta, *new), pullback


@batch_norm_running.register
def folded_into_scale_and_shift(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
    N = len(x)
    mean, var = (x.mean(axis=0), x.var(axis=0)) if train else (running_mean, running_var)
    rate = momentum if train else 0.0
    new_mean = (1 - rate) * running_mean + rate * mean
    new_var = (1 - rate) * running_var + rate * var * (N / (N - 1))
    scale = gamma / np.sqrt(var + eps)
    shift = beta - scale * mean

    def pullback(dy):
        rstd = 1 / np.sqrt(var + eps)
        dbeta = dy.sum(axis=0)
        dgamma = rstd * ((dy * x).sum(axis=0) - mean * dbeta)
        dx = scale * dy
        if train:
            dx = scale / N * (N * dy - dbeta - (x - mean) * rstd * dgamma)
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return (x * scale + shift, new_mean, new_var), pullback


@batch_norm_running.register
def by_the_unbiased_variance(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
    N = len(x)
    if not train:
        rstd = (running_var + eps) ** -0.5
        xhat = (x - running_mean) * rstd
        new = np.array(running_mean), np.array(running_var)
    else:
        unbiased = x.var(axis=0, ddof=1)
        rstd = (unbiased * ((N - 1) / N) + eps) ** -0.5
        xhat = (x - x.mean(axis=0)) * rstd
        new = (
            momentum * x.mean(axis=0) + (1 - momentum) * running_mean,
            momentum * unbiased + (1 - momentum) * running_var,
        )

    def pullback(dy):
        dxhat = dy * gamma
        dx = dxhat
        if train:
            dx = dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)
        grads = {"x": dx * rstd, "gamma": np.einsum("nc,nc->c", dy, xhat), "beta": dy.sum(axis=0)}
        return grads | {"running_mean": None, "running_var": None}

    return (xhat * gamma + beta, *new), pullback
