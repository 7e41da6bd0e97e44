"""Sums of products: np.einsum, which is quick for small arrays, made so for large ones."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# To look for an order of two factors takes as long as to multiply and add so many numbers, or less.
LARGE = 2**18


def einsum(subscripts: str, *factors: Any, optimize: bool = False) -> Array:
    """Return np.einsum, where anything is large by products of matrices, in C order; to look for an
    order, as it may be asked to `optimize`, takes longer than a product of two small factors."""
    if math.prod(map(np.size, factors)) > LARGE:
        shapes = tuple(map(np.shape, factors))
        if max(_elements(subscripts, shapes), *map(np.size, factors)) > LARGE:
            optimize = True
            inputs, _, left = subscripts.partition("->")
            one, _, other = inputs.partition(",")
            if len(factors) == 2 and left and left[0] in one:
                # What such a product returns has the axes of its second factor first in memory.
                subscripts, factors = f"{other},{one}->{left}", factors[::-1]
    return np.asarray(np.einsum(subscripts, *factors, optimize=optimize))


@lru_cache(maxsize=1024)
def _elements(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> int:
    """Return how many elements the result of an einsum has."""
    sizes = _sizes(subscripts, shapes)
    return math.prod(sizes[letter] for letter in subscripts.partition("->")[2])


@lru_cache(maxsize=1024)
def terms(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> int:
    """Return how many terms each sum of an einsum has."""
    sizes, left = _sizes(subscripts, shapes), subscripts.partition("->")[2]
    return math.prod(n for letter, n in sizes.items() if letter not in left)


def _sizes(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> dict[str, int]:
    inputs = subscripts.partition("->")[0].split(",")
    return {
        letter: n
        for letters, shape in zip(inputs, shapes, strict=True)
        for letter, n in zip(letters, shape, strict=True)
    }
