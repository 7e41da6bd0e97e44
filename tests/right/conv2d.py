"""Right ways of writing a 2-D convolution with stride S, zero padding P and dilation D."""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from gradverify import catalog

conv2d = catalog("conv2d")


def _padded(x, P):
    return np.pad(x, ((0, 0), (0, 0), (P, P), (P, P)))


def _cropped(xp, P):
    H, W = xp.shape[2] - 2 * P, xp.shape[3] - 2 * P
    return xp[:, :, P : P + H, P : P + W].copy()


def _sizes(xp, w, S, D):
    return tuple((xp.shape[a] - D * (w.shape[a] - 1) - 1) // S + 1 for a in (2, 3))


def _tap(xp, r, t, shape, S, D):
    """View what the filter's element (r, t) is multiplied with."""
    p, q = shape
    return xp[:, :, D * r : D * r + S * p : S, D * t : D * t + S * q : S]


@conv2d.register
def loop_over_taps(x, w, b, *, S, P, D):
    xp = _padded(x, P)
    shape = _sizes(xp, w, S, D)
    y = np.zeros((len(x), len(w), *shape), x.dtype) + b.reshape(1, -1, 1, 1)
    for r, t in np.ndindex(w.shape[2:]):
        y += np.einsum("ncpq,kc->nkpq", _tap(xp, r, t, shape, S, D), w[:, :, r, t])

    def pullback(dy):
        dxp, dw = np.zeros_like(xp), np.empty_like(w)
        for r, t in np.ndindex(w.shape[2:]):
            window = _tap(dxp, r, t, shape, S, D)
            window += np.einsum("nkpq,kc->ncpq", dy, w[:, :, r, t])
            dw[:, :, r, t] = np.einsum("nkpq,ncpq->kc", dy, _tap(xp, r, t, shape, S, D))
        return {"x": _cropped(dxp, P), "w": dw, "b": dy.sum(axis=(0, 2, 3))}

    return y, pullback


@conv2d.register
def loop_over_output_positions(x, w, b, *, S, P, D):
    xp = _padded(x, P)
    shape = _sizes(xp, w, S, D)
    R, T = w.shape[2:]

    def patch(a, p, q):
        top, left = S * p, S * q
        return a[:, :, top : top + D * (R - 1) + 1 : D, left : left + D * (T - 1) + 1 : D]

    y = np.empty((len(x), len(w), *shape), x.dtype)
    for p, q in np.ndindex(shape):
        y[:, :, p, q] = np.tensordot(patch(xp, p, q), w, axes=((1, 2, 3), (1, 2, 3))) + b

    def pullback(dy):
        dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
        for p, q in np.ndindex(shape):
            here = dy[:, :, p, q]
            window = patch(dxp, p, q)
            window += np.tensordot(here, w, axes=(1, 0))
            dw += np.tensordot(here, patch(xp, p, q), axes=(0, 0))
            db += here.sum(axis=0)
        return _cropped(dxp, P), dw, db

    return y, pullback


@conv2d.register
def direct_loops(x, w, b, *, S, P, D):
    xp = _padded(x, P)
    shape = _sizes(xp, w, S, D)
    rows, columns = D * (w.shape[2] - 1) + 1, D * (w.shape[3] - 1) + 1
    y = np.empty((len(x), len(w), *shape), x.dtype)
    for n, k, p, q in np.ndindex(y.shape):
        patch = xp[n, :, S * p : S * p + rows : D, S * q : S * q + columns : D]
        y[n, k, p, q] = (patch * w[k]).sum() + b[k]

    def pullback(dy):
        dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
        for n, k, p, q in np.ndindex(dy.shape):
            window = np.s_[n, :, S * p : S * p + rows : D, S * q : S * q + columns : D]
            dxp[window] += w[k] * dy[n, k, p, q]
            dw[k] += xp[window] * dy[n, k, p, q]
            db[k] += dy[n, k, p, q]
        return {"b": db, "w": dw, "x": _cropped(dxp, P)}

    return y, pullback


@conv2d.register
def im2col_with_index_grids(x, w, b, *, S, P, D):
    N, C = x.shape[:2]
    K, _, R, T = w.shape
    xp = _padded(x, P)
    p, q = _sizes(xp, w, S, D)
    channel, r, t = (i.reshape(-1, 1) for i in np.indices((C, R, T)))
    row, column = (i.reshape(1, -1) for i in np.indices((p, q)))
    where = np.s_[:, channel, D * r + S * row, D * t + S * column]
    columns = xp[where].transpose(1, 2, 0).reshape(C * R * T, p * q * N)
    flat = w.reshape(K, -1)
    y = (flat @ columns + b[:, None]).reshape(K, p, q, N).transpose(3, 0, 1, 2)

    def pullback(dy):
        dyf = dy.transpose(1, 2, 3, 0).reshape(K, -1)
        dcolumns = (flat.T @ dyf).reshape(C * R * T, p * q, N).transpose(2, 0, 1)
        dxp = np.zeros_like(xp)
        np.add.at(dxp, where, dcolumns)
        dw = (dyf @ columns.T).reshape(w.shape)
        return {"x": _cropped(dxp, P), "w": dw, "b": dyf.sum(axis=1)}

    return y, pullback


@conv2d.register
def im2col_per_image(x, w, b, *, S, P, D):
    K, C, R, T = w.shape
    xp = _padded(x, P)
    p, q = _sizes(xp, w, S, D)
    flat = w.reshape(K, C * R * T)

    def columns_of(image):
        taps = [_tap(image[None], r, t, (p, q), S, D)[0] for r, t in np.ndindex(R, T)]
        return np.stack(taps, axis=1).reshape(C * R * T, p * q)

    y = np.stack([flat.dot(columns_of(image)).reshape(K, p, q) for image in xp])
    y += b[:, None, None]

    def pullback(dy):
        dxp, dw, db = np.zeros_like(xp), np.zeros_like(flat), np.zeros_like(b)
        for n in range(len(x)):
            dyn = dy[n].reshape(K, p * q)
            dw += dyn.dot(columns_of(xp[n]).T)
            db += dyn.sum(axis=1)
            taps = flat.T.dot(dyn).reshape(C, R, T, p, q)
            for r, t in np.ndindex(R, T):
                target = _tap(dxp[n : n + 1], r, t, (p, q), S, D)
                target += taps[:, r, t]
        return _cropped(dxp, P), dw.reshape(w.shape), db

    return y, pullback


@conv2d.register
def windows_and_einsum(x, w, b, *, S, P, D):
    xp = _padded(x, P)
    p, q = _sizes(xp, w, S, D)
    span = tuple(D * (n - 1) + 1 for n in w.shape[2:])
    windows = sliding_window_view(xp, span, axis=(2, 3))[:, :, ::S, ::S, ::D, ::D]
    y = np.einsum("ncpqrt,kcrt->nkpq", windows, w, optimize=True) + b[None, :, None, None]

    def pullback(dy):
        dwindows = np.einsum("nkpq,kcrt->ncrtpq", dy, w)
        dxp = np.zeros_like(xp)
        for r, t in np.ndindex(w.shape[2:]):
            target = _tap(dxp, r, t, (p, q), S, D)
            target += dwindows[:, :, r, t]
        dw = np.einsum("nkpq,ncpqrt->kcrt", dy, windows)
        return {"x": _cropped(dxp, P), "w": dw, "b": np.einsum("nkpq->k", dy)}

    return y, pullback


@conv2d.register
def strided_view_and_transposed_convolution(x, w, b, *, S, P, D):
    def correlate(image, filters, S, D):
        p, q = _sizes(image, filters, S, D)
        n, c, i, j = image.strides
        shape = (*image.shape[:2], p, q, *filters.shape[2:])
        view = as_strided(image, shape, (n, c, S * i, S * j, D * i, D * j), writeable=False)
        y = np.tensordot(view, filters, axes=((1, 4, 5), (1, 2, 3)))
        return np.moveaxis(y, 3, 1)

    xp = _padded(x, P)

    def pullback(dy):
        (N, K, p, q), (R, T) = dy.shape, w.shape[2:]
        H, W = xp.shape[2:]
        # dy with S - 1 zeros between its elements, in a border as wide as the filter's reach.
        wide = np.zeros((N, K, H + D * (R - 1), W + D * (T - 1)), x.dtype)
        wide[:, :, D * (R - 1) :: S, D * (T - 1) :: S][:, :, :p, :q] = dy
        flipped = w[:, :, ::-1, ::-1].swapaxes(0, 1)
        dx = correlate(wide, flipped, 1, D)
        # The filter's gradient is a correlation too, with the batch as its channels.
        used = xp[:, :, : D * (R - 1) + S * (p - 1) + 1, : D * (T - 1) + S * (q - 1) + 1]
        dw = correlate(used.swapaxes(0, 1), dy.swapaxes(0, 1), D, S).swapaxes(0, 1)
        return {"x": _cropped(dx, P), "w": dw, "b": dy.sum(axis=3).sum(axis=2).sum(axis=0)}

    return correlate(xp, w, S, D) + b[:, None, None], pullback


@conv2d.register
def channels_last_matmul(x, w, b, *, S, P, D):
    xp = np.ascontiguousarray(_padded(x, P).transpose(0, 2, 3, 1))
    p, q = _sizes(xp.transpose(0, 3, 1, 2), w, S, D)
    K, C, R, T = w.shape

    def tap(a, r, t):
        return a[:, D * r : D * r + S * p : S, D * t : D * t + S * q : S]

    y = sum(tap(xp, r, t) @ w[:, :, r, t].T for r, t in np.ndindex(R, T)) + b

    def pullback(dy):
        dyl = dy.transpose(0, 2, 3, 1)
        rows = dyl.reshape(-1, K)
        dxp, dw = np.zeros_like(xp), np.empty_like(w)
        for r, t in np.ndindex(R, T):
            target = tap(dxp, r, t)
            target += dyl @ w[:, :, r, t]
            dw[:, :, r, t] = rows.T @ tap(xp, r, t).reshape(-1, C)
        dx = _cropped(dxp.transpose(0, 3, 1, 2), P)
        return dx, dw, rows.sum(axis=0)

    return y.transpose(0, 3, 1, 2), pullback


@conv2d.register
def no_padding_clipped_ranges(x, w, b, *, S, P, D):
    N, _, H, W = x.shape
    R, T = w.shape[2:]
    p, q = (H + 2 * P - D * (R - 1) - 1) // S + 1, (W + 2 * P - D * (T - 1) - 1) // S + 1

    def overlap(offset, outputs, size):
        """Return the outputs whose input S*i + offset is inside, and these inputs."""
        i = np.arange(outputs)
        i = i[(S * i + offset >= 0) & (S * i + offset < size)]
        return i, S * i + offset

    pairs = []
    for r, t in np.ndindex(R, T):
        (i, row), (j, column) = overlap(D * r - P, p, H), overlap(D * t - P, q, W)
        pairs.append((r, t, np.ix_(range(N), i, j), np.ix_(range(N), row, column)))
    xl = np.moveaxis(x, 1, 3)
    y = np.tile(b, (N, p, q, 1))
    for r, t, out, inp in pairs:
        y[out] += xl[inp] @ w[:, :, r, t].T

    def pullback(dy):
        dyl = np.moveaxis(dy, 1, 3)
        dx, dw = np.zeros_like(xl), np.zeros_like(w)
        for r, t, out, inp in pairs:
            dx[inp] += dyl[out] @ w[:, :, r, t]
            dw[:, :, r, t] = np.tensordot(dyl[out], xl[inp], axes=((0, 1, 2), (0, 1, 2)))
        return {"x": np.moveaxis(dx, 3, 1), "w": dw, "b": dy.sum(axis=(0, 2, 3))}

    return np.moveaxis(y, 3, 1), pullback


def _in(dtype, layer, x, w, b, **constants):
    y, pullback = layer(x.astype(dtype), w.astype(dtype), b.astype(dtype), **constants)

    def cast(dy):
        return {name: g.astype(x.dtype) for name, g in pullback(dy.astype(dtype)).items()}

    return y.astype(x.dtype), cast


conv2d.register(name="in_float64")(partial(_in, np.float64, windows_and_einsum))
