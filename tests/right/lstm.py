"""Right ways of writing an LSTM over time."""

from functools import partial

import numpy as np

from gradverify import catalog

lstm = catalog("lstm")


def _sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _step(x, h, c, wx, wh, b):
    """Return the next h and c, and what the backward of the step needs."""
    H = h.shape[1]
    z = x @ wx.T + h @ wh.T + b
    i, f, o = (_sigmoid(z[:, k * H : (k + 1) * H]) for k in (0, 1, 3))
    g = np.tanh(z[:, 2 * H : 3 * H])
    after = f * c + i * g
    return o * np.tanh(after), after, (x, h, c, i, f, g, o, after)


def _step_back(kept, dh, dc):
    """Return the cotangents of a step's z and c."""
    _, _, c, i, f, g, o, after = kept
    t = np.tanh(after)
    dc = dc + dh * o * (1 - t * t)
    dz = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)]
    return np.concatenate(dz, axis=1), dc * f


@lstm.register
def cell_after_cell(x, h0, c0, cell_wx, cell_wh, cell_b):
    T = len(x)
    h, c, kept = [h0], [c0], []
    for t in range(T):
        h_next, c_next, saved = _step(x[t], h[t], c[t], cell_wx, cell_wh, cell_b)
        h.append(h_next)
        c.append(c_next)
        kept.append(saved)

    def pullback(dh, dc):
        dx, dwx, dwh, db = (np.zeros_like(v) for v in (x, cell_wx, cell_wh, cell_b))
        dh_next, dc_next = np.zeros_like(h0), np.zeros_like(c0)
        for t in range(T - 1, -1, -1):
            dz, dc_next = _step_back(kept[t], dh[t] + dh_next, dc[t] + dc_next)
            dx[t] = dz @ cell_wx
            dh_next = dz @ cell_wh
            dwx += dz.T @ x[t]
            dwh += dz.T @ h[t]
            db += dz.sum(axis=0)
        return {"x": dx, "h0": dh_next, "c0": dc_next,
                "cell_wx": dwx, "cell_wh": dwh, "cell_b": db}  # fmt: skip

    return (np.stack(h[1:]), np.stack(c[1:])), pullback


@lstm.register
def steps_recomputed(x, h0, c0, cell_wx, cell_wh, cell_b):
    """Only the states are kept: each step of the pullback runs its step of the forward anew."""
    h, c = (np.empty((len(x), *h0.shape), x.dtype) for _ in range(2))
    state = h0, c0
    for t, row in enumerate(x):
        h[t], c[t], _ = _step(row, *state, cell_wx, cell_wh, cell_b)
        state = h[t], c[t]
    states_h, states_c = np.concatenate([h0[None], h]), np.concatenate([c0[None], c])

    def pullback(dh, dc):
        dz, back = [], (np.zeros_like(h0), np.zeros_like(c0))
        for t in reversed(range(len(x))):
            *_, kept = _step(x[t], states_h[t], states_c[t], cell_wx, cell_wh, cell_b)
            dz_t, dc_t = _step_back(kept, dh[t] + back[0], dc[t] + back[1])
            back = dz_t @ cell_wh, dc_t
            dz.insert(0, dz_t)
        flat = np.concatenate(dz)
        dwx = flat.T @ x.reshape(-1, x.shape[2])
        dwh = flat.T @ np.concatenate(list(states_h[:-1]))
        return np.stack(dz) @ cell_wx, *back, dwx, dwh, flat.sum(axis=0)

    return (h, c), pullback


