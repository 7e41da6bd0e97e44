"""Random rounding: what compiled source adds to every term where its rounding is measured."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from gradverify.calculus.products import einsum, terms

Array = np.ndarray[Any, Any]

# Random numbers come from a table of so many: to draw each takes ten times as long as all else that
# is done to it. Arrays of more elements take them a block at a time, each from a place of its own:
# that two elements far apart have the same is nothing to the largest of them, which is what counts,
# and blocks stay in the processor's cache.
TABLE, BLOCK = 2**18, 2**14


@lru_cache(maxsize=8)  # there are as many amplitudes as precisions
def normals(amplitude: float) -> Array:
    """Return the table, of so large normal draws, with one block more; not to be written to."""
    return amplitude * np.random.default_rng(0).standard_normal(TABLE + BLOCK)


@lru_cache(maxsize=1)
def _coins() -> Array:
    return normals(1.0) > 0


class _Stream:
    """A table, read on from a random place."""

    def __init__(self, table: Array, rng: np.random.Generator) -> None:
        self._table, self._rng, self._at = table, rng, table.size

    def take(self, shape: tuple[int, ...]) -> Array:
        """Return an array of what comes next."""
        size = math.prod(shape)
        if size > TABLE:
            places = self._rng.integers(TABLE, size=-(-size // BLOCK))
            blocks = [self._table[k : k + BLOCK] for k in places]
            return np.concatenate(blocks)[:size].reshape(shape)
        if self._at + size > self._table.size:
            self._at = int(self._rng.integers(self._table.size - size + 1))
        self._at += size
        return self._table[self._at - size : self._at].reshape(shape)


class Noise:
    """Random relative errors of size `amplitude` on every additive term (Gaussian, continuous).

    A sum of terms t gets amplitude * xi * sqrt(sum t**2): the distribution that independent
    errors of all its terms have together. What is smaller than `least` gets an error as if it
    were that: so it is with numbers that underflow.
    """

    def __init__(self, amplitude: float, rng: np.random.Generator, least: float = 0.0) -> None:
        self.amplitude, self.rng, self.least = amplitude, rng, least
        self._last: tuple[Array, Array] | None = None
        self._table = normals(amplitude)
        self._normals, self._coins = _Stream(self._table, rng), _Stream(_coins(), rng)

    def _perturb(self, value: Array, scale: Array) -> Array:
        if scale.size > TABLE and value.shape == scale.shape:
            return self._perturb_blocks(lambda scale: scale, value, scale)
        error = np.maximum(scale, self.least) * self._normals.take(scale.shape)
        if not math.isfinite(np.add.reduce(error, axis=None)):
            error = np.where(np.isfinite(error), error, 0.0)
        return np.asarray(value + error)

    def _perturb_blocks(self, scale_of: Callable[..., Array], value: Array, *more: Array) -> Array:
        """Return values with errors of the size `scale_of(*more)`, computed block by block."""
        turned = all(a.flags.f_contiguous for a in (value, *more))
        flat = [a.reshape(-1, order="F" if turned else "C") for a in (value, *more)]
        result = np.empty(value.size)
        for start, place in zip(
            range(0, value.size, BLOCK),
            self.rng.integers(TABLE, size=-(-value.size // BLOCK)),
            strict=True,
        ):
            values, *parts = (a[start : start + BLOCK] for a in flat)
            error = np.maximum(scale_of(*parts), self.least)
            error *= self._table[place : place + error.size]
            error[~np.isfinite(error)] = 0.0
            np.add(values, error, out=result[start : start + BLOCK])
        return result.reshape(value.shape, order="F" if turned else "C")

    def _square(self, factor: Array) -> Array:
        """Return a factor squared; the large one that was last is kept, as it comes twice often."""
        if factor.size <= TABLE:
            return np.square(factor)
        if self._last is None or self._last[0] is not factor:
            self._last = factor, np.square(factor)
        return self._last[1]

    def add(self, *terms: Any) -> Array:
        """Return the sum of terms."""
        value, squares = terms[0], np.square(terms[0], dtype=float)
        for term in terms[1:]:
            value, squares = value + term, squares + np.square(term, dtype=float)
        return self._perturb(np.asarray(value), np.sqrt(squares))

    def square(self, *terms: Any) -> Array:
        """Return the square of a sum, as if it had been multiplied out (one-pass variance).

        The error of a term's square is common to all elements that the term is broadcast to.
        """
        value = np.asarray(sum(terms)) ** 2
        for term in terms:
            value = self._perturb(value, np.square(term, dtype=float))
        return value

    def select(self, condition: Array, a: Any, b: Any) -> Array:
        """Return np.where(condition, a, b), as if one branch had been written as a correction to
        the other, x + (slope - 1)*min(x, 0): with a rounding of the larger one.

        Not where the other branch is larger than all that is selected by more than 1000: it may
        be anything where it is not meant.
        """
        value = np.where(condition, a, b)
        scale, other = np.abs(value), np.abs(np.where(condition, b, a))
        most = 1000 * np.max(scale, initial=0.0) or np.inf
        correcting = np.isfinite(other) & (other <= most)
        return self._perturb(value, np.where(correcting, np.maximum(scale, other), scale))

    def either(self, a: Array, b: Array) -> Array:
        """Return, element by element, one of two roundings of the same tensor."""
        return np.where(self._coins.take(np.shape(a)), a, b)

    def sum(self, subscripts: str, *factors: Any) -> Array:
        """Return np.einsum(subscripts, *factors), as if rounded after every addition.

        Over random orders of n terms t with sum S, the squares of the partial sums add up to
        n/3*S**2 + n/6*sum(t**2) on average, for large n.
        """
        search = len(factors) > 2
        value = einsum(subscripts, *factors, optimize=search)
        squares = einsum(subscripts, *map(self._square, factors), optimize=search)
        more = terms(subscripts, tuple(map(np.shape, factors))) - 1

        def scale(squares: Array, value: Array) -> Array:
            return np.sqrt((1 + more / 6) * squares + more / 3 * np.square(value))

        if value.size > TABLE:
            return self._perturb_blocks(scale, value, squares, value)
        return self._perturb(value, scale(squares, value))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Return a.sum(axis=axes, keepdims=True), as if rounded after every addition."""
        letters = "".join(map(chr, range(ord("a"), ord("a") + a.ndim)))
        kept = "".join(i for k, i in enumerate(letters) if k not in axes)
        total = self.sum(f"{letters}->{kept}", a)
        return total.reshape([1 if k in axes else n for k, n in enumerate(a.shape)])

    def prod(self, factors: Array, axes: Any) -> Array:
        """Return np.prod(factors, axes), as if rounded after every multiplication."""
        value = np.prod(factors, axis=axes)
        count = factors.size / max(value.size, 1)
        return self._perturb(value, math.sqrt(max(count - 1, 0)) * np.abs(value))

    def unit(self, value: Any) -> Array:
        """Return a value with an absolute error, as if it had been subtracted from 1."""
        return self._perturb(np.asarray(value), np.maximum(1.0, np.abs(value)))

    def round(self, value: Any) -> Array:
        """Return a value with one relative error."""
        return self._perturb(np.asarray(value), np.abs(value))
