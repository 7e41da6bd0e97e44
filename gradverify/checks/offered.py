"""What a layer offers beside its pullback, at a case: its forward mode and its double backward."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np

from gradverify.adapter import Derivative
from gradverify.calculus.compile import Oracle
from gradverify.calculus.exact import cost, evaluate_exactly
from gradverify.calculus.point import Point
from gradverify.cases import (
    Array,
    Arrays,
    Case,
    draw,
    draw_tangents,
    give_back,
    is_large,
    layout_of,
    view_of,
)
from gradverify.checks.compared import Compared
from gradverify.checks.memory import Held, as_drawn, given, held, lend
from gradverify.layer import ConventionError
from gradverify.numerics.allowance import DRAWS, MANY_DRAWS, Allowance, Reference, reference
from gradverify.replayed import Replay
from gradverify.spec import Spec
from gradverify.trial import EXACT_COST, LayerRaised, Trial, place_of, widened
from gradverify.view import SeenTwice

Named = Mapping[str, Any]


@dataclass(frozen=True)
class Returned:
    """What one call returned: the values by tensor, the names of what nobody asked for, and which
    of the arrays that it was given have changed."""

    values: dict[str, Any]
    extra: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Offered(Compared):
    """Derivatives along random directions, one of each differentiable tensor.

    `turn` counts other directions at the same case.
    """

    turn: int = 0

    # -- what it is

    @property
    @abstractmethod
    def who(self) -> str:
        """What computes it, in a message."""

    @property
    @abstractmethod
    def direction(self) -> str:
        """What one of the directions is called."""

    @property
    @abstractmethod
    def function(self) -> Derivative:
        """The layer's function that computes it."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[str, ...]:
        """What an array is due for."""

    @abstractmethod
    def _parts(
        self, tensors: Named, cotangents: Named, along: Named
    ) -> Sequence[tuple[Named, tuple[str, ...]]]:
        """Call the layer; return what it gave, each part with the tensors that it is due for."""

    def at(self, trial: Trial) -> Self:
        """Return the same of another trial; at the same case the directions are the same."""
        found = replace(self, trial=trial)
        if trial.case == self.trial.case:
            found.__dict__["along"] = self.along
        return found

    # -- the layer's

    @cached_property
    def along(self) -> dict[str, Array]:
        """The directions, in the dtype of the case."""
        case = self.trial.case
        other = case.other(self.turn)
        return draw_tangents(self.trial.spec, other)

    def call(self, along: Mapping[str, Array] | None = None) -> Returned:
        """Call the layer along its directions, or others, with arrays in the layouts of the case.

        Raises LayerRaised where the layer raises, from a ConventionError where it keeps to none.
        """
        trial, along = self.trial, self.along if along is None else along
        if is_large(trial.spec):  # no more memory than they take, in C order, which nobody copies
            lent = lend(trial, defaultdict(lambda: "C"))
            own = {k: Held(v.view(), v) for k, v in along.items()}
        else:
            lent = as_drawn(trial)
            own = {k: held(v, layout_of(trial.case, f"along {k}")) for k, v in along.items()}
        outputs = trial.spec.differentiable_outputs
        # That nothing is changed is asked of a large layer at the case's own values alone.
        watched = trial.given is None or not is_large(trial.spec)
        before = lent.snapshot() if watched else {}
        directions = {k: v.snapshot() for k, v in own.items() if watched}
        if is_large(trial.spec):
            give_back()
        try:
            with np.errstate(all="ignore"):
                parts = self._parts(
                    lent.tensors, dict(zip(outputs, lent.cotangents, strict=True)),
                    {k: v.array for k, v in own.items()},
                )  # fmt: skip
        except ConventionError as error:
            raise LayerRaised(str(error)) from error
        except (Exception, SystemExit) as error:
            file = trial.layer.derivative_location(self.function).rpartition(":")[0]
            place = place_of(error, {file, *trial.layer.files})
            told = f"{self.who} raised {type(error).__name__}: {error}{place}"
            raise LayerRaised(told) from error
        if is_large(trial.spec):
            give_back()
        values = {k: v for part, due in parts for k, v in part.items() if k in due}
        extra = [k for part, due in parts for k, v in part.items()
                 if k not in due and not (v is None and k in trial.spec.given)]  # fmt: skip
        changed = [given(trial, k) for k in lent.changed(before)]
        changed += [f"the {self.direction} of {k}" for k, was in directions.items()
                    if own[k].snapshot() != was]  # fmt: skip
        return Returned(values, tuple(extra), tuple(changed))

    def fitting(self, returned: Returned) -> dict[str, Array]:
        """Return the values of a call in float64; those of a wrong shape are left out.

        They are copies, but of a large layer, which is not called again before they are looked at.
        """
        found = returned.values
        make = np.asarray if is_large(self.trial.spec) else np.array
        return {k: make(found[k], float) for k in self.tensors
                if k in found and self.trial.fits(k, found[k])}  # fmt: skip

    @cached_property
    def first(self) -> tuple[Returned, dict[str, Array]]:
        """The first call, and its values as they were then."""
        returned = self.call()
        return returned, self.fitting(returned)

    @property
    def got(self) -> dict[str, Array]:
        """The layer's values."""
        return self.first[1]

    def replayed(self, tensor: str) -> Array:
        """Return a value of the layer's own code."""

        def offered(tensors: Named, cotangents: Named, along: Named) -> dict[str, Any]:
            parts = self._parts(tensors, cotangents, along)
            return {k: v for part, due in parts for k, v in part.items() if k in due}

        return Replay(self.trial).of(offered, self.along)[tensor].astype(float)

    # -- the definition's

    @property
    def wide_along(self) -> dict[str, Array]:
        """The directions in float64."""
        return {k: np.asarray(v, float) for k, v in self.along.items()}

    @property
    def twice(self) -> SeenTwice:
        """The oracle of the second order."""
        assert self.trial.oracle is not None
        return SeenTwice(self.trial.oracle, self.trial.view)

    @property
    def point(self) -> Point:
        """Where it is taken, in float64, with the cotangents by output."""
        return _point(self.trial.spec, self.trial.case, self.trial.wide)

    def _reference(self, draws: int) -> Reference:
        trial = self.trial
        assert trial.oracle is not None
        # Other tensors than a case's are met once, and large ones fill the memory.
        if is_large(trial.spec) and trial.given is None:
            key = "second order", draws
            if key not in trial.kept:
                trial.kept[key] = _derive(
                    trial.spec, trial.oracle, trial.case, self.point,
                    tuple(self.wide_along.values()), draws,
                )  # fmt: skip
            kept: Reference = trial.kept[key]
            return kept
        derive = _reference if trial.given is None else _reference.__wrapped__
        return derive(trial.spec, trial.oracle, trial.case, trial.given, draws)

    @cached_property
    def _measured(self) -> Reference:
        return self._reference(DRAWS)

    @property
    def right(self) -> Mapping[str, Array]:
        """The derived values."""
        return self._measured.gradients

    @property
    def allowed(self) -> dict[str, Allowance]:
        """How far they may be off."""
        return self._measured.allowed_gradients

    @property
    def careful(self) -> dict[str, Allowance]:
        """The same with more draws."""
        return self._reference(MANY_DRAWS).allowed_gradients

    @cached_property
    def exact(self) -> dict[str, Array] | None:
        """The derived values to 50 digits."""
        trial, twice = self.trial, self.twice
        derivation = twice.gradient.derivation
        if cost(derivation, trial.case.at) > EXACT_COST:
            return None
        along = trial.view.to_definition(self.wide_along)
        found = evaluate_exactly(derivation, twice.inside(self.point), [*along.values()])
        values = twice.second(found.gradients)
        return {k: v.astype(float) for k, v in values.items()}

    @property
    def derived(self) -> dict[str, Array]:
        """The derived values, unmeasured."""
        _, pullback = self.twice.run(self.point)
        return pullback(*self.wide_along.values())

    def within_range(self, tensor: str) -> bool:
        """Whether what is derived is a number of the dtype, which second derivatives may not be
        where first ones are."""
        top = float(np.max(np.abs(self.right[tensor]), initial=0.0))
        return top < float(np.finfo(self.trial.case.dtype).max)

    def zero(self, tensor: str) -> bool:
        """Whether the derivation has nothing that flows there."""
        return self.twice.zero(tensor)


