"""Right ways of writing root mean square norm; those that overflow in half precision say so."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

rms_norm = catalog("rms_norm")


# The gradient of the mean square itself overflows in half precision.
@rms_norm.register(dtypes=("float64", "float32"))
def step_by_step(x, gamma, *, eps):
    D = x.shape[1]
    ms = (x**2).sum(axis=1, keepdims=True) / D
    rms = np.sqrt(ms + eps)
    xhat = x / rms

    def pullback(dy):
        dxhat = dy * gamma
        drms = -(dxhat * x).sum(axis=1, keepdims=True) / rms**2
        dms = drms * 0.5 / rms
        dx = dxhat / rms + dms * 2 * x / D
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0)}

    return gamma * xhat, pullback


@rms_norm.register
def closed_form(x, gamma, *, eps):
    D = x.shape[1]
    r = 1 / np.sqrt(np.mean(np.square(x), axis=1, keepdims=True) + eps)
    xhat = x * r

    def pullback(dy):
        g = gamma * dy
        dx = r / D * (D * g - xhat * np.sum(g * xhat, axis=1, keepdims=True))
        return dx, np.sum(dy * xhat, axis=0)

    return xhat * gamma, pullback


@rms_norm.register(dtypes=("float64", "float32"))
def folded(x, gamma, *, eps):
    r = ((x * x).mean(axis=1, keepdims=True) + eps) ** -0.5
    y = x * (r * gamma)

    def pullback(dy):
        b = -(r**3) * (dy * gamma * x).mean(axis=1, keepdims=True)
        return {"x": r * gamma * dy + b * x, "gamma": (dy * x * r).sum(axis=0)}

    return y, pullback


@rms_norm.register
def einsum(x, gamma, *, eps):
    D = x.shape[1]
    r = 1 / np.sqrt(np.einsum("nd,nd->n", x, x) / D + eps)
    xhat = np.einsum("nd,n->nd", x, r)

    def pullback(dy):
        along = np.einsum("nd,d,nd->n", dy, gamma, xhat) / D
        inner = np.einsum("nd,d->nd", dy, gamma) - np.einsum("n,nd->nd", along, xhat)
        return np.einsum("nd,n->nd", inner, r), np.einsum("nd,nd->d", dy, xhat)

    return np.einsum("nd,d->nd", xhat, gamma), pullback


@rms_norm.register
def hypot(x, gamma, *, eps):
    D = x.shape[1]
    scaled = np.hypot.reduce(x / math.sqrt(D), axis=1)
    rms = np.hypot(scaled, np.full_like(scaled, math.sqrt(eps)))[:, None]

    def pullback(dy):
        u = x / rms
        g = dy * gamma
        return (g - u * (g * u).mean(axis=1, keepdims=True)) / rms, (dy * u).sum(axis=0)

    return gamma * x / rms, pullback


@rms_norm.register
def jacobian_per_row(x, gamma, *, eps):
    N, D = x.shape
    rms = [np.sqrt(row @ row / D + x.dtype.type(eps)) for row in x]
    y = np.stack([gamma * (row / s) for row, s in zip(x, rms, strict=True)])

    def pullback(dy):
        dx, dgamma = np.empty_like(x), np.zeros_like(gamma)
        for n in range(N):
            unit = x[n] / rms[n]
            jacobian = (np.eye(D, dtype=x.dtype) - np.outer(unit, unit) / D) / rms[n]
            dx[n] = jacobian @ (gamma * dy[n])
            dgamma += dy[n] * unit
        return {"x": dx, "gamma": dgamma}

    return y, pullback


@rms_norm.register
def scalar_loops_with_fsum(x, gamma, *, eps):
    D = x.shape[1]
    scale = gamma.tolist()
    y, rms = np.empty_like(x), []
    for n, row in enumerate(x.tolist()):
        rms.append(math.sqrt(math.fsum(v * v for v in row) / D + eps))
        y[n] = [s * v / rms[n] for s, v in zip(scale, row, strict=True)]

    def pullback(dy):
        dx, dgamma = np.empty_like(x), [[] for _ in scale]
        for n, row in enumerate(x.tolist()):
            g = [a * b for a, b in zip(dy[n].tolist(), scale, strict=True)]
            dot = math.fsum(a * b for a, b in zip(g, row, strict=True)) / (D * rms[n] ** 2)
            dx[n] = [(a - v * dot) / rms[n] for a, v in zip(g, row, strict=True)]
            for d in range(D):
                dgamma[d].append(float(dy[n, d]) * row[d] / rms[n])
        return {"x": dx, "gamma": np.array([math.fsum(v) for v in dgamma], x.dtype)}

    return y, pullback


@rms_norm.register
def in_float64(x, gamma, *, eps):
    wide = x.astype(np.float64)
    r = 1 / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + eps)
    xhat = wide * r

    def pullback(dy):
        g = dy.astype(np.float64) * gamma
        dx = r * (g - xhat * (g * xhat).mean(axis=1, keepdims=True))
        return dx.astype(x.dtype), (dy * xhat).sum(axis=0).astype(x.dtype)

    return (xhat * gamma).astype(x.dtype), pullback


@rms_norm.register
def recomputed_from_reciprocal(x, gamma, *, eps):
    r = 1 / np.sqrt((x @ x.T).diagonal() / x.shape[1] + eps)[:, None]

    def pullback(dy):
        wdy = dy * gamma
        c = np.average(x * r * wdy, axis=1)[:, None]
        dgamma = np.ones_like(r).T @ (dy * (x * r))
        return {"gamma": dgamma[0].copy(), "x": (wdy - x * r * c) * r}

    return x * r * gamma, pullback


class RMSNorm:
    """A callable object; eps comes with the call."""

    def __call__(self, x, gamma, *, eps):
        rms = np.sqrt(np.add.accumulate(x * x, axis=1)[:, -1:] / x.shape[1] + eps)
        return x / rms * gamma, partial(self.backward, x, gamma, rms)

    @staticmethod
    def backward(x, gamma, rms, dy):
        g = gamma * dy / rms
        along = np.add.accumulate(g * (x / rms), axis=1)[:, -1:] / x.shape[1]
        return g - x / rms * along, np.add.accumulate(dy * (x / rms))[-1].copy()


rms_norm.register(name="object_with_call")(RMSNorm())
