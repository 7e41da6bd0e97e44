"""What a diagnosis looks at: one tensor in several cases, got and expected, wrong and right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from gradverify.calculus.point import Point
from gradverify.cases import Array, Case
from gradverify.notation.dims import evaluate
from gradverify.notation.tree import Expr, text
from gradverify.spec import Spec
from gradverify.trial import Call, Trial, call

# Where a difference is explained, what is left of it is rounding: this much of it at most.
LEFT = 1e-6
# An element this much larger than what is allowed would show that it is wrong.
VISIBLE = 100.0
# Larger tensors tell no more and cost more.
MOST_ELEMENTS = 20_000
# Cases with a larger product of sizes are looked at closely only where there are no others.
MUCH_WORK = 2_000
# How many failing and passing cases are looked at closely.
CLOSELY = 6
# So many values of a constant show that something is proportional to it.
FEWEST_VALUES = 3


@dataclass(frozen=True, eq=False)
class Sample:
    """One tensor in one case: what was got, what is right, and how far the two may differ.

    `looked_at` restricts it to some elements.
    """

    trial: Trial
    tensor: str
    got: Array
    expected: Array
    allowed: float
    looked_at: Array | None = None

    @property
    def case(self) -> Case:
        """The case."""
        return self.trial.case

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """What a count may depend on, by name: dimensions, constants, and the sizes that shapes
        make of them, such as (H-R)//S+1."""
        at = self.case.at
        return at | {name: evaluate(size, at) for name, size in _made(self.trial.spec).items()}

    @property
    def counts(self) -> tuple[str, ...]:
        """The names of sizes, those of them that are whole numbers.

        Of a constant with two values nobody can tell a factor of it from two numbers.
        """
        spec = self.trial.spec
        constants = (k for k, v in spec.constants.items()
                     if len(v) >= FEWEST_VALUES and all(type(n) is int for n in v))  # fmt: skip
        return (*spec.dims, *constants, *_made(spec))

    @property
    def of_gradient(self) -> bool:
        """Whether it is a gradient, not an output."""
        return self.tensor in self.trial.spec.differentiable

    def beside(self, point: Point) -> tuple[Array, Array] | None:
        """Return what the layer gives at another point, and what is right there; None where it
        gives nothing that could be right."""
        trial, name, names = self.trial, self.tensor, self.trial.spec.outputs
        given = {k: np.array(v) for k, v in point.tensors.items()}
        cotangents = [np.array(dy) for dy in trial.wide.cotangents]
        found = call(trial.layer, given, point.constants, cotangents)
        if not isinstance(found, Call):
            return None
        outputs, pullback = trial.seen.run(point)
        if self.of_gradient:
            got, right = found.gradients.get(name), pullback(*trial.wide.cotangents)[name]
        else:
            got = dict(zip(names, found.outputs, strict=True))[name]
            right = dict(zip(names, outputs, strict=True))[name]
        fits = got is not None and trial.fits(name, got)
        return (np.asarray(got, float), right) if fits else None

    @cached_property
    def difference(self) -> Array:
        """Got minus expected; infinite where nothing finite was got."""
        with np.errstate(all="ignore"):
            found = np.where(np.isfinite(self.got), self.got - self.expected, np.inf)
        return found if self.looked_at is None else np.where(self.looked_at, found, 0.0)

    @cached_property
    def wrong(self) -> Array:
        """Which elements are wrong."""
        return np.abs(self.difference) > self.allowed

    @property
    def work(self) -> float:
        """How much there is to compute in the case: the product of all sizes."""
        return float(np.prod([float(n) for _, n in self.case.sizes]))

    @property
    def failing(self) -> bool:
        """Whether any element is wrong."""
        return bool(np.any(self.wrong))

    @cached_property
    def visible(self) -> Array:
        """Which elements would show that they are wrong."""
        found = np.abs(self.expected) > VISIBLE * self.allowed
        return found if self.looked_at is None else found & self.looked_at

    @cached_property
    def tolerance(self) -> float:
        """How far from what was got an explanation may be."""
        largest = float(np.max(np.abs(self.difference), initial=0.0))
        return 4 * self.allowed + (LEFT * largest if np.isfinite(largest) else 0.0)

    def explained(self, predicted: Array) -> bool:
        """Whether `predicted` is what was got."""
        if predicted.shape != self.got.shape:
            return False
        with np.errstate(all="ignore"):
            left = np.abs(self.got - predicted)
        if self.looked_at is not None:
            left = left[self.looked_at]
        return bool(np.all(left <= self.tolerance))

    def within(self, mask: Array) -> "Sample":
        """Return the sample restricted to some elements."""
        return replace(self, looked_at=mask)


