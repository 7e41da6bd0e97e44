"""finite_difference: every gradient is the slope of the layer's own forward."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from gradverify.cases import Array
from gradverify.checks.observation import Observation
from gradverify.evidence import DifferenceCurve, rounded
from gradverify.numerics.finite_difference import (
    FACTOR,
    Estimate,
    cap,
    contradicted,
    derivative,
    few_digits,
    first_step,
    locate,
)
from gradverify.result import Status
from gradverify.trial import Call, Trial, call, norm

# A curve has so many steps, from 10 times the longest that is tried on to where all is rounding.
LONGEST, SHORTEST, POINTS = 1, -12, 27
# In tensors up to this size each element is looked at to find the worst; beyond, by halving.
MOST_ELEMENTS = 64


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each gradient with differences along one direction of signs per tensor.

    They are random: the gradient's own would not show an element that it leaves out. Only where
    a precision has so few digits that differences along random signs drown in rounding are they
    the gradient's, and random where it is 0.
    """
    if not trial.shaped:
        return
    for tensor, gradient in trial.gradients.items():
        if gradient.size:
            yield _along(trial, tensor, gradient, _direction(trial, tensor))


def _direction(trial: Trial, tensor: str) -> Array:
    gradient = trial.gradients[tensor]
    rng = np.random.default_rng([trial.case.seed, 3, crc32(tensor.encode())])
    direction: Array = rng.choice([-1.0, 1.0], gradient.shape)
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
    if not np.isfinite(difference) or (
        estimate.allowed <= most and not _excused(trial, tensor, direction, difference)
    ):
        return Observation(
            "slope", tensor, Status.FAILED, "along a direction of signs +1 and -1", None,
            estimate.value, promised, estimate.allowed, estimate.why,
        )  # fmt: skip
    return Observation("slope", tensor, Status.VACUOUS, powered=False)


def _excused(trial: Trial, tensor: str, direction: Array, difference: float) -> bool:
    """Whether a kink, steps too long for the function, or cancellation may explain a difference."""
    loss, step, rounding = _line(trial, tensor, direction)
    valid = _smooth(trial, tensor, direction)
    estimate = derivative(loss, step, rounding, valid)
    if estimate is None or contradicted(loss, estimate, step, rounding, valid):
        return True
    if trial.oracle is not None:
        return False  # what cancels is known, and is in what is allowed
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
    return difference <= estimate.allowed + FACTOR * own


def worst_element(trial: Trial, seen: Observation) -> Observation:
    """Return a failure along a direction as one of the element that is off the most."""
    tensor = seen.tensor
    if seen.question != "slope" or tensor is None:
        return seen
    gradient, direction = trial.gradients[tensor], _direction(trial, tensor)
    flat, signs = gradient.reshape(-1), direction.reshape(-1)

    def estimated(group: Sequence[int]) -> Estimate | None:
        part = np.zeros_like(signs)
        part[list(group)] = signs[list(group)]
        return slope(trial, tensor, part.reshape(direction.shape))

    def discrepancy(group: Sequence[int]) -> float:
        found = estimated(group)
        if found is None:
            return 0.0
        difference = abs(found.value - float(np.sum((flat * signs)[list(group)])))
        return difference if np.isfinite(difference) else float("inf")

    element = locate(discrepancy, range(flat.size), MOST_ELEMENTS)
    found = estimated([element])
    index = tuple(int(i) for i in np.unravel_index(element, gradient.shape))
    if found is None or abs(found.value * signs[element] - flat[element]) <= found.allowed:
        return seen  # no element stands out alone
    return Observation(
        "slope", tensor, Status.FAILED, "", index, float(found.value * signs[element]),
        float(flat[element]), found.allowed, found.why,
    )  # fmt: skip


def slope(trial: Trial, tensor: str, direction: Array) -> Estimate | None:
    """Return the derivative of <cotangents, outputs> of the layer's forward along a direction."""
    found = derivative(*_line(trial, tensor, direction), _smooth(trial, tensor, direction))
    if found is None or trial.oracle is None:
        return found
    # The gradient is rounded as well, and where it cancels, more than the loss; the signs of the
    # direction have nothing to do with its errors.
    allowed = trial.reference.allowed_gradients[tensor].value
    own = allowed * float(np.sqrt(np.count_nonzero(direction)))
    return replace(found, allowed=found.allowed + own, own=own)


def _smooth(trial: Trial, tensor: str, direction: Array) -> Callable[[float], bool]:
    """Return whether a tensor -+ h*direction is in its range, with no kink on the way."""
    tensors = trial.wide.tensors

    def smooth(h: float) -> bool:
        ends = [{**tensors, tensor: tensors[tensor] + s * direction} for s in (h, -h)]
        if not all(map(trial.ranges_hold, ends)):
            return False
        if trial.oracle is None or not trial.own_switches:
            return True
        return all(trial.switches(x).same(trial.own_switches) for x in ends)

    return smooth


def _line(
    trial: Trial, tensor: str, direction: Array
) -> tuple[Callable[[float], float], float, float]:
    """Return <cotangents, outputs> along a direction, the first step in it, and its rounding."""
    wide = trial.wide
    base = wide.tensors[tensor]

    def loss(h: float) -> float:
        outputs = trial.forward({**wide.tensors, tensor: base + h * direction})
        return float(sum(np.sum(y * dy) for y, dy in zip(outputs, wide.cotangents, strict=True)))

    outputs = trial.forward(wide.tensors)
    # A step is rounded as well, to numbers of the layer's precision.
    known = trial.gradients[tensor] if trial.oracle is None else trial.reference.gradients[tensor]
    terms = (y * dy for y, dy in zip(outputs, wide.cotangents, strict=True))
    rounding = trial.unit * norm([*terms, base * known]) + trial.noise(wide.cotangents)
    return loss, first_step(trial.unit) * scale(base), rounding


def scale(tensor: Array) -> float:
    """Return how much the values of a tensor vary, which is what a step in it is small beside."""
    return float(np.std(tensor)) or float(np.abs(tensor).max()) or 1.0


def difference_curve(trial: Trial, tensor: str) -> DifferenceCurve | None:
    """Return how far plain central differences are from the slope, against their step; None where
    no step is valid."""
    direction, smooth = _direction(trial, tensor), _smooth(trial, tensor, _direction(trial, tensor))
    found = slope(trial, tensor, direction)
    if found is None:
        return None
    known, error = found.value, None
    if trial.oracle is not None:
        known = float(np.sum(trial.reference.gradients[tensor] * direction))
        (error,) = rounded([abs(found.value - known)])
    loss, first, _ = _line(trial, tensor, direction)
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
