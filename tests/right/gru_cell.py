"""Right ways of writing one step of a gated recurrent unit."""

from functools import partial

import numpy as np

from gradverify import catalog

gru_cell = catalog("gru_cell")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _by_tanh(z):
    return 0.5 * (np.tanh(0.5 * z) + 1)


@gru_cell.register
def gru_cell_gates_separately(x, h, wx, wh, bx, bh):
    H = h.shape[1]
    parts = [slice(k * H, (k + 1) * H) for k in range(3)]
    ar, az, ag = (x @ wx[i].T + bx[i] for i in parts)
    sr, sz, sg = (h @ wh[i].T + bh[i] for i in parts)
    r, z = _by_tanh(ar + sr), _by_tanh(az + sz)
    g = np.tanh(ag + r * sg)

    def pullback(dout):
        dz, dg, dh = dout * (h - g), dout * (1 - z), dout * z
        dag = dg * (1 - g * g)
        dr, dsg = dag * sg, dag * r
        dar, daz = dr * r * (1 - r), dz * z * (1 - z)
        dx = np.zeros_like(x)
        for da, ds, i in zip((dar, daz, dag), (dar, daz, dsg), parts, strict=True):
            dx += da @ wx[i]
            dh = dh + ds @ wh[i]
        da, ds = np.hstack([dar, daz, dag]), np.hstack([dar, daz, dsg])
        return dx, dh, da.T @ x, ds.T @ h, da.sum(axis=0), ds.sum(axis=0)

    return (1 - z) * g + z * h, pullback


@gru_cell.register
def gru_cell_gates_on_an_axis(x, h, wx, wh, bx, bh):
    D, H = x.shape[1], h.shape[1]
    w3, u3 = wx.reshape(3, H, D), wh.reshape(3, H, H)
    a = np.einsum("nd,khd->knh", x, w3) + bx.reshape(3, 1, H)
    s = np.einsum("nm,khm->knh", h, u3) + bh.reshape(3, 1, H)
    r, z = _sigmoid(a[:2] + s[:2])
    g = np.tanh(a[2] + r * s[2])

    def pullback(dout):
        da = np.empty_like(a)
        da[2] = dout * (1 - z) * (1 - g) * (1 + g)
        da[1] = dout * (h - g) * z * (1 - z)
        da[0] = da[2] * s[2] * r * (1 - r)
        ds = da.copy()
        ds[2] *= r
        return {
            "x": np.einsum("knh,khd->nd", da, w3),
            "h": np.einsum("knh,khm->nm", ds, u3) + z * dout,
            "wx": np.einsum("knh,nd->khd", da, x).reshape(wx.shape),
            "wh": np.einsum("knh,nm->khm", ds, h).reshape(wh.shape),
            "bx": da.sum(axis=1).reshape(-1),
            "bh": ds.sum(axis=1).reshape(-1),
        }

    return g + z * (h - g), pullback


@gru_cell.register
def gru_cell_one_matrix_for_both_inputs(x, h, wx, wh, bx, bh):
    """r and z read x and h by one product; the candidate's two halves stay apart."""
    D, H = x.shape[1], h.shape[1]
    xh = np.concatenate([x, h], axis=1)
    wide = np.concatenate([wx[: 2 * H], wh[: 2 * H]], axis=1)
    rz = _sigmoid(xh @ wide.T + (bx + bh)[: 2 * H])
    r, z = rz[:, :H], rz[:, H:]
    sg = h @ wh[2 * H :].T + bh[2 * H :]
    g = np.tanh(x @ wx[2 * H :].T + bx[2 * H :] + r * sg)

    def pullback(dout):
        dg = dout * (1 - z) * (1 - g**2)
        drz = np.concatenate([dg * sg, dout * (h - g)], axis=1) * rz * (1 - rz)
        dxh, dwide, dboth = drz @ wide, drz.T @ xh, drz.sum(axis=0)
        dsg = dg * r
        return {
            "bh": np.concatenate([dboth, dsg.sum(axis=0)]),
            "bx": np.concatenate([dboth, dg.sum(axis=0)]),
            "wh": np.concatenate([dwide[:, D:], dsg.T @ h]),
            "wx": np.concatenate([dwide[:, :D], dg.T @ x]),
            "h": dxh[:, D:] + dsg @ wh[2 * H :] + dout * z,
            "x": dxh[:, :D] + dg @ wx[2 * H :],
        }

    return h * z + g * (1 - z), pullback


