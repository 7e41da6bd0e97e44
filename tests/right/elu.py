"""Right ways of writing the exponential linear unit."""

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
