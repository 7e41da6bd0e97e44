"""A cause of a wrong result, and whether one explains all that was seen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, product

import numpy as np

from gradverify.cases import Array
from gradverify.diagnose.coefficient import Coefficient, Measured, coefficients
from gradverify.diagnose.sample import Evidence, Sample

# Beside 1, at these factors it shows whether a result depends on one linearly.
LINEAR = (0.0, 2.0)
# What a term may be multiplied by where it enters more than once, as over time: then no factor
# can be measured, but these can be tried.
TRIED = (Fraction(0), Fraction(-1), Fraction(2), Fraction(1, 2))
# Two parts of a result are told apart where they differ by more than this fraction.
APART = 1e-6
# Of the factors that fit what was measured, so many are tried.
LIKELY = 4


@dataclass(frozen=True)
class Cause:
    """What is wrong: its kind in one word or two, and a sentence; `follows` names the tensor of
    which this is only a consequence."""

    kind: str
    text: str
    follows: str | None = None


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
                # Where the result is linear in the factor, no number fits if this does not.
                bent = self.at(sample, 2.0) - self.at(sample, 1.0) - part
                linear = np.max(np.abs(bent)) <= APART * largest
                return None if linear else self._tried(evidence)
            measured.append(Measured(sample.sizes, factor, sample.tolerance / largest))
        return self._first(evidence, coefficients(measured, sizes))

    def _tried(self, evidence: Evidence) -> Cause | None:
        numbers = map(Coefficient, TRIED)
        return self._first(evidence, (*numbers, *self.tries(evidence.failing[0])))

    def _first(self, evidence: Evidence, factors: Iterable[Coefficient]) -> Cause | None:
        return next((self.told(f) for f in factors if self._holds(evidence, f)), None)

    def _holds(self, evidence: Evidence, factor: Coefficient) -> bool:
        def fits(sample: Sample) -> bool:
            try:
                value = factor.value(sample.sizes)
            except ZeroDivisionError:
                return False
            if factor.less and np.isnan(value):
                # N/(N-1) at N = 1, where whoever writes it does something else: but not of a
                # constant, of whose few values that leaves too few to tell a formula from.
                return not sample.failing and factor.less[0] in sample.trial.spec.dims
            return sample.explained(self.at(sample, value))

        return all(map(fits, (*evidence.failing, *evidence.passing)))


@dataclass(frozen=True)
class Both:
    """That two things are multiplied by unknown factors at once: `at(sample, a, b)` is the result
    then."""

    one: Scaled
    other: Scaled
    at: Callable[[Sample, float, float], Array]

    def explains(self, evidence: Evidence, sizes: Sequence[str]) -> Cause | None:
        """Return the cause if two factors, numbers or ones of sizes, explain every sample."""
        measured: tuple[list[Measured], list[Measured]] = ([], [])
        for sample in evidence.failing:
            parts = [self.at(sample, 1, 1) - self.at(sample, *zero) for zero in ((0, 1), (1, 0))]
            if any(p.shape != sample.got.shape or not np.all(np.isfinite(p)) for p in parts):
                return None
            if sample.looked_at is not None:
                parts = [np.where(sample.looked_at, p, 0.0) for p in parts]
            columns = np.stack([p.ravel() for p in parts], axis=1)
            change, _, rank, lengths = np.linalg.lstsq(columns, sample.difference.ravel(), APART)
            left = sample.difference.ravel() - columns @ change
            if not np.all(np.abs(left) <= sample.tolerance):
                return None
            if rank == len(parts):  # else the two look the same here
                slack = sample.tolerance * np.sqrt(len(left)) / lengths[-1]
                for known, by in zip(measured, change, strict=True):
                    known.append(Measured(sample.sizes, 1 + float(by), float(slack)))
        if not measured[0]:
            return None
        factors = [list(islice(coefficients(known, sizes), LIKELY)) for known in measured]
        samples = (*evidence.failing, *evidence.passing)
        for a, b in product(*factors):
            if all(s.explained(self.at(s, a.value(s.sizes), b.value(s.sizes)))
                   for s in samples):  # fmt: skip
                found = self.one.told(a), self.other.told(b)
                texts = dict.fromkeys(cause.text for cause in found)
                twice = " (two terms of it)" if len(texts) < len(found) else ""
                return Cause(found[0].kind, " and ".join(texts) + twice)
        return None


@dataclass(frozen=True)
class Instead:
    """That something else is returned: `at(sample)` is what, None where it cannot be told."""

    at: Callable[[Sample], Array | None]
    cause: Cause

    def explains(self, evidence: Evidence, sizes: Sequence[str]) -> Cause | None:
        """Return the cause if it explains every sample."""
        for sample in evidence.failing:
            predicted = self.at(sample)
            if predicted is None or not sample.explained(predicted):
                return None
        # What cannot be there at all, for its shape, is wrong in other cases only.
        found = ((sample, self.at(sample)) for sample in evidence.passing)
        fits = all(predicted is None or sample.explained(predicted) for sample, predicted in found)
        return self.cause if fits else None
