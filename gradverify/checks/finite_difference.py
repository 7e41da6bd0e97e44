"""finite_difference: every gradient is the slope of the layer's own forward."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from gradverify.cases import Array, is_large, signs
from gradverify.checks.observation import Observation
from gradverify.checks.products import agreed
from gradverify.evidence import DifferenceCurve, rounded
from gradverify.numerics.finite_difference import (
    FACTOR,
    FEW_LEVELS,
    LEVELS,
    Estimate,
    cap,
    contradicted,
    derivative,
    few_digits,
    first_step,
    locate,
)
from gradverify.result import Status
from gradverify.trial import Call, Trial, call, dot, norm

# A curve has so many steps, from 10 times the longest that is tried on to where all is rounding.
LONGEST, SHORTEST, POINTS = 1, -12, 27
# In tensors up to this size each element is looked at to find the worst; beyond, by halving.
MOST_ELEMENTS = 64
DIGITS = (
    "less accurate than differences are; no wrong formula: in 50-digit arithmetic it gives the "
    "slope of the layer's forward"
)

Directions = Mapping[str, Array]


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each gradient with differences along one direction of signs per tensor.

    They are random: the gradient's own would not show an element that it leaves out. Only where
    a precision has so few digits that differences along random signs drown in rounding are they
    the gradient's, and random where it is 0.
    """
    if not trial.shaped:
        return
    asked = [k for k, gradient in trial.gradients.items() if gradient.size]
    # One difference of a large layer takes as long as all that is done with it.
    told = _together(trial, asked) if is_large(trial.spec) and len(asked) > 1 else {}
    for tensor in asked:
        yield told.get(tensor) or _along(
            trial, tensor, trial.gradients[tensor], _direction(trial, tensor)
        )


def _together(trial: Trial, asked: Sequence[str]) -> dict[str, Observation]:
    """Return by tensor that its gradient is right, known from one direction in all tensors at once.

    Where that is as promised, a tensor is right if its own part, beside what is allowed, would have
    shown it to be wrong; the signs of its direction have nothing to do with those of others, so
    that no two errors cancel. The others are told nothing of.
    """
    sizes = {k: scale(trial.wide.tensors[k]) for k in asked}
    directions = {k: sizes[k] * _direction(trial, k) for k in asked}
    estimate = _slope_along(trial, directions, 1.0)
    promised = sum(dot(trial.gradients[k], v) for k, v in directions.items())
    if estimate is None or not abs(promised - estimate.value) <= estimate.allowed:
        return {}
    return {
        k: Observation(
            "slope", k, Status.PASSED, "", None, estimate.value, promised, estimate.allowed,
            estimate.why,
        )
        for k in asked
        if estimate.allowed <= cap(trial.unit) * sizes[k] * norm([trial.gradients[k]])
    }  # fmt: skip


def _direction(trial: Trial, tensor: str) -> Array:
    gradient = trial.gradients[tensor]
    rng = np.random.default_rng([trial.case.seed, 3, crc32(tensor.encode())])
    direction = signs(rng, gradient.shape)
    if few_digits(trial.unit):
        return np.where(gradient == 0, direction, np.sign(gradient))
    return direction


def _along(trial: Trial, tensor: str, gradient: Array, direction: Array) -> Observation:
    estimate = slope(trial, tensor, direction)
    promised = float(np.sum(gradient * direction))
    if estimate is None or not np.isfinite(estimate.value):
        return Observation("slope", tensor, Status.VACUOUS, powered=False)
    # A signed random sum of a gradient is as large as its norm, give or take.
    signal = max(float(np.linalg.norm(gradient)), abs(estimate.value))
    most = cap(trial.unit) * signal
    difference = abs(promised - estimate.value)
    if difference <= estimate.allowed:
        powered = estimate.allowed <= most
        return Observation(
            "slope", tensor, Status.PASSED if powered else Status.VACUOUS, "", None,
            estimate.value, promised, estimate.allowed, estimate.why, powered,
        )  # fmt: skip
    nothing = Observation("slope", tensor, Status.VACUOUS, powered=False)
    if np.isfinite(difference) and (
        estimate.allowed > most or _excused(trial, tensor, direction, promised)
    ):
        return nothing
    failed = Observation(
        "slope", tensor, Status.FAILED, "along a direction of signs +1 and -1", None,
        estimate.value, promised, estimate.allowed, estimate.why,
    )  # fmt: skip
    truth = agreed(trial, {tensor: direction}) if trial.oracle is None else None
    if truth is None or not np.isfinite(difference):
        return failed
    # The formula is right: differences, or the gradient itself, have lost their digits.
    if abs(promised - truth) <= estimate.allowed + FACTOR * trial.unit * norm([gradient]):
        return nothing
    if trial.case.ordinary:
        return failed  # a formula that loses so many is wrong as it is written
    return replace(failed, question="inaccurate", severity="warning", message=DIGITS)


