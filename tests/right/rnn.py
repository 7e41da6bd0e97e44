"""Right ways of writing a simple recurrent network over time."""

from functools import partial, reduce

import numpy as np

from gradverify import catalog

rnn = catalog("rnn")


@rnn.register
def accumulated_step_by_step(x, h0, wx, wh, b):
    T, N, H = len(x), *h0.shape
    h = np.zeros((T, N, H), x.dtype)
    previous = h0
    for t in range(T):
        h[t] = np.tanh(x[t].dot(wx.T) + previous.dot(wh.T) + b)
        previous = h[t]

    def pullback(dh):
        dx, dwx, dwh, db = (np.zeros_like(v) for v in (x, wx, wh, b))
        dprevious = np.zeros_like(h0)
        for t in range(T - 1, -1, -1):
            before = h[t - 1] if t > 0 else h0
            dz = (dh[t] + dprevious) * (1 - h[t] * h[t])
            dx[t] = dz.dot(wx)
            dprevious = dz.dot(wh)
            dwx += dz.T.dot(x[t])
            dwh += dz.T.dot(before)
            db += dz.sum(axis=0)
        return {"x": dx, "h0": dprevious, "wx": dwx, "wh": dwh, "b": db}

    return h, pullback


@rnn.register
def einsum(x, h0, wx, wh, b):
    states = [h0]
    driven = np.einsum("tnd,kd->tnk", x, wx) + b
    for z in driven:
        states.append(np.tanh(z + np.einsum("nm,km->nk", states[-1], wh)))
    h = np.stack(states)

    def pullback(dh):
        dz = [None] * len(x)
        back = np.zeros_like(h0)
        for t, after in reversed(list(enumerate(states[1:]))):
            dz[t] = np.einsum("nk,nk->nk", dh[t] + back, 1 - np.square(after))
            back = np.einsum("nk,km->nm", dz[t], wh)
        dz = np.stack(dz)
        return (
            np.einsum("tnk,kd->tnd", dz, wx),
            back,
            np.einsum("tnk,tnd->kd", dz, x),
            np.einsum("tnk,tnm->km", dz, h[:-1]),
            np.einsum("tnk->k", dz),
        )

    return h[1:].copy(), pullback


@rnn.register
def one_matrix_with_bias_column(x, h0, wx, wh, b):
    D, H = x.shape[2], h0.shape[1]
    weights = np.concatenate([wx, wh, b[:, None]], axis=1)
    ones = np.ones_like(h0[:, :1])
    inputs, h = [], np.empty((len(x), *h0.shape), x.dtype)
    state = h0
    for t, row in enumerate(x):
        inputs.append(np.concatenate([row, state, ones], axis=1))
        state = h[t] = np.tanh(inputs[-1] @ weights.T)

    def pullback(dh):
        dx, dweights, dstate = np.empty_like(x), np.zeros_like(weights), np.zeros_like(h0)
        for t in reversed(range(len(x))):
            dz = (dh[t] + dstate) * (1 - h[t]) * (1 + h[t])
            dinput = dz @ weights
            dx[t], dstate = dinput[:, :D], dinput[:, D : D + H]
            dweights += dz.T @ inputs[t]
        dwx, dwh, db = np.split(dweights, [D, D + H], axis=1)
        return dx, dstate.copy(), dwx.copy(), dwh.copy(), db[:, 0].copy()

    return h, pullback


