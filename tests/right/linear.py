"""Right ways of writing a fully connected layer."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

linear = catalog("linear")


@linear.register
def einsum(x, w, b):
    y = np.einsum("nd,kd->nk", x, w) + b

    def pullback(dy):
        return {
            "x": np.einsum("nk,kd->nd", dy, w),
            "w": np.einsum("nk,nd->kd", dy, x),
            "b": np.einsum("nk->k", dy),
        }

    return y, pullback


@linear.register
def tensordot(x, w, b):
    y = np.tensordot(x, w, axes=(1, 1)) + b

    def pullback(dy):
        dx = np.tensordot(dy, w, axes=(1, 0))
        dw = np.tensordot(dy, x, axes=(0, 0))
        return dx, dw, np.tensordot(np.ones_like(dy[:, 0]), dy, axes=(0, 0))

    return y, pullback


@linear.register
def bias_as_a_column(x, w, b):
    D = w.shape[1]
    x1 = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    w1 = np.concatenate([w, b[:, None]], axis=1)
    y = x1 @ w1.T

    def pullback(dy):
        dx1, dw1 = dy @ w1, (x1.T @ dy).T
        return {"x": dx1[:, :D].copy(), "w": dw1[:, :D].copy(), "b": dw1[:, D].copy()}

    return y, pullback


@linear.register
def broadcast_and_sum(x, w, b):
    y = b + (x[:, None, :] * w).sum(axis=2)

    def pullback(dy):
        dx = (dy[:, :, None] * w).sum(axis=1)
        dw = (dy[:, :, None] * x[:, None, :]).sum(axis=0)
        return dx, dw, dy.sum(axis=0)

    return y, pullback


@linear.register
def loop_over_samples(x, w, b):
    y = np.stack([w @ row + b for row in x])

    def pullback(dy):
        dx, dw, db = np.empty_like(x), np.zeros_like(w), np.zeros_like(b)
        for n in range(len(x)):
            dx[n] = w.T @ dy[n]
            dw += np.outer(dy[n], x[n])
            db += dy[n]
        return {"x": dx, "w": dw, "b": db}

    return y, pullback


@linear.register
def loop_over_units(x, w, b):
    y = np.column_stack([x.dot(w[k]) + b[k] for k in range(len(b))])

    def pullback(dy):
        dx, dw, db = np.zeros_like(x), np.empty_like(w), np.empty_like(b)
        for k in reversed(range(len(b))):
            dx += dy[:, k : k + 1] * w[k]
            dw[k] = dy[:, k].dot(x)
            db[k] = dy[:, k].sum()
        return {"x": dx, "w": dw, "b": db}

    return y, pullback


@linear.register
def scalar_loops_with_fsum(x, w, b):
    def dot(u, v):
        return math.fsum(p * q for p, q in zip(u, v, strict=True))

    X, W, B = x.tolist(), w.tolist(), b.tolist()
    y = np.array([[dot(row, v) + c for v, c in zip(W, B, strict=True)] for row in X], x.dtype)

    def pullback(dy):
        rows, columns = dy.tolist(), dy.T.tolist()
        dx = [[dot(row, v) for v in zip(*W, strict=True)] for row in rows]
        dw = [[dot(column, v) for v in zip(*X, strict=True)] for column in columns]
        db = [math.fsum(column) for column in columns]
        return tuple(np.array(g, dtype=x.dtype) for g in (dx, dw, db))

    return y, pullback


@linear.register
def partial_sums_over_blocks(x, w, b, *, block=4):
    y = np.zeros((x.shape[0], w.shape[0]), x.dtype)
    for start in range(0, x.shape[1], block):
        y += x[:, start : start + block] @ w[:, start : start + block].T
    y += b

    def pullback(dy):
        dw, db = np.zeros_like(w), np.zeros_like(b)
        for start in range(0, len(x), block):
            part = dy[start : start + block]
            dw += part.T @ x[start : start + block]
            db += part.sum(axis=0)
        return {"x": np.matmul(dy, w), "w": dw, "b": db}

    return y, pullback


@linear.register
def in_float64(x, w, b):
    x64, w64 = x.astype(np.float64), w.astype(np.float64)

    def pullback(dy):
        dy64 = dy.astype(np.float64)
        grads = {"x": dy64 @ w64, "w": dy64.T @ x64, "b": dy64.sum(axis=0)}
        return {name: g.astype(x.dtype) for name, g in grads.items()}

    return (x64 @ w64.T + b).astype(x.dtype), pullback


class Affine:
    """A callable object that shares its backward among calls."""

    def __call__(self, x, w, b):
        return np.dot(x, np.transpose(w)) + b, partial(self.backward, x, w)

    @staticmethod
    def backward(x, w, dy):
        return [np.dot(dy, w), np.dot(np.transpose(dy), x), np.add.reduce(dy)]


linear.register(name="object_with_call")(Affine())

linear.register(name="nested_lambdas")(
    lambda x, w, b: (
        (w @ x.T + b[:, None]).T,
        lambda dy: ((w.T @ dy.T).T, (x.T @ dy).T, dy.cumsum(axis=0)[-1].copy()),
    )
)
