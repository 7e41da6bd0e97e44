"""How far a right gradient may be from the derived one: measured, never chosen.

The derived statements are run again with a random relative error on every additive term; how
far the results spread, and what rounding of the gradient's own terms alone can do, is what a
right implementation in another order of operations may differ by.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from gradverify.calculus.compile import ABSOLUTE
from gradverify.calculus.emit import PLAIN, Mode
from gradverify.calculus.noise import Noise
from gradverify.calculus.point import Point
from gradverify.notation.statements import Program

Array = np.ndarray[Any, Any]

# The one factor between the measured spread and what is allowed. Calibrated by
# tests/calibrate.py on the right variants of the catalogue: see the table it prints.
FACTOR = 16.0
# Draws of random rounding. The largest of a tensor's elements over all draws counts, so few do;
# in a tensor of one element the largest of three may by luck be a hundredth of what it can be (it
# was in 1% of cases), that of 64 not, which are drawn where it matters.
DRAWS, MANY_DRAWS = 3, 64
# Where the smallest tensor has so many elements, the largest error of its elements in one draw is
# as sure as that of MANY_DRAWS draws of a single one. Of the least of such layers one draw measured
# 0.9 of what three did in the median, and never less than 0.7.
ELEMENTS = MANY_DRAWS
# Above this fraction of the gradient's own terms an allowance would let anything pass ...
CAP = 1e-3
# ... and where a precision has not so many digits, above so many of its units: FACTOR of them for
# the rounding of the terms, and several times as much for what is made of them. In float16 that
# is a sixteenth, so that a wrong sign, a factor of 2 or a term left out is seen, and no more.
LOW_CAP = 128
# A gradient this many times larger than what is allowed could not be wrong unnoticed; where more
# than CAP is allowed, one of a quarter of the terms that the allowance is measured by.
POWER, LOW_POWER = 1000.0, 0.25
# Errors of 2**-40 are far above float64's own rounding (2**-53) and still respond linearly.
SMALLEST_AMPLITUDE = 2.0**-40


class Computes(Protocol):
    """What is run: an Oracle, or what gives the same in other shapes."""

    @property
    def program(self) -> Program:
        """The definition's program."""

    def run(
        self, point: Point, mode: Mode = PLAIN, **tools: Any
    ) -> tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]:
        """Return what `Oracle.run` does."""

    def noisy(
        self, point: Point, cotangents: Sequence[Array], noise: Noise, draws: int
    ) -> Iterator[tuple[tuple[Array, ...], dict[str, Array]]]:
        """Yield what `Oracle.noisy` does."""


@dataclass(frozen=True)
class Allowance:
    """For one tensor in one case: `value` is allowed, `terms` the size of the terms it sums.

    `unit` is the unit roundoff of the precision that is judged, and `declared` the fraction of
    the terms that the spec allows, with its reason.
    """

    value: float
    spread: float
    terms: float
    unit: float = 2.0**-53
    declared: tuple[float, str] | None = None

    @property
    def cap(self) -> float:
        """The largest fraction of the terms that may be allowed."""
        return max(CAP, LOW_CAP * self.unit, self.declared[0] if self.declared else 0.0)

    @property
    def vacuous(self) -> bool:
        """Whether so much is allowed that the comparison could not tell right from wrong."""
        return not self.value <= self.cap * self.terms

    @property
    def power(self) -> float:
        """How many times what is allowed a gradient must be, not to be wrong unnoticed."""
        return POWER if self.cap == CAP else min(POWER, LOW_POWER / self.cap)

    @property
    def noise(self) -> float:
        """By how much the value itself may differ from call to call."""
        return max(self.spread, self.declared[0] * self.terms if self.declared else 0.0)

    @property
    def why(self) -> str:
        """Who set the allowance, in one line."""
        if self.declared is not None and self.value <= self.declared[0] * self.terms:
            fraction, reason = self.declared
            return f"the spec: {fraction:g} of its terms, up to {self.terms:.2g} ({reason})"
        return (
            f"{FACTOR:g} x (spread {self.spread:.2g} of the derived formula under random rounding "
            f"+ rounding of its terms, up to {self.terms:.2g})"
        )


