"""Right ways of writing pixel shuffle; where R is 1, each returns a copy all the same."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradverify import catalog

pixel_shuffle = catalog("pixel_shuffle")


@pixel_shuffle.register
def einsum_of_axes(x, *, R):
    N, K, H, W = x.shape
    C = K // R**2
    y = np.einsum("ncrthw->nchrwt", x.reshape(N, C, R, R, H, W))

    def pullback(dy):
        parts = np.einsum("nchrwt->ncrthw", dy.reshape(N, C, H, R, W, R))
        return {"x": np.array(parts).reshape(x.shape)}

    return np.array(y).reshape(N, C, H * R, W * R), pullback


@pixel_shuffle.register
def loop_over_offsets(x, *, R):
    N, K, H, W = x.shape
    y = np.empty((N, K // (R * R), R * H, R * W), x.dtype)
    for r, t in np.ndindex(R, R):
        y[:, :, r::R, t::R] = x[:, r * R + t :: R * R]

    def pullback(dy):
        dx = np.empty_like(x)
        for r, t in np.ndindex(R, R):
            dx[:, r * R + t :: R * R] = dy[:, :, r::R, t::R]
        return (dx,)

    return y, pullback


@pixel_shuffle.register
def index_grids(x, *, R):
    K, H, W = x.shape[1:]
    c, i, j = np.ogrid[: K // R**2, : R * H, : R * W]
    where = np.s_[:, c * R**2 + i % R * R + j % R, i // R, j // R]

    def pullback(dy):
        dx = np.zeros_like(x)
        dx[where] = dy  # each place once: nothing is added up
        return {"x": dx}

    return x[where], pullback


@pixel_shuffle.register
def permutation_and_its_inverse(x, *, R):
    N, K, H, W = x.shape
    ids = np.arange(K * H * W).reshape(K // (R * R), R, R, H, W)
    order = ids.transpose(0, 3, 1, 4, 2).ravel()
    inverse = np.argsort(order)

    def pullback(dy):
        return dy.reshape(N, -1)[:, inverse].reshape(x.shape)

    return x.reshape(N, -1)[:, order].reshape(N, -1, R * H, R * W), pullback


@pixel_shuffle.register
def matrix_of_the_permutation(x, *, R):
    """One-hot matrices place the rows and the columns of each channel's R*R parts."""
    N, _, H, W = x.shape
    parts = x.reshape(N, -1, R, R, H, W)
    rows = np.eye(H * R, dtype=x.dtype).reshape(H, R, H * R)
    columns = np.eye(W * R, dtype=x.dtype).reshape(W, R, W * R)

    def pullback(dy):
        dparts = np.einsum("ncij,hri,wtj->ncrthw", dy, rows, columns, optimize=True)
        return {"x": np.array(dparts).reshape(x.shape)}

    return np.einsum("ncrthw,hri,wtj->ncij", parts, rows, columns, optimize=True), pullback


@pixel_shuffle.register
def stack_and_unstack(x, *, R):
    N, _, H, W = x.shape
    lines = []
    for r in range(R):
        line = np.stack([x[:, r * R + t :: R * R] for t in range(R)], axis=-1)
        lines.append(line.reshape(N, -1, H, W * R))
    y = np.stack(lines, axis=3).reshape(N, -1, H * R, W * R)

    def pullback(dy):
        parts = [dy[:, :, r::R, t::R] for r in range(R) for t in range(R)]
        return {"x": np.stack(parts, axis=2).reshape(x.shape)}

    return y, pullback


@pixel_shuffle.register
def one_axis_after_the_other(x, *, R):
    N, _, H, W = x.shape
    wide = np.moveaxis(x.reshape(N, -1, R, H, W), 2, -1).reshape(N, -1, H, W * R)
    tall = np.moveaxis(wide.reshape(N, -1, R, H, W * R), 2, 3).reshape(N, -1, H * R, W * R)

    def pullback(dy):
        flat = np.moveaxis(dy.reshape(N, -1, H, R, W * R), 3, 2).reshape(N, -1, H, W * R)
        return np.moveaxis(flat.reshape(N, -1, H, W, R), -1, 2).reshape(x.shape).copy()

    return tall.copy(), pullback


@pixel_shuffle.register
def strides_of_a_copy(x, *, R):
    N, K, H, W = x.shape
    x = np.ascontiguousarray(x)
    n, k, h, w = x.strides
    shape = N, K // (R * R), H, R, W, R
    view = as_strided(x, shape, (n, k * R * R, h, k * R, w, k), writeable=False)

    def pullback(dy):
        dx = np.empty_like(x)
        as_strided(dx, shape, (n, k * R * R, h, k * R, w, k))[...] = dy.reshape(shape)
        return {"x": dx}

    return view.copy().reshape(N, K // (R * R), H * R, W * R), pullback


@pixel_shuffle.register
def scalar_loops(x, *, R):
    N, K, H, W = x.shape
    y = np.zeros((N, K // R**2, H * R, W * R), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, (c * R + i % R) * R + j % R, i // R, j // R]

    def pullback(dy):
        dx = np.zeros_like(x)
        for n, k, h, w in np.ndindex(x.shape):
            c, (r, t) = k // R**2, divmod(k % R**2, R)
            dx[n, k, h, w] += dy[n, c, R * h + r, R * w + t]
        return [dx]

    return y, pullback
