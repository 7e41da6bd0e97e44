"""Shapes that a function takes, found by calling it: likely and general ones are tried first.

Each dimension gets a size of its own, so that what is accepted is not so by chance.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from gradverify.scaffold.roles import Argument


class Size(NamedTuple):
    """The size of an axis: a dimension, by its number, or a multiple of it."""

    dim: int
    times: int = 1


Shape = tuple[Size, ...]

# Sizes of dimensions in order of appearance, by how many the first tensor has: all different, and
# those of an image larger than those of a kernel. Then those that have many divisors.
PRIMES = {4: (3, 5, 17, 19, 7, 2, 11, 13), 3: (3, 5, 7, 11, 2, 13, 17)}
FLAT = (5, 7, 3, 11, 2, 13, 17, 19)
DIVISIBLE = {4: (2, 8, 12, 24, 6, 4, 3, 16), 3: (2, 6, 12, 4, 8, 3, 16)}
FLAT_DIVISIBLE = (6, 12, 4, 8, 3, 16, 2, 24)
MOST_DIMS = 7

# By what a tensor is like, how unlikely each rank is, in tenths of what makes it so.
_RANKS = {
    "first": {2: 0, 1: 20, 4: 22, 3: 24, 0: 50},
    "": {2: 0, 1: 6, 3: 8, 4: 8, 0: 40},
    "weight": {2: 0, 1: 12, 4: 12, 3: 12, 0: 40},
    "bias": {1: 0, 2: 20, 0: 24, 3: 30, 4: 30},
    "integer": {1: 0, 2: 6, 0: 40},
    "mask": {2: 0, 1: 6, 3: 8, 4: 8},
}
# To share a dimension, to have one twice, and to be a multiple of one: general shapes come first.
_SHARED, _TWICE, _MULTIPLE = 2, 20, 12
_MULTIPLES = (4, 3, 2)
_STEP, _DEEPEST = 4, 200


def sizes_for(first: Shape, *, divisible: bool = False) -> tuple[int, ...]:
    """Return the sizes of dimensions by number, given the shape of the first tensor."""
    table, flat = (DIVISIBLE, FLAT_DIVISIBLE) if divisible else (PRIMES, FLAT)
    return table.get(len(first), flat)


def candidates(tensors: Sequence[Argument], known: int = 0) -> Iterator[dict[str, Shape]]:
    """Yield shapes for tensors, likely ones first; `known` dimensions are there already.

    How unlikely they are is deepened step by step, so that nothing need be remembered.
    """
    names = [t.name for t in tensors]
    start = tuple(map(Size, range(known)))
    low = -1
    for high in range(0, _DEEPEST, _STEP):
        for cost, shapes in _filled(tensors, (), start, high):
            if cost > low:
                yield dict(zip(names, shapes, strict=True))
        low = high


def _filled(
    tensors: Sequence[Argument], shapes: tuple[Shape, ...], known: tuple[Size, ...], left: int
) -> Iterator[tuple[int, tuple[Shape, ...]]]:
    """Yield (cost, shapes) of all tensors, given the first ones, that cost no more than is left."""
    if len(shapes) == len(tensors):
        yield 0, shapes
        return
    tensor = tensors[len(shapes)]
    like = "integer" if tensor.integer else tensor.like if shapes else "first"
    ranks = _RANKS[like] if tensor.rank is None else {tensor.rank: 0}
    for rank, unlikely in ranks.items():
        if like == "weight" and rank == len(shapes[0]) == 4:
            unlikely = 0
        for more, shape, seen in _shapes(rank, known, like, left - unlikely):
            cost = unlikely + more
            for rest, found in _filled(tensors, (*shapes, shape), seen, left - cost):
                yield cost + rest, found


def _shapes(
    rank: int, known: tuple[Size, ...], like: str, left: int
) -> Iterator[tuple[int, Shape, tuple[Size, ...]]]:
    """Yield (cost, shape, the sizes that are known then) of a rank, that cost no more."""
    if left < 0:
        return
    if rank == 0:
        yield 0, (), known
        return
    for cost, shape, seen in _shapes(rank - 1, known, like, left):
        dims = len({size.dim for size in seen})
        if dims < MOST_DIMS:
            yield cost, (*shape, Size(dims)), (*seen, Size(dims))
        for size in seen:
            more = cost + _SHARED + _TWICE * (size in shape)
            if more <= left:
                yield more, (*shape, size), seen
        if like in ("weight", "bias") and cost + _MULTIPLE <= left:
            for size in (Size(d, t) for t in _MULTIPLES for d in range(dims)):
                if size not in seen:
                    yield cost + _MULTIPLE, (*shape, size), (*seen, size)


def first_accepted(
    tensors: Sequence[Argument],
    accepts: Callable[[dict[str, Shape]], bool],
    most: int,
    end: float,
    known: int = 0,
) -> dict[str, Shape] | None:
    """Return the first of so many shapes that are accepted, None where none is before the end, a
    time of `time.monotonic()`."""
    for shapes in islice(candidates(tensors, known), most):
        if accepts(shapes):
            return shapes
        if time.monotonic() > end:
            return None
    return None
