"""second_order: a layer's double backward gives the derived second-order gradients.

It differentiates <seeds, pullback(cotangents)>: in the cotangents that is J v, in the tensors H v.
Without a definition both are compared with the layer's own pullback, by <w, J v> = <J^T w, v> and
by differences, and the Hessian must be symmetric.
"""

from collections.abc import Iterator
from dataclasses import replace
from zlib import crc32

import numpy as np

from gradverify.cases import Array, Arrays
from gradverify.checks import adjoint
from gradverify.checks.adjoint import DRAWS, FACTOR, hidden, nudged
from gradverify.checks.conduct import conduct
from gradverify.checks.finite_difference import scale
from gradverify.checks.forward_mode import compared
from gradverify.checks.observation import Observation
from gradverify.checks.offered import SecondOrder
from gradverify.layer import Layer
from gradverify.numerics.finite_difference import cap, contradicted, derivative, first_step
from gradverify.result import NOT_OFFERED, Status
from gradverify.spec import Spec
from gradverify.trial import LayerRaised, Trial, norm


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
    slopes = [_slope(one, t) for t in trial.spec.differentiable if t in one.got and t not in told]
    yield from slopes
    # What differences see is told by them, and of which tensor it is.
    if not wrong and all(seen.outcome is Status.PASSED for seen in slopes):
        yield from _symmetric(one)


def _promise(one: SecondOrder) -> list[Array]:
    """Return the terms of <seeds, pullback(cotangents)>."""
    if one.trial.failure is not None:
        raise LayerRaised(one.trial.failure.message)
    along, gradients = one.wide_along, one.trial.gradients
    return [g * along[k] for k, g in gradients.items()]


def _moved(one: SecondOrder, tensor: str, step: Array) -> SecondOrder:
    trial, wide = one.trial, one.trial.wide
    moved = {**wide.tensors, tensor: wide.tensors[tensor] + step}
    narrow = dict(zip(moved, trial.narrowed(moved.values()), strict=True))
    given = Arrays(narrow, tuple(trial.narrowed(wide.cotangents)))
    return one.at(replace(trial, given=given))


def _slope(one: SecondOrder, tensor: str) -> Observation:
    """Compare what is got for a tensor with differences of the layer's own pullback."""
    trial, got = one.trial, one.got[tensor]
    rng = np.random.default_rng([trial.case.seed, 19, crc32(tensor.encode())])
    direction: Array = rng.choice([-1.0, 1.0], got.shape)
    base = _promise(one)
    total = float(sum(np.sum(t) for t in base))
    unseen = hidden(trial, trial.wide.cotangents, one.wide_along.values())
    rounding, own = trial.unit * norm(base) + unseen, norm([direction]) * unseen
    promised = float(np.sum(got * direction))
    for _ in range(DRAWS):
        near = one.at(replace(trial, given=nudged(trial, rng)))
        there = float(sum(np.sum(t) for t in _promise(near)))
        rounding = max(rounding, abs(there - total))
        own = max(own, abs(float(np.sum(near.got.get(tensor, got) * direction)) - promised))

    def loss(h: float) -> float:
        return float(sum(np.sum(t) for t in _promise(_moved(one, tensor, h * direction))))

    def valid(h: float) -> bool:
        wide = trial.wide.tensors
        return all(trial.ranges_hold({**wide, tensor: wide[tensor] + s * direction})
                   for s in (h, -h))  # fmt: skip

    size = scale(trial.wide.tensors[tensor]) if got.size else 1.0
    step = first_step(trial.unit) * size
    found = derivative(loss, step, rounding, valid) if got.size else None
    if found is None or not np.isfinite(found.value):
        return Observation("slope", tensor, Status.VACUOUS, powered=False)
    allowed = found.allowed + FACTOR * own
    # Where all is 0, as for a bias, another second order would be as large as this.
    signal = max(float(np.linalg.norm(got)), abs(found.value), norm(base) / size)
    sharp = allowed <= cap(trial.unit) * signal
    outcome = Status.PASSED if sharp else Status.VACUOUS
    if (
        not abs(promised - found.value) <= allowed
        and sharp
        and not (contradicted(loss, found, step, rounding, valid))
    ):
        outcome = Status.FAILED
    return Observation(
        "slope", tensor, outcome, "along a direction of signs" * (outcome is Status.FAILED), None,
        found.value, promised, allowed, found.why, sharp,
    )  # fmt: skip


def _symmetric(one: SecondOrder) -> Iterator[Observation]:
    """Compare <u, H v> with <v, H u> for the directions v of the case and others, u."""
    left, right = _products(one)
    if not left:
        return
    rng, spread = np.random.default_rng([one.trial.case.seed, 20]), 0.0
    off = _total(left) - _total(right)
    for _ in range(DRAWS):
        near = _products(one.at(replace(one.trial, given=nudged(one.trial, rng))))
        spread = max(spread, abs(_total(near[0]) - _total(near[1]) - off))
    size = float(sum(np.sum(np.abs(t)) for t in (*left, *right)))
    unseen = hidden(one.trial, one.trial.wide.cotangents, one.wide_along.values(),
                    replace(one, turn=1).wide_along.values())  # fmt: skip
    allowed = FACTOR * (spread + one.trial.unit * size + unseen)
    if np.isfinite(size) and not abs(off) <= allowed:
        yield Observation(
            "symmetric", None, Status.FAILED,
            f"<u, H v> is {_total(left):.9g} and <v, H u> {_total(right):.9g}, which may differ by "
            f"{allowed:.1g}: a term is in the second-order gradient of one tensor that is missing "
            "in that of another, or both are of no pullback",
        )  # fmt: skip


def _products(one: SecondOrder) -> tuple[list[Array], list[Array]]:
    """Return the terms of both products; none where a gradient is missing."""
    other = replace(one, turn=1)
    names = one.trial.spec.differentiable
    if not all(k in found.got for k in names for found in (one, other)):
        return [], []
    left = [other.wide_along[k] * one.got[k] for k in names]
    return left, [one.wide_along[k] * other.got[k] for k in names]


def _total(terms: list[Array]) -> float:
    return float(sum(np.sum(t) for t in terms))


def worst_element(trial: Trial, seen: Observation) -> Observation:
    """Return a failure beside the pullback with the element that is off the most."""
    if seen.question != "adjoint":
        return seen
    return adjoint.worst_element(SecondOrder(trial), seen)
