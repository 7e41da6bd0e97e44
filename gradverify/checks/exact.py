"""exact: in 50-digit arithmetic, the pullback is the adjoint of the forward's own derivative.

The layer's code is replayed on dual numbers: <dy, J v> = <J^T dy, v>, Griewank and Walther (2008),
Evaluating Derivatives, section 3.2. What cancels in float64 does not blind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite

import numpy as np

from gradverify.cases import Array
from gradverify.checks.finite_difference import slope
from gradverify.checks.observation import Observation
from gradverify.numerics.allowance import POWER, unit_roundoff
from gradverify.numerics.finite_difference import Estimate, locate
from gradverify.replayed import Products, Replay, Stopped
from gradverify.result import Status
from gradverify.trial import Trial

# Constants of a layer are rounded, each by up to a few units, and formulas are cut off where
# float64 cannot tell: so many times the effect of moving every constant by a unit or two, and as
# many units of the result, are allowed. Right ways of writing the catalogue need 0.5 at most.
FACTOR = 64.0
# Fewer digits, by which what 50 of them lose shows.
COARSE = 40
# Constants are moved in so many ways before anyone is accused: in one, two effects may cancel. One
# is enough where it is known already that gradients are wrong.
DRAWS = 6
# In tensors up to this size each element is looked at to find the worst; beyond, by halving.
MOST_ELEMENTS = 16
# Where values are far from 1, formulas are cut off that matter in 50 digits.
VALUES = ("ordinary", "small", "positive", "negative")


def wants(trial: Trial) -> bool:
    """Whether a case is plain enough; one that is too large declines itself."""
    case = trial.case
    return case.dtype == trial.layer.widest and case.values in VALUES


@dataclass(frozen=True)
class _Pairing:
    """The products along some directions in 50 digits, and in fewer with moved constants."""

    fine: Products
    coarse: tuple[Products, ...]
    unit: float
    least: float

    @property
    def allowed(self) -> float:
        return FACTOR * (self.spread + self.unit * self.fine.terms) + self.least

    @property
    def spread(self) -> float:
        return max((abs(c.difference - self.fine.difference) for c in self.coarse), default=0.0)

    @property
    def holds(self) -> bool:
        return abs(self.fine.difference) <= self.allowed

    @property
    def finite(self) -> bool:
        return isfinite(self.fine.difference) and isfinite(self.allowed)

    @property
    def why(self) -> str:
        return (
            f"{FACTOR:g} x ({self.spread:.2g} by which the difference changes when every constant "
            f"in the code is moved by its rounding + {self.unit:.2g} of all terms that are summed)"
        )


@dataclass(frozen=True)
class _Comparison:
    """One layer at one case, replayed in 50 digits and as often in fewer as is needed."""

    fine: Replay
    coarse: tuple[Replay, ...]

    def along(self, directions: Mapping[str, Array]) -> _Pairing:
        """Return the products, with moved constants only if they differ without."""
        trial = self.fine.trial
        unit = unit_roundoff(trial.case.dtype)
        # 1 - s, where s is saturated, is 0 in 50 digits too.
        least = 10.0**-COARSE * sum(float(np.sum(np.abs(dy))) for dy in trial.wide.cotangents)
        found = _Pairing(self.fine.products(directions), (), unit, least)
        for replay in self.coarse:
            if found.holds or not found.finite:
                break
            found = replace(found, coarse=(*found.coarse, replay.products(directions)))
        return found


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare both products along one random direction of all tensors, or else of each."""
    if not trial.shaped:
        return
    try:
        yield from _compared(trial, _comparison(trial))
    except Stopped as stopped:
        yield Observation("adjoint", None, Status.UNAVAILABLE, str(stopped), powered=False)


def _comparison(trial: Trial) -> _Comparison:
    draws = 1 if trial.known.wrong else DRAWS
    coarse = tuple(Replay(trial, COARSE, moved) for moved in range(1, draws + 1))
    return _Comparison(Replay(trial), coarse)


def _directions(trial: Trial, comparison: _Comparison) -> dict[str, Array]:
    rng = np.random.default_rng([trial.case.seed, 8])
    return {
        k: rng.choice([-1.0, 1.0], g.shape) * rng.uniform(0.5, 1.5, g.shape)
        for k, g in comparison.fine.gradients.items()
        if g.size
    }


