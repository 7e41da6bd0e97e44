"""The sizes of dimensions, read off the tensors that a layer is given."""

from collections.abc import Mapping
from typing import Any

from gradverify.notation.dims import evaluate
from gradverify.notation.tree import Expr, Name, free_names
from gradverify.spec import Spec
from gradverify.view import flattened

# A dimension that stands in no shape alone is tried up to so many times the size of the axis.
_TIMES = 8


def sizes_of(
    spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
) -> dict[str, int]:
    """Return the size of every dimension; what stands for `*B` counts as one of all its elements.

    Where a dimension stands in quotients alone, the smallest size that fits is returned.
    """
    _, flat = flattened(spec, tensors)
    axes = [
        (size, n)
        for tensor, array in flat.items()
        for axis, (size, n) in enumerate(zip(spec.shapes[tensor], array.shape, strict=True))
        if axis not in spec.ones.get(tensor, ())
    ]
    known: dict[str, Any] = {k: v for k, v in constants.items() if isinstance(v, int)}
    for size, n in axes:
        if isinstance(size, Name):
            known.setdefault(size.id, n)
    for size, n in axes * 2:  # one may be told by another
        unknown = [name for name in free_names(size) if name not in known]
        if len(unknown) == 1:
            known |= _solved(size, n, unknown[0], known)
    return {k: known[k] for k in spec.dims if k in known}


def _solved(size: Expr, n: int, name: str, known: Mapping[str, Any]) -> dict[str, int]:
    for value in range(1, _TIMES * n + _TIMES):
        try:
            if evaluate(size, {**known, name: value}) == n:
                return {name: value}
        except ZeroDivisionError:
            continue
    return {}
