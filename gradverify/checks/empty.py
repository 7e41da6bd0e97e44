"""An empty batch: asked only where that is a case, and never a reason to fail a layer."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradverify.cases import Array, Case
from gradverify.checks.agreement import Answer, Refused, forward, pulled, told
from gradverify.checks.observation import Observation, warned
from gradverify.checks.order import resized
from gradverify.errors import SpecError
from gradverify.notation.dims import evaluate
from gradverify.notation.tree import free_names, text
from gradverify.trial import Trial, real_array


def empty(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask for outputs and gradients of an empty batch.

    A declared size is 1 or more, so that all there is to tell is a warning.
    """
    case = emptied(trial)
    if case is None:
        return
    there = Trial(trial.layer, case, trial.oracle)
    where = " ".join(f"{k}={n}" for k, n in case.sizes)
    try:
        given = there.arrays
    except ValueError:
        return  # an index into nothing, or a number from an empty range
    expected = _expected(there)
    if expected is None:
        return
    try:
        with warnings.catch_warnings():  # of a mean of nothing
            warnings.simplefilter("ignore")
            outputs, pullback = forward(there, given.tensors)
            gradients = pulled(there, pullback, given.cotangents)
    except Refused as refused:
        yield warned("empty", None, f"at {where} it raises {refused}")
        return
    for name, value in (outputs | gradients).items():
        wrong = _wrong(there, name, value, expected.get(name))
        if wrong:
            yield warned("empty", name, f"at {where} {told(trial, name)} {wrong}")


def emptied(trial: Trial) -> Case | None:
    """Return the case with a dimension of 0 by which examples are counted, None without any."""
    case, spec = trial.case, trial.spec
    firsts = {text(spec.shapes[k][0]) for k in spec.inputs if spec.shapes[k]}
    held = {n for k in (*spec.params, *spec.updates) for s in spec.shapes[k] for n in free_names(s)}
    batches = [d for d in spec.dims if d in firsts - held]
    if not batches:
        return None
    name = batches[(case.seed >> 3) % len(batches)]
    sizes = {k: 0 if k == name else n for k, n in case.sizes}
    at = {**sizes, **dict(case.constants)}
    try:
        allowed = all(evaluate(w, at) for w in spec.where)
        shapes = [n for t in spec.tensors for n in spec.shape(t, at)]
    except ZeroDivisionError:
        return None
    return resized(case, sizes) if allowed and min(shapes) >= 0 else None


def _expected(there: Trial) -> dict[str, Array] | None:
    """Return the derived results, None where they are not finite; nothing without a definition."""
    if there.oracle is None:
        return {}
    try:
        derived = there.derived
    except (SpecError, ValueError, IndexError):  # a mean or the largest of nothing
        return None
    found = derived.outputs | derived.gradients
    return found if all(np.all(np.isfinite(a)) for a in found.values()) else None


def _wrong(there: Trial, name: str, value: Any, expected: Array | None) -> str:
    """Return what is wrong with a result, in a few words."""
    array, shape = real_array(value), there.view.shape(name)
    if array is None:
        return f"is a {type(value).__name__}"
    if array.shape != shape:
        return f"has shape {array.shape}, declared {there.spec.shape_text(name)} = {shape}"
    if array.dtype != there.case.dtype and type(value) is not float:
        return f"is {array.dtype} for {there.case.dtype} input"
    if expected is None or np.array_equal(array, expected):
        return ""  # as where all is 0
    if not np.all(np.abs(array - expected) <= _close(there, name)):
        return "is not what the definition gives"
    return ""


def _close(there: Trial, name: str) -> float:
    known = there.reference.allowed_gradients | there.reference.allowed_outputs
    return known[name].value
