"""Right ways of writing a transposed convolution with stride S, cut off by P at each edge."""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from gradverify import catalog

transposed_conv2d = catalog("transposed_conv2d")


def _full_shape(x, w, S):
    N, _, H, W = x.shape
    K, R, T = w.shape[1:]
    return N, K, S * (H - 1) + R, S * (W - 1) + T


def _inner(shape, P):
    return np.s_[:, :, P : shape[2] - P, P : shape[3] - P]


def _spread(dy, shape, P):
    """Return dy [N K ..] with the cut edges put back, as zeros."""
    dfull = np.zeros(shape, dy.dtype)
    dfull[_inner(shape, P)] = dy
    return dfull


@transposed_conv2d.register
def stamps_of_pixels(x, w, b, *, S, P):
    shape = _full_shape(x, w, S)
    R, T = w.shape[2:]
    full = np.zeros(shape, x.dtype)
    places = [(p, q, np.s_[:, :, S * p : S * p + R, S * q : S * q + T])
              for p, q in np.ndindex(x.shape[2:])]  # fmt: skip
    for p, q, place in places:
        full[place] += np.tensordot(x[:, :, p, q], w, axes=(1, 0))

    def pullback(dy):
        dfull, dx, dw = _spread(dy, shape, P), np.empty_like(x), np.zeros_like(w)
        for p, q, place in places:
            dx[:, :, p, q] = np.tensordot(dfull[place], w, axes=((1, 2, 3), (1, 2, 3)))
            dw += np.tensordot(x[:, :, p, q], dfull[place], axes=(0, 0))
        return {"x": dx, "w": dw, "b": dy.sum(axis=(0, 2, 3))}

    return full[_inner(shape, P)] + b.reshape(1, -1, 1, 1), pullback


@transposed_conv2d.register
def loop_over_taps(x, w, b, *, S, P):
    shape = _full_shape(x, w, S)
    H, W = x.shape[2:]
    taps = {(r, t): np.s_[:, :, r : r + S * H : S, t : t + S * W : S]
            for r, t in np.ndindex(w.shape[2:])}  # fmt: skip
    full = np.zeros(shape, x.dtype)
    for (r, t), tap in taps.items():
        full[tap] += np.einsum("nchw,ck->nkhw", x, w[:, :, r, t])

    def pullback(dy):
        dfull, dx, dw = _spread(dy, shape, P), np.zeros_like(x), np.empty_like(w)
        for (r, t), tap in taps.items():
            dx += np.einsum("nkhw,ck->nchw", dfull[tap], w[:, :, r, t])
            dw[:, :, r, t] = np.einsum("nkhw,nchw->ck", dfull[tap], x)
        return dx, dw, np.einsum("nkij->k", dy)

    return full[_inner(shape, P)] + b[:, None, None], pullback


@transposed_conv2d.register
def convolution_of_the_dilated_image(x, w, b, *, S, P):
    """Zeros between the pixels and around them, and an ordinary convolution, filter flipped."""
    N, C, H, W = x.shape
    R, T = w.shape[2:]
    dilated = np.zeros((N, C, S * (H - 1) + 2 * R - 1, S * (W - 1) + 2 * T - 1), x.dtype)
    pixels = np.s_[:, :, R - 1 : R - 1 + S * H : S, T - 1 : T - 1 + S * W : S]
    dilated[pixels] = x
    windows = sliding_window_view(dilated, (R, T), axis=(2, 3))  # N C I J R T
    flipped = w[:, :, ::-1, ::-1]
    shape = _full_shape(x, w, S)
    full = np.einsum("ncijrt,ckrt->nkij", windows, flipped, optimize=True)

    def pullback(dy):
        dfull = _spread(dy, shape, P)
        dwindows = sliding_window_view(dfull, (R, T), axis=(2, 3))[:, :, ::S, ::S]
        return {
            "x": np.einsum("nkpqrt,ckrt->ncpq", dwindows, w, optimize=True),
            "w": np.einsum("nkij,ncijrt->ckrt", dfull, windows, optimize=True)[..., ::-1, ::-1],
            "b": dy.sum(axis=(0, 2, 3)),
        }

    return full[_inner(shape, P)] + b[None, :, None, None], pullback


@transposed_conv2d.register
def matmul_and_col2im(x, w, b, *, S, P):
    N, C, H, W = x.shape
    K, R, T = w.shape[1:]
    shape = _full_shape(x, w, S)
    k, r, t = (i.reshape(-1, 1) for i in np.indices((K, R, T)))
    p, q = (i.reshape(1, -1) for i in np.indices((H, W)))
    where = np.s_[:, k, S * p + r, S * q + t]
    flat_x, flat_w = x.reshape(N, C, H * W), w.reshape(C, K * R * T)
    full = np.zeros(shape, x.dtype)
    np.add.at(full, where, flat_w.T @ flat_x)

    def pullback(dy):
        columns = _spread(dy, shape, P)[where]  # N K*R*T H*W
        dw = np.matmul(flat_x, columns.swapaxes(1, 2)).sum(axis=0)
        return (flat_w @ columns).reshape(x.shape), dw.reshape(w.shape), dy.sum((0, 2, 3))

    return full[_inner(shape, P)] + b[:, None, None], pullback


