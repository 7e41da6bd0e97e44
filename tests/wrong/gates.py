"""Wrong maxout, gated linear units and highway layers; named as in the other files."""

import numpy as np

from gradverify import catalog

maxout, glu, swiglu, highway = map(catalog, ("maxout", "glu", "swiglu", "highway"))


def logistic(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def pieces(x, w, b):
    """Return maxout's pieces [N K M], which is the first of the largest, and the output [N K]."""
    z = np.einsum("nd,kmd->nkm", x, w) + b
    first = np.arange(z.shape[2]) == z.argmax(axis=2)[:, :, None]
    return z, first, z.max(axis=2)


@maxout.register
def dw_of_maxout_for_all_pieces(x, w, b):
    _, largest, y = pieces(x, w, b)

    def pullback(dy):
        dz = dy[:, :, None] * largest
        dw = np.einsum("nk,nd->kd", dy, x)[:, None].repeat(w.shape[1], axis=1)
        return {"x": np.tensordot(dz, w, 2), "w": dw, "b": dz.sum(axis=0)}

    return y, pullback


@maxout.register
def dx_of_maxout_by_the_largest_of_the_batch(x, w, b):
    """The winner is looked up once for the batch, not for every sample."""
    z, largest, y = pieces(x, w, b)
    common = np.eye(w.shape[1], dtype=x.dtype)[z.sum(axis=0).argmax(axis=1)]

    def pullback(dy):
        dz = dy[:, :, None] * largest
        dx = np.einsum("nk,km,kmd->nd", dy, common, w)
        return {"x": dx, "w": np.tensordot(dz, x, (0, 0)), "b": dz.sum(axis=0)}

    return y, pullback


def gated(x, w, b, v, c, *, slope=lambda g: g * (1 - g), split=True):
    """Return glu with a slope of its gate, and the input's gradient by both paths if `split`."""
    g, u = logistic(x @ w.T + b), x @ v.T + c

    def pullback(dy):
        du, da = dy * g, dy * u * slope(g)
        dx = da @ w + du @ v if split else du @ v
        return {"x": dx, "w": da.T @ x, "b": da.sum(axis=0), "v": du.T @ x, "c": du.sum(axis=0)}

    return g * u, pullback


@glu.register
def dx_of_glu_past_its_gate(x, w, b, v, c):
    """The path through the gate is forgotten."""
    return gated(x, w, b, v, c, split=False)


@glu.register
def dw_of_glu_with_value_and_gate_swapped(x, w, b, v, c):
    y, right = gated(x, w, b, v, c)
    return y, lambda dy: right(dy) | {"w": right(dy)["v"]}


@glu.register
def db_of_glu_averaged(x, w, b, v, c):
    y, right = gated(x, w, b, v, c)
    return y, lambda dy: right(dy) | {"b": right(dy)["b"] / len(x)}


def swish_gated(x, w, v, o, *, slope):
    a, u = x @ w.T, x @ v.T
    s = logistic(a)
    z = a * s * u

    def pullback(dy):
        dz = dy @ o
        du, da = dz * a * s, dz * u * s * (1 + a * (1 - s))
        wrong = dz * u * slope(a, s)
        return {"x": da @ w + du @ v, "w": wrong.T @ x, "v": du.T @ x, "o": dy.T @ z}

    return z @ o.T, pullback


@swiglu.register
def dw_of_swiglu_with_the_slope_of_sigmoid(x, w, v, o):
    return swish_gated(x, w, v, o, slope=lambda a, s: s * (1 - s))


@swiglu.register
def dw_of_swiglu_without_the_slope_of_its_gate(x, w, v, o):
    return swish_gated(x, w, v, o, slope=lambda a, s: s)


def carried(x, wh, bh, wt, bt, *, carry=True, minus_x=True):
    """Return a highway layer, with or without two terms of its backward."""
    h, g = np.tanh(x @ wh.T + bh), logistic(x @ wt.T + bt)

    def pullback(dy):
        da, db = dy * g * (1 - h * h), dy * (h - x) * g * (1 - g)
        wrong = db if minus_x else dy * h * g * (1 - g)
        return {
            "x": dy * (1 - g) * carry + da @ wh + db @ wt,
            "wh": da.T @ x,
            "bh": da.sum(axis=0),
            "wt": db.T @ x,
            "bt": wrong.sum(axis=0),
        }

    return h * g + x * (1 - g), pullback


@highway.register
def dx_of_highway_without_the_carry(x, wh, bh, wt, bt):
    return carried(x, wh, bh, wt, bt, carry=False)


@highway.register
def dbt_of_highway_without_the_carried_input(x, wh, bh, wt, bt):
    """The gate also takes x away: h - x, not h."""
    return carried(x, wh, bh, wt, bt, minus_x=False)