def _excused(trial: Trial, tensor: str, direction: Array, promised: float) -> bool:
    """Whether a kink, steps too long for the function, or cancellation may explain that the slope
    along a direction is not what is promised."""
    along = {tensor: direction}
    loss, step, rounding = _line(trial, along, scale(trial.wide.tensors[tensor]))
    valid = _smooth(trial, along)
    estimate = derivative(loss, step, rounding, valid)
    if estimate is None or contradicted(loss, estimate, promised, step, rounding, valid):
        return True
    if trial.oracle is not None:
        # What cancels is known, and is in what is allowed.
        return _blind(trial, along)
    if trial.case.special and np.count_nonzero(direction) > 1:
        # At zeros and equal values one element may be on a kink that drowns in what others do.
        alone = _only(direction, [_worst(trial, tensor, direction)])
        if _excused(trial, tensor, alone, float(np.sum(trial.gradients[tensor] * alone))):
            return True
    # Inputs moved by their last digit move a gradient by what it loses where it cancels.
    rng = np.random.default_rng([trial.case.seed, 7])
    own = 0.0
    for _ in range(3):
        near = {
            k: v * (1 + trial.unit * rng.choice([-1, 1], v.shape)) if v.dtype.kind == "f" else v
            for k, v in trial.wide.tensors.items()
        }
        near = trial.within(near)
        near = dict(zip(near, trial.narrowed(near.values()), strict=True))
        cotangents = trial.narrowed(trial.wide.cotangents)
        found = call(trial.layer, near, trial.constants, cotangents)
        if isinstance(found, Call) and trial.fits(tensor, found.gradients.get(tensor)):
            moved = np.asarray(found.gradients[tensor], float) - trial.gradients[tensor]
            own = max(own, float(np.sum(np.abs(moved))))
    return abs(promised - estimate.value) <= estimate.allowed + FACTOR * own


def _blind(trial: Trial, directions: Directions) -> bool:
    """Whether differences of the definition's forward do not give the derived gradient either: it
    turns within all steps, as sin(x*exp(a)) does where a is large."""
    wanted, trusted = trial.seen.program.declared.wanted, trial.spec.differentiable_outputs

    def loss(h: float) -> float:
        point = replace(trial.point, tensors=_moved(trial, directions, h))
        outputs = dict(zip(wanted, trial.seen.run(point)[0], strict=True))
        pairs = zip(trusted, trial.wide.cotangents, strict=True)
        return float(sum(np.sum(outputs[y] * dy) for y, dy in pairs))

    size = max(scale(trial.wide.tensors[k]) for k in directions)
    _, step, rounding = _line(trial, directions, size)
    found = derivative(loss, step, rounding, _smooth(trial, directions))
    known = trial.reference
    derived = sum(float(np.sum(known.gradients[k] * v)) for k, v in directions.items())
    own = sum(known.allowed_gradients[k].value * norm([v]) for k, v in directions.items())
    return found is None or not abs(found.value - derived) <= found.allowed + own


def worst_element(trial: Trial, seen: Observation) -> Observation:
    """Return a failure along a direction as one of the element that is off the most."""
    tensor = seen.tensor
    if seen.question != "slope" or tensor is None:
        return seen
    gradient, direction = trial.gradients[tensor], _direction(trial, tensor)
    element = _worst(trial, tensor, direction)
    found = slope(trial, tensor, _only(direction, [element]))
    index = tuple(int(i) for i in np.unravel_index(element, gradient.shape))
    sign, got = float(direction[index]), float(gradient[index])
    if found is None or abs(found.value * sign - got) <= found.allowed:
        return seen  # no element stands out alone
    return Observation(
        "slope", tensor, Status.FAILED, "", index, found.value * sign, got, found.allowed, found.why
    )


def _only(direction: Array, elements: Sequence[int]) -> Array:
    """Return a direction in some elements alone."""
    part = np.zeros(direction.size)
    part[list(elements)] = direction.reshape(-1)[list(elements)]
    return part.reshape(direction.shape)


def _worst(trial: Trial, tensor: str, direction: Array) -> int:
    """Return the element of a gradient, by its place in the flat tensor, that is off the most."""
    gradient = trial.gradients[tensor]

    def discrepancy(group: Sequence[int]) -> float:
        part = _only(direction, group)
        found = slope(trial, tensor, part)
        if found is None:
            return 0.0
        difference = abs(found.value - float(np.sum(gradient * part)))
        return difference if np.isfinite(difference) else float("inf")

    return locate(discrepancy, range(gradient.size), MOST_ELEMENTS)


