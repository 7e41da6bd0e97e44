"""What is wrong with a gradient or an output: by fitting, and by comparing failing with passing.

A wrong gradient is fitted to the derived terms (missing, scaled, of the wrong sign), to sums over
other axes, to other places of the right numbers. What no one cause explains in all cases is told
by where it is wrong: in which cases, in which elements. What neither explains is *unexplained*.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradverify.cases import Case
from gradverify.checks.finite_difference import slope
from gradverify.checks.observation import Observation
from gradverify.checks.offered import KINDS
from gradverify.diagnose import offered, shapes, state, terms, where
from gradverify.diagnose.cause import Both, Cause, Instead, Scaled
from gradverify.diagnose.sample import Evidence, Sample, gradient_sample, output_sample
from gradverify.diagnose.where import Condition
from gradverify.numerics.finite_difference import Estimate
from gradverify.trial import LayerRaised, Trial

UNEXPLAINED = Cause(
    "unexplained",
    "unexplained: no one change of a term, a factor, an axis or a constant gives it, and what "
    "fails has nothing in common that what passes has not",
)
# Without a definition there are no terms to look at.
UNDEFINED = Cause(
    "unexplained",
    "unexplained: no factor and no other axis gives it, and what fails has nothing in common that "
    "what passes has not; in a definition, terms and paths are told apart",
)
# So many cases are compared, at most so many of them known to fail; more would only say the same.
MOST_CASES, MOST_FAILING = 60, 40
# Without a definition every element is differenced: of small tensors, in a few cases.
DIFFERENCED, DIFFERENCED_CASES = 24, 6
# An error that vanishes with a constant falls by this much when the constant does by a thousand.
VANISHES = 0.05
# Relative to what is right it falls to rounding.
CLOSE = 1e-9
# ... and by no more than this, the square of what is in proportion being a millionth: less is not
# there at all.
PROPORTIONAL = 1e-8


class Diagnoses:
    """What is wrong with each tensor of one layer, found once and told to every check.

    `cases` are those that were tried, `others` gives some that were not, which are looked at where
    few of those fail; `shared` are the questions that `contract` has answered badly, with their
    tensors.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        others: Callable[[], Iterable[Case]] = tuple,
        shared: Collection[tuple[str, str | None]] = (),
    ) -> None:
        self.cases, self.others = cases, others
        self.shared = {t: q for q, t in shared if q in state.SHARED}
        self.causes: dict[str, Cause] = {}
        self._trials: dict[Case, Trial] = {}  # what all tensors are looked at in

    def of(self, trial: Trial, check: str, seen: Observation, failing: Collection[Case]) -> Cause:
        """Return what is wrong where a check has failed in a (shrunk) trial and other cases."""
        tensor = seen.tensor
        if check in KINDS:
            return self._of_offered(self._compared(trial, failing), check, seen)
        if check in ("contract", "buffers") or (check == "kinks" and tensor not in self.causes):
            if seen.question == "raises" and (cause := state.of_failure(failing, self.cases)):
                return cause
            # Where there is nothing to add, the question itself has said it.
            return state.of_contract(trial, seen, failing) or Cause(seen.question, "")
        if tensor in self.causes:
            return self.causes[tensor]
        tried = self._compared(trial, failing)
        found = self._from_contract(trial, tensor, tried)
        if found is None and tensor is not None:
            found = _diagnosed(tried, tensor)
        outputs = [y for y in trial.spec.outputs if y in self.causes and y != tensor]
        if found is not None and found.kind == UNEXPLAINED.kind and outputs:
            found = None
        if found is not None and tensor is not None:
            self.causes[tensor] = found
            return found
        # Nothing else is wrong with the tensor: the forward is, or another tensor of a step.
        for other, cause in self.causes.items():
            return Cause(cause.kind, f"it follows from what is wrong with {other}", other)
        return UNEXPLAINED

    def _compared(self, trial: Trial, failing: Collection[Case]) -> list[Trial]:
        """Return the trials to look at: the one at hand, then failing ones before others and
        smaller ones before larger."""
        few = len(failing) < MOST_FAILING
        ordered = sorted([*self.cases, *(self.others() if few else ())], key=lambda c: c.weight)
        failed = [c for c in ordered if c in failing][:MOST_FAILING]
        passed = [c for c in ordered if c not in failing][: MOST_CASES - len(failed)]
        self._trials[trial.case] = trial
        for case in (*failed, *passed):
            self._trials.setdefault(case, replace(trial, case=case))
        return [self._trials[c] for c in dict.fromkeys((trial.case, *failed, *passed))]

    def _of_offered(self, tried: Sequence[Trial], check: str, seen: Observation) -> Cause:
        """Return what is wrong with what a layer offers beside its pullback."""
        found = offered.diagnosed(tried, check, seen)
        if found is None and (wrong := self._wrong_in(tried[0])):
            cause = self.causes[wrong]
            return Cause(cause.kind, f"it follows from what is wrong with {wrong}", wrong)
        return found or UNEXPLAINED

    def _wrong_in(self, trial: Trial) -> str | None:
        """Return a tensor whose gradient is known to be wrong, and is in this trial."""
        if trial.oracle is None:
            return next(iter(self.causes), None)
        samples = ((t, gradient_sample(trial, t)) for t in self.causes if t in trial.gradients)
        return next((t for t, sample in samples if sample and sample.failing), None)

    def _from_contract(
        self, trial: Trial, tensor: str | None, tried: Sequence[Trial]
    ) -> Cause | None:
        """Return what `contract` has said of a tensor, where that explains what others see."""
        question = self.shared.get(tensor, self.shared.get(None))
        if question is None:
            return None
        if question in state.LINEARITY and tensor is not None and trial.oracle is not None:
            # What rounds its cotangent is not linear in it either.
            evidence = Evidence.of(_samples(tried, tensor))
            if found := shapes.rounded(evidence.failing):
                return found
        if (
            question in state.STATE
            and tensor is not None
            and (cause := state.unsteady(trial, tensor))
        ):
            return cause
        cause = state.KINDS[question]
        return Cause(cause.kind, f"{cause.text} (see contract)")


