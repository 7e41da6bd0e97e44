"""Right ways of writing response normalization over K channels."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

local_response_norm = catalog("local_response_norm")


@local_response_norm.register
def lrn_loop_over_offsets(x, *, K, alpha, beta, bias):
    C = x.shape[1]

    def window(v):
        total = np.zeros_like(v)
        for j in range(-(K // 2), K - K // 2):
            low, high = max(0, -j), min(C, C - j)
            if low < high:
                total[:, low:high] += v[:, low + j : high + j]
        return total

    s = bias + alpha * window(x**2)

    def pullback(dy):
        ds = -beta * dy * x * s ** (-beta - 1)
        return {"x": dy * s**-beta + 2 * alpha * x * window(ds)}

    return x / s**beta, pullback


@local_response_norm.register
def lrn_band_matrix(x, *, K, alpha, beta, bias):
    c = np.arange(x.shape[1])
    band = (np.abs(c[:, None] - c) <= K // 2).astype(x.dtype)
    s = bias + alpha * np.einsum("ck,nkhw->nchw", band, x * x)
    inverse = np.exp(-beta * np.log(s))

    def pullback(dy):
        spread = np.einsum("ck,nchw->nkhw", band, dy * x * inverse / s)
        return dy * inverse - 2 * alpha * beta * x * spread

    return x * inverse, pullback


@local_response_norm.register
def lrn_channel_by_channel(x, *, K, alpha, beta, bias):
    C, reach = x.shape[1], K // 2
    s = np.empty_like(x)
    for c in range(C):
        s[:, c] = bias + alpha * np.sum(x[:, max(0, c - reach) : c + reach + 1] ** 2, axis=1)
    power = np.power(s, -beta)

    def pullback(dy):
        dx = dy * power
        for c in range(C):
            near = np.s_[:, max(0, c - reach) : min(C, c + reach + 1)]
            g = dy[:, c] * x[:, c] * power[:, c] / s[:, c]
            dx[near] -= 2 * alpha * beta * x[near] * g[:, None]
        return (dx,)

    return x * power, pullback


@local_response_norm.register(dtypes=("float64", "float32"))
def lrn_staged_with_padding(x, *, K, alpha, beta, bias):
    """Each line of the forward has its line in the backward, in reverse."""
    N, C, H, W = x.shape
    square = np.zeros((N, C + 2 * (K // 2), H, W), x.dtype)
    square[:, K // 2 : K // 2 + C] = x**2
    total = sum(square[:, j : j + C] for j in range(K))
    s = total * alpha + bias
    denominator = s**beta

    def pullback(dy):
        dx = dy / denominator
        ddenominator = -dy * x / denominator**2
        ds = ddenominator * beta * denominator / s
        dtotal = ds * alpha
        dsquare = np.zeros_like(square)
        for j in range(K):
            dsquare[:, j : j + C] += dtotal
        dx += 2 * x * dsquare[:, K // 2 : K // 2 + C]
        return {"x": dx}

    return x / denominator, pullback


@local_response_norm.register
def lrn_channels_last_convolution(x, *, K, alpha, beta, bias):
    N, C, H, W = x.shape
    rows = x.transpose(0, 2, 3, 1).reshape(-1, C)

    def over_channels(v):
        ones = np.ones(K, v.dtype)
        full = np.array([np.convolve(row, ones, "full") for row in v])
        return full[:, K // 2 : K // 2 + C]

    def back(v):
        return v.reshape(N, H, W, C).transpose(0, 3, 1, 2)

    s = bias + alpha * over_channels(np.square(rows))
    y = rows * s**-beta

    def pullback(dy):
        g = dy.transpose(0, 2, 3, 1).reshape(-1, C)
        return {"x": back(g * s**-beta - 2 * alpha * beta * rows * over_channels(g * y / s))}

    return back(y).copy(), pullback


@local_response_norm.register
def lrn_scalar_loops(x, *, K, alpha, beta, bias):
    C, reach = x.shape[1], K // 2
    y, kept = np.empty_like(x), {}
    for n, h, w in np.ndindex(len(x), *x.shape[2:]):
        v = x[n, :, h, w].tolist()
        s = [bias + alpha * math.fsum(u * u for u in v[max(0, c - reach) : c + reach + 1])
             for c in range(C)]  # fmt: skip
        y[n, :, h, w] = [u * r**-beta for u, r in zip(v, s, strict=True)]
        kept[n, h, w] = v, s

    def pullback(dy):
        dx = np.empty_like(x)
        for (n, h, w), (v, s) in kept.items():
            g = dy[n, :, h, w].tolist()
            for c in range(C):
                near = range(max(0, c - reach), min(C, c + reach + 1))
                through = math.fsum(g[k] * v[k] * s[k] ** (-beta - 1) for k in near)
                dx[n, c, h, w] = g[c] * s[c] ** -beta - 2 * alpha * beta * v[c] * through
        return dx

    return y, pullback


def _jacobian(x, *, K, alpha, beta, bias):
    """The whole Jacobian over channels, at every pixel."""
    C = x.shape[1]
    near = np.tri(C, C, K // 2, dtype=bool) & np.tri(C, C, K // 2, dtype=bool).T
    s = bias + alpha * np.tensordot(near.astype(x.dtype), x * x, axes=(1, 1)).swapaxes(0, 1)

    def back(s, dy):
        out = np.einsum("nihw,nkhw->nikhw", x * s ** -(beta + 1), x) * near[:, :, None, None]
        jacobian = -2 * alpha * beta * out
        jacobian[:, np.arange(C), np.arange(C)] += s**-beta
        return np.einsum("nihw,nikhw->nkhw", dy, jacobian)

    return x / np.power(s, beta), partial(back, s)


local_response_norm.register(name="lrn_jacobian")(_jacobian)
