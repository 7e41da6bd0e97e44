"""Right ways of dealing out channels of G groups in turn."""

from functools import partial

import numpy as np

from gradverify import catalog

channel_shuffle = catalog("channel_shuffle")


def _order(C, G):
    """Return which channel of the input each channel of the output is."""
    return np.arange(C).reshape(G, C // G).T.reshape(-1)


@channel_shuffle.register
def shuffle_by_index_and_its_inverse(x, *, G):
    order = _order(x.shape[1], G)
    inverse = np.argsort(order)
    return x[:, order], lambda dy: {"x": dy[:, inverse]}


@channel_shuffle.register
def shuffle_scattered(x, *, G):
    order = _order(x.shape[1], G)

    def pullback(dy):
        dx = np.zeros_like(x)
        np.add.at(dx, (slice(None), order), dy)
        return dx

    return np.take(x, order, axis=1), pullback


@channel_shuffle.register
def shuffle_by_permutation_matrix(x, *, G):
    deal = np.eye(x.shape[1], dtype=x.dtype)[_order(x.shape[1], G)]

    def pullback(dy):
        return (np.einsum("oc,nohw->nchw", deal, dy),)

    return np.moveaxis(np.tensordot(deal, x, axes=(1, 1)), 0, 1), pullback


@channel_shuffle.register
def shuffle_strided_assignment(x, *, G):
    K = x.shape[1] // G
    y = np.empty_like(x)
    for g in range(G):
        y[:, g::G] = x[:, g * K : (g + 1) * K]

    def pullback(dy):
        dx = np.empty_like(x)
        for g in range(G):
            dx[:, g * K : (g + 1) * K] = dy[:, g::G]
        return {"x": dx}

    return y, pullback


@channel_shuffle.register
def shuffle_split_and_stack(x, *, G):
    y = np.stack(np.split(x, G, axis=1), axis=2).reshape(x.shape)

    def pullback(dy):
        wide = dy.reshape(len(x), -1, G, *x.shape[2:])
        return {"x": np.concatenate([wide[:, :, g] for g in range(G)], axis=1)}

    return y, pullback


@channel_shuffle.register
def shuffle_channel_by_channel(x, *, G):
    C = x.shape[1]
    K = C // G
    y = x.copy()
    for c in range(C):
        y[:, c] = x[:, c % G * K + c // G]

    def pullback(dy):
        dx = np.zeros_like(x)
        for c in range(C):
            dx[:, c % G * K + c // G] += dy[:, c]
        return dx

    return y, pullback


def _shuffled(x, groups):
    N, C, H, W = x.shape
    return x.reshape(N, groups, C // groups, H, W).transpose(0, 2, 1, 3, 4).reshape(N, C, H, W)


@channel_shuffle.register
def shuffle_undone_by_the_other_shuffle(x, *, G):
    """Shuffling C/G groups deals back what shuffling G groups has dealt out."""
    return _shuffled(x, G), partial(_shuffled, groups=x.shape[1] // G)
