"""From a failed observation to a finding: what, where, expected, got, allowed, how to see it."""

from functools import lru_cache

from gradverify.again import replay_line
from gradverify.calculus.compile import Oracle
from gradverify.calculus.show import Gradients
from gradverify.checks.observation import Observation
from gradverify.diagnose import Cause
from gradverify.result import Finding
from gradverify.trial import Trial

_TOLD = {
    ("forward", "output"): "output {} is not what the definition gives",
    ("symbolic", "gradient"): "the gradient of {} is not the derived one",
    ("finite_difference", "slope"): "the gradient of {} is not the slope of the layer's forward",
    ("exact", "adjoint"): "in 50-digit arithmetic, the gradient of {} is not the derivative of "
    "the layer's forward",
    ("forward_mode", "tangent"): "the tangent of {} is not the derived one",
    ("forward_mode", "adjoint"): "the tangent of {} is not that of the layer's own pullback, "
    "<w, J v> = <J'w, v>",
    ("second_order", "second"): "the second-order gradient of {} is not the derived one",
    ("second_order", "tangent"): "the gradient of the cotangent of {} is not the derived one, J v",
    ("second_order", "adjoint"): "the gradient of the cotangent of {} is not that of the layer's "
    "own pullback, <w, J v> = <J'w, v>",
    ("second_order", "slope"): "the second-order gradient of {} is not the slope of the layer's "
    "own pullback",
}


def finding_for(
    trial: Trial, check: str, seen: Observation, cases: int, cause: Cause, odd: str | None
) -> Finding:
    """Return the finding for a failed observation.

    `cases` is in how many cases it failed, `cause` what is wrong and `odd` the odd one out.
    """
    told = _TOLD.get((check, seen.question), "").format(seen.tensor)
    convention = _of_convention(trial, check)
    words = trial.layer.told(seen.question, seen.tensor) if convention else ""
    message = "; ".join(part for part in (told, seen.message, words) if part)
    if cases > 1:
        message += f" (in {cases} cases; this is a small one)"
    return Finding(
        check=check,
        question=seen.question,
        message=message,
        severity=seen.severity,
        tensor=seen.tensor,
        index=seen.index,
        expected=seen.expected,
        got=seen.got,
        allowed=seen.allowed,
        why=seen.why,
        case=str(trial.case),
        diagnosis=_said(cause, trial) or None,
        kind=cause.kind,
        follows=cause.follows,
        odd_one_out=odd,
        derived=_derived(trial, check, seen),
        location=_location(trial, check, seen),
        replay=replay_line(trial.layer, check, trial.case),
    )


def _said(cause: Cause, trial: Trial) -> str:
    """Return what is wrong; nothing is derived without a definition."""
    if trial.oracle is not None:
        return cause.text
    return cause.text.replace("what is derived", "what it should be").replace(
        "is derived", "is right"
    )


def _of_convention(trial: Trial, check: str) -> bool:
    """Whether a finding is one that the layer's convention has words for, and has not told yet."""
    return check == "contract" and trial.failure is None


def _derived(trial: Trial, check: str, seen: Observation) -> str | None:
    if trial.oracle is None or seen.tensor not in trial.spec.differentiable:
        return None
    if check in ("contract", "second_order"):
        return None
    return _equations(trial.oracle).of(seen.tensor)


@lru_cache(maxsize=8)  # every check that fails tells them
def _equations(oracle: Oracle) -> Gradients:
    return Gradients(oracle.derivation)


def _location(trial: Trial, check: str, seen: Observation) -> str:
    """Return file:line of the pullback, of the layer where the forward is meant, or of what else
    it offers."""
    layer = trial.layer
    if offered := {"forward_mode": layer.jvp, "second_order": layer.double_vjp}.get(check):
        return layer.derivative_location(offered)
    if trial.failure is not None and trial.failure.stage == "pullback":
        return layer.backward_location(layer.function)
    if check == "forward" or seen.question == "raises" or trial.failure is not None:
        return trial.layer.location
    return trial.layer.backward_location(trial.called.pullback)
