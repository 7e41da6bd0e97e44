"""From a failing case to a simpler one at which the same thing is wrong."""

from dataclasses import replace

from gradverify.cases import Case, smaller
from gradverify.checks import CHECKS, Check
from gradverify.checks.observation import Observation
from gradverify.diagnose.state import STATE
from gradverify.regular import settled
from gradverify.result import NEED_DEFINITION, Status
from gradverify.trial import Trial

# Enough to bring a handful of dimensions down one after the other.
SHRINKS = 80
# Of the cases that were found for other failures a check that calls the layer many times tries so
# many, the simplest.
FOUND = 3


class Shrinker:
    """Simplifies the failing cases of one layer, of which no check is asked twice.

    What is wrong in one way at a simple case is mostly wrong in other ways there: the cases that
    were found for one failure, of the same tensor before others, are tried first for the next. No
    others are tried for a tensor whose failure has been simplified once, by a check that calls the
    layer many times, and where results depend on the calls before or on chance, which is one
    mistake with several signs.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[Case, str], tuple[Observation, ...]] = {}
        self._found: dict[Case, Trial] = {}
        self._tensors: dict[str | None, Trial] = {}
        self._unsteady: set[str | None] = set()

    def shrunk(self, trial: Trial, check: Check, seen: Observation) -> tuple[Trial, Observation]:
        """Return a simpler trial at which a check fails likewise; not promised to be smallest."""
        found = self._shrunk(trial, check, seen)
        self._tensors.setdefault(seen.tensor, found[0])
        return found

    def _shrunk(self, trial: Trial, check: Check, seen: Observation) -> tuple[Trial, Observation]:
        own = self._tensors.get(seen.tensor)
        told = own is not None or (seen.tensor is None and self._tensors)
        if seen.question in STATE:
            self._unsteady.add(seen.tensor)
        before = sorted(self._found.values(), key=lambda t: t.case.weight)
        before = before[: FOUND if check.sampled else None]
        for known in before if own is None else [own, *before]:
            if known.case.weight <= trial.case.weight:
                found = self._again(known, check, seen)
                if found is not None:
                    return known, found
        most = 0 if told and (check.sampled or seen.tensor in self._unsteady) else SHRINKS
        tried: set[Case] = set()
        while len(tried) < most:
            for simpler in smaller(trial.spec, trial.case):
                if simpler in tried or len(tried) >= most:
                    continue
                tried.add(simpler)
                usable = settled(trial.spec, trial.oracle, simpler)
                if usable is None:
                    continue
                other = replace(trial, case=usable)
                found = self._again(other, check, seen)
                if found is not None:
                    trial, seen = other, found
                    break
            else:
                break
        self._found[trial.case] = trial
        return trial, seen

    def _again(self, trial: Trial, check: Check, seen: Observation) -> Observation | None:
        """Return how the same question about the same tensor fails in a trial, as gravely at
        least, None if it does not."""
        for other in self.answers(trial, check.name):
            same = (other.question, other.tensor) == (seen.question, seen.tensor)
            graver = other.severity in ("error", seen.severity)
            if other.outcome is Status.FAILED and same and graver:
                return other
        return None

    def answers(self, trial: Trial, name: str) -> tuple[Observation, ...]:
        """Return what a check says of a trial."""
        key = trial.case, name
        if key not in self._answers:
            check, bare = CHECKS[name], trial.oracle is None and name in NEED_DEFINITION
            asked = not bare and check.asks(trial) and not check.loses(trial)
            self._answers[key] = tuple(check.observe(trial)) if asked else ()
        return self._answers[key]
