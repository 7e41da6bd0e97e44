"""second_order: a layer's double backward gives the derived second-order gradients.

It differentiates <seeds, pullback(cotangents)>: in the cotangents that is J v, in the tensors H v.
Without a definition both are compared with the layer's own pullback, by <w, J v> = <J^T w, v> and
by differences, and the Hessian must be symmetric.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from gradverify.cases import Array, Arrays, is_large, signs
from gradverify.checks import adjoint
from gradverify.checks.adjoint import DRAWS, FACTOR, hidden, nudged
from gradverify.checks.conduct import conduct
from gradverify.checks.finite_difference import scale
from gradverify.checks.forward_mode import compared
from gradverify.checks.observation import Observation
from gradverify.checks.offered import SecondOrder
from gradverify.layer import Layer
from gradverify.numerics.finite_difference import (
    FEW_LEVELS,
    LEVELS,
    Estimate,
    cap,
    contradicted,
    derivative,
    first_step,
)
from gradverify.result import NOT_OFFERED, Status
from gradverify.spec import Spec
from gradverify.trial import LayerRaised, Trial, dot, norm


def absent(layer: Layer) -> str | None:
    """Return why there is nothing to ask, None where there is something."""
    return None if layer.double_vjp else f"{NOT_OFFERED}double backward"


def tensors(spec: Spec) -> tuple[str, ...]:
    """Return the tensors, and the outputs for their cotangents, where there is anything to move."""
    return (*spec.differentiable, *spec.differentiable_outputs) if spec.differentiable else ()


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask how the double backward behaves, then for its gradients."""
    one = SecondOrder(trial)
    wrong = list(conduct(one))
    yield from wrong
    if any(seen.tensor is None and seen.question != "extra" for seen in wrong):
        return
    told = {seen.tensor for seen in wrong}
    if trial.oracle is not None:
        for tensor in (t for t in one.got if t not in told):
            if tensor in trial.spec.outputs:
                yield from compared("tangent", one, tensor)
            else:
                yield from compared("second", one, tensor)
        return
    yield from (o for o in adjoint.examine(one) if o.tensor not in told)
    asked = [t for t in trial.spec.differentiable if t in one.got and t not in told]
    known = _together(one, asked) if is_large(trial.spec) and len(asked) > 1 else {}
    slopes = [known.get(t) or _slope(one, t) for t in asked]
    yield from slopes
    # What differences see is told by them, and of which tensor it is.
    if not trial.spared and not wrong and all(seen.outcome is Status.PASSED for seen in slopes):
        yield from _symmetric(one)


def _promise(one: SecondOrder) -> float:
    """Return <seeds, pullback(cotangents)>."""
    if one.trial.failure is not None:
        raise LayerRaised(one.trial.failure.message)
    along = one.wide_along
    return sum(dot(gradient, along[k]) for k, gradient in one.trial.gradients.items())


def _moved(one: SecondOrder, directions: Mapping[str, Array], h: float) -> SecondOrder:
    trial, wide = one.trial, one.trial.wide
    moved = wide.tensors | {k: wide.tensors[k] + h * v for k, v in directions.items()}
    narrow = dict(zip(moved, trial.narrowed(moved.values()), strict=True))
    given = Arrays(narrow, tuple(trial.narrowed(wide.cotangents)))
    return one.at(replace(trial, given=given))


@dataclass(frozen=True)
class _Slope:
    """The slope of <seeds, pullback(cotangents)> along directions as it is `promised` and as it is
    found, None where no step is valid; `size` is that of the terms of what is differenced."""

    promised: float
    found: Estimate | None
    allowed: float
    size: float
    contradicted: Callable[[], bool]

    @property
    def holds(self) -> bool:
        """Whether it is as promised."""
        return self.found is not None and abs(self.promised - self.found.value) <= self.allowed


def _direction(one: SecondOrder, tensor: str) -> Array:
    rng = np.random.default_rng([one.trial.case.seed, 19, crc32(tensor.encode())])
    return signs(rng, one.got[tensor].shape)


def _along(
    one: SecondOrder, directions: Mapping[str, Array], size: float, levels: int = LEVELS
) -> _Slope:
    """Return the slope along directions, by steps that are small beside `size`."""
    trial = one.trial
    rng = np.random.default_rng([trial.case.seed, 22, *(crc32(k.encode()) for k in directions)])
    total, along = _promise(one), one.wide_along
    terms = norm(gradient * along[k] for k, gradient in trial.gradients.items())
    unseen = hidden(trial, trial.wide.cotangents, one.wide_along.values())
    rounding, own = trial.unit * terms + unseen, norm(directions.values()) * unseen
    promised = sum(dot(one.got[k], v) for k, v in directions.items())
    for _ in range(DRAWS):
        near = one.at(replace(trial, given=nudged(trial, rng)))
        rounding = max(rounding, abs(_promise(near) - total))
        near.trial.release()
        other = sum(dot(near.got.get(k, one.got[k]), v) for k, v in directions.items())
        own = max(own, abs(other - promised))
        del near

    def loss(h: float) -> float:
        return _promise(_moved(one, directions, h))

    def valid(h: float) -> bool:
        wide = trial.wide.tensors
        return not trial.bounds or all(
            trial.ranges_hold(wide | {k: wide[k] + s * v for k, v in directions.items()})
            for s in (h, -h)
        )

    step = first_step(trial.unit) * size
    found = derivative(loss, step, rounding, valid, levels)
    allowed = found.allowed + FACTOR * own if found is not None else np.inf
    return _Slope(
        promised, found, allowed, terms,
        lambda: found is not None and contradicted(
            loss, found, promised, step, rounding, valid
        ),
    )  # fmt: skip