def slope(trial: Trial, tensor: str, direction: Array) -> Estimate | None:
    """Return the derivative of <cotangents, outputs> of the layer's forward along a direction."""
    return _slope_along(trial, {tensor: direction}, scale(trial.wide.tensors[tensor]))


def _slope_along(trial: Trial, directions: Directions, size: float) -> Estimate | None:
    levels = FEW_LEVELS if len(directions) > 1 else LEVELS
    found = derivative(*_line(trial, directions, size), _smooth(trial, directions), levels)
    if found is None or trial.oracle is None:
        return found
    # The gradient is rounded as well, and where it cancels, more than the loss; the signs of the
    # direction have nothing to do with its errors.
    allowed = trial.reference.allowed_gradients
    own = sum(allowed[k].value * norm([v]) for k, v in directions.items())
    return replace(found, allowed=found.allowed + own, own=own)


def _moved(trial: Trial, directions: Directions, h: float) -> dict[str, Array]:
    found = dict(trial.wide.tensors)
    for k, v in directions.items():
        step = np.asarray(h * v)
        found[k] = np.add(found[k], step, out=step)
    return found


def _smooth(trial: Trial, directions: Directions) -> Callable[[float], bool]:
    """Return whether tensors -+ h*direction are in their range, with no kink on the way."""

    def smooth(h: float) -> bool:
        kinks = trial.oracle is not None and trial.own_switches
        if not kinks and not trial.bounds:
            return True
        ends = [_moved(trial, directions, s) for s in (h, -h)]
        if not all(map(trial.ranges_hold, ends)):
            return False
        if not kinks:
            return True
        return all(trial.switches(x).same(trial.own_switches) for x in ends)

    return smooth


def _line(
    trial: Trial, directions: Directions, size: float
) -> tuple[Callable[[float], float], float, float]:
    """Return <cotangents, outputs> along directions, the first step in them, which is small beside
    `size`, and its rounding."""
    wide = trial.wide

    def loss(h: float) -> float:
        outputs = trial.forward(_moved(trial, directions, h), new=directions.keys())
        return float(sum(np.sum(y * dy) for y, dy in zip(outputs, wide.cotangents, strict=True)))

    outputs = trial.forward(wide.tensors)
    # A step is rounded as well, to numbers of the layer's precision.
    known: Mapping[str, Array] = trial.gradients
    if trial.oracle is not None and not is_large(trial.spec):
        known = trial.reference.gradients
    terms = (y * dy for y, dy in zip(outputs, wide.cotangents, strict=True))
    steps = (wide.tensors[k] * known[k] for k in directions)
    rounding = trial.unit * norm([*terms, *steps]) + trial.noise(wide.cotangents)
    return loss, first_step(trial.unit) * size, rounding


def scale(tensor: Array) -> float:
    """Return how much the values of a tensor vary, which is what a step in it is small beside."""
    return float(np.std(tensor)) or float(np.abs(tensor).max()) or 1.0


def difference_curve(trial: Trial, tensor: str) -> DifferenceCurve | None:
    """Return how far plain central differences are from the slope, against their step; None where
    no step is valid."""
    direction = _direction(trial, tensor)
    smooth = _smooth(trial, {tensor: direction})
    found = slope(trial, tensor, direction)
    if found is None:
        return None
    known, error = found.value, None
    if trial.oracle is not None:
        known = float(np.sum(trial.reference.gradients[tensor] * direction))
        (error,) = rounded([abs(found.value - known)])
    loss, first, _ = _line(trial, {tensor: direction}, scale(trial.wide.tensors[tensor]))
    steps = [h for h in first * np.logspace(LONGEST, SHORTEST, POINTS) if smooth(h)]
    if not steps:
        return None
    errors = [abs((loss(h) - loss(-h)) / (2 * h) - known) for h in steps]
    step, allowed, off = rounded([
        found.step, found.allowed,
        abs(float(np.sum(trial.gradients[tensor] * direction)) - known),
    ])  # fmt: skip
    return DifferenceCurve(
        tensor, str(trial.case), rounded(steps), rounded(errors), step, error, allowed, off
    )


def element_errors(trial: Trial, tensor: str) -> Array | None:
    """Return by how much each element of a gradient is off, in units of what is allowed; None for
    a tensor of many elements."""
    gradient = trial.gradients[tensor]
    if gradient.size > MOST_ELEMENTS:
        return None
    off = np.zeros(gradient.shape)
    for index in np.ndindex(gradient.shape):
        unit = np.zeros(gradient.shape)
        unit[index] = 1.0
        if (found := slope(trial, tensor, unit)) is not None:
            off[index] = abs(gradient[index] - found.value) / (found.allowed or np.inf)
    return off
