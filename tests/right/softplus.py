"""Right ways of writing softplus; naive_* fails where x is large, cancelling_* far below 0."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

softplus = catalog("softplus")


@softplus.register
def naive_exp_of_difference(x, *, beta):
    """Where x is large, y's last digit is far above that of the difference."""
    y = np.logaddexp(0, beta * x) / beta
    return y, lambda dy: {"x": dy * np.exp(beta * (x - y))}


@softplus.register
def logaddexp(x, *, beta):
    z = beta * x
    return np.logaddexp(z, 0) / beta, lambda dy: (dy * np.exp(-np.logaddexp(0, -z)),)


@softplus.register
def by_its_result(x, *, beta):
    """The slope is 1 - exp(-beta*y): nothing but y need be kept."""
    y = np.logaddexp(0, beta * x) / beta
    return y, lambda dy: dy * -np.expm1(-beta * y)


# exp(40) is beyond half precision.
@softplus.register(dtypes=("float64", "float32"))
def linear_above_a_threshold(x, *, beta):
    """Beyond 40, exp(-z) is below the last digit of z."""
    z = beta * x
    linear = z > 40
    e = np.exp(np.where(linear, 0, z))

    def pullback(dy):
        return {"x": np.where(linear, dy, dy * e / (1 + e))}

    return np.where(linear, x, np.log1p(e) / beta), pullback


@softplus.register
def boolean_assignment(x, *, beta):
    y, slope = np.empty_like(x), np.empty_like(x)
    right = x > 0
    up, down = np.exp(-beta * x[right]), np.exp(beta * x[~right])
    y[right], y[~right] = x[right] + np.log1p(up) / beta, np.log1p(down) / beta
    slope[right], slope[~right] = 1 / (1 + up), down / (1 + down)
    return y, lambda dy: {"x": dy * slope}


@softplus.register
def step_by_step(x, *, beta):
    z = x * beta
    positive = np.maximum(z, 0)
    tail = np.log1p(np.exp(-np.abs(z)))

    def pullback(dy):
        dpositive = dtail = dy / beta
        e = np.exp(-np.abs(z))
        dabs = -dtail * e / (1 + e)
        dz = dpositive * (z > 0) + np.where(z > 0, dabs, -dabs)
        return {"x": beta * dz}

    return (positive + tail) / beta, pullback


@softplus.register
def halves_of_abs(x, *, beta):
    """The even part is log(2 cosh(z/2)); cosh cannot overflow once exp(|z|/2) is taken out."""
    half = np.abs(x) * (beta / 2)
    y = (half + np.log1p(np.exp(-2 * half))) / beta + x / 2
    return y, lambda dy: {"x": dy * (0.5 + 0.5 * np.tanh(beta / 2 * x))}


@softplus.register
def cancelling_log_of_sigmoid(x, *, beta):
    e = np.exp(-beta * np.abs(x))
    s = np.where(x >= 0, 1, e) / (1 + e)
    y = np.maximum(x, 0) - np.log(np.maximum(s, 1 - s)) / beta
    return y, lambda dy: s * dy


@softplus.register
def naive_log_of_one_plus_exp(x, *, beta):
    e = np.exp(beta * x)
    return np.log(1 + e) / beta, lambda dy: {"x": dy * e / (1 + e)}


@softplus.register
def scalar_loop(x, *, beta):
    y, slope = np.empty(x.shape), np.empty(x.shape)
    for k, v in np.ndenumerate(x):
        z = beta * float(v)
        y[k] = (max(z, 0.0) + math.log1p(math.exp(-abs(z)))) / beta
        slope[k] = 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))
    return y.astype(x.dtype), lambda dy: {"x": (dy * slope).astype(x.dtype)}


class Softplus:
    """The unit of sharpness 1, stretched by beta in a call."""

    def unit(self, z):
        e = np.exp(-np.abs(z))
        return np.where(z < 0, 0, z) + np.log1p(e), np.where(z < 0, e, 1) / (1 + e)

    def __call__(self, x, *, beta):
        y, slope = self.unit(x * x.dtype.type(beta))
        return y / x.dtype.type(beta), partial(self.backward, slope)

    def backward(self, slope, dy):
        return [np.multiply(slope, dy)]


softplus.register(name="object_with_unit")(Softplus())
