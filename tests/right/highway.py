"""Right ways of writing a highway layer."""

from functools import partial

import numpy as np

from gradverify import catalog

highway = catalog("highway")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@highway.register
def highway_as_in_the_paper(x, wh, bh, wt, bt):
    h, g = np.tanh(x.dot(wh.T) + bh), 1 / (1 + np.exp(-(x.dot(wt.T) + bt)))
    y = h * g + x * (1 - g)

    def pullback(dy):
        dh, dg = dy * g, dy * h - dy * x
        dzh, dzg = dh * (1 - h**2), dg * g * (1 - g)
        dx = dy * (1 - g)
        dx += dzh.dot(wh)
        dx += dzg.dot(wt)
        return dx, dzh.T.dot(x), dzh.sum(axis=0), dzg.T.dot(x), dzg.sum(axis=0)

    return y, pullback


@highway.register
def highway_einsum(x, wh, bh, wt, bt):
    h = np.tanh(np.einsum("nd,kd->nk", x, wh) + bh)
    z = np.einsum("nd,kd->nk", x, wt) + bt
    transform, carry = _sigmoid(z), _sigmoid(-z)

    def pullback(dy):
        a = np.einsum("nk,nk,nk->nk", dy, transform, 1 - h * h)
        b = np.einsum("nk,nk,nk,nk->nk", dy, h - x, transform, carry)
        return {
            "x": dy * carry + np.einsum("nk,kd->nd", a, wh) + np.einsum("nk,kd->nd", b, wt),
            "wh": np.einsum("nk,nd->kd", a, x),
            "bh": np.einsum("nk->k", a),
            "wt": np.einsum("nk,nd->kd", b, x),
            "bt": np.einsum("nk->k", b),
        }

    return transform * h + carry * x, pullback


@highway.register
def highway_one_matrix(x, wh, bh, wt, bt):
    D = x.shape[1]
    both = np.concatenate([wh, wt])
    z = x @ both.T + np.concatenate([bh, bt])
    t = np.tanh(z * np.repeat(np.array([1, 0.5], x.dtype), D))  # the gate is (1 + tanh(z/2))/2
    h, g = t[:, :D], 0.5 + 0.5 * t[:, D:]

    def pullback(dy):
        dt = np.concatenate([dy * g, 0.25 * dy * (h - x)], axis=1)
        dz = dt * (1 - t * t)
        dboth, dbias = dz.T @ x, dz.sum(axis=0)
        return (dz @ both + dy * (1 - g), dboth[:D], dbias[:D], dboth[D:], dbias[D:])

    return x + g * (h - x), pullback


@highway.register
def highway_loop_over_samples(x, wh, bh, wt, bt):
    y, kept = np.empty_like(x), []
    for n, row in enumerate(x):
        h, g = np.tanh(wh @ row + bh), np.exp(-np.logaddexp(0, -(wt @ row + bt)))
        y[n] = g * h + (1 - g) * row
        kept.append((h, g))

    def pullback(dy):
        dx, dwh, dwt = np.empty_like(x), np.zeros_like(wh), np.zeros_like(wt)
        dbh, dbt = np.zeros_like(bh), np.zeros_like(bt)
        for n, (h, g) in enumerate(kept):
            a = dy[n] * g * (1 - h) * (1 + h)
            b = dy[n] * (h - x[n]) * g * (1 - g)
            dx[n] = dy[n] * (1 - g) + wh.T @ a + wt.T @ b
            dwh += np.outer(a, x[n])
            dwt += np.outer(b, x[n])
            dbh += a
            dbt += b
        return {"bt": dbt, "wt": dwt, "bh": dbh, "wh": dwh, "x": dx}

    return y, pullback


@highway.register
def highway_recomputed(x, wh, bh, wt, bt):
    """Only the inputs are kept, as with checkpoints."""

    def forward():
        h, g = np.tanh(np.matmul(x, wh.T) + bh), _sigmoid(np.matmul(x, wt.T) + bt)
        return h, g, np.add(np.multiply(g, h), np.multiply(np.subtract(1, g), x))

    def pullback(dy):
        h, g, y = forward()
        da = dy * g * (1 - np.square(h))
        db = dy * (y - x) * (1 - g)  # g*(h - x) is y - x
        ones = np.ones((1, len(x)), x.dtype)
        dx = np.matmul(da, wh) + np.matmul(db, wt) + dy - g * dy
        return [dx, da.T @ x, (ones @ da)[0], db.T @ x, (ones @ db)[0]]

    return forward()[2], pullback


class Dense:
    """An affine map and an activation whose slope is known from its value."""

    def __init__(self, activation, slope):
        self.activation, self.slope = activation, slope

    def __call__(self, x, w, b):
        y = self.activation(np.tensordot(x, w, axes=(1, 1)) + b)
        return y, partial(self.backward, x, w, y)

    def backward(self, x, w, y, dy):
        dz = dy * self.slope(y)
        return np.tensordot(dz, w, axes=1), np.tensordot(dz, x, axes=(0, 0)), dz.sum(axis=0)


PLAIN = Dense(np.tanh, lambda y: 1 - y * y)
GATE = Dense(_sigmoid, lambda y: y * (1 - y))


@highway.register
def highway_of_dense_parts(x, wh, bh, wt, bt):
    (h, back_h), (g, back_g) = PLAIN(x, wh, bh), GATE(x, wt, bt)

    def pullback(dy):
        dx_h, dwh, dbh = back_h(dy * g)
        dx_g, dwt, dbt = back_g(dy * (h - x))
        return dx_h + dx_g + dy * (1 - g), dwh, dbh, dwt, dbt

    return g * h + (1 - g) * x, pullback
