"""Right ways of writing the cosine of the angle between vectors, short ones divided by eps.

In half precision the squares of small elements underflow, and so does eps."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

cosine_similarity = catalog("cosine_similarity")


@cosine_similarity.register(dtypes=("float64", "float32"))
def cosine_by_quotient_rule(x, z, *, eps):
    lx, lz = np.linalg.norm(x, axis=1), np.linalg.norm(z, axis=1)
    a, b = np.maximum(lx, eps), np.maximum(lz, eps)
    y = np.einsum("nd,nd->n", x, z) / (a * b)

    def pullback(dy):
        dx = (dy / (a * b))[:, None] * z - (dy * y / a**2 * (lx >= eps))[:, None] * x
        dz = (dy / (a * b))[:, None] * x - (dy * y / b**2 * (lz >= eps))[:, None] * z
        return {"x": dx, "z": dz}

    return y, pullback


@cosine_similarity.register(dtypes=("float64", "float32"))
def cosine_staged(x, z, *, eps):
    """Each line of the forward has its line in the backward, in reverse."""
    sx, sz = (x**2).sum(axis=1), (z**2).sum(axis=1)
    lx, lz = np.sqrt(sx), np.sqrt(sz)
    a, b = np.maximum(lx, eps), np.maximum(lz, eps)
    dot, bottom = (x * z).sum(axis=1), a * b
    y = dot / bottom

    def pullback(dy):
        ddot = dy / bottom
        dbottom = -dy * dot / bottom / bottom
        da, db = dbottom * b, dbottom * a
        dlx, dlz = np.where(lx > eps, da, 0), np.where(lz > eps, db, 0)
        dsx = 0.5 * dlx / np.where(lx > 0, lx, 1)
        dsz = 0.5 * dlz / np.where(lz > 0, lz, 1)
        dx, dz = ddot[:, None] * z, ddot[:, None] * x
        dx += 2 * x * dsx[:, None]
        dz += 2 * z * dsz[:, None]
        return dx, dz

    return y, pullback


@cosine_similarity.register(dtypes=("float64", "float32"))
def cosine_under_one_root(x, z, *, eps):
    """The squares are bounded below by eps**2, so that there is no division by zero."""
    xx, zz = (x * x).sum(axis=1, keepdims=True), (z * z).sum(axis=1, keepdims=True)
    ra = 1 / np.sqrt(np.maximum(xx, eps**2))
    rb = 1 / np.sqrt(np.maximum(zz, eps**2))
    y = (x * z).sum(axis=1, keepdims=True) * ra * rb

    def pullback(dy):
        g = dy[:, None]
        dx = g * ra * (rb * z - (xx > eps**2) * y * ra * x)
        dz = g * rb * (ra * x - (zz > eps**2) * y * rb * z)
        return {"x": dx, "z": dz}

    return y[:, 0], pullback


@cosine_similarity.register(dtypes=("float64", "float32"))
def cosine_loop_over_rows(x, z, *, eps):
    y, kept = np.empty_like(x[:, 0]), []
    for n, (u, v) in enumerate(zip(x, z, strict=True)):
        a, b = (max(math.sqrt(float(r @ r)), eps) for r in (u, v))
        y[n] = float(u @ v) / (a * b)
        kept.append((u, v, a, b))

    def pullback(dy):
        dx, dz = np.empty_like(x), np.empty_like(z)
        for n, (u, v, a, b) in enumerate(kept):
            dx[n], dz[n] = v / (a * b), u / (a * b)
            if a > eps:
                dx[n] -= y[n] * u / (a * a)
            if b > eps:
                dz[n] -= y[n] * v / (b * b)
            dx[n] *= dy[n]
            dz[n] *= dy[n]
        return dx, dz

    return y, pullback


@cosine_similarity.register(dtypes=("float64", "float32"))
def cosine_by_projection_matrices(x, z, *, eps):
    eye = np.eye(x.shape[1], dtype=x.dtype)

    def unit(v):
        length = np.sqrt(np.sum(np.square(v), axis=1))
        norm = np.where(length < eps, x.dtype.type(eps), length)
        u = v / norm[:, None]
        inside = (length >= eps)[:, None, None]
        return u, (eye - inside * u[:, :, None] * u[:, None, :]) / norm[:, None, None]

    (p, jp), (q, jq) = unit(x), unit(z)

    def pullback(dy):
        dp, dq = dy[:, None, None] * q[:, None, :], dy[:, None, None] * p[:, None, :]
        return {"z": (dq @ jq)[:, 0], "x": (dp @ jp)[:, 0]}

    return (p[:, None, :] @ q[:, :, None])[:, 0, 0], pullback


@cosine_similarity.register(dtypes=("float64", "float32"))
def cosine_scaled_rows_matmul(x, z, *, eps):
    """The diagonal of a matrix of similarities; the gradient goes through the whole matrix."""
    a = np.maximum(np.sqrt(np.einsum("nd,nd->n", x, x)), eps)
    b = np.maximum(np.sqrt(np.einsum("nd,nd->n", z, z)), eps)
    p, q = x / a[:, None], z / b[:, None]
    similar = p @ q.T

    def pullback(dy):
        dsimilar = np.diag(dy)
        dp, dq = dsimilar @ q, dsimilar.T @ p
        along = dy * np.diagonal(similar)
        dx = (dp - p * np.where(a > eps, along, 0)[:, None]) / a[:, None]
        dz = (dq - q * np.where(b > eps, along, 0)[:, None]) / b[:, None]
        return [dx, dz]

    return np.diagonal(similar).copy(), pullback


def _wide(layer, x, z, *, eps):
    y, pullback = layer(x.astype(np.float64), z.astype(np.float64), eps=eps)

    def cast(dy):
        return tuple(g.astype(x.dtype) for g in pullback(dy.astype(np.float64)))

    return y.astype(x.dtype), cast


cosine_similarity.register(name="cosine_in_float64")(partial(_wide, cosine_staged))
