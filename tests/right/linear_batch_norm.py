"""Right ways of writing a linear layer in front of batch norm; the bias's gradient is zero."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

linear_batch_norm = catalog("linear_batch_norm")


# The gradient of the variance itself overflows in half precision.
@linear_batch_norm.register(dtypes=("float64", "float32"))
def step_by_step(x, w, b, gamma, beta, *, eps):
    N = x.shape[0]
    a = x @ w.T + b
    mu = a.sum(axis=0) / N
    ac = a - mu
    var = (ac**2).sum(axis=0) / N
    sigma = np.sqrt(var + eps)
    ahat = ac / sigma
    y = gamma * ahat + beta

    def pullback(dy):
        dahat = dy * gamma
        dvar = -0.5 * (dahat * ac).sum(axis=0) / sigma**3
        dmu = -(dahat / sigma).sum(axis=0) - 2 * dvar * ac.sum(axis=0) / N
        da = dahat / sigma + 2 * ac * dvar / N + dmu / N
        dgamma = (dy * ahat).sum(axis=0)
        return da @ w, da.T @ x, da.sum(axis=0), dgamma, dy.sum(axis=0)

    return y, pullback


@linear_batch_norm.register
def closed_form_with_a_zero_bias_gradient(x, w, b, gamma, beta, *, eps):
    N = len(x)
    a = x @ w.T + b
    ac = a - a.mean(axis=0)
    sigma = np.sqrt(np.mean(ac * ac, axis=0) + eps)
    ahat = ac / sigma

    def pullback(dy):
        dgamma, dbeta = (dy * ahat).sum(axis=0), dy.sum(axis=0)
        da = gamma * (N * dy - dbeta - ahat * dgamma) / (N * sigma)
        zero = np.zeros_like(b)
        return {"x": da @ w, "w": da.T @ x, "b": zero, "gamma": dgamma, "beta": dbeta}

    return gamma * ahat + beta, pullback


@linear_batch_norm.register
def bias_left_out(x, w, b, gamma, beta, *, eps):
    """Center the inputs instead of the activations, as the mean's removal is linear."""
    xc = x - x.mean(axis=0)
    ac = np.einsum("nd,cd->nc", xc, w)
    rstd = 1 / np.sqrt((ac**2).mean(axis=0) + eps)
    ahat = ac * rstd

    def pullback(dy):
        g = dy * gamma * rstd
        da = g - g.mean(axis=0) - ahat * (g * ahat).mean(axis=0)
        return {
            "x": np.einsum("nc,cd->nd", da, w),
            "w": np.einsum("nc,nd->cd", da, xc),
            "b": np.zeros(b.shape, b.dtype),
            "gamma": np.einsum("nc,nc->c", dy, ahat),
            "beta": np.einsum("nc->c", dy),
        }

    return gamma * ahat + beta, pullback


@linear_batch_norm.register(dtypes=("float64", "float32"))
def folded_into_the_weights(x, w, b, gamma, beta, *, eps):
    """One linear layer whose weights are scaled; its variance is w Cov(x) w^T."""
    N = x.shape[0]
    xc = x - x.mean(axis=0)
    cov = xc.T @ xc / N
    var = ((w @ cov) * w).sum(axis=1)
    scale = gamma / np.sqrt(var + eps)
    mu = w @ x.mean(axis=0) + b
    y = x @ (scale[:, None] * w).T + (scale * (b - mu) + beta)

    def pullback(dy):
        dbeta = dy.sum(axis=0)
        moment = (dy - dbeta / N).T @ xc  # C D
        dscale = (moment * w).sum(axis=1)
        dvar = -0.5 * dscale * scale / (var + eps)
        dw = scale[:, None] * moment + 2 * dvar[:, None] * (w @ cov)
        da = scale * (dy - dbeta / N) + 2 / N * dvar * (xc @ w.T)
        dgamma = dscale / np.sqrt(var + eps)
        return da @ w, dw, da.sum(axis=0), dgamma, dbeta

    return y, pullback


# The mean of squares cancels where the mean is large.
@linear_batch_norm.register(dtypes=("float64", "float32"))
def one_pass(x, w, b, gamma, beta, *, eps):
    a = np.dot(x, w.T) + b
    mu = a.mean(axis=0)
    rstd = 1 / np.sqrt(np.maximum((a * a).mean(axis=0) - mu * mu, 0) + eps)
    ahat = (a - mu) * rstd

    def pullback(dy):
        mean_dy, mean_dy_ahat = dy.mean(axis=0), (dy * ahat).mean(axis=0)
        da = gamma * rstd * (dy - mean_dy - ahat * mean_dy_ahat)
        grads = np.dot(da, w), np.dot(da.T, x), da.sum(axis=0)
        return *grads, (dy * ahat).sum(axis=0), dy.sum(axis=0)

    return gamma * ahat + beta, pullback