def gradient_sample(trial: Trial, tensor: str) -> Sample | None:
    """Return a tensor's gradient in a case beside the derived one, None where it has none."""
    if trial.failure is not None or tensor not in trial.gradients:
        return None
    reference = trial.reference
    return _sample(trial, tensor, trial.gradients[tensor], reference.gradients[tensor],
                   reference.allowed_gradients[tensor])  # fmt: skip


def output_sample(trial: Trial, tensor: str) -> Sample | None:
    """Return an output in a case beside the definition's, None where it has none."""
    if trial.failure is not None or tensor not in trial.outputs:
        return None
    reference = trial.reference
    return _sample(trial, tensor, trial.outputs[tensor], reference.outputs[tensor],
                   reference.allowed_outputs[tensor])  # fmt: skip


def _sample(
    trial: Trial, tensor: str, got: Array, expected: Array, allowance: Any
) -> Sample | None:
    if allowance.vacuous or not 0 < expected.size <= MOST_ELEMENTS:
        return None
    return Sample(trial, tensor, got, expected, allowance.value)


@dataclass(frozen=True)
class Evidence:
    """The samples of a tensor: those that fail and those that pass though an error would show."""

    failing: tuple[Sample, ...]
    passing: tuple[Sample, ...]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Evidence":
        """Sort samples into those that fail and those that pass."""
        listed = list(samples)
        failing = [s for s in listed if s.failing]
        # Of what is not finite nothing can be said but where it is.
        finite = [s for s in failing if np.all(np.isfinite(s.difference))]
        return cls(
            tuple(finite or failing),
            tuple(s for s in listed if not s.failing and np.any(s.visible)),
        )

    @cached_property
    def closely(self) -> "Evidence":
        """A few samples that differ as much as they can, the plainest first."""
        return Evidence(tuple(_various(self.failing)), tuple(_various(self.passing)))

    def within(self, masks: Sequence[Array]) -> "Evidence":
        """Return the failing samples restricted to some elements each."""
        pairs = zip(self.failing, masks, strict=True)
        return Evidence(tuple(s.within(mask) for s, mask in pairs), ())


def _various(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples of sizes all their own, float64 and ordinary values first, small first but
    for those of one element, in which any factor explains anything."""

    def plainness(sample: Sample) -> tuple[Any, ...]:
        case = sample.case
        few = int(np.count_nonzero(sample.visible)) < 4
        odd = (case.values != "ordinary") + (case.layout != "C")
        return case.dtype != "float64", few, sample.work > MUCH_WORK, odd, sample.work

    found: dict[Any, Sample] = {}
    for sample in sorted(samples, key=plainness):
        found.setdefault((sample.case.sizes, sample.case.constants), sample)
    # What explains nothing is seen soonest in the cheapest.
    return sorted(list(found.values())[:CLOSELY], key=lambda s: s.work)


@lru_cache(maxsize=32)
def _made(spec: Spec) -> dict[str, Expr]:
    """Return the sizes in a spec's shapes that are no products of dimensions and constants, by
    name."""
    sizes = {f"({text(size)})": size for shape in spec.shapes.values() for size in shape}
    return {name: size for name, size in sizes.items() if any(sign in name for sign in "+-/")}
