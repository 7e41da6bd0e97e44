"""Right ways of writing layer norm; those that overflow or cancel in half precision say so."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

layer_norm = catalog("layer_norm")


# The gradient of the variance itself overflows in half precision.
@layer_norm.register(dtypes=("float64", "float32"))
def step_by_step(x, gamma, beta, *, eps):
    D = x.shape[1]
    mu = x.sum(axis=1, keepdims=True) / D
    xc = x - mu
    var = (xc**2).sum(axis=1, keepdims=True) / D
    sigma = np.sqrt(var + eps)
    xhat = xc / sigma
    y = gamma * xhat + beta

    def pullback(dy):
        dxhat = dy * gamma
        dsigma = -(dxhat * xc).sum(axis=1, keepdims=True) / sigma**2
        dvar = dsigma / (2 * sigma)
        dxc = dxhat / sigma + 2 * xc * dvar / D
        dmu = -dxc.sum(axis=1, keepdims=True)
        return {"x": dxc + dmu / D, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return y, pullback


@layer_norm.register
def closed_form(x, gamma, beta, *, eps):
    D = x.shape[1]
    sigma = np.sqrt(np.var(x, axis=1, keepdims=True) + eps)
    xhat = (x - np.mean(x, axis=1, keepdims=True)) / sigma

    def pullback(dy):
        g = gamma * dy
        sum_g = g.sum(axis=1, keepdims=True)
        sum_g_xhat = (g * xhat).sum(axis=1, keepdims=True)
        dx = (D * g - sum_g - xhat * sum_g_xhat) / (D * sigma)
        return dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)

    return gamma * xhat + beta, pullback


@layer_norm.register(dtypes=("float64", "float32"))
def folded(x, gamma, beta, *, eps):
    D = x.shape[1]
    mu = x.mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mu) ** 2).mean(axis=1, keepdims=True) + eps)
    shift = -mu * rstd
    y = (rstd * x + shift) * gamma + beta

    def pullback(dy):
        ds = (dy * x * gamma).sum(axis=1, keepdims=True)
        db = (dy * gamma).sum(axis=1, keepdims=True)
        b = (db * mu - ds) * rstd**3 / D
        c = -b * mu - db * rstd / D
        return {
            "x": rstd * dy * gamma + b * x + c,
            "gamma": (dy * (rstd * x + shift)).sum(axis=0),
            "beta": dy.sum(axis=0),
        }

    return y, pullback


@layer_norm.register
def einsum(x, gamma, beta, *, eps):
    D = x.shape[1]
    xc = x - np.einsum("nd->n", x)[:, None] / D
    rstd = (np.einsum("nd,nd->n", xc, xc) / D + eps) ** -0.5
    xhat = np.einsum("nd,n->nd", xc, rstd)

    def pullback(dy):
        along = np.einsum("nd,d,nd->n", dy, gamma, xhat)
        mean = np.einsum("nd,d->n", dy, gamma)
        inner = D * np.einsum("nd,d->nd", dy, gamma) - mean[:, None] - along[:, None] * xhat
        return {
            "x": np.einsum("nd,n->nd", inner, rstd / D),
            "gamma": np.einsum("nd,nd->d", dy, xhat),
            "beta": np.einsum("nd->d", dy),
        }

    return np.einsum("nd,d->nd", xhat, gamma) + beta, pullback


@layer_norm.register(dtypes=("float64", "float32"))
def one_pass(x, gamma, beta, *, eps):
    mu = x.mean(axis=1, keepdims=True)
    var = (x * x).mean(axis=1, keepdims=True) - mu * mu
    rstd = 1 / np.sqrt(np.maximum(var, 0) + eps)
    xhat = (x - mu) * rstd

    def pullback(dy):
        g = dy * gamma
        dx = g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True)
        return rstd * dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)

    return xhat * gamma + beta, pullback


@layer_norm.register
def welford_loop(x, gamma, beta, *, eps):
    D = x.shape[1]
    mean, m2 = np.zeros_like(x[:, 0]), np.zeros_like(x[:, 0])
    for d in range(D):
        delta = x[:, d] - mean
        mean = mean + delta / (d + 1)
        m2 = m2 + delta * (x[:, d] - mean)
    sigma = np.sqrt(m2 / D + eps)[:, None]
    xhat = (x - mean[:, None]) / sigma

    def pullback(dy):
        sum_g, sum_g_xhat = np.zeros_like(mean), np.zeros_like(mean)
        for d in range(D):
            g = dy[:, d] * gamma[d]
            sum_g += g
            sum_g_xhat += g * xhat[:, d]
        dx = (dy * gamma - (sum_g[:, None] + xhat * sum_g_xhat[:, None]) / D) / sigma
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return gamma * xhat + beta, pullback


@layer_norm.register
def jacobian_per_row(x, gamma, beta, *, eps):
    N, D = x.shape
    sigma = [np.sqrt(np.var(row) + x.dtype.type(eps)) for row in x]
    xhat = np.stack([(row - np.mean(row)) / s for row, s in zip(x, sigma, strict=True)])

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(beta)
        for n in range(N):
            projection = np.eye(D, dtype=x.dtype) - (1 + np.outer(xhat[n], xhat[n])) / D
            dx[n] = projection @ (gamma * dy[n]) / sigma[n]
            dgamma += dy[n] * xhat[n]
            dbeta += dy[n]
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return xhat * gamma + beta, pullback


@layer_norm.register
def mean_removed_twice(x, gamma, beta, *, eps):
    def centered(v):
        return v - v.mean(axis=-1, keepdims=True)

    xc = centered(x)
    rstd = 1 / np.sqrt(np.square(xc).mean(axis=-1, keepdims=True) + eps)
    xhat = xc * rstd

    def pullback(dy):
        g = gamma * dy
        dx = centered(g - xhat * (g * xhat).mean(axis=-1, keepdims=True)) * rstd
        return dx, np.add.reduce(dy * xhat), np.add.reduce(dy)

    return xhat * gamma + beta, pullback


@layer_norm.register
def transposed(x, gamma, beta, *, eps):
    D = x.shape[1]
    xt = np.array(x.T, order="C")
    xc = xt - xt.sum(axis=0) / D
    sigma = np.sqrt((xc * xc).sum(axis=0) / D + eps)
    xhat = xc / sigma
    y = gamma[:, None] * xhat + beta[:, None]

    def pullback(dy):
        dyt = np.array(dy.T, order="C")
        g = gamma[:, None] * dyt
        dx = (g - g.sum(axis=0) / D - (g * xhat).sum(axis=0) / D * xhat) / sigma
        return {"x": dx.T, "gamma": (dyt * xhat).sum(axis=1), "beta": dyt.sum(axis=1)}

    return y.T, pullback


@layer_norm.register
def recomputed_from_mean_and_rstd(x, gamma, beta, *, eps):
    mu = x.mean(axis=1)
    rstd = 1 / np.sqrt(x.var(axis=1) + eps)

    def pullback(dy):
        xhat = (x - mu[:, None]) * rstd[:, None]
        wdy = gamma * dy
        c1 = (xhat * wdy).mean(axis=1)[:, None]
        c2 = wdy.mean(axis=1)[:, None]
        dx = (wdy - (xhat * c1 + c2)) * rstd[:, None]
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return (x - mu[:, None]) * rstd[:, None] * gamma + beta, pullback


@layer_norm.register
def in_float64(x, gamma, beta, *, eps):
    wide = x.astype(np.float64)
    xc = wide - wide.mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt((xc**2).mean(axis=1, keepdims=True) + eps)
    xhat = xc * rstd

    def pullback(dy):
        g = dy.astype(np.float64) * gamma
        dx = g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True)
        grads = dx * rstd, (dy * xhat).sum(axis=0), dy.sum(axis=0, dtype=np.float64)
        return tuple(g.astype(x.dtype) for g in grads)

    return (gamma * xhat + beta).astype(x.dtype), pullback


@layer_norm.register
def fsum_per_row(x, gamma, beta, *, eps):
    D = x.shape[1]
    y, xhat, sigma = np.empty_like(x), [], []
    for n, row in enumerate(x.tolist()):
        mu = math.fsum(row) / D
        sigma.append(math.sqrt(math.fsum((v - mu) ** 2 for v in row) / D + eps))
        xhat.append([(v - mu) / sigma[n] for v in row])
        y[n] = [h * g + b for h, g, b in zip(xhat[n], gamma.tolist(), beta.tolist(), strict=True)]

    def pullback(dy):
        dx = np.empty_like(x)
        for n, row in enumerate((dy.astype(float) * gamma.astype(float)).tolist()):
            c1 = math.fsum(row) / D
            c2 = math.fsum(g * h for g, h in zip(row, xhat[n], strict=True)) / D
            dx[n] = [(g - c1 - h * c2) / sigma[n] for g, h in zip(row, xhat[n], strict=True)]
        dgamma = [math.fsum(column) for column in (dy * np.array(xhat)).T]
        dbeta = [math.fsum(column) for column in dy.T]
        return dx, np.array(dgamma, x.dtype), np.array(dbeta, x.dtype)

    return y, pullback


class LayerNorm:
    """A callable object of two stages, normalise and then scale, each with its own backward."""

    def __call__(self, x, gamma, beta, *, eps):
        xhat, normalize_backward = self.normalize(x, eps)

        def pullback(dy):
            dbeta = np.ones_like(dy[:, :1]).T @ dy
            return normalize_backward(dy * gamma), (dy * xhat).sum(axis=0), dbeta[0].copy()

        return xhat * gamma + beta, pullback

    @staticmethod
    def normalize(x, eps):
        mean = partial(np.mean, axis=1, keepdims=True)
        xc = x - mean(x)
        std = np.sqrt(mean(xc * xc) + eps)
        xhat = xc / std
        return xhat, lambda g: (g - mean(g) - xhat * mean(g * xhat)) / std


layer_norm.register(name="object_with_call")(LayerNorm())
