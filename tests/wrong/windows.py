"""Wrong convolutions and poolings; named as in the other files of this folder."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradverify import catalog

conv2d, max_pool2d, avg_pool2d = map(catalog, ("conv2d", "max_pool2d", "avg_pool2d"))


def convolve(x, w, b, S, P, D):
    H, W = x.shape[2:]
    R, T = w.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (P, P), (P, P)))
    windows = sliding_window_view(padded, (D * (R - 1) + 1, D * (T - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::S, ::S, ::D, ::D]
    y = np.einsum("kcrt,ncpqrt->nkpq", w, windows) + b[:, None, None]

    def pullback(dy, S=S, D=D, shift=0):
        dpadded = np.zeros_like(padded)
        for r, t in np.ndindex(R, T):
            corner = dpadded[:, :, D * r :, D * t :][:, :, : S * dy.shape[2] : S]
            corner = corner[:, :, :, : S * dy.shape[3] : S]
            part = np.einsum("nkpq,kc->ncpq", dy, w[:, :, r, t])
            corner += part[:, :, : corner.shape[2], : corner.shape[3]]
        dx = dpadded[:, :, P + shift : P + shift + H, P : P + W]
        return {
            "x": np.concatenate([dx, np.zeros_like(x)[:, :, dx.shape[2] :]], axis=2),
            "w": np.einsum("nkpq,ncpqrt->kcrt", dy, windows),
            "b": dy.sum(axis=(0, 2, 3)),
        }

    return y, pullback


@conv2d.register
def dx_of_conv2d_at_stride_1(x, w, b, *, S, P, D):
    y, pullback = convolve(x, w, b, S, P, D)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy, S=1)["x"]}


@conv2d.register
def dx_of_conv2d_at_dilation_1(x, w, b, *, S, P, D):
    y, pullback = convolve(x, w, b, S, P, D)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy, D=1)["x"]}


@conv2d.register
def dx_of_conv2d_off_by_one_where_padded(x, w, b, *, S, P, D):
    y, pullback = convolve(x, w, b, S, P, D)
    return y, lambda dy: pullback(dy) | {"x": pullback(dy, shift=int(P > 0))["x"]}


@conv2d.register
def dx_of_conv2d_wrong_for_stride_padding_and_dilation_of_2(x, w, b, *, S, P, D):
    y, pullback = convolve(x, w, b, S, P, D)
    factor = 2 if S == P == D == 2 else 1
    return y, lambda dy: pullback(dy) | {"x": factor * pullback(dy)["x"]}


@conv2d.register
def dw_of_conv2d_flipped(x, w, b, *, S, P, D):
    """The kernel of a convolution where a correlation is defined."""
    y, pullback = convolve(x, w, b, S, P, D)
    return y, lambda dy: pullback(dy) | {"w": pullback(dy)["w"][:, :, ::-1, ::-1].copy()}


@conv2d.register
def dw_of_conv2d_without_the_last_row(x, w, b, *, S, P, D):
    y, pullback = convolve(x, w, b, S, P, D)

    def wrong(dy):
        cut = dy.copy()
        cut[:, :, -1:] = 0
        return pullback(dy) | {"w": pullback(cut)["w"]}

    return y, wrong


@conv2d.register
def db_of_conv2d_averaged_over_places(x, w, b, *, S, P, D):
    y, pullback = convolve(x, w, b, S, P, D)
    return y, lambda dy: pullback(dy) | {"b": dy.mean(axis=(2, 3)).sum(axis=0)}


@conv2d.register
def y_of_conv2d_flipped(x, w, b, *, S, P, D):
    """Consistent: the backward fits the forward, and both are wrong."""
    y, pullback = convolve(x, w[:, :, ::-1, ::-1], b, S, P, D)
    return y, lambda dy: pullback(dy) | {"w": pullback(dy)["w"][:, :, ::-1, ::-1].copy()}


def cut(x, K, S):
    return sliding_window_view(x, (K, K), axis=(2, 3))[:, :, ::S, ::S]


def spread(dy, x, K, S, weight, overwrite=False):
    """Return the gradient of x: in each window, at (r, t), dy times weight(r, t)."""
    down, right = S * dy.shape[2], S * dy.shape[3]
    dx = np.zeros_like(x)
    for r, t in np.ndindex(K, K):
        part, at = dy * weight(r, t), dx[:, :, r : r + down : S, t : t + right : S]
        at[...] = np.where(part != 0, part, at) if overwrite else at + part
    return dx


def winners(x, K, S):
    windows = cut(x, K, S)
    winner = windows.reshape(*windows.shape[:4], K * K).argmax(axis=4)
    return windows.max(axis=(4, 5)), lambda r, t: winner == r * K + t


@max_pool2d.register
def dx_of_max_pool_overwritten_where_windows_overlap(x, *, K, S):
    y, won = winners(x, K, S)
    return y, lambda dy: {"x": spread(dy, x, K, S, won, overwrite=True)}


@max_pool2d.register
def dx_of_max_pool_to_the_first_of_each_window(x, *, K, S):
    y, _ = winners(x, K, S)
    return y, lambda dy: {"x": spread(dy, x, K, S, lambda r, t: float(r == t == 0))}


@max_pool2d.register
def dx_of_max_pool_transposed_in_its_window(x, *, K, S):
    y, won = winners(x, K, S)
    return y, lambda dy: {"x": spread(dy, x, K, S, lambda r, t: won(t, r))}


@max_pool2d.register
def dx_of_max_pool_shared_as_in_avg_pool(x, *, K, S):
    y, _ = winners(x, K, S)
    return y, lambda dy: {"x": spread(dy, x, K, S, lambda r, t: 1 / K**2)}


@avg_pool2d.register
def dx_of_avg_pool_not_divided(x, *, K, S):
    y = cut(x, K, S).mean(axis=(4, 5))
    return y, lambda dy: {"x": spread(dy, x, K, S, lambda r, t: 1.0)}


@avg_pool2d.register
def dx_of_avg_pool_divided_once(x, *, K, S):
    y = cut(x, K, S).mean(axis=(4, 5))
    return y, lambda dy: {"x": spread(dy, x, K, S, lambda r, t: 1 / K)}


@avg_pool2d.register
def dx_of_avg_pool_for_windows_side_by_side(x, *, K, S):
    """Right where the stride is the window's size, as in most networks."""
    y = cut(x, K, S).mean(axis=(4, 5))

    def pullback(dy):
        if K == S:
            return {"x": spread(dy, x, K, S, lambda r, t: 1 / K**2)}
        return {"x": spread(dy, x, K, S, lambda r, t: 1 / K**2, overwrite=True)}

    return y, pullback
