"""kinks: on a kink or tie of the definition, every gradient is one of those that are right there.

Where a definition switches (relu at 0, equal elements under a maximum), each switch may be taken
to either side, whatever the others do, and anything in between is right too: what automatic
differentiation returns for one or another way of writing the same thing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from gradverify.calculus.compile import SWITCHES
from gradverify.calculus.switches import Kink, Switches
from gradverify.cases import Array, Arrays, draw
from gradverify.checks.observation import Observation, failed
from gradverify.checks.subgradients import Subgradients
from gradverify.numerics.mixture import nearest_mixture
from gradverify.result import Status
from gradverify.sides import ties
from gradverify.spec import Spec
from gradverify.trial import Trial, make_oracle

# Where more than this part of a gradient is allowed, a wrong choice could not be told.
CAP = 0.1
# To how many other points a kink is looked for on the way, and by how many halvings: all digits.
WAYS, HALVINGS = 3, 60

WHY = "the rounding of gradients beside the kink"
ONE_SIDE = "no case could be placed on a kink: all values drawn are on one side of each"
JUMPS = "the definition jumps, or is not finite, on one side of its kinks"


@lru_cache(maxsize=32)  # it is asked of each layer of a spec, more than once
def absent(spec: Spec) -> str | None:
    """Return why a spec has nothing to ask about, None where it has: its program says so."""
    oracle = make_oracle(spec)
    if oracle is None or "switches." in oracle.source("oracle", SWITCHES):
        return None
    return "the definition has no kinks"


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each gradient with those that are right on a kink: the case's own, or one near."""
    found = (trial, "") if trial.kinked else _moved(trial)
    if found is None:
        yield Observation("subgradient", None, Status.NOT_APPLICABLE, ONE_SIDE)
        return
    at, where = found
    if at.failure is not None:
        yield failed(at.failure.question, None, f"on a kink of the definition{where}: "
                                           f"{at.failure.message}")  # fmt: skip
        return
    legal = Subgradients(at)
    if legal.jumps:
        yield Observation("subgradient", None, Status.NOT_APPLICABLE, JUMPS)
        return
    for tensor, got in at.gradients.items():
        if got.size:
            seen = _judged(legal, tensor, got)
            told = f"on a kink of the definition{where}: {seen.message}" if seen.message else ""
            yield replace(seen, message=told)


def _moved(trial: Trial) -> tuple[Trial, str] | None:
    """Return the trial moved towards other values until it is on a kink, and the words for it."""
    rng = np.random.default_rng([trial.case.seed, 8])
    start, sides = trial.wide.tensors, trial.own_switches
    movable = [k for k in trial.spec.differentiable if trial.spec.tensors[k].values is None]
    for k in range(1, WAYS + 1):
        other = draw(trial.spec, trial.case.other(k)).tensors
        end = {name: np.array(other[name], float) for name in movable}

        def between(part: float, end: Mapping[str, Array] = end) -> dict[str, Array]:
            moved = {n: (1 - part) * start[n] + part * end[n] for n in end}
            # As the layer is given it, in its precision.
            return {**start, **{n: v.astype(trial.case.dtype) for n, v in moved.items()}}

        crossed = _crossed(sides, trial.switches(between(1.0)), rng)
        if crossed is None:
            continue
        kink, place = crossed
        here, low, high = sides.sides[kink][place], 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if trial.switches(between(middle)).sides[kink][place] == here:
                low = middle
            else:
                high = middle
        chosen = between(low if rng.random() < 0.5 else high)
        given = Arrays(chosen, trial.cotangents)
        moved = replace(trial, given=given)
        if ties(moved.vicinity)[1]:
            return moved, f", met on the way to the values of seed={trial.case.seed + k}"
    return None


def _crossed(
    sides: Switches, others: Switches, rng: np.random.Generator
) -> tuple[Kink, tuple[int, ...]] | None:
    """Return a kink on another side, drawn, and an element of it."""
    kinks = [k for k, side in sides.sides.items() if np.any(side != others.sides[k])]
    if not kinks:
        return None
    kink = kinks[int(rng.integers(len(kinks)))]
    places = np.argwhere(sides.sides[kink] != others.sides[kink])
    return kink, tuple(int(i) for i in places[int(rng.integers(len(places)))])


