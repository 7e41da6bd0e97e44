"""Right ways of writing the logistic sigmoid; cancelling_* are right to an ulp of 1 only."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

sigmoid = catalog("sigmoid")


@sigmoid.register
def reciprocal(x):
    """An exp that overflows is infinite, and 1 over it the 0 that it should be."""
    with np.errstate(over="ignore"):
        y = 1 / (1 + np.exp(-x))
    return y, lambda dy: {"x": dy * y * (1 - y)}


@sigmoid.register
def boolean_assignment(x):
    y, right = np.empty_like(x), x >= 0
    e = np.exp(x[~right])
    y[right] = 1 / (1 + np.exp(-x[right]))
    y[~right] = e / (1 + e)

    def pullback(dy):
        return (dy * (y - y * y),)

    return y, pullback


@sigmoid.register
def clipped_exponents(x):
    left, right = np.exp(np.minimum(x, 0)), np.exp(-np.maximum(x, 0))
    y = left / (left + right)
    return y, lambda dy: {"x": dy * left * right / (left + right) ** 2}


@sigmoid.register
def slope_from_decay(x):
    e = np.exp(-np.abs(x))
    slope = e / np.square(1 + e)
    y = np.where(x < 0, e, 1) / (1 + e)
    return y, lambda dy: np.multiply(dy, slope)


@sigmoid.register
def product_of_both_sides(x):
    def side(z):
        e = np.exp(-np.abs(z))
        return np.where(z > 0, 1 / (1 + e), e / (1 + e))

    return side(x), lambda dy: {"x": dy * side(x) * side(-x)}


@sigmoid.register
def exp_of_minus_softplus(x):
    y = np.exp(-np.logaddexp(0, -x))
    return y, lambda dy: {"x": dy * y * np.exp(-np.logaddexp(0, x))}


@sigmoid.register
def cancelling_half_of_tanh(x):
    t = np.tanh(0.5 * x)
    return 0.5 * (1 + t), lambda dy: {"x": 0.25 * dy * (1 - t * t)}


@sigmoid.register
def cancelling_half_of_tanh_by_its_result(x):
    y = np.tanh(x / 2) / 2 + x.dtype.type(0.5)

    def pullback(dy):
        return {"x": y * (1 - y) * dy}

    return y, pullback


@sigmoid.register
def scalar_loop(x):
    def one(v):
        if v >= 0:
            return 1 / (1 + math.exp(-v))
        e = math.exp(v)
        return e / (1 + e)

    y = np.array([[one(float(v)) for v in row] for row in x], x.dtype)

    def pullback(dy):
        dx = np.zeros_like(x)
        for n, c in np.ndindex(x.shape):
            dx[n, c] = dy[n, c] * y[n, c] * (1 - y[n, c])
        return {"x": dx}

    return y, pullback


@sigmoid.register
def in_place(x):
    work = np.abs(x)
    np.negative(work, out=work)
    np.exp(work, out=work)
    y = np.where(x >= 0, 1, work)
    work += 1
    y /= work

    def pullback(dy):
        dx = 1 - y
        dx *= y
        dx *= dy
        return {"x": dx}

    return y, pullback


class Sigmoid:
    """Forward and backward that hand a context on, as in a framework."""

    @staticmethod
    def forward(context, x):
        e = np.exp(-np.abs(x))
        context["e"], context["total"] = e, 1 + e
        return np.where(x >= 0, 1, e) / context["total"]

    @staticmethod
    def backward(context, dy):
        e, total = context["e"], context["total"]
        return {"x": dy * (e / total) * (1 / total)}

    def __call__(self, x):
        context = {}
        return self.forward(context, x), partial(self.backward, context)


sigmoid.register(name="object_with_context")(Sigmoid())
