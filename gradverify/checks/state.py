"""A layer asked again: the same in every order of calls, and nothing that is others' changed."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradverify.cases import Array
from gradverify.checks import sharing
from gradverify.checks.agreement import (
    Answer,
    Refused,
    agree,
    copies,
    equal,
    forward,
    named,
    pulled,
    real_arrays,
    taken,
    told,
)
from gradverify.checks.blame import called_twice, differences, refusal, repeated, same
from gradverify.checks.memory import (
    Lent,
    as_drawn,
    chosen_layouts,
    content,
    cotangents_of,
    lend,
    values_of,
)
from gradverify.checks.observation import Observation, failed, passed
from gradverify.layer import Pullback
from gradverify.trial import Trial, real_array

STALE = (
    "{} changes when another forward has run in between: what the forward keeps for its pullback "
    "must belong to that call"
)
OVERWRITTEN = "{} that a call has returned is changed by the next: return an array of its own"


MUTATED = "{} changed {} in place: the caller still uses it; work on a copy"


@dataclass(frozen=True)
class Fresh:
    """A pullback that was called once, and the gradients that it gave."""

    pullback: Pullback
    gradients: Mapping[str, Any]


def examine(trial: Trial, first: Answer) -> Generator[Observation, None, Fresh]:
    """Call the layer twice more, at other values and at the same, and return a fresh pullback.

    The arrays of the two calls are the same objects, as where a caller fills its buffers anew, and
    lie otherwise in memory than those of the first call.
    """
    values, other = values_of(trial), values_of(trial, other=True)
    lent = lend(trial, chosen_layouts(trial, values))
    lent.write(other)
    del other
    # That other values may be no case, and raise, is nothing to tell.
    told_of: set[str] = set()
    between, between_back = yield from _tried(trial, lent, told_of)
    late = copies(pulled(trial, trial.called.pullback, cotangents_of(trial)))
    if between_back is not None:
        between |= yield from _tried_back(trial, lent, told_of, between_back)
        del between_back
    returned = {**named(trial, trial.called.outputs), **trial.called.gradients}
    yield from kept(trial, first.results, returned)
    del returned
    trial.release_gradients()
    yield from _late(trial, first, late)
    del late

    lent.write(values)
    earlier = real_arrays(between)
    before = {k: content(a) for k, a in earlier.items()}
    try:
        outputs, pullback = yield from _watched(trial, lent, told_of)
        gradients = yield from _watched(trial, lent, told_of, pullback)
    except Refused as refused:
        yield refusal(trial, lent, refused)
        lent = as_drawn(trial)
        outputs, pullback = forward(trial, lent.tensors)
        gradients = pulled(trial, pullback, lent.cotangents)
    for name, was in before.items():
        if content(earlier[name]) != was:
            yield failed("overwritten", name, OVERWRITTEN.format(told(trial, name)))
    yield from differences(trial, first, Answer(copies(outputs), taken(trial, gradients)), lent)
    tensors = trial.arrays.tensors
    for name, value in trial.called.tensors.items():
        if name in told_of or not equal(value, tensors[name]):
            if name not in told_of:
                yield failed("mutates", name, MUTATED.format("a call", name))
        else:
            yield passed("mutates", name)
    del tensors
    lent.write(values)
    yield from sharing.results(trial, lent, between, gradients)
    return Fresh(pullback, gradients)


def _tried(
    trial: Trial, lent: Lent, told_of: set[str]
) -> Generator[Observation, None, tuple[dict[str, Any], Pullback | None]]:
    try:
        found: tuple[dict[str, Any], Pullback] = yield from _watched(trial, lent, told_of)
    except Refused:
        return {}, None
    return found


def _tried_back(
    trial: Trial, lent: Lent, told_of: set[str], pullback: Pullback
) -> Generator[Observation, None, dict[str, Any]]:
    try:
        found: dict[str, Any] = yield from _watched(trial, lent, told_of, pullback)
    except Refused:
        return {}
    return found


def kept(
    trial: Trial, before: Mapping[str, Array], values: Mapping[str, Any]
) -> Iterator[Observation]:
    """Compare what calls have returned, as it was then, with what it is now."""
    for name, value in before.items():
        now = real_array(values[name])
        if now is None or not equal(value, now):
            yield failed("overwritten", name, OVERWRITTEN.format(told(trial, name)))


def _late(trial: Trial, first: Answer, late: Mapping[str, Array]) -> Iterator[Observation]:
    """Judge what the first pullback gives when it is called again, after another forward."""
    wrong = [k for k, g in first.gradients.items() if not same(trial, first, late, k)]
    if wrong:
        fresh = as_drawn(trial)
        _, pullback = forward(trial, fresh.tensors)
        once = copies(pulled(trial, pullback, fresh.cotangents))
        twice = copies(pulled(trial, pullback, as_drawn(trial).cotangents))
        both = {k: (once[k], twice[k]) for k in wrong if k in once and k in twice}
        again = called_twice(
            trial, {k: pair for k, pair in both.items() if not agree(trial, k, *pair)}
        )
    for name in first.gradients:
        what = told(trial, name)
        if name not in wrong:
            yield passed("stale", name)
        elif name in again:
            yield again[name]
        elif name in both and agree(trial, name, first.gradients[name], once[name]):
            yield failed("stale", name, STALE.format(what))
        else:  # whatever has run in between
            yield failed("repeatable", name, repeated(trial, name))


def _watched(
    trial: Trial, lent: Lent, told_of: set[str], pullback: Pullback | None = None
) -> Generator[Observation, None, Any]:
    """Call the forward, or a pullback, and tell which of the arrays it was lent it has changed."""
    before = lent.snapshot()
    if pullback is None:
        stage = "the forward"
        result: Any = forward(trial, lent.tensors)
    else:
        stage, result = "the pullback", pulled(trial, pullback, lent.cotangents)
    for name in lent.changed(before):
        told_of.add(name)
        if name in trial.spec.given:
            yield failed("mutates", name, MUTATED.format(stage, name))
        else:
            yield failed("mutates", None, MUTATED.format(stage, "its cotangent"))
    return result