def _together(one: SecondOrder, tensors: Sequence[str]) -> dict[str, Observation]:
    """Return by tensor that what is got for it is right, known from one direction in all at once;
    as `finite_difference` does, and likewise silent where one would not show."""
    sizes = {k: scale(one.trial.wide.tensors[k]) for k in tensors}
    slope = _along(one, {k: sizes[k] * _direction(one, k) for k in tensors}, 1.0, FEW_LEVELS)
    if not slope.holds or slope.found is None:
        return {}
    return {
        k: Observation(
            "slope", k, Status.PASSED, "", None, slope.found.value, slope.promised, slope.allowed,
            slope.found.why,
        )
        for k in tensors
        if slope.allowed <= cap(one.trial.unit) * max(sizes[k] * norm([one.got[k]]), slope.size)
    }  # fmt: skip


def _slope(one: SecondOrder, tensor: str) -> Observation:
    """Compare what is got for a tensor with differences of the layer's own pullback."""
    trial, got = one.trial, one.got[tensor]
    size = scale(trial.wide.tensors[tensor]) if got.size else 1.0
    slope = _along(one, {tensor: _direction(one, tensor)}, size) if got.size else None
    found = slope.found if slope else None
    if slope is None or found is None or not np.isfinite(found.value):
        return Observation("slope", tensor, Status.VACUOUS, powered=False)
    # Where all is 0, as for a bias, another second order would be as large as this.
    signal = max(float(np.linalg.norm(got)), abs(found.value), slope.size / size)
    sharp = slope.allowed <= cap(trial.unit) * signal
    outcome = Status.PASSED if sharp else Status.VACUOUS
    if not slope.holds and sharp and not slope.contradicted():
        outcome = Status.FAILED
    return Observation(
        "slope", tensor, outcome, "along a direction of signs" * (outcome is Status.FAILED), None,
        found.value, slope.promised, slope.allowed, found.why, sharp,
    )  # fmt: skip


def _symmetric(one: SecondOrder) -> Iterator[Observation]:
    """Compare <u, H v> with <v, H u> for the directions v of the case and others, u."""
    found = _products(one)
    if found is None:
        return
    left, right, size = found
    rng, spread = np.random.default_rng([one.trial.case.seed, 20]), 0.0
    for _ in range(DRAWS):
        near = _products(one.at(replace(one.trial, given=nudged(one.trial, rng))))
        off = near[0] - near[1] if near else 0.0
        spread = max(spread, abs(off - (left - right)))
    unseen = hidden(one.trial, one.trial.wide.cotangents, one.wide_along.values(),
                    replace(one, turn=1).wide_along.values())  # fmt: skip
    allowed = FACTOR * (spread + one.trial.unit * size + unseen)
    if np.isfinite(size) and not abs(left - right) <= allowed:
        yield Observation(
            "symmetric", None, Status.FAILED,
            f"<u, H v> is {left:.9g} and <v, H u> {right:.9g}, which may differ by "
            f"{allowed:.1g}: a term is in the second-order gradient of one tensor that is missing "
            "in that of another, or both are of no pullback",
        )  # fmt: skip


def _products(one: SecondOrder) -> tuple[float, float, float] | None:
    """Return both products, and what their terms add up to without signs; None where a gradient is
    missing."""
    pairs = [_product(one, turn) for turn in (one.turn, 1 - one.turn)]
    if any(len(terms) < len(one.trial.spec.differentiable) for terms in pairs):
        return None
    left, right = (sum(total for total, _ in terms) for terms in pairs)
    return left, right, sum(size for terms in pairs for _, size in terms)


def _product(one: SecondOrder, turn: int) -> list[tuple[float, float]]:
    """Return, of each tensor, its part of <u, H v> for the directions v of a turn and u of the
    other, and what its terms add up to without signs."""
    here = one if turn == one.turn else replace(one, turn=turn)
    along = replace(one, turn=1 - turn).wide_along
    terms = (along[k] * here.got[k] for k in one.trial.spec.differentiable if k in here.got)
    return [(float(np.sum(t)), float(np.sum(np.abs(t)))) for t in terms]


def worst_element(trial: Trial, seen: Observation) -> Observation:
    """Return a failure beside the pullback with the element that is off the most."""
    if seen.question != "adjoint":
        return seen
    return adjoint.worst_element(SecondOrder(trial), seen)
