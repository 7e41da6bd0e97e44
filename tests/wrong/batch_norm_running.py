"""Wrong batch norms with running statistics: in what they remember, and in the mode they are in."""

import numpy as np

from gradverify import catalog

batch_norm_running = catalog("batch_norm_running")


def normalized(x, gamma, beta, mean, var, eps, train):
    """Return y and its pullback; in training the mean and the variance are those of x."""
    sigma = np.sqrt(var + eps)
    xhat = (x - mean) / sigma

    def pullback(dy):
        dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
        dx = dy - (dbeta + xhat * dgamma) / len(x) if train else dy
        return {"x": gamma / sigma * dx, "gamma": dgamma, "beta": dbeta}

    return gamma * xhat + beta, pullback


def stepped(x, mean, var, momentum, unbiased=True):
    """Return the next running mean and variance."""
    batch = x.var(axis=0) * (len(x) / (len(x) - 1) if unbiased else 1)
    kept = 1 - momentum
    return kept * mean + momentum * x.mean(axis=0), kept * var + momentum * batch


@batch_norm_running.register
def new_var_of_the_biased_variance(
    x, gamma, beta, running_mean, running_var, *, train, momentum, eps
):
    mean, var = (x.mean(axis=0), x.var(axis=0)) if train else (running_mean, running_var)
    y, pullback = normalized(x, gamma, beta, mean, var, eps, train)
    new = running_mean.copy(), running_var.copy()
    if train:
        new = stepped(x, running_mean, running_var, momentum, unbiased=False)
    return (y, *new), pullback


@batch_norm_running.register
def new_mean_updated_in_evaluation_too(
    x, gamma, beta, running_mean, running_var, *, train, momentum, eps
):
    mean, var = (x.mean(axis=0), x.var(axis=0)) if train else (running_mean, running_var)
    y, pullback = normalized(x, gamma, beta, mean, var, eps, train)
    return (y, *stepped(x, running_mean, running_var, momentum)), pullback


@batch_norm_running.register
def dx_in_evaluation_by_the_formula_of_training(
    x, gamma, beta, running_mean, running_var, *, train, momentum, eps
):
    mean, var = (x.mean(axis=0), x.var(axis=0)) if train else (running_mean, running_var)
    y, pullback = normalized(x, gamma, beta, mean, var, eps, train=True)
    new = running_mean.copy(), running_var.copy()
    return (y, *(stepped(x, running_mean, running_var, momentum) if train else new)), pullback


@batch_norm_running.register
def running_mean_changed_in_place(
    x, gamma, beta, running_mean, running_var, *, train, momentum, eps
):
    mean, var = (x.mean(axis=0), x.var(axis=0)) if train else (running_mean, running_var)
    y, pullback = normalized(x, gamma, beta, mean.copy(), var, eps, train)
    new_mean, new_var = running_mean.copy(), running_var.copy()
    if train:
        new_mean, new_var = stepped(x, running_mean, running_var, momentum)
        if running_mean.flags.writeable:
            running_mean[...] = new_mean
    return (y, new_mean, new_var), pullback
