"""Right ways of writing max pooling; at ties they differ, all within the subgradients."""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import catalog

max_pool2d = catalog("max_pool2d")


def _pooled(size, K, S):
    return (size - K) // S + 1


def _tap(x, r, t, p, q, S):
    return x[:, :, r : r + S * p : S, t : t + S * q : S]


def _windows(x, K, S):
    """Return the windows [N C p q K*K], copied."""
    view = sliding_window_view(x, (K, K), axis=(2, 3))[:, :, ::S, ::S]
    return view.reshape(*view.shape[:4], K * K)


@max_pool2d.register
def loop_over_windows(x, *, K, S):
    N, C, H, W = x.shape
    y = np.empty((N, C, _pooled(H, K, S), _pooled(W, K, S)), x.dtype)
    for p, q in np.ndindex(y.shape[2:]):
        y[:, :, p, q] = x[:, :, S * p : S * p + K, S * q : S * q + K].max(axis=(2, 3))

    def pullback(dy):
        dx = np.zeros_like(x)
        for n, c, p, q in np.ndindex(dy.shape):
            window = x[n, c, S * p : S * p + K, S * q : S * q + K]
            r, t = np.unravel_index(window.argmax(), window.shape)
            dx[n, c, S * p + r, S * q + t] += dy[n, c, p, q]
        return {"x": dx}

    return y, pullback


@max_pool2d.register
def argmax_one_hot(x, *, K, S):
    windows = _windows(x, K, S)
    hot = np.eye(K * K, dtype=x.dtype)[windows.argmax(axis=4)]
    y = (windows * hot).sum(axis=4)

    def pullback(dy):
        dx = np.zeros_like(x)
        for r, t in np.ndindex(K, K):
            view = _tap(dx, r, t, *dy.shape[2:], S)
            view += dy * hot[..., r * K + t]
        return dx

    return y, pullback


@max_pool2d.register
def equality_mask_shared_among_ties(x, *, K, S):
    windows = _windows(x, K, S)
    y = windows.max(axis=4)
    mask = windows == y[..., None]
    share = mask.astype(x.dtype) / mask.sum(axis=4, keepdims=True).astype(x.dtype)

    def pullback(dy):
        dx = np.zeros_like(x)
        for r, t in np.ndindex(K, K):
            view = _tap(dx, r, t, *dy.shape[2:], S)
            view += share[..., r * K + t] * dy
        return {"x": dx}

    return y, pullback


@max_pool2d.register
def running_maximum_last_winner(x, *, K, S):
    p, q = _pooled(x.shape[2], K, S), _pooled(x.shape[3], K, S)
    y = _tap(x, 0, 0, p, q, S).copy()
    winner = np.zeros(y.shape, int)
    for r, t in np.ndindex(K, K):
        candidate = _tap(x, r, t, p, q, S)
        winner = np.where(candidate >= y, r * K + t, winner)
        y = np.maximum(y, candidate)

    def pullback(dy):
        dx = np.zeros_like(x)
        for r, t in reversed(list(np.ndindex(K, K))):
            view = _tap(dx, r, t, p, q, S)
            view += np.where(winner == r * K + t, dy, 0)
        return (dx,)

    return y, pullback


@max_pool2d.register
def flat_indices_and_add_at(x, *, K, S):
    N, C, H, W = x.shape
    winner = _windows(x, K, S).argmax(axis=4)
    p, q = np.indices(winner.shape[2:])
    index = (S * p + winner // K) * W + S * q + winner % K
    index = index.reshape(N * C, -1)
    y = np.take_along_axis(x.reshape(N * C, H * W), index, axis=1).reshape(winner.shape)

    def pullback(dy):
        dx = np.zeros((N * C, H * W), x.dtype)
        np.add.at(dx, (np.arange(N * C)[:, None], index), dy.reshape(N * C, -1))
        return {"x": dx.reshape(x.shape)}

    return y, pullback


@max_pool2d.register
def sorted_windows_and_bincount(x, *, K, S):
    order = np.argsort(_windows(x, K, S), axis=4, kind="stable")[..., -1]
    n, c, p, q = np.indices(order.shape)
    flat = np.ravel_multi_index((n, c, S * p + order // K, S * q + order % K), x.shape)
    y = x[np.unravel_index(flat, x.shape)]

    def pullback(dy):
        dx = np.bincount(flat.ravel(), weights=dy.astype(np.float64).ravel(), minlength=x.size)
        return {"x": dx.reshape(x.shape).astype(x.dtype)}

    return y, pullback


@max_pool2d.register
def pooling_matrices_of_winners(x, *, K, S):
    """A one-hot matrix [C p*q H*W] for each image."""
    N, C, H, W = x.shape
    winner = _windows(x, K, S).argmax(axis=4)
    p, q = np.indices(winner.shape[2:])
    pixel = ((S * p + winner // K) * W + S * q + winner % K).reshape(N, C, -1, 1)

    def select(n):
        return (pixel[n] == np.arange(H * W)).astype(x.dtype)

    rows = x.reshape(N, C, H * W, 1)
    y = np.stack([select(n) @ rows[n] for n in range(N)]).reshape(winner.shape)

    def pullback(dy):
        g = dy.reshape(N, C, -1, 1)
        dx = [select(n).swapaxes(1, 2) @ g[n] for n in range(N)]
        return {"x": np.stack(dx).reshape(x.shape)}

    return y, pullback


class MaxPool2d:
    """A callable object: a tournament, rows first and then columns."""

    def __call__(self, x, *, K, S):
        p, q = _pooled(x.shape[2], K, S), _pooled(x.shape[3], K, S)
        rows = np.stack([x[:, :, r : r + S * p : S] for r in range(K)])
        best_row = rows.argmax(axis=0)
        best = rows.max(axis=0)
        columns = np.stack([best[..., t : t + S * q : S] for t in range(K)])
        saved = x.shape, best_row, columns.argmax(axis=0), K, S
        return columns.max(axis=0), partial(self.backward, *saved)

    @staticmethod
    def backward(shape, best_row, best_column, K, S, dy):
        p, q = dy.shape[2:]
        drows = np.zeros(best_row.shape, dy.dtype)
        for t in range(K):
            drows[..., t : t + S * q : S] += dy * (best_column == t)
        dx = np.zeros(shape, dy.dtype)
        for r in range(K):
            dx[:, :, r : r + S * p : S] += drows * (best_row == r)
        return dx


max_pool2d.register(name="object_with_call")(MaxPool2d())
