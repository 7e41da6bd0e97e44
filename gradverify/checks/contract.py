"""contract: what every layer owes its caller, whatever it computes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gradverify.cases import Case
from gradverify.checks import effects, empty, linear, order, precision, returned, state
from gradverify.checks.agreement import Answer, Refused, copies, due, named
from gradverify.checks.observation import Observation, failed, passed
from gradverify.trial import Trial

# A case is in one of this many turns, by its seed.
TURNS = 16


@dataclass(frozen=True)
class Question:
    """What is asked of a layer that has been called a second time, in some turns or, if none are
    named, in all: most questions need calls of their own, and one case in a few shows as much."""

    examine: Callable[[Trial, Answer, state.Fresh], Iterator[Observation]]
    turns: tuple[int, ...] = ()

    def wanted(self, case: Case) -> bool:
        """Whether it is asked in a case; in the plainest ones, to which others are shrunk, all
        are."""
        plain = case.layout == "C" and case.values == "ordinary" and case.cotangent == "signed"
        return plain or not self.turns or case.seed % TURNS in self.turns


QUESTIONS = (
    Question(linear.scaled),
    Question(linear.zero, turns=(0, 4, 8, 12)),
    Question(linear.additive, turns=(1, 5, 9, 13)),
    Question(linear.alone, turns=(2, 10)),
    Question(linear.broadcast, turns=(6, 14)),
    Question(order.deep, turns=(3, 11)),
    Question(precision.examine, turns=(7, 15)),
    Question(empty.empty, turns=(2, 7)),
    Question(effects.effects, turns=(10,)),
)


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask what was returned, then call the layer again, in other orders and with other arrays."""
    if trial.failure is not None:
        yield failed(trial.failure.question, None, trial.failure.message)
        return
    yield passed("raises")
    # What the checks after this one compare is copied before the layer is called again.
    _ = trial.outputs, trial.gradients
    called = trial.called
    first = Answer(copies(named(trial, called.outputs)), copies(due(trial, called.gradients)))
    yield from returned.examine(trial)
    try:
        fresh = yield from state.examine(trial, first)
        for question in QUESTIONS:
            if question.wanted(trial.case):
                yield from question.examine(trial, first, fresh)
    except Refused as refused:
        yield failed("repeatable", None, f"the first call succeeded, a later one raised {refused}")
