"""Causes in the array itself: transposed, reversed, summed over an axis, that of another tensor."""

from collections.abc import Callable, Iterator
from itertools import combinations, permutations
from typing import Any

import numpy as np

from gradverify.cases import Array
from gradverify.diagnose.cause import Cause, Instead
from gradverify.diagnose.sample import Sample
from gradverify.numerics.allowance import FACTOR, reference, unit_roundoff
from gradverify.view import seen

# Permutations of more axes are more than anyone tries by mistake.
MOST_AXES = 4


def rearranged(sample: Sample) -> Iterator[Instead]:
    """Yield that the right numbers are returned, in other places or summed over an axis."""
    what, axes = sample.tensor, range(sample.expected.ndim)

    def instead(change: Callable[[Array], Array], kind: str, text: str) -> Instead:
        def at(s: Sample) -> Array | None:
            if s.expected.ndim != sample.expected.ndim:
                return None
            found = np.asarray(change(s.expected))
            return found.reshape(s.got.shape) if found.size == s.got.size else None

        return Instead(at, Cause(kind, text))

    if 1 < len(axes) <= MOST_AXES:
        for order in permutations(axes):
            if order != tuple(axes):
                told = f"{what} is transposed: its axes are in the order {order}"
                yield instead(lambda a, o=order: a.transpose(o), "transposed", told)  # type: ignore[misc]
    for axis in axes:
        yield instead(
            lambda a, k=axis: np.flip(a, k),  # type: ignore[misc]
            "axis", f"{what} is reversed along axis {axis}",
        )  # fmt: skip
        for step in (1, -1):
            yield instead(
                lambda a, k=axis, s=step: np.roll(a, s, k),  # type: ignore[misc]
                "axis", f"{what} is moved by {step} along axis {axis}",
            )  # fmt: skip
    for count in range(1, len(axes) + 1):
        for over in combinations(axes, count):
            for reduce, how in ((np.sum, "the sum"), (np.mean, "the mean")):
                yield instead(
                    lambda a, o=over, r=reduce: np.broadcast_to(r(a, o, keepdims=True), a.shape),  # type: ignore[misc]
                    "axis", f"{what} is {how} of the right gradient over axis "
                            f"{', '.join(map(str, over))}",
                )  # fmt: skip
    yield instead(np.abs, "sign", f"{what} is the absolute value of the right gradient")


def of_another_tensor(sample: Sample) -> Iterator[Instead]:
    """Yield that the gradient of another tensor is returned."""
    for other in sample.trial.spec.differentiable:
        if other == sample.tensor:
            continue

        def at(s: Sample, other: str = other) -> Array | None:
            found: Array = s.trial.reference.gradients[other]
            return found.reshape(s.got.shape) if found.size == s.got.size else None

        yield Instead(at, Cause("swapped", f"{sample.tensor} gets the gradient of {other}"))


def other_constants(sample: Sample) -> Iterator[Instead]:
    """Yield that a constant is not the one that is given."""
    spec = sample.trial.spec
    for name, values in spec.constants.items():
        others = {v for v in values if isinstance(v, float) or not isinstance(v, bool)}
        for value in (*sorted(others, key=str), 0.0, 1.0):
            if isinstance(values[0], int) and value not in values:
                continue

            def at(s: Sample, name: str = name, value: Any = value) -> Array | None:
                return _with_constants(s, {name: value})

            told = "is left out" if value == 0 else f"is {value:g} whatever is given"
            yield Instead(at, Cause("eps" if value == 0 else "constant", f"{name} {told}"))


def _with_constants(sample: Sample, changed: dict[str, Any]) -> Array | None:
    trial = sample.trial
    assert trial.oracle is not None
    oracle = seen(trial.oracle, trial.view)
    try:
        outputs, pullback = oracle.run(
            trial.wide.tensors, {**trial.constants, **changed}, trial.sizes
        )
        if sample.tensor in trial.spec.differentiable:
            return pullback(*trial.wide.cotangents)[sample.tensor]
    except Exception:  # at such a constant the definition has no value or another shape
        return None
    return dict(zip(trial.spec.outputs, outputs, strict=True)).get(sample.tensor)


def rounded(sample: Sample) -> Cause | None:
    """Return that a step is computed in a lower precision, if an error in float64 is of the size
    of what such a step does."""
    if sample.case.dtype != "float64" or not np.all(np.isfinite(sample.difference)):
        return None
    trial, largest = sample.trial, float(np.max(np.abs(sample.difference)))
    assert trial.oracle is not None
    for dtype in ("float32", "float16"):
        found = reference(
            seen(trial.oracle, trial.view), trial.wide.tensors, trial.constants, trial.sizes,
            trial.wide.cotangents, dtype, trial.case.seed,
        )  # fmt: skip
        allowances = found.allowed_gradients | found.allowed_outputs
        allowed = allowances[sample.tensor].value
        # One rounding alone is a fraction of what all of them together may do.
        if 1e-3 * allowed / FACTOR < largest <= allowed and largest > unit_roundoff(dtype) * 1e-3:
            return Cause("precision", f"a step is computed in {dtype}: the error is of the size "
                                      f"of its rounding")  # fmt: skip
    return None
