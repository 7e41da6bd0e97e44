"""Right ways of writing a feed-forward layer with a swish gate."""

from functools import partial

import numpy as np

from gradverify import catalog

swiglu = catalog("swiglu")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@swiglu.register
def step_by_step(x, w, v, o):
    a = np.dot(x, w.T)
    u = np.dot(x, v.T)
    s = _sigmoid(a)
    swish = a * s
    z = swish * u
    y = np.dot(z, o.T)

    def pullback(dy):
        dz, do = np.dot(dy, o), np.dot(dy.T, z)
        dswish, du = dz * u, dz * swish
        ds, da = dswish * a, dswish * s
        da += ds * (1 - s) * s
        dx = np.dot(da, w)
        dx += np.dot(du, v)
        return {"x": dx, "w": np.dot(da.T, x), "v": np.dot(du.T, x), "o": do}

    return y, pullback


@swiglu.register
def one_matrix_for_both(x, w, v, o):
    H = len(w)
    both = np.concatenate([w, v])
    au = x @ both.T
    a, u = au[:, :H], au[:, H:]
    s = _sigmoid(a)

    def pullback(dy):
        dz = dy @ o
        dau = np.concatenate([dz * u * (s + a * s * (1 - s)), dz * a * s], axis=1)
        dboth = dau.T @ x
        return dau @ both, dboth[:H].copy(), dboth[H:].copy(), dy.T @ (a * s * u)

    return (a * s * u) @ o.T, pullback


@swiglu.register
def einsum(x, w, v, o):
    a, u = np.einsum("nd,hd->nh", x, w), np.einsum("nd,hd->nh", x, v)
    s = _sigmoid(a)
    slope = s * (1 + a * _sigmoid(-a))

    def pullback(dy):
        da = np.einsum("nk,kh,nh,nh->nh", dy, o, u, slope)
        du = np.einsum("nk,kh,nh,nh->nh", dy, o, a, s)
        return (
            np.einsum("nh,hd->nd", da, w) + np.einsum("nh,hd->nd", du, v),
            np.einsum("nh,nd->hd", da, x),
            np.einsum("nh,nd->hd", du, x),
            np.einsum("nk,nh,nh,nh->kh", dy, a, s, u),
        )

    return np.einsum("nh,nh,nh,kh->nk", a, s, u, o), pullback


@swiglu.register
def recomputed(x, w, v, o):
    def hidden():
        a = x @ w.T
        e = np.exp(-np.abs(a))
        return a, np.where(a >= 0, 1 / (1 + e), e / (1 + e)), x @ v.T

    def pullback(dy):
        a, s, u = hidden()
        g = dy @ o
        swish = s * a
        da, du = g * u * (swish + s * (1 - swish)), g * swish
        return {"o": dy.T @ (swish * u), "v": du.T @ x, "w": da.T @ x, "x": du @ v + da @ w}

    a, s, u = hidden()
    return (a * s * u) @ o.T, pullback


@swiglu.register
def quotient_by_one_plus_exp(x, w, v, o):
    """An exp that overflows is infinite, and what is divided by it the 0 that it should be."""
    a, u = x @ w.T, x @ v.T
    with np.errstate(over="ignore"):
        down = 1 + np.exp(-a)
    z = a / down * u

    def pullback(dy):
        dz = dy @ o
        da = dz * u / down * (1 + a - a / down)
        du = dz * a / down
        return np.hstack([da, du]) @ np.vstack([w, v]), da.T @ x, du.T @ x, dy.T @ z

    return z @ o.T, pullback


@swiglu.register
def loop_over_hidden_units(x, w, v, o):
    y = np.zeros((len(x), len(o)), x.dtype)
    saved = []
    for h in range(len(w)):
        a, u = x @ w[h], x @ v[h]
        s = np.exp(-np.logaddexp(0, -a))
        saved.append((a, u, s))
        y += np.outer(a * s * u, o[:, h])

    def pullback(dy):
        dx, dw, dv, do = (np.zeros_like(p) for p in (x, w, v, o))
        for h, (a, u, s) in enumerate(saved):
            dz = dy @ o[:, h]
            da, du = dz * u * s * (1 + a * (1 - s)), dz * a * s
            dx += np.outer(da, w[h]) + np.outer(du, v[h])
            dw[h], dv[h], do[:, h] = da @ x, du @ x, (a * s * u) @ dy
        return {"x": dx, "w": dw, "v": dv, "o": do}

    return y, pullback


class GatedFeedForward:
    """A layer of the gate that it was made with: forward, and its slope."""

    def __init__(self, gate):
        self.gate = gate

    def __call__(self, x, w, v, o):
        u = np.tensordot(x, v, axes=(1, 1))
        g, slope = self.gate(np.tensordot(x, w, axes=(1, 1)))
        y = np.tensordot(g * u, o, axes=(1, 1))
        return y, partial(self.backward, x, w, v, o, u, g, slope)

    def backward(self, x, w, v, o, u, g, slope, dy):
        dz = np.tensordot(dy, o, axes=(1, 0))
        du, da = dz * g, dz * u * slope
        dx = np.tensordot(da, w, axes=1) + np.tensordot(du, v, axes=1)
        dw, dv = (np.tensordot(d, x, axes=(0, 0)) for d in (da, du))
        return [dx, dw, dv, np.tensordot(dy, g * u, axes=(0, 0))]


def _swish(a):
    e = np.exp(-np.abs(a))
    s = np.where(a >= 0, 1, e) / (1 + e)
    return a * s, s + a * e / np.square(1 + e)


swiglu.register(name="object_with_gate")(GatedFeedForward(_swish))
