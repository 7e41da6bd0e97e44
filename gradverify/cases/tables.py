"""Random numbers that fill large arrays, at less cost than to draw each of them."""

from math import prod
from typing import Any

import numpy as np

from gradverify.calculus.noise import BLOCK, TABLE, normals

Array = np.ndarray[Any, Any]

# A tensor of more than TABLE elements is filled from the table that its rounding is taken from, a
# block at a time from a place of its own: to draw each takes as long as a layer that multiplies by
# it once, there and back. Each block has a scale of its own, so that no two elements are equal by
# their making.
SPREAD = 0.05


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return normal draws: independent ones, but for those far apart in an array of very many."""
    count = prod(shape)
    if count <= TABLE:
        return np.asarray(rng.standard_normal(shape))
    table, found = normals(1.0), np.empty(count)
    places = rng.integers(TABLE, size=-(-count // BLOCK))
    scales = rng.uniform(1 - SPREAD, 1 + SPREAD, len(places))
    for k, (place, scale) in enumerate(zip(places, scales, strict=True)):
        part = found[k * BLOCK : (k + 1) * BLOCK]
        np.multiply(table[place : place + part.size], scale, out=part)
    return found.reshape(shape)


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return random numbers -1 and 1."""
    count = prod(shape)
    if count <= TABLE:
        return np.asarray(rng.choice([-1.0, 1.0], shape))
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-count // 8)), np.uint8), count=count)
    found = bits.astype(float)
    found *= 2
    found -= 1
    return found.reshape(shape)
