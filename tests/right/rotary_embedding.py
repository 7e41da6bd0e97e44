"""Right ways of writing the rotary embedding; angles are best taken in float64."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

rotary_embedding = catalog("rotary_embedding")


def _angles(x, base):
    """Return the angle of each position and pair [T D], in float64."""
    T, D = x.shape[1], x.shape[2] // 2
    return np.arange(T)[:, None] / base ** (np.arange(D) / D)


@rotary_embedding.register
def complex_numbers(x, *, base):
    turn = np.exp(1j * _angles(x, base))

    def turned(v, turn):
        z = (v[..., 0::2] + 1j * v[..., 1::2]) * turn
        return np.stack([z.real, z.imag], axis=-1).reshape(v.shape).astype(x.dtype)

    return turned(x, turn), lambda dy: {"x": turned(dy, turn.conj())}


# There are no complex numbers of half precision.
@rotary_embedding.register(dtypes=("float64", "float32"))
def complex_view(x, *, base):
    turn = np.exp(1j * _angles(x, base)).astype(np.result_type(x.dtype, np.complex64))

    def turned(v, turn):
        z = np.array(v, order="C").view(turn.dtype)
        z *= turn
        return z.view(x.dtype)

    return turned(x, turn), lambda dy: turned(dy, np.conj(turn))


@rotary_embedding.register
def rotate_half(x, *, base):
    """x*cos + rotated(x)*sin, with cosines and sines repeated for each pair."""
    angle = np.repeat(_angles(x, base), 2, axis=1)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)

    def rotated(v):
        return np.stack([-v[..., 1::2], v[..., ::2]], axis=-1).reshape(v.shape)

    return x * cos + rotated(x) * sin, lambda dy: {"x": dy * cos - rotated(dy * sin)}


@rotary_embedding.register
def matrices_and_einsum(x, *, base):
    B, T, F = x.shape
    angle = _angles(x, base)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]], x.dtype)  # 2 2 T D

    def pullback(dy):
        dx = np.einsum("ijtd,btdi->btdj", turn, dy.reshape(B, T, F // 2, 2))
        return {"x": dx.reshape(x.shape)}

    y = np.einsum("ijtd,btdj->btdi", turn, x.reshape(B, T, F // 2, 2))
    return y.reshape(x.shape), pullback


@rotary_embedding.register
def block_diagonal_matrix_per_position(x, *, base):
    T, F = x.shape[1:]
    matrices = np.zeros((T, F, F), x.dtype)
    for (t, d), angle in np.ndenumerate(_angles(x, base)):
        c, s = math.cos(angle), math.sin(angle)
        matrices[t, 2 * d : 2 * d + 2, 2 * d : 2 * d + 2] = [[c, -s], [s, c]]

    def pullback(dy):
        return (np.stack([dy[:, t] @ matrices[t] for t in range(T)], axis=1),)

    return np.stack([x[:, t] @ matrices[t].T for t in range(T)], axis=1), pullback


@rotary_embedding.register
def angles_in_the_precision_of_x(x, *, base):
    """Each angle is off by a rounding of its own: with positions this small, as all else is."""
    T, D = x.shape[1], x.shape[2] // 2
    frequency = x.dtype.type(base) ** (-np.arange(D, dtype=x.dtype) / x.dtype.type(D))
    angle = np.arange(T, dtype=x.dtype)[:, None] * frequency
    cos, sin = np.cos(angle), np.sin(angle)
    even, odd = x[:, :, 0::2], x[:, :, 1::2]
    y = np.empty_like(x)
    y[:, :, 0::2] = even * cos - odd * sin
    y[:, :, 1::2] = odd * cos + even * sin

    def pullback(dy):
        dx = np.empty_like(x)
        deven, dodd = dy[:, :, 0::2], dy[:, :, 1::2]
        dx[:, :, 0::2] = deven * cos + dodd * sin
        dx[:, :, 1::2] = dodd * cos - deven * sin
        return {"x": dx}

    return y, pullback


@rotary_embedding.register
def frequencies_by_exp_and_log(x, *, base):
    D = x.shape[2] // 2
    angle = np.outer(np.arange(x.shape[1]), np.exp(-math.log(base) * np.arange(D) / D))
    pairs = x.reshape(*x.shape[:2], D, 2)
    cos, sin = (f(angle).astype(x.dtype) for f in (np.cos, np.sin))

    def pullback(dy):
        g = dy.reshape(pairs.shape)
        return np.stack([g[..., 0] * cos + g[..., 1] * sin, g[..., 1] * cos - g[..., 0] * sin],
                        axis=3).reshape(x.shape)  # fmt: skip

    first = pairs[..., 0] * cos - pairs[..., 1] * sin
    second = pairs[..., 0] * sin + pairs[..., 1] * cos
    return np.concatenate([first[..., None], second[..., None]], axis=3).reshape(x.shape), pullback


@rotary_embedding.register
def scalar_loops(x, *, base):
    B, T, F = x.shape

    def turned(v, sign):
        y = np.zeros_like(x)
        for b, t, d in np.ndindex(B, T, F // 2):
            angle = sign * t * base ** (-2 * d / F)
            u, w = float(v[b, t, 2 * d]), float(v[b, t, 2 * d + 1])
            y[b, t, 2 * d] = u * math.cos(angle) - w * math.sin(angle)
            y[b, t, 2 * d + 1] = u * math.sin(angle) + w * math.cos(angle)
        return y

    return turned(x, 1), lambda dy: {"x": turned(dy, -1)}


class Rotary:
    """Positions one after the other: each turns by one step more than the one before."""

    def __call__(self, x, *, base):
        D = x.shape[2] // 2
        step = np.exp(1j * base ** (-np.arange(D) / D))
        return self.turned(step, x), partial(self.turned, step.conj())

    def turned(self, step, v):
        y, turn = np.empty_like(v), np.ones_like(step)
        for t in range(v.shape[1]):
            cos, sin = turn.real.astype(v.dtype), turn.imag.astype(v.dtype)
            y[:, t, 0::2] = v[:, t, 0::2] * cos - v[:, t, 1::2] * sin
            y[:, t, 1::2] = v[:, t, 0::2] * sin + v[:, t, 1::2] * cos
            turn = turn * step
        return y


rotary_embedding.register(name="object_position_by_position")(Rotary())
