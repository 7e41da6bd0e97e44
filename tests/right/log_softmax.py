"""Right ways of writing log softmax; naive_* over- or underflows where x is large."""

import math

import numpy as np

from gradverify import catalog

log_softmax = catalog("log_softmax")


@log_softmax.register
def step_by_step(x):
    z = x - np.max(x, axis=1, keepdims=True)
    e = np.exp(z)
    total = np.sum(e, axis=1, keepdims=True)
    y = z - np.log(total)

    def pullback(dy):
        dlog = -np.sum(dy, axis=1, keepdims=True)
        dtotal = dlog / total
        return {"x": dy + dtotal * e}

    return y, pullback


@log_softmax.register
def through_the_max(x):
    rows, winner = np.arange(x.shape[0]), x.argmax(axis=1)
    e = np.exp(x - x[rows, winner][:, None])
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(dy):
        dz = dy - p * dy.sum(axis=1, keepdims=True)
        dx = dz.copy()
        dx[rows, winner] -= dz.sum(axis=1)  # zero but for rounding
        return dx

    return x - x[rows, winner][:, None] - np.log(e.sum(axis=1, keepdims=True)), pullback


@log_softmax.register
def x_minus_logsumexp(x):
    m = x.max(axis=1)
    lse = m + np.log(np.exp(x - m[:, None]).sum(axis=1))

    def pullback(dy):
        return (dy - np.exp(x - lse[:, None]) * dy.sum(axis=1)[:, None],)

    return x - lse[:, None], pullback


@log_softmax.register
def logaddexp(x):
    y = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    return y, lambda dy: {"x": dy - np.einsum("nc,nj->nc", np.exp(y), dy)}


@log_softmax.register
def jacobian_per_row(x):
    y = np.empty_like(x)
    for n, row in enumerate(x):
        z = row - row.max()
        y[n] = z - np.log(np.exp(z).sum())

    def pullback(dy):
        dx = np.empty_like(x)
        for n in range(len(x)):
            jacobian = np.eye(x.shape[1], dtype=x.dtype) - np.exp(y[n])
            dx[n] = jacobian.T @ dy[n]
        return {"x": dx}

    return y, pullback


@log_softmax.register
def online_over_columns(x):
    peak, total = x[:, :1].copy(), np.ones_like(x[:, :1])
    for c in range(1, x.shape[1]):
        new = np.maximum(peak, x[:, c : c + 1])
        total = total * np.exp(peak - new) + np.exp(x[:, c : c + 1] - new)
        peak = new

    def pullback(dy):
        sum_dy = np.zeros_like(peak)
        for c in reversed(range(x.shape[1])):
            sum_dy += dy[:, c : c + 1]
        return {"x": dy - sum_dy * np.exp(x - peak) / total}

    return (x - peak) - np.log(total), pullback


@log_softmax.register
def scalar_loops_with_fsum(x):
    rows = []
    for row in x.tolist():
        peak = max(row)
        log_total = math.log(math.fsum(math.exp(v - peak) for v in row))
        rows.append([v - peak - log_total for v in row])

    def pullback(dy):
        dx = np.empty_like(x)
        for n, (row, g) in enumerate(zip(rows, dy.tolist(), strict=True)):
            total = math.fsum(g)
            dx[n] = [a - math.exp(v) * total for a, v in zip(g, row, strict=True)]
        return {"x": dx}

    return np.array(rows, x.dtype), pullback


@log_softmax.register
def in_float64(x):
    z = x.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    y = z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def pullback(dy):
        dx = dy - np.exp(y) * dy.sum(axis=1, dtype=np.float64, keepdims=True)
        return {"x": dx.astype(x.dtype)}

    return y.astype(x.dtype), pullback


@log_softmax.register
def naive_log_of_softmax(x):
    e = np.exp(x)
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(dy):
        dp = dy / p
        return {"x": p * (dp - (dp * p).sum(axis=1, keepdims=True))}

    return np.log(p), pullback


@log_softmax.register
def naive_log_of_sum_of_exp(x):
    e = np.exp(x)
    total = e.sum(axis=1, keepdims=True)
    return x - np.log(total), lambda dy: dy - e * (dy.sum(axis=1, keepdims=True) / total)


# The outer call binds what the pullback needs.
log_softmax.register(name="nested_lambdas")(
    lambda x: (
        lambda z, ones: (
            z - np.log(np.exp(z) @ ones),
            lambda dy: {"x": dy - np.exp(z) / (np.exp(z) @ ones) * (dy @ ones)},
        )
    )(x - x.max(1, keepdims=True), np.ones((x.shape[1], 1), x.dtype))
)
