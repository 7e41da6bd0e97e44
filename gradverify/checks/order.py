"""Several calls at a time, of other values, sizes and dtypes, and their pullbacks in any order."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from gradverify.cases import Array, Case, draw
from gradverify.checks.agreement import Answer, Refused, agree, copies, forward, pulled
from gradverify.checks.observation import Observation, failed, passed
from gradverify.checks.state import STALE, Fresh, as_drawn, kept, told
from gradverify.layer import Pullback
from gradverify.trial import Trial
from gradverify.view import factored


def deep(trial: Trial, first: Answer, fresh: Fresh) -> Iterator[Observation]:
    """Call the forward between others, and its pullback after each of theirs."""
    others: list[tuple[Pullback, tuple[Array, ...]]] = []
    _other(trial, trial.case, others)
    outputs, pullback = forward(trial, as_drawn(trial).tensors)
    shown = copies(outputs)
    # More than one buffer may be used in turn, and some only for equal sizes.
    for case in (trial.case, trial.case, _another(trial)):
        _other(trial, case, others)
    found = []
    for other_pullback, cotangents in others:
        with suppress(Refused):  # other values may be no case
            pulled(trial, other_pullback, cotangents)
        found.append(copies(pulled(trial, pullback, as_drawn(trial).cotangents)))
    yield from kept(trial, shown, outputs)
    for name, gradient in first.gradients.items():
        if all(k.get(name) is not None and agree(trial, name, gradient, k[name]) for k in found):
            yield passed("stale", name)
        else:
            yield failed("stale", name, STALE.format(told(trial, name)))


def _other(trial: Trial, case: Case, others: list[tuple[Pullback, tuple[Array, ...]]]) -> None:
    """Call the forward at other values and keep its pullback, with cotangents to call it with."""
    try:
        arrays = draw(trial.spec, replace(case, seed=case.seed + 1))
        _, pullback = forward(trial, arrays.tensors)
    except Refused:
        return  # other values, or another dtype, may be no case
    others.append((pullback, arrays.cotangents))


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
