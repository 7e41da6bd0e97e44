"""From a judged layer to the evidence that reports show: equations, curves and heat maps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np

from gradverify.calculus.show import typeset
from gradverify.cases import Array, Case
from gradverify.checks import CHECKS
from gradverify.checks.descent import loss_curves
from gradverify.checks.finite_difference import MOST_ELEMENTS, difference_curve, element_errors
from gradverify.declare import Tensor
from gradverify.errors import few
from gradverify.evidence import (
    Declaration,
    DeclaredTensor,
    DifferenceCurve,
    Equations,
    Evidence,
    HeatMap,
    LossCurve,
    rounded,
)
from gradverify.ground import Ground
from gradverify.layer import Layer
from gradverify.notation.tree import text
from gradverify.proof import closed_forms
from gradverify.regular import settled
from gradverify.spec import Spec
from gradverify.tally import Seen
from gradverify.trial import LayerRaised, Trial, make_oracle

T = TypeVar("T")

# A report is not what a run is for: closed forms may take so many seconds. Curves need no limit:
# the checks call a layer many times as often.
CLOSED_SECONDS = 1.0
# The sizes at which curves are drawn: an axis is known by how long it is.
SIZES = (5, 4, 6, 3, 7)
# A heat map shows so many rows and columns, of a case with up to so many elements.
ROWS, COLUMNS, ELEMENTS = 48, 64, 4096


def gather(layer: Layer, ground: Ground, seen: Mapping[str, Seen]) -> Evidence:
    """Return what a layer is and what there is to look at.

    It is never a reason to lose a verdict: what cannot be had leaves a note.
    """
    spec, notes = layer.spec, list[str]()

    def kept(what: str, made: Callable[[], Iterator[T]]) -> tuple[T, ...]:
        found = []
        try:
            for one in made():
                found.append(one)
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            notes.append(f"{what} are left out: {why} (a defect of gradverify: please report it)")
        return tuple(found)

    return Evidence(
        declared(spec),
        kept("equations", lambda: _equations(spec, notes)),
        kept("differences", lambda: _differences(layer, ground, seen)),
        kept("losses", lambda: _losses(layer, ground, seen)),
        kept("heat maps", lambda: _heat(layer, ground, seen)),
        tuple(notes),
    )


def declared(spec: Spec) -> Declaration:
    """Return what a spec declares, as its report shows it."""
    tensors = tuple(
        DeclaredTensor(name, t.kind, spec.shape_text(name), _note(spec, name, t))
        for name, t in spec.tensors.items()
    )
    constants = {k: tuple(map(float, values)) for k, values in spec.constants.items()}
    return Declaration(tensors, constants, tuple(map(text, spec.where)))


def _note(spec: Spec, name: str, tensor: Tensor) -> str:
    said = {
        "whole numbers": tensor.integer,
        f"range {tensor.range}": tensor.range is not None,
        f"one of {', '.join(f'{v:g}' for v in tensor.values or ())}": tensor.values is not None,
        f"{tensor.outside} outside": tensor.outside is not None,
        f"starts at {tensor.init}": tensor.init != "normal",
        f"next value: {tensor.update}": tensor.update is not None,
        "no gradient": name in spec.given and not tensor.differentiable,
    }
    said |= {
        f"{key} may be off by {fraction:g} of its terms: {reason}": key in (name, f"d{name}")
        for key, (fraction, reason) in spec.allow.items()
    }
    return "; ".join(what for what, holds in said.items() if holds)


def _equations(spec: Spec, notes: list[str]) -> Iterator[Equations]:
    if spec.program is None:
        return
    parts, left = _typeset(spec)
    yield from (Equations(*part) for part in parts)
    if left:
        notes.append(
            f"closed forms of {few([f'd{t}' for t in left], 4)} are left out: finding them takes "
            f"more than {CLOSED_SECONDS:g} s (gradverify derive shows them)"
        )


@lru_cache(maxsize=8)  # they are the same for all layers of a spec
def _typeset(spec: Spec) -> tuple[list[tuple[str, str, str]], tuple[str, ...]]:
    """Return the equations of a spec, and the tensors whose closed form was not looked for."""
    oracle = make_oracle(spec)
    assert oracle is not None
    forms = closed_forms(spec, CLOSED_SECONDS)
    return typeset(oracle, forms), tuple(t for t in spec.differentiable if t not in forms)


def _trials(
    layer: Layer, ground: Ground, seen: Mapping[str, Seen], check: str, tensor: str | None
) -> Iterator[Trial]:
    """Yield trials that show what a check looks at: ordinary ones, then one that failed."""
    told = seen[check].failures
    failing = [case for (_, t), pairs in told.items() if t == tensor for case, _ in pairs]
    ordinary = [c for c in ground.rows if c.ordinary and c.dtype == layer.widest][:3]
    larger = [c for c in map(partial(_larger, layer.spec), ordinary[:1]) if c is not None]
    worst = sorted(failing, key=lambda case: case.weight)[-1:]
    for case in (*larger, *ordinary, *worst):
        trial = Trial(layer, case, make_oracle(layer.spec), ground.zero)
        if CHECKS[check].asks(trial) and not CHECKS[check].loses(trial) and trial.shaped:
            yield trial


@lru_cache(maxsize=32)
def _larger(spec: Spec, case: Case) -> Case | None:
    """Return a case at sizes at which nothing is degenerate and each axis can be told from the
    others, None where there is none such."""
    if spec.stars:
        return None
    preferred = dict(zip(spec.dims, SIZES * len(spec.dims), strict=False))
    sizes = next(spec.sizes(dict(case.constants), preferred), None)
    if sizes is None:
        return None
    return settled(spec, make_oracle(spec), replace(case, sizes=tuple(sizes.items())))


def _differences(
    layer: Layer, ground: Ground, seen: Mapping[str, Seen]
) -> Iterator[DifferenceCurve]:
    if "finite_difference" not in seen:
        return
    wrong = {t for _, t in seen["finite_difference"].failures}
    for tensor in layer.spec.differentiable:
        if tensor in ground.zero:
            continue
        curves = _curves(tensor, _trials(layer, ground, seen, "finite_difference", tensor))
        first = next(curves, None)
        if first is not None and tensor in wrong:
            # What is wrong in few cases is shown in one of these.
            telling = (c for c in (first, *curves) if not c.off <= c.allowed)
            yield next(telling, first)
        elif first is not None:
            yield first


def _curves(tensor: str, trials: Iterator[Trial]) -> Iterator[DifferenceCurve]:
    for trial in trials:
        if trial.gradients.get(tensor, np.empty(0)).size:
            with suppress(LayerRaised):
                if (found := difference_curve(trial, tensor)) is not None:
                    yield found


def _losses(layer: Layer, ground: Ground, seen: Mapping[str, Seen]) -> Iterator[LossCurve]:
    if "descent" not in seen:
        return
    for trial in _trials(layer, ground, seen, "descent", None):
        try:
            found = list(loss_curves(trial))
        except LayerRaised:
            continue
        if found:
            yield from found
            return


def _heat(layer: Layer, ground: Ground, seen: Mapping[str, Seen]) -> Iterator[HeatMap]:
    """Yield where wrong gradients are wrong: beside what is derived or, without a definition,
    beside differences."""
    check, most = "symbolic", ELEMENTS
    if layer.spec.program is None:
        check, most = "finite_difference", MOST_ELEMENTS
    told = seen[check].failures if check in seen else {}
    for (question, tensor), pairs in told.items():
        if tensor is None or question == "raises":
            continue
        for case in _heated(layer, [case for case, _ in pairs], tensor, most):
            off = _off(Trial(layer, case, make_oracle(layer.spec), ground.zero), tensor)
            if off is not None and not np.all(off <= 1):
                yield _map(tensor, check, case, np.where(np.isfinite(off), off, np.inf))
                break


def _off(trial: Trial, tensor: str) -> Array | None:
    """Return by how much each element of a gradient is off, in units of what is allowed."""
    if trial.failure is not None or tensor not in trial.gradients or not trial.shaped:
        return None
    if trial.oracle is None:
        try:
            return element_errors(trial, tensor)
        except LayerRaised:
            return None
    known, got = trial.reference, trial.gradients[tensor]
    with np.errstate(all="ignore"):
        difference = np.abs(got - known.gradients[tensor])
        return np.asarray(difference / known.allowed_gradients[tensor].value)


def _heated(layer: Layer, failing: Sequence[Case], tensor: str, most: int) -> Iterator[Case]:
    """Yield cases to show an error in: one of telling sizes, then those that failed, the largest
    with no more than `most` elements first."""
    for case in [c for c in failing if c.ordinary and c.dtype == layer.widest][:1]:
        larger = _larger(layer.spec, case)
        if larger is not None:
            yield larger
    sizes = {case: _size(layer.spec, case, tensor) for case in failing}
    yield from sorted(sizes, key=lambda c: (sizes[c] > most, -sizes[c]))


def _size(spec: Spec, case: Case, tensor: str) -> int:
    return int(np.prod(spec.shape(tensor, case.at)))


def _map(tensor: str, check: str, case: Case, off: Array) -> HeatMap:
    whole = off.reshape(-1, off.shape[-1]) if off.ndim else off.reshape(1, 1)
    rows, columns = whole.shape
    cut = [f"{most} of {count} {what}" for count, most, what in
           ((rows, ROWS, "rows"), (columns, COLUMNS, "columns")) if count > most]  # fmt: skip
    told = f"{' and '.join(cut)} are shown" if cut else ""
    shown = tuple(rounded(row) for row in whole[:ROWS, :COLUMNS])
    return HeatMap(tensor, check, str(case), off.shape, shown, told)
