"""Right ways of writing the sigmoid-weighted linear unit; cancelling_* lose digits below it."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

silu = catalog("silu")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@silu.register
def product_rule(x):
    s = _sigmoid(x)

    def pullback(dy):
        dx = dy * s
        ds = dy * x
        dx += ds * s * (1 - s)
        return {"x": dx}

    return x * s, pullback


@silu.register
def by_its_result(x):
    """swish' = swish + sigmoid (1 - swish)."""
    s = _sigmoid(x)
    y = x * s
    return y, lambda dy: {"x": dy * (y + s * (1 - y))}


@silu.register
def quotient(x):
    """An exp that overflows is infinite, and x over it the 0 that it should be."""
    with np.errstate(over="ignore"):
        down = 1 + np.exp(-x)
    return x / down, lambda dy: (dy / down + dy * x * (1 - 1 / down) / down,)


@silu.register
def both_sides(x):
    e = np.exp(-np.abs(x))
    here, there = np.where(x >= 0, 1, e) / (1 + e), np.where(x >= 0, e, 1) / (1 + e)
    return here * x, lambda dy: {"x": dy * here * (1 + x * there)}


@silu.register
def cancelling_tanh(x):
    t = np.tanh(0.5 * x)

    def pullback(dy):
        return {"x": dy * (0.5 * (1 + t) + 0.25 * x * (1 - t * t))}

    return 0.5 * x * (1 + t), pullback


@silu.register
def recomputed_einsum(x):
    def pullback(dy):
        s = _sigmoid(x)
        return np.einsum("nc,nc->nc", dy, s) + np.einsum("nc,nc,nc,nc->nc", dy, x, s, 1 - s)

    return np.einsum("nc,nc->nc", x, _sigmoid(x)), pullback


@silu.register
def masks(x):
    e, right = np.exp(-np.abs(x)), (x >= 0).astype(x.dtype)
    s = (right + (1 - right) * e) / (1 + e)
    slope = s + x * e / (1 + e) ** 2
    return s * x, lambda dy: slope * dy


@silu.register
def vectorized_scalar(x):
    def one(v):
        s = 1 / (1 + math.exp(-v)) if v > 0 else math.exp(v) / (1 + math.exp(v))
        return v * s, s * (1 + v * (1 - s))

    y, slope = np.vectorize(one, otypes=[float, float])(x)
    return y.astype(x.dtype), lambda dy: {"x": (dy * slope).astype(x.dtype)}


class Silu:
    """A callable object made with its function for the sigmoid."""

    def __init__(self, gate):
        self.gate = gate

    def __call__(self, x):
        return x * self.gate(x), partial(self.backward, x)

    def backward(self, x, dy):
        s = self.gate(x)
        return {"x": dy * (s + x * (s - s**2))}


silu.register(name="object_with_gate")(Silu(_sigmoid))
silu.register(name="object_with_softplus_gate")(Silu(lambda z: np.exp(-np.logaddexp(0, -z))))
