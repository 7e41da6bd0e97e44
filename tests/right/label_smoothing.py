"""Right ways of writing cross entropy with smoothed labels; naive_* fails where x is large."""

import math
from functools import partial

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from gradverify import catalog

label_smoothing = catalog("label_smoothing")


@label_smoothing.register
def smoothing_mixed_one_hot(x, t, *, eps):
    (N, C) = x.shape
    q = (1 - eps) * np.eye(C, dtype=x.dtype)[t] + eps / C
    logp = log_softmax(x, axis=1)
    return -np.mean(np.sum(q * logp, axis=1)), lambda dloss: (dloss / N * (np.exp(logp) - q), None)


@label_smoothing.register
def smoothing_two_losses(x, t, *, eps):
    """The true class's loss and the mean over all classes, each with its own backward."""
    N, C = x.shape
    rows = np.arange(N)
    lse = np.logaddexp.reduce(x, axis=1, keepdims=True)
    nll, smooth = lse[:, 0] - x[rows, t], lse[:, 0] - x.mean(axis=1)

    def pullback(dloss):
        p = np.exp(x - lse)
        dnll = p.copy()
        dnll[rows, t] -= 1
        dsmooth = p - 1 / C
        return {"x": ((1 - eps) * dnll + eps * dsmooth) * (dloss / N)}

    return (1 - eps) * nll.mean() + eps * smooth.mean(), pullback


@label_smoothing.register
def smoothing_logsumexp_minus_mixture(x, t, *, eps):
    """The weights sum to 1, so that the normalizer stands alone."""
    N, C = x.shape
    picked = np.take_along_axis(x, t[:, None], 1)[:, 0]
    losses = logsumexp(x, axis=1) - (1 - eps) * picked - eps / C * np.einsum("nc->n", x)

    def pullback(dloss):
        dx = softmax(x, axis=1)
        dx -= eps / C
        np.subtract.at(dx, (np.arange(N), t), 1 - eps)
        dx *= dloss
        dx /= N
        return dx

    return losses.mean(), pullback


@label_smoothing.register
def smoothing_scalar_loops(x, t, *, eps):
    N, C = x.shape
    total, slopes = 0.0, np.empty_like(x)
    for n, row in enumerate(x.tolist()):
        peak = max(row)
        e = [math.exp(v - peak) for v in row]
        lse = peak + math.log(math.fsum(e))
        for c in range(C):
            weight = eps / C + (1 - eps if c == t[n] else 0.0)
            total -= weight * (row[c] - lse)
            slopes[n, c] = (e[c] / math.fsum(e) - weight) / N
    return np.array(total / N, x.dtype), lambda dloss: {"x": slopes * dloss}


@label_smoothing.register
def smoothing_staged(x, t, *, eps):
    """Each line of the forward has its line in the backward, in reverse."""
    N, C = x.shape
    z = x - x.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    logp = z - np.log(total)
    true = logp[np.arange(N), t]
    rows = (1 - eps) * true + eps * logp.mean(axis=1)

    def pullback(dloss):
        drows = np.full_like(rows, -dloss / N)
        dlogp = np.tile(eps * drows[:, None] / C, (1, C))
        np.add.at(dlogp, (np.arange(N), t), (1 - eps) * drows)
        dtotal = -dlogp.sum(axis=1, keepdims=True) / total
        return {"x": dlogp + dtotal * e}  # the shift by the largest has no gradient of its own

    return -rows.sum() / N, pullback


@label_smoothing.register
def naive_smoothing_log_of_softmax(x, t, *, eps):
    N, C = x.shape
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    q = np.full_like(x, eps / C)
    q[np.arange(N), t] += 1 - eps

    def pullback(dloss):
        dp = -q / p * (dloss / N)
        return {"x": p * (dp - (dp * p).sum(axis=1, keepdims=True))}

    return -(q * np.log(p)).sum() / N, pullback


@label_smoothing.register
def smoothing_row_by_row_in_float64(x, t, *, eps):
    C = x.shape[1]
    losses, grads = [], []
    for row, label in zip(x.astype(np.float64), t, strict=True):
        logp = row - row.max()
        logp -= np.log(np.exp(logp).sum())
        q = np.where(np.arange(C) == label, 1 - eps + eps / C, eps / C)
        losses.append(-(q @ logp))
        grads.append(np.exp(logp) - q)

    def back(grads, dloss):
        return (np.stack(grads) * (float(dloss) / len(grads))).astype(x.dtype)

    return np.mean(losses).astype(x.dtype), partial(back, grads)


class SmoothedCrossEntropy:
    """A divergence from the smoothed labels, and their entropy, which is a constant."""

    def __call__(self, x, t, *, eps):
        C = x.shape[1]
        hot = t[:, None] == np.arange(C)
        q = np.where(hot, 1 - eps + eps / C, eps / C).astype(x.dtype)
        shifted = x - np.amax(x, axis=1, keepdims=True)
        p = np.exp(shifted)
        total = np.sum(p, axis=1, keepdims=True)
        p /= total
        divergence = q * (np.log(q) - shifted + np.log(total))
        entropy = -q * np.log(q)
        return (divergence + entropy).sum() / len(x), partial(self.backward, p - q)

    @staticmethod
    def backward(difference, dloss):
        return difference * dloss / len(difference)


label_smoothing.register(name="smoothing_object_with_call")(SmoothedCrossEntropy())
