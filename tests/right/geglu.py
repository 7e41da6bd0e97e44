"""Right ways of writing a linear unit with a Gaussian error gate.

The library's functions of the normal distribution have no half precision."""

import math
from functools import partial

import numpy as np
from scipy.special import erf, log_ndtr, ndtr

from gradverify import catalog

geglu = catalog("geglu")


def _density(a):
    return np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)


@geglu.register(dtypes=("float64", "float32"))
def geglu_staged(x, w, b, v, c):
    """Each line of the forward has its line in the backward, in reverse."""
    a = x.dot(w.T) + b
    u = x.dot(v.T) + c
    s = a / math.sqrt(2)
    e = erf(s)
    half = (1 + e) / 2
    gate = a * half

    def pullback(dy):
        dgate, du = dy * u, dy * gate
        da, dhalf = dgate * half, dgate * a
        de = dhalf / 2
        ds = de * (2 / math.sqrt(math.pi)) * np.exp(-(s**2))
        da = da + ds / math.sqrt(2)
        dx = np.dot(du, v)
        dx += np.dot(da, w)
        return dx, da.T.dot(x), da.sum(axis=0), du.T.dot(x), du.sum(axis=0)

    return gate * u, pullback


@geglu.register(dtypes=("float64", "float32"))
def geglu_by_the_normal_distribution(x, w, b, v, c):
    a, u = np.einsum("nd,kd->nk", x, w) + b, np.einsum("nd,kd->nk", x, v) + c
    Phi = ndtr(a)

    def pullback(dy):
        da, du = u * dy * (Phi + a * _density(a)), a * Phi * dy
        return {
            "w": np.einsum("nk,nd->kd", da, x),
            "v": np.einsum("nk,nd->kd", du, x),
            "b": np.einsum("nk->k", da),
            "c": np.einsum("nk->k", du),
            "x": np.einsum("nk,kd->nd", da, w) + np.einsum("nk,kd->nd", du, v),
        }

    return a * Phi * u, pullback


@geglu.register
def geglu_one_matrix(x, w, b, v, c):
    """Both halves by one product, as in transformers; the gradient is split at the end."""
    K = len(b)
    both = np.concatenate([w, v])
    h = x @ both.T + np.concatenate([b, c])
    a, u = h[:, :K], h[:, K:]
    cdf = 0.5 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(a / math.sqrt(2)))

    def pullback(dy):
        dh = np.empty_like(h)
        dh[:, :K] = dy * u * (cdf + a * _density(a))
        dh[:, K:] = dy * a * cdf
        dboth, dbias = dh.T @ x, dh.sum(axis=0)
        return dh @ both, dboth[:K], dbias[:K], dboth[K:], dbias[K:]

    return a * cdf * u, pullback


@geglu.register
def geglu_loop_over_samples(x, w, b, v, c):
    y, kept = np.empty((len(x), len(b)), x.dtype), []
    for n, row in enumerate(x):
        a, u = w @ row + b, v @ row + c
        cdf = np.array([0.5 * math.erfc(-s / math.sqrt(2)) for s in a.tolist()], x.dtype)
        y[n] = a * cdf * u
        kept.append((a, u, cdf))

    def pullback(dy):
        grads = {"x": np.empty_like(x)}
        grads |= {"w": np.zeros_like(w), "b": np.zeros_like(b)}
        grads |= {"v": np.zeros_like(v), "c": np.zeros_like(c)}
        for n, (a, u, cdf) in enumerate(kept):
            da, du = dy[n] * u * (cdf + a * _density(a)), dy[n] * a * cdf
            grads["x"][n] = da @ w + du @ v
            grads["w"] += np.outer(da, x[n])
            grads["b"] += da
            grads["v"] += np.outer(du, x[n])
            grads["c"] += du
        return grads

    return y, pullback


@geglu.register(dtypes=("float64", "float32"))
def geglu_recomputed(x, w, b, v, c):
    """The forward keeps its inputs only."""

    def units():
        return x @ w.T + b, x @ v.T + c

    def pullback(dy):
        a, u = units()
        cdf = np.exp(log_ndtr(a))
        gate = a * cdf
        dgate = cdf + a * np.exp(-np.square(a) / 2) * (1 / math.sqrt(2 * math.pi))
        da = np.multiply(dy * u, dgate)
        du = np.multiply(dy, gate)
        ones = np.ones(len(x), x.dtype)
        return [da @ w + du @ v, da.T @ x, ones @ da, du.T @ x, ones @ du]

    a, u = units()
    return a * np.exp(log_ndtr(a)) * u, pullback


class Gelu:
    """An activation that keeps nothing between calls."""

    def __call__(self, a):
        cdf = ndtr(a)
        return a * cdf, lambda dg: dg * cdf + dg * a * _density(a)


class GEGLU:
    """A gated unit of any activation: an object of objects."""

    def __init__(self, activation):
        self.activation = activation

    def __call__(self, x, w, b, v, c):
        u = np.matmul(x, np.swapaxes(v, 0, 1)) + c
        gate, back = self.activation(np.matmul(x, np.swapaxes(w, 0, 1)) + b)
        return gate * u, partial(self.backward, x, w, v, u, gate, back)

    @staticmethod
    def backward(x, w, v, u, gate, back, dy):
        da, du = back(dy * u), dy * gate
        dx = np.hstack([da, du]) @ np.vstack([w, v])
        return dx, (x.T @ da).T, np.add.reduce(da), (x.T @ du).T, np.add.reduce(du)


geglu.register(name="geglu_object_of_objects", dtypes=("float64", "float32"))(GEGLU(Gelu()))