def _diagnosed(tried: Sequence[Trial], tensor: str) -> Cause | None:
    """Return what is wrong with a tensor, None where it is as expected in all trials."""
    trial = tried[0]
    if trial.failure is not None:
        return None
    if cause := state.unsteady(trial, tensor):
        return cause
    evidence = Evidence.of(_samples(tried, tensor))
    if not evidence.failing:
        return None
    elements = where.of_elements(evidence)
    return (
        _everywhere(evidence)
        or (elements and _there(evidence, elements, None))
        or _of_numbers(evidence)
        or _somewhere(evidence, elements)
        or (UNDEFINED if trial.oracle is None else UNEXPLAINED)
    )


def _samples(tried: Sequence[Trial], tensor: str) -> Iterator[Sample]:
    spec, bare = tried[0].spec, tried[0].oracle is None
    gradient = tensor in spec.differentiable
    if bare:
        if gradient:
            yield from _differenced(tried, tensor)
        return
    of = gradient_sample if gradient else output_sample
    for trial in tried:
        if trial.kinked:
            continue  # another gradient may be as right there as the derived one
        found = of(trial, tensor)
        if found is not None:
            yield found


def _differenced(tried: Iterable[Trial], tensor: str) -> Iterator[Sample]:
    """Yield a tensor's gradient beside its differences, element by element."""
    count = 0
    for trial in tried:
        if trial.case.dtype != "float64" or count >= DIFFERENCED_CASES:
            continue
        if trial.failure is not None or not trial.shaped or tensor not in trial.gradients:
            continue
        got = trial.gradients[tensor]
        if not 0 < got.size <= DIFFERENCED:
            continue
        try:
            found = [_element(trial, tensor, k) for k in range(got.size)]
        except LayerRaised:
            continue
        known = [e for e in found if e is not None and np.isfinite(e.value)]
        if len(known) == got.size:
            count += 1
            expected = np.array([e.value for e in known]).reshape(got.shape)
            yield Sample(trial, tensor, got, expected, max(e.allowed for e in known))


def _element(trial: Trial, tensor: str, k: int) -> Estimate | None:
    unit = np.zeros(trial.gradients[tensor].size)
    unit[k] = 1.0
    return slope(trial, tensor, unit.reshape(trial.gradients[tensor].shape))


def _everywhere(evidence: Evidence) -> Cause | None:
    """Return a cause that holds in every case."""
    first = evidence.closely.failing[0]
    for cause in _causes(first):
        found = cause.explains(evidence.closely, first.counts)
        if found is not None:
            return found
    return None


def _of_numbers(evidence: Evidence) -> Cause | None:
    """Return that rounding, or where a small constant stands, explains it."""
    if evidence.failing[0].trial.oracle is None:
        return None
    return shapes.rounded(evidence.failing) or _vanishing(evidence)