@linear_batch_norm.register
def loop_over_channels(x, w, b, gamma, beta, *, eps):
    y, ahat, sigma = np.empty((len(x), len(w)), x.dtype), [], []
    for c in range(len(w)):
        a = x @ w[c] + b[c]
        sigma.append(np.sqrt(np.mean((a - a.mean()) ** 2) + x.dtype.type(eps)))
        ahat.append((a - a.mean()) / sigma[c])
        y[:, c] = gamma[c] * ahat[c] + beta[c]

    def pullback(dy):
        dx, (dw, db, dgamma, dbeta) = np.zeros_like(x), map(np.empty_like, (w, b, gamma, beta))
        for c, h in enumerate(ahat):
            g = dy[:, c]
            dgamma[c], dbeta[c] = g @ h, g.sum()
            da = gamma[c] / sigma[c] * (g - g.mean() - h * np.mean(g * h))
            dx += np.outer(da, w[c])
            dw[c], db[c] = da @ x, da.sum()
        return {"x": dx, "w": dw, "b": db, "gamma": dgamma, "beta": dbeta}

    return y, pullback


def _linear(x, w, b):
    return x @ w.T + b, lambda da: (da @ w, da.T @ x, np.add.reduce(da, axis=0))


def _batch_norm(a, gamma, beta, eps):
    ac = a - a.mean(axis=0)
    std = np.sqrt((ac * ac).mean(axis=0) + eps)
    ahat = ac / std

    def pullback(dy):
        g = dy * gamma
        da = (g - g.mean(axis=0) - ahat * (g * ahat).mean(axis=0)) / std
        return da, (dy * ahat).sum(axis=0), dy.sum(axis=0)

    return gamma * ahat + beta, pullback


@linear_batch_norm.register
def two_layers_composed(x, w, b, gamma, beta, *, eps):
    a, linear_pullback = _linear(x, w, b)
    y, norm_pullback = _batch_norm(a, gamma, beta, eps)

    def pullback(dy):
        da, dgamma, dbeta = norm_pullback(dy)
        return *linear_pullback(da), dgamma, dbeta

    return y, pullback


@linear_batch_norm.register
def in_float64(x, w, b, gamma, beta, *, eps):
    wide = [v.astype(np.float64) for v in (x, w, b, gamma, beta)]
    y, pullback = two_layers_composed(*wide, eps=eps)
    return y.astype(x.dtype), lambda dy: tuple(
        g.astype(x.dtype) for g in pullback(dy.astype(np.float64))
    )


# A sum of squares overflows in half precision at activations of 100.
@linear_batch_norm.register(dtypes=("float64", "float32"))
def welford_and_recomputation(x, w, b, gamma, beta, *, eps):
    mean, m2 = np.zeros_like(b), np.zeros_like(b)
    for n, row in enumerate(x):
        a = w @ row + b
        delta = a - mean
        mean = mean + delta / (n + 1)
        m2 = m2 + delta * (a - mean)
    sigma = np.sqrt(m2 / len(x) + eps)

    def ahat():
        return (x @ w.T + (b - mean)) / sigma

    def pullback(dy):
        h = ahat()
        dgamma, dbeta = np.einsum("nc,nc->c", dy, h), np.ones_like(x[:, 0]) @ dy
        da = gamma / sigma * (dy - (dbeta + h * dgamma) / len(x))
        return da @ w, (x.T @ da).T, np.ones_like(x[:, 0]) @ da, dgamma, dbeta

    return ahat() * gamma + beta, pullback


def _by_fsum(v):
    return np.array([math.fsum(column) for column in v.T.tolist()], v.dtype)


class LinearBatchNorm:
    """A callable object that sums over the batch with the function it was made with."""

    def __init__(self, total):
        self.total = total

    def __call__(self, x, w, b, gamma, beta, *, eps):
        ac = x @ w.T + b
        ac = ac - self.total(ac) / len(x)
        sigma = np.sqrt(self.total(ac * ac) / len(x) + eps)
        return gamma * (ac / sigma) + beta, partial(self.backward, x, w, gamma / sigma, ac / sigma)

    def backward(self, x, w, scale, ahat, dy):
        dgamma, dbeta = self.total(dy * ahat), self.total(dy)
        da = scale * (dy - dbeta / len(x) - ahat * (dgamma / len(x)))
        return da @ w, da.T @ x, self.total(da), dgamma, dbeta


# As above.
linear_batch_norm.register(name="object_with_fsum", dtypes=("float64", "float32"))(
    LinearBatchNorm(_by_fsum)
)
