"""symbolic: every gradient is the derived one, element by element, at every drawn size."""

from collections.abc import Iterator
from dataclasses import replace

from gradverify.checks.observation import Observation, compare
from gradverify.numerics.allowance import CAP
from gradverify.result import Status
from gradverify.trial import Trial

# In a lower precision alone, an error of this fraction of the gradient's own terms is no
# rounding: with CAP allowed at most, a right formula stays below it by far.
GROSS = 10 * CAP
# Up to this many times what is allowed, 50-digit arithmetic decides before anyone is accused.
DOUBT = 1000.0


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each gradient with the derived one."""
    reference = trial.reference
    for tensor, got in trial.gradients.items():
        allowance = reference.allowed_gradients[tensor]
        for seen in compare("gradient", tensor, reference.gradients[tensor], got, allowance):
            if doubtful(trial, seen) and (exact := trial.exact) is not None:
                truth = exact.gradients[tensor].astype(float)
                (seen,) = compare("gradient", tensor, truth, got, allowance)
            yield in_precision(trial, seen, allowance.terms)


def doubtful(trial: Trial, seen: Observation) -> bool:
    """Whether a failure is so close to what is allowed that the oracle's own rounding may be it."""
    return (
        seen.outcome is Status.FAILED
        and trial.case.dtype == "float64"
        and (seen.worst or 0.0) < DOUBT
    )


def in_precision(trial: Trial, seen: Observation, terms: float) -> Observation:
    """Call a failure in a lower precision *inaccurate*, a warning, if float64 is right.

    Rounding errors scale with the unit roundoff, a wrong formula's error does not: float64
    cases decide what is wrong. What is grossly off in one precision only is wrong there.
    """
    if seen.outcome is not Status.FAILED or trial.case.dtype == "float64":
        return seen
    assert seen.got is not None
    assert seen.expected is not None
    accepted = trial.layer.dtypes
    only = accepted is not None and "float64" not in accepted
    if only or not abs(seen.got - seen.expected) <= GROSS * terms:
        return replace(seen, message=f"only seen in {trial.case.dtype}")
    return replace(
        seen,
        question="inaccurate",
        severity="warning",
        message=f"less accurate in {trial.case.dtype} than the order of operations explains",
    )
