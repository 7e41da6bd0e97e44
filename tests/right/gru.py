"""Right ways of writing gated recurrent units over time."""

from functools import partial

import numpy as np

from gradverify import catalog

gru = catalog("gru")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _step(x, h, wx, wh, bx, bh):
    """Return one step's state and its pullback, from the cotangent to all six gradients."""
    H = h.shape[1]
    a, s = x @ wx.T + bx, h @ wh.T + bh
    rz = _sigmoid(a[:, : 2 * H] + s[:, : 2 * H])
    r, z, sg = rz[:, :H], rz[:, H:], s[:, 2 * H :]
    g = np.tanh(a[:, 2 * H :] + r * sg)

    def back(dout):
        dg = dout * (1 - z) * (1 - g * g)
        drz = np.concatenate([dg * sg, dout * (h - g)], axis=1) * rz * (1 - rz)
        da, ds = np.concatenate([drz, dg], axis=1), np.concatenate([drz, dg * r], axis=1)
        dh = dout * z + ds @ wh
        return da @ wx, dh, da.T @ x, ds.T @ h, da.sum(axis=0), ds.sum(axis=0)

    return (1 - z) * g + z * h, back


@gru.register
def gru_chain_of_pullbacks(x, h0, wx, wh, bx, bh):
    states, backs = [h0], []
    for row in x:
        state, back = _step(row, states[-1], wx, wh, bx, bh)
        states.append(state)
        backs.append(back)

    def pullback(dh):
        dx, carried = np.empty_like(x), np.zeros_like(h0)
        totals = [np.zeros_like(v) for v in (wx, wh, bx, bh)]
        for t in reversed(range(len(x))):
            dx[t], carried, *rest = backs[t](dh[t] + carried)
            for total, g in zip(totals, rest, strict=True):
                total += g
        return dx, carried, *totals

    return np.stack(states[1:]), pullback


@gru.register
def gru_recomputed_from_its_states(x, h0, wx, wh, bx, bh):
    """Of the forward only the states are kept: every gate is computed again."""
    h = np.empty((len(x), *h0.shape), x.dtype)
    for t in range(len(x)):
        h[t] = _step(x[t], h[t - 1] if t else h0, wx, wh, bx, bh)[0]
    kept = h.copy()

    def pullback(dh):
        grads = {k: np.zeros_like(v) for k, v in (("wx", wx), ("wh", wh), ("bx", bx), ("bh", bh))}
        dx, dstate = [], np.zeros_like(h0)
        for t in range(len(x) - 1, -1, -1):
            before = kept[t - 1] if t > 0 else h0
            _, back = _step(x[t], before, wx, wh, bx, bh)
            dxt, dstate, dwx, dwh, dbx, dbh = back(dstate + dh[t])
            dx.insert(0, dxt)
            for name, g in (("wx", dwx), ("wh", dwh), ("bx", dbx), ("bh", dbh)):
                grads[name] = grads[name] + g
        return grads | {"x": np.array(dx), "h0": dstate}

    return h, pullback


@gru.register
def gru_gates_on_an_axis(x, h0, wx, wh, bx, bh):
    T, (N, H) = len(x), h0.shape
    w3, u3 = wx.reshape(3, H, -1), wh.reshape(3, H, H)
    a = np.einsum("tnd,khd->tknh", x, w3) + bx.reshape(3, 1, H)
    h = np.concatenate([h0[None], np.empty((T, N, H), x.dtype)])
    r, z, g, sg = np.empty((4, T, N, H), x.dtype)
    for t in range(T):
        s = np.einsum("nm,khm->knh", h[t], u3) + bh.reshape(3, 1, H)
        r[t], z[t] = 1 / (1 + np.exp(-(a[t, :2] + s[:2])))
        sg[t] = s[2]
        g[t] = np.tanh(a[t, 2] + r[t] * sg[t])
        h[t + 1] = g[t] + z[t] * (h[t] - g[t])

    def pullback(dh):
        da, ds = np.empty((2, T, 3, N, H), x.dtype)
        back = np.zeros_like(h0)
        for t in range(T)[::-1]:
            dt = dh[t] + back
            da[t, 2] = dt * (1 - z[t]) * (1 - g[t] ** 2)
            da[t, 1] = dt * (h[t] - g[t]) * z[t] * (1 - z[t])
            da[t, 0] = da[t, 2] * sg[t] * r[t] * (1 - r[t])
            ds[t] = da[t]
            ds[t, 2] *= r[t]
            back = dt * z[t] + np.einsum("knh,khm->nm", ds[t], u3)
        return {
            "x": np.einsum("tknh,khd->tnd", da, w3),
            "h0": back,
            "wx": np.einsum("tknh,tnd->khd", da, x, optimize=True).reshape(wx.shape),
            "wh": np.einsum("tknh,tnm->khm", ds, h[:-1], optimize=True).reshape(wh.shape),
            "bx": np.einsum("tknh->kh", da).reshape(-1),
            "bh": np.einsum("tknh->kh", ds).reshape(-1),
        }

    return h[1:].copy(), pullback


