"""Right ways of writing the contrastive loss of pairs."""

import math
from functools import partial

import numpy as np

from gradverify import catalog

contrastive = catalog("contrastive")


@contrastive.register
def contrastive_weighed_by_label(a, b, t, *, margin):
    apart = a - b
    label = t.astype(a.dtype)
    distance = np.linalg.norm(apart, axis=1)
    short = np.maximum(margin - distance, 0)
    losses = (1 - label) * distance**2 + label * short**2

    def pullback(dloss):
        share = dloss / (2 * len(a))
        ddistance = share * (2 * (1 - label) * distance - 2 * label * short)
        unit = np.divide(apart, distance[:, None], out=np.zeros_like(apart),
                         where=distance[:, None] > 0)  # fmt: skip
        da = ddistance[:, None] * unit
        return {"a": da, "b": -da}

    return losses.sum() / (2 * len(a)), pullback


@contrastive.register
def contrastive_masked(a, b, t, *, margin):
    N, alike = len(a), t == 0
    apart = a - b
    distance = np.sqrt(np.einsum("nd,nd->n", apart, apart))
    near = (t == 1) & (distance < margin)
    loss = 0.5 * (np.sum(apart[alike] ** 2) + np.sum((margin - distance[near]) ** 2)) / N

    def pullback(dloss):
        da = np.zeros_like(a)
        da[alike] = apart[alike]
        reach = np.where(distance[near] > 0, distance[near], margin)
        da[near] = (1 - margin / reach)[:, None] * apart[near]
        da *= dloss / N
        return da, np.negative(da), None

    return loss, pullback


@contrastive.register
def contrastive_loop_over_pairs(a, b, t, *, margin):
    N = len(a)
    total, slopes = 0.0, np.zeros_like(a)
    for n in range(N):
        distance = math.dist(a[n].tolist(), b[n].tolist())
        if t[n] == 0:
            total += distance**2
            slopes[n] = a[n] - b[n]
        elif distance < margin:
            total += (margin - distance) ** 2
            if distance > 0:
                slopes[n] = (distance - margin) * (a[n] - b[n]) / distance

    def pullback(dloss):
        g = slopes * (dloss / N)
        return {"a": g, "b": 0 - g}

    return np.array(total / (2 * N), a.dtype), pullback


@contrastive.register
def contrastive_staged(a, b, t, *, margin):
    """Each line of the forward has its line in the backward, in reverse."""
    apart = a - b
    square = np.sum(apart**2, axis=1)
    distance = np.sqrt(square)
    gap = margin - distance
    short = gap * (gap > 0)
    losses = np.where(t == 0, square, short**2)
    loss = losses.mean() / 2

    def pullback(dloss):
        dlosses = np.full_like(losses, dloss / 2 / len(losses))
        dsquare = np.where(t == 0, dlosses, 0)
        dshort = np.where(t == 0, 0, dlosses) * 2 * short
        dgap = dshort * (gap > 0)
        ddistance = -dgap
        dsquare = dsquare + 0.5 * ddistance / np.where(square > 0, distance, 1)
        dapart = 2 * apart * dsquare[:, None]
        return {"a": dapart, "b": -dapart}

    return loss, pullback


@contrastive.register
def contrastive_recomputed(a, b, t, *, margin):
    def terms():
        square = ((a - b) ** 2).sum(axis=1)
        return square, np.clip(margin - np.sqrt(square), 0, None)

    square, short = terms()
    loss = np.mean(np.choose(t, [square, short**2])) / 2

    def pullback(dloss):
        square, short = terms()
        safe = np.where(square > 0, square, 1)
        pull = np.choose(t, [np.ones_like(square), -short / np.sqrt(safe)])
        g = np.einsum("n,nd->nd", pull, a - b) * dloss / len(a)
        return g, g * -1

    return loss, pullback


@contrastive.register
def contrastive_in_float64(a, b, t, *, margin):
    apart = a.astype(np.float64) - b
    distance = np.sqrt((apart * apart).sum(axis=1, keepdims=True))
    excess = np.minimum(distance - margin, 0)
    pair = (t != 0)[:, None]
    loss = 0.5 * np.mean(np.where(pair, excess, distance) ** 2)

    def pullback(dloss):
        pull = np.where(pair, excess / np.where(distance == 0, 1, distance), 1.0)
        da = np.float64(dloss) / len(a) * pull * apart
        return {"a": da.astype(a.dtype), "b": (-da).astype(b.dtype)}

    return loss.astype(a.dtype), pullback


class Contrastive:
    """A callable object; what its backward needs goes with the call."""

    def __call__(self, a, b, t, *, margin):
        distance = np.sqrt(np.square(a - b).sum(axis=1))
        violation = np.where(distance < margin, distance - margin, 0)
        kept = np.where(t == 1, violation, distance)
        return np.dot(kept, kept) / (2 * t.size), partial(self.backward, a - b, distance, kept)

    @staticmethod
    def backward(apart, distance, kept, dloss):
        scale = kept / np.where(distance > 0, distance, 1) * dloss / len(kept)
        g = scale.reshape(-1, 1) * apart
        return g, -g


contrastive.register(name="contrastive_object_with_call")(Contrastive())
