"""What is wrong with a gradient or an output: by fitting, and by comparing failing with passing.

A wrong gradient is fitted to the derived terms (missing, scaled, of the wrong sign), to sums over
other axes, to other places of the right numbers. What no one cause explains in all cases is told
by where it is wrong: in which cases, in which elements. What neither explains is *unexplained*.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from gradverify.cases import Case
from gradverify.checks.finite_difference import slope
from gradverify.checks.observation import Observation
from gradverify.diagnose import shapes, state, terms, where
from gradverify.diagnose.cause import Cause, Instead, Scaled
from gradverify.diagnose.sample import Evidence, Sample, gradient_sample, output_sample
from gradverify.numerics.finite_difference import Estimate
from gradverify.trial import Call, LayerRaised, Trial, call
from gradverify.view import seen as viewed

UNEXPLAINED = Cause(
    "unexplained",
    "unexplained: no change of a term, a factor, an axis or a constant gives it, and failing "
    "cases and elements have nothing in common that passing ones do not",
)
# So many cases are compared; more would only say the same.
MOST_CASES = 60
# Without a definition every element is differenced: of small tensors, in a few cases.
DIFFERENCED, DIFFERENCED_CASES = 24, 6
# An error that vanishes with a constant falls by this much when the constant does by a thousand.
VANISHES = 0.05


def diagnose(
    trial: Trial,
    check: str,
    seen: Observation,
    cases: Sequence[Case],
    shared: Collection[tuple[str, str | None]] = (),
) -> Cause:
    """Return what is wrong where `check` has failed in a (shrunk) trial.

    `cases` are those that were tried, failing and passing ones, and `shared` the questions that
    `contract` has answered badly, with their tensors.
    """
    if check == "contract":
        return state.of_contract(trial, seen) or UNEXPLAINED
    for question, tensor in shared:
        if question in state.SHARED and tensor in (seen.tensor, None):
            cause = state.KINDS[question]
            return Cause(cause.kind, f"{cause.text} (see contract)")
    if seen.tensor is None or trial.failure is not None:
        return UNEXPLAINED
    evidence = Evidence.of(_samples(trial, seen.tensor, cases))
    if not evidence.failing:
        return UNEXPLAINED
    return _everywhere(evidence) or _somewhere(evidence) or UNEXPLAINED


def _samples(trial: Trial, tensor: str, cases: Iterable[Case]) -> Iterator[Sample]:
    gradient = tensor in trial.spec.differentiable
    if trial.oracle is None:
        if gradient:
            yield from _differenced(trial, tensor, cases)
        return
    of = gradient_sample if gradient else output_sample
    chosen = sorted(dict.fromkeys((trial.case, *cases)), key=lambda c: c.weight)[:MOST_CASES]
    for case in chosen:
        other = trial if case == trial.case else Trial(
            trial.layer, case, trial.oracle, trial.redundant
        )  # fmt: skip
        found = of(other, tensor)
        if found is not None:
            yield found


def _differenced(trial: Trial, tensor: str, cases: Iterable[Case]) -> Iterator[Sample]:
    """Yield a tensor's gradient beside its differences, element by element."""
    count = 0
    for case in dict.fromkeys((trial.case, *sorted(cases, key=lambda c: c.weight))):
        other = Trial(trial.layer, case, None)
        if case.dtype != "float64" or count >= DIFFERENCED_CASES:
            continue
        if other.failure is not None or not other.shaped or tensor not in other.gradients:
            continue
        got = other.gradients[tensor]
        if not 0 < got.size <= DIFFERENCED:
            continue
        try:
            found = [_element(other, tensor, k) for k in range(got.size)]
        except LayerRaised:
            continue
        known = [e for e in found if e is not None and np.isfinite(e.value)]
        if len(known) == got.size:
            count += 1
            expected = np.array([e.value for e in known]).reshape(got.shape)
            yield Sample(other, tensor, got, expected, max(e.allowed for e in known))


def _element(trial: Trial, tensor: str, k: int) -> Estimate | None:
    unit = np.zeros(trial.gradients[tensor].size)
    unit[k] = 1.0
    return slope(trial, tensor, unit.reshape(trial.gradients[tensor].shape))


