"""Equal values: tensors with ties and exact zeros, and inputs that are constant along an axis."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from gradverify.cases.case import Case
from gradverify.notation.tree import Call, Name, Number, walk
from gradverify.spec import Spec

Array = np.ndarray[Any, Any]

# Calls that switch where their arguments are equal, or 0.
_SWITCHING = {"max", "min", "abs", "relu", "<", "<=", ">", ">=", "==", "!="}
# Values that inputs have in other cases too; what is far smaller only keeps a division from 0.
_MARKS = 1e-3, 30.0


def tied(
    spec: Spec, case: Case, bounds: tuple[float, float] | None, rng: np.random.Generator
) -> Array:
    """Return the few values of which a tensor with ties is made; 0 is every third."""
    marks = np.array(sorted({0.0, 1.0, -1.0, *_landmarks(spec, case)}))
    if bounds is not None:
        low, high = bounds
        marks = marks[(low <= marks) & (marks <= high)]
        # The ends of a range, and a zero in it, may be where a definition is not finite: sometimes
        # values inside.
        if len(marks) < 2 or rng.random() < 0.5:
            return low + (high - low) * np.array([0.25, 0.5, 0.75])
        return marks
    others = marks[marks != 0]
    zeros = 0 if rng.random() < 0.25 else max(len(others) // 2, 1)
    return np.concatenate([others, np.zeros(zeros)])


def _landmarks(spec: Spec, case: Case) -> Iterator[float]:
    """Yield the numbers, of either sign, that a definition compares something with."""
    known = dict(case.constants)
    for compared in _compared(spec):
        mark = float((known.get(compared) if isinstance(compared, str) else compared) or 0)
        if _MARKS[0] <= abs(mark) <= _MARKS[1]:
            yield from (mark, -mark)


@lru_cache(maxsize=32)  # every tensor of every case of ties asks
def _compared(spec: Spec) -> tuple[str | float, ...]:
    """Return the names and numbers in a definition's comparisons, in order."""
    found: list[str | float] = []
    for body in (s.body for s in spec.program.statements) if spec.program else ():
        for call in walk(body):
            if isinstance(call, Call) and call.function in _SWITCHING:
                for e in (part for arg in call.args for part in walk(arg)):
                    if isinstance(e, Name | Number):
                        found.append(e.id if isinstance(e, Name) else float(e.value))
    return tuple(found)


def evened(value: Array, rng: np.random.Generator) -> Array:
    """Return values that are constant along one axis, or along all."""
    if not value.size:
        return value
    axis = int(rng.integers(value.ndim + 1))
    kept = [slice(1) if axis in (k, value.ndim) else slice(None) for k in range(value.ndim)]
    return np.broadcast_to(value[tuple(kept)], value.shape)
