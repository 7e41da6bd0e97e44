"""Right ways of writing batch norm of images; sums of squares overflow in half precision."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

batch_norm_2d = catalog("batch_norm_2d")

AXES = (0, 2, 3)


def _per_channel(v):
    return v[None, :, None, None]


@batch_norm_2d.register(dtypes=("float64", "float32"))
def step_by_step(x, gamma, beta, *, eps):
    M = x.size // x.shape[1]
    mu = _per_channel(x.sum(axis=AXES) / M)
    xc = x - mu
    var = _per_channel((xc**2).sum(axis=AXES) / M)
    sigma = np.sqrt(var + eps)
    xhat = xc / sigma
    y = _per_channel(gamma) * xhat + _per_channel(beta)

    def pullback(dy):
        dxhat = dy * _per_channel(gamma)
        dsigma = -(dxhat * xc).sum(axis=AXES, keepdims=True) / (sigma * sigma)
        dvar = 0.5 * dsigma / np.sqrt(var + eps)
        dxc = dxhat / sigma + 2 * xc * np.ones_like(x) / M * dvar
        dx = dxc - dxc.sum(axis=AXES, keepdims=True) / M
        return dx, (dy * xhat).sum(axis=AXES), dy.sum(axis=AXES)

    return y, pullback


@batch_norm_2d.register
def closed_form(x, gamma, beta, *, eps):
    M = x.size // x.shape[1]
    xc = x - x.mean(axis=AXES, keepdims=True)
    sigma = np.sqrt((xc**2).mean(axis=AXES, keepdims=True) + eps)
    xhat = xc / sigma

    def pullback(dy):
        dgamma, dbeta = (dy * xhat).sum(axis=AXES), dy.sum(axis=AXES)
        inner = M * dy - _per_channel(dbeta) - xhat * _per_channel(dgamma)
        return {"x": _per_channel(gamma) * inner / (M * sigma), "gamma": dgamma, "beta": dbeta}

    return _per_channel(gamma) * xhat + _per_channel(beta), pullback


@batch_norm_2d.register(dtypes=("float64", "float32"))
def folded(x, gamma, beta, *, eps):
    M = x.size // x.shape[1]
    mu = x.mean(axis=AXES)
    rstd = 1 / np.sqrt(x.var(axis=AXES) + eps)
    scale = gamma * rstd
    y = x * _per_channel(scale) + _per_channel(beta - mu * scale)

    def pullback(dy):
        sum_dy = dy.sum(axis=AXES)
        sum_dy_xmu = (dy * (x - _per_channel(mu))).sum(axis=AXES)
        b = -scale * rstd * rstd * sum_dy_xmu / M
        c = -scale * sum_dy / M - b * mu
        dx = _per_channel(scale) * dy + _per_channel(b) * x + _per_channel(c)
        return {"x": dx, "gamma": sum_dy_xmu * rstd, "beta": sum_dy}

    return y, pullback


@batch_norm_2d.register(dtypes=("float64", "float32"))
def einsum(x, gamma, beta, *, eps):
    M = x.size // x.shape[1]
    xc = x - _per_channel(np.einsum("nchw->c", x) / M)
    rstd = 1 / np.sqrt(np.einsum("nchw,nchw->c", xc, xc) / M + eps)
    xhat = np.einsum("nchw,c->nchw", xc, rstd)

    def pullback(dy):
        dgamma = np.einsum("nchw,nchw->c", dy, xhat)
        dbeta = np.einsum("nchw->c", dy)
        inner = dy - _per_channel(dbeta / M) - np.einsum("nchw,c->nchw", xhat, dgamma / M)
        return np.einsum("nchw,c,c->nchw", inner, gamma, rstd), dgamma, dbeta

    return np.einsum("nchw,c->nchw", xhat, gamma) + _per_channel(beta), pullback


@batch_norm_2d.register(dtypes=("float64", "float32"))
def one_pass(x, gamma, beta, *, eps):
    M = x.size // x.shape[1]
    mu = x.sum(axis=AXES, keepdims=True) / M
    var = np.square(x).sum(axis=AXES, keepdims=True) / M - np.square(mu)
    rstd = 1 / np.sqrt(np.maximum(var, 0) + eps)
    xhat = (x - mu) * rstd

    def pullback(dy):
        dbeta = dy.sum(axis=AXES, keepdims=True)
        dgamma = (dy * xhat).sum(axis=AXES, keepdims=True)
        dx = _per_channel(gamma) * rstd * (dy - (dbeta + dgamma * xhat) / M)
        return dx, dgamma.ravel(), dbeta.ravel()

    return _per_channel(gamma) * xhat + _per_channel(beta), pullback


@batch_norm_2d.register
def flattened_to_vectors(x, gamma, beta, *, eps):
    N, C, H, W = x.shape

    def flat(v):
        return v.transpose(0, 2, 3, 1).reshape(-1, C)

    def images(v):
        return v.reshape(N, H, W, C).transpose(0, 3, 1, 2)

    xf = flat(x)
    xc = xf - xf.mean(axis=0)
    sigma = np.sqrt((xc**2).mean(axis=0) + eps)
    xhat = xc / sigma

    def pullback(dy):
        g = flat(dy)
        dx = gamma * (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / sigma
        return {"x": images(dx), "gamma": (g * xhat).sum(axis=0), "beta": g.sum(axis=0)}

    return images(gamma * xhat + beta), pullback


@batch_norm_2d.register
def loop_over_channels(x, gamma, beta, *, eps):
    C = x.shape[1]
    y, xhat, rstd = np.empty_like(x), np.empty_like(x), np.empty_like(gamma)
    for c in range(C):
        plane = x[:, c]
        centered = plane - np.mean(plane)
        rstd[c] = 1 / np.sqrt(np.mean(centered * centered) + x.dtype.type(eps))
        xhat[:, c] = centered * rstd[c]
        y[:, c] = gamma[c] * xhat[:, c] + beta[c]

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.empty_like(gamma), np.empty_like(beta)
        for c in range(C):
            g = dy[:, c]
            dgamma[c], dbeta[c] = np.sum(g * xhat[:, c]), np.sum(g)
            projected = g - np.mean(g) - xhat[:, c] * np.mean(g * xhat[:, c])
            dx[:, c] = gamma[c] * rstd[c] * projected
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return y, pullback


@batch_norm_2d.register(dtypes=("float64", "float32"))
def merged_moments_of_images(x, gamma, beta, *, eps):
    """Chan, Golub & LeVeque's update, one image after another, as synchronised training does."""
    N, C, H, W = x.shape
    mean, m2 = np.zeros_like(gamma), np.zeros_like(gamma)
    for n, image in enumerate(x.reshape(N, C, H * W)):
        new = image.mean(axis=1)
        delta = new - mean
        m2 = m2 + ((image - new[:, None]) ** 2).sum(axis=1) + delta * delta * (H * W * n / (n + 1))
        mean = mean + delta / (n + 1)
    sigma = np.sqrt(m2 / (N * H * W) + eps)

    def pullback(dy):
        sum_dy, sum_dy_xhat = np.zeros_like(gamma), np.zeros_like(gamma)
        xhat = (x - _per_channel(mean)) / _per_channel(sigma)
        for n in range(N):
            sum_dy += dy[n].sum(axis=(1, 2))
            sum_dy_xhat += (dy[n] * xhat[n]).sum(axis=(1, 2))
        mean_dy, mean_dy_xhat = sum_dy / (N * H * W), sum_dy_xhat / (N * H * W)
        dx = dy - _per_channel(mean_dy) - xhat * _per_channel(mean_dy_xhat)
        return dx * _per_channel(gamma / sigma), sum_dy_xhat, sum_dy

    y = (x - _per_channel(mean)) / _per_channel(sigma) * _per_channel(gamma) + _per_channel(beta)
    return y, pullback


