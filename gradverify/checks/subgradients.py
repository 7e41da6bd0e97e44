"""The gradients that are right on kinks: what follows from each choice of sides, and mixtures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from gradverify.calculus.compile import SWITCHES
from gradverify.calculus.switches import Kink, Switches
from gradverify.cases import Array, Arrays
from gradverify.checks.precision import DOUBT, GROSS
from gradverify.sides import Tie, ties
from gradverify.trial import Trial

# So many sides of ties are tried one by one, and so many choices for all together; beyond, only
# the usual rules are, which can tell that a gradient is right but not that it is wrong.
MOST, MOST_TOGETHER = 256, 64
# The rounding of gradients is measured this far from the kink, in units of what is on it, so that
# the rounding put in does not cross it.
ASIDE = 1024
# An output that changes by more than this many units of what is on a kink, or by this part of
# itself, has a jump there.
JUMP, MOST_JUMP = 1024, 1 / 32
# For each tie the weights of its sides; outputs, and gradients by tensor.
Weights = Sequence[Array]
Found = tuple[tuple[Array, ...], dict[str, Array]]


@dataclass(frozen=True)
class Subgradients:
    """The gradients that are right at a trial on kinks."""

    trial: Trial

    @cached_property
    def _tied(self) -> tuple[Switches, list[Tie]]:
        return ties(self.trial.vicinity)

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
        trial = self.trial
        outputs, pullback = trial.seen.run(trial.point, SWITCHES, switches=Switches(forced))
        return outputs, pullback(*trial.wide.cotangents)

    def _chosen(self, numbers: Sequence[int]) -> list[Array]:
        pairs = zip(self.ties, numbers, strict=True)
        return [np.eye(len(tie.sides))[k] for tie, k in pairs]

    @cached_property
    def usual(self) -> list[Found]:
        """Outputs and gradients by the rules that most layers follow: the same side at every tie,
        the definition's first, or equal shares."""
        return [self._ruled(dict.fromkeys(self._labels, rule)) for rule in RULES]

    @cached_property
    def combined(self) -> list[Found]:
        """The same with a rule for each kink, where there are few: 27 are quickly tried."""
        rules = product(RULES, repeat=len(self._labels)) if len(self._labels) in (2, 3) else ()
        return [self._ruled(dict(zip(self._labels, r, strict=True))) for r in rules]

    @cached_property
    def _labels(self) -> list[int | str]:
        return sorted({_label(t) for t in self.ties}, key=str)

    def _ruled(self, rules: Mapping[int | str, str]) -> Found:
        return self.at([_share(rules[_label(t)], len(t.sides)) for t in self.ties])

    @cached_property
    def jumps(self) -> bool:
        """Whether some side has other outputs, or none that are finite."""
        part = min(JUMP * self.trial.vicinity.amplitude, MOST_JUMP)
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
        around, cotangents = self.trial.vicinity, self.trial.wide.cotangents
        rng = np.random.default_rng([self.trial.case.seed, 9])
        return [
            replace(self.trial, given=Arrays(self.trial.within(moved.tensors), cotangents))
            for moved in around.shifts(ASIDE * around.amplitude, rng)
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
