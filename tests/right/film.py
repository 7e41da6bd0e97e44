"""Right ways of modulating features, with one scale for each sample or the same for all."""

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
