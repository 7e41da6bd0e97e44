"""Right ways of writing the mean binary cross entropy of logits; naive_* fails where x is large."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

bce_with_logits = catalog("bce_with_logits")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@bce_with_logits.register
def bce_by_logaddexp(x, t):
    loss = np.mean(np.logaddexp(0, x) - x * t)
    p = np.exp(-np.logaddexp(0, -x))
    return loss, lambda dloss: {"x": dloss * (p - t) / x.size}


@bce_with_logits.register
def bce_shifted_by_the_larger_exponent(x, t):
    m = np.maximum(-x, 0)
    losses = (1 - t) * x + m + np.log(np.exp(-m) + np.exp(-x - m))

    def pullback(dloss):
        p = 0.5 * (1 + np.tanh(0.5 * x))
        return (p - t) * (dloss / losses.size), None

    return losses.sum() / losses.size, pullback


@bce_with_logits.register
def bce_both_labels_weighed(x, t):
    """One log-sigmoid for each label, and the chain rule through both."""

    def log_sigmoid(z):
        return np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))

    def pullback(dloss):
        share = np.full_like(x, dloss / x.size)
        dx = np.zeros_like(x)
        dx -= share * t * _sigmoid(-x)
        dx += share * (1 - t) * _sigmoid(x)
        return {"x": dx, "t": None}

    return -np.mean(t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x)), pullback


@bce_with_logits.register
def bce_masked_assignment(x, t):
    up, p, loss = x > 0, np.empty_like(x), -x * t
    e = np.exp(-x[up])
    p[up] = 1 / (1 + e)
    loss[up] += x[up] + np.log1p(e)
    e = np.exp(x[~up])
    p[~up] = e / (1 + e)
    loss[~up] += np.log1p(e)

    def pullback(dloss):
        dx = np.subtract(p, t)
        dx *= dloss
        dx /= x.size
        return dx

    return loss.mean(), pullback


@bce_with_logits.register
def bce_scalar_loops(x, t):
    N, C = x.shape
    total, slope = 0.0, np.empty_like(x)
    for n in range(N):
        for c in range(C):
            v, label = float(x[n, c]), float(t[n, c])
            e = math.exp(-abs(v))
            total += max(v, 0.0) - v * label + math.log1p(e)
            slope[n, c] = (1 / (1 + e) if v >= 0 else e / (1 + e)) - label
    return np.array(total / (N * C), x.dtype), lambda dloss: (slope * (dloss / (N * C)),)


@bce_with_logits.register
def bce_in_float64(x, t):
    z, label = x.astype(np.float64), t.astype(np.float64)
    loss = (np.logaddexp(0, z) - z * label).mean().astype(x.dtype)

    def pullback(dloss):
        return {"x": (np.float64(dloss) * (_sigmoid(z) - label) / z.size).astype(x.dtype)}

    return loss, pullback


@bce_with_logits.register
def naive_log_of_sigmoid(x, t):
    p = 1 / (1 + np.exp(-x))
    loss = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))

    def pullback(dloss):
        dp = dloss / x.size * ((1 - t) / (1 - p) - t / p)
        return {"x": dp * p * (1 - p)}

    return loss, pullback


class BCEWithLogits:
    """A callable object with its reduction as an attribute."""

    reduction = staticmethod(np.mean)

    def __call__(self, x, t):
        ctx = {"x": x.copy(), "t": t.copy()}
        # Where exp overflows, 1/inf is the right 0.
        losses = np.where(x < 0, np.log1p(np.exp(np.minimum(x, 0))),
                          x + np.log1p(np.exp(-np.maximum(x, 0))))  # fmt: skip
        return self.reduction(losses - x * t), partial(self.backward, ctx)

    @staticmethod
    def backward(ctx, dloss):
        return (1 / (1 + np.exp(-ctx["x"])) - ctx["t"]) * dloss / ctx["x"].size


bce_with_logits.register(name="bce_object_with_call")(BCEWithLogits())
