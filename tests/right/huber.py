"""Right ways of writing the mean Huber loss."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

huber = catalog("huber")


@huber.register
def huber_by_where(x, t, *, delta):
    error = x - t
    size = np.abs(error)
    near = size <= delta
    losses = np.where(near, 0.5 * error**2, delta * (size - 0.5 * delta))

    def pullback(dloss):
        return {"x": np.where(near, error, delta * np.sign(error)) * dloss / x.size}

    return np.mean(losses), pullback


@huber.register
def naive_quadratic_and_linear_part(x, t, *, delta):
    """min(|e|, delta) is the quadratic part, the rest the linear one; both are differentiated.

    What delta contributes to both cancels, so that a small slope carries delta's rounding.
    """
    size = np.abs(x - t)
    quadratic = np.minimum(size, delta)
    linear = size - quadratic
    losses = quadratic**2 / 2 + delta * linear

    def pullback(dloss):
        dlosses = np.full_like(losses, dloss / losses.size)
        dlinear = delta * dlosses
        dquadratic = quadratic * dlosses - dlinear
        dsize = dlinear + dquadratic * (size < delta)
        return dsize * np.sign(x - t), None

    return losses.mean(), pullback


@huber.register
def huber_masked_assignment(x, t, *, delta):
    error = np.subtract(x, t)
    slope = error.copy()
    far = np.abs(error) > delta
    slope[far] = np.copysign(x.dtype.type(delta), error[far])
    total = np.sum(error[~far] ** 2) / 2 + delta * np.sum(np.abs(error[far]) - delta / 2)

    def pullback(dloss):
        dx = slope / error.size
        dx *= dloss
        return dx

    return total / error.size, pullback


@huber.register
def huber_scalar_loops(x, t, *, delta):
    losses, slopes = [], []
    for value, target in zip(x.ravel().tolist(), t.ravel().tolist(), strict=True):
        e = value - target
        if abs(e) <= delta:
            losses.append(e * e / 2)
            slopes.append(e)
        else:
            losses.append(delta * (abs(e) - delta / 2))
            slopes.append(math.copysign(delta, e))
    slope = np.array(slopes, x.dtype).reshape(x.shape)
    return np.array(math.fsum(losses) / x.size, x.dtype), lambda dloss: (slope * dloss / x.size,)


@huber.register
def huber_three_pieces(x, t, *, delta):
    e = x - t
    over, under = (e > delta).astype(x.dtype), (e < -delta).astype(x.dtype)
    inside = 1 - over - under
    losses = inside * e * e / 2 + over * delta * (e - delta / 2) - under * delta * (e + delta / 2)

    def pullback(dloss):
        return {"x": dloss / e.size * (inside * e + over * delta - under * delta)}

    return losses.sum() / e.size, pullback


@huber.register
def huber_scaled_smooth_l1(x, t, *, delta):
    """delta**2 times the loss of the error in units of delta."""
    scaled = (x - t) / delta
    bounded = np.maximum(np.minimum(scaled, 1), -1)
    loss = delta**2 * np.mean(bounded * scaled - np.square(bounded) / 2)
    return loss, partial(lambda b, dloss: {"x": b * (delta * dloss / b.size), "t": None}, bounded)


@huber.register
def huber_nearest_point(x, t, *, delta):
    """What is left of the square when the part of the error beyond delta is taken off, and paid."""
    error = x - t
    beyond = np.sign(error) * np.maximum(np.abs(error) - delta, 0)
    rest = error - beyond

    def pullback(dloss):
        return np.multiply(rest, dloss / rest.size)

    return np.vdot(rest, rest) / 2 / rest.size + delta * np.mean(np.abs(beyond)), pullback