@dataclass(frozen=True)
class Reference:
    """The derived outputs and gradients of one case with what is allowed around them."""

    outputs: Mapping[str, Array]
    gradients: Mapping[str, Array]
    allowed_outputs: dict[str, Allowance]
    allowed_gradients: dict[str, Allowance]


def unit_roundoff(dtype: str) -> float:
    """Return the largest relative error of one rounding in a dtype."""
    return float(np.finfo(dtype).eps) / 2


def underflow(dtype: str, *factors: Iterable[Array]) -> float:
    """Return by how much a product of these, each the largest of its kind, is off where one of them
    underflows: by the smallest number there is, times the others."""
    found = float(np.finfo(dtype).smallest_subnormal)
    for arrays in factors:
        found *= max(1.0, *map(_largest, arrays))
    return found


def reference(
    oracle: Computes,
    point: Point,
    cotangents: Sequence[Array],
    dtype: str,
    seed: int,
    declared: Mapping[str, tuple[float, str]] = MappingProxyType({}),
    draws: int = DRAWS,
) -> Reference:
    """Return the oracle's results in float64 and the allowances for an implementation in `dtype`.

    The tensors and cotangents are in float64 (exactly what the layer gets, widened). `declared`
    has, by output and by "d" and the name of a tensor, what fraction of its terms is allowed at
    least, and why; `draws` is how often the rounding is drawn, where the tensors are not so large
    that once is enough.
    """
    outputs, pullback = oracle.run(point)
    gradients = pullback(*cotangents)
    del pullback  # with all that it keeps of the forward
    _, absolute = oracle.run(point, ABSOLUTE)
    terms = {k: _largest(t) for k, t in absolute(*cotangents).items()}
    del absolute
    results = (*outputs, *gradients.values())
    few = min((a.size for a in results if a.size), default=0) >= ELEMENTS
    unit = unit_roundoff(dtype)
    amplitude = max(unit, SMALLEST_AMPLITUDE)
    # What underflows in this precision is rounded to a multiple of its smallest number.
    noise = Noise(amplitude, np.random.default_rng([seed, 1]), float(np.finfo(dtype).tiny))
    names = oracle.program.declared.wanted[: len(outputs)]
    spread = dict.fromkeys((*names, *gradients), 0.0)
    # Outputs and gradients have names of their own; one that is both never occurs.
    with np.errstate(all="ignore"):
        # A constant is rounded as well, and one that is tiny in few digits.
        rounded = {k: _rounded(v, dtype) for k, v in point.constants.items()}
        if rounded != point.constants:
            other, other_pullback = oracle.run(replace(point, constants=rounded))
            moved = dict(zip(names, other, strict=True)) | other_pullback(*cotangents)
            for name, base in (*zip(names, outputs, strict=True), *gradients.items()):
                spread[name] = _largest(moved[name] - base)
        often = min(draws, 1) if few and draws <= DRAWS else draws
        for noisy, drawn in oracle.noisy(point, cotangents, noise, often):
            for name, base, value in (
                *zip(names, outputs, noisy, strict=True),
                *((k, gradients[k], drawn[k]) for k in gradients),
            ):
                distance = _largest(value - base) * unit / amplitude
                spread[name] = max(spread[name], distance)

    smallest = underflow(dtype, point.tensors.values(), cotangents)

    def allowance(key: str, name: str, size: float) -> Allowance:
        value = FACTOR * (spread[name] + unit * size + smallest)
        own = declared.get(key)
        value = max(value, own[0] * size if own else 0.0)
        return Allowance(value, spread[name], size, unit, own)

    return Reference(
        dict(zip(names, outputs, strict=True)),
        gradients,
        {k: allowance(k, k, _largest(y)) for k, y in zip(names, outputs, strict=True)},
        {k: allowance(f"d{k}", k, terms[k]) for k in gradients},
    )


def _rounded(constant: Any, dtype: str) -> Any:
    """Return a constant as a precision holds it; an integer may be a size, and stays one."""
    return float(np.dtype(dtype).type(constant)) if isinstance(constant, float) else constant


def _largest(array: Array) -> float:
    """Return the largest absolute value, infinite where one is not finite."""
    if array.size == 0:
        return 0.0
    top = max(float(np.max(array)), -float(np.min(array)))
    return top if np.isfinite(top) else float("inf")
