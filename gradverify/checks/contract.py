"""contract: what every layer owes its caller, whatever it computes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gradverify.cases import Case, is_large
from gradverify.checks import (
    convention,
    digits,
    effects,
    empty,
    linear,
    order,
    returned,
    sharing,
    state,
)
from gradverify.checks.agreement import Answer, Refused, copies, due, named
from gradverify.checks.observation import Observation, failed, passed
from gradverify.trial import Trial

# A case is in one of this many turns, by its seed.
TURNS = 16


@dataclass(frozen=True)
class Question:
    """What is asked in some turns only: it needs calls of its own, and shows in some cases if in
    any."""

    examine: Callable[[Trial, Answer], Iterator[Observation]]
    turns: tuple[int, ...]

    def wanted(self, case: Case) -> bool:
        """Whether it is asked in a case; in the plainest, to which others are shrunk, all are."""
        plain = case.layout == "C" and case.values == "ordinary" and case.cotangent == "signed"
        plain = plain and case.dtype == "float64"
        return plain or case.seed % TURNS in self.turns


QUESTIONS = (
    Question(linear.zero, turns=(0, 4, 8, 12)),
    Question(linear.additive, turns=(1, 7, 13)),
    Question(linear.alone, turns=(2, 10)),
    Question(linear.broadcast, turns=(6,)),
    Question(digits.examine, turns=tuple(range(TURNS))),  # it asks in few cases by itself
    Question(empty.empty, turns=(11,)),
    Question(effects.effects, turns=(10,)),
    Question(sharing.outputs, turns=(15,)),
    Question(order.deep, turns=(3,)),
    Question(convention.own, turns=(5,)),
    Question(convention.used, turns=(9, 14)),
)


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask what was returned, then call the layer again, in other orders and with other arrays."""
    if is_large(trial.spec) and trial.oracle is not None:
        _ = trial.reference  # while nothing else fills the memory
    if trial.failure is not None:
        yield failed(trial.failure.question, None, trial.failure.message)
        return
    yield passed("raises")
    # What the checks after this one compare is copied before the layer is called again.
    _ = trial.outputs, trial.gradients
    yield from returned.examine(trial)
    if trial.overflowed or trial.spared:
        return
    first = Answer(copies(named(trial, trial.called.outputs), trial.outputs),
                   copies(due(trial, trial.called.gradients), trial.gradients))  # fmt: skip
    try:
        fresh = yield from state.examine(trial, first)
        yield from linear.scaled(trial, first, fresh)
        del fresh  # with all that its pullback keeps
        for question in QUESTIONS:
            if question.wanted(trial.case):
                yield from question.examine(trial, first)
    except Refused as refused:
        yield failed("repeatable", None, f"the first call succeeded, a later one raised {refused}")