class Tangents(Offered):
    """The tangents of the outputs, by a layer's forward mode."""

    who, direction = "the jvp", "tangent"

    def key(self, tensor: str) -> str:
        """Return how one of them is called."""
        return f"the tangent of {tensor}"

    @property
    def function(self) -> Derivative:
        """The layer's jvp."""
        assert self.trial.layer.jvp is not None
        return self.trial.layer.jvp

    @property
    def tensors(self) -> tuple[str, ...]:
        """The outputs."""
        return self.trial.spec.differentiable_outputs

    def _parts(
        self, tensors: Named, cotangents: Named, along: Named
    ) -> Sequence[tuple[Named, tuple[str, ...]]]:
        found = self.trial.layer.tangents(tensors, along, self.trial.constants)
        return ((found, self.tensors),)


class SecondOrder(Offered):
    """The gradients of <seeds, pullback(cotangents)>, by a layer's double backward: those of the
    tensors and, by output, those of the cotangents."""

    who, direction = "the double backward", "seed"

    def key(self, tensor: str) -> str:
        """Return how one of them is called."""
        if tensor in self.trial.spec.outputs:
            return f"the gradient of the cotangent of {tensor}"
        return f"the second-order gradient of {tensor}"

    @property
    def function(self) -> Derivative:
        """The layer's double_vjp."""
        assert self.trial.layer.double_vjp is not None
        return self.trial.layer.double_vjp

    @property
    def tensors(self) -> tuple[str, ...]:
        """The differentiable tensors, and the outputs for their cotangents."""
        spec = self.trial.spec
        return (*spec.differentiable, *spec.differentiable_outputs)

    def _parts(
        self, tensors: Named, cotangents: Named, along: Named
    ) -> Sequence[tuple[Named, tuple[str, ...]]]:
        spec, layer = self.trial.spec, self.trial.layer
        first, second = layer.second_order(tensors, cotangents, along, self.trial.constants)
        return (first, spec.differentiable), (second, spec.differentiable_outputs)


