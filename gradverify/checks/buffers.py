"""buffers: running statistics are updated as declared, and by nothing but the forward."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradverify.cases import Array, Arrays, draw
from gradverify.checks.compared import Outputs
from gradverify.checks.observation import Observation, compare, failed, passed
from gradverify.checks.precision import in_precision
from gradverify.result import Status
from gradverify.spec import Spec
from gradverify.trial import Trial

# Other values at which an update has to be the old value, to the bit, for it to be that by
# definition and not by chance.
ELSEWHERE = 2


def tensors(spec: Spec) -> tuple[str, ...]:
    """Return the buffers of a spec."""
    return tuple(k for k in spec.given if spec.tensors[k].kind == "buffer")


def absent(spec: Spec) -> str | None:
    """Return why a spec has nothing to ask about, None where it has."""
    return None if tensors(spec) else "the spec has no buffers"


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask what a call makes of each buffer, what the next one does, and what pullbacks do."""
    right = _next_values(trial)
    if trial.oracle is not None:
        told = "the next value of {} is not the declared one"
        for seen in _as_declared(trial, right, "update", told):
            yield seen
            if seen.outcome is Status.FAILED:
                right = {k: v for k, v in right.items() if k != seen.tensor}
        for buffer, value in right.items():
            if _kept(trial, buffer):
                yield _same(trial, buffer, value)
    yield from _fed_back(trial, right)
    yield from _untouched(trial)


def _next_values(trial: Trial, outputs: Sequence[Any] | None = None) -> dict[str, Any]:
    """Return, by buffer, what was returned as its next value where that has its shape."""
    returned = trial.called.outputs if outputs is None else outputs
    found = dict(zip(trial.spec.outputs, returned, strict=True))
    named = {buffer: found[output] for buffer, output in trial.spec.updates.items()}
    return {k: v for k, v in named.items() if trial.fits(k, v)}


def _as_declared(
    trial: Trial, got: Mapping[str, Any], question: str, told: str
) -> Iterator[Observation]:
    """Compare next values with those of the definition."""
    outputs = Outputs(trial)
    for buffer, value in got.items():
        output = trial.spec.updates[buffer]
        allowance, expected = outputs.allowed[output], outputs.right[output]
        for seen in compare(question, buffer, expected, np.asarray(value, float), allowance):
            of_output = in_precision(outputs, replace(seen, tensor=output), allowance)
            found = replace(of_output, tensor=buffer)
            if found.outcome is Status.FAILED:
                parts = told.format(buffer), found.message
                found = replace(found, message="; ".join(m for m in parts if m))
            yield found


def _kept(trial: Trial, buffer: str) -> bool:
    """Whether the definition's update of a buffer is its old value, whatever else is given."""
    place = trial.spec.outputs.index(trial.spec.updates[buffer])
    elsewhere = (replace(trial.case.other(k), values="ordinary") for k in range(1, ELSEWHERE + 1))
    for at in (trial, *(replace(trial, case=case) for case in elsewhere)):
        outputs, _ = at.seen.run(at.point)
        if not np.array_equal(outputs[place], at.wide.tensors[buffer]):
            return False
    return True


def _same(trial: Trial, buffer: str, value: Any) -> Observation:
    old, new = trial.arrays.tensors[buffer], np.asarray(value)
    different = np.argwhere(~((old == new) | (np.isnan(old) & np.isnan(new))))
    if not len(different):
        return passed("kept", buffer)
    index = tuple(int(i) for i in different[0])
    return Observation(
        "kept", buffer, Status.FAILED,
        f"{buffer} stays as it is here, by definition, yet another value is returned as its next: "
        "return the one that was given",
        index, float(old[index]), float(new[index]), 0.0, "it is the same number",
    )  # fmt: skip


def _fed_back(trial: Trial, first: Mapping[str, Any]) -> Iterator[Observation]:
    """Give what a call has returned to a second one, at other values of all else."""
    other = draw(trial.spec, trial.case.other())
    kept = {k: np.array(v) for k, v in first.items()}
    second = replace(trial, given=Arrays({**other.tensors, **kept}, other.cotangents))
    if not first or not _declared(second):
        return
    if second.failure is not None:
        if trial.oracle is not None:  # else the other values may be no case
            yield failed("fed_back", None, "given the next values that it has returned, "
                                           f"{second.failure.message}")  # fmt: skip
        return
    for buffer, value in first.items():
        if np.array_equal(np.asarray(value), kept[buffer], equal_nan=True):
            yield passed("overwritten", buffer)
        else:
            yield failed("overwritten", buffer, f"the next value of {buffer} that one call has "
                         "returned is changed by the next: return an array of its own")  # fmt: skip
    if trial.oracle is not None:
        told = ("the next value of {} is right in one call, but not in a second that is given it: "
                "it must follow from the value given, and be updated once")  # fmt: skip
        got = {k: v for k, v in _next_values(second).items() if k in first}
        yield from _as_declared(second, got, "fed_back", told)


def _declared(trial: Trial) -> bool:
    """Whether the tensors are within their declared ranges and the definition is finite there."""
    for name, value in trial.arrays.tensors.items():
        ends = trial.spec.bounds(name, trial.case.at)
        if ends is not None and not np.all((ends[0] <= value) & (value <= ends[1])):
            return False
    if trial.oracle is None:
        return True
    return all(np.all(np.isfinite(y)) for y in trial.reference.outputs.values())


def _untouched(trial: Trial) -> Iterator[Observation]:
    """Ask whether the buffers given, and the next values returned, stay as they are."""
    given = draw(trial.spec, trial.case)
    before = {k: np.array(given.tensors[k]) for k in tensors(trial.spec)}
    with np.errstate(all="ignore"):
        try:
            outputs, pullback = trial.layer.forward(given.tensors, trial.constants)
            yield from _changed(before, given.tensors, "the forward changes {} in place: return "
                                "its next value and leave the one given as it is")  # fmt: skip
            after = _next_values(trial, outputs)
            kept = {k: np.array(v) for k, v in after.items()}
            for times in ("", " when it is called twice"):
                trial.layer.gradients(pullback, given.cotangents)
                yield from _changed(before, given.tensors, f"the pullback changes {{}}{times}: "
                                    "only the forward gives a next value")  # fmt: skip
                yield from _changed(kept, after, "the pullback changes the next value of {} that "
                                    f"the forward has returned{times}")  # fmt: skip
        except (Exception, SystemExit) as error:
            yield failed("untouched", None, "the first call succeeded, a later one raised "
                                            f"{type(error).__name__}: {error}")  # fmt: skip


def _changed(
    before: Mapping[str, Array], now: Mapping[str, Any], told: str
) -> Iterator[Observation]:
    for buffer, value in before.items():
        if np.array_equal(value, np.asarray(now[buffer]), equal_nan=True):
            yield passed("untouched", buffer)
        else:
            yield failed("untouched", buffer, told.format(buffer))
