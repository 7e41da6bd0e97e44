"""From what a check said in all cases to its status and that of each tensor."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gradverify.cases import Case
from gradverify.checks import Check
from gradverify.checks.names import NEED_DEFINITION
from gradverify.checks.observation import Observation
from gradverify.layer import Layer
from gradverify.result import CheckResult, Status, TensorResult

# A tensor needs this many cases in which a wrong gradient would have shown; one could be luck.
MIN_POWERED = 3


@dataclass
class Seen:
    """What one check has said so far: all observations' essence, and the failures in full."""

    cases: int = 0
    lost: int = 0
    seconds: float = 0.0
    declined: dict[Case, str] = field(default_factory=dict)
    met: set[tuple[str, Any]] = field(default_factory=set)
    powered: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    worst: dict[str, Observation] = field(default_factory=dict)
    failures: dict[tuple[str, str | None], list[tuple[Case, Observation]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def enough(self, check: Check, tensors: Iterable[str], case: Case, sampled: int) -> bool:
        """Whether a check that calls the layer often has been asked often enough of tensors.

        A case with a constant, rank or shape that was not met yet is looked at all the same.
        """
        if check.most is not None and self.cases >= check.most:
            # What the layer declines in that many cases it declines in all.
            told = all(self.powered.get(t, 0) >= MIN_POWERED for t in tensors)
            if len(self.declined) == self.cases or (told and _choices(case) <= self.met):
                return True
        return check.sampled and self.cases >= sampled

    def note(self, case: Case, seen: Observation) -> None:
        """Take in one observation."""
        if seen.outcome is Status.UNAVAILABLE:
            self.declined[case] = seen.message
            return
        if seen.outcome is Status.FAILED:
            self.failures[seen.question, seen.tensor].append((case, seen))
        if seen.tensor is None or seen.outcome is Status.VACUOUS:
            return
        self.met |= _choices(case)
        if seen.powered:
            self.powered[seen.tensor] += 1
        old = self.worst.get(seen.tensor)
        if seen.worst is not None and (old is None or seen.worst > (old.worst or 0.0)):
            self.worst[seen.tensor] = seen


def _choices(case: Case) -> set[tuple[str, Any]]:
    """Return what is chosen in a case besides sizes and values."""
    return {*case.constants, *case.shapes, *((name, len(made)) for name, made in case.leading)}


def applicable(check: Check, layer: Layer) -> tuple[Status, str] | None:
    """Return the status of a check that cannot be asked, with its reason."""
    if layer.spec.program is None and check.name in NEED_DEFINITION:
        return Status.UNAVAILABLE, "the spec has no definition"
    if not check.tensors(layer.spec):
        return Status.NOT_APPLICABLE, "no tensor takes a gradient"
    return None


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
        double = layer.dtypes is None or "float64" in layer.dtypes
        reason = "there was no case" if double else "it needs float64, which the layer declines"
        return CheckResult(check.name, Status.VACUOUS if double else Status.UNAVAILABLE, reason)
    wrong = {
        key: told for key, told in seen.failures.items()
        if any(o.severity == "error" for _, o in told)
    }  # fmt: skip
    failing = {tensor for _, tensor in wrong}
    tensors = {}
    for tensor in check.tensors(layer.spec):
        worst = seen.worst.get(tensor)
        ratio, allowed = (worst.worst, worst.allowed) if worst else (None, None)
        powered = seen.powered.get(tensor, 0)
        if tensor in failing:
            status, reason = Status.FAILED, ""
        elif tensor in zero and check.name != "contract":
            status, reason = Status.REDUNDANT, "its derived gradient is zero"
        elif powered < least:
            status = Status.VACUOUS
            reason = f"only {powered} case(s) could have told right from wrong, {least} needed"
        else:
            status, reason = Status.PASSED, ""
        tensors[tensor] = TensorResult(status, reason, ratio, allowed)
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
