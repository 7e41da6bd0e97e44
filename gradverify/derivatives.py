"""The derivatives of a spec's definition for anyone to call: first and second order, any size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from gradverify.calculus.compile import Oracle
from gradverify.calculus.point import Point
from gradverify.errors import UsageError, nearest
from gradverify.notation.dims import evaluate
from gradverify.notation.tree import text
from gradverify.spec import Spec
from gradverify.view import View, flattened

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Any]

_NONE: Arrays = MappingProxyType({})


def oracle(spec: Spec) -> "Derivatives":
    """Return what the definition of a spec computes, with its derivatives.

    Raises UsageError where the spec has no definition.
    """
    if not isinstance(spec, Spec):
        raise UsageError(f'oracle({spec!r}): give it a Spec, such as catalog("batch_norm")')
    if spec.program is None:
        raise UsageError(
            f"the spec {spec.name!r} has no definition, so nothing can be derived: "
            'declare it with Spec(..., definition="...")'
        )
    return Derivatives(spec, Oracle(spec.program, spec.differentiable))


@dataclass(frozen=True)
class _Given:
    """Checked arguments: a point with the definition's tensors, of one floating dtype; `view` is
    how the caller sees them."""

    point: Point
    dtype: np.dtype[Any]
    view: View


@dataclass(frozen=True)
class Derivatives:
    """The function y = f(x) that a definition states, with its first and second derivatives.

    Everything is by name. `tensors` holds every input, parameter and buffer, `cotangents` an
    array for every output that is no buffer's next value, and `constants` a number for every
    constant. `tangents` and `seeds` are
    directions, of the shapes of the differentiable tensors; those left out are zero. Sizes are
    read off the shapes of the tensors, where `*B` is any number of dimensions and `N|1` N or 1.
    Results have the shape of what they are named after and the common dtype of the floating
    tensors.

    Raises UsageError for a name that is missing or unknown, and for a value that cannot be.
    """

    spec: Spec
    _oracle: Oracle = field(repr=False)

    def forward(self, tensors: Arrays, constants: Arrays = _NONE) -> dict[str, Array]:
        """Return the outputs f(x)."""
        at = self._point(tensors, constants)
        outputs, _ = self._oracle.run(at.point)
        return at.view.to_layer(dict(zip(self.spec.outputs, outputs, strict=True)))

    def vjp(
        self, tensors: Arrays, cotangents: Arrays, constants: Arrays = _NONE
    ) -> dict[str, Array]:
        """Return the gradients of <cotangents, f(x)>, one for every differentiable tensor."""
        at = self._point(tensors, constants)
        dy = self._cotangents(cotangents, at)
        _, pullback = self._oracle.run(at.point)
        return at.view.to_layer(pullback(*dy))

    def jvp(self, tensors: Arrays, tangents: Arrays, constants: Arrays = _NONE) -> dict[str, Array]:
        """Return the derivatives of all outputs along `tangents`."""
        at = self._point(tensors, constants)
        along = self._directions("tangent", tangents, at)
        found = self._oracle.jvp(at.point, along)
        named = dict(zip(self.spec.differentiable_outputs, found, strict=True))
        return at.view.to_layer(named)

    def double_vjp(
        self, tensors: Arrays, cotangents: Arrays, seeds: Arrays, constants: Arrays = _NONE
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the gradients of <seeds, vjp(tensors, cotangents)>, the double backward.

        The first are those of the differentiable tensors; the second, by output, those of the
        cotangents.
        """
        at = self._point(tensors, constants)
        dy = self._cotangents(cotangents, at)
        along = self._directions("seed", seeds, at)
        _, pullback = self._oracle.gradient.run(self._with(dy, at))
        found = pullback(*along.values())
        outputs = zip(self.spec.differentiable_outputs, self._given, strict=True)
        return (
            at.view.to_layer({k: found[k] for k in self.spec.differentiable}),
            at.view.to_layer({y: found[k] for y, k in outputs}),
        )

    def hvp(
        self, tensors: Arrays, cotangents: Arrays, tangents: Arrays, constants: Arrays = _NONE
    ) -> dict[str, Array]:
        """Return the product of the Hessian of <cotangents, f(x)> with `tangents`: the derivative
        of vjp(x, cotangents) along them."""
        at = self._point(tensors, constants)
        dy = self._cotangents(cotangents, at)
        along = self._directions("tangent", tangents, at)
        fixed = {k: np.zeros_like(v) for k, v in zip(self._given, dy, strict=True)}
        found = self._oracle.gradient.jvp(self._with(dy, at), along | fixed)
        return at.view.to_layer(dict(zip(self.spec.differentiable, found, strict=True)))

    @cached_property
    def _given(self) -> tuple[str, ...]:
        """What the cotangents of the outputs are called in the program of the gradients."""
        return self._oracle.gradient.program.declared.given[len(self.spec.given) :]

    def _with(self, cotangents: Sequence[Array], at: _Given) -> Point:
        """Return where the gradients are computed."""
        given = dict(zip(self._given, cotangents, strict=True))
        return replace(at.point, tensors={**at.point.tensors, **given})

    # -- arguments

    def _point(self, tensors: Arrays, constants: Arrays) -> _Given:
        spec = self.spec
        self._names("constant", constants, spec.constants, all_of_them=True)
        numbers = {k: self._constant(k, constants[k]) for k in spec.constants}
        self._names("tensor", tensors, spec.given, all_of_them=True)
        arrays = {k: self._array(k, tensors[k]) for k in spec.given}
        for k, array in arrays.items():
            starred = any(text(size) in spec.stars for size in spec.shapes[k])
            least = len(spec.shapes[k]) - starred
            if array.ndim < least or (array.ndim > least and not starred):
                raise self._error(f"{k} has the shape {array.shape}, declared {spec.shape_text(k)}")
            if spec.tensors[k].integer and array.dtype.kind not in "iub":
                raise self._error(f"{k} holds integers, not {array.dtype}: use {k}.astype(int)")
        leading, flat = flattened(spec, arrays)
        sizes = self._oracle.sizes(flat, numbers)
        for n in spec.dims:
            if n not in sizes:
                raise self._error(
                    f"the size {n} does not follow from the shapes of {', '.join(arrays)}: "
                    f"declare an input or parameter that has {n} as one of its sizes"
                )
        at = {**numbers, **sizes}
        single = {
            k: tuple(axis for axis in ones if flat[k].shape[axis] == 1)
            for k, ones in spec.ones.items()
        }
        view = View(spec, at, leading, single)
        for k, array in arrays.items():
            self._fits(k, k, array, view)
        self._allowed(arrays, at)
        floating = [a.dtype for a in arrays.values() if a.dtype.kind == "f"]
        dtype = np.result_type(*floating) if floating else np.dtype(float)
        cast = {k: a if spec.tensors[k].integer else a.astype(dtype) for k, a in arrays.items()}
        return _Given(Point(view.to_definition(cast), numbers, sizes), dtype, view)

    def _allowed(self, arrays: Mapping[str, Array], at: Mapping[str, Any]) -> None:
        """Raise UsageError for sizes and integers that the spec rules out."""
        spec = self.spec
        for n in spec.dims:
            if at[n] < 1:
                raise self._error(f"every size is at least 1, but the shapes say {n}={at[n]}")
        for constraint in spec.where:
            if not evaluate(constraint, at):
                raise self._error(f"{text(constraint)} does not hold at {self._sizes(at)}")
        for k, array in arrays.items():
            bounds = spec.bounds(k, at) if spec.tensors[k].integer else None
            if bounds and not bounds[0] <= array.min() <= array.max() <= bounds[1]:
                raise self._error(
                    f"{k} holds {array.min()} to {array.max()}, but its range is "
                    f"{spec.tensors[k].range}, here {bounds[0]} to {bounds[1]}"
                )

    def _sizes(self, at: Mapping[str, Any]) -> str:
        return ", ".join(f"{n}={at[n]}" for n in self.spec.dims)

    def _cotangents(self, cotangents: Arrays, at: _Given) -> tuple[Array, ...]:
        outputs = self.spec.differentiable_outputs
        self._names("cotangent", cotangents, outputs, all_of_them=True)
        return tuple(self._like(y, f"the cotangent of {y}", cotangents[y], at) for y in outputs)

    def _directions(self, kind: str, directions: Arrays, at: _Given) -> dict[str, Array]:
        wrt = self.spec.differentiable
        self._names(kind, directions, wrt, all_of_them=False)
        return {
            k: self._like(k, f"the {kind} of {k}", directions[k], at)
            if k in directions
            else np.zeros_like(at.point.tensors[k])
            for k in wrt
        }

    def _like(self, tensor: str, what: str, value: Any, at: _Given) -> Array:
        array = self._array(what, value)
        self._fits(tensor, what, array, at.view)
        return at.view.to_definition({tensor: array.astype(at.dtype)})[tensor]

    def _fits(self, tensor: str, what: str, array: Array, view: View) -> None:
        expected = view.shape(tensor)
        if array.shape != expected:
            raise self._error(
                f"{what} has the shape {array.shape}, but {self.spec.shape_text(tensor)} is "
                f"{expected}, by the other shapes: {self._sizes(view.sizes)}"
            )

    def _array(self, what: str, value: Any) -> Array:
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise self._error(f"{what} is no array of real numbers: {type(value).__name__}")
        return array

    def _constant(self, name: str, value: Any) -> Any:
        integer = all(isinstance(v, int) for v in self.spec.constants[name])
        allowed = (int, np.integer) if integer else (int, float, np.integer, np.floating)
        if not isinstance(value, allowed):
            kind = "an integer" if integer else "a number"
            raise self._error(f"the constant {name} is {kind}, not {value!r}")
        return value.item() if isinstance(value, np.generic) else value

    def _names(self, kind: str, given: Arrays, known: Any, *, all_of_them: bool) -> None:
        if not isinstance(given, Mapping):
            what = type(given).__name__
            raise self._error(f"the {kind}s are given by name, as a dict, not as {what}")
        for name in given:
            if name not in known:
                hint = nearest(str(name), known) if known else "there is none to give"
                raise self._error(f"{name!r} is no {kind} of it: {hint}")
        for name in known if all_of_them else ():
            if name not in given:
                shape = "" if kind == "constant" else f", of shape {self.spec.shape_text(name)}"
                raise self._error(f"the {kind} {name!r} is missing{shape}")

    def _error(self, message: str) -> UsageError:
        return UsageError(f"oracle of {self.spec.name!r}: {message}")
