"""Right ways of writing the exponential linear unit."""

import math

import numpy as np

from gradverify import catalog

elu = catalog("elu")


@elu.register
def by_its_result(x, *, alpha):
    """The slope below zero is y + alpha: nothing but y need be kept."""
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: {"x": np.where(x > 0, dy, dy * (y + alpha))}


@elu.register
def exp_minus_one(x, *, alpha):
    e = np.exp(np.minimum(x, 0))
    return np.where(x > 0, x, alpha * (e - 1)), lambda dy: dy * np.where(x > 0, 1, alpha * e)


@elu.register
def sum_of_both_sides(x, *, alpha):
    left, right = np.minimum(x, 0), np.maximum(x, 0)
    y = right + alpha * np.expm1(left)
    return y, lambda dy: {"x": dy * (x > 0) + dy * (x <= 0) * alpha * np.exp(left)}


@elu.register
def boolean_assignment(x, *, alpha):
    y, slope, below = x.copy(), np.ones_like(x), x < 0
    slope[below] = alpha * np.exp(x[below])
    y[below] = slope[below] - alpha
    return y, lambda dy: (slope * dy,)


@elu.register
def elu_scalar_loop(x, *, alpha):
    y, slope = np.empty_like(x), np.empty_like(x)
    for index in np.ndindex(x.shape):
        v = float(x[index])
        y[index] = v if v >= 0 else alpha * math.expm1(v)
        slope[index] = 1.0 if v >= 0 else alpha * math.exp(v)

    def pullback(dy):
        dx = np.array(dy)
        dx *= slope
        return {"x": dx}

    return y, pullback


@elu.register
def elu_the_branch_not_taken_overflows(x, *, alpha):
    """What where() leaves out may be infinite: it is not multiplied by zero."""
    with np.errstate(over="ignore"):
        y = np.where(x > 0, x, alpha * np.expm1(x))
        slope = np.where(x > 0, 1, alpha * np.exp(x))
    return y, lambda dy: (dy * slope,)
