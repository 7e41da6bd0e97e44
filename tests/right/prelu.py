"""Right ways of writing prelu: any subgradient at 0; cancelling_* lose digits below it."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

prelu = catalog("prelu")


@prelu.register
def maximum_plus_minimum(x, a):
    positive, negative = np.maximum(x, 0), np.minimum(x, 0)

    def pullback(dy):
        dx = dy * (x > 0) + dy * a * (x <= 0)
        return {"x": dx, "a": np.sum(dy * negative, axis=0)}

    return positive + a * negative, pullback


@prelu.register
def einsum(x, a):
    below = (x < 0).astype(x.dtype)
    y = x * (1 - below) + np.einsum("nc,c,nc->nc", x, a, below)

    def pullback(dy):
        dx = dy * (1 - below) + np.einsum("nc,c,nc->nc", dy, a, below)
        return dx, np.einsum("nc,nc,nc->c", dy, x, below)

    return y, pullback


@prelu.register
def cancelling_linear_plus_abs(x, a):
    y = 0.5 * ((1 + a) * x + (1 - a) * np.abs(x))

    def pullback(dy):
        dx = 0.5 * dy * ((1 + a) + (1 - a) * np.sign(x))
        return {"x": dx, "a": 0.5 * (dy * (x - np.abs(x))).sum(axis=0)}

    return y, pullback


@prelu.register
def boolean_assignment(x, a):
    below = x <= 0
    slopes = np.broadcast_to(a, x.shape)
    y = x.copy()
    y[below] *= slopes[below]

    def pullback(dy):
        dx, da = dy.copy(), dy * x
        dx[below] *= slopes[below]
        da[~below] = 0
        return dx, da.sum(axis=0)

    return y, pullback


@prelu.register
def loop_over_channels(x, a):
    y = np.column_stack([np.where(x[:, c] > 0, x[:, c], a[c] * x[:, c]) for c in range(len(a))])

    def pullback(dy):
        dx, da = np.empty_like(x), np.empty_like(a)
        for c in range(len(a)):
            below = x[:, c] < 0
            dx[:, c] = np.where(below, a[c] * dy[:, c], dy[:, c])
            da[c] = dy[:, c] @ np.where(below, x[:, c], 0)
        return {"a": da, "x": dx}

    return y, pullback


@prelu.register
def scalar_loops_with_fsum(x, a):
    y = np.array([[v if v > 0 else s * v for v, s in zip(row, a, strict=True)] for row in x])

    def pullback(dy):
        dx = np.empty_like(x)
        for index, v in np.ndenumerate(x):
            dx[index] = dy[index] if v > 0 else a[index[1]] * dy[index]
        terms = (dy.astype(float) * np.minimum(x, 0)).T.tolist()
        return {"x": dx, "a": np.array([math.fsum(t) for t in terms], x.dtype)}

    return y.astype(x.dtype), pullback


@prelu.register
def in_float64(x, a):
    wide = x.astype(np.float64)

    def pullback(dy):
        g = dy.astype(np.float64)
        dx, da = np.where(wide > 0, g, a * g), (g * np.minimum(wide, 0)).sum(axis=0)
        return dx.astype(x.dtype), da.astype(x.dtype)

    return np.where(wide > 0, wide, a * wide).astype(x.dtype), pullback


class PReLU:
    """A callable object; the slope's gradient is summed backwards, by running sums."""

    def __call__(self, x, a):
        factor = np.where(x >= 0, np.ones_like(x), a)
        return x * factor, partial(self.backward, x, factor)

    @staticmethod
    def backward(x, factor, dy):
        terms = np.where(x >= 0, 0, dy * x)[::-1]
        return {"x": dy * factor, "a": np.cumsum(terms, axis=0)[-1].copy()}


prelu.register(name="object_with_call")(PReLU())
