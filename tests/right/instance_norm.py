"""Right ways of writing instance normalization of images."""

from functools import partial

import numpy as np

from gradverify import catalog

instance_norm = catalog("instance_norm")

IMAGE = (2, 3)


@instance_norm.register(dtypes=("float64", "float32"))
def instance_norm_staged(x, gamma, beta, *, eps):
    """Each line of the forward has its line in the backward, in reverse."""
    M = x.shape[2] * x.shape[3]
    mu = x.sum(axis=IMAGE, keepdims=True) / M
    xmu = x - mu
    sq = xmu**2
    var = sq.sum(axis=IMAGE, keepdims=True) / M
    sqrtvar = np.sqrt(var + eps)
    ivar = 1 / sqrtvar
    xhat = xmu * ivar
    scaled = gamma[None, :, None, None] * xhat

    def pullback(dy):
        dxhat = dy * gamma[None, :, None, None]
        divar = (dxhat * xmu).sum(axis=IMAGE, keepdims=True)
        dxmu = dxhat * ivar
        dsqrtvar = -divar / sqrtvar**2
        dvar = 0.5 * dsqrtvar / sqrtvar
        dxmu += 2 * xmu * (np.ones_like(x) * dvar / M)
        dmu = -dxmu.sum(axis=IMAGE, keepdims=True)
        dx = dxmu + np.ones_like(x) * dmu / M
        return dx, (dy * xhat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))

    return scaled + beta[None, :, None, None], pullback


@instance_norm.register
def instance_norm_as_rows(x, gamma, beta, *, eps):
    """One row an image and channel, normalized as a layer norm does."""
    N, C, H, W = x.shape
    rows = x.reshape(N * C, H * W)
    rstd = 1 / np.sqrt(rows.var(axis=1, keepdims=True) + eps)
    xhat = (rows - rows.mean(axis=1, keepdims=True)) * rstd
    y = np.tile(gamma, N)[:, None] * xhat + np.tile(beta, N)[:, None]

    def pullback(dy):
        dyr = dy.reshape(rows.shape)
        g = dyr * np.tile(gamma, N)[:, None]
        dx = rstd * (
            g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True)
        )
        return {
            "x": dx.reshape(x.shape),
            "gamma": (dyr * xhat).sum(axis=1).reshape(N, C).sum(axis=0),
            "beta": dyr.sum(axis=1).reshape(N, C).sum(axis=0),
        }

    return y.reshape(x.shape), pullback


@instance_norm.register
def instance_norm_einsum(x, gamma, beta, *, eps):
    M = x.shape[2] * x.shape[3]
    xc = x - (np.einsum("nchw->nc", x) / M)[:, :, None, None]
    rstd = (np.einsum("nchw,nchw->nc", xc, xc) / M + eps) ** -0.5
    xhat = np.einsum("nchw,nc->nchw", xc, rstd)

    def pullback(dy):
        along, total = np.einsum("nchw,nchw->nc", dy, xhat), np.einsum("nchw->nc", dy)
        scale = np.einsum("c,nc->nc", gamma, rstd)
        dx = np.einsum("nc,nchw->nchw", scale, dy)
        dx -= (scale * total / M)[:, :, None, None]
        dx -= np.einsum("nc,nc,nchw->nchw", scale, along, xhat) / M
        return dx, np.einsum("nc->c", along), np.einsum("nc->c", total)

    return np.einsum("c,nchw->nchw", gamma, xhat) + beta[:, None, None], pullback


@instance_norm.register
def instance_norm_loop_over_images(x, gamma, beta, *, eps):
    N, C = x.shape[:2]
    y, xhat, sigma = np.empty_like(x), np.empty_like(x), np.empty((N, C), x.dtype)
    for n, c in np.ndindex(N, C):
        image = x[n, c] - x[n, c].mean()
        sigma[n, c] = np.sqrt((image * image).mean() + eps)
        xhat[n, c] = image / sigma[n, c]
        y[n, c] = gamma[c] * xhat[n, c] + beta[c]

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(beta)
        for n, c in np.ndindex(N, C):
            g, h = dy[n, c], xhat[n, c]
            dgamma[c] += np.vdot(g, h)
            dbeta[c] += g.sum()
            dx[n, c] = (g - g.mean() - h * (g * h).mean()) * (gamma[c] / sigma[n, c])
        return {"beta": dbeta, "gamma": dgamma, "x": dx}

    return y, pullback


@instance_norm.register(dtypes=("float64", "float32"))
def instance_norm_one_pass(x, gamma, beta, *, eps):
    mean, square = x.mean(axis=IMAGE, keepdims=True), (x * x).mean(axis=IMAGE, keepdims=True)
    rstd = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + eps)
    wide = gamma.reshape(1, -1, 1, 1)

    def pullback(dy):
        M = x.shape[2] * x.shape[3]
        xhat = (x - mean) * rstd
        dbeta = dy.sum(axis=IMAGE, keepdims=True)
        dgamma = (dy * xhat).sum(axis=IMAGE, keepdims=True)
        dx = wide * rstd / M * (M * dy - dbeta - xhat * dgamma)
        return dx, dgamma.sum(axis=0).reshape(-1), dbeta.sum(axis=0).reshape(-1)

    return (x - mean) * rstd * wide + beta.reshape(1, -1, 1, 1), pullback


@instance_norm.register(dtypes=("float64", "float32"))
def instance_norm_by_standard_deviation(x, gamma, beta, *, eps):
    """The moments by the library, everything else recomputed in the backward."""
    mean, std = np.mean(x, axis=IMAGE), np.hypot(np.std(x, axis=IMAGE), np.sqrt(x.dtype.type(eps)))

    def wide(v):
        return v[..., None, None]

    def pullback(dy):
        inv = wide(1 / std)
        xc, g = x - wide(mean), dy * wide(gamma)
        slope = np.mean(g * xc, axis=IMAGE, keepdims=True) * inv**2
        dx = (g - xc * slope) * inv
        dx -= dx.mean(axis=IMAGE, keepdims=True)
        dgamma = np.sum(np.sum(dy * xc, axis=IMAGE) / std, axis=0)
        return {"x": dx, "gamma": dgamma, "beta": dy.sum(axis=(0, 2, 3))}

    return wide(gamma / std) * (x - wide(mean)) + wide(beta), pullback


class InstanceNorm:
    """Channels last inside; a context for each call."""

    axes = (1, 2)

    def __call__(self, x, gamma, beta, *, eps):
        last = np.moveaxis(x, 1, -1).copy()
        last -= last.mean(axis=self.axes, keepdims=True)
        sigma = np.sqrt(np.square(last).mean(axis=self.axes, keepdims=True) + eps)
        last /= sigma
        return np.moveaxis(last * gamma + beta, -1, 1), partial(self.backward, last, sigma, gamma)

    def backward(self, xhat, sigma, gamma, dy):
        dlast = np.moveaxis(dy, 1, -1)
        g = dlast * gamma
        mean = partial(np.mean, axis=self.axes, keepdims=True)
        dx = (g - mean(g) - xhat * mean(g * xhat)) / sigma
        flat = dlast.reshape(-1, len(gamma))
        return np.moveaxis(dx, -1, 1), (flat * xhat.reshape(flat.shape)).sum(0), flat.sum(0)


instance_norm.register(name="instance_norm_channels_last")(InstanceNorm())
