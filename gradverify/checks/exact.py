"""exact: in 50-digit arithmetic, the pullback is the adjoint of the forward's own derivative.

The layer's code is replayed on dual numbers: <dy, J v> = <J^T dy, v>, Griewank and Walther (2008),
Evaluating Derivatives, section 3.2. What cancels in float64 does not blind it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from gradverify.cases import Array
from gradverify.checks.finite_difference import slope
from gradverify.checks.observation import Observation
from gradverify.checks.products import Comparison, Pairing, bent, comparison_of
from gradverify.numerics.allowance import POWER
from gradverify.numerics.finite_difference import Estimate, locate
from gradverify.replayed import Stopped
from gradverify.result import Status
from gradverify.trial import Trial

# In tensors up to this size each element is looked at to find the worst; beyond, by halving.
MOST_ELEMENTS = 16
# Where values are far from 1, formulas are cut off that matter in 50 digits.
VALUES = ("ordinary", "small", "positive", "negative")


def wants(trial: Trial) -> bool:
    """Whether a case is plain enough; one that is too large declines itself."""
    case = trial.case
    return case.dtype == trial.layer.widest and case.values in VALUES


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare both products along one random direction of all tensors, or else of each."""
    if not trial.shaped:
        return
    try:
        yield from _compared(trial, comparison_of(trial))
    except Stopped as stopped:
        yield Observation("adjoint", None, Status.UNAVAILABLE, str(stopped), powered=False)


def _directions(trial: Trial, comparison: Comparison) -> dict[str, Array]:
    rng = np.random.default_rng([trial.case.seed, 8])
    return {
        k: rng.choice([-1.0, 1.0], g.shape) * rng.uniform(0.5, 1.5, g.shape)
        for k, g in comparison.fine.gradients.items()
        if g.size
    }


def _compared(trial: Trial, comparison: Comparison) -> list[Observation]:
    directions = _directions(trial, comparison)
    if not directions:
        return []
    pairing = comparison.along(directions)
    if pairing.holds:
        return [_passed(comparison, k, v, pairing) for k, v in directions.items()]
    return [_alone(trial, comparison, k, v) for k, v in directions.items()]


def _passed(comparison: Comparison, name: str, v: Array, pairing: Pairing) -> Observation:
    gradient = comparison.fine.gradients[name].astype(float)
    signal = float(np.linalg.norm(gradient * v))
    powered = 0 < signal >= POWER * pairing.allowed
    return Observation(
        "adjoint", name, Status.PASSED if powered else Status.VACUOUS, "", None,
        pairing.fine.forward, pairing.fine.backward, pairing.allowed, pairing.why, powered,
    )  # fmt: skip


def _alone(trial: Trial, comparison: Comparison, name: str, v: Array) -> Observation:
    pairing = comparison.along({name: v})
    if not pairing.finite:
        return Observation("adjoint", name, Status.VACUOUS, powered=False)
    if pairing.holds:
        return _passed(comparison, name, v, pairing)
    if trial.oracle is None and trial.case.special and bent(comparison, {name: v}):
        return Observation("adjoint", name, Status.VACUOUS, powered=False)
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


def _derived(comparison: Comparison, name: str, v: Array, pairing: Pairing) -> bool:
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
        comparison = comparison_of(trial)
        v = _directions(trial, comparison)[seen.tensor]
        return _with_element(comparison, v, seen, seen.tensor)
    except Stopped:
        return seen


def _with_element(comparison: Comparison, v: Array, seen: Observation, name: str) -> Observation:
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
