"""Wrong layer, group and RMS norms, and linear in front of batch norm; named as elsewhere here."""

import numpy as np

from gradverify import catalog

layer_norm, group_norm, rms_norm = map(catalog, ("layer_norm", "group_norm", "rms_norm"))
batch_norm_2d, linear_batch_norm = catalog("batch_norm_2d"), catalog("linear_batch_norm")


def normalised(x, axes, eps):
    """Return xhat, and the gradient of x that belongs to one of xhat."""
    xc = x - x.mean(axis=axes, keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=axes, keepdims=True) + eps)
    xhat = xc / sigma

    def back(dxhat):
        mean = dxhat.mean(axis=axes, keepdims=True)
        return (dxhat - mean - xhat * (dxhat * xhat).mean(axis=axes, keepdims=True)) / sigma

    return xhat, back


@layer_norm.register
def dx_of_layer_norm_over_the_batch(x, gamma, beta, *, eps):
    xhat, _ = normalised(x, 1, eps)
    _, back = normalised(x, 0, eps)

    def pullback(dy):
        return {"x": back(gamma * dy), "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return gamma * xhat + beta, pullback


@layer_norm.register
def dx_of_layer_norm_with_gamma_outside(x, gamma, beta, *, eps):
    """gamma varies along the axis that is averaged over, and does not commute with it."""
    xhat, back = normalised(x, 1, eps)

    def pullback(dy):
        return {"x": gamma * back(dy), "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return gamma * xhat + beta, pullback


@layer_norm.register
def dgamma_of_layer_norm_for_each_row(x, gamma, beta, *, eps):
    xhat, back = normalised(x, 1, eps)

    def pullback(dy):
        return {"x": back(gamma * dy), "gamma": dy * xhat, "beta": dy.sum(axis=0)}

    return gamma * xhat + beta, pullback


@layer_norm.register
def dbeta_of_layer_norm_of_the_first_row(x, gamma, beta, *, eps):
    xhat, back = normalised(x, 1, eps)

    def pullback(dy):
        return {"x": back(gamma * dy), "gamma": (dy * xhat).sum(axis=0), "beta": dy[0].copy()}

    return gamma * xhat + beta, pullback


def group(x, gamma, beta, G, eps, groups_back):
    N, C = x.shape[:2]
    xhat, _ = normalised(x.reshape(N, G, -1), 2, eps)
    xhat = xhat.reshape(x.shape)
    _, back = normalised(x.reshape(N, groups_back, -1), 2, eps)

    def pullback(dy):
        dxhat = (gamma.reshape(C, 1, 1) * dy).reshape(N, groups_back, -1)
        return {
            "x": back(dxhat).reshape(x.shape),
            "gamma": (dy * xhat).sum(axis=(0, 2, 3)),
            "beta": dy.sum(axis=(0, 2, 3)),
        }

    return gamma.reshape(C, 1, 1) * xhat + beta.reshape(C, 1, 1), pullback


@group_norm.register
def dx_of_group_norm_as_one_group(x, gamma, beta, *, G, eps):
    return group(x, gamma, beta, G, eps, 1)


@group_norm.register
def dgamma_of_group_norm_per_group(x, gamma, beta, *, G, eps):
    y, pullback = group(x, gamma, beta, G, eps, G)

    def wrong(dy):
        grads = pullback(dy)
        K = len(gamma) // G
        return grads | {"gamma": np.repeat(grads["gamma"].reshape(G, K).sum(axis=1), K)}

    return y, wrong


@group_norm.register
def y_of_group_norm_in_interleaved_groups(x, gamma, beta, *, G, eps):
    """Channels g, g+G, g+2*G, ... make a group; consistent, and wrong."""
    order = np.arange(len(gamma)).reshape(-1, G).T.ravel()
    back = np.argsort(order)
    y, pullback = group(x[:, order], gamma[order], beta[order], G, eps, G)

    def wrong(dy):
        grads = pullback(dy[:, order])
        return {
            "x": grads["x"][:, back],
            "gamma": grads["gamma"][back],
            "beta": grads["beta"][back],
        }

    return y[:, back], wrong


@rms_norm.register
def dx_of_rms_norm_with_a_constant_rms(x, gamma, *, eps):
    rms = np.sqrt((x * x).mean(axis=1, keepdims=True) + eps)
    y = gamma * x / rms
    return y, lambda dy: {"x": gamma * dy / rms, "gamma": (dy * x / rms).sum(axis=0)}


@rms_norm.register
def dx_of_rms_norm_with_eps_forgotten(x, gamma, *, eps):
    rms = np.sqrt((x * x).mean(axis=1, keepdims=True) + eps)
    y = gamma * x / rms

    def pullback(dy):
        dxhat = gamma * dy
        along = (dxhat * x).mean(axis=1, keepdims=True) / (x * x).mean(axis=1, keepdims=True)
        return {"x": (dxhat - x * along) / rms, "gamma": (dy * x / rms).sum(axis=0)}

    return y, pullback


@batch_norm_2d.register
def dx_of_batch_norm_2d_averaged_over_the_batch_only(x, gamma, beta, *, eps):
    C = len(gamma)
    xhat, _ = normalised(x, (0, 2, 3), eps)
    _, back = normalised(x, 0, eps)

    def pullback(dy):
        return {
            "x": back(gamma.reshape(C, 1, 1) * dy),
            "gamma": (dy * xhat).sum(axis=(0, 2, 3)),
            "beta": dy.sum(axis=(0, 2, 3)),
        }

    return gamma.reshape(C, 1, 1) * xhat + beta.reshape(C, 1, 1), pullback


@batch_norm_2d.register
def dgamma_of_batch_norm_2d_averaged_over_places(x, gamma, beta, *, eps):
    C = len(gamma)
    xhat, back = normalised(x, (0, 2, 3), eps)

    def pullback(dy):
        return {
            "x": back(gamma.reshape(C, 1, 1) * dy),
            "gamma": (dy * xhat).mean(axis=(2, 3)).sum(axis=0),
            "beta": dy.sum(axis=(0, 2, 3)),
        }

    return gamma.reshape(C, 1, 1) * xhat + beta.reshape(C, 1, 1), pullback


def linear_and_norm(x, w, b, gamma, beta, eps):
    ahat, back = normalised(x @ w.T + b, 0, eps)

    def pullback(dy):
        da = back(gamma * dy)
        return {
            "x": da @ w,
            "w": da.T @ x,
            "b": da.sum(axis=0),
            "gamma": (dy * ahat).sum(axis=0),
            "beta": dy.sum(axis=0),
        }

    return gamma * ahat + beta, pullback


@linear_batch_norm.register
def db_of_linear_batch_norm_as_beta(x, w, b, gamma, beta, *, eps):
    """The redundant bias is given the gradient that belongs to beta."""
    y, pullback = linear_and_norm(x, w, b, gamma, beta, eps)
    return y, lambda dy: pullback(dy) | {"b": dy.sum(axis=0)}


@linear_batch_norm.register
def dbeta_of_linear_batch_norm_as_redundant(x, w, b, gamma, beta, *, eps):
    """beta is given the gradient that belongs to the redundant bias."""
    y, pullback = linear_and_norm(x, w, b, gamma, beta, eps)
    return y, lambda dy: pullback(dy) | {"beta": np.zeros_like(beta)}


@linear_batch_norm.register
def dw_of_linear_batch_norm_past_the_norm(x, w, b, gamma, beta, *, eps):
    y, pullback = linear_and_norm(x, w, b, gamma, beta, eps)
    return y, lambda dy: pullback(dy) | {"w": (gamma * dy).T @ x}
