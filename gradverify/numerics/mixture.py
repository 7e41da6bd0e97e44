"""Whether a vector is a mixture of others: the nearest point of a sum of simplices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# What is left over is at right angles to all that could lower it, up to rounding of products.
RIGHT_ANGLE = 1e-10


def nearest_mixture(
    base: Array, parts: Sequence[Sequence[Array]], got: Array, enough: float
) -> Array:
    """Return the point nearest to `got` among base + sum of one mixture of each of `parts`.

    A mixture has weights of at least 0 with sum 1; each part holds a zero for keeping the base.
    A point as near as `enough` will do.
    """
    columns = [(i, part) for i, options in enumerate(parts) for part in options]
    scale = max((float(np.max(np.abs(part), initial=0.0)) for _, part in columns), default=0.0)
    if not scale:
        return base
    # One row more for each part: its weights add up to 1.
    one_each = np.array([[float(i == k) for i, _ in columns] for k in range(len(parts))])
    values = np.stack([part.reshape(-1) for _, part in columns], axis=1)
    left = np.concatenate([values, scale * one_each])
    right = np.concatenate([(got - base).reshape(-1), np.full(len(parts), scale)])
    weights = nonnegative(left, right, enough)
    weights /= (one_each.T @ (one_each @ weights)) + (one_each.T @ (one_each @ weights) == 0)
    return np.asarray(base + (values @ weights).reshape(base.shape))


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
