"""One layer at one case: what it returned, what was derived and what is allowed, each once."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import Any

import numpy as np

from gradverify.calculus.compile import Oracle
from gradverify.calculus.exact import Exact, cost, evaluate_exactly
from gradverify.calculus.point import Point
from gradverify.calculus.switches import Switches
from gradverify.cases import (
    AT_KINKS,
    Array,
    Arrays,
    Case,
    draw,
    give_back,
    is_large,
    layout_of,
    smaller,
    view_of,
    with_layout,
)
from gradverify.errors import innermost
from gradverify.layer import ConventionError, Layer, Pullback
from gradverify.numerics.allowance import DRAWS, MANY_DRAWS, Reference, reference, unit_roundoff
from gradverify.sides import Vicinity, on_a_kink
from gradverify.spec import Spec
from gradverify.view import Seen, View, seen

# 50-digit evaluation takes some ten microseconds a term.
EXACT_COST = 20_000
# Without a definition a kink is looked for along so many directions, by steps each of which is a
# hundredth of the one before: on a kink the bend is the same, where it is smooth a hundredth too,
# and in between is the border. What rounding does is measured once a direction; it may be by luck
# so many times less than elsewhere.
DIRECTIONS, BENDING_STEPS, BENT, ROUNDINGS, NUDGE = 3, (1e-1, 1e-3, 1e-5), 0.1, 16, 1e-9
# At so many other values of a kind is it asked whether a result is finite.
OTHERS = 4


# Told of each case before a layer is called with it: of a layer that never returns nothing else is.
calling: ContextVar[Callable[[Case], None]] = ContextVar("calling", default=lambda case: None)


@lru_cache(maxsize=32)  # the layers of one spec share it, and all that it has compiled
def make_oracle(spec: Spec) -> Oracle | None:
    """Return the oracle of a spec's definition, None where it has none."""
    return None if spec.program is None else Oracle(spec.program, spec.differentiable)


@dataclass(frozen=True)
class Failure:
    """Why a layer gave no usable result in a case, and whether its pullback did or its forward."""

    question: str
    message: str
    stage: str = "forward"


class LayerRaised(Exception):
    """A layer that had answered before raised at other values; the text says what."""


@dataclass(frozen=True)
class Call:
    """One forward of a layer and one use of its pullback, and what it left of what it was given."""

    outputs: tuple[Array, ...]
    pullback: Pullback
    gradients: dict[str, Any]
    tensors: Mapping[str, Array]
    cotangents: Sequence[Array]


@dataclass(frozen=True)
class Results:
    """Outputs and gradients, by name."""

    outputs: dict[str, Array]
    gradients: dict[str, Array]


