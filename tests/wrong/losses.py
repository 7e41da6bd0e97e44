"""Wrong losses: regression, binary, divergence, margins; named as in the other files."""

import numpy as np

from gradverify import catalog

mse, huber, bce, kl, hinge = map(
    catalog, ("mse", "huber", "bce_with_logits", "kl_divergence", "hinge")
)
triplet, contrastive, focal, smoothing = map(
    catalog, ("triplet", "contrastive", "focal_loss", "label_smoothing")
)


def logistic(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@mse.register
def dx_of_mse_averaged_over_the_batch_only(x, t):
    return ((x - t) ** 2).mean(), lambda dloss: {"x": dloss * 2 * (x - t) / len(x)}


@mse.register
def dx_of_mse_without_its_2(x, t):
    return ((x - t) ** 2).mean(), lambda dloss: {"x": dloss * (x - t) / x.size}


@mse.register
def dx_of_mse_with_the_sign_of_the_target(x, t):
    return ((x - t) ** 2).mean(), lambda dloss: {"x": dloss * 2 * (t - x) / x.size}


def huber_loss(x, t, delta):
    e = x - t
    near = np.abs(e) <= delta
    return e, near, np.where(near, e * e / 2, delta * (np.abs(e) - delta / 2)).mean()


@huber.register
def dx_of_huber_without_delta_beyond_it(x, t, *, delta):
    """Right for the usual delta, 1."""
    e, near, loss = huber_loss(x, t, delta)
    return loss, lambda dloss: {"x": dloss / e.size * np.where(near, e, np.sign(e))}


@huber.register
def dx_of_huber_without_the_sign(x, t, *, delta):
    e, near, loss = huber_loss(x, t, delta)
    return loss, lambda dloss: {"x": dloss / e.size * np.where(near, e, delta).astype(x.dtype)}


@bce.register
def dx_of_bce_with_the_slope_of_sigmoid(x, t):
    """The logits are taken for probabilities: the slope of the sigmoid cancels, here it is kept."""
    loss = (np.logaddexp(0, x) - x * t).mean()
    p = logistic(x)
    return loss, lambda dloss: {"x": dloss / x.size * (p - t) * p * (1 - p)}


@bce.register
def dx_of_bce_with_rounded_targets(x, t):
    loss = (np.logaddexp(0, x) - x * t).mean()
    return loss, lambda dloss: {"x": dloss / x.size * (logistic(x) - np.round(t))}


def divergence(x, t):
    return (t * (np.log(np.where(t > 0, t, 1)) - x)).sum() / len(x)


@kl.register
def dx_of_kl_averaged_over_the_classes_too(x, t):
    return divergence(x, t), lambda dloss: {"x": -dloss / x.size * t}


@kl.register
def dx_of_kl_of_probabilities(x, t):
    """As if x were the logits of a softmax over targets that sum to one."""
    p = np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True))
    return divergence(x, t), lambda dloss: {"x": dloss / len(x) * (p - t)}


def margins(x, t, margin):
    hot = np.eye(x.shape[1], dtype=x.dtype)[t]
    excess = np.maximum(margin - (x * hot).sum(axis=1, keepdims=True) + x, 0) * (1 - hot)
    return hot, excess


@hinge.register
def dx_of_hinge_with_minus_1_for_the_label(x, t, *, margin):
    """The label is pushed up once, not once for every class that comes too near."""
    hot, excess = margins(x, t, margin)
    pushed = (excess > 0) - hot * np.any(excess > 0, axis=1, keepdims=True)
    return excess.mean(), lambda dloss: {"x": (dloss / x.size * pushed).astype(x.dtype)}


@hinge.register
def dx_of_hinge_for_the_other_classes_only(x, t, *, margin):
    _, excess = margins(x, t, margin)
    return excess.mean(), lambda dloss: {"x": dloss / x.size * (excess > 0)}


@hinge.register
def dx_of_hinge_for_a_margin_of_1(x, t, *, margin):
    excess = margins(x, t, margin)[1]
    hot, usual = margins(x, t, 1)
    pushed = (usual > 0).astype(x.dtype)
    pushed -= hot * pushed.sum(axis=1, keepdims=True)
    return excess.mean(), lambda dloss: {"x": dloss / x.size * pushed}


def distances(a, p, q, margin, eps):
    """Return the loss and its gradient with respect to p and q, for a loss's cotangent of 1."""
    to_p, to_q = a - p + eps, a - q + eps
    near, far = (np.sqrt((u * u).sum(axis=1, keepdims=True)) for u in (to_p, to_q))
    excess = np.maximum(near - far + margin, 0)
    share = (excess > 0) / np.asarray(len(a), a.dtype)
    return excess.mean(), -share * to_p / near, share * to_q / far


