"""contract: what every layer owes its caller, whatever it computes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradverify.cases import Array, Arrays, draw, with_layout
from gradverify.checks.observation import Observation, failed, passed
from gradverify.result import Status
from gradverify.trial import Trial, call, real_array

# What underflows on the way to a gradient may have been multiplied by this much after it.
UNDERFLOW = 2.0**16


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask for keys, shapes, dtypes, finite values, no mutation, and the same answer twice."""
    if trial.failure is not None:
        yield failed(trial.failure.question, None, trial.failure.message)
        return
    yield passed("raises")
    # What the checks after this one compare is copied before the layer is called again.
    _ = trial.outputs, trial.gradients
    yield from _keys(trial)
    called, view = trial.called, trial.view
    results = dict(zip(trial.spec.outputs, called.outputs, strict=True))
    for name, value in results.items():
        yield from _array(trial, name, value, f"output {name}", view.shape(name))
    for name in trial.spec.differentiable:
        if called.gradients.get(name) is not None:
            value = called.gradients[name]
            yield from _array(trial, name, value, f"the gradient of {name}", view.shape(name))
    yield from _state(trial)


def _keys(trial: Trial) -> Iterator[Observation]:
    gradients, spec = trial.called.gradients, trial.spec
    for name in spec.differentiable:
        if gradients.get(name) is None:
            how = "is None" if name in gradients else "is missing"
            yield failed(
                "missing", name, f"the gradient of {name} {how}; returned: {_listed(gradients)}"
            )
        else:
            yield passed("missing", name)
    for name, value in gradients.items():
        if name in spec.given and (name in spec.differentiable or value is None):
            continue
        if name not in spec.given:
            yield failed("extra", None, f"a gradient of {name!r} is returned; the spec declares "
                                        f"{', '.join(spec.given)}")  # fmt: skip
        elif (array := real_array(value)) is None or np.any(array != 0):
            yield failed("extra", name, f"{name} takes no gradient, yet one is returned: leave it "
                                        "out, or return None")  # fmt: skip


def _listed(gradients: Mapping[str, Any]) -> str:
    return ", ".join(str(k) for k, v in gradients.items() if v is not None) or "nothing"


def _array(
    trial: Trial, name: str, value: Any, what: str, shape: tuple[int, ...]
) -> Iterator[Observation]:
    array = real_array(value)
    if array is None:
        kind = type(value).__name__
        if isinstance(value, np.ndarray | np.generic):
            kind = f"{kind} of dtype {value.dtype}"
        yield failed("type", name, f"{what} is a {kind}, not an array of real numbers")
        return
    if array.shape != shape:
        declared = f"{trial.spec.shape_text(name)} = {shape}"
        yield failed("shape", name, f"{what} has shape {array.shape}, declared {declared}")
    else:
        yield passed("shape", name)
    if array.dtype != trial.case.dtype:
        remedy = ""
        if trial.layer.dtypes is None and trial.case.dtype != "float64":
            remedy = '; if only float64 is meant, register it with dtypes=["float64"]'
        yield failed("dtype", name, f"{what} is {array.dtype} for {trial.case.dtype} input{remedy}")
    else:
        yield passed("dtype", name)
    bad = ~np.isfinite(array)
    if np.any(bad):
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        if trial.oracle is None:
            # Without a definition nobody knows whether the value should be finite here.
            return
        place = f"[{', '.join(map(str, index))}]" if index else ""
        yield Observation(
            "finite", name, Status.FAILED,
            f"{what} is {array[index]} at {name}{place}, where the definition is finite"
            f"{_beyond(trial)}", index,
        )  # fmt: skip
    else:
        yield passed("finite", name)


def _beyond(trial: Trial) -> str:
    """Return what to do if the values of a case are beyond what a layer is meant for."""
    kinds = {"input": trial.case.values, "param": trial.case.params}
    for kind, how in kinds.items():
        names = [k for k in trial.spec.given if trial.spec.tensors[k].kind == kind
                 and k in trial.spec.differentiable and k not in trial.bounds]  # fmt: skip
        if how != "ordinary" and names:
            name = names[0]
            top = float(np.max(np.abs(trial.wide.tensors[name]), initial=0.0))
            return (
                f": {name} has {how} values, up to {top:.2g}; if such are not meant, declare its "
                f'range, such as {name}={kind.capitalize()}(..., range="-10..10")'
            )
    return ""


