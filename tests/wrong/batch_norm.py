"""Wrong batch norms: d<tensor>_... has a wrong gradient of that tensor, y_... a wrong forward."""

import numpy as np

from gradverify import catalog

batch_norm = catalog("batch_norm")


def parts(x, eps):
    """Return xhat and sigma."""
    xc = x - x.mean(axis=0)
    sigma = np.sqrt((xc * xc).mean(axis=0) + eps)
    return xc / sigma, sigma


def right(x, gamma, beta, *, eps):
    xhat, sigma = parts(x, eps)

    def pullback(dy):
        dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
        dx = gamma / sigma * (dy - (dbeta + xhat * dgamma) / len(x))
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return gamma * xhat + beta, pullback


# A path or a factor is forgotten.


@batch_norm.register
def dx_without_the_path_through_the_mean(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    xhat, sigma = parts(x, eps)

    def wrong(dy):
        grads = pullback(dy)
        return grads | {"x": gamma / sigma * (dy - xhat * grads["gamma"] / len(x))}

    return y, wrong


@batch_norm.register
def dx_without_the_path_through_the_variance(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    _, sigma = parts(x, eps)
    return y, lambda dy: pullback(dy) | {"x": gamma / sigma * (dy - dy.mean(axis=0))}


@batch_norm.register
def dx_without_gamma(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    _, ones = right(x, np.ones_like(gamma), beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": ones(dy)["x"]}


@batch_norm.register
def dgamma_with_x_where_xhat_belongs(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"gamma": (dy * x).sum(axis=0)}


@batch_norm.register
def dbeta_is_zero(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"beta": np.zeros_like(beta)}


# Summed over the wrong thing.


@batch_norm.register
def dgamma_summed_over_the_wrong_axis(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    xhat, _ = parts(x, eps)
    return y, lambda dy: pullback(dy) | {"gamma": (dy * xhat).sum(axis=1)}


@batch_norm.register
def dgamma_summed_over_everything(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"gamma": gamma * 0 + pullback(dy)["gamma"].sum()}


@batch_norm.register
def dbeta_averaged(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"beta": dy.mean(axis=0)}


@batch_norm.register
def dx_with_n_minus_1(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    xhat, sigma = parts(x, eps)

    def wrong(dy):
        grads, N = pullback(dy), len(x)
        dx = gamma / sigma * (dy - grads["beta"] / N - xhat * grads["gamma"] / (N - 1))
        return grads | {"x": dx}

    return y, wrong


@batch_norm.register
def y_with_n_minus_1(x, gamma, beta, *, eps):
    """Consistent: the backward fits the forward, and both are wrong."""
    xc, N = x - x.mean(axis=0), len(x)
    sigma = np.sqrt((xc * xc).sum(axis=0) / (N - 1) + eps)
    xhat = xc / sigma

    def pullback(dy):
        dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
        dx = gamma / sigma * (dy - dbeta / N - xhat * dgamma / (N - 1))
        return {"x": dx, "gamma": dgamma, "beta": dbeta}

    return gamma * xhat + beta, pullback


# Scaled, turned round, moved.


@batch_norm.register
def dbeta_halved(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"beta": dy.sum(axis=0) / 2}


@batch_norm.register
def dx_doubled(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": 2 * pullback(dy)["x"]}


@batch_norm.register
def dx_negated(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": -pullback(dy)["x"]}


@batch_norm.register
def dx_off_by_1e_6(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy)["x"] * x.dtype.type(1 + 1e-6)}


@batch_norm.register
def dx_wrong_in_its_last_element(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)

    def wrong(dy):
        grads = pullback(dy)
        grads["x"][-1, -1] *= x.dtype.type(1.01)
        return grads

    return y, wrong


@batch_norm.register
def dgamma_permuted(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"gamma": np.roll(pullback(dy)["gamma"], 1)}


@batch_norm.register
def dx_transposed(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy)["x"].T.reshape(x.shape)}


@batch_norm.register
def dgamma_with_one_sign_wrong(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)

    def wrong(dy):
        grads = pullback(dy)
        grads["gamma"][0] *= -1
        return grads

    return y, wrong


# Constants, precision, sizes and values.


@batch_norm.register
def dx_with_eps_outside_the_root(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    _, sigma = parts(x, eps)
    factor = sigma / (np.sqrt(x.var(axis=0)) + eps)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy)["x"] * factor}


@batch_norm.register
def dx_for_the_usual_eps_only(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    _, usual = right(x, gamma, beta, eps=1e-5)
    return y, lambda dy: pullback(dy) | {"x": usual(dy)["x"]}


@batch_norm.register
def y_with_one_step_in_float32(x, gamma, beta, *, eps):
    xc = x - x.mean(axis=0)
    sigma = np.sqrt(np.float32((xc * xc).mean(axis=0)) + np.float32(eps)).astype(x.dtype)
    _, pullback = right(x, gamma, beta, eps=eps)
    return gamma * (xc / sigma) + beta, pullback


@batch_norm.register
def dx_with_one_step_in_float32(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    xhat, sigma = parts(x, eps)

    def wrong(dy):
        grads = pullback(dy)
        mean = np.float32(grads["gamma"] / len(x)).astype(x.dtype)
        return grads | {"x": gamma / sigma * (dy - grads["beta"] / len(x) - xhat * mean)}

    return y, wrong


@batch_norm.register
def dx_wrong_in_float32(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    factor = x.dtype.type(1.1 if x.dtype == np.float32 else 1)
    return y, lambda dy: pullback(dy) | {"x": factor * pullback(dy)["x"]}


@batch_norm.register
def dx_always_in_float64(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy)["x"].astype(float)}


@batch_norm.register
def dx_of_the_first_16_rows(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)

    def wrong(dy):
        grads = pullback(dy)
        grads["x"][16:] = 0
        return grads

    return y, wrong


@batch_norm.register
def dx_where_gamma_is_positive(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    _, positive = right(x, np.abs(gamma), beta, eps=eps)
    return y, lambda dy: pullback(dy) | {"x": positive(dy)["x"]}


# What a pullback must not do.


@batch_norm.register
def dx_from_the_last_forward(x, gamma, beta, *, eps):
    """Stale: what the forward keeps stands on the function, so that the last forward wins."""
    y, pullback = right(x, gamma, beta, eps=eps)
    dx_from_the_last_forward.kept = pullback
    return y, lambda dy: pullback(dy) | {"x": dx_from_the_last_forward.kept(dy)["x"]}


@batch_norm.register
def dgamma_accumulated(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    total = np.zeros_like(gamma)

    def wrong(dy):
        grads = pullback(dy)
        total[...] += grads["gamma"]
        return grads | {"gamma": total.copy()}

    return y, wrong


@batch_norm.register
def dx_in_one_buffer_for_all_calls(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)

    def wrong(dy):
        grads = pullback(dy)
        buffer = BUFFERS.setdefault((x.shape, x.dtype), np.empty_like(grads["x"]))
        buffer[...] = grads["x"]
        return grads | {"x": buffer}

    return y, wrong


BUFFERS = {}


@batch_norm.register
def x_centred_in_place(x, gamma, beta, *, eps):
    y, pullback = right(x, gamma, beta, eps=eps)
    if x.flags.writeable:
        x -= x.mean(axis=0)
    return y, pullback