def _everywhere(evidence: Evidence) -> Cause | None:
    """Return a cause that holds in every case."""
    first = evidence.closely.failing[0]
    for cause in _causes(first):
        found = cause.explains(evidence.closely, first.trial.spec.dims + _integers(first))
        if found is not None:
            return found
    if first.trial.oracle is None:
        return None
    precise = [s for s in evidence.closely.failing if s.case.dtype == "float64"]
    found = shapes.rounded(precise[0]) if precise else None
    return found or _vanishing(evidence)


def _integers(sample: Sample) -> tuple[str, ...]:
    constants = sample.trial.spec.constants
    return tuple(
        k for k, v in constants.items() if all(type(n) is int for n in v)
    )  # a kernel's size counts as well


def _causes(first: Sample) -> Iterator[Scaled | Instead]:
    known = first.trial.oracle is not None
    gradient = first.tensor in first.trial.spec.differentiable
    yield terms.whole(first.tensor)
    yield from shapes.rearranged(first)
    if known and gradient:
        yield from terms.scaled_terms(first)
        yield from shapes.of_another_tensor(first)
    if known:
        yield from shapes.other_constants(first)
    if known and gradient:
        yield from terms.other_sums(first)
        yield from terms.two_paths(first)
        yield from terms.dropped_factors(first)


def _somewhere(evidence: Evidence) -> Cause | None:
    """Return where it is wrong, and what is wrong there if that can be told."""
    elements = where.of_elements(evidence)
    cases = where.of_cases(
        [s.case for s in evidence.failing], [s.case for s in evidence.passing],
        evidence.failing[0].trial.spec,
    )  # fmt: skip
    found = elements or cases
    if found is None:
        return None
    parts = [c.text for c in (elements, cases) if c is not None]
    close = Evidence(evidence.closely.failing, ())
    if elements is not None and elements.mask is not None:
        masks = [elements.mask(s) for s in close.failing]
        close = close.within([m for m in masks if m is not None])
    inner = None
    first = close.failing[0]
    for cause in _causes(first):
        inner = cause.explains(close, first.trial.spec.dims)
        if inner is not None:
            break
    told = f"; there {inner.text}" if inner else ""
    return Cause(found.kind, f"only where {', and '.join(parts)}{told}")


def _vanishing(evidence: Evidence) -> Cause | None:
    """Return that a constant is in the wrong place: the error vanishes as the constant does."""
    first = evidence.closely.failing[0]
    for name, values in first.trial.spec.constants.items():
        if not all(isinstance(v, float) and v > 0 for v in values):
            continue
        largest = max(values)
        samples = [s for s in evidence.failing if s.case.at[name] == largest]
        sample = samples[0] if samples else first
        errors = [_error(sample, name, largest * f) for f in (1.0, 1e-3, 1e-6)]
        if None in errors:
            continue
        a, b, c = (e or 0.0 for e in errors)
        if a > 0 and b <= VANISHES * a and c <= VANISHES * b + sample.allowed:
            kind = "eps" if largest < VANISHES else "constant"
            return Cause(kind, f"{name} is left out or in the wrong place: the error vanishes as "
                               f"{name} does")  # fmt: skip
    return None


def _error(sample: Sample, name: str, value: float) -> float | None:
    """Return the largest error with another value of a constant."""
    trial = sample.trial
    assert trial.oracle is not None
    constants = {**trial.constants, name: value}
    found = call(trial.layer, trial.wide.tensors, constants, trial.wide.cotangents)
    if not isinstance(found, Call):
        return None
    outputs, pullback = viewed(trial.oracle, trial.view).run(
        trial.wide.tensors, constants, trial.sizes
    )
    if sample.tensor in trial.spec.differentiable:
        got, expected = found.gradients.get(sample.tensor), pullback(*trial.wide.cotangents)
        right = expected[sample.tensor]
    else:
        names = trial.spec.outputs
        got = dict(zip(names, found.outputs, strict=True))[sample.tensor]
        right = dict(zip(names, outputs, strict=True))[sample.tensor]
    if got is None or not trial.fits(sample.tensor, got):
        return None
    return float(np.max(np.abs(np.asarray(got, float) - right), initial=0.0))


__all__ = ["UNEXPLAINED", "Cause", "diagnose"]