def _judged(legal: Subgradients, tensor: str, got: Array) -> Observation:
    allowed, terms = legal.rounding(tensor)
    usual = [gradients[tensor] for _, gradients in legal.usual]
    size = max(float(np.max(np.abs(g))) for g in usual)
    vacuous = Observation("subgradient", tensor, Status.VACUOUS, powered=False)
    if not allowed <= CAP * max(size, terms):
        return vacuous
    if not np.all(np.isfinite(got)) and legal.trial.overflowed:
        return vacuous
    passed = Observation("subgradient", tensor, Status.PASSED, powered=allowed <= CAP * size)
    if any(np.all(np.abs(got - g) <= allowed) for g in usual):
        return passed
    if any(np.all(np.abs(got - g[tensor]) <= allowed) for _, g in legal.combined):
        return passed
    parts = legal.parts(tensor, allowed)
    if parts is None and np.all(np.isfinite(got)):
        return vacuous
    known = parts or [[g - usual[0] for g in usual]]
    bounds = _Bounds(tensor, legal.trial.wide.tensors[tensor], usual[0], known)
    wrong = bounds.beyond(got, allowed) or bounds.unshared(got, allowed)
    if wrong is not None:
        return wrong
    enough = allowed * float(np.sqrt(got.size))
    nearest = nearest_mixture(usual[0], known, got, enough)
    if nearest is None:
        return vacuous
    if float(np.linalg.norm(got - nearest)) <= enough:
        return passed
    return replace(
        failed("subgradient", tensor, "the gradient is no mixture of those on the sides of these "
                                      "kinks"),
        allowed=allowed, why=WHY,
    )  # fmt: skip


@dataclass(frozen=True)
class _Bounds:
    """What a gradient can be at most and at least, where ties of known sides are mixed."""

    tensor: str
    value: Array
    base: Array
    parts: Sequence[Sequence[Array]]

    def beyond(self, got: Array, allowed: float) -> Observation | None:
        """Return that an element is beyond its derivatives to all sides, None if none is."""
        low = self.base + sum(np.min(sides, axis=0) for sides in self.parts)
        high = self.base + sum(np.max(sides, axis=0) for sides in self.parts)
        off = np.where(np.isfinite(got), np.maximum(low - got, got - high), np.inf)
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), got.shape))
        if off[index] <= allowed:
            return None
        near = float(np.clip(np.nan_to_num(got[index]), low[index], high[index]))
        return Observation(
            "subgradient", self.tensor, Status.FAILED,
            f"the gradient at {self._name(index)} = {self.value[index] + 0.0:.9g} must be "
            f"{_range(low[index], high[index], allowed)}, by its derivatives to all sides",
            index, near, float(got[index]), allowed, WHY,
        )  # fmt: skip

    def unshared(self, got: Array, allowed: float) -> Observation | None:
        """Return that what is tied gets too much or too little together, None if nothing does."""
        worst = None
        for tie in self.parts:
            where = np.any([side != 0 for side in tie], axis=0)
            start, total = float(np.sum(self.base[where])), float(np.sum(got[where]))
            sums = [[float(np.sum(side[where])) for side in sides] for sides in self.parts]
            low, high = start + sum(map(min, sums)), start + sum(map(max, sums))
            off = max(low - total, total - high) - allowed * where.sum()
            if off > 0 and (worst is None or off > worst[0]):
                worst = off, where, low, high, total
        if worst is None:
            return None
        _, where, low, high, total = worst
        names = [self._name(tuple(map(int, i))) for i in np.argwhere(where)]
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        return Observation(
            "subgradient", self.tensor, Status.FAILED,
            f"the gradients at {shown}, which are tied, must add up to "
            f"{_range(low, high, allowed)}, however it is shared; they add up to {total:.9g}",
            None, float(np.clip(total, low, high)), total, allowed, WHY,
        )  # fmt: skip

    def _name(self, index: tuple[int, ...]) -> str:
        return f"{self.tensor}[{', '.join(map(str, index))}]" if index else self.tensor


def _range(low: float, high: float, allowed: float) -> str:
    if high - low <= allowed:
        return f"{low + 0.0:.9g}"  # no -0
    return f"between {low + 0.0:.9g} and {high + 0.0:.9g}"
