"""What is wrong with the tangents of a jvp or with a double backward: by fitting.

Both are sums over the directions, the cotangents and the paths of what is derived; one of these is
missing, scaled or of the wrong sign, or the right numbers stand in other places.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from gradverify.calculus import weighted
from gradverify.calculus.compile import Oracle
from gradverify.calculus.weighted import Term, Weighted
from gradverify.cases import Array
from gradverify.checks import CHECKS
from gradverify.checks.adjoint import weighed
from gradverify.checks.observation import Observation
from gradverify.checks.offered import KINDS, Offered, Tangents
from gradverify.diagnose import state, where
from gradverify.diagnose.cause import Cause, Instead, Scaled
from gradverify.diagnose.coefficient import Coefficient
from gradverify.diagnose.sample import MOST_ELEMENTS, Evidence, Sample
from gradverify.diagnose.shapes import of_few_digits, rearranged
from gradverify.diagnose.terms import MOST_TERMS, told
from gradverify.result import Status
from gradverify.trial import LayerRaised, Trial
from gradverify.view import SeenTwice

# Questions whose numbers are compared with derived ones, element by element.
DERIVED = ("tangent", "second")
# So many of them are looked at.
MOST_TRIALS = 25


def diagnosed(tried: Sequence[Trial], check: str, seen: Observation) -> Cause | None:
    """Return what is wrong, here and in other trials, None where that cannot be told."""
    if seen.question in state.KINDS:
        return Cause(state.KINDS[seen.question].kind, "")  # the question itself has said it
    if seen.tensor is None:
        return Cause(seen.question, "")
    trials = tried[:MOST_TRIALS]
    if seen.question not in DERIVED:
        found = [s for t in trials if (s := _of_question(t, check, seen))]
        return _explained(Evidence.of(found), _of_products(KINDS[check](trials[0]), seen))
    found = [s for t in trials if (s := _sample(KINDS[check](t), seen.tensor))]
    evidence = Evidence.of(found)
    return (
        _explained(evidence, _causes(KINDS[check], evidence))
        or of_few_digits(evidence.failing)
        or _somewhere(evidence)
    )


def _sample(one: Offered, tensor: str) -> Sample | None:
    if one.trial.kinked or one.trial.failure is not None:
        return None
    try:
        got = one.got.get(tensor)
    except LayerRaised:
        return None
    allowance = one.allowed[tensor]
    if got is None or not one.within_range(tensor) or not 0 < got.size <= MOST_ELEMENTS:
        return None
    if allowance.vacuous and not one.zero(tensor):
        return None
    return Sample(one.trial, tensor, got, one.right[tensor], allowance.value)


def _of_question(trial: Trial, check: str, seen: Observation) -> Sample | None:
    """Return the two numbers that a check has compared in a case as a sample of one element."""
    asked = CHECKS[check]
    if not asked.asks(trial) or asked.loses(trial):
        return None
    for other in asked.observe(trial):
        same = (other.question, other.tensor) == (seen.question, seen.tensor)
        if not same or other.outcome is Status.VACUOUS or other.allowed is None:
            continue
        if other.expected is not None and other.got is not None:  # not what is no number at all
            return Sample(trial, seen.tensor or "", np.array([other.got]),
                          np.array([other.expected]), other.allowed)  # fmt: skip
    return None


def _explained(
    evidence: Evidence, causes: Iterator[Scaled | Instead] | list[Scaled]
) -> Cause | None:
    """Return the first cause that explains all cases."""
    if not evidence.failing:
        return None
    close = evidence.closely
    counts = close.failing[0].counts
    return next((c for cause in causes if (c := cause.explains(close, counts))), None)


def _causes(kind: type[Offered], evidence: Evidence) -> Iterator[Scaled | Instead]:
    """Yield what may be wrong, likeliest first."""
    if not evidence.failing:
        return
    first = evidence.closely.failing[0]
    one = kind(first.trial)
    what = one.key(first.tensor)
    yield _whole(what)
    yield from rearranged(replace(first, tensor=what))
    for tensor in one.along:
        part = partial(_of_direction, kind, tensor)
        yield _part(f"what the {one.direction} of {tensor} adds to {what}", part)
    outputs = one.trial.spec.differentiable_outputs
    if len(outputs) > 1 and first.tensor not in outputs:
        for y in outputs:
            part = partial(_of_cotangent, kind, y)
            yield _part(f"what the cotangent of {y} adds to {what}", part)
    yield from _paths(kind, one, first.tensor)


def _of_products(one: Offered, seen: Observation) -> Iterator[Scaled]:
    """Yield what may be wrong where only numbers are known, not elements."""
    assert seen.tensor is not None
    what = one.key(seen.tensor)
    yield _whole(what)
    for tensor in one.along if seen.question == "adjoint" else ():

        def part(sample: Sample, tensor: str = tensor) -> Array:
            return np.array([weighed(one.at(sample.trial), sample.tensor).parts[tensor]])

        yield _part(f"what the {one.direction} of {tensor} adds to {what}", part)


def _whole(what: str) -> Scaled:
    def cause(factor: Coefficient) -> Cause:
        found = told(what, factor)
        return Cause("missing path", f"{what} is zero") if found.kind == "missing path" else found

    return Scaled(lambda s, c: c * s.expected, cause)


def _part(what: str, part: Callable[[Sample], Array]) -> Scaled:
    parts: dict[int, tuple[Sample, Array]] = {}

    def at(sample: Sample, factor: float) -> Array:
        if id(sample) not in parts:
            parts[id(sample)] = sample, part(sample)
        return sample.expected + (factor - 1) * parts[id(sample)][1]

    return Scaled(at, partial(told, what))


def _of_direction(kind: type[Offered], tensor: str, sample: Sample) -> Array:
    one = kind(sample.trial)
    seeds = {k: v if k == tensor else np.zeros_like(v) for k, v in one.wide_along.items()}
    _, pullback = one.twice.run(one.point)
    return pullback(*seeds.values())[sample.tensor]


def _of_cotangent(kind: type[Offered], output: str, sample: Sample) -> Array:
    one = kind(sample.trial)
    others = {y for y in one.trial.spec.differentiable_outputs if y != output}
    tensors = one.point.tensors.items()
    silent = {k: np.zeros_like(v) if k in others else v for k, v in tensors}
    _, pullback = one.twice.run(replace(one.point, tensors=silent))
    return pullback(*one.wide_along.values())[sample.tensor]


@lru_cache(maxsize=8)
def _weighted(oracle: Oracle) -> Weighted:
    return weighted.weighted_summands(oracle.gradient.derivation)


def _paths(kind: type[Offered], one: Offered, tensor: str) -> Iterator[Scaled]:
    """Yield that a path of what is derived is scaled: through a tensor of the definition or, in the
    second order, through its gradient."""
    assert one.trial.oracle is not None
    made = _weighted(one.trial.oracle)
    through: dict[str, list[Term]] = {}
    for term in made.terms[:MOST_TERMS]:
        if term.whole:
            through.setdefault(term.to, []).append(term)
    names = {c: t for t, c in one.trial.oracle.derivation.cotangents.items()}
    own = one.twice.cotangents.get(tensor, tensor)
    for to, terms in through.items():
        if to == own:
            continue
        # What flows back to a cotangent is the tangent of its tensor.
        place = names.get(to, to if kind is Tangents else f"the gradient of {to}")

        def at(sample: Sample, factor: float, terms: Sequence[Term] = terms) -> Array:
            other = kind(sample.trial)
            assert other.trial.oracle is not None
            twice = SeenTwice(other.trial.oracle, other.trial.view, made.oracle)
            weights = {**made.plain, **{t.weight: factor for t in terms}}
            constants = {**other.trial.constants, **weights}
            _, pullback = twice.run(replace(other.point, constants=constants))
            return pullback(*other.wide_along.values())[sample.tensor]

        yield Scaled(at, partial(told, f"in {one.key(tensor)}, the path through {place}"))


def _somewhere(evidence: Evidence) -> Cause | None:
    """Return where it is wrong."""
    if not evidence.failing:
        return None
    found = where.of_elements(evidence) or where.of_cases(evidence.failing, evidence.passing)
    return None if found is None else Cause(found.kind, f"only {found.text}")