@dataclass(frozen=True)
class Derived(Mapping[str, Array]):
    """Derived outputs, or gradients, by name: computed where one is asked for, and not kept."""

    names: tuple[str, ...]
    run: Callable[[], tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]]
    cotangents: tuple[Array, ...]

    def __getitem__(self, name: str) -> Array:
        outputs, pullback = self.run()
        gradients = pullback(*self.cotangents)
        return gradients[name] if name in gradients else outputs[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class Known:
    """What earlier cases of a run have shown of a layer, and need not be shown again at a cost.

    `wrong` are the outputs and gradients that are wrong beyond doubt, `in_widest` those of them
    that are so in the widest precision, `formulas` the tensors whose formula is wrong in 50-digit
    arithmetic too.
    """

    wrong: set[str] = field(default_factory=set)
    in_widest: set[str] = field(default_factory=set)
    formulas: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Trial:
    """A layer at a case. Everything is computed when first asked for, and once.

    `given` are other tensors than the case is filled with; `known` is common to the trials of a
    run; `brief` that enough is known of the layer for calls that come after the first to be spared.
    """

    layer: Layer
    case: Case
    oracle: Oracle | None
    redundant: frozenset[str] = frozenset()
    given: Arrays | None = field(default=None, compare=False)
    known: Known = field(default_factory=Known, compare=False)
    brief: bool = False
    # What checks of this trial have in common, and nothing else shall keep.
    kept: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def spared(self) -> bool:
        """Whether what takes many calls is not asked: of a large layer it is in the plainest case
        alone, as it shows in all cases of a precision if in any."""
        case = self.case
        plain = case.layout == "C" and case.cotangent == "signed" and case.ordinary
        large = is_large(self.spec) and not (plain and case.dtype == self.layer.widest)
        return self.brief or large

    @property
    def spec(self) -> Spec:
        """The layer's spec."""
        return self.layer.spec

    @cached_property
    def constants(self) -> dict[str, Any]:
        """The constants by name."""
        return dict(self.case.constants)

    @cached_property
    def view(self) -> View:
        """How the layer sees the definition's tensors."""
        return view_of(self.spec, self.case)

    @cached_property
    def seen(self) -> Oracle | Seen:
        """The oracle, as the layer sees it; only with a definition."""
        assert self.oracle is not None
        return seen(self.oracle, self.view)

    @cached_property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each tensor of real numbers with a declared range."""
        found = {k: self.spec.bounds(k, self.case.at) for k in self.spec.differentiable}
        return {k: ends for k, ends in found.items() if ends is not None}

    def within(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return tensors projected onto their declared ranges, beyond which a layer is not meant
        to be called."""
        return {k: np.clip(v, *self.bounds[k]) if k in self.bounds else v
                for k, v in tensors.items()}  # fmt: skip

    def ranges_hold(self, tensors: Mapping[str, Array]) -> bool:
        """Whether tensors are within their declared ranges."""
        return all(
            np.all((low <= tensors[k]) & (tensors[k] <= high))
            for k, (low, high) in self.bounds.items()
        )

    @property
    def arrays(self) -> Arrays:
        """The tensors and cotangents that the layer is called with."""
        if not is_large(self.spec):
            return self._arrays
        # Of large ones the numbers in float64 are kept alone; they may be these themselves.
        tensors = {k: self._laid(k, v) for k, v in self.wide.tensors.items()}
        return Arrays(tensors, self.cotangents)

    def _laid(self, name: str, value: Array) -> Array:
        layout = layout_of(self.case, name) if self.given is None else self.case.layout
        array = np.asarray(value, self.case.dtype if value.dtype.kind == "f" else None)
        return array if layout == "C" and array.flags.c_contiguous else with_layout(array, layout)

    @cached_property
    def cotangents(self) -> tuple[Array, ...]:
        """The cotangents that the pullback is called with, one per differentiable output."""
        if not is_large(self.spec):
            return self._arrays.cotangents
        pairs = zip(self.spec.differentiable_outputs, self.wide.cotangents, strict=True)
        return tuple(self._laid(f"d{k}", dy) for k, dy in pairs)

    @cached_property
    def _arrays(self) -> Arrays:
        return self._fresh()

    def _fresh(self) -> Arrays:
        if self.given is None:
            return draw(self.spec, self.case)
        layout = self.case.layout
        return Arrays(
            {k: with_layout(v, layout) for k, v in self.given.tensors.items()},
            tuple(with_layout(dy, layout) for dy in self.given.cotangents),
        )

    @cached_property
    def wide(self) -> Arrays:
        """The same numbers in float64."""
        if is_large(self.spec):
            return widened(self.given or self._fresh())
        return widened(self.arrays)

    @property
    def point(self) -> Point:
        """Where the definition is computed."""
        return self.case.point(self.wide.tensors)

    def in_dtype(self, dtype: str) -> "Trial":
        """Return the trial in another precision at the same values, as near as it has them."""
        wide = self.wide
        given = Arrays(
            {
                k: np.asarray(v, dtype) if v.dtype.kind == "f" else v
                for k, v in wide.tensors.items()
            },
            tuple(np.asarray(dy, dtype) for dy in wide.cotangents),
        )
        return replace(self, case=replace(self.case, dtype=dtype), given=given)

    def narrowed(self, arrays: Iterable[Array]) -> list[Array]:
        """Return arrays of real numbers in the dtype that the layer is called with."""
        return [np.asarray(a, self.case.dtype) if a.dtype.kind == "f" else a for a in arrays]

    @cached_property
    def _called(self) -> Call | Failure:
        if self.given is None:
            calling.get()(self.case)
            self.layer.renew()
        arrays = self._fresh()
        return call(self.layer, arrays.tensors, self.constants, arrays.cotangents)

    def release_gradients(self) -> None:
        """Let go, of a large layer, of the gradients as they were returned; they are kept in
        float64."""
        if is_large(self.spec):
            _ = self.gradients
            self.__dict__["_called"] = replace(self.called, gradients={})
            give_back()

    def release(self, check: str | None = None) -> None:
        """Let go of what fills memory, of a large layer: the arrays of the call, whose outputs and
        gradients are kept in float64, and what no check asks for after this one."""
        if not is_large(self.spec):
            return
        if check == "second_order":
            self.kept.clear()
        if check == "exact" and self.oracle is not None:
            self.__dict__["gradients"] = {}  # no check after it asks for them
        if self.failure is None and self.called.pullback is not _released:
            _ = self.outputs, self.gradients
            self.__dict__["_called"] = Call(self.called.outputs, _released, {}, {}, ())
        give_back()

    @property
    def failure(self) -> Failure | None:
        """Why the layer gave no usable result, None where it did."""
        return self._called if isinstance(self._called, Failure) else None

    @property
    def called(self) -> Call:
        """The layer's outputs, pullback and gradients, as it returned them."""
        assert isinstance(self._called, Call)
        return self._called

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """The layer's outputs in float64, by name; those of a wrong shape are left out."""
        pairs = zip(self.spec.outputs, self.called.outputs, strict=True)
        return {k: np.array(y, float) for k, y in pairs if self.fits(k, y)}

    @property
    def shaped(self) -> bool:
        """Whether every output has its declared shape, so that a loss can be taken of them."""
        return len(self.outputs) == len(self.spec.outputs)

    @cached_property
    def gradients(self) -> dict[str, Array]:
        """The layer's gradients in float64, by name; those of a wrong shape are left out."""
        found = self.called.gradients
        return {
            k: np.array(found[k], float)
            for k in self.spec.differentiable
            if k in found and self.fits(k, found[k])
        }

    def fits(self, name: str, value: Any) -> bool:
        """Whether a value is a real array of the shape that a tensor has in this case."""
        array = real_array(value)
        return array is not None and array.shape == self.view.shape(name)

    @cached_property
    def overflowed(self) -> bool:
        """Whether a layer has left the range of float16 by the chance of its values, which many a
        right formula does on its way: it ends at 65504.

        Not where the values are ordinary and it does so for others of that kind as well, of this
        size and of smaller ones: of many rows there is always one whose norm is next to nothing.
        """
        if self.case.dtype != "float16" or self._finite:
            return False
        case = self.case
        if not case.ordinary:
            return True
        less = (c for c in smaller(self.spec, case) if c.sizes != case.sizes)
        others = (*map(case.other, range(1, OTHERS + 1)), *islice(less, OTHERS))
        found = (Trial(self.layer, other, self.oracle) for other in others)
        return any(other.failure is None and other._finite for other in found)

    @property
    def _finite(self) -> bool:
        found = (*self.outputs.values(), *self.gradients.values())
        return all(np.all(np.isfinite(a)) for a in found)

    @cached_property
    def reference(self) -> Reference:
        """The derived outputs and gradients and the allowances; only with a definition.

        Of a large layer the allowances are kept alone: what is derived is soon computed again.
        """
        assert self.oracle is not None
        # Other tensors than a case's are met once, and large ones fill the memory.
        once = self.given is not None or is_large(self.spec)
        derive = _reference.__wrapped__ if once else _reference
        given = self.wide if is_large(self.spec) else self.given
        found: Reference = derive(self.spec, self.oracle, self.case, given)
        if not is_large(self.spec):
            return found
        run = partial(self.seen.run, self.point)
        outputs, gradients = (Derived(tuple(k), run, self.wide.cotangents)
                              for k in (found.outputs, found.gradients))  # fmt: skip
        return replace(found, outputs=outputs, gradients=gradients)

    @property
    def unmeasured(self) -> Reference:
        """The same without any draws, for who only asks of which size terms are."""
        assert self.oracle is not None
        return _reference.__wrapped__(self.spec, self.oracle, self.case, self.wide, 0)

    @cached_property
    def careful(self) -> Reference:
        """The same with allowances that are measured by many more draws."""
        assert self.oracle is not None
        return _reference(self.spec, self.oracle, self.case, self.given, MANY_DRAWS)

    @property
    def derived(self) -> Results:
        """The derived outputs and gradients alone."""
        found, pullback = self.seen.run(self.point)
        names = self.seen.program.declared.wanted
        return Results(dict(zip(names, found, strict=True)), pullback(*self.wide.cotangents))

    @cached_property
    def exact(self) -> Exact | None:
        """Outputs and gradients in 50-digit arithmetic; None where that would take too long."""
        assert self.oracle is not None
        derivation = self.oracle.derivation
        if cost(derivation, self.case.at) > EXACT_COST:
            return None
        view, declared = self.view, derivation.program.declared
        found = evaluate_exactly(
            derivation, view.inside(self.point), view.given(declared.seeded, self.wide.cotangents)
        )
        return Exact(
            view.returned(declared.wanted, found.outputs), view.to_layer(found.gradients),
            view.to_layer(found.magnitudes),
        )  # fmt: skip

    def forward(self, tensors: Mapping[str, Array], new: Collection[str] = ()) -> tuple[Array, ...]:
        """Return the layer's differentiable outputs at other tensors, in float64; only of a
        shaped trial. Those that are `new` nobody else has."""
        return self.at(tensors, new)[0]

    def at(
        self, tensors: Mapping[str, Array], new: Collection[str] = ()
    ) -> tuple[tuple[Array, ...], Pullback]:
        """Return `forward(tensors)` and the layer's pullback there."""
        # Copies: a layer that writes to what it is given must not change what it is asked next.
        tensors = {
            k: np.array(v, self.case.dtype if v.dtype.kind == "f" else None,
                        copy=None if k in new else True)
            for k, v in tensors.items()
        }  # fmt: skip
        try:
            with np.errstate(all="ignore"):
                outputs, pullback = self.layer.forward(tensors, self.constants)
        except (Exception, SystemExit) as error:
            place = place_of(error, self.layer.files)
            raise LayerRaised(
                f"the forward raised {type(error).__name__}: {error}{place}"
            ) from error
        arrays = tuple(real_array(y) for y in outputs)
        for array, (name, own) in zip(arrays, self.outputs.items(), strict=True):
            if array is None or array.shape != own.shape:
                raise LayerRaised(
                    f"the forward returned another shape or type of {name} at other values"
                )
        found = dict(zip(self.spec.outputs, arrays, strict=True))
        return tuple(
            np.asarray(found[y], float) for y in self.spec.differentiable_outputs
        ), pullback

    def noise(self, weights: Sequence[Array]) -> float:
        """Return how much rounding inside the layer changes <weights, outputs>.

        Errors of many elements add up as their squares do: their signs, or those of the weights,
        have nothing to do with each other.

        Without a definition nobody knows what is added up inside; a saturated layer adds to 1.
        """
        if self.oracle is None:
            return self.unit * norm(weights)
        known = self.reference.allowed_outputs
        pairs = zip(self.spec.differentiable_outputs, weights, strict=True)
        return norm(known[k].noise * w for k, w in pairs)

    @property
    def unit(self) -> float:
        """The unit roundoff of the precision that the layer is called in."""
        return unit_roundoff(self.case.dtype)

    @property
    def vicinity(self) -> Vicinity:
        """The point, and what is near it; only with a definition."""
        case = self.case
        return Vicinity(self.seen, self.point, self.spec.differentiable, case.dtype, case.seed)

    @cached_property
    def kinked(self) -> bool:
        """Whether the case is on a kink, where several gradients are right; without a definition,
        whether its own forward bends there."""
        if self.oracle is None:
            return self.case.special and self._bends
        return self.case.values in AT_KINKS and on_a_kink(self.vicinity)

    @property
    def tied(self) -> bool:
        """Whether values are equal or zero, and no definition says whether that is on a kink."""
        return self.oracle is None and self.case.values in AT_KINKS

    @cached_property
    def _bends(self) -> bool:
        """Whether an element of an output jumps or bends along any of a few random directions.

        Where it is smooth, its change from one side to the other and the difference of the slopes
        to both sides fall in proportion to the step; on a jump or a kink they do not. Each tensor
        is moved by a fraction of its own size: of one that is far smaller, what bends would be
        hidden by its square.
        """
        if self.failure is not None or not self.shaped:
            return True
        tensors, rng = self.wide.tensors, np.random.default_rng([self.case.seed, 15])

        def outputs(direction: Mapping[str, Array], h: float) -> Array:
            moved = {k: v + h * direction[k] if k in direction else v for k, v in tensors.items()}
            return np.concatenate([y.ravel() for y in self.forward(self.within(moved))])

        try:
            middle = outputs({}, 0.0)
            rounding = self.unit * float(np.max(np.abs(middle), initial=0.0))
            for _ in range(DIRECTIONS):
                along = {
                    k: (float(np.max(np.abs(tensors[k]), initial=0.0)) or 1.0)
                    * np.asarray(rng.standard_normal(tensors[k].shape))
                    for k in self.spec.differentiable
                }
                # Moved by little more than rounding, they show what is lost inside.
                h = BENDING_STEPS[-1]
                moved = outputs(along, h * (1 + NUDGE)) - outputs(along, h)
                noise = ROUNDINGS * max(rounding, float(np.max(np.abs(moved), initial=0.0)))
                sides = [[outputs(along, h) for h in (step, -step)] for step in BENDING_STEPS]
                jumps = [np.abs(a - b) for a, b in sides]
                bends = [np.abs(a + b - 2 * middle) / h
                         for (a, b), h in zip(sides, BENDING_STEPS, strict=True)]  # fmt: skip
                for k, h in enumerate(BENDING_STEPS[1:]):
                    smooth = (jumps[k + 1] <= BENT * jumps[k] + noise) & (
                        bends[k + 1] <= BENT * bends[k] + noise / h
                    )
                    if not np.all(smooth | ~np.isfinite(bends[k])):
                        return True
        except LayerRaised:
            return True
        return False

    def switches(self, tensors: Mapping[str, Array]) -> Switches:
        """Return the sides of all kinks at float64 tensors; only with a definition."""
        return self.vicinity.sides(self.case.point(tensors))

    @cached_property
    def own_switches(self) -> Switches:
        """The sides of all kinks at the case's own values."""
        return self.switches(self.wide.tensors)


def norm(arrays: Iterable[Array]) -> float:
    """Return the Euclidean norm of the elements of arrays together; those not finite left out."""

    def square(a: Array) -> float:
        found = dot(a, a)
        return found if math.isfinite(found) else np.sum(np.square(a), where=np.isfinite(a))

    return float(np.sqrt(sum(map(square, arrays))))


def dot(a: Array, b: Array) -> float:
    """Return the sum of the products of the elements of two arrays; no array of them is made."""
    return float(np.vdot(a.T, b.T) if a.flags.f_contiguous else np.vdot(a, b))


def real_array(value: Any) -> Array | None:
    """Return what a layer returned as an array, None where it is none of real numbers."""
    try:
        array = np.asarray(value)
    except Exception:  # ragged, or of a library that does not convert it: as unusable as text
        return None
    return array if array.dtype.kind in "fiub" else None


def widened(arrays: Arrays) -> Arrays:
    """Return the same numbers in float64, the same arrays where they lie in one piece."""

    def wide(array: Array) -> Array:
        if array.dtype == float and (array.flags.c_contiguous or array.flags.f_contiguous):
            return array
        return np.array(array, float) if array.dtype.kind == "f" else np.array(array)

    return Arrays(
        {k: wide(v) for k, v in arrays.tensors.items()},
        tuple(wide(v) for v in arrays.cotangents),
    )


def call(
    layer: Layer,
    tensors: Mapping[str, Array],
    constants: Mapping[str, Any],
    cotangents: Sequence[Array],
) -> Call | Failure:
    """Call a layer and its pullback; whatever it raises becomes a Failure."""
    stage = "forward"
    try:
        with np.errstate(all="ignore"):
            outputs, pullback = layer.forward(tensors, constants)
            stage = "pullback"
            gradients = layer.gradients(pullback, cotangents)
    except ConventionError as error:
        return Failure(error.question, str(error), stage)
    except (Exception, SystemExit) as error:
        place = place_of(error, layer.files)
        message = f"the {stage} raised {type(error).__name__}: {error}{place}"
        return Failure("raises", message, stage)
    return Call(outputs, pullback, gradients, tensors, cotangents)


def _released(*cotangents: Array) -> Any:
    raise AssertionError("the pullback of a trial that was released")


def place_of(error: BaseException, files: Collection[str]) -> str:
    """Return the line of the user's code that raised, innermost; its code stands in `files`."""
    line = innermost(error, files.__contains__)
    return "" if line is None else f" (line {line.lineno})"


# All layers of a spec are judged by the same references: those of a run's cases are kept.
@lru_cache(maxsize=256)
def _reference(
    spec: Spec, oracle: Oracle, case: Case, given: Arrays | None, draws: int = DRAWS
) -> Reference:
    wide = widened(given or draw(spec, case))
    del given
    at, view = case.point(wide.tensors), view_of(spec, case)
    return reference(
        seen(oracle, view), at, wide.cotangents, case.dtype, case.seed, spec.allow, draws
    )
