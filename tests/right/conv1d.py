"""Right ways of writing a 1-D convolution with stride S, zero padding P and dilation D."""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradverify import catalog

conv1d = catalog("conv1d")


def _outputs(L, R, S, P, D):
    return (L + 2 * P - D * (R - 1) - 1) // S + 1


def _padded(x, P):
    return np.pad(x, [(0, 0), (0, 0), (P, P)])


@conv1d.register
def conv1d_loop_over_taps(x, w, b, *, S, P, D):
    (N, _, L), (K, _, R) = x.shape, w.shape
    xp, M = _padded(x, P), _outputs(L, R, S, P, D)
    taps = [np.s_[:, :, D * r : D * r + S * M : S] for r in range(R)]
    y = np.zeros((N, K, M), x.dtype)
    for r in range(R):
        y += w[:, :, r] @ xp[taps[r]]
    y += b[:, None]

    def pullback(dy):
        dxp, dw = np.zeros_like(xp), np.zeros_like(w)
        for r in range(R):
            dxp[taps[r]] += w[:, :, r].T @ dy
            dw[:, :, r] = np.einsum("nkp,ncp->kc", dy, xp[taps[r]])
        return {"x": dxp[:, :, P : L + P], "w": dw, "b": dy.sum(axis=2).sum(axis=0)}

    return y, pullback


@conv1d.register
def conv1d_loop_over_time(x, w, b, *, S, P, D):
    L, R = x.shape[2], w.shape[2]
    xp = _padded(x, P)
    windows = [
        np.s_[:, :, S * p : S * p + D * (R - 1) + 1 : D] for p in range(_outputs(L, R, S, P, D))
    ]
    y = np.stack([np.tensordot(xp[i], w, axes=([1, 2], [1, 2])) + b for i in windows], axis=2)

    def pullback(dy):
        dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.zeros_like(b)
        for p, i in enumerate(windows):
            dxp[i] += np.tensordot(dy[:, :, p], w, axes=1)
            dw += np.tensordot(dy[:, :, p], xp[i], axes=(0, 0))
            db += dy[:, :, p].sum(axis=0)
        return dxp[:, :, P : P + L].copy(), dw, db

    return y, pullback


@conv1d.register
def conv1d_direct_loops(x, w, b, *, S, P, D):
    """The padding is never made: what it would be read for is left out."""
    (N, _, L), (K, _, R) = x.shape, w.shape
    y = np.empty((N, K, _outputs(L, R, S, P, D)), x.dtype)
    reads = [
        (p, r, S * p + D * r - P)
        for p in range(y.shape[2])
        for r in range(R)
        if 0 <= S * p + D * r - P < L
    ]
    for n in range(N):
        for k in range(K):
            y[n, k] = b[k]
            for p, r, i in reads:
                y[n, k, p] += x[n, :, i] @ w[k, :, r]

    def pullback(dy):
        dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
        for n in range(N):
            for k in range(K):
                for p, r, i in reads:
                    dx[n, :, i] += dy[n, k, p] * w[k, :, r]
                    dw[k, :, r] += dy[n, k, p] * x[n, :, i]
                db[k] += dy[n, k].sum()
        return {"x": dx, "w": dw, "b": db}

    return y, pullback


@conv1d.register
def conv1d_im2col_and_add_at(x, w, b, *, S, P, D):
    (N, C, L), (K, _, R) = x.shape, w.shape
    xp = _padded(x, P)
    position = S * np.arange(_outputs(L, R, S, P, D)) + D * np.arange(R)[:, None]  # R p
    columns = xp[:, :, position].reshape(N, C * R, -1)
    flat = w.reshape(K, C * R)

    def pullback(dy):
        dw = sum(dy[n] @ columns[n].T for n in range(N))
        dcolumns = (flat.T @ dy).reshape(N, C, *position.shape)
        dxp = np.zeros_like(xp)
        np.add.at(dxp, (slice(None), slice(None), position), dcolumns)
        return {"x": dxp[:, :, P : P + L], "w": dw.reshape(w.shape), "b": np.einsum("nkp->k", dy)}

    return flat @ columns + b.reshape(-1, 1), pullback


