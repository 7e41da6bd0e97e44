"""Right linear layers on the last of any number of dimensions."""

import numpy as np

from gradverify import catalog

linear_any = catalog("linear_any")


@linear_any.register
def tensordot_linear_any(x, w, b):
    leading = tuple(range(x.ndim - 1))

    def pullback(dy):
        return {
            "x": np.tensordot(dy, w, axes=1),
            "w": np.tensordot(dy, x, axes=(leading, leading)),
            "b": dy.sum(axis=leading),
        }

    return np.einsum("...d,kd->...k", x, w) + b, pullback


@linear_any.register
def rows_linear_any(x, w, b):
    """As one matrix, whatever it was."""
    rows = x.reshape(-1, x.shape[-1])

    def pullback(dy):
        flat = dy.reshape(len(rows), len(b))
        return (flat @ w).reshape(x.shape), flat.T @ rows, flat.sum(axis=0)

    return (rows @ w.T + b).reshape(*x.shape[:-1], len(b)), pullback


@linear_any.register
def summed_linear_any(x, w, b):
    """One leading dimension after the other, the innermost first."""

    def pullback(dy):
        dw, db = dy[..., :, None] * x[..., None, :], dy
        while db.ndim > 1:
            dw, db = dw.sum(axis=-3), db.sum(axis=-2)
        return {"x": dy @ w, "w": dw, "b": db}

    return x @ w.T + b, pullback


@linear_any.register
def einsum_linear_any(x, w, b):
    def pullback(dy):
        dx = np.einsum("...k,kd->...d", dy, w)
        batched = np.einsum("...k,...d->...kd", dy, x)
        return dx, batched.reshape(-1, *w.shape).sum(axis=0), dy.reshape(-1, len(b)).sum(axis=0)

    return np.einsum("...d,kd->...k", x, w) + b, pullback


@linear_any.register
def vector_by_vector_linear_any(x, w, b):
    """Every index of the leading dimensions in turn, of which there may be none."""
    leading = x.shape[:-1]
    y = np.empty((*leading, len(b)), x.dtype)
    for i in np.ndindex(leading):
        y[i] = w @ x[i] + b

    def pullback(dy):
        dx, dw, db = np.empty_like(x), np.zeros_like(w), np.zeros_like(b)
        for i in np.ndindex(leading):
            dx[i] = w.T @ dy[i]
            dw += np.outer(dy[i], x[i])
            db += dy[i]
        return {"b": db, "w": dw, "x": dx}

    return y, pullback


@linear_any.register
def augmented_linear_any(x, w, b):
    """The bias is one more column of the weights, of an input that is always 1."""
    ones = np.ones((*x.shape[:-1], 1), x.dtype)
    wide, weights = np.concatenate([x, ones], axis=-1), np.hstack([w, b[:, None]])

    def pullback(dy):
        rows = np.atleast_2d(dy).reshape(-1, len(b))
        dweights = rows.T @ np.atleast_2d(wide).reshape(len(rows), -1)
        return (dy @ weights)[..., :-1], dweights[:, :-1], dweights[:, -1]

    return wide @ weights.T, pullback
