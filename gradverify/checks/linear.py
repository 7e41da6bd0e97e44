"""A gradient is linear in the cotangent, to the last digits of its dtype."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradverify.cases import Array, is_large, with_layout
from gradverify.checks.agreement import (
    Answer,
    agree,
    copies,
    forward,
    imprecise,
    pulled,
    taken,
    told,
)
from gradverify.checks.memory import as_drawn, blanked, drawn_layouts
from gradverify.checks.observation import Observation, failed, passed
from gradverify.checks.sharing import KEPT
from gradverify.checks.state import OVERWRITTEN, Fresh
from gradverify.layer import Pullback
from gradverify.trial import Trial

# By this power of two cotangents are scaled, which is exact: gradients are clipped, cut off or
# divided by a norm at some size. In a lower precision more would overflow.
SCALES = {"float64": 30, "float32": 12, "float16": 2}
# Two factors whose products are rounded, and that turn the sign of some elements of their sum.
A, B = -0.7, 1.3
SCALED = "{0} times the cotangent does not give {0} times the gradient of {1}"
GIVES = "{} gives {}: every gradient is due at every cotangent, in its declared shape"
ADDITIVE = (
    "the gradient of {} at {} is not the sum of the gradients at each: a "
    "pullback is linear, whatever values its cotangents have"
)
BROADCAST = (
    "a cotangent of equal elements gives another gradient of {} where it is broadcast (strides of "
    "0) than in C order: use shapes and indices, not memory"
)


def at(trial: Trial, pullback: Pullback, cotangents: Sequence[Array]) -> dict[str, Array]:
    """Return the gradients at other cotangents, in the dtype and layout of the case."""
    layouts = drawn_layouts(trial)
    given = tuple(
        with_layout(np.asarray(dy, trial.case.dtype), layouts[name])
        for name, dy in zip(trial.spec.differentiable_outputs, cotangents, strict=True)
    )
    return taken(trial, pulled(trial, pullback, given))


def overflowed(trial: Trial, *values: Array) -> bool:
    """Whether a result at larger cotangents left the range of a lower precision, on its way or at
    last, which tells nothing."""
    return trial.case.dtype != "float64" and not all(np.all(np.isfinite(v)) for v in values)


def scaled(trial: Trial, first: Answer, fresh: Fresh) -> Iterator[Observation]:
    """Ask for the gradient at a cotangent of the other sign that is far larger, or far smaller."""
    case = trial.case
    up = case.seed & 8 or case.cotangent == "tiny"
    scale = -(2.0 ** (SCALES[case.dtype] if up else -SCALES[case.dtype]))
    large = [scale * dy for dy in trial.cotangents]
    # Of a large layer, whose memory is short, they are taken for what the first call gave.
    known = first.gradients if is_large(trial.spec) else {}
    made = {k: g for k, g in known.items()
            if trial.fits(k, g) and trial.fits(k, fresh.gradients.get(k))}  # fmt: skip
    own = Answer({}, copies(fresh.gradients, made))
    with blanked(fresh.gradients, own.gradients) as blank:
        found = at(trial, fresh.pullback, large)
        filled = [k for k, gradient in blank.items() if not np.all(np.isnan(gradient))]
    for name in filled:
        yield failed("overwritten", name, OVERWRITTEN.format(told(trial, name)))
    wrong = [k for k in own.gradients if not _scales(trial, own, found, k, scale)]
    if wrong:
        # What was returned, and is blanked since, may be what the pullback works with.
        _, pullback = forward(trial, as_drawn(trial).tensors)
        simple = at(trial, pullback, [-2 * dy for dy in trial.cotangents])
        again = at(trial, pullback, large)
    for name in own.gradients:
        if name not in wrong:
            yield passed("linear", name)
        elif name not in first.gradients:
            continue
        elif odd := _odd(own, found, name):
            yield failed("linear", name, GIVES.format(f"{scale:g} times the cotangent", odd))
        elif lost := imprecise(
            trial, name, scale * own.gradients[name], found[name], abs(scale), f"at {scale:g} dy"
        ):
            yield lost
        elif not _scales(trial, first, simple, name, -2.0):
            yield failed("linear", name, SCALED.format("-2", name))
        elif not _scales(trial, first, again, name, scale):
            yield failed("linear", name, SCALED.format(f"{scale:g}", name))
        elif np.any(np.isnan(found[name]) & ~np.isnan(own.gradients[name])):
            yield failed("aliases", name, KEPT.format(told(trial, name)))
        # Else the pullback itself is another than that of the first call, which is told already.


def _scales(
    trial: Trial, first: Answer, found: Mapping[str, Array], name: str, scale: float
) -> bool:
    if _odd(first, found, name):
        return False
    gradient = first.gradients[name]
    if overflowed(trial, found[name]) and np.all(np.isfinite(gradient)):
        return True
    return agree(trial, name, scale * np.asarray(gradient, float), found[name], abs(scale))


def _odd(first: Answer, found: Mapping[str, Array], name: str) -> str:
    """Return what there is in place of a gradient of the first shape, "" where there is one."""
    if name not in found:
        return f"no gradient of {name}"
    shape = found[name].shape
    return "" if shape == first.gradients[name].shape else f"a gradient of {name} of shape {shape}"


def zero(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask for the gradient at a cotangent of zeros."""
    nothing = [np.zeros_like(dy) for dy in trial.cotangents]
    found = at(trial, trial.called.pullback, nothing)
    for name in first.gradients:
        if odd := _odd(first, found, name):
            yield failed("zero", name, GIVES.format("a zero cotangent", odd))
    for name, value in found.items():
        if name in first.gradients and not np.all(np.isfinite(first.gradients[name])):
            continue  # nan is nan for a cotangent of zeros too
        if np.any(value != 0):
            yield failed("zero", name, f"a zero cotangent gives a gradient of {name} that is not 0")
        else:
            yield passed("zero", name)


