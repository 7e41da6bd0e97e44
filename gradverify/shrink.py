"""From a failing case to a simpler one at which the same thing is wrong."""

from gradverify.cases import Case, smaller
from gradverify.checks import Check
from gradverify.checks.observation import Observation
from gradverify.result import Status
from gradverify.trial import Trial, settled

# Enough to bring a handful of dimensions down one after the other.
SHRINKS = 80


class Shrinker:
    """Simplifies the failing cases of one layer, of which no check is asked twice.

    What is wrong in one way at a simple case is mostly wrong in other ways there: the cases that
    were found for one failure are tried first for the next.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[Case, str], tuple[Observation, ...]] = {}
        self._found: dict[Case, Trial] = {}

    def shrunk(self, trial: Trial, check: Check, seen: Observation) -> tuple[Trial, Observation]:
        """Return a simpler trial at which a check fails likewise; not promised to be smallest."""
        for known in sorted(self._found.values(), key=lambda t: t.case.weight):
            if known.case.weight <= trial.case.weight:
                found = self._again(known, check, seen)
                if found is not None:
                    return known, found
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
                found = self._again(other, check, seen)
                if found is not None:
                    trial, seen = other, found
                    break
            else:
                break
        self._found[trial.case] = trial
        return trial, seen

    def _again(self, trial: Trial, check: Check, seen: Observation) -> Observation | None:
        """Return how the same question about the same tensor fails in a trial, None if it does
        not."""
        key = trial.case, check.name
        if key not in self._answers:
            self._answers[key] = _asked(trial, check)
        for other in self._answers[key]:
            if other.outcome is Status.FAILED and (other.question, other.tensor) == (
                seen.question,
                seen.tensor,
            ):
                return other
        return None


def _asked(trial: Trial, check: Check) -> tuple[Observation, ...]:
    if not check.asks(trial) or check.loses(trial):
        return ()
    return tuple(check.observe(trial))
