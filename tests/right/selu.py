"""Right ways of writing the self-normalizing exponential linear unit: any subgradient at 0."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

selu = catalog("selu")

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772


@selu.register
def by_its_result(x):
    """The slope below zero is y + SCALE*ALPHA: nothing but y need be kept."""
    y = np.where(x > 0, SCALE * x, SCALE * ALPHA * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: {"x": dy * np.where(y > 0, SCALE, y + SCALE * ALPHA)}


@selu.register
def maximum_plus_minimum(x):
    above, below = np.maximum(x, 0), np.minimum(x, 0)
    y = SCALE * (above + ALPHA * np.expm1(below))

    def pullback(dy):
        dabove = dbelow = SCALE * dy
        return {"x": dabove * (x > 0) + dbelow * ALPHA * np.exp(below) * (x <= 0)}

    return y, pullback


@selu.register
def minimum_of_the_exponential(x):
    e = ALPHA * np.exp(np.minimum(0, x)) - ALPHA
    y = SCALE * (np.maximum(0, x) + np.minimum(0, e))
    return y, lambda dy: SCALE * dy * np.where(x >= 0, 1, e + ALPHA)


@selu.register
def unguarded_where(x):
    """exp overflows where it is not selected, which does no harm."""
    with np.errstate(over="ignore"):
        e = np.exp(x)
    y = np.where(x > 0, SCALE * x, SCALE * ALPHA * (e - 1))
    return y, lambda dy: {"x": np.where(x > 0, SCALE * dy, SCALE * ALPHA * e * dy)}


@selu.register
def boolean_assignment(x):
    y, slope, below = SCALE * x, np.full_like(x, SCALE), x < 0
    slope[below] = SCALE * ALPHA * np.exp(x[below])
    y[below] = SCALE * ALPHA * np.expm1(x[below])
    return y, lambda dy: (slope * dy,)


@selu.register
def float32_constants(x):
    scale, alpha = x.dtype.type(SCALE), x.dtype.type(ALPHA)
    step = np.heaviside(x, x.dtype.type(0.5))  # halfway at the kink
    e = np.exp(x * (x < 0))
    y = scale * (step * x + (1 - step) * (alpha * (e - 1)))
    return y, lambda dy: {"x": scale * dy * (step + (1 - step) * alpha * e)}


@selu.register
def selected_and_recomputed(x):
    def pullback(dy):
        e = np.exp(np.clip(x, None, 0))
        return {"x": np.select([x > 0, x <= 0], [dy * SCALE, dy * (SCALE * ALPHA) * e])}

    curved = (SCALE * ALPHA) * np.expm1(np.clip(x, None, 0))
    return np.select([x > 0, x <= 0], [SCALE * x, curved]), pullback


@selu.register
def scalar_loop(x):
    y, slope = np.empty_like(x), np.empty_like(x)
    for k, v in np.ndenumerate(x):
        v = float(v)
        y[k] = SCALE * (v if v > 0 else ALPHA * math.expm1(v))
        slope[k] = SCALE * (1 if v > 0 else ALPHA * math.exp(v))
    return y, lambda dy: {"x": np.multiply(dy, slope)}


def _elu(alpha, x):
    curved = alpha * np.expm1(np.where(x > 0, 0, x))
    return np.where(x > 0, x, curved), lambda dy: dy * np.where(x > 0, 1, curved + alpha)


class Scaled:
    """Another unit times a number."""

    def __init__(self, scale, unit):
        self.scale, self.unit = scale, unit

    def __call__(self, x):
        y, back = self.unit(x)
        return self.scale * y, lambda dy: {"x": back(self.scale * dy)}


selu.register(name="object_of_scaled_elu")(Scaled(SCALE, partial(_elu, ALPHA)))
