"""On which sides of a definition's kinks a point is, and which of them it is on itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradverify.calculus.compile import SWITCHES, Oracle
from gradverify.calculus.emit import Mode
from gradverify.calculus.noise import Noise
from gradverify.calculus.point import Point
from gradverify.calculus.switches import Kink, Switches
from gradverify.numerics.allowance import SMALLEST_AMPLITUDE, unit_roundoff
from gradverify.view import Seen

Array = np.ndarray[Any, Any]

# A kink that rounding of this many units could cross is one that the point is on: more than any
# allowance, so that a right layer is otherwise on the side where the derived formula is.
KINK_MARGIN = 256

_NOISY_SWITCHES = Mode(noise=True, switches=True)


@dataclass(frozen=True)
class Vicinity:
    """A point of a definition, and what is near it: tensors in float64, meant for a layer that
    computes in `dtype`; `free` are those that can be moved."""

    oracle: Oracle | Seen
    point: Point
    free: tuple[str, ...]
    dtype: str
    seed: int

    @property
    def amplitude(self) -> float:
        """How far, relatively, the point is moved to see which kinks are crossed."""
        return max(KINK_MARGIN * unit_roundoff(self.dtype), SMALLEST_AMPLITUDE)

    def sides(self, moved: Point | None = None) -> Switches:
        """Return the sides of all kinks at the point, or where it is moved to."""
        found = Switches()
        self.oracle.run(self.point if moved is None else moved, SWITCHES, switches=found)
        return found

    def shifts(self, size: float, rng: np.random.Generator) -> Iterator[Point]:
        """Yield the point moved by a random error of a relative size, and by minus that."""
        tensors = self.point.tensors
        shift = {
            k: size * (float(np.max(np.abs(v))) or 1.0) * rng.standard_normal(v.shape)
            for k, v in tensors.items()
            if k in self.free and v.size
        }
        for sign in (1, -1):
            moved = {k: v + sign * shift[k] if k in shift else v for k, v in tensors.items()}
            yield replace(self.point, tensors=moved)

    def near(self, pairs: int = 1) -> Iterator[Switches]:
        """Yield the sides with rounding errors inside, then those of points moved, in pairs."""
        rng = np.random.default_rng([self.seed, 2])
        noise = Noise(self.amplitude, rng)
        for _ in range(2):
            found = Switches()
            self.oracle.run(self.point, _NOISY_SWITCHES, noise=noise, switches=found)
            yield found
        # Relative errors leave a zero where it is, which is where most kinks are.
        for _ in range(pairs):
            for moved in self.shifts(self.amplitude, rng):
                yield self.sides(moved)


def on_a_kink(around: Vicinity) -> bool:
    """Whether a point is so near to a kink that rounding could cross it."""
    sides = around.sides()
    return bool(sides) and not all(sides.same(other) for other in around.near())


# Moved this often to both sides, a point crosses every kink that it is on: a condition between
# two numbers by either of the first two.
PAIRS = 4


@dataclass(frozen=True)
class Tie:
    """A kink that a point is on, in one element of its side: `place` is that element, or that
    window of a maximum, and `sides` what may stand there, in numbers; what the definition takes
    first."""

    kink: Kink
    place: tuple[int, ...]
    sides: tuple[Array, ...]


def ties(around: Vicinity) -> tuple[Switches, list[Tie]]:
    """Return the sides at a point and each kink that it is on, with what may be chosen there:
    either truth of a condition, the pick of any element that is as large as a maximum."""
    base, others = around.sides(), list(around.near(PAIRS))
    found: list[Tie] = []
    for kink, side in base.sides.items():
        if kink in base.terms:
            found += _tied(kink, base, others)
            continue
        crossed = np.zeros(side.shape, bool)
        for other in others:
            crossed |= other.sides[kink] != side
        for index in np.argwhere(crossed):
            place = tuple(int(i) for i in index)
            now = side[place]
            then = [o.sides[kink][place] for o in others if o.sides[kink][place] != now]
            found.append(Tie(kink, place, (np.asarray(now, float), np.asarray(then[0], float))))
    return base, found


def _tied(kink: Kink, base: Switches, others: list[Switches]) -> Iterator[Tie]:
    terms, axes = base.terms[kink]
    outer = terms.shape[: terms.ndim - axes]
    flat = terms.reshape(*outer, -1)
    pick = base.sides[kink].reshape(flat.shape)
    # How far the terms of a window move with the point: what is nearer to its maximum may be it.
    slack = np.zeros(outer)
    with np.errstate(all="ignore"):
        for other in others:
            moved = np.abs(other.terms[kink][0].reshape(flat.shape) - flat)
            slack = np.maximum(slack, np.max(np.nan_to_num(moved, nan=0, posinf=0), axis=-1))
        near = flat.max(axis=-1, keepdims=True) - flat <= 2 * slack[..., None]
    for index in np.argwhere(near.sum(axis=-1) > 1):
        place = tuple(int(i) for i in index)
        first = int(np.argmax(pick[place]))
        rest = [int(k) for k in np.flatnonzero(near[place]) if k != first]
        shape = base.sides[kink].shape[len(outer) :]
        hot = np.eye(flat.shape[-1])
        yield Tie(kink, place, tuple(hot[k].reshape(shape) for k in (first, *rest)))
