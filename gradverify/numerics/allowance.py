"""How far a right gradient may be from the derived one: measured, never chosen.

The derived statements are run again with a random relative error on every additive term; how
far the results spread, and what rounding of the gradient's own terms alone can do, is what a
right implementation in another order of operations may differ by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradverify.calculus.compile import ABSOLUTE, NOISE, Noise
from gradverify.notation.statements import Program

Array = np.ndarray[Any, Any]

# The one factor between the measured spread and what is allowed. Calibrated by
# tests/calibrate.py on the right variants of the catalogue: see the table it prints.
FACTOR = 16.0
# Draws of random rounding. The largest of a tensor's elements over all draws counts, so few do.
DRAWS = 3
# Above this fraction of the gradient's own terms an allowance would let anything pass.
CAP = 1e-3
# Errors of 2**-40 are far above float64's own rounding (2**-53) and still respond linearly.
SMALLEST_AMPLITUDE = 2.0**-40


class Computes(Protocol):
    """What is run: an Oracle, or what gives the same in other shapes."""

    @property
    def program(self) -> Program:
        """The definition's program."""

    @property
    def run(self) -> Callable[..., tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]]:
        """What `Oracle.run` does."""


@dataclass(frozen=True)
class Allowance:
    """For one tensor in one case: `value` is allowed, `terms` the size of the terms it sums."""

    value: float
    spread: float
    terms: float

    @property
    def vacuous(self) -> bool:
        """Whether so much is allowed that the comparison could not tell right from wrong."""
        return not self.value <= CAP * self.terms

    @property
    def why(self) -> str:
        """Who set the allowance, in one line."""
        return (
            f"{FACTOR:g} x (spread {self.spread:.2g} of the derived formula under random rounding "
            f"+ rounding of its terms, up to {self.terms:.2g})"
        )


@dataclass(frozen=True)
class Reference:
    """The derived outputs and gradients of one case with what is allowed around them."""

    outputs: dict[str, Array]
    gradients: dict[str, Array]
    allowed_outputs: dict[str, Allowance]
    allowed_gradients: dict[str, Allowance]


def unit_roundoff(dtype: str) -> float:
    """Return the largest relative error of one rounding in a dtype."""
    return float(np.finfo(dtype).eps) / 2


def reference(
    oracle: Computes,
    tensors: Mapping[str, Array],
    constants: Mapping[str, Any],
    sizes: Mapping[str, int],
    cotangents: Sequence[Array],
    dtype: str,
    seed: int,
) -> Reference:
    """Return the oracle's results in float64 and the allowances for an implementation in `dtype`.

    `tensors` and `cotangents` are in float64 (exactly what the layer gets, widened).
    """
    outputs, pullback = oracle.run(tensors, constants, sizes)
    gradients = pullback(*cotangents)
    _, absolute = oracle.run(tensors, constants, sizes, ABSOLUTE)
    terms = absolute(*cotangents)
    unit = unit_roundoff(dtype)
    amplitude = max(unit, SMALLEST_AMPLITUDE)
    noise = Noise(amplitude, np.random.default_rng([seed, 1]))
    names = oracle.program.declared.wanted
    spread = dict.fromkeys((*names, *gradients), 0.0)
    # Outputs and gradients have names of their own; one that is both never occurs.
    with np.errstate(all="ignore"):
        for _ in range(DRAWS):
            noisy, noisy_pullback = oracle.run(tensors, constants, sizes, NOISE, noise=noise)
            drawn = noisy_pullback(*cotangents)
            for name, base, other in (
                *zip(names, outputs, noisy, strict=True),
                *((k, gradients[k], drawn[k]) for k in gradients),
            ):
                distance = _largest(other - base) * unit / amplitude
                spread[name] = max(spread[name], distance)

    smallest = float(np.finfo(dtype).smallest_subnormal)

    def allowance(name: str, size: float) -> Allowance:
        value = FACTOR * (spread[name] + unit * size + smallest)
        return Allowance(value, spread[name], size)

    return Reference(
        dict(zip(names, outputs, strict=True)),
        gradients,
        {k: allowance(k, _largest(y)) for k, y in zip(names, outputs, strict=True)},
        {k: allowance(k, _largest(terms[k])) for k in gradients},
    )


def _largest(array: Array) -> float:
    """Return the largest absolute value, infinite where one is not finite."""
    if array.size == 0:
        return 0.0
    top = float(np.max(np.abs(array)))
    return top if np.isfinite(top) else float("inf")