@gru.register
def gru_weights_a_gate(x, h0, wx, wh, bx, bh):
    """Three matrices, biases and gradients by name."""
    T, H = len(x), h0.shape[1]
    cut = {"r": slice(0, H), "z": slice(H, 2 * H), "g": slice(2 * H, 3 * H)}
    w, u = {k: wx[i] for k, i in cut.items()}, {k: wh[i] for k, i in cut.items()}
    b, d = {k: bx[i] for k, i in cut.items()}, {k: bh[i] for k, i in cut.items()}
    state, steps, h = h0, [], np.empty((T, *h0.shape), x.dtype)
    for t in range(T):
        r, z = (_sigmoid(x[t] @ w[k].T + b[k] + state @ u[k].T + d[k]) for k in "rz")
        inner = state @ u["g"].T + d["g"]
        g = np.tanh(x[t] @ w["g"].T + b["g"] + r * inner)
        steps.append((state, r, z, g, inner))
        state = h[t] = z * state + (1 - z) * g

    def pullback(dh):
        dx, carried = np.zeros_like(x), np.zeros_like(h0)
        dwx, dwh, dbx, dbh = (np.zeros_like(v) for v in (wx, wh, bx, bh))
        for t, (before, r, z, g, inner) in reversed(list(enumerate(steps))):
            dt = dh[t] + carried
            da = {"g": dt * (1 - z) * (1 - g * g), "z": dt * (before - g) * z * (1 - z)}
            da["r"] = da["g"] * inner * r * (1 - r)
            carried = dt * z
            for k, i in cut.items():
                ds = da[k] * r if k == "g" else da[k]
                dwx[i] += da[k].T @ x[t]
                dwh[i] += ds.T @ before
                dbx[i] += da[k].sum(axis=0)
                dbh[i] += ds.sum(axis=0)
                dx[t] += da[k] @ w[k]
                carried = carried + ds @ u[k]
        return {"x": dx, "h0": carried, "wx": dwx, "wh": dwh, "bx": dbx, "bh": dbh}

    return h, pullback


@gru.register
def gru_sample_by_sample(x, h0, wx, wh, bx, bh):
    """Each sequence of the batch on its own, through the steps of a batch of one."""
    N = x.shape[1]
    runs = [
        gru_chain_of_pullbacks(x[:, n : n + 1], h0[n : n + 1], wx, wh, bx, bh) for n in range(N)
    ]

    def pullback(dh):
        parts = [back(dh[:, n : n + 1]) for n, (_, back) in enumerate(runs)]
        dx, dh0, *rest = zip(*parts, strict=True)
        sums = (np.sum(np.stack(g), axis=0) for g in rest)
        return np.concatenate(dx, axis=1), np.concatenate(dh0), *sums

    return np.concatenate([h for h, _ in runs], axis=1), pullback


class GRU:
    """Buffers for all steps at once; the slopes are made in the forward."""

    def __call__(self, x, h0, wx, wh, bx, bh):
        H = h0.shape[1]
        a = np.tensordot(x, wx, axes=(2, 1)) + bx
        h, slopes, before = np.zeros_like(a[..., :H]), [], [h0]
        for t, at in enumerate(a):
            s = np.dot(before[-1], wh.T) + bh
            r, z = np.split(0.5 + 0.5 * np.tanh(0.5 * (at + s)[:, : 2 * H]), 2, axis=1)
            g = np.tanh(at[:, 2 * H :] + r * s[:, 2 * H :])
            h[t] = g - z * g + z * before[-1]
            to_g = (1 - z) * (1 - g * g)
            to_r = to_g * s[:, 2 * H :] * r * (1 - r)
            slopes.append((to_r, (before[-1] - g) * z * (1 - z), to_g, to_g * r, z))
            before.append(h[t].copy())
        return h, partial(self.backward, x, wx, wh, np.stack(before[:-1]), slopes)

    @staticmethod
    def backward(x, wx, wh, before, slopes, dh):
        da, ds = [None] * len(x), [None] * len(x)
        later = 0
        for t in reversed(range(len(x))):
            to_r, to_z, to_g, to_s, z = slopes[t]
            dt = dh[t] + later
            da[t], ds[t] = (
                np.hstack([dt * to_r, dt * to_z, dt * to_g]),
                np.hstack([dt * to_r, dt * to_z, dt * to_s]),
            )
            later = dt * z + ds[t] @ wh
        da, ds = np.stack(da), np.stack(ds)
        rows_a, rows_s = (v.reshape(-1, v.shape[2]) for v in (da, ds))
        dwx = rows_a.T @ x.reshape(len(rows_a), -1)
        dwh = rows_s.T @ before.reshape(len(rows_s), -1)
        return da @ wx, later, dwx, dwh, rows_a.sum(axis=0), rows_s.sum(axis=0)


gru.register(name="gru_object_with_call")(GRU())