@conv1d.register
def conv1d_strided_view_and_bincount(x, w, b, *, S, P, D):
    (N, C, L), R = x.shape, w.shape[2]
    xp, M = _padded(x, P), _outputs(L, R, S, P, D)
    n, c, step = xp.strides
    windows = as_strided(xp, (N, C, M, R), (n, c, S * step, D * step), writeable=False)
    places = as_strided(
        np.arange(xp.size), (N, C, M, R), [8 * v for v in (C * xp.shape[2], xp.shape[2], S, D)]
    )

    def pullback(dy):
        dwindows = np.einsum("nkp,kcr->ncpr", dy, w)
        dxp = np.bincount(places.ravel(), dwindows.ravel(), xp.size).astype(x.dtype)
        dw = np.einsum("nkp,ncpr->kcr", dy, windows)
        return dxp.reshape(xp.shape)[:, :, P : P + L], dw, dy.sum(axis=(0, 2))

    return np.einsum("ncpr,kcr->nkp", windows, w) + b[None, :, None], pullback


@conv1d.register
def conv1d_one_hot_selection(x, w, b, *, S, P, D):
    """Which input each output reads is a tensor of zeros and ones; padding reads none."""
    L, R = x.shape[2], w.shape[2]
    i, r, p = np.ogrid[:L, :R, : _outputs(L, R, S, P, D)]
    reads = (i == S * p + D * r - P).astype(x.dtype)

    def pullback(dy):
        weighed = np.einsum("kcr,irp->kcip", w, reads)
        return {
            "x": np.einsum("nkp,kcip->nci", dy, weighed),
            "w": np.einsum("nkp,nci,irp->kcr", dy, x, reads, optimize=True),
            "b": dy.sum(axis=(0, 2)),
        }

    return np.einsum("nci,irp,kcr->nkp", x, reads, w, optimize=True) + b[:, None], pullback


@conv1d.register
def conv1d_by_the_library(x, w, b, *, S, P, D):
    """np.correlate one channel at a time; stride and dilation are zeros put in between."""
    (N, C, L), (K, _, R) = x.shape, w.shape
    xp, M = _padded(x, P), _outputs(L, R, S, P, D)
    spread = np.zeros((K, C, D * (R - 1) + 1), x.dtype)
    spread[:, :, ::D] = w

    y = np.zeros((N, K, M), x.dtype)
    for n, k, c in np.ndindex(N, K, C):
        y[n, k] += np.correlate(xp[n, c], spread[k, c], "valid")[::S]

    def pullback(dy):
        sparse = np.zeros((N, K, xp.shape[2] - D * (R - 1)), x.dtype)
        sparse[:, :, ::S] = dy
        dxp, dspread = np.zeros_like(xp), np.zeros_like(spread)
        for n, k, c in np.ndindex(N, K, C):
            dxp[n, c] += np.convolve(sparse[n, k], spread[k, c], "full")
            dspread[k, c] += np.correlate(xp[n, c], sparse[n, k], "valid")
        return dxp[:, :, P : P + L], dspread[:, :, ::D], dy.sum(axis=(0, 2))

    return y + b[:, None], pullback


@conv1d.register
def conv1d_by_fourier_transform(x, w, b, *, S, P, D):
    (N, C, L), (K, _, R) = x.shape, w.shape
    xp, M = _padded(x, P), _outputs(L, R, S, P, D)
    size, reach = 2 * xp.shape[2], D * (R - 1) + 1  # wide enough that nothing wraps around
    forward, back = partial(np.fft.rfft, n=size), partial(np.fft.irfft, n=size)
    spread = np.zeros((K, C, reach), x.dtype)
    spread[:, :, ::D] = w
    X, F = forward(xp), forward(spread)
    y = back(np.einsum("ncf,kcf->nkf", X, F.conj()))[:, :, : S * M : S]

    def pullback(dy):
        sparse = np.zeros((N, K, S * M), x.dtype)
        sparse[:, :, ::S] = dy
        G = forward(sparse[:, :, : xp.shape[2]])
        dx = back(np.einsum("nkf,kcf->ncf", G, F))[:, :, P : P + L]
        dw = back(np.einsum("nkf,ncf->kcf", G.conj(), X))[:, :, :reach:D]
        return {"x": dx.astype(x.dtype), "w": dw.astype(x.dtype), "b": dy.sum(axis=(0, 2))}

    return (y + b[:, None]).astype(x.dtype), pullback
