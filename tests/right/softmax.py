"""Right ways of writing softmax; naive_* overflows where x is large."""

import math

import numpy as np

from gradverify import catalog

softmax = catalog("softmax")


@softmax.register
def step_by_step(x):
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    total = np.sum(e, axis=1, keepdims=True)
    y = e / total

    def pullback(dy):
        dtotal = -np.sum(dy * e, axis=1, keepdims=True) / total**2
        de = dy / total + dtotal
        return {"x": de * e}

    return y, pullback


@softmax.register
def through_the_max(x):
    rows, winner = np.arange(len(x)), x.argmax(axis=1)
    e = np.exp(x - x[rows, winner][:, None])
    y = e / e.sum(axis=1, keepdims=True)

    def pullback(dy):
        dz = y * (dy - np.sum(dy * y, axis=1, keepdims=True))
        dx = dz.copy()
        dx[rows, winner] -= dz.sum(axis=1)  # zero but for rounding
        return {"x": dx}

    return y, pullback


@softmax.register
def naive_exp(x):
    e = np.exp(x)
    y = e / e.sum(axis=1, keepdims=True)

    def pullback(dy):
        return (y * dy - y * (y * dy).sum(axis=1, keepdims=True),)

    return y, pullback


@softmax.register
def exp_of_x_minus_logsumexp(x):
    m = x.max(axis=1, keepdims=True)
    y = np.exp(x - (m + np.log(np.exp(x - m).sum(axis=1, keepdims=True))))

    def pullback(dy):
        g = dy * y
        return g - y * g.sum(axis=1, keepdims=True)

    return y, pullback


@softmax.register
def logaddexp(x):
    y = np.exp(x - np.logaddexp.reduce(x, axis=1)[:, None])

    def pullback(dy):
        return {"x": y * dy - np.einsum("nc,nj,nj->nc", y, y, dy)}

    return y, pullback


@softmax.register
def jacobian_per_row(x):
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        e = np.exp(x[n] - x[n].max())
        y[n] = e / e.sum()

    def pullback(dy):
        dx = np.empty_like(x)
        for n in range(x.shape[0]):
            jacobian = np.diag(y[n]) - np.outer(y[n], y[n])
            dx[n] = jacobian @ dy[n]
        return {"x": dx}

    return y, pullback


@softmax.register
def batched_jacobian(x):
    e = np.exp(x - x.max(axis=1)[:, np.newaxis])
    y = e * (1 / e.sum(axis=1))[:, np.newaxis]

    def pullback(dy):
        jacobian = y[:, :, None] * (np.eye(x.shape[1], dtype=x.dtype) - y[:, None, :])
        return {"x": np.einsum("nij,ni->nj", jacobian, dy)}

    return y, pullback


@softmax.register
def online_over_columns(x):
    peak = x[:, 0].copy()
    total = np.ones_like(peak)
    for c in range(1, x.shape[1]):
        new = np.maximum(peak, x[:, c])
        total = total * np.exp(peak - new) + np.exp(x[:, c] - new)
        peak = new
    y = np.exp(x - peak[:, None]) / total[:, None]

    def pullback(dy):
        dot = np.zeros_like(total)
        for c in range(x.shape[1]):
            dot += dy[:, c] * y[:, c]
        return {"x": (dy - dot[:, None]) * y}

    return y, pullback


@softmax.register
def scalar_loops(x):
    y = np.empty_like(x)
    exact = []
    for n, row in enumerate(x.tolist()):
        peak = max(row)
        e = [math.exp(v - peak) for v in row]
        exact.append([v / math.fsum(e) for v in e])
        y[n] = exact[n]

    def pullback(dy):
        dx = np.empty_like(x)
        for n, row in enumerate(dy.tolist()):
            dot = math.fsum(g * p for g, p in zip(row, exact[n], strict=True))
            dx[n] = [p * (g - dot) for g, p in zip(row, exact[n], strict=True)]
        return {"x": dx}

    return y, pullback


@softmax.register
def in_float64(x):
    z = x.astype(np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(dy):
        dx = p * (dy - (p * dy).sum(axis=1, keepdims=True))
        return {"x": dx.astype(x.dtype)}

    return p.astype(x.dtype), pullback


@softmax.register
def recomputed_rowwise_matmul(x):
    def forward():
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / (e @ np.ones_like(x[:1]).T)

    def pullback(dy):
        y = forward()
        dot = (dy[:, None, :] @ y[:, :, None])[:, 0]
        return {"x": y * (dy - dot)}

    return forward(), pullback


class Softmax:
    """The usual pair of a forward and a backward, one object a call."""

    def __init__(self, x):
        shifted = x - np.amax(x, axis=-1, keepdims=True)
        self.y = np.exp(shifted)
        self.y /= np.add.reduce(self.y, axis=-1, keepdims=True)

    def backward(self, dy):
        dx = dy - np.sum(dy * self.y, axis=-1, keepdims=True)
        dx *= self.y
        return dx


@softmax.register
def forward_and_backward_methods(x):
    op = Softmax(x)
    return op.y, op.backward


# The outer call binds what the pullback needs.
softmax.register(name="nested_lambdas")(
    lambda x: (lambda y: (y, lambda dy: {"x": y * (dy - (dy * y).sum(1, keepdims=True))}))(
        (lambda e: e / e.sum(1, keepdims=True))(np.exp(x - x.max(1, keepdims=True)))
    )
)
