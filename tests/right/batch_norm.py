"""Right ways of writing batch norm; those that overflow or cancel in half precision say so."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

batch_norm = catalog("batch_norm")


# The gradient of the variance itself overflows in half precision.
@batch_norm.register(dtypes=("float64", "float32"))
def step_by_step(x, gamma, beta, *, eps):
    N = x.shape[0]
    mu = x.sum(axis=0) / N
    xc = x - mu
    var = (xc**2).sum(axis=0) / N
    sigma = np.sqrt(var + eps)
    xhat = xc / sigma
    y = gamma * xhat + beta

    def pullback(dy):
        dxhat = dy * gamma
        dvar = (dxhat * xc).sum(axis=0) * -0.5 * (var + eps) ** -1.5
        dmu = -(dxhat / sigma).sum(axis=0) - 2 * dvar * xc.sum(axis=0) / N
        dx = dxhat / sigma + dvar * 2 * xc / N + dmu / N
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return y, pullback


@batch_norm.register
def closed_form(x, gamma, beta, *, eps):
    N = len(x)
    sigma = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - x.mean(axis=0)) / sigma

    def pullback(dy):
        dgamma, dbeta = np.sum(dy * xhat, axis=0), np.sum(dy, axis=0)
        dx = gamma * (N * dy - dbeta - xhat * dgamma) / (N * sigma)
        return dx, dgamma, dbeta

    return gamma * xhat + beta, pullback


@batch_norm.register(dtypes=("float64", "float32"))
def folded(x, gamma, beta, *, eps):
    N = x.shape[0]
    mu = x.mean(axis=0)
    rstd = 1 / np.sqrt(((x - mu) ** 2).mean(axis=0) + eps)
    a = gamma * rstd
    y = a * x + (beta - a * mu)

    def pullback(dy):
        dbeta = dy.sum(axis=0)
        dgamma = ((dy * x).sum(axis=0) - mu * dbeta) * rstd
        b = -a * rstd * dgamma / N
        c = -a * dbeta / N - b * mu
        return {"x": a * dy + b * x + c, "gamma": dgamma, "beta": dbeta}

    return y, pullback


@batch_norm.register
def einsum(x, gamma, beta, *, eps):
    N = x.shape[0]
    xc = x - np.einsum("nc->c", x) / N
    rstd = (np.einsum("nc,nc->c", xc, xc) / N + eps) ** -0.5
    xhat = np.einsum("nc,c->nc", xc, rstd)
    y = np.einsum("c,nc->nc", gamma, xhat) + beta

    def pullback(dy):
        dgamma = np.einsum("nc,nc->c", dy, xhat)
        dbeta = np.einsum("nc->c", dy)
        inner = dy - (dbeta + np.einsum("c,nc->nc", dgamma, xhat)) / N
        return {
            "x": np.einsum("c,c,nc->nc", gamma, rstd, inner),
            "gamma": dgamma,
            "beta": dbeta,
        }

    return y, pullback


@batch_norm.register(dtypes=("float64", "float32"))
def one_pass(x, gamma, beta, *, eps):
    N = x.shape[0]
    mu = x.sum(axis=0) / N
    var = np.maximum((x * x).sum(axis=0) / N - mu * mu, 0)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mu) * rstd

    def pullback(dy):
        dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
        dx = gamma * rstd * (dy - (dbeta + xhat * dgamma) / N)
        return dx, dgamma, dbeta

    return xhat * gamma + beta, pullback


@batch_norm.register
def in_float64(x, gamma, beta, *, eps):
    wide = x.astype(np.float64)
    xc = wide - wide.mean(axis=0)
    rstd = 1 / np.sqrt((xc**2).mean(axis=0) + eps)
    xhat = xc * rstd
    y = (gamma * xhat + beta).astype(x.dtype)

    def pullback(dy):
        dxhat = dy.astype(np.float64) * gamma
        dx = rstd * (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0))
        grads = dx, (dy * xhat).sum(axis=0), dy.sum(axis=0, dtype=np.float64)
        return tuple(g.astype(x.dtype) for g in grads)

    return y, pullback


@batch_norm.register
def shifted_one_pass(x, gamma, beta, *, eps):
    shifted = x - x[0]
    mu = shifted.mean(axis=0)
    sigma = np.sqrt((shifted * shifted).mean(axis=0) - mu * mu + eps)
    xhat = (shifted - mu) / sigma

    def pullback(dy):
        g = dy * gamma
        dx = (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / sigma
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return xhat * gamma + beta, pullback


@batch_norm.register
def welford_loop(x, gamma, beta, *, eps):
    N = len(x)
    mean, m2 = np.zeros_like(gamma), np.zeros_like(gamma)
    for n in range(N):
        delta = x[n] - mean
        mean = mean + delta / (n + 1)
        m2 = m2 + delta * (x[n] - mean)
    sigma = np.sqrt(m2 / N + eps)
    y = np.empty_like(x)
    for n in range(N):
        y[n] = gamma * ((x[n] - mean) / sigma) + beta

    def pullback(dy):
        dgamma, dbeta, dx = np.zeros_like(gamma), np.zeros_like(gamma), np.empty_like(x)
        for n in range(N):
            dgamma += dy[n] * ((x[n] - mean) / sigma)
            dbeta += dy[n]
        for n in range(N):
            xhat = (x[n] - mean) / sigma
            dx[n] = gamma / sigma * (dy[n] - dbeta / N - xhat * dgamma / N)
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return y, pullback


@batch_norm.register
def centering_matrix(x, gamma, beta, *, eps):
    N = x.shape[0]
    center = np.eye(N, dtype=x.dtype) - np.full((N, N), 1 / N, dtype=x.dtype)
    xc = center @ x
    sigma = np.sqrt(np.mean(xc**2, axis=0) + eps)
    xhat = xc / sigma

    def pullback(dy):
        g = gamma * dy
        dx = (center @ g - xhat * (g * xhat).mean(axis=0)) / sigma
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": np.ones_like(dy[:, 0]) @ dy}

    return gamma * xhat + beta, pullback


@batch_norm.register
def jacobian_per_channel(x, gamma, beta, *, eps):
    N, C = x.shape
    sigma = np.sqrt(np.var(x, axis=0) + eps)
    xhat = (x - np.mean(x, axis=0)) / sigma

    def pullback(dy):
        dx = np.empty_like(x)
        for c in range(C):
            jacobian = np.eye(N, dtype=x.dtype) - (1 + np.outer(xhat[:, c], xhat[:, c])) / N
            dx[:, c] = gamma[c] / sigma[c] * (jacobian @ dy[:, c])
        dgamma = np.array([dy[:, c] @ xhat[:, c] for c in range(C)], dtype=x.dtype)
        return dx, dgamma, dy.sum(axis=0)

    return gamma * xhat + beta, pullback


@batch_norm.register
def recomputed_from_mean_and_rstd(x, gamma, beta, *, eps):
    mu = x.mean(axis=0, keepdims=True)
    rstd = 1 / np.sqrt(((x - mu) ** 2).mean(axis=0, keepdims=True) + eps)

    def pullback(dy):
        xmu = x - mu
        mean_dy = dy.mean(axis=0, keepdims=True)
        mean_dy_xhat = (dy * xmu * rstd).mean(axis=0, keepdims=True)
        dx = (dy - mean_dy - xmu * rstd * mean_dy_xhat) * rstd * gamma
        dgamma = (dy * xmu).sum(axis=0) * rstd[0]
        return {"beta": dy.sum(axis=0), "gamma": dgamma, "x": dx}

    return (x - mu) * rstd * gamma + beta, pullback


@batch_norm.register
def transposed_and_reversed_sums(x, gamma, beta, *, eps):
    def total(v):
        return np.add.reduce(np.ascontiguousarray(v[::-1].T), axis=1)

    N = x.shape[0]
    xc = x - total(x) / N
    sigma = np.sqrt(total(xc * xc) / N + eps)
    xhat = xc / sigma

    def pullback(dy):
        dgamma, dbeta = total(dy * xhat), total(dy)
        return (dy - dbeta / N - dgamma / N * xhat) / sigma * gamma, dgamma, dbeta

    return xhat * gamma + beta, pullback


@batch_norm.register
def fsum_per_channel(x, gamma, beta, *, eps):
    N, C = x.shape
    y, xhat, sigma = np.empty_like(x), np.empty(x.shape), np.empty(C)
    for c in range(C):
        column = x[:, c].tolist()
        mu = math.fsum(column) / N
        sigma[c] = math.sqrt(math.fsum((v - mu) ** 2 for v in column) / N + eps)
        xhat[:, c] = [(v - mu) / sigma[c] for v in column]
        y[:, c] = xhat[:, c] * float(gamma[c]) + float(beta[c])

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.empty_like(gamma), np.empty_like(beta)
        for c in range(C):
            column = dy[:, c].tolist()
            sum_dy = math.fsum(column)
            sum_dy_xhat = math.fsum(g * h for g, h in zip(column, xhat[:, c], strict=True))
            scale = float(gamma[c]) / sigma[c]
            dbeta[c], dgamma[c] = sum_dy, sum_dy_xhat
            for n in range(N):
                dx[n, c] = scale * (column[n] - sum_dy / N - xhat[n, c] * sum_dy_xhat / N)
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return y, pullback


class Standardize:
    """A callable object: it normalises over `axis` and keeps nothing between calls."""

    def __init__(self, axis):
        self.mean = partial(np.mean, axis=axis, keepdims=True)
        self.sum = partial(np.sum, axis=axis)

    def __call__(self, x, gamma, beta, *, eps):
        xc = x - self.mean(x)
        std = np.sqrt(self.mean(np.square(xc)) + eps)
        return xc / std * gamma + beta, partial(self.backward, xc, std, gamma)

    def backward(self, xc, std, gamma, dy):
        slope = self.mean(dy * gamma * xc) / np.square(std)
        g = (dy * gamma - xc * slope) / std
        return g - self.mean(g), self.sum(dy * xc / std), self.sum(dy)


batch_norm.register(name="object_with_call", dtypes=("float64", "float32"))(Standardize(axis=0))


def _by(total, x, gamma, beta, *, eps):
    N = x.shape[0]
    xc = x - total(x) / N
    sigma = np.sqrt(total(xc * xc) / N + eps)
    xhat = xc / sigma

    def pullback(dy):
        dgamma, dbeta = total(dy * xhat), total(dy)
        return {
            "x": gamma / sigma * (dy - (dbeta + dgamma * xhat) / N),
            "gamma": dgamma,
            "beta": dbeta,
        }

    return gamma * xhat + beta, pullback


def _tree(v):
    while len(v) > 1:
        v = np.concatenate([v[:-1:2] + v[1::2], v[len(v) // 2 * 2 :]])
    return v[0]


def _running(v):
    return v.cumsum(axis=0)[-1]


batch_norm.register(name="pairwise_tree")(partial(_by, _tree))
batch_norm.register(name="cumsum")(partial(_by, _running))
batch_norm.register(name="matmul_with_ones")(partial(_by, lambda v: np.ones_like(v[:, 0]) @ v))
