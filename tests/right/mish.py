"""Right ways of writing mish; naive_* overflows where x is large."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

mish = catalog("mish")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@mish.register
def step_by_step(x):
    p = np.logaddexp(0, x)
    t = np.tanh(p)

    def pullback(dy):
        dx = dy * t
        dt = dy * x
        dp = dt * (1 - t**2)
        dx = dx + dp * _sigmoid(x)
        return {"x": dx}

    return x * t, pullback


@mish.register
def hyperbolic_secant(x):
    p = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    with np.errstate(over="ignore"):  # 1 over an infinite cosh is 0
        sech = 1 / np.cosh(p)
    return x * np.tanh(p), lambda dy: (dy * (np.tanh(p) + x * sech * sech * _sigmoid(x)),)


@mish.register
def rational_in_exp(x):
    """tanh(log(1 + e)) = (e*e + 2*e)/(e*e + 2*e + 2), where x > 0 in powers of 1/e."""
    e, right = np.exp(-np.abs(x)), x > 0
    top = np.where(right, 1 + 2 * e, e * e + 2 * e)
    bottom = top + 2 * np.where(right, e * e, 1)
    t = top / bottom

    def pullback(dy):
        dt = 4 * e * (1 + e) * np.where(right, e, 1) / bottom**2
        return {"x": dy * (t + x * dt)}

    return x * t, pullback


@mish.register
def formula_of_the_paper(x):
    """The slope is exp(x)*omega/delta**2, where x > 0 divided through by exp(x)**4."""
    e = np.exp(-np.abs(x))
    left = 4 * (x + 1) + 4 * e**2 + e**3 + e * (4 * x + 6)
    right = 4 * (x + 1) * e**3 + 4 * e + 1 + e**2 * (4 * x + 6)
    slope = np.where(x > 0, right / (2 * e + 1 + 2 * e**2) ** 2, e * left / (2 * e + e**2 + 2) ** 2)
    return x * np.tanh(np.logaddexp(0, x)), lambda dy: {"x": dy * slope}


@mish.register
def naive_log_of_one_plus_exp(x):
    e = np.exp(x)
    t = np.tanh(np.log(1 + e))
    return x * t, lambda dy: {"x": dy * (t + x * (1 - t * t) * e / (1 + e))}


# exp(20) is beyond half precision.
@mish.register(dtypes=("float64", "float32"))
def linear_above_a_threshold(x):
    """Beyond 20, tanh of softplus is 1 to the last digit."""
    e = np.exp(np.minimum(x, 20))
    t = np.where(x > 20, 1, np.tanh(np.log1p(e)))

    def pullback(dy):
        return {"x": np.where(x > 20, dy, dy * t + dy * x * (1 - t) * (1 + t) * e / (1 + e))}

    return x * t, pullback


@mish.register
def recomputed_einsum(x):
    def inner():
        return np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))

    def pullback(dy):
        t = inner()
        curved = np.einsum("nc,nc,nc->nc", x, _sigmoid(x), 1 - np.square(t))
        return np.einsum("nc,nc->nc", dy, t + curved)

    return np.einsum("nc,nc->nc", x, inner()), pullback


@mish.register
def scalar_loop(x):
    y, slope = np.empty_like(x), np.empty_like(x)
    for k in np.ndindex(x.shape):
        v = float(x[k])
        e = math.exp(-abs(v))
        t = math.tanh(max(v, 0) + math.log1p(e))
        y[k] = v * t
        slope[k] = t + v * (1 - t * t) * (1 if v >= 0 else e) / (1 + e)
    return y, lambda dy: {"x": dy * slope}


class Mish:
    """Each factor with its own backward, the parts composed."""

    def softplus(self, x):
        e = np.exp(-np.abs(x))
        return np.maximum(x, 0) + np.log1p(e), lambda dy: dy * np.where(x >= 0, 1, e) / (1 + e)

    def tanh(self, x):
        y = np.tanh(x)
        return y, lambda dy: dy - dy * y * y

    def __call__(self, x):
        p, softplus_back = self.softplus(x)
        t, tanh_back = self.tanh(p)
        return x * t, partial(self.backward, x, t, softplus_back, tanh_back)

    def backward(self, x, t, softplus_back, tanh_back, dy):
        return {"x": dy * t + softplus_back(tanh_back(dy * x))}


mish.register(name="object_of_parts")(Mish())
