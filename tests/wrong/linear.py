"""Wrong linear layers: d<tensor>_... has a wrong gradient of that tensor, y_... a wrong forward."""

import numpy as np

from gradverify import catalog

linear = catalog("linear")


def right(x, w, b):
    return x @ w.T + b, lambda dy: {"x": dy @ w, "w": dy.T @ x, "b": dy.sum(axis=0)}


@linear.register
def dw_transposed(x, w, b):
    """Right where K = D and w's gradient is symmetric, which it never is."""
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"w": x.T @ dy}


@linear.register
def dw_transposed_and_reshaped(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"w": (x.T @ dy).reshape(w.shape)}


@linear.register
def dw_for_c_order_only(x, w, b):
    """The elements are taken as they lie in memory."""
    y, pullback = right(x, w, b)

    def wrong(dy):
        flat = (dy.T @ x).ravel(order="C")
        order = "F" if w.flags.f_contiguous and not w.flags.c_contiguous else "C"
        return pullback(dy) | {"w": flat.reshape(w.shape, order=order)}

    return y, wrong


@linear.register
def dw_averaged_over_the_batch(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"w": dy.T @ x / len(x)}


@linear.register
def dw_none(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"w": None}


@linear.register
def db_of_shape_1_k(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"b": dy.sum(axis=0, keepdims=True)}


@linear.register
def db_summed_over_everything(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"b": np.full_like(b, dy.sum())}


@linear.register
def db_missing(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: {k: g for k, g in pullback(dy).items() if k != "b"}


@linear.register
def dx_with_the_absolute_cotangent(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"x": np.abs(dy) @ w}


@linear.register
def dx_with_a_rounded_w(x, w, b):
    y, pullback = right(x, w, b)
    return y, lambda dy: pullback(dy) | {"x": dy @ np.round(w, 7)}


@linear.register
def y_without_the_bias(x, w, b):
    return x @ w.T, lambda dy: {"x": dy @ w, "w": dy.T @ x, "b": np.zeros_like(b)}
