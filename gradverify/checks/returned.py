"""What a layer returns: a gradient for every tensor that takes one, and arrays as declared."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradverify.cases import Array
from gradverify.checks.agreement import due, named
from gradverify.checks.observation import Observation, failed, passed, warned
from gradverify.result import Status
from gradverify.trial import Call, Trial, call, real_array

# The ends of a range that is advised: no exp of it overflows, and nothing that is divided by it.
LEAST, MOST = 0.1, 10
ON_THE_WAY = "; float16 ends at 65504, and a step on the way exceeds it"


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask for names, types, shapes, dtypes and finite values of all that was returned."""
    called = trial.called
    yield from _keys(trial)
    for name, value in named(trial, called.outputs).items():
        yield from array_as_declared(trial, name, value, f"output {name}")
    for name, value in due(trial, called.gradients).items():
        if value is not None:
            yield from array_as_declared(trial, name, value, f"the gradient of {name}")


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


def array_as_declared(trial: Trial, name: str, value: Any, what: str) -> Iterator[Observation]:
    """Ask whether a value is an array of what is declared for a tensor; `what` it is called."""
    shape = trial.view.shape(name)
    array = real_array(value)
    # A list has neither shape nor dtype of its own, and adding two of them makes a longer one.
    if array is None or isinstance(value, list | tuple):
        kind = type(value).__name__
        if isinstance(value, np.ndarray | np.generic):
            kind = f"{kind} of dtype {value.dtype}"
        yield failed("type", name, f"{what} is a {kind}, not an array of real numbers")
        return
    if np.any(np.ma.getmask(value)):
        yield failed("type", name, f"{what} has masked elements: what is under the mask is no "
                                   "value; return an array without a mask")  # fmt: skip
    elif isinstance(value, np.matrix):
        yield warned("subclass", name, f"{what} is a matrix, of which * is the matrix product to "
                                       "the caller: return np.asarray of it")  # fmt: skip
    if array.shape != shape:
        declared = f"{trial.spec.shape_text(name)} = {shape}"
        yield failed("shape", name, f"{what} has shape {array.shape}, declared {declared}")
    else:
        yield passed("shape", name)
    # Python's float has no precision of its own: what it is combined with keeps its dtype.
    if array.dtype != trial.case.dtype and type(value) is not float:
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
            f"{ON_THE_WAY if trial.overflowed else ''}{_beyond(trial, name)}", index,
            severity="warning" if trial.overflowed else "error",
        )  # fmt: skip
    else:
        yield passed("finite", name)


def _beyond(trial: Trial, result: str) -> str:
    """Return what to do if a tensor has values that a layer is not meant for: one without which a
    result is finite."""
    kinds = {"input": trial.case.values, "param": trial.case.params}
    for name in trial.spec.differentiable:
        kind, value = trial.spec.tensors[name].kind, trial.wide.tensors[name]
        how, size = kinds.get(kind, "ordinary"), np.abs(value)
        if how == "ordinary" or name in trial.bounds:
            continue
        for meant, plain in ((f"-{MOST}..{MOST}", np.clip(value, -MOST, MOST)),
                             (f"{LEAST}..{MOST}", np.where(size < LEAST, 1.0, value))):  # fmt: skip
            if not np.array_equal(plain, value) and _finite(trial, name, plain, result):
                far = (
                    f"up to {size.max():.2g}" if size.max() > MOST else f"from {size.min():.2g} on"
                )
                return (
                    f": {name} has {how} values, {far}; if such are not meant, declare its range, "
                    f'such as {name}={kind.capitalize()}(..., range="{meant}")'
                )
    return ""


def _finite(trial: Trial, name: str, value: Array, result: str) -> bool:
    """Whether a result is finite where a tensor has other values."""
    tensors = {k: np.array(v) for k, v in trial.arrays.tensors.items()}
    tensors[name] = np.asarray(value, tensors[name].dtype)
    found = call(trial.layer, tensors, trial.constants, [np.array(dy) for dy in trial.cotangents])
    if not isinstance(found, Call):
        return False
    got = dict(zip(trial.spec.outputs, found.outputs, strict=True)) | found.gradients
    return trial.fits(result, got.get(result)) and bool(np.all(np.isfinite(got[result])))