@batch_norm_2d.register
def in_float64(x, gamma, beta, *, eps):
    wide = x.astype(np.float64)
    xc = wide - wide.mean(axis=AXES, keepdims=True)
    rstd = 1 / np.sqrt((xc * xc).mean(axis=AXES, keepdims=True) + eps)
    xhat = xc * rstd

    def pullback(dy):
        g = dy.astype(np.float64)
        along = (g * xhat).mean(axis=AXES, keepdims=True)
        dx = _per_channel(gamma) * rstd * (g - g.mean(axis=AXES, keepdims=True) - xhat * along)
        grads = {"x": dx, "gamma": (g * xhat).sum(axis=AXES), "beta": g.sum(axis=AXES)}
        return {name: v.astype(x.dtype) for name, v in grads.items()}

    return (_per_channel(gamma) * xhat + _per_channel(beta)).astype(x.dtype), pullback


@batch_norm_2d.register
def nested_axis_sums(x, gamma, beta, *, eps):
    def mean(v):
        return v.mean(axis=3, keepdims=True).mean(axis=2, keepdims=True).mean(0, keepdims=True)

    xc = x - mean(x)
    std = np.sqrt(mean(xc * xc) + eps)

    def pullback(dy):
        M = x.size // x.shape[1]
        g = dy * _per_channel(gamma) / std
        xhat = xc / std
        dgamma, dbeta = M * mean(dy * xhat), M * mean(dy)
        return g - mean(g) - xhat * mean(g * xhat), dgamma.ravel(), dbeta.ravel()

    return xc / std * _per_channel(gamma) + _per_channel(beta), pullback


def _with_means(mean, x, gamma, beta, *, eps):
    M = x.size // x.shape[1]
    xc = x - _per_channel(mean(x))
    sigma = _per_channel(np.sqrt(mean(xc * xc) + eps))
    xhat = xc / sigma
    gamma = _per_channel(gamma)

    def pullback(dy):
        mean_dy, mean_dy_xhat = mean(dy), mean(dy * xhat)
        dx = gamma / sigma * (dy - _per_channel(mean_dy) - xhat * _per_channel(mean_dy_xhat))
        return dx, M * mean_dy_xhat, M * mean_dy

    return gamma * xhat + _per_channel(beta), pullback


def _by_fsum(v):
    rows = v.swapaxes(0, 1).reshape(v.shape[1], -1).tolist()
    return np.array([math.fsum(row) / len(row) for row in rows], v.dtype)


def _by_cumsum_backwards(v):
    rows = v.swapaxes(0, 1)[:, ::-1].reshape(v.shape[1], -1)
    return rows.cumsum(axis=1)[:, -1] / rows.shape[1]


batch_norm_2d.register(name="fsum")(partial(_with_means, _by_fsum))
batch_norm_2d.register(name="cumsum_backwards", dtypes=("float64", "float32"))(
    partial(_with_means, _by_cumsum_backwards)
)
