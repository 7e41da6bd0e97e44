"""What the result of a check means to a test: it passes, skips for a reason, or fails with one."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gradverify.jobs import BROKEN, DEFECT
from gradverify.result import Finding, LayerResult, Status


class Kind(Enum):
    """How a test ends."""

    PASSES = "passes"
    SKIPS = "skips"  # for a reason that takes nothing from the verdict
    FAILS = "fails"


@dataclass(frozen=True)
class Outcome:
    """How a test of one check ends, why in one line, and the findings that say so."""

    kind: Kind
    reason: str = ""
    findings: tuple[Finding, ...] = ()


def outcome_of(result: LayerResult, check: str) -> Outcome:
    """Return the outcome of a check that a layer was asked.

    Where the process of a layer gave no result, one of its checks tells so and the others skip.
    """
    if told := broken(result):
        teller = told_by(result)
        if check != teller:
            return Outcome(Kind.SKIPS, f"not asked: see {teller}")
        return Outcome(Kind.FAILS, told, result.errors)
    (found,) = (c for c in result.checks if c.check == check)
    errors = tuple(f for f in result.errors if f.check == check)
    if errors:
        return Outcome(Kind.FAILS, _headline(errors), errors)
    if found.status is Status.PASSED:
        return Outcome(Kind.PASSES)
    if found.status is Status.SKIPPED or not found.blocks:
        return Outcome(Kind.SKIPS, found.reason or str(found.status))
    return Outcome(Kind.FAILS, f"{found.status}: {found.reason}".removesuffix(": "))


def broken(result: LayerResult) -> str:
    """Return in one line why nothing is known of a layer, "" where something is."""
    for remark in result.remarks:
        if remark.startswith(DEFECT):
            return f"{remark} (--full-trace of pytest shows the traceback)"
    messages = (f.message for f in result.errors if f.question in BROKEN)
    return next(messages, "").partition("\n")[0].removesuffix("; it printed:")


def told_by(result: LayerResult) -> str:
    """Return the check that tells why nothing is known of a layer."""
    names = [c.check for c in result.checks if c.status is not Status.SKIPPED]
    return "contract" if "contract" in names or not names else names[0]


def _headline(errors: Sequence[Finding]) -> str:
    """Return what is wrong in one line, which pytest repeats in its summary."""
    first = errors[0]
    told = (first.diagnosis or first.message).strip().partition("\n")[0]
    others = len({f.tensor for f in errors} - {first.tensor})
    return told + (f" (and {others} more)" if others else "")
