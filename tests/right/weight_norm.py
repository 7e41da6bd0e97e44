"""Right ways of writing a linear layer with normalized weights."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

weight_norm = catalog("weight_norm")


@weight_norm.register
def step_by_step(x, v, g, b):
    squares = v**2
    total = squares.sum(axis=1, keepdims=True)
    norm = np.sqrt(total)
    gv = g[:, None] * v
    w = gv / norm
    y = x.dot(w.T) + b

    def pullback(dy):
        dw = dy.T.dot(x)
        dgv = dw / norm
        dnorm = -(dw * gv).sum(axis=1, keepdims=True) / norm**2
        dtotal = 0.5 * dnorm / np.sqrt(total)
        dv = dgv * g[:, None] + 2 * v * dtotal
        return {"x": dy.dot(w), "v": dv, "g": (dgv * v).sum(axis=1), "b": dy.sum(axis=0)}

    return y, pullback


@weight_norm.register
def formulas_of_the_paper(x, v, g, b):
    """Equation 3: dg = dw.v/|v| and dv = g/|v| dw - g dg/|v|^2 v."""
    norm = np.linalg.norm(v, axis=1)
    w = v * (g / norm)[:, None]

    def pullback(dy):
        dw = np.einsum("nk,nd->kd", dy, x)
        dg = np.einsum("kd,kd->k", dw, v) / norm
        dv = (g / norm)[:, None] * dw - (g * dg / norm**2)[:, None] * v
        return np.einsum("nk,kd->nd", dy, w), dv, dg, np.einsum("nk->k", dy)

    return np.einsum("nd,kd->nk", x, w) + b, pullback


@weight_norm.register
def projection_matrices(x, v, g, b):
    """Equation 4: dv = g/|v| M dw, where M projects onto what is orthogonal to w."""
    norm = np.sqrt(np.einsum("kd,kd->k", v, v))
    unit = v / norm[:, None]
    projection = np.eye(x.shape[1], dtype=x.dtype) - unit[:, :, None] * unit[:, None, :]
    y = x @ (g * unit.T) + b

    def pullback(dy):
        dw = (x.T @ dy).T
        return {
            "x": (dy * g) @ unit,
            "v": (g / norm)[:, None] * np.einsum("kde,ke->kd", projection, dw),
            "g": np.sum(dw * unit, axis=1),
            "b": np.sum(dy, axis=0),
        }

    return y, pullback


@weight_norm.register
def scaled_after_the_product(x, v, g, b):
    """The product is with v; its columns are scaled: no normalized weights are made."""
    a = x @ v.T
    rnorm = 1 / np.sqrt(np.sum(v * v, axis=1))
    scale = g * rnorm

    def pullback(dy):
        da = dy * scale
        dscale = np.sum(dy * a, axis=0)
        drnorm = dscale * g
        dv = da.T @ x - (drnorm * rnorm**3)[:, None] * v
        return da @ v, dv, dscale * rnorm, dy.sum(axis=0)

    return a * scale + b, pullback


@weight_norm.register
def loop_over_units(x, v, g, b):
    y = np.empty((len(x), len(v)), x.dtype)
    units, norms = np.empty_like(v), np.empty_like(g)
    for k, row in enumerate(v):
        norms[k] = np.sqrt(row @ row)
        units[k] = row / norms[k]
        y[:, k] = g[k] * (x @ units[k]) + b[k]

    def pullback(dy):
        dx, dv, dg, db = (np.zeros_like(a) for a in (x, v, g, b))
        for k, unit in enumerate(units):
            dw = dy[:, k] @ x
            dg[k], db[k] = dw @ unit, dy[:, k].sum()
            dv[k] = g[k] / norms[k] * (dw - dg[k] * unit)
            dx += g[k] * np.outer(dy[:, k], unit)
        return {"x": dx, "v": dv, "g": dg, "b": db}

    return y, pullback


@weight_norm.register
def jacobian_per_unit(x, v, g, b):
    norm = np.linalg.norm(v, axis=1, keepdims=True)
    w = g[:, None] * (v / norm)

    def pullback(dy):
        dv, dg = [], []
        for row, scale, length, dw in zip(v, g, norm[:, 0], dy.T @ x, strict=True):
            identity = np.eye(len(row), dtype=x.dtype)
            jacobian = scale * (identity / length - np.outer(row, row) / length**3)
            dv.append(jacobian @ dw)
            dg.append(row @ dw / length)
        return dy @ w, np.stack(dv), np.stack(dg), dy.sum(axis=0)

    return np.tensordot(x, w, axes=(1, 1)) + b, pullback


@weight_norm.register
def scaled_by_the_largest(x, v, g, b):
    """As hypot does: no square over- or underflows."""
    top = np.abs(v).max(axis=1, keepdims=True)
    norm = top * np.sqrt(((v / top) ** 2).sum(axis=1, keepdims=True))
    unit = v / norm

    def pullback(dy):
        dw = dy.T @ x
        along = (dw * unit).sum(axis=1, keepdims=True)
        dv = g[:, None] * (dw - along * unit) / norm
        return {"x": dy @ (g[:, None] * unit), "v": dv, "g": along[:, 0], "b": dy.sum(axis=0)}

    return x @ (g[:, None] * unit).T + b, pullback


@weight_norm.register
def in_float64_with_fsum(x, v, g, b):
    wide = [np.array(a, float) for a in (x, v, g, b)]

    def norms():
        return np.array([math.sqrt(math.fsum(e * e for e in row)) for row in wide[1].tolist()])

    def pullback(dy):
        x64, v64, g64, _ = wide
        norm, dw = norms()[:, None], dy.astype(float).T @ x64
        unit = v64 / norm
        dg = (dw * unit).sum(axis=1)
        dv = g64[:, None] / norm * (dw - dg[:, None] * unit)
        grads = dy.astype(float) @ (g64[:, None] * unit), dv, dg, dy.astype(float).sum(axis=0)
        return tuple(a.astype(x.dtype) for a in grads)

    y = wide[0] @ (wide[2] * wide[1].T / norms()) + wide[3]
    return y.astype(x.dtype), pullback


def _linear(x, w, b):
    return x @ w.T + b, lambda dy: (dy @ w, dy.T @ x, dy.sum(axis=0))


class WeightNorm:
    """A new parametrization of the weights of whatever layer is given."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x, v, g, b):
        norm = np.hypot.reduce(v, axis=1)[:, None]
        y, back = self.layer(x, g[:, None] * v / norm, b)
        return y, partial(self.backward, back, v, g[:, None], norm)

    def backward(self, back, v, g, norm, dy):
        dx, dw, db = back(dy)
        dg = (dw * v).sum(axis=1, keepdims=True) / norm
        dv = dw * (g / norm) - v * (dg * g / (norm * norm))
        return {"b": db, "g": dg.reshape(-1), "v": dv, "x": dx}


weight_norm.register(name="object_around_linear")(WeightNorm(_linear))
