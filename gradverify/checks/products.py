"""Both products of a layer, <dy, J v> of its forward and <J^T dy, v> of its pullback, in 50 digits.

Griewank and Walther (2008), Evaluating Derivatives, section 3.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from gradverify.cases import Array
from gradverify.numerics.allowance import unit_roundoff
from gradverify.replayed import Products, Replay, Stopped
from gradverify.trial import Trial

# Constants of a layer are rounded, each by up to a few units, and formulas are cut off where
# float64 cannot tell: so many times the effect of moving every constant by a unit or two, and as
# many units of the result, are allowed. Right ways of writing the catalogue need 0.5 at most.
FACTOR = 64.0
# Slopes that differ by less than this are the same: steps are 1e-25.
SAME = 1e-9
# Fewer digits, by which what 50 of them lose shows.
COARSE = 40
# Constants are moved in so many ways before anyone is accused: in one, two effects may cancel. One
# is enough where it is known already that gradients are wrong.
DRAWS = 6


@dataclass(frozen=True)
class Pairing:
    """The products along some directions in 50 digits, and in fewer with moved constants."""

    fine: Products
    coarse: tuple[Products, ...]
    unit: float
    least: float

    @property
    def allowed(self) -> float:
        """By how much both may differ."""
        return FACTOR * (self.spread + self.unit * self.fine.terms) + self.least

    @property
    def spread(self) -> float:
        """By how much the difference changes with the constants."""
        return max((abs(c.difference - self.fine.difference) for c in self.coarse), default=0.0)

    @property
    def holds(self) -> bool:
        """Whether both are the same."""
        return abs(self.fine.difference) <= self.allowed

    @property
    def finite(self) -> bool:
        """Whether both are numbers."""
        return isfinite(self.fine.difference) and isfinite(self.allowed)

    @property
    def why(self) -> str:
        """Who set the allowance, in one line."""
        return (
            f"{FACTOR:g} x ({self.spread:.2g} by which the difference changes when every constant "
            f"in the code is moved by its rounding + {self.unit:.2g} of all terms that are summed)"
        )


@dataclass(frozen=True)
class Comparison:
    """One layer at one case, replayed in 50 digits and as often in fewer as is needed."""

    fine: Replay
    coarse: tuple[Replay, ...]

    def along(self, directions: Mapping[str, Array]) -> Pairing:
        """Return the products, with moved constants only if they differ without."""
        trial = self.fine.trial
        unit = unit_roundoff(trial.case.dtype)
        # 1 - s, where s is saturated, is 0 in 50 digits too.
        least = 10.0**-COARSE * sum(float(np.sum(np.abs(dy))) for dy in trial.wide.cotangents)
        found = Pairing(self.fine.products(directions), (), unit, least)
        for replay in self.coarse:
            if found.holds or not found.finite:
                break
            found = replace(found, coarse=(*found.coarse, replay.products(directions)))
        return found


def comparison_of(trial: Trial) -> Comparison:
    """Return the replays of a layer in a case."""
    draws = 1 if trial.known.wrong else DRAWS
    coarse = tuple(Replay(trial, COARSE, moved) for moved in range(1, draws + 1))
    return Comparison(Replay(trial), coarse)


def agreed(trial: Trial, directions: Mapping[str, Array]) -> float | None:
    """Return what the layer's gradient is along directions in 50 digits, where that is the slope of
    its forward to both sides; None where it is not, or where nobody can tell.

    It is so where differences in float64 have too few digits, and not where the code has another
    derivative than what it computes.
    """
    if trial.case.dtype != "float64":
        return None
    comparison = comparison_of(trial)
    try:
        found, slopes = comparison.along(directions), comparison.fine.slopes(directions)
    except Stopped:
        return None
    near = SAME * found.fine.terms
    same = all(abs(slope - found.fine.backward) <= near for slope in slopes)
    return found.fine.backward if found.finite and found.holds and same else None


def bent(comparison: Comparison, directions: Mapping[str, Array]) -> bool:
    """Whether the forward has other slopes to both sides."""
    ahead, behind = comparison.fine.slopes(directions)
    return not abs(ahead - behind) <= SAME * max(abs(ahead), abs(behind))
