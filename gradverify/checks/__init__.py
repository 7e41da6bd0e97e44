"""The table of checks: of which cases each is asked, and for which tensors it must answer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gradverify.checks import (
    buffers,
    contract,
    descent,
    exact,
    finite_difference,
    forward,
    forward_mode,
    kinks,
    second_order,
    stopped,
    symbolic,
)
from gradverify.checks.names import NAMES
from gradverify.checks.observation import Observation
from gradverify.layer import Layer
from gradverify.numerics.finite_difference import few_digits
from gradverify.result import Status
from gradverify.spec import Spec
from gradverify.trial import LayerRaised, Trial

# In so many cases do a few calls more of a layer tell what it offers from what is wrong.
MOST_OFFERED = 8
# Values that are neither far from 1 nor equal.
PLAIN = ("ordinary", "small", "offset", "positive", "negative")


@dataclass(frozen=True)
class Check:
    """One family of questions.

    `wants` says of which trials it is asked, `tensors` for which tensors it must have an answer,
    `sampled` that it calls the layer so often that a profile limits its cases, and `most` how many
    cases are enough, whatever the profile, once they tell right from wrong for all tensors;
    `at_kinks` says that it has something to ask where several gradients are right, `at_ties` that
    it looks at equal values and zeros without a definition too, and `absent` returns why there is
    nothing for it to ask about of a layer, None where there is. `locate` finds the element of a
    failure, where that is more than one failing case in many should cost.
    """

    name: str
    examine: Callable[[Trial], Iterator[Observation]]
    wants: Callable[[Trial], bool]
    tensors: Callable[[Spec], tuple[str, ...]]
    sampled: bool = False
    most: int | None = None
    at_kinks: bool = False
    at_ties: bool = False
    absent: Callable[[Layer], str | None] = lambda layer: None
    locate: Callable[[Trial, Observation], Observation] = lambda trial, seen: seen

    def asks(self, trial: Trial) -> bool:
        """Whether it has something to ask of a trial: without a definition, at equal values and
        zeros, only what is for them has."""
        if not self.wants(trial):
            return False
        return self.at_kinks or not (trial.kinked or (trial.tied and not self.at_ties))

    def loses(self, trial: Trial) -> bool:
        """Whether there is nothing to look at, which `contract` tells."""
        return self.name != "contract" and (trial.failure is not None or trial.overflowed)

    def observe(self, trial: Trial) -> Iterator[Observation]:
        """Examine a trial; that the layer raises at other values than the case's fails it."""
        try:
            yield from self.examine(trial)
        except LayerRaised as raised:
            yield Observation("raises", None, Status.FAILED, str(raised))

    def located(self, trial: Trial, seen: Observation) -> Observation:
        """Return a failure with its element, as it is where that cannot be found."""
        try:
            return self.locate(trial, seen)
        except LayerRaised:
            return seen


def _any(trial: Trial) -> bool:
    return True


def _widest(trial: Trial) -> bool:
    # Differences, and telling a kink from what is beside it, need all digits that there are.
    return trial.case.dtype == trial.layer.widest


def _differences(trial: Trial) -> bool:
    # In a precision of few digits steps are so long that kinks lie on the way, of which only a
    # definition knows.
    return _widest(trial) and not (trial.oracle is None and few_digits(trial.unit))


def _all(spec: Spec) -> tuple[str, ...]:
    return (*spec.differentiable, *spec.outputs)


def _gradients(spec: Spec) -> tuple[str, ...]:
    return spec.differentiable


def _offered(trial: Trial) -> bool:
    # Without a definition nobody knows what cancels inside, and of second derivatives far from 1
    # few digits keep none: there only plain values tell right from wrong.
    if trial.oracle is None:
        return _differences(trial) and trial.case.values in PLAIN
    return trial.case.values in PLAIN or not few_digits(trial.unit)


def _of_spec(absent: Callable[[Spec], str | None]) -> Callable[[Layer], str | None]:
    return lambda layer: absent(layer.spec)


_CHECKS = (
    Check("contract", contract.examine, _any, _all, at_kinks=True),
    Check("forward", forward.examine, _any,
          lambda spec: spec.outputs),
    Check("symbolic", symbolic.examine, _any, _gradients),
    Check("finite_difference", finite_difference.examine, _differences, _gradients, sampled=True,
          at_ties=True, absent=_of_spec(stopped.absent), locate=finite_difference.worst_element),
    Check("exact", exact.examine, exact.wants, _gradients, sampled=True, most=10,
          absent=_of_spec(stopped.absent), locate=exact.worst_element),
    Check("forward_mode", forward_mode.examine, _offered, forward_mode.tensors, sampled=True,
          most=MOST_OFFERED, absent=forward_mode.absent, locate=forward_mode.worst_element),
    Check("second_order", second_order.examine, _offered, second_order.tensors, sampled=True,
          most=MOST_OFFERED, absent=second_order.absent, locate=second_order.worst_element),
    Check("kinks", kinks.examine, _widest, _gradients, sampled=True, at_kinks=True,
          absent=_of_spec(kinks.absent)),
    Check("buffers", buffers.examine, _any, buffers.tensors, sampled=True, at_kinks=True,
          absent=_of_spec(buffers.absent)),
    Check("descent", descent.examine, _differences, _gradients, sampled=True,
          absent=_of_spec(stopped.absent)),
)  # fmt: skip

CHECKS: Mapping[str, Check] = {check.name: check for check in _CHECKS}
assert tuple(CHECKS) == NAMES
