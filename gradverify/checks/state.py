"""A layer asked again: the same in every order of calls, and nothing that is others' changed."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradverify.cases import Array, draw
from gradverify.checks.agreement import (
    Answer,
    Refused,
    agree,
    copies,
    equal,
    forward,
    imprecise,
    named,
    pulled,
    told,
)
from gradverify.checks.memory import LAYOUTS, Held, chosen_layouts, held, scribbled
from gradverify.checks.observation import Observation, failed, passed, warned
from gradverify.layer import Pullback
from gradverify.trial import Trial

REPEATED = "the same call twice gives two {}"
ADDS_UP = (
    "a pullback called twice gives another {} the second time: it adds up or uses up what it kept"
)
STALE = (
    "{} changes when another forward has run in between: what the forward keeps for its pullback "
    "must belong to that call"
)
OVERWRITTEN = "{} that a call has returned is changed by the next: return an array of its own"
REMEMBERED = (
    "{} is that of an earlier call when an array that was given before has other values now: "
    "recognise what was computed already by its values, not by id()"
)


SHARED = "{} shares memory with {}: who writes to one changes the other"
ELSEWHERE = "when arrays lie otherwise in memory"
LAID_OUT = "{} {}: use shapes and indices, not memory"
MUTATED = "{} changed {} in place: the caller still uses it; work on a copy"


@dataclass(frozen=True)
class Lent:
    """The arrays of a call, tensors by name and cotangents by output, and what they should hold."""

    trial: Trial
    layouts: Mapping[str, str]
    arrays: Mapping[str, Held]

    @property
    def tensors(self) -> dict[str, Array]:
        """What the forward is called with."""
        return {k: self.arrays[k].array for k in self.trial.spec.given}

    @property
    def cotangents(self) -> tuple[Array, ...]:
        """What the pullback is called with."""
        return tuple(self.arrays[k].array for k in self.trial.spec.differentiable_outputs)

    def write(self, values: Mapping[str, Array]) -> None:
        """Put other values into the same arrays."""
        for name, array in self.arrays.items():
            array.write(values[name])

    def snapshot(self) -> dict[str, bytes]:
        """Return the memory of each array."""
        return {k: array.snapshot() for k, array in self.arrays.items()}

    def changed(self, before: Mapping[str, bytes]) -> list[str]:
        """Return the names of arrays whose memory is not what it was."""
        return [k for k, array in self.arrays.items() if array.snapshot() != before[k]]


def values_of(trial: Trial, *, other: bool = False) -> dict[str, Array]:
    """Return the values of a call, tensors by name and cotangents by output."""
    arrays = trial.arrays
    if other:
        arrays = draw(trial.spec, replace(trial.case, seed=trial.case.seed + 1))
    return arrays.tensors | dict(
        zip(trial.spec.differentiable_outputs, arrays.cotangents, strict=True)
    )


def lend(trial: Trial, layouts: Mapping[str, str]) -> Lent:
    """Return arrays with the case's values, laid out as named."""
    values = values_of(trial)
    return Lent(trial, layouts, {k: held(v, layouts[k]) for k, v in values.items()})


def as_drawn(trial: Trial) -> Lent:
    """Return arrays with the case's values in its own layout."""
    return lend(trial, dict.fromkeys(values_of(trial), trial.case.layout))


@dataclass(frozen=True)
class Fresh:
    """A pullback that was called once, and those of its gradients that their owner has blanked."""

    pullback: Pullback
    blank: Mapping[str, Any]