# What the checks look at, by their names.
KINDS: Mapping[str, type[Offered]] = {"forward_mode": Tangents, "second_order": SecondOrder}


def _point(spec: Spec, case: Case, wide: Arrays) -> Point:
    """Return where gradients are computed: at the tensors and, by output, the cotangents."""
    cotangents = dict(zip(spec.differentiable_outputs, wide.cotangents, strict=True))
    return case.point(wide.tensors | cotangents)


# The forward mode and the double backward of all layers of a spec have it in common.
@lru_cache(maxsize=64)
def _reference(
    spec: Spec, oracle: Oracle, case: Case, given: Arrays | None, draws: int
) -> Reference:
    seeds = tuple(np.asarray(v, float) for v in draw_tangents(spec, case).values())
    point = _point(spec, case, widened(given or draw(spec, case)))
    return _derive(spec, oracle, case, point, seeds, draws)


def _derive(
    spec: Spec,
    oracle: Oracle,
    case: Case,
    point: Point,
    seeds: tuple[Array, ...],
    draws: int,
) -> Reference:
    # What is allowed to a gradient or an output is in all that is made of their derivatives.
    loosest = max(spec.allow.values(), default=None)
    declared = {f"d{k}": loosest for k in (*spec.differentiable, *spec.outputs)} if loosest else {}
    return reference(
        SeenTwice(oracle, view_of(spec, case), bare=is_large(spec)), point, seeds, case.dtype,
        case.seed, declared, draws,
    )  # fmt: skip