def _compared(trial: Trial, comparison: _Comparison) -> list[Observation]:
    directions = _directions(trial, comparison)
    if not directions:
        return []
    pairing = comparison.along(directions)
    if pairing.holds:
        return [_passed(comparison, k, v, pairing) for k, v in directions.items()]
    return [_alone(trial, comparison, k, v) for k, v in directions.items()]


def _passed(comparison: _Comparison, name: str, v: Array, pairing: _Pairing) -> Observation:
    gradient = comparison.fine.gradients[name].astype(float)
    signal = float(np.linalg.norm(gradient * v))
    powered = 0 < signal >= POWER * pairing.allowed
    return Observation(
        "adjoint", name, Status.PASSED if powered else Status.VACUOUS, "", None,
        pairing.fine.forward, pairing.fine.backward, pairing.allowed, pairing.why, powered,
    )  # fmt: skip


def _alone(trial: Trial, comparison: _Comparison, name: str, v: Array) -> Observation:
    pairing = comparison.along({name: v})
    if not pairing.finite:
        return Observation("adjoint", name, Status.VACUOUS, powered=False)
    if pairing.holds:
        return _passed(comparison, name, v, pairing)
    measured = slope(trial, name, v)
    failed = Observation(
        "adjoint", name, Status.FAILED, "along a random direction", None, pairing.fine.forward,
        pairing.fine.backward, pairing.allowed, pairing.why,
    )  # fmt: skip
    if measured is not None and not _agrees(measured, pairing.fine.backward):
        return failed
    # Differences do not see it: the derivative of the code need not be that of what it computes.
    # Bisection finds a value by comparisons, which carry no derivative; a series that is right to
    # the digits of float64 has another one than what it stands for.
    if measured is not None and not _agrees(measured, pairing.fine.forward):
        return Observation(
            "adjoint", name, Status.UNAVAILABLE, "what the code computes has another derivative "
            "than the code, as where a value is found by comparisons", powered=False,
        )  # fmt: skip
    if _derived(comparison, name, v, pairing):
        return Observation("adjoint", name, Status.VACUOUS, powered=False)
    if trial.oracle is not None:
        return failed
    # log(p + 1e-12) whose gradient leaves the 1e-12 out, or an iteration that ends somewhere.
    message = (
        f"differences cannot tell the gradient of {name} from the derivative of the layer's "
        "forward, but 50 digits can"
    )
    return replace(failed, question="inaccurate", severity="warning", message=message)


def _derived(comparison: _Comparison, name: str, v: Array, pairing: _Pairing) -> bool:
    """Whether the layer's gradient is the derived one, as far as can be told."""
    trial = comparison.fine.trial
    exact = trial.exact if trial.oracle is not None else None
    if exact is None:
        return False
    own, truth = comparison.fine.gradients[name], exact.gradients[name].astype(str)
    off = [float(g - Decimal(t)) for g, t in zip(own.flat, truth.flat, strict=True)]
    return abs(float(np.dot(off, v.reshape(-1)))) <= pairing.allowed


def _agrees(found: Estimate | None, value: float) -> bool:
    return found is not None and abs(found.value - value) <= found.allowed


def worst_element(trial: Trial, seen: Observation) -> Observation:
    """Return a failure along a direction with the element that is wrong most, as it is where no
    one element is."""
    assert seen.tensor is not None
    try:
        comparison = _comparison(trial)
        v = _directions(trial, comparison)[seen.tensor]
        return _with_element(comparison, v, seen, seen.tensor)
    except Stopped:
        return seen


def _with_element(comparison: _Comparison, v: Array, seen: Observation, name: str) -> Observation:
    def part(group: Sequence[int]) -> dict[str, Array]:
        kept = np.zeros(v.size)
        kept[list(group)] = v.reshape(-1)[list(group)]
        return {name: kept.reshape(v.shape)}

    def discrepancy(group: Sequence[int]) -> float:
        return abs(comparison.fine.products(part(group)).difference)

    element = locate(discrepancy, range(v.size), MOST_ELEMENTS)
    one = comparison.along(part([element]))
    if not one.finite or one.holds:
        return seen
    index = tuple(int(i) for i in np.unravel_index(element, v.shape))
    scale = float(v[index])
    return replace(
        seen, message="" if seen.severity == "error" else seen.message, index=index,
        expected=one.fine.forward / scale, got=one.fine.backward / scale,
        allowed=one.allowed / abs(scale), why=one.why,
    )  # fmt: skip
