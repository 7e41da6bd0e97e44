"""Right ways of writing the divergence of log-probabilities from probabilities, 0 log 0 being 0."""

import math
from functools import partial

import numpy as np
from scipy.special import rel_entr, xlogy

from gradverify import catalog

kl_divergence = catalog("kl_divergence")


@kl_divergence.register
def kl_where(x, t):
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(t > 0, t * (np.log(t) - x), 0)
    return terms.sum() / len(x), lambda dloss: {"x": np.where(t > 0, -t * dloss / len(x), 0)}


@kl_divergence.register(dtypes=("float64", "float32"))
def kl_entropy_and_cross_entropy(x, t):
    N = x.shape[0]
    entropy, cross = -xlogy(t, t).sum(axis=1), -np.einsum("nc,nc->n", t, x)
    return np.mean(cross - entropy), lambda dloss: (np.multiply(t, -dloss / N), None)


@kl_divergence.register
def kl_masked(x, t):
    some = t > 0
    p, logq = t[some], x[some]

    def pullback(dloss):
        dx = np.zeros_like(x)
        dx[some] = -p * (dloss / len(x))
        return dx

    return (p * (np.log(p) - logq)).sum() / len(x), pullback


@kl_divergence.register
def kl_scalar_loops(x, t):
    total, N = 0.0, len(x)
    for row, target in zip(x.tolist(), t.tolist(), strict=True):
        total += sum(p * (math.log(p) - q) for q, p in zip(row, target, strict=True) if p > 0)

    def pullback(dloss):
        dx = np.empty_like(x)
        for index in np.ndindex(x.shape):
            dx[index] = -float(dloss) * float(t[index]) / N
        return {"x": dx, "t": None}

    return np.array(total / N, x.dtype), pullback


@kl_divergence.register
def kl_log_with_out(x, t):
    log_t = np.log(t, out=np.zeros_like(t), where=t != 0)

    def back(weights, dloss):
        dx = weights.copy()
        dx *= -dloss
        dx /= len(dx)
        return (dx,)

    return np.tensordot(t, log_t - x, axes=2) / x.dtype.type(len(x)), partial(back, t.copy())


@kl_divergence.register
def kl_staged_in_float64(x, t):
    p, logq = t.astype(np.float64), x.astype(np.float64)
    gap = np.log(np.maximum(p, np.finfo(np.float64).tiny)) - logq
    rows = (p * gap).sum(axis=1)

    def pullback(dloss):
        drows = np.full(len(rows), float(dloss) / len(rows))
        dgap = drows[:, None] * p
        return {"x": (-dgap).astype(x.dtype)}

    return rows.mean().astype(x.dtype), pullback


@kl_divergence.register(dtypes=("float64", "float32"))
def kl_relative_entropy_of_one(x, t):
    """The entropy relative to 1 is t log t: no logarithm of x is undone by an exponential."""
    loss = (rel_entr(t, np.ones_like(t)).sum() - np.vdot(t, x)) / len(t)
    return loss, lambda dloss: -np.outer(np.ones_like(t[:, 0]) / len(t), [dloss]) * t
