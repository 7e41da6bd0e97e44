"""Derivatives of a function along a line by two step ladders, each with its own error estimate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Steps are halved this often; Richardson extrapolation removes two orders with each.
LEVELS = 6
# Where one difference takes long, once less: with fewer yet, one element of thousands that is off
# by a thousandth would be within what is allowed.
FEW_LEVELS = 5
# Where the second ladder starts, relative to the first: its steps lie between the first's.
SECOND = 0.72
# The extrapolation's own estimate is not a bound (it was exceeded tenfold in one case of five);
# the factor is calibrated together with the allowances, tests/calibrate.py.
FACTOR = 16.0
# Rounding is known better: it is measured, and what is more than measured makes the ladders differ.
NOISE_FACTOR = 4.0
# Above this fraction of the derivative's size a difference could not tell right from wrong ...
CAP = 1e-2
# ... or above so many units of a precision that has fewer digits. In float16 that is a half: a
# wrong sign is off by 2 and a factor of 2 by 1.
LOW_CAP = 1024
# The largest step to try, relative to how much values vary: extrapolation from there on converges
# for everything smooth on that scale. Where few digits are left of a difference, longer steps
# lose less to rounding than to what they extrapolate.
FIRST_STEP, LOW_FIRST_STEP = 0.05, 0.8
# How much nearer to look for a kink that nobody has declared.
NEARER = (1e-2, 1e-4, 1e-6)
# On a kink the slopes to both sides differ by as much, a half at least, at each of these steps;
# where a function is smooth, by a tenth and a hundredth.
CLOSER, AS_MUCH = (1.0, 0.1, 0.01), 0.5


def few_digits(unit: float) -> bool:
    """Return whether a precision has so few digits (float16) that differences keep next to none."""
    return LOW_CAP * unit > CAP


def cap(unit: float) -> float:
    """Return the fraction of a derivative that may be allowed in a precision."""
    return max(CAP, LOW_CAP * unit)


def first_step(unit: float) -> float:
    """Return the largest step to try in a precision, relative to how much values vary."""
    return LOW_FIRST_STEP if few_digits(unit) else FIRST_STEP


@dataclass(frozen=True)
class Estimate:
    """A derivative, what is allowed around it, and the step it was taken with.

    `own` is the part of what is allowed that is the rounding of the number compared with it.
    """

    value: float
    allowed: float
    step: float
    own: float = 0.0

    @property
    def why(self) -> str:
        """Who set the allowance, in one line."""
        own = f" + {self.own:.2g} for the rounding of the gradient itself" if self.own else ""
        return (
            f"{FACTOR:g} x the largest of two extrapolations' error estimates, their disagreement "
            f"and the rounding of the loss at step {self.step:.1g}{own}"
        )


def derivative(
    function: Callable[[float], float],
    step: float,
    rounding: float,
    valid: Callable[[float], bool] = lambda h: True,
    levels: int = LEVELS,
) -> Estimate | None:
    """Return the derivative of `function` at 0, None where no step is valid.

    `step` is the largest step to try, `rounding` the absolute error of one value of `function`
    and `valid(h)` whether it is smooth on [-h, h] as far as known (no kink in between). With fewer
    `levels` it is called less often, and what is allowed is more.
    Extrapolation as in Ridders (1982), Advances in Engineering Software 4(2).
    """
    for _ in range(24):
        if valid(step):
            break
        step /= 4
    else:
        return None
    first = _ladder(function, step, rounding, levels)
    second = _ladder(function, SECOND * step, rounding, levels)
    best, other = sorted((first, second), key=lambda e: e.allowed + rounding / e.step)
    error = max(first.allowed, second.allowed, abs(first.value - second.value))
    noise = rounding / min(best.step, other.step)
    return Estimate(best.value, FACTOR * error + NOISE_FACTOR * noise, best.step)


def contradicted(
    function: Callable[[float], float],
    found: Estimate,
    promised: float,
    step: float,
    rounding: float,
    valid: Callable[[float], bool] = lambda h: True,
) -> bool:
    """Return whether it tells nothing that `found`, taken from `step`, is not what is promised.

    Much smaller steps give another derivative where a kink lies in between that nobody has
    declared, or where the function turns within the steps (tanh, where values are hundreds). On a
    kink, and as near to one as steps can be, all give the same, the mean of the slopes to both
    sides: where these differ by as much as what is promised is off, that may be right.
    """
    for factor in NEARER:
        near = derivative(function, factor * step, rounding, valid)
        if near is not None and abs(near.value - found.value) > near.allowed + found.allowed:
            return True
    off, middle = abs(promised - found.value), function(0.0)
    for longest in (factor * step for factor in (1.0, *NEARER)):
        if not valid(longest):
            continue
        steps = [closer * longest for closer in CLOSER]
        bends = [abs(function(h) + function(-h) - 2 * middle) / h for h in steps]
        noise = NOISE_FACTOR * rounding / steps[-1]
        if min(bends) >= max(AS_MUCH * max(bends), AS_MUCH * off, noise):
            return True
    return False


def _ladder(
    function: Callable[[float], float], step: float, rounding: float, levels: int
) -> Estimate:
    """Return the best extrapolation of one ladder; `allowed` is what its own columns differ by."""
    table: list[list[float]] = []
    best: Estimate | None = None
    for level in range(levels):
        h = step / 2**level
        row = [(function(h) - function(-h)) / (2 * h)]
        for k in range(1, level + 1):
            weight = 4.0**k
            row.append((weight * row[k - 1] - table[-1][k - 1]) / (weight - 1))
        table.append(row)
        if level == 0:
            continue
        for k in range(1, level + 1):
            error = max(abs(row[k] - row[k - 1]), abs(row[k] - table[-2][k - 1]))
            if best is None or error + rounding / h < best.allowed + rounding / best.step:
                best = Estimate(row[k], error, h)
        assert best is not None
        total = best.allowed + rounding / best.step
        # Two orders worse than the best: smaller steps only add rounding.
        if abs(row[-1] - table[-2][-1]) > 100 * total or total <= 2 * rounding / h:
            break
    assert best is not None
    return best


def locate(
    discrepancy: Callable[[Sequence[int]], float], elements: Sequence[int], most: int = 64
) -> int:
    """Return the element with the largest discrepancy, by halving down to `most` candidates.

    `discrepancy(group)` is the size of the disagreement of a group of elements together.
    """
    group = list(elements)
    while len(group) > most:
        half = len(group) // 2
        group = max((group[:half], group[half:]), key=discrepancy)
    return max(group, key=lambda e: discrepancy([e]))