@gru_cell.register
def gru_cell_loop_over_samples(x, h, wx, wh, bx, bh):
    H = h.shape[1]

    def step(n):
        a, s = wx @ x[n] + bx, wh @ h[n] + bh
        r, z = _sigmoid(a[:H] + s[:H]), _sigmoid(a[H : 2 * H] + s[H : 2 * H])
        return r, z, np.tanh(a[2 * H :] + r * s[2 * H :]), s[2 * H :]

    def forward(n):
        _, z, g, _ = step(n)
        return (1 - z) * g + z * h[n]

    def pullback(dout):
        """Recompute each step."""
        grads = [np.zeros_like(v) for v in (x, h, wx, wh, bx, bh)]
        dx, dh, dwx, dwh, dbx, dbh = grads
        for n in range(len(x)):
            r, z, g, sg = step(n)
            dag = dout[n] * (1 - z) * (1 - g * g)
            daz = dout[n] * (h[n] - g) * z * (1 - z)
            dar = dag * sg * r * (1 - r)
            da, ds = np.concatenate([dar, daz, dag]), np.concatenate([dar, daz, dag * r])
            dx[n] = da @ wx
            dh[n] = ds @ wh + z * dout[n]
            dwx += np.outer(da, x[n])
            dwh += np.outer(ds, h[n])
            dbx += da
            dbh += ds
        return grads

    return np.stack([forward(n) for n in range(len(x))]), pullback


@gru_cell.register
def gru_cell_staged(x, h, wx, wh, bx, bh):
    """Each line of the forward has its line in the backward, in reverse."""
    H = h.shape[1]
    a, s = x.dot(wx.T) + bx, h.dot(wh.T) + bh
    ar, az, ag = a[:, :H], a[:, H : 2 * H], a[:, 2 * H :]
    sr, sz, sg = s[:, :H], s[:, H : 2 * H], s[:, 2 * H :]
    r = 1 / (1 + np.exp(-(ar + sr)))
    z = 1 / (1 + np.exp(-(az + sz)))
    scaled = r * sg
    g = np.tanh(ag + scaled)
    keep, new = z * h, (1 - z) * g

    def pullback(dout):
        dkeep = dnew = dout
        dz, dg = -dnew * g, dnew * (1 - z)
        dz, dh = dz + dkeep * h, dkeep * z
        da, ds = np.zeros_like(a), np.zeros_like(s)
        dpre = dg * (1 - g**2)
        da[:, 2 * H :] += dpre
        dscaled = dpre
        dr = dscaled * sg
        ds[:, 2 * H :] += dscaled * r
        dpre_z, dpre_r = dz * z * (1 - z), dr * r * (1 - r)
        for wide in (da, ds):
            wide[:, H : 2 * H] += dpre_z
            wide[:, :H] += dpre_r
        dh = dh + ds.dot(wh)
        return da.dot(wx), dh, da.T.dot(x), ds.T.dot(h), np.sum(da, axis=0), np.sum(ds, axis=0)

    return keep + new, pullback


class GRUCell:
    """An object that holds its activations and keeps a context for each call."""

    def __init__(self, gate, candidate):
        self.gate, self.candidate = gate, candidate

    def __call__(self, x, h, wx, wh, bx, bh):
        (ar, az, ag), (sr, sz, sg) = (
            np.moveaxis((v @ w.T + b).reshape(len(v), 3, -1), 1, 0)
            for v, w, b in ((x, wx, bx), (h, wh, bh))
        )
        r, z = self.gate(ar + sr), self.gate(az + sz)
        g = self.candidate(ag + r * sg)
        ctx = {"x": x, "h": h, "wx": wx, "wh": wh, "r": r, "z": z, "g": g, "sg": sg}
        return z * h - (z - 1) * g, partial(self.backward, ctx)

    @staticmethod
    def backward(ctx, dout):
        x, h, r, z, g = (ctx[k] for k in ("x", "h", "r", "z", "g"))
        dg = dout * (1 - z) * (1 - g * g)
        dr, dz = dg * ctx["sg"] * (r - r * r), dout * (h - g) * (z - z * z)
        da = np.stack([dr, dz, dg], axis=1).reshape(len(x), -1)
        ds = np.stack([dr, dz, r * dg], axis=1).reshape(len(x), -1)
        dh = np.matmul(ds, ctx["wh"])
        dh += dout * z
        return np.matmul(da, ctx["wx"]), dh, da.T @ x, ds.T @ h, da.sum(0), ds.sum(0)


gru_cell.register(name="gru_cell_object_with_call")(GRUCell(_sigmoid, np.tanh))
