"""Right ways of writing squeeze and excitation."""

from functools import partial

import numpy as np

from gradverify import catalog

squeeze_excite = catalog("squeeze_excite")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


@squeeze_excite.register
def step_by_step(x, w1, b1, w2, b2):
    N, C, H, W = x.shape
    z = x.sum(axis=(2, 3)) / (H * W)
    p1 = z.dot(w1.T) + b1
    a = np.where(p1 > 0, p1, 0)
    p2 = a.dot(w2.T) + b2
    s = _sigmoid(p2)
    scale = s.reshape(N, C, 1, 1)

    def pullback(dy):
        dx = dy * scale
        ds = np.sum(dy * x, axis=(2, 3))
        dp2 = ds * s * (1 - s)
        dw2, db2, da = dp2.T.dot(a), dp2.sum(axis=0), dp2.dot(w2)
        dp1 = np.where(p1 > 0, da, 0)
        dw1, db1, dz = dp1.T.dot(z), dp1.sum(axis=0), dp1.dot(w1)
        dx += np.ones_like(x) * dz.reshape(N, C, 1, 1) / (H * W)
        return {"x": dx, "w1": dw1, "b1": db1, "w2": dw2, "b2": db2}

    return x * scale, pullback


@squeeze_excite.register
def pixels_in_one_axis(x, w1, b1, w2, b2):
    N, C = x.shape[:2]
    xf = x.reshape(N, C, -1)
    M = xf.shape[2]
    z = xf @ np.full(M, 1 / M, x.dtype)
    a = np.maximum(z @ w1.T + b1, 0)
    s = _sigmoid(a @ w2.T + b2)

    def pullback(dy):
        dyf = dy.reshape(N, C, M)
        ds = (dyf[:, :, None, :] @ xf[:, :, :, None])[:, :, 0, 0]
        dp = ds * (s - s * s)
        da = (dp @ w2) * (a > 0)
        dxf = s[:, :, None] * dyf + (da @ w1)[:, :, None] / M
        return dxf.reshape(x.shape), da.T @ z, da.sum(axis=0), dp.T @ a, dp.sum(axis=0)

    return (s[:, :, None] * xf).reshape(x.shape), pullback


@squeeze_excite.register
def einsum(x, w1, b1, w2, b2):
    M = x.shape[2] * x.shape[3]
    z = np.einsum("nchw->nc", x) / M
    p = np.einsum("nc,rc->nr", z, w1) + b1
    on = (p >= 0).astype(x.dtype)
    a = p * on
    q = np.einsum("nr,cr->nc", a, w2) + b2
    s = np.exp(-np.logaddexp(0, -q))

    def pullback(dy):
        dq = np.einsum("nchw,nchw,nc,nc->nc", dy, x, s, 1 - s)
        dp = np.einsum("nc,cr,nr->nr", dq, w2, on)
        dz = np.einsum("nr,rc->nc", dp, w1) / M
        return {
            "x": np.einsum("nc,nchw->nchw", s, dy) + dz[..., None, None],
            "w1": np.einsum("nr,nc->rc", dp, z),
            "b1": np.einsum("nr->r", dp),
            "w2": np.einsum("nc,nr->cr", dq, a),
            "b2": np.einsum("nc->c", dq),
        }

    return np.einsum("nc,nchw->nchw", s, x), pullback


@squeeze_excite.register
def as_two_1x1_convolutions(x, w1, b1, w2, b2):
    """The squeezed image has one pixel: everything stays in N C 1 1."""

    def conv(v, w, b):
        return np.tensordot(w, v, axes=(1, 1)).swapaxes(0, 1) + b[:, None, None]

    def weight(dy, v):
        return np.tensordot(dy, v, axes=((0, 2, 3), (0, 2, 3)))

    z = np.mean(x, axis=(2, 3), keepdims=True)
    a = np.maximum(conv(z, w1, b1), 0)
    s = _sigmoid(conv(a, w2, b2))

    def pullback(dy):
        dq = (dy * x).sum(axis=(2, 3), keepdims=True) * s * (1 - s)
        da = np.tensordot(w2, dq, axes=(0, 1)).swapaxes(0, 1) * (a > 0)
        dz = np.tensordot(w1, da, axes=(0, 1)).swapaxes(0, 1)
        dx = dy * s + dz / (x.shape[2] * x.shape[3])
        return dx, weight(da, z), da.sum(axis=(0, 2, 3)), weight(dq, a), dq.sum(axis=(0, 2, 3))

    return x * s, pullback


