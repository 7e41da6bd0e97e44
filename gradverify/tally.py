"""From what a check said in all cases to its status and that of each tensor."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gradverify.cases import Case, is_large
from gradverify.checks import Check
from gradverify.checks.observation import Observation
from gradverify.layer import Layer
from gradverify.result import NEED_DEFINITION, CheckResult, Status, TensorResult
from gradverify.spec import Spec

# A tensor needs this many cases in which a wrong gradient would have shown; one could be luck.
MIN_POWERED = 3
# Of a layer whose tensors cannot be small two are enough: so many elements are no luck, and another
# size shows what agrees by chance at one.
LARGE_POWERED = 2

# A sampled check looks at this many times as many cases where those did not tell right from wrong.
MORE = 3


def least_powered(spec: Spec) -> int:
    """Return in how many cases a wrong gradient of a layer would have to show."""
    return LARGE_POWERED if is_large(spec) else MIN_POWERED


@dataclass
class Seen:
    """What one check has said so far: all observations' essence, and the failures in full.

    A tensor is judged by `least` cases in which a wrong one would have shown; `shown` is whether
    something was wrong by the definition in any. The failures of a question and tensor are all
    errors, or all warnings.
    """

    least: int = MIN_POWERED
    cases: int = 0
    lost: int = 0
    shown: bool = False
    seconds: float = 0.0
    absent: Counter[str] = field(default_factory=Counter)
    declined: dict[Case, str] = field(default_factory=dict)
    met: set[tuple[str, Any]] = field(default_factory=set)
    powered: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    worst: dict[str, Observation] = field(default_factory=dict)
    failures: dict[tuple[str, str | None], list[tuple[Case, Observation]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def asked(self) -> int:
        """In how many cases there was something to ask."""
        return self.cases - self.absent.total()

    def told(self, tensors: Iterable[str]) -> bool:
        """Whether enough cases could have told right from wrong for tensors."""
        return all(self.powered.get(t, 0) >= self.least for t in tensors)

    def enough(self, check: Check, tensors: Iterable[str], case: Case, sampled: int) -> bool:
        """Whether a check that calls the layer often has been asked often enough of tensors.

        A case with a constant, rank or shape that was not met yet is looked at all the same.
        """
        told = self.told(tensors)
        # What the layer declines in that many cases it declines in all.
        known = len(self.declined) == self.cases or (told and _choices(case) <= self.met)
        # A slow check that has failed in as many cases has no more to say.
        wrong = (told for told in self.failures.values() if told[0][1].severity == "error")
        failed = max(map(len, wrong), default=0) >= MIN_POWERED
        if check.most is not None and (failed or (self.asked >= check.most and known)):
            return True
        return check.sampled and self.asked >= (sampled if told else MORE * sampled)

    def note(self, case: Case, seen: Observation) -> None:
        """Take in one observation."""
        if seen.outcome is Status.NOT_APPLICABLE:
            self.absent[seen.message] += 1
            return
        if seen.outcome is Status.UNAVAILABLE:
            self.declined[case] = seen.message
            return
        if seen.outcome is Status.FAILED:
            self._fails(case, seen)
        if seen.tensor is None or seen.outcome is Status.VACUOUS:
            return
        self.met |= _choices(case)
        if seen.powered:
            self.powered[seen.tensor] += 1
        old = self.worst.get(seen.tensor)
        if seen.worst is not None and (old is None or seen.worst > (old.worst or 0.0)):
            self.worst[seen.tensor] = seen

    def _fails(self, case: Case, seen: Observation) -> None:
        """Keep a failure; of a question that is failed, what was only warned of is let go."""
        told = self.failures[seen.question, seen.tensor]
        if told and told[0][1].severity != seen.severity:
            if seen.severity == "warning":
                return
            told.clear()
        told.append((case, seen))


def _choices(case: Case) -> set[tuple[str, Any]]:
    """Return what is chosen in a case besides sizes and values."""
    return {*case.constants, *case.shapes, *((name, len(made)) for name, made in case.leading)}


def applicable(check: Check, layer: Layer) -> tuple[Status, str] | None:
    """Return the status of a check that cannot be asked, with its reason."""
    if layer.spec.program is None and check.name in NEED_DEFINITION:
        return Status.UNAVAILABLE, "the spec has no definition"
    missing = check.absent(layer)
    if missing is None and not check.tensors(layer.spec):
        missing = "no tensor takes a gradient"
    return None if missing is None else (Status.NOT_APPLICABLE, missing)


def check_result(
    check: Check, layer: Layer, seen: Seen | None, zero: frozenset[str], least: int
) -> CheckResult:
    """Return the result of a check; fewer than `least` powered cases are vacuous."""
    stopped = applicable(check, layer)
    if stopped is not None:
        return CheckResult(check.name, *stopped)
    if seen is None:
        return CheckResult(check.name, Status.SKIPPED, "not selected")
    if seen.cases == 0 and seen.lost:
        return CheckResult(
            check.name, Status.ERROR, "the layer gave no result in any case; see contract"
        )
    if seen.cases == 0:
        return CheckResult(check.name, Status.VACUOUS, "there was no case")
    if not seen.asked:
        (reason, _), *_ = seen.absent.most_common(1)
        return CheckResult(check.name, Status.NOT_APPLICABLE, reason, seen.cases, seen.seconds)
    failing = {
        tensor for (_, tensor), told in seen.failures.items() if told[0][1].severity == "error"
    }
    tensors = {}
    for tensor in check.tensors(layer.spec):
        worst = seen.worst.get(tensor)
        numbers = (worst.worst, worst.allowed, worst.why) if worst else (None, None, None)
        powered = seen.powered.get(tensor, 0)
        if tensor in failing:
            status, reason = Status.FAILED, ""
        elif tensor in zero and check.name != "contract":
            status, reason = Status.REDUNDANT, "its derived gradient is zero"
        elif powered < least:
            status = Status.VACUOUS
            reason = f"only {powered} case(s) could have told right from wrong, {least} needed"
        else:
            status, reason = Status.PASSED, _allowed(check, layer, tensor)
        tensors[tensor] = TensorResult(status, reason, *numbers, powered)
    vacuous = [t for t, r in tensors.items() if r.status is Status.VACUOUS]
    if failing:
        status = Status.FAILED
        reason = ", ".join(sorted(t for t in failing if t)) or "see the finding"
    elif seen.declined and (vacuous or len(seen.declined) == seen.cases):
        status = Status.UNAVAILABLE
        reason = Counter(seen.declined.values()).most_common(1)[0][0]
    elif vacuous:
        status = Status.VACUOUS
        reason = f"{', '.join(vacuous)}: {tensors[vacuous[0]].reason}"
    else:
        status = Status.PASSED
        reason = "" if layer.spec.params or check.name != "descent" else (
            "no parameters: the inputs were stepped"
        )  # fmt: skip
    return CheckResult(check.name, status, reason, seen.cases, seen.seconds, tensors)


def _allowed(check: Check, layer: Layer, tensor: str) -> str:
    """Return what the spec allows a tensor that passed, "" where it allows nothing of its own."""
    key = tensor if tensor in layer.spec.outputs else f"d{tensor}"
    if check.name == "contract" or key not in layer.spec.allow:
        return ""
    fraction, reason = layer.spec.allow[key]
    return f"the spec allows {fraction:g} of its terms: {reason}"
