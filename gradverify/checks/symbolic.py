"""symbolic: every gradient is the derived one, element by element, at every drawn size."""

from collections.abc import Iterator

from gradverify.checks.observation import Observation, compare
from gradverify.checks.precision import in_precision
from gradverify.result import Status
from gradverify.trial import Trial

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
            yield in_precision(trial, seen, allowance, "gradients")


def doubtful(trial: Trial, seen: Observation) -> bool:
    """Whether a failure is so close to what is allowed that the oracle's own rounding may be it."""
    return (
        seen.outcome is Status.FAILED
        and trial.case.dtype == "float64"
        and (seen.worst or 0.0) < DOUBT
    )
