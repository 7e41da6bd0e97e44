"""Causes in the array itself: transposed, reversed, summed over an axis, that of another tensor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import numpy as np

from gradverify.cases import Array
from gradverify.diagnose.cause import Cause, Instead
from gradverify.diagnose.sample import CLOSELY, Sample
from gradverify.numerics.allowance import FACTOR, reference, unit_roundoff

# One rounded step does at least this fraction of what the rounding of all of them does.
SINGLE = 1e-2
# So many numbers have few digits by chance once in thousands of times.
ENOUGH = 8
# What is computed in a precision is off by so many roundings at most, beside its largest element.
ROUNDINGS = 100
# Inputs are moved by this fraction: far more than a rounding of float32, far less than matters.
NUDGE = 1e-4
# Permutations of more axes are more than anyone tries by mistake.
MOST_AXES = 4
# A derivative of more elements by all others takes too long.
MOST_DERIVED = 400
# Constants that are added so that nothing divides by zero are below this.
SMALL = 0.05


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
    for count in range(1, min(len(axes), MOST_AXES) + 1):
        for over in combinations(axes, count):
            yield instead(
                lambda a, o=over: np.flip(a, o),  # type: ignore[misc]
                "axis", f"{what} is reversed along axis {', '.join(map(str, over))}",
            )  # fmt: skip
    for axis in axes:
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


def own_elements(sample: Sample) -> Iterator[Instead]:
    """Yield that each element is differentiated as if only its own element of an output depended
    on it: the diagonal of the derivative, as of an elementwise function."""
    for k, y in enumerate(sample.trial.spec.differentiable_outputs):
        if sample.trial.view.shape(y) != sample.expected.shape:
            continue

        def at(s: Sample, k: int = k) -> Array | None:
            trial, size = s.trial, s.expected.size
            if size > MOST_DERIVED or trial.wide.cotangents[k].shape != s.expected.shape:
                return None
            _, pullback = trial.seen.run(trial.point)
            cotangents = [np.zeros_like(dy) for dy in trial.wide.cotangents]
            found = np.empty(size)
            for i, dy in enumerate(trial.wide.cotangents[k].flat):
                cotangents[k].flat[i] = dy
                found[i] = pullback(*cotangents)[s.tensor].flat[i]
                cotangents[k].flat[i] = 0.0
            return found.reshape(s.expected.shape)

        text = f"{sample.tensor} reaches only its own elements of {y}: the terms across are missing"
        yield Instead(at, Cause("missing path", text))


def small(values: Sequence[Any]) -> bool:
    """Whether a constant is one that is added so that nothing divides by zero."""
    return all(isinstance(v, float) and 0 < v < SMALL for v in values)


def other_constants(sample: Sample) -> Iterator[Instead]:
    """Yield that a constant is not the one that is given."""
    spec = sample.trial.spec
    for name, values in spec.constants.items():
        others = {v for v in values if not isinstance(v, bool)}
        for value in (*sorted(others, key=str), 0.0, 1.0):
            if isinstance(values[0], int) and value not in values:
                continue

            def at(s: Sample, name: str = name, value: Any = value) -> Array | None:
                return _with_constants(s, {name: value})

            fixed = str(bool(value)) if isinstance(values[0], bool) else f"{value:g}"
            told = "is left out" if fixed == "0" else f"is {fixed} whatever is given"
            yield Instead(at, Cause("eps" if small(values) else "constant", f"{name} {told}"))


def _with_constants(sample: Sample, changed: dict[str, Any]) -> Array | None:
    trial = sample.trial
    try:
        outputs, pullback = trial.seen.run(
            replace(trial.point, constants={**trial.constants, **changed})
        )
        if sample.tensor in trial.spec.differentiable:
            return pullback(*trial.wide.cotangents)[sample.tensor]
    except Exception:  # at such a constant the definition has no value or another shape
        return None
    return dict(zip(trial.spec.outputs, outputs, strict=True)).get(sample.tensor)


def rounded(samples: Sequence[Sample]) -> Cause | None:
    """Return that a step is computed in a lower precision, if no error in float64 is larger than
    what such steps do, and some are as large."""
    if found := of_few_digits(samples):
        return found
    precise = [s for s in samples if s.case.dtype == "float64"][:CLOSELY]
    for dtype in ("float32", "float16"):
        parts = [_of_rounding(s, dtype) for s in precise]
        erratic = any(map(_erratic, precise))
        if parts and erratic and SINGLE / FACTOR <= max(parts) <= 1:
            return Cause("precision", f"a step is computed in {dtype}: the error is of the size "
                                      "of its rounding")  # fmt: skip
    return None


def of_few_digits(samples: Sequence[Sample]) -> Cause | None:
    """Return that in float64 all has the digits of a lower precision only."""
    for dtype in ("float16", "float32"):
        # Elsewhere a precision of fewer digits ends, at its largest number or at its smallest.
        plain = [s for s in samples if s.case.dtype == "float64" and _in_range(s, dtype)]
        enough = sum(np.count_nonzero(s.got) for s in plain) >= ENOUGH
        if enough and all(_representable(s, dtype) for s in plain):
            what = plain[0].tensor
            return Cause("precision", f"{what} is computed in {dtype}: all its digits fit in that")
    return None


def _in_range(sample: Sample, dtype: str) -> bool:
    """Whether what is right is neither too large nor too small for all digits of a dtype."""
    ends, largest = np.finfo(dtype), float(np.max(np.abs(sample.expected)))
    return float(ends.tiny) <= largest < float(ends.max)


def _representable(sample: Sample, dtype: str) -> bool:
    """Whether what was got is nearly right and has no more digits than a dtype, in any range."""
    unit, largest = unit_roundoff(dtype), np.max(np.abs(sample.got))
    if not np.all(np.abs(sample.difference) <= ROUNDINGS * unit * largest):
        return False
    digits = np.frexp(sample.got)[0] / unit
    return bool(np.all(digits == np.round(digits)))


def _of_rounding(sample: Sample, dtype: str) -> float:
    """Return the error as a fraction of what rounding in a dtype may do."""
    trial = sample.trial
    found = reference(trial.seen, trial.point, trial.wide.cotangents, dtype, trial.case.seed)
    allowance = (found.allowed_gradients | found.allowed_outputs)[sample.tensor]
    # All of it is small beside the terms: a gross error is none of rounding.
    allowed = min(allowance.value, 100 * unit_roundoff(dtype) * allowance.terms)
    return float(np.max(np.abs(sample.difference))) / allowed if allowed else np.inf


def _erratic(sample: Sample) -> bool:
    """Whether the error changes when inputs do by a little, as rounding does; the error of a
    wrong formula changes as little as they do."""
    trial = sample.trial
    rng = np.random.default_rng([trial.case.seed, 8])
    moved = trial.within({
        k: v * (1 + NUDGE * rng.standard_normal(v.shape)) if k in trial.spec.differentiable else v
        for k, v in trial.wide.tensors.items()
    })  # fmt: skip
    found = sample.beside(trial.case.point(moved))
    if found is None:
        return False
    got, right = found
    change = got - right - sample.difference
    return float(np.max(np.abs(change))) > 0.1 * float(np.max(np.abs(sample.difference)))