@rnn.register
def sample_by_sample(x, h0, wx, wh, b):
    h = np.empty((x.shape[0], *h0.shape), x.dtype)
    for n, state in enumerate(h0):
        for t in range(len(x)):
            state = h[t, n] = np.tanh(wx @ x[t, n] + wh @ state + b)

    def pullback(dh):
        dx, dh0, dwx, dwh, db = (np.zeros_like(v) for v in (x, h0, wx, wh, b))
        for n in range(len(h0)):
            back = dh0[n]
            for t in range(len(x) - 1, -1, -1):
                dz = (dh[t, n] + back) * (1 - h[t, n] ** 2)
                dx[t, n], back = wx.T @ dz, wh.T @ dz
                dwx += np.outer(dz, x[t, n])
                dwh += np.outer(dz, h0[n] if t == 0 else h[t - 1, n])
                db += dz
            dh0[n] = back
        return {"x": dx, "h0": dh0, "wx": dwx, "wh": dwh, "b": db}

    return h, pullback


@rnn.register
def forward_again_from_h0(x, h0, wx, wh, b):
    """Nothing is kept: the pullback runs the forward anew."""

    def states():
        def step(found, row):
            return [*found, np.tanh(row @ wx.T + found[-1] @ wh.T + b)]

        return reduce(step, x, [h0])

    def pullback(dh):
        h = states()
        dz, after = np.empty((len(x), *h0.shape), x.dtype), np.zeros_like(h0)
        for t in reversed(range(len(x))):
            total = dh[t] + after
            dz[t] = total - total * h[t + 1] ** 2
            after = dz[t] @ wh
        flat, before = dz.reshape(-1, len(b)), np.concatenate(h[:-1])
        dwx = flat.T @ x.reshape(-1, x.shape[2])
        return [dz @ wx, after, dwx, flat.T @ before, flat.sum(axis=0)]

    return np.stack(states()[1:]), pullback


@rnn.register
def transition_matrices(x, h0, wx, wh, b):
    """Each state's Jacobian to the next as a matrix, per step and sample [N H H]."""
    T = len(x)
    h = np.concatenate([h0[None], np.zeros((T, *h0.shape), x.dtype)])
    for t in range(T):
        h[t + 1] = np.tanh(x[t] @ wx.T + h[t] @ wh.T + b)
    slope = 1 - h[1:] ** 2
    jacobians = slope[..., None] * wh

    def pullback(dh):
        dstate = np.empty_like(h)
        dstate[T] = 0
        for t in range(T, 0, -1):
            total = dh[t - 1] + dstate[t]
            dstate[t] = total
            dstate[t - 1] = (total[:, None, :] @ jacobians[t - 1])[:, 0]
        dz = dstate[1:] * slope
        dwx = np.tensordot(dz, x, axes=((0, 1), (0, 1)))
        dwh = np.tensordot(dz, h[:-1], axes=((0, 1), (0, 1)))
        return dz @ wx, dstate[0].copy(), dwx, dwh, dz.sum(axis=1).sum(axis=0)

    return h[1:].copy(), pullback


class Cell:
    """One step, with a backward of its own; a step's backward adds to the totals given to it."""

    def __init__(self, wx, wh, b):
        self.wx, self.wh, self.b = wx, wh, b

    def __call__(self, x, h):
        after = np.tanh(x @ self.wx.T + h @ self.wh.T + self.b)
        return after, partial(self.backward, x, h, after)

    def backward(self, x, h, after, dafter, totals):
        dz = dafter * (1 - after * after)
        for total, part in zip(totals, (dz.T @ x, dz.T @ h, dz.sum(axis=0)), strict=True):
            total += part
        return dz @ self.wx, dz @ self.wh


@rnn.register
def stack_of_cell_pullbacks(x, h0, wx, wh, b):
    cell, backs, states = Cell(wx, wh, b), [], [h0]
    for row in x:
        state, back = cell(row, states[-1])
        states.append(state)
        backs.append(back)

    def pullback(dh):
        totals = [np.zeros_like(v) for v in (wx, wh, b)]
        dx, dstate = [], np.zeros_like(h0)
        for back, g in zip(reversed(backs), dh[::-1], strict=True):
            drow, dstate = back(g + dstate, totals)
            dx.append(drow)
        return (np.stack(dx[::-1]), dstate, *totals)

    return np.array(states[1:]), pullback
