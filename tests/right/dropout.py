"""Right ways of writing inverted dropout with its mask given."""

from functools import partial

import numpy as np

from gradverify import catalog

dropout = catalog("dropout")


@dropout.register
def scaled_mask(x, mask, *, p):
    scaled = mask / (1 - p)
    return x * scaled, lambda dy: {"x": dy * scaled}


@dropout.register
def reciprocal_of_keep(x, mask, *, p):
    scale = 1 / (1 - p)
    return scale * (x * mask), lambda dy: {"x": scale * (dy * mask), "mask": None}


@dropout.register
def where(x, mask, *, p):
    keep = mask != 0
    return np.where(keep, x / (1 - p), 0), lambda dy: (np.where(keep, dy / (1 - p), 0), None)


@dropout.register
def boolean_assignment(x, mask, *, p):
    dropped = mask == 0

    def apply(v):
        out = v / (1 - p)
        out[dropped] = 0
        return out

    return apply(x), apply


@dropout.register
def einsum(x, mask, *, p):
    keep = np.full((1,), 1 - p, x.dtype)

    def pullback(dy):
        return (np.einsum("nc,nc->nc", dy, mask) / keep,)

    return np.einsum("nc,nc->nc", x, mask) / keep, pullback


def _apply(v, *, mask, keep):
    out = np.zeros_like(v)
    for index in np.argwhere(mask):
        out[tuple(index)] = v[tuple(index)] / keep
    return out


@dropout.register
def loop_over_kept_bound_by_partial(x, mask, *, p):
    op = partial(_apply, mask=mask, keep=1 - p)
    return op(x), op


@dropout.register
def in_float64(x, mask, *, p):
    scaled = mask.astype(np.float64) / (1 - p)
    return (x * scaled).astype(x.dtype), lambda dy: {"x": (dy * scaled).astype(x.dtype)}


class Dropout:
    """A callable object that stores which elements are kept."""

    def __call__(self, x, mask, *, p):
        kept = mask.astype(bool)

        def pullback(dy):
            dx = np.zeros_like(x)
            np.divide(dy, 1 - p, out=dx, where=kept)
            return {"x": dx}

        return np.multiply(x, kept) / (1 - p), pullback


dropout.register(name="object_with_call")(Dropout())