@squeeze_excite.register
def image_by_image(x, w1, b1, w2, b2):
    y, saved = np.empty_like(x), []
    for n, image in enumerate(x):
        z = image.mean(axis=(1, 2))
        a = np.maximum(w1 @ z + b1, 0)
        with np.errstate(over="ignore"):  # 1 over infinity is 0
            s = 1 / (1 + np.exp(-(w2 @ a + b2)))
        saved.append((z, a, s))
        y[n] = s[:, None, None] * image

    def pullback(dy):
        dx, dw1, db1, dw2, db2 = (np.zeros_like(v) for v in (x, w1, b1, w2, b2))
        for n, (z, a, s) in enumerate(saved):
            dq = (dy[n] * x[n]).sum(axis=(1, 2)) * s * (1 - s)
            dp = np.where(a > 0, w2.T @ dq, 0)
            dw2 += np.outer(dq, a)
            db2 += dq
            dw1 += np.outer(dp, z)
            db1 += dp
            dx[n] = s[:, None, None] * dy[n] + (w1.T @ dp)[:, None, None] / x[n, 0].size
        return {"x": dx, "w1": dw1, "b1": db1, "w2": dw2, "b2": db2}

    return y, pullback


@squeeze_excite.register
def recomputed_with_tanh(x, w1, b1, w2, b2):
    """What sigmoid is taken of is small unless x is large: tanh is as good."""

    def forward():
        z = np.average(x, axis=(2, 3))
        p = z @ w1.T + b1
        return z, p, 0.5 + 0.5 * np.tanh(0.5 * (np.maximum(p, 0) @ w2.T + b2))

    def pullback(dy):
        z, p, s = forward()
        dq = np.sum(dy * x, axis=3).sum(axis=2) * (s * (1 - s))
        dp = (dq @ w2) * np.heaviside(p, x.dtype.type(0))
        dx = np.broadcast_to((dp @ w1 / (x.shape[2] * x.shape[3]))[:, :, None, None], x.shape)
        dx = dx + s[:, :, None, None] * dy
        return [dx, dp.T @ z, dp.sum(axis=0), dq.T @ np.maximum(p, 0), dq.sum(axis=0)]

    return forward()[2][:, :, None, None] * x, pullback


class SqueezeExcite:
    """Parts with a forward and a backward each, put together in a call."""

    def pool(self, x):
        size = x.shape[2] * x.shape[3]
        return x.mean(axis=3).mean(axis=2), lambda dz: np.repeat(dz / size, size).reshape(x.shape)

    def linear(self, x, w, b):
        return x @ w.T + b, lambda dy: (dy @ w, dy.T @ x, dy.sum(axis=0))

    def __call__(self, x, w1, b1, w2, b2):
        z, pool_back = self.pool(x)
        p, linear1_back = self.linear(z, w1, b1)
        q, linear2_back = self.linear(p * (p > 0), w2, b2)
        s = _sigmoid(q)
        backs = pool_back, linear1_back, linear2_back
        return x * s[..., None, None], partial(self.backward, x, p, s, *backs)

    def backward(self, x, p, s, pool_back, linear1_back, linear2_back, dy):
        ds = (x * dy).sum(axis=-1).sum(axis=-1)
        da, dw2, db2 = linear2_back(ds * (s * (1 - s)))
        dz, dw1, db1 = linear1_back(da * (p > 0))
        return pool_back(dz) + dy * s[..., None, None], dw1, db1, dw2, db2


squeeze_excite.register(name="object_of_parts")(SqueezeExcite())
