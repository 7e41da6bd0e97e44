"""What a check says of one tensor in one case."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradverify.cases import Array
from gradverify.numerics.allowance import Allowance
from gradverify.result import Status


@dataclass(frozen=True)
class Observation:
    """The answer to one question about one tensor (None: the layer as a whole) in one case.

    `outcome` is passed, failed, vacuous or unavailable (`message` is the reason then); `powered`
    says that a wrong tensor would have shown.
    """

    question: str
    tensor: str | None
    outcome: Status
    message: str = ""
    index: tuple[int, ...] | None = None
    expected: float | None = None
    got: float | None = None
    allowed: float | None = None
    why: str | None = None
    powered: bool = True
    severity: str = "error"

    @property
    def worst(self) -> float | None:
        """The difference in units of what is allowed."""
        if self.expected is None or self.got is None or not self.allowed:
            return None
        return abs(self.got - self.expected) / self.allowed


def passed(question: str, tensor: str | None = None) -> Observation:
    """Return that a question which is not about numbers is answered well."""
    return Observation(question, tensor, Status.PASSED)


def failed(question: str, tensor: str | None, message: str) -> Observation:
    """Return that a question which is not about numbers is answered badly."""
    return Observation(question, tensor, Status.FAILED, message)


def warned(question: str, tensor: str | None, message: str) -> Observation:
    """Return what is worth telling, though it makes no layer wrong."""
    return Observation(question, tensor, Status.FAILED, message, severity="warning")


def compare(
    question: str, tensor: str, expected: Array, got: Array, allowance: Allowance
) -> Iterator[Observation]:
    """Compare two arrays element by element: |got - expected| <= allowed, nothing else."""
    if expected.size == 0:
        return
    with np.errstate(all="ignore"):
        difference = np.subtract(got, expected, out=np.empty(np.shape(expected)))
        np.abs(difference, out=difference)
        finite = np.isfinite(got)
        if not np.all(finite):
            difference = np.where(finite, difference, np.inf)
    index = np.unravel_index(int(np.argmax(difference)), difference.shape)
    where = tuple(int(i) for i in index)
    top = max(float(np.max(expected)), -float(np.min(expected)))
    powered = top >= allowance.power * allowance.value
    if allowance.vacuous:
        outcome = Status.VACUOUS
    elif difference[index] <= allowance.value:
        outcome = Status.PASSED
    else:
        outcome = Status.FAILED
    yield Observation(
        question, tensor, outcome, "", where, float(expected[index]), float(got[index]),
        allowance.value, allowance.why, powered,
    )  # fmt: skip
