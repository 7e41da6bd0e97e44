"""Right ways of writing the multi-class hinge loss; where a margin is just met, 0 or 1 is right."""

from functools import partial

import numpy as np

from gradverify import catalog

hinge = catalog("hinge")


@hinge.register
def hinge_scalar_loops(x, t, *, margin):
    N, C = x.shape
    total, slopes = 0.0, np.zeros_like(x)
    for n in range(N):
        own = int(t[n])
        for c in range(C):
            excess = margin - float(x[n, own]) + float(x[n, c])
            if c != own and excess > 0:
                total += excess
                slopes[n, c] += 1
                slopes[n, own] -= 1
    return np.array(total / (N * C), x.dtype), lambda dloss: {"x": slopes * (dloss / (N * C))}


@hinge.register
def hinge_binary_matrix(x, t, *, margin):
    """A matrix of ones where a margin is missed, with their negative count at the label."""
    (N, C), rows = x.shape, np.arange(len(x))
    margins = np.maximum(0, x - x[rows, t][:, np.newaxis] + margin)
    margins[rows, t] = 0
    loss = np.sum(margins) / N / C

    def pullback(dloss):
        binary = margins.copy()
        binary[margins > 0] = 1
        binary[rows, t] = -np.sum(binary, axis=1)
        return binary * dloss / N / C, None

    return loss, pullback


@hinge.register
def hinge_one_hot(x, t, *, margin):
    hot = np.eye(x.shape[1], dtype=x.dtype)[t]
    picked = np.einsum("nc,nc->n", hot, x)
    excess = (x - picked[:, None] + margin) * (1 - hot)
    missed = (excess >= 0) * (1 - hot)

    def pullback(dloss):
        dx = dloss / x.size * (missed - hot * missed.sum(axis=1, keepdims=True))
        return {"x": dx, "t": None}

    return np.vdot(missed, excess) / x.size, pullback


@hinge.register
def hinge_staged(x, t, *, margin):
    """Each line of the forward has its line in the backward, in reverse."""
    own = np.take_along_axis(x, t[:, None], axis=1)
    other = np.arange(x.shape[1]) != t[:, None]
    gap = x - own
    excess = gap + margin
    losses = np.where(other & (excess > 0), excess, 0)
    rows = losses.mean(axis=1)

    def pullback(dloss):
        drows = np.full_like(rows, dloss / len(rows))
        dlosses = np.broadcast_to(drows[:, None] / x.shape[1], x.shape)
        dgap = np.where(other & (excess > 0), dlosses, 0)
        dx, down = dgap.copy(), -dgap.sum(axis=1)
        np.add.at(dx, (np.arange(len(x)), t), down)
        return dx

    return rows.mean(), pullback


@hinge.register
def hinge_own_margin_subtracted(x, t, *, margin):
    """The label's own term is always the margin: it is summed with the others and taken off."""
    N, C = x.shape
    flat = np.ravel_multi_index((np.arange(N), t), x.shape)
    excess = np.clip(x + (margin - x.take(flat))[:, None], 0, None)

    def pullback(dloss):
        hit = np.sign(excess)
        dx = hit.reshape(-1)
        dx[flat] -= hit.sum(axis=1)
        dx *= dloss / dx.size
        return (dx.reshape(N, C),)

    return np.sum(excess / C - margin / C / C) / N, pullback


@hinge.register
def hinge_only_the_others(x, t, *, margin):
    """The scores of the other classes as an array of their own, N by C - 1."""
    N, C = x.shape
    others = np.arange(C)[None] != t[:, None]
    slack = x[others].reshape(N, C - 1) - x[~others].reshape(N, 1) + margin
    violated = slack > 0

    def pullback(dloss):
        share = x.dtype.type(dloss) / (N * C)
        dx = np.zeros_like(x)
        dx[others] = (violated * share).ravel()
        dx[~others] = -violated.sum(axis=1) * share
        return {"x": dx}

    return slack[violated].sum() / (N * C), pullback


def _per_sample(x, t, *, margin):
    def back(violations, dloss):
        return np.stack([dloss * v / x.size for v in violations])

    losses, violations = [], []
    for row, label in zip(x, t, strict=True):
        excess = row - row[label] + margin
        excess[label] = 0
        violation = (excess > 0).astype(x.dtype)
        losses.append(np.dot(violation, excess))
        violation[label] = -np.count_nonzero(violation)
        violations.append(violation)
    return np.mean(losses) / x.shape[1], partial(back, violations)


hinge.register(name="hinge_per_sample")(_per_sample)
