"""kinks: on a kink or tie of the definition, every gradient is one of those that are right there.

Where a definition switches (relu at 0, equal elements under a maximum), each switch may be taken
to either side, whatever the others do, and anything in between is right too: what automatic
differentiation returns for one or another way of writing the same thing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from math import prod

import numpy as np

from gradverify.calculus.compile import SWITCHES, Kink, Switches
from gradverify.cases import Array, Arrays, draw
from gradverify.checks.observation import Observation, failed
from gradverify.checks.precision import GROSS
from gradverify.checks.symbolic import DOUBT
from gradverify.numerics.mixture import nearest_mixture
from gradverify.result import Status
from gradverify.sides import Tie, ties
from gradverify.spec import Spec
from gradverify.trial import Trial, make_oracle

# So many sides of ties are tried one by one, and so many choices for all together; beyond, only
# the usual rules are, which can tell that a gradient is right but not that it is wrong.
MOST, MOST_TOGETHER = 256, 64
# The rounding of gradients is measured this far from the kink, in units of what is on it, so that
# the rounding put in does not cross it.
ASIDE = 1024
# An output that changes by more than this many units of what is on a kink, or by this part of
# itself, has a jump there.
JUMP, MOST_JUMP = 1024, 1 / 32
# Where more than this part of a gradient is allowed, a wrong choice could not be told.
CAP = 0.1
# To how many other points a kink is looked for on the way, and by how many halvings: all digits.
WAYS, HALVINGS = 3, 60

WHY = "the rounding of gradients beside the kink"
ONE_SIDE = "no case could be placed on a kink: all values drawn are on one side of each"
JUMPS = "the definition jumps, or is not finite, on one side of its kinks"

# For each tie the weights of its sides; outputs, and gradients by tensor.
Weights = Sequence[Array]
Found = tuple[tuple[Array, ...], dict[str, Array]]


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
    legal = _Legal(at)
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
        other = draw(trial.spec, replace(trial.case, seed=trial.case.seed + k)).tensors
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
        given = Arrays(chosen, trial.arrays.cotangents)
        moved = replace(trial, given=given)
        if ties(moved.point)[1]:
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


@dataclass(frozen=True)
class _Legal:
    """The gradients that are right at a trial on kinks."""

    trial: Trial

    @cached_property
    def _tied(self) -> tuple[Switches, list[Tie]]:
        return ties(self.trial.point)

    @property
    def ties(self) -> list[Tie]:
        """The kinks that the trial is on."""
        return self._tied[1]

    def at(self, weights: Weights) -> Found:
        """Return outputs and gradients with a mixture of its sides taken at each tie."""
        forced: dict[Kink, Array] = {}
        for tie, shares in zip(self.ties, weights, strict=True):
            if tie.kink not in forced:
                forced[tie.kink] = np.array(self._tied[0].sides[tie.kink], float)
            pairs = zip(shares, tie.sides, strict=True)
            forced[tie.kink][tie.place] = sum(w * side for w, side in pairs)
        point = self.trial.point
        outputs, pullback = point.oracle.run(
            point.tensors, point.constants, point.sizes, SWITCHES, switches=Switches(forced)
        )
        return outputs, pullback(*self.trial.wide.cotangents)

    def _chosen(self, numbers: Sequence[int]) -> list[Array]:
        pairs = zip(self.ties, numbers, strict=True)
        return [np.eye(len(tie.sides))[k] for tie, k in pairs]

    @cached_property
    def usual(self) -> list[Found]:
        """Outputs and gradients by the rules that most layers follow: the same side at every tie,
        or at every tie of some kinks, or equal shares. The definition's own are the first."""
        labels = sorted({_label(t) for t in self.ties}, key=str)
        rules: list[dict[int | str, str]] = [dict.fromkeys(labels, rule) for rule in RULES]
        if len(labels) in (2, 3):  # 27 combinations are quickly tried
            rules += [dict(zip(labels, r, strict=True)) for r in product(RULES, repeat=len(labels))]
        return [self.at([_share(rule[_label(t)], len(t.sides)) for t in self.ties])
                for rule in rules]  # fmt: skip

    @cached_property
    def jumps(self) -> bool:
        """Whether some side has other outputs, or none that are finite."""
        part = min(JUMP * self.trial.point.amplitude, MOST_JUMP)
        base = self.usual[0][0]
        for outputs, gradients in self.usual:
            if not all(np.all(np.isfinite(g)) for g in gradients.values()):
                return True
            for y, other in zip(base, outputs, strict=True):
                if not np.all(np.abs(other - y) <= part * np.maximum(1.0, np.abs(y))):
                    return True
        return False

    @cached_property
    def nearby(self) -> list[Trial]:
        """Trials to both sides, near enough to have the same rounding."""
        point, cotangents = self.trial.point, self.trial.wide.cotangents
        rng = np.random.default_rng([self.trial.case.seed, 9])
        return [
            replace(self.trial, given=Arrays(self.trial.within(moved), cotangents))
            for moved in point.shifts(ASIDE * point.amplitude, rng)
        ]

    def rounding(self, tensor: str) -> tuple[float, float]:
        """Return what rounding may change a gradient by, and the size of its terms."""
        allowed = [t.reference.allowed_gradients[tensor] for t in self.nearby]
        terms = max(a.terms for a in allowed)
        value = sum(a.value for a in allowed)
        if self.trial.case.dtype == "float64":
            # What is smaller is a matter of digits, which other checks ask about with more care.
            return DOUBT * value, terms
        return max(value, GROSS * terms), terms

    @cached_property
    def alone(self) -> list[list[dict[str, Array]]]:
        """For each tie, the gradients with each of its sides."""
        return [self._choices([k]) for k in range(len(self.ties))]

    def _choices(self, some: Sequence[int]) -> list[dict[str, Array]]:
        """Return the gradients of all choices at some ties together."""
        found = []
        for numbers in product(*(range(len(self.ties[k].sides)) for k in some)):
            every = [0] * len(self.ties)
            for k, number in zip(some, numbers, strict=True):
                every[k] = number
            found.append(self.at(self._chosen(every))[1])
        return found

    @cached_property
    def drawn(self) -> tuple[list[Array], dict[str, Array]]:
        """Weights that are drawn, and the gradients with them.

        In its weights a gradient is a polynomial, and one that is not zero is not zero there.
        """
        rng = np.random.default_rng([self.trial.case.seed, 10])
        weights = [rng.dirichlet(np.ones(len(t.sides))) for t in self.ties]
        return weights, self.at(weights)[1]

    @cached_property
    def changed(self) -> list[dict[str, Array]]:
        """For each tie, the gradients with these weights but for its own."""
        rng = np.random.default_rng([self.trial.case.seed, 11])
        weights, found = self.drawn[0], []
        for k, tie in enumerate(self.ties):
            own = rng.dirichlet(np.ones(len(tie.sides)))
            found.append(self.at([*weights[:k], own, *weights[k + 1 :]])[1])
        return found

    def parts(self, tensor: str, allowed: float) -> list[list[Array]] | None:
        """Return what each side of each tie adds to a gradient; None where they are too many.

        Where ties are behind one another their sides do not add up: then what each choice of
        these together adds, as the sides of one tie.
        """
        if sum(len(t.sides) - 1 for t in self.ties) > MOST:
            return None
        base = self.usual[0][1][tensor]
        parts = [[g[tensor] - base for g in sides] for sides in self.alone]
        weights, mixed = self.drawn
        pairs = [(w, s) for ws, p in zip(weights, parts, strict=True)
                 for w, s in zip(ws, p, strict=True)]  # fmt: skip
        if np.all(np.abs(base + sum(w * side for w, side in pairs) - mixed[tensor]) <= allowed):
            return parts
        groups = self._dependent(tensor)
        counts = [prod(len(self.ties[k].sides) for k in some) for some in groups]
        if max(counts) > MOST_TOGETHER or sum(counts) > MOST:
            return None
        return [[g[tensor] - base for g in self._choices(some)] for some in groups]

    def _dependent(self, tensor: str) -> list[list[int]]:
        """Return groups of ties that change no element of a gradient in common."""
        groups: list[tuple[Array, list[int]]] = []
        for k, found in enumerate(self.changed):
            rows, some = found[tensor] != self.drawn[1][tensor], [k]
            for other, members in [g for g in groups if np.any(g[0] & rows)]:
                rows, some = rows | other, [*members, *some]
            groups = [g for g in groups if not np.any(g[0] & rows)] + [(rows, some)]
        return [some for _, some in groups]


# The side that the definition takes, the last of the others, or equal shares.
RULES = ("own", "other", "equal")


def _share(rule: str, count: int) -> Array:
    if rule == "equal":
        return np.full(count, 1 / count)
    return np.asarray(np.eye(count)[0 if rule == "own" else -1])


def _label(tie: Tie) -> int | str:
    return tie.kink[0] if isinstance(tie.kink, tuple) else tie.kink


def _judged(legal: _Legal, tensor: str, got: Array) -> Observation:
    allowed, terms = legal.rounding(tensor)
    usual = [gradients[tensor] for _, gradients in legal.usual]
    size = max(float(np.max(np.abs(g))) for g in usual)
    vacuous = Observation("subgradient", tensor, Status.VACUOUS, powered=False)
    if not allowed <= CAP * max(size, terms):
        return vacuous
    passed = Observation("subgradient", tensor, Status.PASSED, powered=allowed <= CAP * size)
    if any(np.all(np.abs(got - g) <= allowed) for g in usual):
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
            f"the gradient at {self._name(index)} = {self.value[index]:.9g} must be "
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
