"""Which side of every kink a forward is on, as compiled source notes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# What stands for a kink: its number or name, with the turn of the loop where it is in one.
Label = int | str
Kink = Label | tuple[Label, int]


class Switches:
    """The sides of all kinks that a forward is on, by kink; `forced` are those it takes instead.

    A side is an array of truths (of a condition), of whole numbers (a floor), or of zeros and
    ones (the one-hot picks of a maximum, over the last axes); a kink in a loop has one for each
    turn. A forced side may be a mixture, numbers between 0 and 1 for truths; the value of a
    maximum stays what it is. `terms` holds what maxima are taken of, with the number of the axes
    that are reduced.
    """

    def __init__(self, forced: Mapping[Kink, Array] | None = None) -> None:
        self.forced = forced or {}
        self.sides: dict[Kink, Array] = {}
        self.terms: dict[Kink, tuple[Array, int]] = {}

    def __len__(self) -> int:
        return len(self.sides)

    def note(self, kink: Kink, condition: Array) -> Array:
        """Keep the side of a kink and return it, or the one that is forced."""
        self.sides[kink] = np.asarray(self.forced.get(kink, condition))
        return self.sides[kink]

    def turns(self, label: Label, condition: Array, axis: int) -> Array:
        """Return the sides that the turns of a loop have noted, along an axis; `condition` has
        their shape."""
        return np.stack([self.sides[label, t] for t in range(condition.shape[axis])], axis)

    def pick(self, kink: Kink, terms: Array, pick: Array, axes: int) -> Array:
        """Keep the terms of a maximum too."""
        self.terms[kink] = terms, axes
        return self.note(kink, pick)

    @staticmethod
    def select(condition: Array, a: Any, b: Any) -> Array:
        """Return np.where(condition, a, b), or a mixture of both by a forced side that is one."""
        if condition.dtype == bool:
            return np.asarray(np.where(condition, a, b))
        mixed = condition * a + (1 - condition) * b
        # A branch of no weight may be anything.
        return np.asarray(np.where(condition == 1, a, np.where(condition == 0, b, mixed)))

    def same(self, other: "Switches") -> bool:
        """Whether every kink is on the same side."""
        return self.sides.keys() == other.sides.keys() and all(
            np.array_equal(side, other.sides[kink]) for kink, side in self.sides.items()
        )
