"""Right ways of writing group norm; those that overflow or cancel in half precision say so."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

group_norm = catalog("group_norm")


def _per_channel(v):
    return v[:, None, None]


@group_norm.register(dtypes=("float64", "float32"))
def step_by_step(x, gamma, beta, *, G, eps):
    N, C, H, W = x.shape
    M = C // G * H * W
    xg = x.reshape(N, G, C // G, H, W)
    mu = xg.sum(axis=(2, 3, 4), keepdims=True) / M
    xc = xg - mu
    var = (xc**2).sum(axis=(2, 3, 4), keepdims=True) / M
    xhat = xc / np.sqrt(var + eps)
    y = xhat.reshape(x.shape) * _per_channel(gamma) + _per_channel(beta)

    def pullback(dy):
        dxhat = (dy * _per_channel(gamma)).reshape(xg.shape)
        dvar = (dxhat * xc * -0.5 * (var + eps) ** -1.5).sum(axis=(2, 3, 4), keepdims=True)
        dmu = (-dxhat / np.sqrt(var + eps)).sum(axis=(2, 3, 4), keepdims=True)
        dmu = dmu + dvar * (-2 * xc).sum(axis=(2, 3, 4), keepdims=True) / M
        dx = dxhat / np.sqrt(var + eps) + dvar * 2 * xc / M + dmu / M
        dgamma = (dy * xhat.reshape(x.shape)).sum(axis=(0, 2, 3))
        return {"x": dx.reshape(x.shape), "gamma": dgamma, "beta": dy.sum(axis=(0, 2, 3))}

    return y, pullback


@group_norm.register
def closed_form(x, gamma, beta, *, G, eps):
    N, C = x.shape[:2]
    xg = x.reshape(N * G, -1)
    M = xg.shape[1]
    xc = xg - xg.mean(axis=1)[:, None]
    sigma = np.sqrt(np.square(xc).mean(axis=1) + eps)[:, None]
    xhat = xc / sigma

    def pullback(dy):
        g = (dy * gamma.reshape(1, C, 1, 1)).reshape(N * G, -1)
        sums = g.sum(axis=1)[:, None], (g * xhat).sum(axis=1)[:, None]
        dx = (M * g - sums[0] - xhat * sums[1]) / (M * sigma)
        dgamma = (dy * xhat.reshape(x.shape)).sum(axis=(0, 2, 3))
        return dx.reshape(x.shape), dgamma, dy.sum(axis=(0, 2, 3))

    return xhat.reshape(x.shape) * _per_channel(gamma) + _per_channel(beta), pullback


@group_norm.register(dtypes=("float64", "float32"))
def folded(x, gamma, beta, *, G, eps):
    """Scale and shift once per sample and channel, from sums over its pixels."""
    N, C, H, W = x.shape
    K = C // G
    xg = x.reshape(N, G, K * H * W)
    mu, rstd = xg.mean(axis=2), 1 / np.sqrt(xg.var(axis=2) + eps)
    mean, rstd_c = np.repeat(mu, K, axis=1), np.repeat(rstd, K, axis=1)  # N C
    a = rstd_c * gamma
    y = a[:, :, None, None] * x + (beta - mean * a)[:, :, None, None]

    def pullback(dy):
        ds = (dy * x).sum(axis=(2, 3))
        db = dy.sum(axis=(2, 3))
        ds_group = (ds * gamma).reshape(N, G, K).sum(axis=2)
        db_group = (db * gamma).reshape(N, G, K).sum(axis=2)
        b = (db_group * mu - ds_group) * rstd**3 / (K * H * W)
        c = -b * mu - db_group * rstd / (K * H * W)
        b, c = (np.repeat(v, K, axis=1)[:, :, None, None] for v in (b, c))
        dgamma = ((ds - db * mean) * rstd_c).sum(axis=0)
        return {"x": a[:, :, None, None] * dy + b * x + c, "gamma": dgamma, "beta": db.sum(axis=0)}

    return y, pullback


@group_norm.register(dtypes=("float64", "float32"))
def einsum(x, gamma, beta, *, G, eps):
    N, C, H, W = x.shape
    shape = (N, G, C // G, H, W)
    M = C // G * H * W
    xg, gamma, beta = x.reshape(shape), gamma.reshape(G, -1), beta.reshape(G, -1)
    xc = xg - (np.einsum("ngkhw->ng", xg) / M)[:, :, None, None, None]
    rstd = 1 / np.sqrt(np.einsum("ngkhw,ngkhw->ng", xc, xc) / M + eps)
    xhat = np.einsum("ngkhw,ng->ngkhw", xc, rstd)
    y = np.einsum("ngkhw,gk->ngkhw", xhat, gamma) + beta[None, :, :, None, None]

    def pullback(dy):
        g = dy.reshape(shape)
        along = np.einsum("ngkhw,gk,ngkhw->ng", g, gamma, xhat) / M
        mean = np.einsum("ngkhw,gk->ng", g, gamma) / M
        inner = np.einsum("ngkhw,gk->ngkhw", g, gamma) - mean[:, :, None, None, None]
        inner -= np.einsum("ng,ngkhw->ngkhw", along, xhat)
        dgamma = np.einsum("ngkhw,ngkhw->gk", g, xhat)
        dbeta = np.einsum("ngkhw->gk", g)
        dx = np.einsum("ngkhw,ng->ngkhw", inner, rstd)
        return dx.reshape(x.shape), dgamma.reshape(C), dbeta.reshape(C)

    return y.reshape(x.shape), pullback


@group_norm.register
def loop_over_samples_and_groups(x, gamma, beta, *, G, eps):
    N, C = x.shape[:2]
    K = C // G
    blocks = [np.s_[n, g * K : (g + 1) * K] for n in range(N) for g in range(G)]
    y, xhat, sigma = np.empty_like(x), np.empty_like(x), []
    for block in blocks:
        centered = x[block] - x[block].mean()
        sigma.append(np.sqrt(np.mean(centered**2) + x.dtype.type(eps)))
        xhat[block] = centered / sigma[-1]
        y[block] = xhat[block] * _per_channel(gamma[block[1]]) + _per_channel(beta[block[1]])

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(beta)
        for block, s in zip(blocks, sigma, strict=True):
            dgamma[block[1]] += (dy[block] * xhat[block]).sum(axis=(1, 2))
            dbeta[block[1]] += dy[block].sum(axis=(1, 2))
            g = dy[block] * _per_channel(gamma[block[1]])
            dx[block] = (g - g.mean() - xhat[block] * (g * xhat[block]).mean()) / s
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return y, pullback


@group_norm.register(dtypes=("float64", "float32"))
def one_pass(x, gamma, beta, *, G, eps):
    N = x.shape[0]
    xg = x.reshape(N, G, -1)
    mu = xg.mean(axis=2, keepdims=True)
    var = np.maximum((xg * xg).mean(axis=2, keepdims=True) - mu * mu, 0)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (xg - mu) * rstd

    def pullback(dy):
        g = (dy * _per_channel(gamma)).reshape(xg.shape)
        dx = g - g.mean(axis=2, keepdims=True) - xhat * (g * xhat).mean(axis=2, keepdims=True)
        dgamma = (dy * xhat.reshape(x.shape)).sum(axis=(0, 2, 3))
        return (dx * rstd).reshape(x.shape), dgamma, dy.sum(axis=(0, 2, 3))

    return xhat.reshape(x.shape) * _per_channel(gamma) + _per_channel(beta), pullback


@group_norm.register
def membership_matrix(x, gamma, beta, *, G, eps):
    K = x.shape[1] // G
    member = np.repeat(np.eye(G, dtype=x.dtype), K, axis=0)  # C G

    def spread(v):
        """Return the group means of v [N C H W], spread over the channels [N C 1 1]."""
        return (v.mean(axis=(2, 3)) @ member / K @ member.T)[:, :, None, None]

    xc = x - spread(x)
    sigma = np.sqrt(spread(xc * xc) + eps)
    xhat = xc / sigma

    def pullback(dy):
        g = _per_channel(gamma) * dy
        dx = (g - spread(g) - xhat * spread(g * xhat)) / sigma
        return {
            "x": dx,
            "gamma": (dy * xhat).sum(axis=3).sum(axis=2).sum(axis=0),
            "beta": dy.sum(axis=3).sum(axis=2).sum(axis=0),
        }

    return _per_channel(gamma) * xhat + _per_channel(beta), pullback


@group_norm.register
def in_float64(x, gamma, beta, *, G, eps):
    shape = (len(x), G, x.size // (len(x) * G))
    xc = x.astype(np.float64).reshape(shape)
    xc -= xc.mean(axis=2, keepdims=True)
    rstd = 1 / np.sqrt((xc * xc).mean(axis=2, keepdims=True) + eps)
    xhat = xc * rstd
    y = xhat.reshape(x.shape) * _per_channel(gamma) + _per_channel(beta)

    def pullback(dy):
        wide = dy.astype(np.float64)
        g = (wide * _per_channel(gamma)).reshape(shape)
        dx = g - g.mean(axis=2, keepdims=True) - xhat * (g * xhat).mean(axis=2, keepdims=True)
        dgamma = (wide * xhat.reshape(x.shape)).sum(axis=(0, 2, 3))
        grads = (dx * rstd).reshape(x.shape), dgamma, wide.sum(axis=(0, 2, 3))
        return tuple(v.astype(x.dtype) for v in grads)

    return y.astype(x.dtype), pullback


def _with_means(mean, x, gamma, beta, *, G, eps):
    """Write each group as a row and average rows with `mean`."""

    def rows(v):
        return v.reshape(len(x) * G, -1)

    xc = rows(x) - mean(rows(x))
    sigma = np.sqrt(mean(xc * xc) + eps)

    def pullback(dy):
        g = rows(dy * _per_channel(gamma)) / sigma
        xhat = xc / sigma
        dx = g - mean(g) - xhat * mean(g * xhat)
        dgamma = (dy * xhat.reshape(x.shape)).sum(axis=(2, 3)).sum(axis=0)
        return dx.reshape(x.shape), dgamma, dy.sum(axis=(2, 3)).sum(axis=0)

    return (xc / sigma).reshape(x.shape) * _per_channel(gamma) + _per_channel(beta), pullback


def _by_fsum(v):
    return np.array([[math.fsum(row) / len(row)] for row in v.tolist()], v.dtype)


def _by_matmul(v):
    return v @ np.full((v.shape[1], 1), 1 / v.shape[1], v.dtype)


group_norm.register(name="fsum")(partial(_with_means, _by_fsum))
group_norm.register(name="matmul_with_weights")(partial(_with_means, _by_matmul))