def additive(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask for the gradient at a sum of two cotangents."""
    if trial.case.cotangent == "tiny":
        return  # what is not linear is far smaller still, and looks like lost digits
    rng = np.random.default_rng([trial.case.seed, 12])
    own = trial.cotangents
    # The second's elements are smaller than the first's, and so are all terms that are made of
    # them: what is allowed for the first is enough.
    second = [np.asarray(rng.uniform(-1, 1, dy.shape) * dy, dy.dtype) for dy in own]
    both = [A * dy + B * dz for dy, dz in zip(own, second, strict=True)]
    part = at(trial, trial.called.pullback, second)
    sums = {
        k: A * np.asarray(g, float) + B * part.pop(k)
        for k, g in first.gradients.items()
        if k in part and part[k].shape == g.shape
    }
    found = at(trial, trial.called.pullback, both)
    yield from _sum(trial, sums, found, 1 + abs(A) + abs(B), f"the sum {A} dy + {B} dz")


def alone(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask for the gradients of each output alone, whose sum is that of all."""
    own = trial.cotangents
    if len(own) < 2 or trial.case.cotangent == "tiny":
        return
    sums: dict[str, Array] = {}
    for k in range(len(own)):
        one = [dy if j == k else np.zeros_like(dy) for j, dy in enumerate(own)]
        for name, value in at(trial, trial.called.pullback, one).items():
            sums[name] = sums.get(name, 0.0) + value.astype(float)
    yield from _sum(trial, sums, first.gradients, len(own), "the cotangents of all outputs")


def _sum(
    trial: Trial, sums: Mapping[str, Array], found: Mapping[str, Array], scale: float, what: str
) -> Iterator[Observation]:
    """Compare sums of gradients with the gradients of the sum."""
    for name, expected in sums.items():
        if name not in found or found[name].shape != expected.shape:
            continue
        if overflowed(trial, found[name], expected) or not np.all(np.isfinite(expected)):
            continue  # a sum with what is not finite tells nothing
        if found[name].dtype != trial.case.dtype:
            continue  # another dtype is told of elsewhere; how far it rounds is no news
        if agree(trial, name, expected, found[name], scale):
            yield passed("linear", name)
        elif lost := imprecise(trial, name, expected, found[name], scale, f"at {what}"):
            yield lost
        else:
            yield failed("linear", name, ADDITIVE.format(name, what))


def broadcast(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask for the gradient at a cotangent of one element for all, as the sum of outputs has.

    Along one axis alone, cases have it.
    """
    own = trial.cotangents
    smallest = min(float(np.min(np.abs(dy), initial=np.inf)) for dy in own)
    if smallest == 0:
        return  # what is allowed for the case's own cotangent says nothing of a larger one
    ones = [np.array(dy[(slice(1),) * dy.ndim]) for dy in own]
    views = tuple(np.broadcast_to(one, dy.shape) for one, dy in zip(ones, own, strict=True))
    got = copies(pulled(trial, trial.called.pullback, views))
    scale = max(float(np.max(np.abs(one), initial=0.0)) for one in ones) / smallest
    for name, expected in at(trial, trial.called.pullback, views).items():
        if name in got and agree(trial, name, expected, got[name], scale):
            yield passed("layout", name)
        elif name in got and (
            lost := imprecise(trial, name, expected, got[name], scale, "for a broadcast cotangent")
        ):
            yield lost
        else:
            yield failed("layout", name, BROADCAST.format(name))
