"""Right ways of writing leaky relu: any subgradient at 0; cancelling_* lose digits below it."""

from functools import partial

import numpy as np

from gradverify import catalog

leaky_relu = catalog("leaky_relu")


@leaky_relu.register
def maximum_plus_minimum(x, *, slope):
    y = np.maximum(x, 0) + slope * np.minimum(x, 0)

    def pullback(dy):
        return {"x": dy * (x > 0) + slope * (dy * (x <= 0))}

    return y, pullback


@leaky_relu.register
def larger_of_both(x, *, slope):
    return np.maximum(x, slope * x), lambda dy: np.where(x >= slope * x, dy, slope * dy)


@leaky_relu.register
def mask_product(x, *, slope):
    factor = np.where(x > 0, np.ones_like(x), np.full_like(x, slope))
    return factor * x, lambda dy: {"x": factor * dy}


@leaky_relu.register
def boolean_assignment(x, *, slope):
    negative = x < 0
    y = x.copy()
    y[negative] *= slope

    def pullback(dy):
        dx = dy.copy()
        dx[negative] *= slope
        return (dx,)

    return y, pullback


@leaky_relu.register
def cancelling_linear_plus_abs(x, *, slope):
    even, odd = (1 - slope) / 2, (1 + slope) / 2

    def pullback(dy):
        return {"x": dy * (odd + even * np.sign(x))}

    return odd * x + even * np.abs(x), pullback


@leaky_relu.register
def cancelling_negative_part(x, *, slope):
    def pullback(dy):
        return {"x": dy - (1 - slope) * dy * (x < 0)}

    return x - (1 - slope) * np.minimum(x, 0), pullback


@leaky_relu.register
def from_the_output(x, *, slope):
    y = np.select([x > 0], [x], slope * x)
    positive = y > 0
    return y, lambda dy: {"x": np.choose(positive, [slope * dy, dy])}


def _scaled(v, *, kept, slope):
    out = np.empty_like(v)
    for index, keep in np.ndenumerate(kept):
        out[index] = v[index] if keep else slope * v[index]
    return out


@leaky_relu.register
def scalar_loop_bound_by_partial(x, *, slope):
    op = partial(_scaled, kept=x > 0, slope=slope)
    return op(x), op


class LeakyReLU:
    """A callable object that computes in float64."""

    def __call__(self, x, *, slope):
        factor = np.where(x.astype(np.float64) > 0, 1.0, slope)
        return (x * factor).astype(x.dtype), lambda dy: {"x": (dy * factor).astype(x.dtype)}


leaky_relu.register(name="object_in_float64")(LeakyReLU())
