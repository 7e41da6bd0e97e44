"""The table of checks: what each asks, when it can be asked, and of which cases."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gradverify.cases import Case
from gradverify.checks import contract, descent, finite_difference, forward, symbolic
from gradverify.checks.names import NAMES
from gradverify.checks.observation import Observation
from gradverify.spec import Spec
from gradverify.trial import Trial


@dataclass(frozen=True)
class Check:
    """One family of questions.

    `wants` says of which cases it is asked, `share` of how many of a profile's `samples` at
    most (None: of all), and `tensors` which tensors it must have answered for.
    """

    name: str
    asks: str
    examine: Callable[[Trial], Iterator[Observation]]
    wants: Callable[[Case], bool]
    tensors: Callable[[Spec], tuple[str, ...]]
    sampled: bool = False


def _any(case: Case) -> bool:
    return True


def _double(case: Case) -> bool:
    # Differences need all digits; a lower precision is differenced in float64, which is this.
    return case.dtype == "float64"


def _all(spec: Spec) -> tuple[str, ...]:
    return (*spec.differentiable, *spec.outputs)


def _gradients(spec: Spec) -> tuple[str, ...]:
    return spec.differentiable


_CHECKS = (
    Check("contract", "does it keep the promises every layer makes?", contract.examine, _any, _all),
    Check("forward", "are the outputs the definition's?", forward.examine, _any,
          lambda spec: spec.outputs),
    Check("symbolic", "is every gradient the derived one?", symbolic.examine, _any, _gradients),
    Check("finite_difference", "is every gradient the slope of the layer's own forward?",
          finite_difference.examine, _double, _gradients, sampled=True),
    Check("descent", "does the same gradient-descent step lower the loss for every parameter?",
          descent.examine, _double, _gradients, sampled=True),
)  # fmt: skip

CHECKS: Mapping[str, Check] = {check.name: check for check in _CHECKS}
assert tuple(CHECKS) == NAMES
