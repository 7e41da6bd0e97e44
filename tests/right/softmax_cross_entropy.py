"""Right ways of writing the mean cross entropy of softmax; naive_* fails where x is large."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

softmax_cross_entropy = catalog("softmax_cross_entropy")


def _log_softmax(x):
    z = x - x.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


@softmax_cross_entropy.register
def step_by_step(x, t):
    N = len(x)
    hot = np.eye(x.shape[1], dtype=x.dtype)[t]
    logp = _log_softmax(x)
    loss = -(hot * logp).sum(axis=1).mean()

    def pullback(dloss):
        dlogp = -hot * (dloss / N)
        return {"x": dlogp - np.exp(logp) * dlogp.sum(axis=1, keepdims=True)}

    return loss, pullback


@softmax_cross_entropy.register
def probabilities_minus_one_hot(x, t):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    hot = (t[:, None] == np.arange(x.shape[1])).astype(x.dtype)
    loss = -np.mean(np.einsum("nc,nc->n", hot, _log_softmax(x)))
    return loss, lambda dloss: {"x": (p - hot) / len(x) * dloss, "t": None}


@softmax_cross_entropy.register
def logsumexp_minus_picked(x, t):
    N = x.shape[0]
    lse = np.logaddexp.reduce(x, axis=1)
    picked = np.take_along_axis(x, t[:, None], axis=1)[:, 0]

    def pullback(dloss):
        dx = np.exp(x - lse[:, None])
        np.subtract.at(dx, (np.arange(N), t), 1)
        return dx * dloss / N, None

    return (lse - picked).mean(), pullback


@softmax_cross_entropy.register
def loop_over_samples(x, t):
    N = len(x)
    losses, rows = np.empty_like(x[:, 0]), []
    for n, row in enumerate(x):
        z = row - row.max()
        e = np.exp(z)
        rows.append(e / e.sum())
        losses[n] = np.log(e.sum()) - z[t[n]]

    def pullback(dloss):
        dx = np.stack(rows)
        for n in range(N):
            dx[n, t[n]] -= 1
        return dx * (dloss / N)

    return losses.mean(), pullback


@softmax_cross_entropy.register
def margins_to_the_label(x, t):
    """The loss is log(sum(exp(x - x[t]))), shifted by its largest term."""
    N = x.shape[0]
    margin = x - x[np.arange(N), t][:, None]
    peak = margin.max(axis=1, keepdims=True)
    e = np.exp(margin - peak)
    total = e.sum(axis=1, keepdims=True)

    def pullback(dloss):
        g = e / total * (dloss / N)
        own = np.arange(x.shape[1]) == t[:, None]
        others = np.where(own, 0, g)
        return {"x": np.where(own, -others.sum(axis=1, keepdims=True), others)}

    return np.mean(peak + np.log(total)), pullback


@softmax_cross_entropy.register
def scalar_loops_with_fsum(x, t):
    N = len(x)
    losses, rows = [], []
    for row, label in zip(x.tolist(), t.tolist(), strict=True):
        peak = max(row)
        total = math.fsum(math.exp(v - peak) for v in row)
        losses.append(math.log(total) + peak - row[label])
        rows.append([math.exp(v - peak) / total - (c == label) for c, v in enumerate(row)])

    def pullback(dloss):
        return (np.array([[float(dloss) * v / N for v in row] for row in rows], x.dtype),)

    return np.array(math.fsum(losses) / N, x.dtype), pullback


@softmax_cross_entropy.register
def in_float64(x, t):
    rows = np.arange(len(x))
    logp = _log_softmax(x.astype(np.float64))

    def pullback(dloss):
        dx = np.exp(logp)
        dx[rows, t] -= 1
        return {"x": (dx * np.float64(dloss) / len(x)).astype(x.dtype)}

    return -logp[rows, t].mean().astype(x.dtype), pullback


@softmax_cross_entropy.register
def naive_log_of_softmax(x, t):
    N, rows = len(x), np.arange(len(x))
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)

    def pullback(dloss):
        dp = np.zeros_like(x)
        dp[rows, t] = -dloss / N / p[rows, t]
        return {"x": p * (dp - (dp * p).sum(axis=1, keepdims=True))}

    return -np.log(p[rows, t]).mean(), pullback


class CrossEntropy:
    """Two stages, a loss on logarithms and log softmax, each with its own backward."""

    def __call__(self, x, t):
        logp = _log_softmax(x)
        weights = np.zeros_like(x)
        weights[np.arange(len(x)), t] = -1 / len(x)
        return np.vdot(weights, logp), partial(self.backward, np.exp(logp), weights)

    @staticmethod
    def backward(p, weights, dloss):
        return weights * dloss - p * np.add.reduce(weights * dloss, axis=1, keepdims=True)


softmax_cross_entropy.register(name="object_with_call")(CrossEntropy())
