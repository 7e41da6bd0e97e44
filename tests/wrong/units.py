"""Wrong elu, selu, silu, mish, softplus, hardswish, tanh and sigmoid; named as in the others."""

import numpy as np

from gradverify import catalog

elu, selu, silu, mish = map(catalog, ("elu", "selu", "silu", "mish"))
softplus, hardswish, tanh, sigmoid = map(catalog, ("softplus", "hardswish", "tanh", "sigmoid"))

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772


def logistic(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def below(x):
    return np.expm1(np.minimum(x, 0))


@elu.register
def dx_of_elu_by_its_result_without_alpha(x, *, alpha):
    """Right for the usual alpha, 1."""
    y = np.where(x > 0, x, alpha * below(x))
    return y, lambda dy: {"x": np.where(x > 0, dy, dy * (y + 1))}


@elu.register
def dx_of_elu_is_its_value_below_zero(x, *, alpha):
    y = np.where(x > 0, x, alpha * below(x))
    return y, lambda dy: {"x": np.where(x > 0, dy, dy * y)}


@elu.register
def y_of_elu_with_alpha_in_the_exponent(x, *, alpha):
    y = np.where(x > 0, x, below(alpha * x))
    return y, lambda dy: {"x": dy * np.where(x > 0, 1, alpha * (y + 1))}


@selu.register
def dx_of_selu_without_its_scale(x):
    y = SCALE * np.where(x > 0, x, ALPHA * below(x))
    return y, lambda dy: {"x": dy * np.where(x > 0, 1, ALPHA * (below(x) + 1))}


@selu.register
def dx_of_selu_scaled_above_zero_only(x):
    y = SCALE * np.where(x > 0, x, ALPHA * below(x))
    return y, lambda dy: {"x": dy * np.where(x > 0, SCALE, ALPHA * (below(x) + 1))}


@silu.register
def dx_of_silu_without_the_slope_of_its_gate(x):
    s = logistic(x)
    return x * s, lambda dy: {"x": dy * s}


@silu.register
def dx_of_silu_is_that_of_sigmoid(x):
    s = logistic(x)
    return x * s, lambda dy: {"x": dy * x * s * (1 - s)}


@silu.register
def dx_of_silu_with_the_output_for_the_gate(x):
    """y + s*(1 - y), but with y where the gate s belongs."""
    s = logistic(x)
    y = x * s
    return y, lambda dy: {"x": dy * (y + y * (1 - s))}


@mish.register
def dx_of_mish_without_the_slope_of_softplus(x):
    t = np.tanh(np.logaddexp(0, x))
    return x * t, lambda dy: {"x": dy * (t + x * (1 - t * t))}


@mish.register
def dx_of_mish_with_tanh_not_squared(x):
    t = np.tanh(np.logaddexp(0, x))
    return x * t, lambda dy: {"x": dy * (t + x * (1 - t) * logistic(x))}


@softplus.register
def dx_of_softplus_times_beta(x, *, beta):
    """The inner derivative is there, the outer 1/beta is not."""
    y = np.logaddexp(0, beta * x) / beta
    return y, lambda dy: {"x": dy * beta * logistic(beta * x)}


@softplus.register
def dx_of_softplus_for_beta_1(x, *, beta):
    return np.logaddexp(0, beta * x) / beta, lambda dy: {"x": dy * logistic(x)}


@hardswish.register
def dx_of_hardswish_without_the_product_rule(x):
    gate = np.clip(x + 3, 0, 6) / 6
    return x * gate, lambda dy: {"x": dy * gate}


@hardswish.register
def dx_of_hardswish_0_beyond_3(x):
    """The middle piece is right; above 3 the slope is 1, not 0."""
    y = x * np.clip(x + 3, 0, 6) / 6
    return y, lambda dy: {"x": dy * (2 * x + 3) / 6 * (np.abs(x) < 3)}


@tanh.register
def dx_of_tanh_not_squared(x):
    y = np.tanh(x)
    return y, lambda dy: {"x": dy * (1 - y)}


@tanh.register
def dx_of_tanh_of_the_output(x):
    """The output is taken for the input: tanh is applied twice."""
    y = np.tanh(x)
    return y, lambda dy: {"x": dy * (1 - np.tanh(y) ** 2)}


@sigmoid.register
def dx_of_sigmoid_of_the_output(x):
    y = logistic(x)
    return y, lambda dy: {"x": dy * logistic(y) * (1 - logistic(y))}


@sigmoid.register
def dx_of_sigmoid_of_the_input(x):
    return logistic(x), lambda dy: {"x": dy * x * (1 - x)}
