"""What descent descends: half the squared error of a layer to a random target.

A plain sum has no gradient under batch norm, layer norm and softmax, and a sum of squares nearly
none under batch norm.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradverify.calculus.switches import Switches
from gradverify.cases import Array, Arrays, draw, is_large
from gradverify.checks.finite_difference import scale
from gradverify.checks.products import agreed
from gradverify.numerics.allowance import underflow
from gradverify.numerics.finite_difference import (
    FACTOR,
    NEARER,
    Estimate,
    contradicted,
    derivative,
    few_digits,
)
from gradverify.trial import Results, Trial, dot, norm, widened

Tensors = Mapping[str, Array]

# Steps of momentum and Adam, which need a few more than plain descent to show a trend; of a large
# layer, of which each takes as long as a call, as many as end below the start.
LONG_STEPS, LARGE_STEPS = 10, 3
# A decrease this many times the loss's own rounding is one; float16 has no digits to be generous.
CLEAR, LOW_CLEAR = 100.0, 10.0
# Steps that promise more than this fraction of the loss are no small ones.
LOCAL = 0.125


def sgd_step(params: Tensors, grads: Tensors, lr: float) -> dict[str, Array]:
    """Return params - lr*grads: the one gradient-descent step for every parameter there is."""
    found = dict(params)
    for name in grads.keys() & params.keys():
        step = np.asarray(lr * grads[name])
        found[name] = np.subtract(params[name], step, out=step)
    return found


@dataclass(frozen=True)
class Problem:
    """A layer with a target: the loss of tensors, and its gradients by the layer's pullback."""

    trial: Trial
    start: Tensors
    targets: tuple[Array, ...]

    def loss(self, tensors: Tensors, new: Collection[str] = ()) -> float:
        """Half the squared error of the layer's outputs; tensors that are `new` nobody else has."""
        return _half_square(self.errors(self.trial.forward(tensors, new)))

    def errors(self, outputs: Sequence[Array]) -> list[Array]:
        """How far outputs are from the targets."""
        return [y - t for y, t in zip(outputs, self.targets, strict=True)]

    @cached_property
    def outputs(self) -> tuple[Array, ...]:
        """The layer's outputs at the start."""
        return self.trial.forward(self.start)

    def gradients(self, tensors: Tensors) -> dict[str, Array]:
        """The layer's gradients of the loss, those of right shape and finite."""
        trial = self.trial
        outputs, pullback = trial.at(tensors)
        cotangents = self.errors(outputs)
        try:
            with np.errstate(all="ignore"):
                found = trial.layer.gradients(pullback, trial.narrowed(cotangents))
        except (Exception, SystemExit):
            return {}
        fitting = {k: np.asarray(g, float) for k, g in found.items()
                   if k in trial.spec.differentiable and trial.fits(k, g)}  # fmt: skip
        return {k: g for k, g in fitting.items() if np.all(np.isfinite(g))}

    @property
    def long(self) -> int:
        """How many steps momentum and Adam take; of a large layer each is as long as a call."""
        return LARGE_STEPS if is_large(self.trial.spec) else LONG_STEPS

    @cached_property
    def before(self) -> float:
        """The loss at the start."""
        return _half_square(self.errors(self.outputs))

    @cached_property
    def rounding(self) -> float:
        """The rounding error of the loss: of its terms, (|y| + |t|)*|y - t| each, and of a step."""
        pairs = zip(self.outputs, self.targets, strict=True)
        terms = ((np.abs(y) + np.abs(t)) * np.abs(y - t) for y, t in pairs)
        errors = self.errors(self.outputs)
        moves = norm(self.start[k] * g for k, g in self.slopes.items())
        return self.trial.unit * (4 * norm(terms) + moves) + self.trial.noise(errors)

    @cached_property
    def floor(self) -> float:
        """A decrease of this much is one, and no rounding."""
        return (LOW_CLEAR if few_digits(self.trial.unit) else CLEAR) * self.rounding

    def too_long(self, name: str, rate: float) -> bool:
        """Whether the definition's own loss does not fall either, by a step along minus its own
        gradient: in few digits the shortest step that could show may overshoot. Without a
        definition, whether that step is longer than all that it moves."""
        trial = self.trial
        if trial.oracle is None:
            return rate * float(np.abs(self.slopes[name]).max()) > scale(self.start[name])

        def derived(tensors: Tensors, cotangents: Sequence[Array]) -> Results:
            return replace(trial, given=Arrays(dict(tensors), tuple(cotangents))).derived

        def errors(found: Results) -> list[Array]:
            return self.errors([found.outputs[y] for y in trial.spec.differentiable_outputs])

        before = errors(derived(self.start, self.targets))
        gradient = derived(self.start, before).gradients[name]
        after = errors(derived(self.moved(self.start, {name: gradient}, rate), self.targets))
        return not _half_square(after) < _half_square(before)

    @property
    def far(self) -> bool:
        """Whether no step that could show is a small one: where it leads no gradient says."""
        return self.floor > LOCAL * self.before

    @cached_property
    def allowed(self) -> dict[str, float]:
        """By how much an element of each gradient may be off; without a definition what underflows
        is all that is known."""
        trial = self.trial
        errors = self.errors(self.outputs)
        if trial.oracle is None:
            least = FACTOR * underflow(trial.case.dtype, self.start.values(), errors)
            return dict.fromkeys(self.slopes, least)
        given = Arrays(dict(self.start), tuple(trial.narrowed(errors)))
        known = replace(trial, given=given).reference.allowed_gradients
        return {k: known[k].value for k in self.slopes}

    @cached_property
    def blurred(self) -> dict[str, float]:
        """The part of each gradient, by its norm, that may be rounding."""
        return {k: self.allowed[k] * float(np.sqrt(g.size)) / (norm([g]) or 1.0)
                for k, g in self.slopes.items()}  # fmt: skip

    @cached_property
    def slopes(self) -> dict[str, Array]:
        """The gradients at the start."""
        return self.gradients(self.start)

    def moved(self, tensors: Tensors, direction: Tensors, rate: float) -> dict[str, Array]:
        """Return tensors after a step along minus `direction`, projected onto declared ranges."""
        return self.trial.within(sgd_step(tensors, direction, rate))

    def after(self, direction: Tensors, rate: float) -> float:
        """Return the loss after such a step from the start."""
        return self.loss(self.moved(self.start, direction, rate), direction.keys())

    def promise(self, grads: Tensors, direction: Tensors, rate: float) -> float:
        """Return the decrease that gradients promise of a step as `moved` takes it from the start.

        Bertsekas (1976), IEEE Transactions on Automatic Control 21(2), has Armijo's condition
        for projected steps in these terms.
        """
        total = 0.0
        for name, d in direction.items():
            if (ends := self.trial.bounds.get(name)) is None:
                total += rate * dot(grads[name], d)
            else:
                x = self.start[name]
                total += float(np.sum(grads[name] * np.clip(rate * d, x - ends[1], x - ends[0])))
        return total

    def hidden_kink(
        self,
        loss: Callable[[float], float],
        found: Estimate,
        promised: float,
        step: float,
        direction: Tensors,
        unit: float = 1.0,
    ) -> bool:
        """Whether a kink that nobody has declared, or steps too long for the loss, spoil a slope
        of the loss over unit."""
        rounding, smooth = self.rounding / unit, self.smooth(direction)
        if contradicted(loss, found, promised, step, rounding, smooth):
            return True
        if self.trial.oracle is not None or self.trial.case.ordinary:
            return False
        # Of many kinks, as close as values are tiny, what one ladder says is no more than a guess.
        near = derivative(loss, NEARER[0] * step, rounding, smooth)
        return near is None or abs(near.value - promised) <= near.allowed

    def right(self, direction: Tensors) -> bool:
        """Whether nobody but 50-digit arithmetic can tell, and that says that the gradient along a
        direction is the slope of the loss."""
        trial = self.trial
        if trial.oracle is not None:
            return False
        given = Arrays(dict(self.start), tuple(self.errors(self.outputs)))
        return agreed(replace(trial, given=given), direction) is not None

    def flat(self, grads: Tensors) -> bool:
        """Whether the loss falls by no more than its rounding, as far as gradients are local or
        as declared ranges leave room."""
        square, floor = squared(grads), self.floor
        if square * self.before <= floor**2:
            return True
        ranged = grads.keys() <= self.trial.bounds.keys()
        return ranged and self.promise(grads, grads, 2 * self.before / square) <= floor

    def bent(self, direction: Tensors, grads: Tensors, rate: float | None = None) -> bool:
        """Whether the loss is no line, by half of its slope, within a step to either side.

        So it is beside a kink and where a step that could show (the default) is far too long:
        there no gradient promises anything.
        """
        if rate is None:
            slope = sum(dot(grads[k], d) for k, d in direction.items())
            rate = 2 * self.floor / slope  # by halving, the last that was tried is shorter
        # At an end of its range a tensor moves to one side only: its middle is not the start.
        ranged = direction.keys() & self.trial.bounds.keys()
        middle = self.before
        if ranged:
            ends = [self.moved(self.start, direction, s) for s in (rate, -rate)]
            middle = self.loss({**self.start, **{k: (ends[0][k] + ends[1][k]) / 2 for k in ranged}})
        excess = self.after(direction, rate) + self.after(direction, -rate) - 2 * middle
        return not abs(excess) <= 0.5 * self.promise(grads, direction, rate)

    @cached_property
    def sides(self) -> Switches:
        """The sides of all kinks at the start; none without a definition."""
        return self.trial.switches(self.start) if self.trial.oracle else Switches()

    def smooth(self, direction: Tensors) -> Callable[[float], bool]:
        """Return whether the start -+ h*direction is as declared, with no kink on the way."""
        trial = self.trial

        def same(h: float) -> bool:
            if not self.sides and not trial.bounds:
                return True
            ends = [sgd_step(self.start, direction, s) for s in (h, -h)]
            return all(map(trial.ranges_hold, ends)) and (
                not self.sides or all(trial.switches(x).same(self.sides) for x in ends)
            )

        return same


def problem_of(trial: Trial, *, start: bool) -> Problem:
    """Return a layer with a random target, from the tensors of its case or from its declared
    `start`."""
    arrays = trial.wide.tensors
    if start or not is_large(trial.spec):
        arrays = widened(draw(trial.spec, trial.case, start=start)).tensors
    rng = np.random.default_rng([trial.case.seed, 4])
    targets: list[Array] = []
    for y in trial.forward(arrays):
        scale = float(np.sqrt(np.mean(y**2))) if y.size else 1.0
        targets.append(np.asarray((scale or 1.0) * rng.standard_normal(y.shape)))
    return Problem(trial, arrays, tuple(targets))


def _half_square(errors: Sequence[Array]) -> float:
    return 0.5 * float(sum(np.sum(e**2) for e in errors))


def squared(grads: Tensors) -> float:
    """Return the squared norm of some gradients together."""
    return sum(dot(g, g) for g in grads.values())
