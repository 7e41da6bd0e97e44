"""Right ways of writing the focal loss of logits; naive_* fails where x is large."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

focal_loss = catalog("focal_loss")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _softplus(z):
    return np.logaddexp(0, z)


@focal_loss.register
def focal_in_logarithms(x, t, *, gamma, alpha):
    """The power of a probability is the exponential of a multiple of its logarithm."""
    z = np.where(t == 1, x, -x)
    weight = np.where(t == 1, x.dtype.type(alpha), x.dtype.type(1 - alpha))
    surprise = _softplus(-z)  # -log p
    power = np.exp(-gamma * _softplus(z))  # (1 - p)**gamma

    def pullback(dloss):
        p, q = np.exp(-surprise), np.exp(-_softplus(z))
        dz = -weight * power * (gamma * p * surprise + q) * (dloss / len(x))
        return {"x": np.where(t == 1, dz, -dz)}

    return np.mean(weight * power * surprise), pullback


@focal_loss.register
def focal_both_labels_weighed(x, t, *, gamma, alpha):
    """One term for each label, multiplied by whether it is the true one."""
    one = t.astype(x.dtype)
    p, q = _sigmoid(x), _sigmoid(-x)
    positive = alpha * q**gamma * _softplus(-x)
    negative = (1 - alpha) * p**gamma * _softplus(x)

    def pullback(dloss):
        dpositive = -alpha * q**gamma * (gamma * p * _softplus(-x) + q)
        dnegative = (1 - alpha) * p**gamma * (gamma * q * _softplus(x) + p)
        return (dloss / x.size * (one * dpositive + (1 - one) * dnegative), None)

    return (one * positive + (1 - one) * negative).sum() / x.size, pullback


@focal_loss.register
def focal_scalar_loop(x, t, *, gamma, alpha):
    total, slopes = 0.0, np.empty_like(x)
    for n, (v, label) in enumerate(zip(x.tolist(), t.tolist(), strict=True)):
        sign, weight = (1, alpha) if label == 1 else (-1, 1 - alpha)
        e = math.exp(-abs(v))
        p, q = 1 / (1 + e), e / (1 + e)
        if sign * v < 0:
            p, q = q, p
        surprise = max(-sign * v, 0) + math.log1p(e)
        total += weight * q**gamma * surprise
        slopes[n] = -sign * weight * q**gamma * (q + gamma * p * surprise) / len(x)
    return np.array(total / len(x), x.dtype), lambda dloss: slopes * dloss


@focal_loss.register
def focal_masked(x, t, *, gamma, alpha):
    hot = t.astype(bool)
    loss, slope = np.empty_like(x), np.empty_like(x)
    for mask, sign, weight in ((hot, 1, alpha), (~hot, -1, 1 - alpha)):
        z = sign * x[mask]
        q = 1 / (1 + np.exp(z))  # where exp overflows, 1/inf is the right 0
        bce = np.maximum(-z, 0) + np.log1p(np.exp(-np.abs(z)))
        factor = weight * np.power(q, gamma)
        loss[mask] = factor * bce
        slope[mask] = -sign * factor * (q + gamma * (1 - q) * bce)

    def pullback(dloss):
        dx = slope * dloss
        dx /= x.size
        return dx

    return loss.mean(), pullback


@focal_loss.register
def focal_modulated_cross_entropy(x, t, *, gamma, alpha):
    """The product rule on a weighted binary cross entropy and its modulating factor."""
    y = t.astype(x.dtype)
    alpha_t = alpha * y + (1 - alpha) * (1 - y)
    p = 0.5 * (1 + np.tanh(x / 2))
    bce = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    other = _sigmoid((1 - 2 * y) * x)  # 1 - p_t
    modulation = other**gamma

    def pullback(dloss):
        g = dloss / len(x) * alpha_t
        dbce = g * modulation
        dmodulation_dx = gamma * modulation * (1 - other) * (1 - 2 * y)
        return {"x": dbce * (p - y) + g * bce * dmodulation_dx, "t": None}

    return np.dot(alpha_t, modulation * bce) / len(x), pullback


@focal_loss.register
def naive_focal_power_rule(x, t, *, gamma, alpha):
    p = np.exp(x) / (1 + np.exp(x))
    pt, sign = np.where(t == 1, p, 1 - p), np.where(t == 1, 1, -1).astype(x.dtype)
    weight = np.where(t == 1, alpha, 1 - alpha).astype(x.dtype)

    def pullback(dloss):
        dpt = weight * (gamma * (1 - pt) ** (gamma - 1) * np.log(pt) - (1 - pt) ** gamma / pt)
        return {"x": dloss / len(x) * sign * dpt * pt * (1 - pt)}

    return -np.mean(weight * (1 - pt) ** gamma * np.log(pt)), pullback


def _wide(x, t, *, gamma, alpha):
    z = np.where(t == 1, 1, -1) * x.astype(np.float64)
    weight, q = np.where(t == 1, alpha, 1 - alpha), _sigmoid(-z)
    loss = (weight * q**gamma * _softplus(-z)).mean()

    def back(z, dloss):
        slope = (
            -weight * q**gamma * (q + gamma * _sigmoid(z) * _softplus(-z)) * np.where(t == 1, 1, -1)
        )
        return {"x": (np.float64(dloss) / len(z) * slope).astype(x.dtype)}

    return loss.astype(x.dtype), partial(back, z)


focal_loss.register(name="focal_in_float64")(_wide)
