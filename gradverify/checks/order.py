"""Several calls at a time, of other values, sizes and dtypes, and their pullbacks in any order."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from gradverify.cases import Case, draw, is_large
from gradverify.checks.agreement import Answer, Refused, agree, copies, forward, pulled, taken, told
from gradverify.checks.memory import as_drawn, cotangents_of
from gradverify.checks.observation import Observation, failed, passed
from gradverify.checks.state import STALE, kept
from gradverify.trial import Trial
from gradverify.view import factored


def deep(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Call the forward between others, and its pullback between theirs."""
    before = [_forward(trial, trial.case)]
    outputs, pullback = forward(trial, as_drawn(trial).tensors)
    shown = copies(outputs)
    # Two buffers may be used in turn, and some only for equal sizes; for as many calls of a large
    # layer memory has no room.
    more = (trial.case,) if is_large(trial.spec) else (trial.case, trial.case)
    after = [_forward(trial, case) for case in (*more, _another(trial))]
    del after[0]
    same = set(first.gradients)
    for others in (before, after):
        while others:
            others.pop(0)()
        found = taken(trial, pulled(trial, pullback, cotangents_of(trial)))
        same &= {k for k in same & found.keys() if agree(trial, k, first.gradients[k], found[k])}
        del found
    yield from kept(trial, shown, outputs)
    for name in first.gradients:
        if name in same:
            yield passed("stale", name)
        else:
            yield failed("stale", name, STALE.format(told(trial, name)))


def _forward(trial: Trial, case: Case) -> Callable[[], None]:
    """Call the forward at other values, and return what calls its pullback."""
    # Other values, or another dtype, may be no case.
    arrays = draw(trial.spec, case.other())
    try:
        _, pullback = forward(trial, arrays.tensors)
    except Refused:
        return lambda: None

    def back() -> None:
        with suppress(Refused):
            pulled(trial, pullback, arrays.cotangents)

    return back


def _another(trial: Trial) -> Case:
    """Return a case of other sizes, or of another dtype."""
    case = trial.case
    if case.seed & 8:
        return replace(case, dtype="float32" if case.dtype == "float64" else "float64")
    wanted = {k: n + 1 for k, n in case.sizes}
    sizes = next(trial.spec.sizes(dict(case.constants), wanted), dict(case.sizes))
    return resized(case, sizes)


def resized(case: Case, sizes: Mapping[str, int]) -> Case:
    """Return a case with other sizes."""
    leading = tuple(
        (k, factored(sizes[k], len(made)) if sizes[k] else (0, *made[1:]))
        for k, made in case.leading
    )
    return replace(case, sizes=tuple((k, sizes[k]) for k, _ in case.sizes), leading=leading)
