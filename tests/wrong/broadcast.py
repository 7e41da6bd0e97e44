"""Wrong layers of any number of dimensions, and of tensors that are given with size 1."""

import numpy as np

from gradverify import catalog

linear_any, film = catalog("linear_any"), catalog("film")


def right_linear(x, w, b):
    def pullback(dy):
        rows = dy.reshape(-1, dy.shape[-1])
        return {"x": dy @ w, "w": rows.T @ x.reshape(-1, x.shape[-1]), "b": rows.sum(axis=0)}

    return x @ w.T + b, pullback


@linear_any.register
def db_summed_over_the_first_axis_only(x, w, b):
    y, pullback = right_linear(x, w, b)
    return y, lambda dy: pullback(dy) | {"b": dy.sum(axis=0)}


@linear_any.register
def db_of_the_last_place_of_each_sequence(x, w, b):
    """Of the right shape always, and right for a batch of vectors."""
    y, pullback = right_linear(x, w, b)
    last = (-1,) * max(x.ndim - 2, 0)
    return y, lambda dy: pullback(dy) | {
        "b": np.atleast_2d(dy)[(slice(None), *last)].sum(axis=0)
    }  # fmt: skip


@linear_any.register
def db_summed_over_k_for_one_vector(x, w, b):
    """Without a dimension to sum over it sums over another."""
    y, pullback = right_linear(x, w, b)

    def wrong(dy):
        leading = tuple(range(dy.ndim - 1)) or 0
        return pullback(dy) | {"b": np.broadcast_to(dy.sum(axis=leading), b.shape)}

    return y, wrong


@linear_any.register
def dw_flat_for_one_vector(x, w, b):
    y, pullback = right_linear(x, w, b)
    return y, lambda dy: pullback(dy) | ({"w": np.outer(dy, x).reshape(-1)} if x.ndim == 1 else {})


@linear_any.register
def dx_in_rows(x, w, b):
    y, pullback = right_linear(x, w, b)
    return y, lambda dy: pullback(dy) | {"x": (dy @ w).reshape(-1, x.shape[-1])}


@linear_any.register
def dx_with_the_leading_dimensions_swapped(x, w, b):
    """Of the right shape; only two leading dimensions that are not 1 show it."""
    y, pullback = right_linear(x, w, b)

    def wrong(dy):
        dx = dy @ w
        return pullback(dy) | {"x": dx.swapaxes(0, 1).reshape(x.shape) if x.ndim > 2 else dx}

    return y, wrong


@linear_any.register
def y_in_rows(x, w, b):
    y, pullback = right_linear(x, w, b)
    return y.reshape(-1, len(b)), lambda dy: pullback(dy.reshape(y.shape))


def right_film(x, gamma, beta):
    def as_given(gradient, given):
        return gradient if given.shape == gradient.shape else gradient.sum(axis=0, keepdims=True)

    def pullback(dy):
        return {
            "x": gamma[:, :, None, None] * dy,
            "gamma": as_given((dy * x).sum(axis=(2, 3)), gamma),
            "beta": as_given(dy.sum(axis=(2, 3)), beta),
        }

    return gamma[:, :, None, None] * x + beta[:, :, None, None], pullback


@film.register
def dgamma_not_summed_over_n(x, gamma, beta):
    y, pullback = right_film(x, gamma, beta)
    return y, lambda dy: pullback(dy) | {"gamma": (dy * x).sum(axis=(2, 3))}


@film.register
def dgamma_averaged_over_n(x, gamma, beta):
    y, pullback = right_film(x, gamma, beta)

    def wrong(dy):
        found = pullback(dy)
        return found | {"gamma": found["gamma"] * len(gamma) / len(x)}

    return y, wrong


@film.register
def dgamma_summed_even_where_it_is_whole(x, gamma, beta):
    y, pullback = right_film(x, gamma, beta)

    def wrong(dy):
        total = (dy * x).sum(axis=(0, 2, 3))
        return pullback(dy) | {"gamma": np.tile(total, (len(gamma), 1))}

    return y, wrong


@film.register
def dbeta_of_shape_c(x, gamma, beta):
    y, pullback = right_film(x, gamma, beta)

    def wrong(dy):
        found = pullback(dy)
        return found | {"beta": found["beta"][0] if len(beta) < len(x) else found["beta"]}

    return y, wrong


@film.register
def dbeta_of_the_first_sample(x, gamma, beta):
    y, pullback = right_film(x, gamma, beta)
    return y, lambda dy: pullback(dy) | {"beta": dy.sum(axis=(2, 3))[: len(beta)]}
