"""Right ways of writing an embedding; equal ids add up in every one of them."""

import math

import numpy as np

from gradverify import catalog

embedding = catalog("embedding")


@embedding.register
def one_hot_matmul(ids, w):
    hot = (ids[:, None] == np.arange(len(w))).astype(w.dtype)
    return hot @ w, lambda dy: {"w": hot.T @ dy}


@embedding.register
def one_hot_einsum(ids, w):
    hot = np.eye(w.shape[0], dtype=w.dtype)[ids]
    y = np.einsum("nv,vd->nd", hot, w)
    return y, lambda dy: {"w": np.einsum("nv,nd->vd", hot, dy)}


@embedding.register
def loop_over_ids(ids, w):
    y = np.empty((len(ids), w.shape[1]), w.dtype)
    for n, i in enumerate(ids):
        y[n] = w[i]

    def pullback(dy):
        dw = np.zeros_like(w)
        for n, i in enumerate(ids):
            dw[i] += dy[n]
        return None, dw

    return y, pullback


@embedding.register
def loop_over_words(ids, w):
    def pullback(dy):
        return {"w": np.stack([dy[ids == v].sum(axis=0) for v in range(len(w))]), "ids": None}

    return np.take(w, ids, axis=0), pullback


@embedding.register
def sorted_and_reduceat(ids, w):
    def pullback(dy):
        order = np.argsort(ids, kind="stable")
        words, start = np.unique(ids[order], return_index=True)
        dw = np.zeros_like(w)
        dw[words] = np.add.reduceat(dy[order], start, axis=0)
        return dw

    return w[ids, :], pullback


@embedding.register
def bincount(ids, w):
    V, D = w.shape

    def pullback(dy):
        columns = [np.bincount(ids, dy[:, d].astype(np.float64), minlength=V) for d in range(D)]
        return {"w": np.stack(columns, axis=1).astype(w.dtype)}

    return np.stack([w[i] for i in ids]), pullback


@embedding.register
def differences_of_running_sums(ids, w):
    def pullback(dy):
        order = np.argsort(ids, kind="stable")
        sums = np.zeros((len(ids) + 1, w.shape[1]))
        np.cumsum(dy[order], axis=0, dtype=np.float64, out=sums[1:])
        ends = np.searchsorted(ids[order], np.arange(len(w)), side="right")
        dw = np.diff(sums[ends], axis=0, prepend=0)
        return (dw.astype(w.dtype),)

    return w.take(ids, axis=0), pullback


@embedding.register
def fsum_per_word(ids, w):
    def pullback(dy):
        terms = [[[] for _ in row] for row in w]
        for i, row in zip(ids.tolist(), dy.tolist(), strict=True):
            for cell, value in zip(terms[i], row, strict=True):
                cell.append(value)
        return {"w": np.array([[math.fsum(c) for c in row] for row in terms], w.dtype)}

    return w[ids], pullback


class Embedding:
    """A table that is looked up with flat indices, last occurrence first in the pullback."""

    def __init__(self, ids, w):
        self.shape = w.shape
        self.flat = ids[:, None] * w.shape[1] + np.arange(w.shape[1])
        self.y = w.reshape(-1)[self.flat]

    def backward(self, dy):
        dw = np.zeros(self.shape, dy.dtype)
        np.add.at(dw.reshape(-1), self.flat[::-1], dy[::-1])
        return {"w": dw}


@embedding.register
def forward_and_backward_methods(ids, w):
    op = Embedding(ids, w)
    return op.y, op.backward
