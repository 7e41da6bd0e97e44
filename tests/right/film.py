"""Right ways of modulating features, with one scale for each sample or the same for all."""

from functools import partial

import numpy as np

from gradverify import catalog

film = catalog("film")


def unbroadcast(gradient, like):
    """Sum over the axes on which `like` has size 1."""
    axes = tuple(k for k, n in enumerate(like.shape) if n == 1)
    return gradient.sum(axis=axes, keepdims=True)


@film.register
def unbroadcast_film(x, gamma, beta):
    """Everything at full size first."""
    scale = np.broadcast_to(gamma[:, :, None, None], x.shape)

    def pullback(dy):
        wide = gamma[:, :, None, None]
        return {
            "x": dy * scale,
            "gamma": unbroadcast(dy * x, wide)[:, :, 0, 0],
            "beta": unbroadcast(dy, beta[:, :, None, None])[:, :, 0, 0],
        }

    return scale * x + beta[:, :, None, None], pullback


@film.register
def einsum_film(x, gamma, beta):
    """What is the same for all samples is multiplied out over all of them at once."""

    def summed(kind, like, *factors):
        out = "nc" if len(like) == len(x) else "c"
        return np.einsum(f"{kind}->{out}", *factors).reshape(like.shape)

    def pullback(dy):
        return {
            "x": np.einsum("nchw,nc->nchw", dy, np.broadcast_to(gamma, x.shape[:2])),
            "gamma": summed("nchw,nchw", gamma, dy, x),
            "beta": summed("nchw", beta, dy),
        }

    return x * gamma[..., None, None] + beta[..., None, None], pullback


@film.register
def film_sample_by_sample(x, gamma, beta):
    """A scale for all samples is looked up as sample 0's, and its gradient added up there."""
    rows = [(n % len(gamma), n % len(beta)) for n in range(len(x))]
    y = np.stack(
        [x[n] * gamma[i][:, None, None] + beta[j][:, None, None] for n, (i, j) in enumerate(rows)]
    )

    def pullback(dy):
        dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(beta)
        for n, (i, j) in enumerate(rows):
            dx[n] = dy[n] * gamma[i].reshape(-1, 1, 1)
            dgamma[i] += (dy[n] * x[n]).sum(axis=2).sum(axis=1)
            dbeta[j] += dy[n].sum(axis=(1, 2))
        return dx, dgamma, dbeta

    return y, pullback


@film.register
def film_add_at(x, gamma, beta):
    """Which row each sample reads is an index, and where a gradient goes the same one."""
    n = np.arange(len(x))
    i, j = np.minimum(n, len(gamma) - 1), np.minimum(n, len(beta) - 1)
    flat = x.reshape(*x.shape[:2], -1)

    def pullback(dy):
        dflat = dy.reshape(flat.shape)
        dgamma, dbeta = np.zeros_like(gamma), np.zeros_like(beta)
        np.add.at(dgamma, i, np.einsum("ncm,ncm->nc", dflat, flat))
        np.add.at(dbeta, j, np.einsum("ncm->nc", dflat))
        dx = (dflat * gamma[i][:, :, None]).reshape(x.shape)
        return {"beta": dbeta, "gamma": dgamma, "x": dx}

    return (flat * gamma[i][..., None] + beta[j][..., None]).reshape(x.shape), pullback


class Film:
    """Channels last inside, where the scales broadcast as they are."""

    def __call__(self, x, gamma, beta):
        last = x.transpose(0, 2, 3, 1)
        y = last * gamma[:, None, None, :]
        y += beta[:, None, None, :]
        return y.transpose(0, 3, 1, 2), partial(self.backward, last, gamma, len(beta))

    @staticmethod
    def backward(last, gamma, shifts, dy):
        dlast = np.moveaxis(dy, 1, -1)
        dgamma, dbeta = (dlast * last).sum(axis=(1, 2)), dlast.sum(axis=(1, 2))
        if len(gamma) == 1:
            dgamma = dgamma.sum(axis=0)[None]
        if shifts == 1:
            dbeta = dbeta.sum(axis=0)[None]
        return np.moveaxis(dlast * gamma[:, None, None], -1, 1), dgamma, dbeta


film.register(name="film_channels_last")(Film())
