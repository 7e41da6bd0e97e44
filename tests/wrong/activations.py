"""Wrong relu, leaky relu, prelu, gelu and dropout; named as in the other files of this folder."""

import math

import numpy as np

from gradverify import catalog

relu, leaky_relu, prelu, gelu, dropout = map(
    catalog, ("relu", "leaky_relu", "prelu", "gelu", "dropout")
)


@relu.register
def dx_of_relu_passes_everything(x):
    return np.maximum(x, 0), lambda dy: {"x": dy.copy()}


@relu.register
def dx_of_relu_with_the_sides_swapped(x):
    return np.maximum(x, 0), lambda dy: {"x": dy * (x < 0)}


@relu.register
def dx_of_relu_where_the_cotangent_is_positive(x):
    """Guided backpropagation: a picture, not a gradient."""
    return np.maximum(x, 0), lambda dy: {"x": dy * (x > 0) * (dy > 0)}


@leaky_relu.register
def dx_of_leaky_relu_with_the_usual_slope(x, *, slope):
    y = np.where(x > 0, x, slope * x)
    return y, lambda dy: {"x": np.where(x > 0, dy, 0.01 * dy).astype(x.dtype)}


@leaky_relu.register
def dx_of_leaky_relu_for_positive_x(x, *, slope):
    y = np.where(x > 0, x, slope * x)
    return y, lambda dy: {"x": dy * (x > 0)}


@prelu.register
def dx_of_prelu_with_one_slope_for_all(x, a):
    y = np.where(x > 0, x, a * x)

    def pullback(dy):
        return {"x": np.where(x > 0, dy, a[0] * dy), "a": (dy * np.minimum(x, 0)).sum(axis=0)}

    return y, pullback


@prelu.register
def da_of_prelu_on_both_sides(x, a):
    y = np.where(x > 0, x, a * x)
    return y, lambda dy: {"x": np.where(x > 0, dy, a * dy), "a": (dy * x).sum(axis=0)}


@prelu.register
def da_of_prelu_shared_by_all_channels(x, a):
    y = np.where(x > 0, x, a * x)

    def pullback(dy):
        da = np.full_like(a, (dy * np.minimum(x, 0)).sum())
        return {"x": np.where(x > 0, dy, a * dy), "a": da}

    return y, pullback


@gelu.register
def dx_of_gelu_with_a_rounded_constant(x):
    return _gelu(x, 0.0447150001)


@gelu.register
def dx_of_gelu_in_the_erf_form(x):
    y, _ = _gelu(x, 0.044715)
    erf = np.vectorize(math.erf, otypes=[float])

    def pullback(dy):
        slope = 0.5 * (1 + erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return {"x": (dy * slope).astype(x.dtype)}

    return y, pullback


def _gelu(x, constant):
    scale = math.sqrt(2 / math.pi)
    y = 0.5 * x * (1 + np.tanh(scale * x * (1 + 0.044715 * x * x)))

    def pullback(dy):
        t = np.tanh(scale * x * (1 + constant * x * x))
        return {"x": 0.5 * dy * (1 + t + x * (1 - t * t) * scale * (1 + 3 * constant * x * x))}

    return y, pullback


@dropout.register
def dx_of_dropout_not_scaled(x, mask, *, p):
    return x * mask / (1 - p), lambda dy: {"x": dy * mask}


@dropout.register
def dx_of_dropout_with_a_mask_of_its_own(x, mask, *, p):
    rng = np.random.default_rng(0)
    own = (rng.random(x.shape) >= p).astype(x.dtype)
    return x * mask / (1 - p), lambda dy: {"x": dy * own / (1 - p)}


@dropout.register
def mask_of_dropout_takes_a_gradient(x, mask, *, p):
    y = x * mask / (1 - p)
    return y, lambda dy: {"x": dy * mask / (1 - p), "mask": dy * x / (1 - p)}


@dropout.register
def x_of_dropout_is_zeroed_in_place(x, mask, *, p):
    y = x * mask / (1 - p)

    def pullback(dy):
        if x.flags.writeable:
            x[mask == 0] = 0
        return {"x": dy * mask / (1 - p)}

    return y, pullback
