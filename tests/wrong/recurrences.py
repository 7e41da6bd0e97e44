"""Wrong recurrent networks over time and one step of a GRU; named as elsewhere in this folder."""

import numpy as np

from gradverify.loading import catalogue_folder, load

LAYERS = [load(catalogue_folder() / f"{name}.py")[0] for name in ("rnn", "gru", "gru_cell")]
rnn, gru, gru_cell = (layer.spec for layer in LAYERS)
right_rnn, right_gru, right_cell = (layer.function for layer in LAYERS)


def backwards(h, h0, wh, dh, *, carried=1):
    """Return the cotangents of what the tanh of an RNN is taken of, and that of h0."""
    dz, dstate = np.empty_like(h), np.zeros_like(h0)
    for t in reversed(range(len(h))):
        dz[t] = (dh[t] + carried * dstate) * (1 - h[t] ** 2)
        dstate = dz[t] @ wh
    return dz, dstate


@rnn.register
def dwh_of_rnn_without_the_first_step(x, h0, wx, wh, b):
    """Summed over T-1 pairs of states, as if h0 were always zero."""
    h, pullback = right_rnn(x, h0, wx, wh, b)

    def wrong(dh):
        dz, _ = backwards(h, h0, wh, dh)
        return pullback(dh) | {"wh": np.tensordot(dz[1:], h[:-1], axes=((0, 1), (0, 1)))}

    return h, wrong


@rnn.register
def dwh_of_rnn_with_the_state_after_the_step(x, h0, wx, wh, b):
    h, pullback = right_rnn(x, h0, wx, wh, b)

    def wrong(dh):
        dz, _ = backwards(h, h0, wh, dh)
        return pullback(dh) | {"wh": np.tensordot(dz, h, axes=((0, 1), (0, 1)))}

    return h, wrong


@rnn.register
def dwx_of_rnn_truncated_after_one_step(x, h0, wx, wh, b):
    """Nothing comes back from the next step."""
    h, pullback = right_rnn(x, h0, wx, wh, b)

    def wrong(dh):
        dz, _ = backwards(h, h0, wh, dh, carried=0)
        return pullback(dh) | {"wx": np.tensordot(dz, x, axes=((0, 1), (0, 1)))}

    return h, wrong


@rnn.register
def dh0_of_rnn_forgotten(x, h0, wx, wh, b):
    h, pullback = right_rnn(x, h0, wx, wh, b)
    return h, lambda dh: pullback(dh) | {"h0": np.zeros_like(h0)}


@rnn.register
def dh0_of_rnn_transposed(x, h0, wx, wh, b):
    h, pullback = right_rnn(x, h0, wx, wh, b)

    def wrong(dh):
        dz, _ = backwards(h, h0, wh, dh)
        return pullback(dh) | {"h0": dz[0] @ wh.T}

    return h, wrong


@gru.register
def dbh_of_gru_as_the_other_bias(x, h0, wx, wh, bx, bh):
    """Right for both gates; the candidate's part is not scaled by r."""
    h, pullback = right_gru(x, h0, wx, wh, bx, bh)
    return h, lambda dh: pullback(dh) | {"bh": pullback(dh)["bx"].copy()}


@gru.register
def dwx_of_gru_from_the_last_state(x, h0, wx, wh, bx, bh):
    """Right where only the last state is used, as in most networks."""
    h, pullback = right_gru(x, h0, wx, wh, bx, bh)

    def wrong(dh):
        last = np.zeros_like(dh)
        last[-1] = dh[-1]
        return pullback(dh) | {"wx": pullback(last)["wx"]}

    return h, wrong


@gru.register
def dh0_of_gru_without_what_z_lets_through(x, h0, wx, wh, bx, bh):
    """h0 reaches the first state through the gates only."""
    h, pullback = right_gru(x, h0, wx, wh, bx, bh)
    _, later_pullback = right_gru(x[1:], h[0], wx, wh, bx, bh)
    _, first = right_cell(x[0], h0, wx, wh, bx, bh)
    H = h0.shape[1]
    z = 0.5 + 0.5 * np.tanh(0.5 * (x[0] @ wx.T + bx + h0 @ wh.T + bh)[:, H : 2 * H])

    def wrong(dh):
        dh_first = dh[0] + later_pullback(dh[1:])["h0"]
        return pullback(dh) | {"h0": first(dh_first)["h"] - dh_first * z}

    return h, wrong


@gru_cell.register
def h_next_of_gru_cell_with_z_the_other_way(x, h, wx, wh, bx, bh):
    """Consistent: z lets the candidate in, where it keeps the old state."""
    flip = np.ones_like(bx)
    flip[h.shape[1] : 2 * h.shape[1]] = -1
    turn = flip[:, None]
    y, pullback = right_cell(x, h, turn * wx, turn * wh, flip * bx, flip * bh)

    def wrong(dy):
        grads = pullback(dy)
        weights = {k: turn * grads[k] for k in ("wx", "wh")}
        return grads | weights | {k: flip * grads[k] for k in ("bx", "bh")}

    return y, wrong


@gru_cell.register
def dwh_of_gru_cell_not_reset(x, h, wx, wh, bx, bh):
    """The candidate's rows as if r scaled nothing."""
    y, pullback = right_cell(x, h, wx, wh, bx, bh)
    H = h.shape[1]
    a, s = x @ wx.T + bx, h @ wh.T + bh
    r, z = np.split(0.5 + 0.5 * np.tanh(0.5 * (a + s)[:, : 2 * H]), 2, axis=1)
    g = np.tanh(a[:, 2 * H :] + r * s[:, 2 * H :])

    def wrong(dy):
        dwh = pullback(dy)["wh"].copy()
        dwh[2 * H :] = (dy * (1 - z) * (1 - g**2)).T @ h
        return pullback(dy) | {"wh": dwh}

    return y, wrong
