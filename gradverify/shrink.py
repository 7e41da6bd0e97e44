"""From a failing case to a simpler one at which the same thing is wrong."""

from gradverify.cases import Case, smaller
from gradverify.checks import Check
from gradverify.checks.observation import Observation
from gradverify.result import Status
from gradverify.trial import Trial, settled

# Enough to bring a handful of dimensions down one after the other.
SHRINKS = 80


def shrunk(trial: Trial, check: Check, seen: Observation) -> tuple[Trial, Observation]:
    """Return a simpler trial at which a check fails likewise, greedily; not promised smallest."""
    tried: set[Case] = set()
    while len(tried) < SHRINKS:
        for simpler in smaller(trial.spec, trial.case):
            if simpler in tried or len(tried) >= SHRINKS:
                continue
            tried.add(simpler)
            usable = settled(trial.spec, trial.oracle, simpler)
            if usable is None:
                continue
            other = Trial(trial.layer, usable, trial.oracle, trial.redundant)
            found = _again(other, check, seen) if check.wants(other) else None
            if found is not None:
                trial, seen = other, found
                break
        else:
            break
    return trial, seen


def _again(trial: Trial, check: Check, seen: Observation) -> Observation | None:
    """Return how the same question about the same tensor fails in a trial, None if it does not."""
    if trial.failure is not None and check.name != "contract":
        return None
    if trial.kinked and not check.at_kinks:
        return None
    for other in check.observe(trial):
        if other.outcome is Status.FAILED and (other.question, other.tensor) == (
            seen.question,
            seen.tensor,
        ):
            return other
    return None