def examine(trial: Trial, first: Answer) -> Generator[Observation, None, Fresh]:
    """Call the layer twice more, at other values and at the same, and return a fresh pullback.

    The arrays of the two calls are the same objects, as where a caller fills its buffers anew, and
    lie otherwise in memory than those of the first call.
    """
    called = trial.called
    values, other = values_of(trial), values_of(trial, other=True)
    lent = lend(trial, chosen_layouts(trial, values))
    lent.write(other)
    # That other values may be no case, and raise, is nothing to tell.
    told_of: set[str] = set()
    between, between_back = yield from _tried(trial, lent, told_of)
    late = copies(pulled(trial, called.pullback, as_drawn(trial).cotangents))
    if between_back is not None:
        between |= yield from _tried_back(trial, lent, told_of, between_back)
    yield from kept(trial, first.results, {**named(trial, called.outputs), **called.gradients})
    yield from _late(trial, first, late)

    lent.write(values)
    earlier = copies(between)
    try:
        outputs, pullback = yield from _watched(trial, lent, told_of)
        gradients = yield from _watched(trial, lent, told_of, pullback)
    except Refused as refused:
        yield _refused(trial, lent, refused)
        lent = as_drawn(trial)
        outputs, pullback = forward(trial, lent.tensors)
        gradients = pulled(trial, pullback, lent.cotangents)
    yield from kept(trial, earlier, between)
    yield from _again(trial, first, Answer(copies(outputs), copies(gradients)), lent)
    for name, value in called.tensors.items():
        if name in told_of or not equal(value, trial.arrays.tensors[name]):
            if name not in told_of:
                yield failed("mutates", name, MUTATED.format("a call", name))
        else:
            yield passed("mutates", name)
    yield from _shared(trial, lent, between, gradients)
    blank = {k: g for k, g in gradients.items() if isinstance(g, np.ndarray) and _all_nan(g)}
    return Fresh(pullback, blank)


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
    now = copies({k: values[k] for k in before})
    for name, value in before.items():
        if not equal(value, now[name]):
            yield failed("overwritten", name, OVERWRITTEN.format(told(trial, name)))


def _late(trial: Trial, first: Answer, late: Mapping[str, Array]) -> Iterator[Observation]:
    """Judge what the first pullback gives when it is called again, after another forward."""
    wrong = [k for k, g in first.gradients.items() if not _same(trial, first, late, k)]
    if wrong:
        fresh = as_drawn(trial)
        _, pullback = forward(trial, fresh.tensors)
        once = copies(pulled(trial, pullback, fresh.cotangents))
        twice = copies(pulled(trial, pullback, as_drawn(trial).cotangents))
    for name in first.gradients:
        what = told(trial, name)
        if name not in wrong:
            yield passed("stale", name)
        elif name in once and name in twice and agree(trial, name, once[name], twice[name]):
            yield failed("stale", name, STALE.format(what))
        else:
            yield failed("accumulates", name, ADDS_UP.format(what.removeprefix("the ")))


def _same(trial: Trial, first: Answer, later: Mapping[str, Array], name: str) -> bool:
    """Whether a result is there again, and the same."""
    before = first.results[name]
    return (
        name in later
        and later[name].dtype == before.dtype
        and agree(trial, name, before, later[name])
    )


def _again(trial: Trial, first: Answer, again: Answer, lent: Lent) -> Iterator[Observation]:
    """Judge the same call, made again with arrays that were used before and lie otherwise."""
    wrong = [k for k in first.results if not _same(trial, first, again.results, k)]
    for name in first.results:
        if name not in wrong:
            yield passed("repeatable", name)
    if not wrong:
        return
    one, twice = _call(trial, as_drawn(trial), twice=True)
    if elsewhere := [k for k in wrong if _same(trial, first, one.results, k)]:
        fresh, _ = _call(trial, lend(trial, lent.layouts))
    for name in wrong:
        what = told(trial, name)
        if name in elsewhere:
            if _same(trial, first, fresh.results, name):
                yield failed("identity", name, REMEMBERED.format(what))
            elif lost := imprecise(
                trial, name, first.results[name], again.results[name], 1.0, ELSEWHERE
            ):
                yield lost
            else:
                yield _by_layout(trial, lent, name)
        elif name in one.gradients and not _same(trial, one, twice, name):
            yield failed("accumulates", name, ADDS_UP.format(what.removeprefix("the ")))
        else:
            plural = f"outputs {name}" if name in trial.spec.outputs else f"gradients of {name}"
            yield failed("repeatable", name, REPEATED.format(plural))


