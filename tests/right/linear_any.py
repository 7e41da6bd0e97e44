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
