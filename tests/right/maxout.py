"""Right ways of writing maxout; a tie may go to any of the pieces, or be shared."""

from functools import partial

import numpy as np

from gradverify import catalog

maxout = catalog("maxout")


@maxout.register
def index_of_the_winner(x, w, b):
    N, K = len(x), len(w)
    z = np.einsum("nd,kmd->nkm", x, w) + b
    n, k = np.ogrid[:N, :K]
    m = z.argmax(axis=-1)

    def pullback(dy):
        dw, db = np.zeros_like(w), np.zeros_like(b)
        np.add.at(db, (k, m), dy)
        np.add.at(dw, (k, m), dy[:, :, None] * x[:, None, :])
        return {"x": (dy[:, :, None] * w[k, m]).sum(axis=1), "w": dw, "b": db}

    return z[n, k, m], pullback


@maxout.register
def one_hot_of_the_winner(x, w, b):
    K, M, D = w.shape
    z = (x @ w.reshape(K * M, D).T + b.ravel()).reshape(-1, K, M)
    hot = np.eye(M, dtype=x.dtype)[z.argmax(axis=2)]

    def pullback(dy):
        dz = (dy[:, :, None] * hot).reshape(-1, K * M)
        return {
            "x": dz @ w.reshape(K * M, D),
            "w": (dz.T @ x).reshape(w.shape),
            "b": dz.sum(axis=0).reshape(b.shape),
        }

    return (hot * z).sum(axis=2), pullback


@maxout.register
def ties_shared(x, w, b):
    z = np.tensordot(x, w, axes=([1], [2])) + b
    y = z.max(axis=2)
    share = (z == y[:, :, None]).astype(x.dtype)
    share /= share.sum(axis=2, keepdims=True)

    def pullback(dy):
        dz = dy[..., None] * share
        dx = np.einsum("nkm,kmd->nd", dz, w)
        return dx, np.einsum("nkm,nd->kmd", dz, x), np.einsum("nkm->km", dz)

    return y, pullback


@maxout.register
def running_maximum(x, w, b):
    """Piece after piece: the last of equal ones wins."""
    y = x @ w[:, 0].T + b[:, 0]
    winner = np.zeros(y.shape, int)
    for m in range(1, w.shape[1]):
        z = x @ w[:, m].T + b[:, m]
        winner[z >= y] = m
        y = np.maximum(y, z)

    def pullback(dy):
        dx, dw, db = np.zeros_like(x), np.empty_like(w), np.empty_like(b)
        for m in range(w.shape[1]):
            dz = np.where(winner == m, dy, 0)
            dx += dz @ w[:, m]
            dw[:, m], db[:, m] = dz.T @ x, dz.sum(axis=0)
        return {"x": dx, "w": dw, "b": db}

    return y, pullback


@maxout.register
def backward_through_each_maximum(x, w, b):
    """Two at a time: np.maximum's own derivative is passed back through the chain of them."""
    z = [x @ w[:, m].T + b[:, m] for m in range(w.shape[1])]
    tops = [z[0]]
    for piece in z[1:]:
        tops.append(np.maximum(tops[-1], piece))

    def pullback(dy):
        dz = [None] * len(z)
        dtop = dy
        for m in range(len(z) - 1, 0, -1):
            right = (z[m] > tops[m - 1]).astype(x.dtype)
            dz[m], dtop = dtop * right, dtop * (1 - right)
        dz[0] = dtop
        dw = np.stack([d.T @ x for d in dz], axis=1)
        db = np.stack([d.sum(axis=0) for d in dz], axis=1)
        return {"x": sum(d @ w[:, m] for m, d in enumerate(dz)), "w": dw, "b": db}

    return tops[-1].copy(), pullback


@maxout.register
def loops(x, w, b):
    y = np.empty((len(x), len(w)), x.dtype)
    best = {}
    for n, k in np.ndindex(y.shape):
        z = [w[k, m] @ x[n] + b[k, m] for m in range(w.shape[1])]
        best[n, k] = max(range(len(z)), key=z.__getitem__)
        y[n, k] = z[best[n, k]]

    def pullback(dy):
        dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
        for (n, k), m in best.items():
            dx[n] += dy[n, k] * w[k, m]
            dw[k, m] += dy[n, k] * x[n]
            db[k, m] += dy[n, k]
        return dx, dw, db

    return y, pullback


@maxout.register
def unit_by_unit_by_groups(x, w, b):
    """The rows of a batch that the same piece wins are handled together."""
    K, M, _ = w.shape
    z = np.stack([x @ w[k].T + b[k] for k in range(K)], axis=1)
    winner = np.argmax(z, axis=2)

    def pullback(dy):
        dx, dw, db = (np.zeros_like(v) for v in (x, w, b))
        for k, m in np.ndindex(K, M):
            rows = np.flatnonzero(winner[:, k] == m)
            dx[rows] += np.outer(dy[rows, k], w[k, m])
            dw[k, m] = dy[rows, k] @ x[rows]
            db[k, m] = dy[rows, k].sum()
        return {"x": dx, "w": dw, "b": db}

    return np.amax(z, axis=2), pullback


class Maxout:
    """A linear layer and a maximum, each with its own backward, composed."""

    def linear(self, x, w, b):
        z = (w[None] * x[:, None, None, :]).sum(axis=3) + b
        return z, partial(self.linear_backward, x, w)

    def linear_backward(self, x, w, dz):
        dx = (dz[..., None] * w).sum(axis=(1, 2))
        return dx, (dz[..., None] * x[:, None, None, :]).sum(axis=0), dz.sum(axis=0)

    def maximum_backward(self, z, dy):
        m = z.argmax(axis=-1)
        return dy[..., None] * (m[..., None] == np.arange(z.shape[-1]))

    def __call__(self, x, w, b):
        z, back = self.linear(x, w, b)
        return z.max(axis=-1), lambda dy: back(self.maximum_backward(z, dy))


maxout.register(name="object_of_parts")(Maxout())