@lstm.register
def one_matrix_with_bias_column(x, h0, c0, cell_wx, cell_wh, cell_b):
    T, N, D = x.shape
    H = h0.shape[1]
    weights = np.concatenate([cell_wx, cell_wh, cell_b[:, None]], axis=1)
    inputs = np.ones((T + 1, N, D + H + 1), x.dtype)
    inputs[:T, :, :D], inputs[0, :, D:-1] = x, h0
    c, gates = np.concatenate([c0[None], np.empty((T, N, H), x.dtype)]), []
    for t in range(T):
        z = (inputs[t] @ weights.T).reshape(N, 4, H)
        s = _sigmoid(z)
        s[:, 2] = np.tanh(z[:, 2])
        gates.append(s)
        c[t + 1] = s[:, 1] * c[t] + s[:, 0] * s[:, 2]
        inputs[t + 1, :, D:-1] = s[:, 3] * np.tanh(c[t + 1])

    def pullback(dh, dc):
        dx, dweights = np.empty_like(x), np.zeros_like(weights)
        dh_next, dc_next = np.zeros_like(h0), np.zeros_like(c0)
        for t in reversed(range(T)):
            s, tanh_c = gates[t], np.tanh(c[t + 1])
            slope = s - s * s
            slope[:, 2] = 1 - s[:, 2] ** 2
            dh_t = dh[t] + dh_next
            dc_t = dh_t * s[:, 3] * (1 - tanh_c**2) + dc[t] + dc_next
            dgates = np.stack([dc_t * s[:, 2], dc_t * c[t], dc_t * s[:, 0], dh_t * tanh_c], axis=1)
            dz = (dgates * slope).reshape(N, 4 * H)
            dinputs = dz @ weights
            dx[t], dh_next, dc_next = dinputs[:, :D], dinputs[:, D:-1], dc_t * s[:, 1]
            dweights += dz.T @ inputs[t]
        dwx, dwh, db = np.split(dweights, [D, D + H], axis=1)
        return dx, dh_next.copy(), dc_next, dwx.copy(), dwh.copy(), db[:, 0].copy()

    return (inputs[1:, :, D:-1].copy(), c[1:].copy()), pullback


@lstm.register
def einsum(x, h0, c0, cell_wx, cell_wh, cell_b):
    H = h0.shape[1]
    wx, wh = cell_wx.reshape(4, H, -1), cell_wh.reshape(4, H, H)
    driven = np.einsum("tnd,kud->tknu", x, wx) + cell_b.reshape(4, 1, H)
    h, c, gates = [h0], [c0], []
    for z in driven:
        z = z + np.einsum("nm,kum->knu", h[-1], wh)
        gates.append((_sigmoid(z[0]), _sigmoid(z[1]), np.tanh(z[2]), _sigmoid(z[3])))
        i, f, g, o = gates[-1]
        c.append(f * c[-1] + i * g)
        h.append(o * np.tanh(c[-1]))

    def pullback(dh, dc):
        dz = np.empty_like(driven)
        dh_t, dc_t = np.zeros_like(h0), np.zeros_like(c0)
        for t in reversed(range(len(x))):
            (i, f, g, o), tanh_c = gates[t], np.tanh(c[t + 1])
            dh_t = dh_t + dh[t]
            dc_t = dc_t + dc[t] + np.einsum("nu,nu,nu->nu", dh_t, o, 1 - tanh_c * tanh_c)
            dz[t, 0] = np.einsum("nu,nu,nu,nu->nu", dc_t, g, i, 1 - i)
            dz[t, 1] = np.einsum("nu,nu,nu,nu->nu", dc_t, c[t], f, 1 - f)
            dz[t, 2] = np.einsum("nu,nu,nu,nu->nu", dc_t, i, 1 - g, 1 + g)
            dz[t, 3] = np.einsum("nu,nu,nu,nu->nu", dh_t, tanh_c, o, 1 - o)
            dh_t, dc_t = np.einsum("knu,kum->nm", dz[t], wh), dc_t * f
        return {
            "x": np.einsum("tknu,kud->tnd", dz, wx),
            "h0": dh_t,
            "c0": dc_t,
            "cell_wx": np.einsum("tknu,tnd->kud", dz, x).reshape(cell_wx.shape),
            "cell_wh": np.einsum("tknu,tnm->kum", dz, np.stack(h[:-1])).reshape(cell_wh.shape),
            "cell_b": np.einsum("tknu->ku", dz).reshape(cell_b.shape),
        }

    return (np.stack(h[1:]), np.stack(c[1:])), pullback


@lstm.register
def gates_separately(x, h0, c0, cell_wx, cell_wh, cell_b):
    """Weights per gate, and sigmoid(z) = (1 + tanh(z/2))/2."""
    wx, wh, b = (np.split(p, 4) for p in (cell_wx, cell_wh, cell_b))
    h, c, kept = h0, c0, []
    hs, cs = [], []
    for row in x:
        i, f, g, o = (row @ u.T + h @ v.T + d for u, v, d in zip(wx, wh, b, strict=True))
        i, f, o = (0.5 * (1 + np.tanh(0.5 * gate)) for gate in (i, f, o))
        g = np.tanh(g)
        before = h, c
        c = c * f + g * i
        tanh_c = np.tanh(c)
        h = tanh_c * o
        kept.append((row, *before, i, f, g, o, tanh_c))
        hs.append(h)
        cs.append(c)

    def pullback(dhs, dcs):
        dwx, dwh, db = ([np.zeros_like(p) for p in group] for group in (wx, wh, b))
        dx, dh, dc = [], np.zeros_like(h0), np.zeros_like(c0)
        for t in range(len(x) - 1, -1, -1):
            row, h, c, i, f, g, o, tanh_c = kept[t]
            dh = dh + dhs[t]
            dc = dc + dcs[t] + dh * o * (1 - tanh_c) * (1 + tanh_c)
            dzs = (dc * g * (i - i**2), dc * c * (f - f**2), dc * i * (1 - g**2),
                   dh * tanh_c * (o - o**2))  # fmt: skip
            for k, dz in enumerate(dzs):
                dwx[k] += dz.T @ row
                dwh[k] += dz.T @ h
                db[k] += dz.sum(axis=0)
            dx.append(sum(dz @ u for dz, u in zip(dzs, wx, strict=True)))
            dh, dc = sum(dz @ v for dz, v in zip(dzs, wh, strict=True)), dc * f
        weights = (np.concatenate(group) for group in (dwx, dwh, db))
        return (np.stack(dx[::-1]), dh, dc, *weights)

    return (np.array(hs), np.array(cs)), pullback


