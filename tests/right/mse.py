"""Right ways of writing the mean squared error; naive_* cancels where x and t are large.

In half precision a sum overflows where a mean does not.
"""

import math
from functools import partial

import numpy as np

from gradverify import catalog

mse = catalog("mse")


@mse.register(dtypes=("float64", "float32"))
def sum_over_size(x, t):
    error = x - t
    loss = np.sum(error**2) / error.size
    return loss, lambda dloss: {"x": 2 * error * dloss / error.size}


@mse.register
def step_by_step(x, t):
    difference = t - x
    squares = np.square(difference)
    loss = np.mean(squares)

    def pullback(dloss):
        dsquares = np.full_like(squares, 1 / squares.size) * dloss
        ddifference = 2 * difference * dsquares
        return {"x": -ddifference, "t": None}

    return loss, pullback


@mse.register(dtypes=("float64", "float32"))
def dot_of_itself(x, t):
    flat = (x - t).ravel()
    return np.dot(flat, flat) / x.dtype.type(x.size), lambda dloss: (
        (x - t) * (dloss + dloss) / x.size,
        None,
    )


@mse.register(dtypes=("float64", "float32"))
def einsum(x, t):
    N, C = x.shape
    error = x - t
    loss = np.einsum("nc,nc->", error, error) / (N * C)
    return loss, lambda dloss: np.einsum(",nc->nc", dloss, error) * (2 / (N * C))


@mse.register(dtypes=("float64", "float32"))
def squared_norm(x, t):
    """The Frobenius norm is 0 where all is right, so that its own gradient is not used."""
    return np.linalg.norm(x - t) ** 2 / x.size, lambda dloss: {"x": dloss * 2 / x.size * (x - t)}


@mse.register
def mean_of_means(x, t):
    N, C = x.shape
    per_row = ((x - t) ** 2).mean(axis=1)

    def pullback(dloss):
        drow = np.repeat(dloss / N, N)
        return {"x": np.broadcast_to(drow[:, None], (N, C)) * 2 * (x - t) / C}

    return per_row.mean(), pullback


@mse.register
def naive_expanded_square(x, t):
    xx, xt, tt = (np.einsum("nc,nc->", *pair) for pair in ((x, x), (x, t), (t, t)))

    def pullback(dloss):
        share = dloss / x.size
        return {"x": 2 * share * x - 2 * share * t}

    return (xx - 2 * xt + tt) / x.size, pullback


@mse.register
def loops_with_fsum(x, t):
    error = [[float(a) - float(b) for a, b in zip(*rows, strict=True)] for rows in zip(x, t)]  # noqa: B905
    loss = math.fsum(e * e for row in error for e in row) / x.size

    def pullback(dloss):
        dx = [[2 / x.size * e * float(dloss) for e in row] for row in error]
        return {"x": np.array(dx, x.dtype)}

    return x.dtype.type(loss), pullback


@mse.register
def running_mean(x, t):
    """Welford's mean, so that no sum grows."""
    loss = np.zeros((), x.dtype)
    for k, e in enumerate((x - t).flat):
        loss += (e * e - loss) / x.dtype.type(k + 1)
    return loss, lambda dloss: {"x": (x - t) * (x.dtype.type(2) * dloss / x.dtype.type(x.size))}


class MeanSquaredError:
    """A loss that keeps the error of a call in what it returns as its backward."""

    def __init__(self, reduce):
        self.reduce = reduce

    def __call__(self, x, t):
        error = np.subtract(x, t)
        return self.reduce(error * error), partial(self.backward, error)

    def backward(self, error, dloss):
        dx = error * dloss
        dx /= error.size / 2
        return {"x": dx}


mse.register(name="object_with_mean")(MeanSquaredError(np.mean))
mse.register(name="object_with_average")(MeanSquaredError(np.average))