@transposed_conv2d.register
def col2im_by_bincount(x, w, b, *, S, P):
    """All places at once: each product is counted into its flat index; cut ones into a bin."""
    N, _, H, W = x.shape
    K, R, T = w.shape[1:]
    shape = (N, K, S * (H - 1) + R - 2 * P, S * (W - 1) + T - 2 * P)
    n, k, h, v, r, t = np.ogrid[:N, :K, :H, :W, :R, :T]
    i, j = S * h + r - P, S * v + t - P
    inside = (i >= 0) & (i < shape[2]) & (j >= 0) & (j < shape[3])
    bins = int(np.prod(shape))
    where = np.where(inside, ((n * K + k) * shape[2] + i) * shape[3] + j, bins)
    products = np.einsum("nchv,ckrt->nkhvrt", x, w)
    y = np.bincount(where.ravel(), products.ravel(), bins + 1)[:bins].reshape(shape)

    def pullback(dy):
        read = np.append(dy.ravel(), dy.dtype.type(0))[where]
        dx = np.einsum("nkhvrt,ckrt->nchv", read, w)
        return {"x": dx, "w": np.einsum("nkhvrt,nchv->ckrt", read, x), "b": dy.sum((0, 2, 3))}

    return y.astype(x.dtype) + b[:, None, None], pullback


@transposed_conv2d.register
def one_hot_matrices(x, w, b, *, S, P):
    """Rows p*R+r and columns q*T+t of the stamps are sent to where they fall in the output."""
    N, _, H, W = x.shape
    K, R, T = w.shape[1:]

    def placed(size, taps):
        p, r, i = np.ogrid[:size, :taps, : S * (size - 1) + taps - 2 * P]
        return (S * p + r == i + P).astype(x.dtype).reshape(size * taps, -1)

    rows, columns = placed(H, R), placed(W, T)
    stamps = np.tensordot(x, w, axes=(1, 0))  # N H W K R T
    stamps = stamps.transpose(0, 3, 1, 4, 2, 5).reshape(N, K, H * R, W * T)

    def pullback(dy):
        dstamps = (rows @ dy @ columns.T).reshape(N, K, H, R, W, T)
        dx = np.tensordot(dstamps, w, axes=((1, 3, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        dw = np.tensordot(x, dstamps, axes=((0, 2, 3), (0, 2, 4)))
        return [dx, dw, dy.sum(axis=3).sum(axis=2).sum(axis=0)]

    return rows.T @ stamps @ columns + b[:, None, None], pullback


@transposed_conv2d.register
def by_fourier_transform(x, w, b, *, S, P):
    """A convolution of the dilated image is a product of spectra, its pullback a conjugate one."""
    shape = _full_shape(x, w, S)
    R, T = w.shape[2:]

    def spectrum(a):
        return np.fft.rfft2(a, shape[2:])

    def image(a):
        return np.fft.irfft2(a, shape[2:]).astype(x.dtype)

    dilated = np.zeros((*x.shape[:2], *shape[2:]), x.dtype)
    pixels = np.s_[:, :, : S * x.shape[2] : S, : S * x.shape[3] : S]
    dilated[pixels] = x
    fx, fw = spectrum(dilated), spectrum(w)
    full = image(np.einsum("ncij,ckij->nkij", fx, fw))

    def pullback(dy):
        fy = spectrum(_spread(dy, shape, P))
        dx = image(np.einsum("nkij,ckij->ncij", fy, fw.conj()))[pixels]
        dw = image(np.einsum("nkij,ncij->ckij", fy, fx.conj()))[:, :, :R, :T]
        return dx.copy(), dw.copy(), dy.sum(axis=(0, 2, 3))

    return full[_inner(shape, P)] + b[:, None, None], pullback


class TransposedConvolution:
    """The backward of a strided convolution as a forward, and the other way round."""

    def __call__(self, x, w, b, *, S, P):
        shape = _full_shape(x, w, S)
        full = np.zeros(shape, x.dtype)
        # Windows overlap: one filter element at a time, each place is written once.
        windows = self.windows(full, w, S, writeable=True)
        products = np.tensordot(x, w, axes=(1, 0)).transpose(0, 3, 1, 2, 4, 5)
        for r, t in np.ndindex(w.shape[2:]):
            windows[..., r, t] += products[..., r, t]
        y = full[_inner(shape, P)] + b[:, None, None]
        return y, partial(self.backward, x, w, shape, S, P)

    def windows(self, full, w, S, *, writeable=False):
        N, K, rows, columns = full.shape
        R, T = w.shape[2:]
        n, k, i, j = full.strides
        shape = N, K, (rows - R) // S + 1, (columns - T) // S + 1, R, T
        return as_strided(full, shape, (n, k, S * i, S * j, i, j), writeable=writeable)

    def backward(self, x, w, shape, S, P, dy):
        windows = self.windows(_spread(dy, shape, P), w, S)
        dx = np.tensordot(windows, w, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        dw = np.tensordot(x, windows, axes=((0, 2, 3), (0, 2, 3)))
        return {"x": dx, "w": dw, "b": np.add.reduce(dy, axis=(0, 2, 3))}


transposed_conv2d.register(name="object_with_strides")(TransposedConvolution())
