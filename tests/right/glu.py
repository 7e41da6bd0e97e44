"""Right ways of writing the gated linear unit."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

glu = catalog("glu")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@glu.register
def glu_plain_quotient(x, w, b, v, c):
    """Where the exponential overflows, 1/inf is the right 0."""
    g = 1 / (1 + np.exp(-(x.dot(w.T) + b)))
    u = x.dot(v.T) + c

    def pullback(dy):
        du = dy * g
        da = dy * u * g * (1 - g)
        return da.dot(w) + du.dot(v), da.T.dot(x), da.sum(0), du.T.dot(x), du.sum(0)

    return g * u, pullback


@glu.register
def glu_by_tanh(x, w, b, v, c):
    half = 0.5 * (np.einsum("nd,kd->nk", x, w) + b)
    th = np.tanh(half)
    u = np.einsum("nd,kd->nk", x, v) + c

    def pullback(dy):
        du = dy * (0.5 + 0.5 * th)
        da = dy * u * (0.25 * (1 - th * th))
        dx = np.einsum("nk,kd->nd", da, w)
        dx += np.einsum("nk,kd->nd", du, v)
        return {
            "x": dx,
            "w": np.einsum("nk,nd->kd", da, x),
            "b": np.einsum("nk->k", da),
            "v": np.einsum("nk,nd->kd", du, x),
            "c": np.einsum("nk->k", du),
        }

    return (0.5 * th + 0.5) * u, pullback


@glu.register
def glu_one_matrix(x, w, b, v, c):
    """Both halves by one product and split, as of a tensor of twice the channels."""
    both = np.vstack([w, v])
    a, u = np.split(x @ both.T + np.hstack([b, c]), 2, axis=1)
    g = _sigmoid(a)

    def pullback(dy):
        dh = np.concatenate([dy * u * g * _sigmoid(-a), dy * g], axis=1)
        (dw, dv), (db, dc) = np.split(dh.T @ x, 2), np.split(dh.sum(axis=0), 2)
        return {"x": dh @ both, "w": dw, "b": db, "v": dv, "c": dc}

    return g * u, pullback


@glu.register
def glu_loop_over_samples(x, w, b, v, c):
    def units(row):
        a, u = w @ row + b, v @ row + c
        return np.array(
            [1 / (1 + math.exp(-min(s, 700))) for s in np.maximum(a, -700).tolist()], x.dtype
        ), u

    y = np.stack([g * u for g, u in map(units, x)])

    def pullback(dy):
        dx, dw, dv = np.empty_like(x), np.zeros_like(w), np.zeros_like(v)
        db, dc = np.zeros_like(b), np.zeros_like(c)
        for n, row in enumerate(x):
            g, u = units(row)
            da, du = dy[n] * u * (g - g * g), dy[n] * g
            dx[n] = w.T @ da + v.T @ du
            dw += da[:, None] * row
            dv += du[:, None] * row
            db += da
            dc += du
        return dx, dw, db, dv, dc

    return y, pullback


@glu.register
def glu_staged_in_workspaces(x, w, b, v, c):
    """Each array is written into arrays of the call's own."""
    g = x @ w.T
    g += b
    e = np.exp(-np.abs(g))
    np.divide(np.where(g >= 0, 1, e), 1 + e, out=g)
    u = x @ v.T
    u += c
    y = np.multiply(g, u)

    def pullback(dy):
        du = np.multiply(dy, g)
        da = du * u
        da -= da * g
        dx = da @ w
        dx += du @ v
        return dx, (x.T @ da).T, np.add.reduce(da, axis=0), (x.T @ du).T, np.add.reduce(du, axis=0)

    return y, pullback


def _linear(x, w, b):
    def pullback(dy):
        return dy @ w, dy.T @ x, dy.sum(axis=0)

    return x @ w.T + b, pullback


@glu.register
def glu_of_pullbacks(x, w, b, v, c):
    """The chain rule as a chain of pullbacks, each of a part."""
    a, back_a = _linear(x, w, b)
    u, back_u = _linear(x, v, c)
    g = np.exp(-np.logaddexp(0, -a))

    def pullback(dy):
        dx1, dw, db = back_a(dy * u * g * (1 - g))
        dx2, dv, dc = back_u(dy * g)
        return {"x": dx1 + dx2, "w": dw, "b": db, "v": dv, "c": dc}

    return g * u, pullback


class GLU:
    """A gated unit of any gate and its slope in terms of the gate's value."""

    def __init__(self, gate, slope):
        self.gate, self.slope = gate, slope

    def __call__(self, x, w, b, v, c):
        g, u = self.gate(np.tensordot(x, w, axes=(1, 1)) + b), np.tensordot(x, v, axes=(1, 1)) + c
        return u * g, partial(self.backward, {"x": x, "w": w, "v": v, "g": g, "u": u})

    def backward(self, ctx, dy):
        x, g = ctx["x"], ctx["g"]
        da, du = dy * ctx["u"] * self.slope(g), dy * g
        dx = np.tensordot(da, ctx["w"], axes=1) + np.tensordot(du, ctx["v"], axes=1)
        dw, dv = np.tensordot(da, x, axes=(0, 0)), np.tensordot(du, x, axes=(0, 0))
        return dx, dw, da.sum(axis=0), dv, du.sum(axis=0)


glu.register(name="glu_object_with_call")(GLU(_sigmoid, lambda g: g * (1 - g)))