def _call(trial: Trial, lent: Lent, *, twice: bool = False) -> tuple[Answer, dict[str, Array]]:
    outputs, pullback = forward(trial, lent.tensors)
    found = Answer(copies(outputs), copies(pulled(trial, pullback, lent.cotangents)))
    return found, copies(pulled(trial, pullback, as_drawn(trial).cotangents)) if twice else {}


def _by_layout(trial: Trial, lent: Lent, name: str) -> Observation:
    """Return which array it is that must not lie in memory as it did."""
    plain, _ = _call(trial, lend(trial, dict.fromkeys(lent.layouts, "C")))
    what = f"gives another {told(trial, name).removeprefix('the ')} than in C order"
    for one in _alone(trial, lent.layouts):
        alone, _ = _call(trial, lend(trial, one))
        if not _same(trial, plain, alone.results, name):
            culprit = next(k for k, layout in one.items() if layout != "C")
            given = f"{_given(trial, culprit)} {LAYOUTS[one[culprit]]}"
            return failed("layout", name, LAID_OUT.format(given, what))
    return failed("layout", name, LAID_OUT.format(f"{_listed(trial, lent)}, together,", what))


def _listed(trial: Trial, lent: Lent) -> str:
    odd = {k: layout for k, layout in lent.layouts.items() if layout != "C"}
    return ", ".join(f"{_given(trial, k)} {LAYOUTS[v]}" for k, v in odd.items())


def _alone(trial: Trial, layouts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield layouts in which one array is not in C order, as it is in `layouts` or in the case."""
    for name, layout in layouts.items():
        for odd in {layout, trial.case.layout} - {"C"}:
            yield dict.fromkeys(layouts, "C") | {name: odd}


def _given(trial: Trial, name: str) -> str:
    return f"the cotangent of {name}" if name in trial.spec.outputs else name


def _refused(trial: Trial, lent: Lent, refused: Refused) -> Observation:
    """Tell for which layout a layer raises; Refused is raised anew where that is not why."""
    try:
        _call(trial, as_drawn(trial))
    except Refused:
        raise refused from None
    for one in _alone(trial, lent.layouts):
        try:
            _call(trial, lend(trial, one))
        except Refused as why:
            culprit = next(k for k, layout in one.items() if layout != "C")
            message = f"with {_given(trial, culprit)} {LAYOUTS[one[culprit]]} it raises {why}"
            if one[culprit] == "unaligned":  # rare, and nobody gets a wrong number
                return warned("alignment", None, message)
            return failed("layout", None, message)
    return failed("layout", None, f"with {_listed(trial, lent)}, together, it raises {refused}")


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


def _shared(
    trial: Trial, lent: Lent, between: Mapping[str, Any], gradients: Mapping[str, Any]
) -> Iterator[Observation]:
    """Overwrite results, as their owner may, and look what else has changed."""
    values = values_of(trial)
    outputs = {k: v for k, v in between.items() if k in trial.spec.outputs}
    lent.write(values)
    memory = lent.snapshot()
    for name in scribbled(outputs):
        for changed in lent.changed(memory):
            message = SHARED.format(f"output {name}", _given(trial, changed))
            yield warned("shares", name, message)
        lent.write(values)
    before = copies(gradients)
    for name in scribbled(gradients):
        for changed in lent.changed(memory):
            message = SHARED.format(told(trial, name), _given(trial, changed))
            if changed in trial.spec.given:
                yield failed("aliases", name, message)
            else:
                yield warned("shares", name, message)
        lent.write(values)
        del before[name]
        now = copies({k: gradients[k] for k in before})
        for other in before:
            if not equal(before[other], now[other]):
                yield warned("shares", name, SHARED.format(told(trial, name), f"that of {other}"))
        before = now


def _all_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.all(np.isnan(array)))
