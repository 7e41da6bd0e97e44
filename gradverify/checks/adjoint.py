"""Tangents beside the layer's own pullback, <dy, J v> = <J^T dy, v>: no definition is needed."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from gradverify.cases import Array, Arrays, signs
from gradverify.checks.agreement import largest
from gradverify.checks.observation import Observation
from gradverify.checks.offered import Offered
from gradverify.numerics.finite_difference import cap, locate
from gradverify.result import Status
from gradverify.trial import LayerRaised, Trial, norm

# So many times what moving all values by a rounding does to the difference of both products, the
# most of a few times, and as many roundings of their terms, are allowed.
FACTOR, DRAWS = 16.0, 3
# In tensors up to this size each element is looked at to find the worst; beyond, by halving.
MOST_ELEMENTS = 16


@dataclass(frozen=True)
class Pairing:
    """<w, J v> and <J^T w, v>, and how far they may be from each other; `parts` is what each tensor
    adds to the latter."""

    forward: float
    parts: dict[str, float]
    allowed: float
    signal: float
    why: str

    @property
    def backward(self) -> float:
        """<J^T w, v>."""
        return sum(self.parts.values())

    @property
    def holds(self) -> bool:
        """Whether the two are the same."""
        return abs(self.forward - self.backward) <= self.allowed


def examine(one: Offered) -> Iterator[Observation]:
    """Compare both products for random weights of each output alone."""
    for output in one.trial.spec.differentiable_outputs:
        if output not in one.got or not one.got[output].size:
            continue
        found = weighed(one, output)
        if not np.isfinite(found.signal) or not np.isfinite(found.allowed):
            outcome, powered = Status.VACUOUS, False
        elif not found.holds:
            outcome, powered = Status.FAILED, True
        else:
            powered = found.allowed <= cap(one.trial.unit) * found.signal
            outcome = Status.PASSED if powered else Status.VACUOUS
        message = "along random weights of its elements" if outcome is Status.FAILED else ""
        yield Observation("adjoint", output, outcome, message, None, found.backward, found.forward,
                          found.allowed, found.why, powered)  # fmt: skip


def weighed(one: Offered, output: str) -> Pairing:
    """Return both products for random weights of an output."""
    rng = np.random.default_rng([one.trial.case.seed, 17, crc32(output.encode())])
    return pairing(one, output, np.asarray(rng.standard_normal(one.got[output].shape)))


def pairing(one: Offered, output: str, weights: Array) -> Pairing:
    """Return both products where only one output has a cotangent."""
    trial, outputs = one.trial, one.trial.spec.differentiable_outputs
    shapes = zip(outputs, trial.wide.cotangents, strict=True)
    cotangents = [weights if y == output else np.zeros(dy.shape) for y, dy in shapes]
    given = Arrays(trial.wide.tensors, tuple(cotangents))
    here = one.at(replace(trial, given=_narrow(trial, given)))
    products = _Products.of(here, output)
    rng = np.random.default_rng([trial.case.seed, 18])
    spread = 0.0
    for _ in range(DRAWS):
        near = here.at(replace(here.trial, given=nudged(here.trial, rng)))
        spread = max(spread, abs(_Products.of(near, output).off - products.off))
        del near  # before another takes as much memory
    size = products.size
    return Pairing(
        products.forward, products.backward,
        FACTOR * (spread + trial.unit * size + hidden(trial, [weights], here.wide_along.values())),
        products.largest,
        f"{FACTOR:g} x ({spread:.2g} by which the difference of both products changes when all "
        f"values are moved by a rounding + the rounding of their terms, {size:.2g})",
    )  # fmt: skip


def hidden(trial: Trial, *directions: Iterable[Array]) -> float:
    """Return the rounding of what nobody sees in a product of these; what saturates adds to 1."""
    floats = (v for v in trial.wide.tensors.values() if v.dtype.kind == "f")
    return trial.unit * max(1.0, largest(floats)) * math.prod(map(norm, directions))


def nudged(trial: Trial, rng: np.random.Generator) -> Arrays:
    """Return what a trial is given with every value moved by a rounding."""
    tensors = {
        k: v * (1 + trial.unit * signs(rng, v.shape)) if k in trial.spec.differentiable else v
        for k, v in trial.wide.tensors.items()
    }
    return _narrow(trial, Arrays(trial.within(tensors), trial.wide.cotangents))


def _narrow(trial: Trial, arrays: Arrays) -> Arrays:
    narrow = trial.narrowed(arrays.tensors.values())
    return Arrays(dict(zip(arrays.tensors, narrow, strict=True)),
                  tuple(trial.narrowed(arrays.cotangents)))  # fmt: skip


@dataclass(frozen=True)
class _Products:
    """<w, J v> and, by tensor, <J^T w, v>; `size` is what their terms add up to without signs, and
    `largest` the norm of those of either."""

    forward: float
    backward: dict[str, float]
    size: float
    largest: float

    @classmethod
    def of(cls, one: Offered, output: str) -> "_Products":
        """Return both products where only one output has a cotangent, which is w."""
        trial = one.trial
        if trial.failure is not None:
            raise LayerRaised(trial.failure.message)
        outputs = trial.spec.differentiable_outputs
        weights = dict(zip(outputs, trial.wide.cotangents, strict=True))[output]
        along = one.wide_along
        trial.release()
        forward = weights * one.got[output]
        size, backward, norms = float(np.sum(np.abs(forward))), {}, []
        for tensor, gradient in trial.gradients.items():
            terms = gradient * along[tensor]
            backward[tensor] = float(np.sum(terms))
            norms.append(norm([terms]))
            size += float(np.sum(np.abs(terms)))
        return cls(float(np.sum(forward)), backward, size,
                   max(norm([forward]), norm([np.array(norms)])))  # fmt: skip

    @property
    def off(self) -> float:
        """By how much the one is more than the other."""
        return self.forward - sum(self.backward.values())


def worst_element(one: Offered, seen: Observation) -> Observation:
    """Return a failure of both products with the element that is off the most, as it is where none
    stands out alone."""
    assert seen.tensor is not None
    output, shape = seen.tensor, one.got[seen.tensor].shape

    def unit(group: Sequence[int]) -> Pairing:
        weights = np.zeros(int(np.prod(shape)))
        weights[list(group)] = 1.0
        return pairing(one, output, weights.reshape(shape))

    def discrepancy(group: Sequence[int]) -> float:
        found = unit(group)
        return abs(found.forward - found.backward)

    element = locate(discrepancy, range(int(np.prod(shape))), MOST_ELEMENTS)
    found = unit([element])
    if found.holds:
        return seen
    index = tuple(int(i) for i in np.unravel_index(element, shape))
    return replace(seen, message="", index=index, expected=found.backward, got=found.forward,
                   allowed=found.allowed, why=found.why)  # fmt: skip
