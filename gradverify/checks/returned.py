"""What a layer returns: a gradient for every tensor that takes one, and arrays as declared."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradverify.checks.agreement import due, named
from gradverify.checks.observation import Observation, failed, passed, warned
from gradverify.result import Status
from gradverify.trial import Trial, real_array

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
            f"{ON_THE_WAY if trial.overflowed else ''}{_beyond(trial)}", index,
            severity="warning" if trial.overflowed else "error",
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