def _state(trial: Trial) -> Iterator[Observation]:
    """Ask the layer again, in other orders of calls."""
    layer, constants = trial.layer, trial.constants
    given, kept = draw(trial.spec, trial.case), draw(trial.spec, trial.case)
    first = trial.called

    def copies(gradients: Mapping[str, Any]) -> dict[str, Array]:
        return _copies({k: v for k, v in gradients.items() if k in trial.spec.differentiable})

    def cotangents() -> tuple[Array, ...]:
        return tuple(with_layout(dy, trial.case.layout) for dy in kept.cotangents)

    results = dict(zip(trial.spec.outputs, first.outputs, strict=True))
    before, shown = copies(first.gradients), _copies(results)
    with np.errstate(all="ignore"):
        try:
            outputs, pullback = layer.forward(given.tensors, constants)
            yield from _unchanged(given, kept, "forward")
            again = copies(layer.gradients(pullback, given.cotangents))
            yield from _unchanged(given, kept, "pullback")
            repeated = _copies(dict(zip(trial.spec.outputs, outputs, strict=True)))
            twice = copies(layer.gradients(pullback, cotangents()))
            # The first pullback, after a forward at other values and its pullback have run. That
            # those may be no case, and raise, is nothing to tell.
            other = draw(trial.spec, replace(trial.case, seed=trial.case.seed + 1))
            call(layer, other.tensors, constants, other.cotangents)
            kept_outputs, kept_gradients = _copies(results), copies(first.gradients)
            late = copies(layer.gradients(first.pullback, cotangents()))
            negative = tuple(
                with_layout(np.asarray(-2 * dy, dy.dtype), trial.case.layout)
                for dy in kept.cotangents
            )
            scaled = copies(layer.gradients(pullback, negative))
            zero = copies(
                layer.gradients(pullback, tuple(np.zeros_like(dy) for dy in kept.cotangents))
            )
        except (Exception, SystemExit) as error:
            yield failed("repeatable", None, "the first call succeeded, a later one raised "
                                             f"{type(error).__name__}: {error}")  # fmt: skip
            return
    for name in shown:
        if name not in repeated or not _agree(trial, name, shown[name], repeated[name]):
            yield failed("repeatable", name, f"the same call twice gives two outputs {name}")
    for what, early, now in (
        ("output {}", shown, kept_outputs), ("the gradient of {}", before, kept_gradients)
    ):  # fmt: skip
        for name in early:
            if not _equal(early[name], now[name]):
                yield failed("overwritten", name, f"{what.format(name)} that a call has returned "
                             "is changed by the next: return an array of its own")  # fmt: skip
    for question, later, told in (
        ("repeatable", again, "the same call twice gives two gradients of {}"),
        ("accumulates", twice, "a pullback called twice gives another gradient of {} the second "
                               "time: it adds up or uses up what it kept"),
        ("stale", late, "the gradient of {} changes when another forward has run in between: what "
                        "the forward keeps for its pullback must belong to that call"),
    ):  # fmt: skip
        for name in before:
            if name not in later or not _agree(trial, name, before[name], later[name]):
                yield failed(question, name, told.format(name))
            else:
                yield passed(question, name)
    for name, value in zero.items():
        if np.any(value != 0):
            yield failed("zero", name, f"a zero cotangent gives a gradient of {name} that is not 0")
    for name, value in scaled.items():
        if name in before and value.shape == before[name].shape:
            # Doubling and a change of sign are exact in binary arithmetic.
            if not _agree(trial, name, -2 * before[name], value):
                yield failed("linear", name, f"-2 times the cotangent does not give -2 times the "
                                             f"gradient of {name}")  # fmt: skip
            else:
                yield passed("linear", name)


def _copies(gradients: Mapping[str, Any]) -> dict[str, Array]:
    arrays = {name: real_array(value) for name, value in gradients.items()}
    return {name: np.array(a) for name, a in arrays.items() if a is not None}


def _agree(trial: Trial, name: str, a: Array, b: Array) -> bool:
    """Whether two results of the same computation agree.

    To the bit, but for two things: where a library sums in another order (by alignment in memory,
    by thread) the terms round otherwise, and tiny numbers underflow.
    """
    if a.shape != b.shape or a.size == 0:
        return bool(a.shape == b.shape)
    a, b = np.asarray(a, float), np.asarray(b, float)
    info = np.finfo(trial.case.dtype)
    allowed = 64 * float(info.eps) * float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    allowed += UNDERFLOW * float(info.smallest_subnormal)
    if trial.oracle is not None:
        known = trial.reference.allowed_gradients | trial.reference.allowed_outputs
        allowed = max(allowed, 2 * known[name].value)
    with np.errstate(all="ignore"):
        return bool(np.all((np.abs(a - b) <= allowed) | (np.isnan(a) & np.isnan(b)) | (a == b)))


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=True))


def _unchanged(given: Arrays, kept: Arrays, stage: str) -> Iterator[Observation]:
    for name, value in given.tensors.items():
        if not _equal(value, kept.tensors[name]):
            yield failed("mutates", name, f"the {stage} changed {name} in place: the caller still "
                                          "uses it; work on a copy")  # fmt: skip
        else:
            yield passed("mutates", name)
    for value, old in zip(given.cotangents, kept.cotangents, strict=True):
        if not _equal(value, old):
            yield failed("mutates", None, f"the {stage} changed its cotangent in place: the caller "
                                          "still uses it; work on a copy")  # fmt: skip