@lstm.register
def recursion_over_time(x, h0, c0, cell_wx, cell_wh, cell_b):
    """Recursion instead of a loop: the first step, then the same of the rest."""
    h, c, kept = _step(x[0], h0, c0, cell_wx, cell_wh, cell_b)
    if len(x) > 1:
        (h_rest, c_rest), rest = recursion_over_time(x[1:], h, c, cell_wx, cell_wh, cell_b)
    else:
        h_rest = c_rest = np.empty((0, *h.shape), x.dtype)

    def pullback(dh, dc):
        dh1, dc1, later = dh[0], dc[0], None
        if len(x) > 1:
            later = rest(dh[1:], dc[1:])
            dh1, dc1 = dh1 + later[1], dc1 + later[2]
        dz, dc0 = _step_back(kept, dh1, dc1)
        own = dz @ cell_wx, dz @ cell_wh, dc0, dz.T @ x[0], dz.T @ h0, dz.sum(axis=0)
        if later is None:
            return (own[0][None], *own[1:])
        weights = (mine + theirs for mine, theirs in zip(own[3:], later[3:], strict=True))
        return np.concatenate([own[0][None], later[0]]), own[1], own[2], *weights

    return (np.concatenate([h[None], h_rest]), np.concatenate([c[None], c_rest])), pullback


@lstm.register
def sample_by_sample(x, h0, c0, cell_wx, cell_wh, cell_b):
    samples = [slice(n, n + 1) for n in range(len(h0))]
    runs = [recursion_over_time(x[:, s], h0[s], c0[s], cell_wx, cell_wh, cell_b) for s in samples]

    def pullback(dh, dc):
        parts = [back(dh[:, s], dc[:, s]) for s, (_, back) in zip(samples, runs, strict=True)]
        dx, dh0, dc0, *weights = zip(*parts, strict=True)
        totals = (np.sum(np.stack(w), axis=0) for w in weights)
        return [np.concatenate(dx, axis=1), np.concatenate(dh0), np.concatenate(dc0), *totals]

    outputs = zip(*(outputs for outputs, _ in runs), strict=True)
    return tuple(np.concatenate(y, axis=1) for y in outputs), pullback


class Lstm:
    """A callable object whose tape of a call is bound to that call's backward."""

    def __init__(self, step, step_back):
        self.step, self.step_back = step, step_back

    def __call__(self, x, h0, c0, cell_wx, cell_wh, cell_b):
        tape, h, c = [], h0, c0
        outputs = np.empty((2, len(x), *h0.shape), x.dtype)
        for t in range(len(x)):
            h, c, kept = self.step(x[t], h, c, cell_wx, cell_wh, cell_b)
            tape.append(kept)
            outputs[:, t] = h, c
        return (outputs[0], outputs[1]), partial(self.backward, tape, cell_wx, cell_wh)

    def backward(self, tape, wx, wh, dh, dc):
        grads, dx = None, []
        dh_t, dc_t = np.zeros_like(dh[0]), np.zeros_like(dc[0])
        for kept, *given in reversed(list(zip(tape, dh, dc, strict=True))):
            dz, dc_t = self.step_back(kept, dh_t + given[0], dc_t + given[1])
            dh_t = dz @ wh
            dx.append(dz @ wx)
            own = [dz.T @ kept[0], dz.T @ kept[1], np.add.reduce(dz)]
            grads = own if grads is None else [p + q for p, q in zip(grads, own, strict=True)]
        return (np.stack(dx[::-1]), dh_t, dc_t, *grads)


lstm.register(name="object_with_tape")(Lstm(_step, _step_back))
