"""Right ways of writing average pooling."""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from gradverify import catalog

avg_pool2d = catalog("avg_pool2d")


def _pooled(size, K, S):
    return (size - K) // S + 1


def _tap(x, r, t, p, q, S):
    return x[:, :, r : r + S * p : S, t : t + S * q : S]


@avg_pool2d.register
def loop_over_windows(x, *, K, S):
    N, C, H, W = x.shape
    y = np.empty((N, C, _pooled(H, K, S), _pooled(W, K, S)), x.dtype)
    for p, q in np.ndindex(y.shape[2:]):
        y[:, :, p, q] = x[:, :, S * p : S * p + K, S * q : S * q + K].mean(axis=(2, 3))

    def pullback(dy):
        dx = np.zeros_like(x)
        for p, q in np.ndindex(dy.shape[2:]):
            share = dy[:, :, p, q] / K**2
            dx[:, :, S * p : S * p + K, S * q : S * q + K] += share[:, :, None, None]
        return {"x": dx}

    return y, pullback


@avg_pool2d.register
def scalar_loops(x, *, K, S):
    N, C, H, W = x.shape
    y = np.zeros((N, C, _pooled(H, K, S), _pooled(W, K, S)), x.dtype)
    for n, c, p, q in np.ndindex(y.shape):
        for r, t in np.ndindex(K, K):
            y[n, c, p, q] += x[n, c, S * p + r, S * q + t] / (K * K)

    def pullback(dy):
        dx = np.zeros_like(x)
        for n, c, p, q in np.ndindex(dy.shape):
            for r, t in np.ndindex(K, K):
                dx[n, c, S * p + r, S * q + t] += dy[n, c, p, q] / (K * K)
        return dx

    return y, pullback


@avg_pool2d.register
def sum_over_taps(x, *, K, S):
    p, q = _pooled(x.shape[2], K, S), _pooled(x.shape[3], K, S)
    y = sum(_tap(x, r, t, p, q, S) for r, t in np.ndindex(K, K)) * (1 / K**2)

    def pullback(dy):
        dx = np.zeros_like(x)
        for r, t in np.ndindex(K, K):
            view = _tap(dx, r, t, p, q, S)
            view += dy
        return {"x": dx * (1 / K**2)}

    return y, pullback


@avg_pool2d.register
def pooling_matrices(x, *, K, S):
    """One matrix for the rows and one for the columns: y = A x B^T."""

    def matrix(size):
        first = S * np.arange(_pooled(size, K, S))[:, None]
        index = np.arange(size)
        return ((index >= first) & (index < first + K)).astype(x.dtype) / K

    rows, columns = matrix(x.shape[2]), matrix(x.shape[3])
    return rows @ x @ columns.T, lambda dy: {"x": rows.T @ dy @ columns}


@avg_pool2d.register
def windows_and_einsum(x, *, K, S):
    windows = sliding_window_view(x, (K, K), axis=(2, 3))[:, :, ::S, ::S]
    weight = np.full((K, K), 1 / K**2, x.dtype)

    def pullback(dy):
        dwindows = np.einsum("ncpq,rt->rtncpq", dy, weight)
        dx = np.zeros_like(x)
        for r, t in np.ndindex(K, K):
            view = _tap(dx, r, t, *dy.shape[2:], S)
            view += dwindows[r, t]
        return (dx,)

    return np.einsum("ncpqrt,rt->ncpq", windows, weight), pullback


@avg_pool2d.register
def im2col_and_add_at(x, *, K, S):
    p, q = np.indices((_pooled(x.shape[2], K, S), _pooled(x.shape[3], K, S)))
    r, t = np.indices((K, K))
    rows = S * p[:, :, None, None] + r
    columns = S * q[:, :, None, None] + t
    y = x[:, :, rows, columns].mean(axis=(4, 5))

    def pullback(dy):
        dx = np.zeros_like(x)
        np.add.at(dx, np.s_[:, :, rows, columns], dy[..., None, None] / (K * K))
        return {"x": dx}

    return y, pullback


@avg_pool2d.register
def prefix_sums_per_axis(x, *, K, S):
    def window_sums(v, axis):
        """Return the sums of K neighbours, at stride S, as differences of running sums."""
        v = np.moveaxis(v, axis, -1)
        sums = np.pad(v.cumsum(axis=-1), ((0, 0),) * 3 + ((1, 0),))
        return np.moveaxis((sums[..., K:] - sums[..., :-K])[..., ::S], -1, axis)

    def fill_windows(v, axis, size):
        """Return the transpose: each element is added to K neighbours."""
        v = np.moveaxis(v, axis, -1)
        marks = np.zeros((*v.shape[:3], size + 1))
        marks[..., : S * v.shape[3] : S] += v
        marks[..., K : K + S * v.shape[3] : S] -= v
        return np.moveaxis(marks.cumsum(axis=-1)[..., :size], -1, axis)

    y = window_sums(window_sums(x.astype(np.float64), 2), 3) / K**2

    def pullback(dy):
        drows = fill_windows(dy.astype(np.float64), 3, x.shape[3])
        return {"x": (fill_windows(drows, 2, x.shape[2]) / K**2).astype(x.dtype)}

    return y.astype(x.dtype), pullback


@avg_pool2d.register
def rows_then_columns(x, *, K, S):
    N, C, H, W = x.shape
    p, q = _pooled(H, K, S), _pooled(W, K, S)
    rows = np.mean([x[:, :, r : r + S * p : S] for r in range(K)], axis=0)
    y = np.mean([rows[..., t : t + S * q : S] for t in range(K)], axis=0)

    def pullback(dy):
        drows = np.zeros((N, C, p, W), x.dtype)
        for t in range(K):
            drows[..., t : t + S * q : S] += dy / K
        dx = np.zeros_like(x)
        for r in range(K):
            dx[:, :, r : r + S * p : S] += drows / K
        return {"x": dx}

    return y, pullback


class AvgPool2d:
    """A callable object that pools through one strided view, forwards and backwards."""

    def __call__(self, x, *, K, S):
        N, C, H, W = x.shape
        shape = (N, C, _pooled(H, K, S), _pooled(W, K, S), K, K)
        y = self.windows(x, shape, S).sum(axis=5).sum(axis=4) / K**2
        return y, partial(self.backward, x.shape, shape, S)

    def backward(self, image, shape, S, dy):
        dx = np.zeros(image, dy.dtype)
        windows = self.windows(dx, shape, S, writeable=True)
        for r, t in np.ndindex(shape[4:]):
            windows[..., r, t] += dy / shape[4] / shape[5]
        return dx

    @staticmethod
    def windows(x, shape, S, *, writeable=False):
        n, c, h, w = x.strides
        return as_strided(x, shape, (n, c, S * h, S * w, h, w), writeable=writeable)


avg_pool2d.register(name="object_with_call")(AvgPool2d())