@triplet.register
def da_of_triplet_by_the_near_one_only(a, p, q, *, margin, eps):
    loss, dp, dq = distances(a, p, q, margin, eps)
    return loss, lambda dloss: {"a": -dloss * dp, "p": dloss * dp, "q": dloss * dq}


@triplet.register
def dq_of_triplet_beyond_the_margin(a, p, q, *, margin, eps):
    """Triplets that are far enough apart push as well."""
    loss, dp, dq = distances(a, p, q, margin, eps)
    pushed = (a - q + eps) / np.linalg.norm(a - q + eps, axis=1, keepdims=True) / len(a)
    return loss, lambda dloss: {"a": -dloss * (dp + dq), "p": dloss * dp, "q": dloss * pushed}


def pairs(a, b, t, margin, *, squared=False):
    """Return the contrastive loss and the gradient of a, without the distance if `squared`."""
    apart = a - b
    distance = np.sqrt((apart * apart).sum(axis=1))
    short = np.maximum(margin - distance, 0)
    loss = np.where(t == 0, distance**2, short**2).mean() / 2
    push = short if squared else short / distance
    return loss, np.where(t == 0, 1, -push)[:, None] * apart / len(a)


@contrastive.register
def da_of_contrastive_not_divided_by_the_distance(a, b, t, *, margin):
    loss, da = pairs(a, b, t, margin)
    wrong = pairs(a, b, t, margin, squared=True)[1]
    return loss, lambda dloss: {"a": dloss * wrong, "b": -dloss * da}


@contrastive.register
def db_of_contrastive_with_the_sign_of_a(a, b, t, *, margin):
    loss, da = pairs(a, b, t, margin)
    return loss, lambda dloss: {"a": dloss * da, "b": dloss * da}


def focused(x, t, gamma, alpha):
    """Return sign, probabilities of the right and the wrong label, cross entropy and weight."""
    sign = np.where(t == 1, 1, -1).astype(x.dtype)
    weight = np.where(t == 1, alpha, 1 - alpha).astype(x.dtype)
    right, wrong = logistic(sign * x), logistic(-sign * x)
    return sign, right, wrong, np.logaddexp(0, -sign * x), weight * wrong**gamma


@focal.register
def dx_of_focal_with_its_factor_held_constant(x, t, *, gamma, alpha):
    """The modulating factor (1 - p_t)**gamma is taken for a weight."""
    sign, _, wrong, surprise, weight = focused(x, t, gamma, alpha)
    return (weight * surprise).mean(), lambda dloss: {"x": -dloss / x.size * sign * weight * wrong}


@focal.register
def dx_of_focal_for_gamma_2(x, t, *, gamma, alpha):
    sign, right, wrong, surprise, weight = focused(x, t, gamma, alpha)
    slope = -sign * weight * (wrong + 2 * right * surprise)
    return (weight * surprise).mean(), lambda dloss: {"x": dloss / x.size * slope}


@focal.register
def loss_of_focal_with_alpha_for_both_labels(x, t, *, gamma, alpha):
    """Consistent: the backward fits the forward, and both are wrong."""
    sign, right, wrong, surprise, _ = focused(x, t, gamma, alpha)
    weight = alpha * wrong**gamma
    slope = -sign * weight * (wrong + gamma * right * surprise)
    return (weight * surprise).mean(), lambda dloss: {"x": dloss / x.size * slope}


def smoothed(x, t, eps):
    logp = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    hot = np.eye(x.shape[1], dtype=x.dtype)[t]
    q = (1 - eps) * hot + eps / x.shape[1]
    return logp, hot, -(q * logp).sum() / len(x)


@smoothing.register
def dx_of_smoothing_shared_by_the_other_classes(x, t, *, eps):
    """eps is shared by the other C - 1 classes, not by all C."""
    logp, hot, loss = smoothed(x, t, eps)
    q = (1 - eps) * hot + eps / max(x.shape[1] - 1, 1) * (1 - hot)
    return loss, lambda dloss: {"x": dloss / len(x) * (np.exp(logp) - q)}


@smoothing.register
def dx_of_smoothing_with_sharp_labels(x, t, *, eps):
    logp, hot, loss = smoothed(x, t, eps)
    return loss, lambda dloss: {"x": dloss / len(x) * (np.exp(logp) - hot)}
