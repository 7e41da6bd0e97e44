"""Right ways of writing a residual block that normalizes first."""

from functools import partial

import numpy as np

from gradverify import catalog

residual_block = catalog("residual_block")


@residual_block.register
def step_by_step(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
    D = x.shape[1]
    mu = x.sum(axis=1, keepdims=True) / D
    xc = x - mu
    var = (xc**2).sum(axis=1, keepdims=True) / D
    sigma = np.sqrt(var + norm_eps)
    xhat = xc / sigma
    u = norm_gamma * xhat + norm_beta
    z = u.dot(fc1_w.T) + fc1_b
    h = np.where(z > 0, z, 0)
    y = x + (h.dot(fc2_w.T) + fc2_b)

    def pullback(dy):
        dfc2_w, dfc2_b, dh = dy.T.dot(h), dy.sum(axis=0), dy.dot(fc2_w)
        dz = np.where(z > 0, dh, 0)
        dfc1_w, dfc1_b, du = dz.T.dot(u), dz.sum(axis=0), dz.dot(fc1_w)
        dgamma, dbeta, dxhat = (du * xhat).sum(axis=0), du.sum(axis=0), du * norm_gamma
        dsigma = -(dxhat * xc).sum(axis=1, keepdims=True) / sigma**2
        dvar = 0.5 * dsigma / sigma
        dxc = dxhat / sigma + 2 * xc * dvar / D
        dmu = -dxc.sum(axis=1, keepdims=True)
        dx = dxc + dmu / D
        return dx + dy, dgamma, dbeta, dfc1_w, dfc1_b, dfc2_w, dfc2_b

    return y, pullback


@residual_block.register
def einsum(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
    D = x.shape[1]
    xc = x - np.einsum("nd->n", x)[:, None] / D
    rstd = 1 / np.sqrt(np.einsum("nd,nd->n", xc, xc) / D + norm_eps)
    xhat = np.einsum("nd,n->nd", xc, rstd)
    u = np.einsum("nd,d->nd", xhat, norm_gamma) + norm_beta
    z = np.einsum("nd,hd->nh", u, fc1_w) + fc1_b
    on = (z >= 0).astype(x.dtype)

    def pullback(dy):
        dz = np.einsum("nd,dh,nh->nh", dy, fc2_w, on)
        du = np.einsum("nh,hd->nd", dz, fc1_w)
        g = np.einsum("nd,d->nd", du, norm_gamma)
        inner = g - np.einsum("nd->n", g)[:, None] / D
        inner -= np.einsum("nd,ne,ne->nd", xhat, g, xhat) / D
        return {
            "x": dy + np.einsum("nd,n->nd", inner, rstd),
            "norm_gamma": np.einsum("nd,nd->d", du, xhat),
            "norm_beta": np.einsum("nd->d", du),
            "fc1_w": np.einsum("nh,nd->hd", dz, u),
            "fc1_b": np.einsum("nh->h", dz),
            "fc2_w": np.einsum("nd,nh,nh->dh", dy, z, on),
            "fc2_b": np.einsum("nd->d", dy),
        }

    return x + fc2_b + np.einsum("nh,nh,dh->nd", z, on, fc2_w), pullback


@residual_block.register
def gamma_folded_into_the_weights(
    x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps
):
    """The first linear layer takes xhat: its weights are scaled, its bias shifted."""
    xhat = x - x.mean(axis=1)[:, None]
    std = np.sqrt(np.square(xhat).mean(axis=1) + norm_eps)[:, None]
    xhat = xhat / std
    z = xhat @ (fc1_w * norm_gamma).T + (fc1_w @ norm_beta + fc1_b)
    h = np.maximum(0, z)

    def pullback(dy):
        dz = dy @ fc2_w * (h > 0)
        db = dz.sum(axis=0)
        dfolded = dz.T @ xhat
        dxhat = dz @ (fc1_w * norm_gamma)
        dot = (dxhat * xhat).mean(axis=1, keepdims=True)
        return {
            "x": (dxhat - dxhat.mean(axis=1, keepdims=True) - xhat * dot) / std + dy,
            "norm_gamma": (dfolded * fc1_w).sum(axis=0),
            "norm_beta": db @ fc1_w,
            "fc1_w": dfolded * norm_gamma + np.outer(db, norm_beta),
            "fc1_b": db,
            "fc2_w": dy.T @ h,
            "fc2_b": dy.sum(axis=0),
        }

    return h @ fc2_w.T + fc2_b + x, pullback


@residual_block.register
def row_by_row(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
    D = x.shape[1]

    def forward(row):
        xc = row - row.mean()
        sigma = np.sqrt((xc @ xc) / D + x.dtype.type(norm_eps))
        xhat = xc / sigma
        u = norm_gamma * xhat + norm_beta
        return sigma, xhat, u, np.clip(fc1_w @ u + fc1_b, 0, None)

    y = np.stack([row + fc2_w @ forward(row)[-1] + fc2_b for row in x])

    def pullback(dy):
        given = norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b
        totals, dx = [np.zeros_like(v) for v in given], np.empty_like(x)
        centering = np.eye(D, dtype=x.dtype) - x.dtype.type(1 / D)
        for n, g in enumerate(dy):
            sigma, xhat, u, h = forward(x[n])
            dz = (fc2_w.T @ g) * (h > 0)
            du = fc1_w.T @ dz
            jacobian = (centering - np.outer(xhat, xhat) / D) / sigma
            dx[n] = g + jacobian @ (norm_gamma * du)
            parts = du * xhat, du, np.outer(dz, u), dz, np.outer(g, h), g
            for total, part in zip(totals, parts, strict=True):
                total += part
        return (dx, *totals)

    return y, pullback


# The mean of squares cancels where the mean is large.
@residual_block.register
def one_pass_moments(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
    mu = x.mean(axis=1, keepdims=True)
    var = np.maximum((x * x).mean(axis=1, keepdims=True) - mu * mu, 0)
    rstd = 1 / np.sqrt(var + norm_eps)
    a = norm_gamma * rstd
    u = a * x + (norm_beta - mu * a)
    h = np.maximum(u @ fc1_w.T + fc1_b, 0)

    def pullback(dy):
        dz = np.where(h > 0, dy @ fc2_w, 0)
        du = dz @ fc1_w
        xhat = (x - mu) * rstd
        g = du * a
        dx = g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True)
        dgamma = (du * xhat).sum(axis=0)
        return [dx + dy, dgamma, du.sum(axis=0), dz.T @ u, dz.sum(axis=0), dy.T @ h, dy.sum(axis=0)]

    return x + h @ fc2_w.T + fc2_b, pullback


@residual_block.register
def recomputed_in_the_pullback(
    x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps
):  # fmt: skip
    def branch():
        sigma = np.sqrt(x.var(axis=1, keepdims=True) + norm_eps)
        xhat = (x - x.mean(axis=1, keepdims=True)) / sigma
        u = xhat * norm_gamma + norm_beta
        return sigma, xhat, u, np.matmul(u, fc1_w.T) + fc1_b

    def pullback(dy):
        sigma, xhat, u, z = branch()
        dz = np.matmul(dy, fc2_w) * np.heaviside(z, 0.5).astype(x.dtype)
        du = np.matmul(dz, fc1_w)
        dxhat = du * norm_gamma
        D = x.shape[1]
        dx = D * dxhat - dxhat.sum(axis=1, keepdims=True)
        dx -= xhat * (dxhat * xhat).sum(axis=1, keepdims=True)
        dx /= D * sigma
        dx += dy
        return {
            "fc2_b": np.sum(dy, axis=0),
            "fc2_w": np.matmul(dy.T, np.maximum(z, 0)),
            "fc1_b": np.sum(dz, axis=0),
            "fc1_w": np.matmul(dz.T, u),
            "norm_beta": np.sum(du, axis=0),
            "norm_gamma": np.sum(du * xhat, axis=0),
            "x": dx,
        }

    return np.matmul(np.maximum(branch()[-1], 0), fc2_w.T) + fc2_b + x, pullback


def _layer_norm(gamma, beta, eps, x):
    xc = x - x.mean(axis=-1, keepdims=True)
    rstd = (np.mean(xc**2, axis=-1, keepdims=True) + eps) ** -0.5

    def back(dy):
        g = dy * gamma
        dxc = g * rstd - xc * rstd**3 * (g * xc).mean(axis=-1, keepdims=True)
        return dxc - dxc.mean(axis=-1, keepdims=True), [(dy * xc * rstd).sum(axis=0), dy.sum(0)]

    return gamma * (xc * rstd) + beta, back


def _linear(w, b, x):
    return x @ w.T + b, lambda dy: (dy @ w, [dy.T @ x, dy.sum(axis=0)])


def _relu(x):
    return x * (x > 0), lambda dy: (dy * (x > 0), [])


class Residual:
    """x plus what a chain of functions makes of it."""

    def __init__(self, *chain):
        self.chain = chain

    def __call__(self, x):
        backs, r = [], x
        for function in self.chain:
            r, back = function(r)
            backs.append(back)
        return x + r, partial(self.backward, backs)

    def backward(self, backs, dy):
        dr, collected = dy, []
        for back in reversed(backs):
            dr, grads = back(dr)
            collected = grads + collected
        return [dy + dr, *collected]


@residual_block.register
def object_with_chain(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
    return Residual(
        partial(_layer_norm, norm_gamma, norm_beta, norm_eps),
        partial(_linear, fc1_w, fc1_b),
        _relu,
        partial(_linear, fc2_w, fc2_b),
    )(x)