def _simple_causes(first: Sample) -> Iterator[Scaled | Instead]:
    """Yield causes that need few numbers to be told apart, likeliest first."""
    yield terms.whole(first.tensor, gradient=first.of_gradient)
    yield from shapes.rearranged(first)
    if first.trial.oracle is not None and first.of_gradient:
        yield from terms.scaled_terms(first)
        yield from shapes.of_another_tensor(first)


def _causes(first: Sample) -> Iterator[Scaled | Both | Instead]:
    yield from _simple_causes(first)
    if first.trial.oracle is None:
        return
    yield from shapes.other_constants(first)
    if first.of_gradient:
        yield from terms.other_sums(first)
        yield from shapes.own_elements(first)
        yield from terms.two_paths(first)
        yield from terms.dropped_factors(first)
        yield from terms.other_reads(first)
    # Of a gradient: that it is right for another forward, one that the layer has, perhaps.
    yield from terms.scaled_definition(first)


def _somewhere(evidence: Evidence, elements: Condition | None) -> Cause | None:
    """Return where it is wrong, and what is wrong there if that can be told."""
    cases = where.of_cases(evidence.failing, evidence.passing)
    found = elements or cases
    if found is None:
        return None
    return _there(evidence, elements, cases) or Cause(found.kind, _only(elements, cases))


def _only(elements: Condition | None, cases: Condition | None) -> str:
    parts = [c.text for c in (elements, cases) if c is not None]
    return f"only {' and '.join(parts)}"


def _there(evidence: Evidence, elements: Condition | None, cases: Condition | None) -> Cause | None:
    """Return what is wrong in some elements or cases only, None where it cannot be told."""
    close = Evidence(evidence.closely.failing, ())
    if elements is not None and elements.mask is not None:
        masks = [elements.mask(s) for s in close.failing]
        close = close.within([m for m in masks if m is not None])
    first = close.failing[0]
    for cause in _simple_causes(first):
        if inner := cause.explains(close, first.counts):
            found = elements or cases
            assert found is not None
            return Cause(found.kind, f"{_only(elements, cases)}; there {inner.text}")
    return None


def _vanishing(evidence: Evidence) -> Cause | None:
    """Return that a small constant is in the wrong place: the error vanishes as it does."""
    first = evidence.closely.failing[0]
    for name, values in first.trial.spec.constants.items():
        if not shapes.small(values):
            continue
        largest = max(values)
        samples = [s for s in evidence.failing if s.case.at[name] == largest
                   and s.case.values == "ordinary"]  # fmt: skip
        samples = sorted(samples, key=lambda s: -s.expected.size)[:3]
        errors = [_errors(s, name, largest) for s in samples]
        falls = [
            _falls(absolute, s.tolerance) for s, (absolute, _) in zip(samples, errors, strict=True)
        ]
        # A gradient that vanishes with the constant is not wrong in it.
        if falls and all(falls) and any(_falls(relative, CLOSE) for _, relative in errors):
            return Cause("eps", f"{name} is left out or in the wrong place: the error vanishes as "
                                f"{name} does")  # fmt: skip
    return None


def _falls(errors: Sequence[float], slack: float) -> bool:
    """Whether errors at a constant, a thousandth and a millionth of it fall as it does."""
    a, b, c = errors
    # What is not there at all with any other value of the constant does not vanish with it.
    falls = PROPORTIONAL * a <= b <= VANISHES * a and c <= VANISHES * b + slack
    return falls and bool(np.isfinite(a))


def _errors(sample: Sample, name: str, largest: float) -> tuple[list[float], list[float]]:
    """Return the largest errors with smaller and smaller values of a constant, and the same
    relative to what is right; nan where there is no result."""
    found = [_error(sample, name, largest * f) for f in (1.0, 1e-3, 1e-6)]
    return [error for error, _ in found], [error / (right or 1.0) for error, right in found]


def _error(sample: Sample, name: str, value: float) -> tuple[float, float]:
    """Return the largest error with another value of a constant, and what is right at most."""
    trial = sample.trial
    constants = {**trial.constants, name: value}
    found = sample.beside(replace(trial.point, constants=constants))
    if found is None:
        return np.nan, np.nan
    got, right = found
    error = np.max(np.abs(got - right), initial=0.0)
    return float(error), float(np.max(np.abs(right), initial=0.0))


__all__ = ["UNEXPLAINED", "Cause", "Diagnoses"]
