"""Right ways of writing a bilinear form of two vectors."""

from functools import partial

import numpy as np

from gradverify import catalog

bilinear = catalog("bilinear")


def _by_einsum(einsum, x, z, w, b):
    def pullback(dy):
        return {
            "x": einsum("nk,kde,ne->nd", dy, w, z),
            "z": einsum("nk,kde,nd->ne", dy, w, x),
            "w": einsum("nk,nd,ne->kde", dy, x, z),
            "b": einsum("nk->k", dy),
        }

    return einsum("nd,kde,ne->nk", x, w, z) + b, pullback


bilinear.register(name="bilinear_einsum")(partial(_by_einsum, np.einsum))
bilinear.register(name="bilinear_einsum_in_pairs")(
    partial(_by_einsum, partial(np.einsum, optimize=True))
)


@bilinear.register
def bilinear_loop_over_outputs(x, z, w, b):
    y = np.stack([((x @ wk) * z).sum(axis=1) + bk for wk, bk in zip(w, b, strict=True)], axis=1)

    def pullback(dy):
        dx, dz, dw = np.zeros_like(x), np.zeros_like(z), np.empty_like(w)
        for k in range(len(w)):
            g = dy[:, k : k + 1]
            dx += g * (z @ w[k].T)
            dz += g * (x @ w[k])
            dw[k] = (g * x).T @ z
        return dx, dz, dw, dy.sum(axis=0)

    return y, pullback


@bilinear.register
def bilinear_loop_over_samples(x, z, w, b):
    y = np.empty((len(x), len(b)), x.dtype)
    for n in range(len(x)):
        y[n] = (w @ z[n]) @ x[n] + b

    def pullback(dy):
        dx, dz = np.empty_like(x), np.empty_like(z)
        dw, db = np.zeros_like(w), np.zeros_like(b)
        for n in range(len(x)):
            mixed = np.tensordot(dy[n], w, axes=1)  # D E
            dx[n], dz[n] = mixed @ z[n], x[n] @ mixed
            dw += dy[n][:, None, None] * np.outer(x[n], z[n])
            db += dy[n]
        return {"b": db, "w": dw, "z": dz, "x": dx}

    return y, pullback


@bilinear.register
def bilinear_as_a_linear_layer_of_products(x, z, w, b):
    (N, D), E = x.shape, z.shape[1]
    products = (x[:, :, None] * z[:, None, :]).reshape(N, D * E)
    flat = w.reshape(len(w), D * E)

    def pullback(dy):
        dproducts = (dy @ flat).reshape(N, D, E)
        dx = (dproducts * z[:, None, :]).sum(axis=2)
        dz = (dproducts * x[:, :, None]).sum(axis=1)
        return dx, dz, (dy.T @ products).reshape(w.shape), np.ones_like(dy[:, 0]) @ dy

    return products @ flat.T + b, pullback


@bilinear.register
def bilinear_broadcast_and_sum(x, z, w, b):
    """Everything at full size, N K D E, and each gradient summed out of it."""
    y = (x[:, None, :, None] * w[None] * z[:, None, None, :]).sum(axis=(2, 3)) + b

    def pullback(dy):
        g = dy[:, :, None, None]
        return {
            "x": (g * w * z[:, None, None, :]).sum(axis=(1, 3)),
            "z": (g * w * x[:, None, :, None]).sum(axis=(1, 2)),
            "w": (g * x[:, None, :, None] * z[:, None, None, :]).sum(axis=0),
            "b": dy.sum(axis=0),
        }

    return y, pullback


@bilinear.register
def bilinear_batched_matmul(x, z, w, b):
    row, column = x[:, None, None, :], z[:, None, :, None]
    half = row @ w  # N K 1 E
    y = (half @ column)[:, :, 0, 0] + b

    def pullback(dy):
        g = dy[:, :, None, None]
        dhalf = g @ column.swapaxes(2, 3)
        dz = (half.swapaxes(2, 3) @ g).sum(axis=1)[:, :, 0]
        dw = (row.swapaxes(2, 3) @ dhalf).sum(axis=0)
        dx = (dhalf @ w.swapaxes(1, 2)).sum(axis=1)[:, 0]
        return [dx, dz, dw, g.sum(axis=0)[:, 0, 0]]

    return y, pullback
