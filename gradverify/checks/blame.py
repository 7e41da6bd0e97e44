"""Why a second answer differs from the first: the layer is asked again, in more pointed ways."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import numpy as np

from gradverify.cases import Array
from gradverify.checks.agreement import (
    Answer,
    Refused,
    agree,
    copies,
    forward,
    imprecise,
    pulled,
    told,
)
from gradverify.checks.memory import LAYOUTS, Lent, as_drawn, drawn_layouts, given, lend, values_of
from gradverify.checks.observation import Observation, failed, passed, warned
from gradverify.trial import Trial

REPEATED = "the same call twice gives two {}"
ADDS_UP = (
    "a pullback called twice gives another {} the second time: it adds up or uses up what it kept"
)
REMEMBERED = (
    "{} is that of an earlier call when an array that was given before has other values now: "
    "recognise what was computed already by its values, not by id()"
)
ELSEWHERE = "when arrays lie otherwise in memory"
LAID_OUT = "{} {}: use shapes and indices, not memory"


def same(trial: Trial, first: Answer, later: Mapping[str, Array], name: str) -> bool:
    """Whether a result is there again, and the same."""
    before = first.results[name]
    return (
        name in later
        and later[name].dtype == before.dtype
        and agree(trial, name, before, later[name])
    )


def differences(trial: Trial, first: Answer, again: Answer, lent: Lent) -> Iterator[Observation]:
    """Judge the same call, made again with arrays that were used before and lie otherwise."""
    wrong = [k for k in first.results if not same(trial, first, again.results, k)]
    for name in first.results:
        if name not in wrong:
            yield passed("repeatable", name)
    if not wrong:
        return
    one, twice = _call(trial, as_drawn(trial), twice=True)
    if elsewhere := [k for k in wrong if same(trial, first, one.results, k)]:
        fresh, _ = _call(trial, lend(trial, lent.layouts))
        reused = _reused(trial, lent)
    kept = [k for k in wrong if k not in elsewhere]
    again_called = called_twice(trial, {
        k: (one.gradients[k], twice[k]) for k in kept
        if k in one.gradients and not same(trial, one, twice, k)
    })  # fmt: skip
    for name in wrong:
        what = told(trial, name)
        if name in elsewhere:
            if same(trial, first, fresh.results, name):
                if same(trial, first, reused.results, name):  # and so it was only this once
                    yield failed("repeatable", name, repeated(trial, name))
                else:
                    yield failed("identity", name, REMEMBERED.format(what))
            elif lost := imprecise(
                trial, name, first.results[name], again.results[name], 1.0, ELSEWHERE
            ):
                yield lost
            elif not _only_rounded(trial, lent, name):
                yield _by_layout(trial, lent, name)
        elif name in again_called:
            yield again_called[name]
        else:
            yield failed("repeatable", name, repeated(trial, name))


def called_twice(trial: Trial, calls: Mapping[str, tuple[Array, Array]]) -> dict[str, Observation]:
    """Judge a pullback that gives other gradients when it is called again, both by name: what adds
    up or is used up does so by as much the next time, what is drawn at random does not."""
    fresh, later = _call(trial, as_drawn(trial), twice=True) if calls else (Answer({}, {}), {})
    found = {}
    for name, (once, twice) in calls.items():
        there = name in fresh.gradients and name in later
        if there and _as_much(trial, name, (once, twice), (fresh.gradients[name], later[name])):
            what = told(trial, name).removeprefix("the ")
            found[name] = failed("accumulates", name, ADDS_UP.format(what))
        else:
            found[name] = failed("repeatable", name, repeated(trial, name))
    return found


def _as_much(
    trial: Trial, name: str, calls: tuple[Array, Array], again: tuple[Array, Array]
) -> bool:
    with np.errstate(all="ignore"):
        more, as_much = (np.asarray(second - first, float) for first, second in (calls, again))
        return agree(trial, name, more, as_much)


def repeated(trial: Trial, name: str) -> str:
    """Return the message that a result is another although nothing that was given is."""
    return REPEATED.format(
        f"outputs {name}" if name in trial.spec.outputs else f"gradients of {name}"
    )


def _reused(trial: Trial, lent: Lent) -> Answer:
    """Return the answer of a call whose arrays have had other values in an earlier call."""
    again = lend(trial, lent.layouts)
    again.write(values_of(trial, other=True))
    with suppress(Refused):  # other values may be no case
        _call(trial, again)
    again.write(values_of(trial))
    return _call(trial, again)[0]


def _call(trial: Trial, lent: Lent, *, twice: bool = False) -> tuple[Answer, dict[str, Array]]:
    outputs, pullback = forward(trial, lent.tensors)
    found = Answer(copies(outputs), copies(pulled(trial, pullback, lent.cotangents)))
    return found, copies(pulled(trial, pullback, as_drawn(trial).cotangents)) if twice else {}


def _only_rounded(trial: Trial, lent: Lent, name: str) -> bool:
    """Whether nobody knows what cancels in a lower precision, and in the widest the layouts that
    make a difference here make none."""
    widest = trial.layer.widest
    if trial.oracle is not None or trial.case.dtype == widest:
        return False
    wide = trial.in_dtype(widest)
    with suppress(Refused):
        plain, _ = _call(wide, lend(wide, dict.fromkeys(lent.layouts, "C")))
        other, _ = _call(wide, lend(wide, lent.layouts))
        return same(wide, plain, other.results, name)
    return False


def _by_layout(trial: Trial, lent: Lent, name: str) -> Observation:
    """Return which array it is that must not lie in memory as it did."""
    plain, _ = _call(trial, lend(trial, dict.fromkeys(lent.layouts, "C")))
    what = f"gives another {told(trial, name).removeprefix('the ')} than in C order"
    for one in _alone(trial, lent):
        alone, _ = _call(trial, lend(trial, one))
        if not same(trial, plain, alone.results, name):
            culprit = next(k for k, layout in one.items() if layout != "C")
            where = f"{given(trial, culprit)} {LAYOUTS[one[culprit]]}"
            return failed("layout", name, LAID_OUT.format(where, what))
    return failed("layout", name, LAID_OUT.format(f"{_listed(trial, lent)}, together,", what))


def _listed(trial: Trial, lent: Lent) -> str:
    odd = {k: layout for k, layout in lent.layouts.items() if layout != "C"}
    return ", ".join(f"{given(trial, k)} {LAYOUTS[v]}" for k, v in odd.items())


def _alone(trial: Trial, lent: Lent) -> Iterator[dict[str, str]]:
    """Yield layouts in which one array is not in C order, as it is in a call or in the case."""
    drawn = drawn_layouts(trial)
    for name, layout in lent.layouts.items():
        for odd in dict.fromkeys((layout, drawn[name])):
            if odd != "C":
                yield dict.fromkeys(lent.layouts, "C") | {name: odd}


def refusal(trial: Trial, lent: Lent, refused: Refused) -> Observation:
    """Tell for which layout a layer raises; Refused is raised anew where that is not why."""
    try:
        _call(trial, as_drawn(trial))
    except Refused:
        raise refused from None
    for one in _alone(trial, lent):
        try:
            _call(trial, lend(trial, one))
        except Refused as why:
            culprit = next(k for k, layout in one.items() if layout != "C")
            message = f"with {given(trial, culprit)} {LAYOUTS[one[culprit]]} it raises {why}"
            if one[culprit] == "unaligned":  # rare, and nobody gets a wrong number
                return warned("alignment", None, message)
            return failed("layout", None, message)
    return failed("layout", None, f"with {_listed(trial, lent)}, together, it raises {refused}")
