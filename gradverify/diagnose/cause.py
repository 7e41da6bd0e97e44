"""A cause of a wrong result, and whether one explains all that was seen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gradverify.cases import Array
from gradverify.diagnose.coefficient import Coefficient, Measured, coefficients
from gradverify.diagnose.sample import Evidence, Sample

# What a term may be multiplied by where it enters more than once, as over time: then no factor
# can be measured, but these can be tried.
TRIED = (Fraction(0), Fraction(-1), Fraction(2), Fraction(1, 2))


@dataclass(frozen=True)
class Cause:
    """What is wrong: its kind in one word or two, and a sentence."""

    kind: str
    text: str


@dataclass(frozen=True)
class Scaled:
    """That something is multiplied by an unknown factor: `at(sample, factor)` is the result then.

    `told` says it of a factor; `tries` are those that are tried beside numbers where no factor
    can be measured, since the result does not depend on it linearly.
    """

    at: Callable[[Sample, float], Array]
    told: Callable[[Coefficient], Cause]
    tries: Callable[[Sample], Iterable[Coefficient]] = lambda sample: ()

    def explains(self, evidence: Evidence, sizes: Sequence[str]) -> Cause | None:
        """Return the cause if one factor, a number or one of sizes, explains every sample."""
        measured = []
        for sample in evidence.failing:
            part = self.at(sample, 1.0) - self.at(sample, 0.0)
            if part.shape != sample.got.shape or not np.all(np.isfinite(sample.difference)):
                return None
            if sample.looked_at is not None:
                part = np.where(sample.looked_at, part, 0.0)
            square, largest = float(np.sum(part * part)), float(np.max(np.abs(part)))
            if not largest > sample.allowed or not np.isfinite(square):
                return None  # it does not matter here, yet the sample fails
            factor = 1 + float(np.sum(sample.difference * part)) / square
            if not sample.explained(sample.expected + (factor - 1) * part):
                return self._tried(evidence)
            measured.append(Measured(sample.case.at, factor, sample.tolerance / largest))
        return self._first(evidence, coefficients(measured, sizes))

    def _tried(self, evidence: Evidence) -> Cause | None:
        numbers = map(Coefficient, TRIED)
        return self._first(evidence, (*numbers, *self.tries(evidence.failing[0])))

    def _first(self, evidence: Evidence, factors: Iterable[Coefficient]) -> Cause | None:
        return next((self.told(f) for f in factors if self._holds(evidence, f)), None)

    def _holds(self, evidence: Evidence, factor: Coefficient) -> bool:
        def fits(sample: Sample) -> bool:
            try:
                value = factor.value(sample.case.at)
            except ZeroDivisionError:
                return False
            return sample.explained(self.at(sample, value))

        return all(map(fits, (*evidence.failing, *evidence.passing)))


@dataclass(frozen=True)
class Instead:
    """That something else is returned: `at(sample)` is what, None where it cannot be told."""

    at: Callable[[Sample], Array | None]
    cause: Cause

    def explains(self, evidence: Evidence, sizes: Sequence[str]) -> Cause | None:
        """Return the cause if it explains every sample."""
        for sample in (*evidence.failing, *evidence.passing):
            predicted = self.at(sample)
            if predicted is None or not sample.explained(predicted):
                return None
        return self.cause
