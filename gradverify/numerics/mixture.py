"""Whether a vector is a mixture of others: the nearest point of a sum of simplices."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# What is left over is at right angles to all that could lower it, up to rounding of products.
RIGHT_ANGLE = 1e-10
# Weights are scaled to a sum of 1 in the end, which moves the point by far less than this leaves.
CLOSE = 1e-3
# Sides that can be weighed against each other in a fraction of a second.
MOST = 96


def nearest_mixture(
    base: Array, parts: Sequence[Sequence[Array]], got: Array, enough: float
) -> Array | None:
    """Return the point nearest to `got` among base + sum of one mixture of each of `parts`.

    A mixture has weights of at least 0 with sum 1; each part holds a zero for keeping the base.
    A point as near as `enough` will do. None where too many parts depend on each other.
    """
    found = np.array(base, float, order="C")  # so that it has a flat view
    flat, rest = found.reshape(-1), (got - base).reshape(-1)
    for rows, some in _apart([[np.reshape(s, -1) for s in sides] for sides in parts]):
        columns = [(k, side[rows]) for k, sides in enumerate(some) for side in sides]
        if len(columns) > MOST:
            return None
        values = np.stack([side for _, side in columns], axis=1)
        # One row more for each part: its weights add up to 1.
        ones = np.array([[float(k == part) for part, _ in columns] for k in range(len(some))])
        scale = float(np.max(np.abs(values)))
        left = np.concatenate([values, scale * ones])
        right = np.concatenate([rest[rows], np.full(len(some), scale)])
        weights = nonnegative(left, right, CLOSE * enough)
        sums = ones @ weights
        if np.all(sums > 0):
            flat[rows] += values @ (weights / (ones.T @ sums))
    return found


def _apart(parts: Sequence[Sequence[Array]]) -> Iterator[tuple[Array, list[Sequence[Array]]]]:
    """Yield groups of parts that change no element in common, each with the elements it changes."""
    groups: list[tuple[Array, list[Sequence[Array]]]] = []
    for sides in parts:
        rows, members = np.any([side != 0 for side in sides], axis=0), [sides]
        if not rows.any():
            continue
        kept = []
        for other, some in groups:
            if np.any(other & rows):
                rows, members = rows | other, [*some, *members]
            else:
                kept.append((other, some))
        groups = [*kept, (rows, members)]
    yield from groups


def nonnegative(left: Array, right: Array, enough: float) -> Array:
    """Return x >= 0 with the least |left x - right|, or with one of at most `enough`.

    Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23.
    """
    count = left.shape[1]
    sizes = np.linalg.norm(left, axis=0)
    found, free = np.zeros(count), np.zeros(count, bool)
    for _ in range(3 * count):
        rest = right - left @ found
        size = float(np.linalg.norm(rest))
        if size <= enough:
            break
        slope = np.where(free | (sizes == 0), -np.inf, left.T @ rest / np.where(sizes, sizes, 1))
        best = int(np.argmax(slope))
        if slope[best] <= RIGHT_ANGLE * size:
            break
        free[best] = True
        while True:
            trial = np.zeros(count)
            trial[free] = np.linalg.lstsq(left[:, free], right, rcond=None)[0]
            below = free & (trial <= 0)
            if not below.any():
                break
            ratios = found[below] / (found[below] - trial[below])
            found = found + float(np.min(ratios)) * (trial - found)
            # At least the one that stopped the step, whatever rounding leaves of it.
            stopped = np.flatnonzero(below)[int(np.argmin(ratios))]
            found[stopped] = 0.0
            free &= found > 0
            found[~free] = 0.0
            if not free.any():
                break
        found = trial if free.any() else found
    return found
