"""The dimensions of a spec, read off the shapes of arrays that a layer is called with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradverify.notation.dims import affine, evaluate
from gradverify.notation.tree import Expr, free_names
from gradverify.spec import Spec
from gradverify.view import flattened


def sizes_of(
    spec: Spec, tensors: Mapping[str, np.ndarray[Any, Any]], constants: Mapping[str, Any]
) -> dict[str, int]:
    """Return the size of each dimension that follows from the shapes of tensors, by name.

    That of `*B` is the product of what stands for it.
    """
    _, flat = flattened(spec, tensors)
    known = {k: v for k, v in constants.items() if isinstance(v, int)}
    left: list[tuple[Expr, int]] = []
    for name, array in flat.items():
        pairs = zip(spec.shapes[name], array.shape, strict=True)
        ones = spec.ones.get(name, ())
        # An axis that may have size 1 says nothing where it has.
        left += [pair for axis, pair in enumerate(pairs) if not (axis in ones and pair[1] == 1)]
    while found := next(filter(None, (_solved(size, n, known) for size, n in left)), None):
        known |= found
    sizes = {n: known[n] for n in spec.dims if n in known}
    # All that could have more has 1.
    return {n: sizes.get(n, 1) for n in spec.dims}


def _solved(size: Expr, value: int, known: Mapping[str, int]) -> dict[str, int] | None:
    """Return the one dimension of a size that is not known yet."""
    unknown = {n for n in free_names(size) if n not in known}
    if len(unknown) != 1:
        return None
    (name,) = unknown
    split = affine(size, [name])
    if split is None:
        return None
    factor, offset = evaluate(split[0][name], known), evaluate(split[1], known)
    return {name: (value - offset) // factor} if factor else None
