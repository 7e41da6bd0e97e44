"""Right ways of writing the tanh form of the Gaussian error linear unit."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

gelu = catalog("gelu")

SCALE = math.sqrt(2 / math.pi)
CUBIC = 0.044715


# The cube of 41 is beyond half precision.
@gelu.register(dtypes=("float64", "float32"))
def step_by_step(x):
    u = SCALE * (x + CUBIC * x**3)
    t = np.tanh(u)
    y = 0.5 * x * (1 + t)

    def pullback(dy):
        dt = dy * 0.5 * x
        du = dt * (1 - t**2)
        dx = dy * 0.5 * (1 + t) + du * SCALE * (1 + 3 * CUBIC * x**2)
        return {"x": dx}

    return y, pullback


@gelu.register(dtypes=("float64", "float32"))
def power_function(x):
    t = np.tanh(SCALE * (x + CUBIC * np.power(x, 3)))

    def pullback(dy):
        inner = SCALE + 3 * SCALE * CUBIC * np.power(x, 2)
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - np.power(t, 2)) * inner)

    return 0.5 * (x + x * t), pullback


@gelu.register(dtypes=("float64", "float32"))
def expanded_coefficients(x):
    a, b = 0.5 * SCALE, 1.5 * SCALE * CUBIC
    x3 = x * x * x
    t = np.tanh(SCALE * x + SCALE * CUBIC * x3)
    y = 0.5 * x + 0.5 * x * t

    def pullback(dy):
        sech2 = 1 - t * t
        return {"x": dy * (0.5 + 0.5 * t + (a * x + b * x3) * sech2)}

    return y, pullback


def _sigmoid_of_twice(u):
    e = np.exp(-np.abs(u)) ** 2  # 2*u itself is beyond half precision at 97
    return np.where(u >= 0, 1, e) / (1 + e)


@gelu.register
def sigmoid_of_twice(x):
    s = _sigmoid_of_twice(SCALE * x * (1 + CUBIC * x * x))
    y = x * s

    def pullback(dy):
        slope = 2 * SCALE * (1 + 3 * CUBIC * x * x)
        return {"x": dy * (s + x * (s * (1 - s) * slope))}

    return y, pullback


@gelu.register
def two_sided_sigmoids(x):
    u = x * (SCALE + SCALE * CUBIC * x * x)
    right, left = _sigmoid_of_twice(u), _sigmoid_of_twice(-u)

    def pullback(dy):
        dz_dx = SCALE * (2 + 6 * CUBIC * x * x)
        return (dy * (right + right * left * dz_dx * x),)

    return x * right, pullback


@gelu.register
def factored_difference_of_squares(x):
    t = np.tanh(SCALE * x * (1 + CUBIC * np.square(x)))
    cdf = 0.5 * (1 + t)

    def pullback(dy):
        density = 2 * SCALE * cdf * (0.5 * (1 - t)) * (1 + 3 * CUBIC * np.square(x))
        return {"x": dy * cdf + dy * x * density}

    return cdf * x, pullback


@gelu.register
def recomputed(x):
    def tanh(x):
        return np.tanh(x * SCALE * (1 + CUBIC * x * x))

    def pullback(dy):
        t = tanh(x)
        left = 0.5 * x * (1 - t * t) * SCALE * (1 + 3 * CUBIC * x * x)
        right = 0.5 * (1 + t)
        return {"x": (left + right) * dy}

    return (1 + tanh(x)) * x * 0.5, pullback


@gelu.register
def tanh_from_expm1(x):
    u = SCALE * np.abs(x) * (1 + CUBIC * x * x)
    m = -np.expm1(-2 * np.minimum(u, 30))  # beyond 30, tanh is 1 to the last digit
    t = np.sign(x) * m / (2 - m)
    y = 0.5 * x * (1 + t)

    def pullback(dy):
        dt_dx = (1 + t) * (1 - t) * SCALE * (1 + 3 * CUBIC * x * x)
        return {"x": 0.5 * ((1 + t) * dy + x * dt_dx * dy)}

    return y, pullback


@gelu.register
def scalar_loop(x):
    y, slope = np.empty_like(x), np.empty(x.shape)
    for index in np.ndindex(x.shape):
        v = float(x[index])
        t = math.tanh(SCALE * (v + CUBIC * v**3))
        y[index] = 0.5 * v * (1 + t)
        slope[index] = 0.5 * (1 + t + v * (1 - t * t) * SCALE * (1 + 3 * CUBIC * v * v))

    def pullback(dy):
        dx = np.empty_like(x)
        for index in np.ndindex(x.shape):
            dx[index] = float(dy[index]) * slope[index]
        return {"x": dx}

    return y, pullback


@gelu.register
def slope_stored_in_float64(x):
    wide = x.astype(np.float64)
    t = np.tanh(SCALE * (wide + CUBIC * wide**3))
    slope = 0.5 * (1 + t) + 0.5 * wide * (1 - t**2) * SCALE * (1 + 3 * CUBIC * wide**2)
    return (0.5 * wide * (1 + t)).astype(x.dtype), lambda dy: {"x": (dy * slope).astype(x.dtype)}


class Gelu:
    """A callable object with its constants as attributes."""

    def __init__(self, cubic=CUBIC):
        self.cubic = cubic
        self.scale = (2 / math.pi) ** 0.5

    def __call__(self, x):
        inner = x * (self.scale + self.scale * self.cubic * x * x)
        t = np.tanh(inner)
        return x * (0.5 * t + 0.5), partial(self.backward, x, t)

    def backward(self, x, t, dy):
        slope = self.scale + self.scale * (3 * self.cubic) * x * x
        return dy * (0.5 * t + 0.5 + 0.5 * x * (slope * (1 - t * t)))


gelu.register(name="object_with_call")(Gelu())
