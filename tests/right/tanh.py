"""Right ways of writing the hyperbolic tangent; naive_* fails where x is large."""

import numpy as np

from gradverify import catalog

tanh = catalog("tanh")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@tanh.register
def by_cosh(x):
    return np.tanh(x), lambda dy: {"x": dy / np.cosh(np.clip(x, -40, 40)) ** 2}


@tanh.register
def from_sigmoid(x):
    y = 2 * _sigmoid(2 * x) - 1
    return y, lambda dy: {"x": dy * (1 - y) * (1 + y)}


@tanh.register
def product_of_sigmoids(x):
    return np.tanh(x), lambda dy: {"x": 4 * dy * _sigmoid(2 * x) * _sigmoid(-2 * x)}


@tanh.register
def decaying_exponentials(x):
    e = np.exp(-2 * np.abs(x))
    y = np.sign(x) * (1 - e) / (1 + e)
    return y, lambda dy: {"x": dy - dy * y**2}


@tanh.register
def naive_quotient(x):
    up, down = np.exp(x), np.exp(-x)
    y = (up - down) / (up + down)
    return y, lambda dy: {"x": dy * (1 - y * y)}
