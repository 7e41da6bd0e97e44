"""Right ways of scaling vectors to length 1, short ones divided by eps.

In half precision the squares of small elements underflow, and so does eps."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

l2_normalize = catalog("l2_normalize")


@l2_normalize.register(dtypes=("float64", "float32"))
def l2_staged(x, *, eps):
    """Each line of the forward has its line in the backward, in reverse."""
    square = (x**2).sum(axis=1, keepdims=True)
    length = np.sqrt(square)
    norm = np.maximum(length, eps)
    y = x / norm

    def pullback(dy):
        dx = dy / norm
        dnorm = -(dy * x).sum(axis=1, keepdims=True) / norm**2
        dlength = np.where(length > eps, dnorm, 0)
        dsquare = 0.5 * dlength / norm  # norm is the length wherever this is not 0
        dx += 2 * x * dsquare
        return {"x": dx}

    return y, pullback


@l2_normalize.register(dtypes=("float64", "float32"))
def l2_projection_matrix(x, *, eps):
    D = x.shape[1]
    length = np.linalg.norm(x, axis=1)
    norm = np.where(length >= eps, length, x.dtype.type(eps))
    y = x / norm[:, None]

    def pullback(dy):
        dx = np.empty_like(x)
        for n in range(len(x)):
            jacobian = np.eye(D, dtype=x.dtype)
            if length[n] >= eps:
                jacobian -= np.outer(y[n], y[n])
            dx[n] = jacobian @ dy[n] / norm[n]
        return dx

    return y, pullback


@l2_normalize.register(dtypes=("float64", "float32"))
def l2_reciprocal_root(x, *, eps):
    """The square is bounded below by eps**2, so that there is no division by zero."""
    square = np.einsum("nd,nd->n", x, x)
    r = 1 / np.sqrt(np.maximum(square, eps**2))
    free = square > eps**2

    def pullback(dy):
        along = free * np.einsum("nd,nd->n", dy, x) * r**2
        return (np.einsum("n,nd->nd", r, dy - np.einsum("n,nd->nd", along, x)),)

    return r[:, None] * x, pullback


@l2_normalize.register(dtypes=("float64", "float32"))
def l2_two_masks(x, *, eps):
    length = np.sqrt(np.square(x).sum(axis=-1))
    long = length > eps
    y = np.empty_like(x)
    y[long] = x[long] / length[long, None]
    y[~long] = x[~long] / x.dtype.type(eps)

    def pullback(dy):
        dx = np.empty_like(x)
        dx[~long] = dy[~long] / x.dtype.type(eps)
        u, g = y[long], dy[long]
        dx[long] = (g - u * (u * g).sum(axis=-1, keepdims=True)) / length[long, None]
        return {"x": dx}

    return y, pullback


@l2_normalize.register
def l2_scalar_loops(x, *, eps):
    y, kept = np.empty_like(x), []
    for n, row in enumerate(x.tolist()):
        length = math.sqrt(math.fsum(v * v for v in row))
        norm = max(length, eps)
        y[n] = [v / norm for v in row]
        kept.append((row, norm, length > eps))

    def pullback(dy):
        dx = np.empty_like(x)
        for n, (row, norm, free) in enumerate(kept):
            g = dy[n].tolist()
            along = math.fsum(a * b for a, b in zip(g, row, strict=True)) / norm**3 if free else 0.0
            dx[n] = [a / norm - along * b for a, b in zip(g, row, strict=True)]
        return {"x": dx}

    return y, pullback


@l2_normalize.register
def l2_scaled_by_the_largest(x, *, eps):
    """The length by way of the largest element, as a library does so as not to overflow."""
    peak = np.abs(x).max(axis=1, keepdims=True)
    unit = x / np.where(peak > 0, peak, 1)
    length = peak * np.sqrt((unit * unit).sum(axis=1, keepdims=True))
    norm = np.clip(length, eps, None)

    def pullback(dy):
        y = x / norm
        dot = (dy[:, None, :] @ y[:, :, None])[:, 0]
        return [(dy - np.where(length < eps, 0, dot) * y) / norm]

    return x / norm, pullback


class L2Normalize:
    """A callable object that works in arrays of the call's own."""

    def __call__(self, x, *, eps):
        y = np.multiply(x, x)
        norm = np.sqrt(np.add.reduce(y, axis=1, keepdims=True))
        short = norm < eps
        norm[short] = eps
        np.divide(x, norm, out=y)
        return y, partial(self.backward, y.copy(), norm, short)

    @staticmethod
    def backward(y, norm, short, dy):
        dx = np.multiply(dy, y)
        along = dx.sum(axis=1, keepdims=True)
        along[short] = 0
        np.multiply(along, y, out=dx)
        np.subtract(dy, dx, out=dx)
        dx /= norm
        return dx


l2_normalize.register(name="l2_object_with_workspaces", dtypes=("float64", "float32"))(
    L2Normalize()
)
