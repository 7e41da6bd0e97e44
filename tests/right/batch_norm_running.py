"""Right ways of writing batch norm with running statistics."""

from functools import partial

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


def _running(train, momentum, N, running, batch):
    """Return the next running mean and variance from the batch's, in training only."""
    if not train:
        return tuple(v.copy() for v in running)
    (mean, var), (batch_mean, batch_var) = running, batch
    return (
        mean + momentum * (batch_mean - mean),
        var * (1 - momentum) + batch_var * (momentum * N / (N - 1)),
    )


@batch_norm_running.register
def running_einsum_and_where(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
    """Both ways in one formula: the terms through the batch count in training only."""
    N = len(x)
    through = x.dtype.type(train)
    batch_mean = np.einsum("nc->c", x) / N
    xc = x - batch_mean
    batch_var = np.einsum("nc,nc->c", xc, xc) / N
    mean, var = np.where(train, batch_mean, running_mean), np.where(train, batch_var, running_var)
    rstd = (var + eps) ** -0.5
    xhat = np.einsum("nc,c->nc", x - mean, rstd)
    new = _running(train, momentum, N, (running_mean, running_var), (batch_mean, batch_var))

    def pullback(dy):
        dgamma, dbeta = np.einsum("nc,nc->c", dy, xhat), np.einsum("nc->c", dy)
        dx = gamma * rstd * (dy - through * (dbeta + xhat * dgamma) / N)
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return (gamma * xhat + beta, *new), pullback


@batch_norm_running.register
def running_channel_by_channel(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
    N, C = x.shape
    y, xhat, sigma = np.empty_like(x), np.empty_like(x), np.empty_like(gamma)
    new_mean, new_var = running_mean.copy(), running_var.copy()
    for c in range(C):
        mean, var = running_mean[c], running_var[c]
        if train:
            mean = x[:, c].mean()
            squares = np.dot(x[:, c] - mean, x[:, c] - mean)
            var = squares / N
            new_mean[c] += momentum * (mean - new_mean[c])
            new_var[c] += momentum * (squares / (N - 1) - new_var[c])
        sigma[c] = np.sqrt(var + eps)
        xhat[:, c] = (x[:, c] - mean) / sigma[c]
        y[:, c] = xhat[:, c] * gamma[c] + beta[c]

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.empty_like(gamma), np.empty_like(beta)
        for c in range(C):
            g, h = dy[:, c], xhat[:, c]
            dgamma[c], dbeta[c] = g @ h, g.sum()
            inner = g - g.mean() - h * (g @ h) / N if train else g
            dx[:, c] = inner * gamma[c] / sigma[c]
        return dx, dgamma, dbeta

    return (y, new_mean, new_var), pullback


class BatchNorm:
    """Two modes as two methods, each with its own backward; the statistics are not kept here."""

    def __call__(self, x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
        if train:
            return self.by_batch(x, gamma, beta, running_mean, running_var, momentum, eps)
        rstd = 1 / np.sqrt(running_var + eps)

        def pullback(dy):
            return dy * (gamma * rstd), (dy * ((x - running_mean) * rstd)).sum(0), dy.sum(0)

        y = gamma * ((x - running_mean) * rstd) + beta
        return (y, running_mean.copy(), running_var.copy()), pullback

    def by_batch(self, x, gamma, beta, running_mean, running_var, momentum, eps):
        N = len(x)
        mean = np.add.reduce(x) / N
        xc = np.subtract(x, mean)
        var = np.add.reduce(np.square(xc)) / N
        rstd = np.reciprocal(np.sqrt(var + eps))
        xc *= rstd
        new = _running(True, momentum, N, (running_mean, running_var), (mean, var))
        return (xc * gamma + beta, *new), partial(self.backward, xc, rstd, gamma)

    @staticmethod
    def backward(xhat, rstd, gamma, dy):
        dxhat = dy * gamma
        dx = dxhat - dxhat.mean(axis=0)
        dx -= xhat * np.mean(dxhat * xhat, axis=0)
        dx *= rstd
        return {"x": dx, "gamma": np.add.reduce(dy * xhat), "beta": np.add.reduce(dy)}


batch_norm_running.register(name="running_two_modes")(BatchNorm())
