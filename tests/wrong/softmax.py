"""Wrong softmax, log softmax and cross entropy; named as in the other files of this folder."""

import numpy as np

from gradverify import catalog

softmax, log_softmax, cross_entropy = map(
    catalog, ("softmax", "log_softmax", "softmax_cross_entropy")
)


def shares(x, axis=1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@softmax.register
def dx_of_softmax_without_the_cross_terms(x):
    y = shares(x)
    return y, lambda dy: {"x": y * (1 - y) * dy}


@softmax.register
def dx_of_softmax_averaged(x):
    y = shares(x)
    return y, lambda dy: {"x": y * (dy - (dy * y).mean(axis=1, keepdims=True))}


@softmax.register
def dx_of_softmax_summed_over_the_batch(x):
    y = shares(x)
    return y, lambda dy: {"x": y * (dy - (dy * y).sum(axis=0, keepdims=True))}


@softmax.register
def y_of_softmax_over_the_batch(x):
    """Consistent: the backward fits the forward, and both are wrong."""
    y = shares(x, axis=0)
    return y, lambda dy: {"x": y * (dy - (dy * y).sum(axis=0, keepdims=True))}


@softmax.register
def y_of_softmax_without_the_maximum(x):
    """Overflows where values are large and the precision is low."""
    y = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return y, lambda dy: {"x": y * (dy - (dy * y).sum(axis=1, keepdims=True))}


@softmax.register
def dx_of_softmax_wrong_for_one_class(x):
    """One class: the gradient is zero by the formula; here it is the cotangent."""
    y = shares(x)

    def pullback(dy):
        dx = y * (dy - (dy * y).sum(axis=1, keepdims=True))
        return {"x": dy.copy() if x.shape[1] == 1 else dx}

    return y, pullback


@log_softmax.register
def dx_of_log_softmax_not_normalised(x):
    z = x - x.max(axis=1, keepdims=True)
    y = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return y, lambda dy: {"x": dy - np.exp(z) * dy.sum(axis=1, keepdims=True)}


@log_softmax.register
def dx_of_log_softmax_as_if_dy_summed_to_one(x):
    z = x - x.max(axis=1, keepdims=True)
    y = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return y, lambda dy: {"x": dy - np.exp(y)}


def loss_of(x, t):
    z = x - x.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -logp[np.arange(len(t)), t].mean(), np.exp(logp)


@cross_entropy.register
def dx_of_cross_entropy_not_averaged(x, t):
    loss, p = loss_of(x, t)
    return loss, lambda dloss: {"x": (p - np.eye(x.shape[1], dtype=x.dtype)[t]) * dloss}


@cross_entropy.register
def dx_of_cross_entropy_without_its_cotangent(x, t):
    """Right in every training loop, where the loss's cotangent is 1."""
    loss, p = loss_of(x, t)
    return loss, lambda dloss: {"x": (p - np.eye(x.shape[1], dtype=x.dtype)[t]) / len(t)}


@cross_entropy.register
def dx_of_cross_entropy_without_the_labels(x, t):
    loss, p = loss_of(x, t)
    return loss, lambda dloss: {"x": p * dloss / len(t)}


@cross_entropy.register
def dx_of_cross_entropy_wrong_for_class_0(x, t):
    """Class 0 is taken for padding."""
    loss, p = loss_of(x, t)

    def pullback(dloss):
        dx = (p - np.eye(x.shape[1], dtype=x.dtype)[t]) * dloss / len(t)
        return {"x": dx * (t != 0)[:, None]}

    return loss, pullback
