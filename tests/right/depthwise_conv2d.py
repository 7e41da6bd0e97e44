"""Right ways of writing a 2-D convolution of each channel with a filter of its own."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradverify import catalog

depthwise_conv2d = catalog("depthwise_conv2d")


def _padded(x, P):
    N, C, H, W = x.shape
    xp = np.zeros((N, C, H + 2 * P, W + 2 * P), x.dtype)
    xp[:, :, P : P + H, P : P + W] = x
    return xp


def _cropped(xp, P):
    return xp[:, :, P:-P, P:-P] if P else xp


def _sizes(xp, w, S):
    return (xp.shape[2] - w.shape[1]) // S + 1, (xp.shape[3] - w.shape[2]) // S + 1


@depthwise_conv2d.register
def depthwise_loop_over_taps(x, w, b, *, S, P):
    xp = _padded(x, P)
    p, q = _sizes(xp, w, S)
    taps = [(r, t, np.s_[:, :, r : r + S * p : S, t : t + S * q : S])
            for r, t in np.ndindex(w.shape[1:])]  # fmt: skip
    y = b[None, :, None, None] + sum(w[:, r, t][:, None, None] * xp[i] for r, t, i in taps)

    def pullback(dy):
        dxp, dw = np.zeros_like(xp), np.zeros_like(w)
        for r, t, i in taps:
            dxp[i] += dy * w[None, :, r, t, None, None]
            dw[:, r, t] = (dy * xp[i]).sum(axis=(0, 2, 3))
        return {"x": _cropped(dxp, P), "w": dw, "b": dy.sum(axis=(0, 2, 3))}

    return y, pullback


@depthwise_conv2d.register
def depthwise_loop_over_positions(x, w, b, *, S, P):
    xp = _padded(x, P)
    R, T = w.shape[1:]
    y = np.zeros((*x.shape[:2], *_sizes(xp, w, S)), x.dtype)

    def patch(p, q):
        return np.s_[:, :, S * p : S * p + R, S * q : S * q + T]

    for p, q in np.ndindex(y.shape[2:]):
        y[:, :, p, q] = (xp[patch(p, q)] * w).sum(axis=(2, 3)) + b

    def pullback(dy):
        dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
        for p, q in np.ndindex(dy.shape[2:]):
            here = dy[:, :, p, q, None, None]
            dxp[patch(p, q)] += here * w
            dw += (here * xp[patch(p, q)]).sum(axis=0)
            db += dy[:, :, p, q].sum(axis=0)
        return _cropped(dxp, P), dw, db

    return y, pullback


@depthwise_conv2d.register
def depthwise_direct_loops(x, w, b, *, S, P):
    N, C, H, W = x.shape
    R, T = w.shape[1:]
    y = np.empty((N, C, (H + 2 * P - R) // S + 1, (W + 2 * P - T) // S + 1), x.dtype)

    def meeting(p, q):
        """Return where the filter at an output meets the image, in the image and in the filter."""
        top, left = S * p - P, S * q - P
        i = np.s_[max(top, 0) : min(top + R, H), max(left, 0) : min(left + T, W)]
        return i, np.s_[i[0].start - top : i[0].stop - top, i[1].start - left : i[1].stop - left]

    for n, c, p, q in np.ndindex(y.shape):
        i, f = meeting(p, q)
        y[n, c, p, q] = np.vdot(x[n, c][i], w[c][f]) + b[c]

    def pullback(dy):
        dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
        for n, c, p, q in np.ndindex(y.shape):
            i, f = meeting(p, q)
            dx[n, c][i] += dy[n, c, p, q] * w[c][f]
            dw[c][f] += dy[n, c, p, q] * x[n, c][i]
            db[c] += dy[n, c, p, q]
        return {"x": dx, "w": dw, "b": db}

    return y, pullback


@depthwise_conv2d.register
def depthwise_im2col_a_channel_at_a_time(x, w, b, *, S, P):
    N, C = x.shape[:2]
    R, T = w.shape[1:]
    xp = _padded(x, P)
    p, q = _sizes(xp, w, S)
    rows = S * np.arange(p)[:, None, None, None] + np.arange(R)[:, None]  # p 1 R 1
    columns = S * np.arange(q)[:, None, None] + np.arange(T)  # q 1 T
    y, kept = np.empty((N, C, p, q), x.dtype), []
    for c in range(C):
        patches = xp[:, c][:, rows, columns].reshape(N * p * q, R * T)
        y[:, c] = (patches @ w[c].ravel() + b[c]).reshape(N, p, q)
        kept.append(patches)

    def pullback(dy):
        dxp, dw = np.zeros_like(xp), np.empty_like(w)
        for c in range(C):
            flat = dy[:, c].reshape(-1)
            dw[c] = (kept[c].T @ flat).reshape(R, T)
            dpatches = np.outer(flat, w[c]).reshape(N, p, q, R, T)
            np.add.at(dxp[:, c], (slice(None), rows, columns), dpatches)
        return _cropped(dxp, P).copy(), dw, dy.sum(axis=3).sum(axis=2).sum(axis=0)

    return y, pullback


@depthwise_conv2d.register
def depthwise_strided_view_and_flipped_filter(x, w, b, *, S, P):
    def correlate(image, shape, step, filters):
        n, c, i, j = image.strides
        sizes = (*image.shape[:2], *shape, *filters.shape[1:])
        view = as_strided(image, sizes, (n, c, step * i, step * j, i, j), writeable=False)
        return np.einsum("ncpqrt,crt->ncpq", view, filters, optimize=True)

    R, T = w.shape[1:]
    xp = _padded(x, P)
    p, q = _sizes(xp, w, S)

    def pullback(dy):
        H, W = xp.shape[2:]
        wide = np.zeros((*x.shape[:2], H + R - 1, W + T - 1), x.dtype)
        wide[:, :, R - 1 : R - 1 + S * p : S, T - 1 : T - 1 + S * q : S] = dy
        dxp = correlate(wide, (H, W), 1, w[:, ::-1, ::-1])
        dw = np.empty_like(w)
        for r, t in np.ndindex(R, T):
            dw[:, r, t] = np.einsum(
                "ncpq,ncpq->c", dy, xp[:, :, r:, t:][:, :, ::S, ::S][:, :, :p, :q]
            )
        return {"x": _cropped(dxp, P), "w": dw, "b": np.einsum("ncpq->c", dy)}

    return correlate(xp, (p, q), S, w) + b[:, None, None], pullback


@depthwise_conv2d.register
def depthwise_one_hot_rows_and_columns(x, w, b, *, S, P):
    """Which pixel each output reads is two tensors of zeros and ones; padding reads none."""

    def reads(pixels, reach):
        i, r, o = np.ogrid[:pixels, :reach, : (pixels + 2 * P - reach) // S + 1]
        return (i == S * o + r - P).astype(x.dtype)

    down, right = reads(x.shape[2], w.shape[1]), reads(x.shape[3], w.shape[2])
    patches = np.einsum("nchw,hrp,wtq->ncrtpq", x, down, right, optimize=True)
    y = np.einsum("ncrtpq,crt->ncpq", patches, w) + b.reshape(1, -1, 1, 1)

    def pullback(dy):
        dpatches = w[None, :, :, :, None, None] * dy[:, :, None, None]
        dx = np.einsum("ncrtpq,hrp,wtq->nchw", dpatches, down, right, optimize=True)
        return dx, np.einsum("ncrtpq,ncpq->crt", patches, dy), dy.sum(axis=(0, 2, 3))

    return y, pullback


@depthwise_conv2d.register
def depthwise_as_a_full_convolution(x, w, b, *, S, P):
    """The filters stand on the diagonal of a full convolution's, whose gradient's is taken."""
    C = x.shape[1]
    xp = _padded(x, P)
    full = np.zeros((C, *w.shape), w.dtype)
    full[np.arange(C), np.arange(C)] = w
    p, q = _sizes(xp, w, S)

    def tap(a, r, t):
        return a[:, :, r : r + S * p : S, t : t + S * q : S]

    y = np.zeros((len(x), C, p, q), x.dtype)
    for r, t in np.ndindex(w.shape[1:]):
        y += np.einsum("kc,ncpq->nkpq", full[:, :, r, t], tap(xp, r, t))

    def pullback(dy):
        dxp, dfull = np.zeros_like(xp), np.zeros_like(full)
        for r, t in np.ndindex(w.shape[1:]):
            target = tap(dxp, r, t)
            target += np.einsum("kc,nkpq->ncpq", full[:, :, r, t], dy)
            dfull[:, :, r, t] = np.einsum("nkpq,ncpq->kc", dy, tap(xp, r, t))
        dw = np.einsum("ccrt->crt", dfull).copy()
        return {"x": _cropped(dxp, P), "w": dw, "b": dy.sum(axis=(0, 2, 3))}

    return y + b[:, None, None], pullback
