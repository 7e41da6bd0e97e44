"""Between the arrays that a layer is given and the tensors of its definition, both ways.

The definition has one dimension B for `*B` and tensors of full size; a layer is given any number
of dimensions in place of B, and size 1 or N on an axis that is declared `N|1`. Nothing else in
the package converts between the two.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from gradverify.calculus.compile import NOISE, Oracle
from gradverify.calculus.emit import PLAIN, Mode
from gradverify.calculus.noise import Noise
from gradverify.calculus.point import Point
from gradverify.notation.statements import Program
from gradverify.notation.tree import Name, text
from gradverify.spec import Spec

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


def _total(array: Array, axes: Axes) -> Array:
    return np.asarray(array.sum(axis=axes, keepdims=True))


@dataclass(frozen=True)
class View:
    """How a layer sees the tensors of a spec at `sizes` (dimensions and constants by name).

    `leading` holds what stands for each starred dimension, and `single` the axes, counted in the
    definition, on which a tensor is given with size 1.
    """

    spec: Spec
    sizes: Mapping[str, Any]
    leading: Mapping[str, tuple[int, ...]]
    single: Mapping[str, Axes]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape that the layer sees, gives and gets a tensor in."""
        if not self.changes:
            return self.spec.shape(tensor, self.sizes)
        found: tuple[int, ...] = ()
        for size, n in zip(self.spec.shapes[tensor], self._narrow(tensor), strict=True):
            starred = isinstance(size, Name) and size.id in self.leading
            found += self.leading[text(size)] if starred else (n,)
        return found

    def to_definition(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Return a layer's tensors, outputs or cotangents, by tensor, as the definition's."""
        if not self.changes:
            return dict(arrays)
        return {
            k: np.broadcast_to(a.reshape(self._narrow(k)), self.spec.shape(k, self.sizes))
            for k, a in arrays.items()
        }

    def inside(self, point: Point) -> Point:
        """Return a point with a layer's tensors as one with the definition's."""
        return replace(point, tensors=self.to_definition(point.tensors))

    def to_layer(
        self, arrays: Mapping[str, Array], total: Callable[[Array, Axes], Array] = _total
    ) -> dict[str, Array]:
        """Return the definition's outputs or gradients, by tensor, as a layer gives them.

        Where a tensor has size 1 to the layer, `total` sums its gradient.
        """
        if not self.changes:
            return dict(arrays)
        return {
            k: (total(a, self.single[k]) if self.single.get(k) else a).reshape(self.shape(k))
            for k, a in arrays.items()
        }

    def given(self, names: Iterable[str], arrays: Iterable[Array]) -> list[Array]:
        """Return a layer's arrays of these names, cotangents for example, as the definition's."""
        return [*self.to_definition(dict(zip(names, arrays, strict=True))).values()]

    def returned(self, names: Iterable[str], arrays: Iterable[Array]) -> tuple[Array, ...]:
        """Return the definition's arrays of these names, outputs for example, as a layer's."""
        return tuple(self.to_layer(dict(zip(names, arrays, strict=True))).values())

    @property
    def changes(self) -> bool:
        """Whether a layer sees anything in another shape than the definition."""
        return bool(self.leading or self.single)

    def _narrow(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor with one axis for each of the definition's."""
        full, single = self.spec.shape(tensor, self.sizes), self.single.get(tensor, ())
        return tuple(1 if axis in single else n for axis, n in enumerate(full))


def forms(spec: Spec) -> dict[str, dict[str, Axes]]:
    """Return, for each tensor that may have size 1 on some axes, the shapes that it may be given
    in, such as "N,C" and "1,C", each with those axes; the full one first."""
    found: dict[str, dict[str, Axes]] = {}
    for tensor, ones in spec.ones.items():
        found[tensor] = {}
        for choice in product((False, True), repeat=len(ones)):
            single = tuple(axis for axis, chosen in zip(ones, choice, strict=True) if chosen)
            sizes = (text(size).replace(" ", "") for size in spec.shapes[tensor])
            parts = ("1" if axis in single else size for axis, size in enumerate(sizes))
            found[tensor][",".join(parts)] = single
    return found


def flattened(
    spec: Spec, arrays: Mapping[str, Array]
) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
    """Return what stands for each starred dimension in arrays of a layer, by the first tensor
    that has it, and the arrays with one dimension in its place.

    Each array has at least as many dimensions as are not starred in its shape.
    """
    leading: dict[str, tuple[int, ...]] = {}
    flat = {}
    for tensor, array in arrays.items():
        names = [text(size) for size in spec.shapes[tensor]]
        flat[tensor] = array
        for dim in spec.stars:
            if dim in names:
                first = names.index(dim)
                last = array.ndim - (len(names) - 1 - first)
                own = array.shape[first:last]
                leading.setdefault(dim, own)
                shape = (*array.shape[:first], int(np.prod(own)), *array.shape[last:])
                flat[tensor] = array.reshape(shape)
    return leading, flat


@dataclass(frozen=True)
class Seen:
    """The oracle as a view has it: it takes what a layer takes and returns what a layer returns."""

    oracle: Oracle
    view: View

    @property
    def program(self) -> Program:
        """The definition's program."""
        return self.oracle.program

    def run(
        self, point: Point, mode: Mode = PLAIN, **tools: Any
    ) -> tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]:
        """Return what `Oracle.run` does."""
        view, declared = self.view, self.program.declared
        outputs, pullback = self.oracle.run(view.inside(point), mode, **tools)
        noise: Noise | None = tools.get("noise")

        def seen(*cotangents: Array) -> dict[str, Array]:
            gradients = pullback(*view.given(declared.seeded, cotangents))
            return view.to_layer(gradients, noise.total if noise else _total)

        return view.returned(declared.wanted, outputs), seen

    def noisy(
        self, point: Point, cotangents: Sequence[Array], noise: Noise, draws: int
    ) -> Iterator[tuple[tuple[Array, ...], dict[str, Array]]]:
        """Yield what `Oracle.noisy` does."""
        view, declared = self.view, self.program.declared
        flat = view.given(declared.seeded, cotangents)
        for outputs, gradients in self.oracle.noisy(view.inside(point), flat, noise, draws):
            yield view.returned(declared.wanted, outputs), view.to_layer(gradients, noise.total)

    def kept(self, point: Point) -> dict[str, Array]:
        """Return what `Oracle.kept` does, as the definition has it."""
        return self.oracle.kept(self.view.inside(point))


def seen(oracle: Oracle, view: View) -> Oracle | Seen:
    """Return an oracle as a view has it: itself where the view changes nothing."""
    return Seen(oracle, view) if view.changes else oracle


@dataclass(frozen=True)
class SeenTwice:
    """The gradients as a view has them, to be differentiated again.

    `run` takes a point that has, beside the tensors, each cotangent by the name of its output; it
    returns the gradients and a pullback that takes a seed for each of them. That returns the
    gradients of <seeds, gradients>: by tensor and, by output, those of the cotangents, which are
    the tangents of the outputs along the seeds. `changed` is what is run in place of the oracle of
    the gradients; where it is `bare`, the gradients themselves are left out.
    """

    oracle: Oracle
    view: View
    changed: Oracle | None = None
    bare: bool = False

    @property
    def gradient(self) -> Oracle:
        """The oracle of the gradients."""
        return self.changed or self.oracle.gradient

    @property
    def program(self) -> Program:
        """The program of the gradients."""
        return self.gradient.program

    @cached_property
    def cotangents(self) -> dict[str, str]:
        """What the cotangent of each output is called in the program of the gradients."""
        first = self.oracle.program.declared
        given = self.program.declared.given[len(first.given) :]
        return dict(zip(first.seeded, given, strict=True))

    def inside(self, point: Point) -> Point:
        """Return a point with a layer's tensors and cotangents as one of the program of the
        gradients."""
        flat = self.view.to_definition(point.tensors)
        return replace(point, tensors={self.cotangents.get(k, k): v for k, v in flat.items()})

    def second(
        self, found: Mapping[str, Array], total: Callable[[Array, Axes], Array] = _total
    ) -> dict[str, Array]:
        """Return what the program of the gradients gives in its second order, as a layer gives
        it."""
        flat = {t: found[t] for t in self.oracle.wrt}
        flat |= {y: found[c] for y, c in self.cotangents.items()}
        return self.view.to_layer(flat, total)

    def zero(self, name: str) -> bool:
        """Whether nothing of the second order flows to a tensor, or to the cotangent of an
        output."""
        return self.cotangents.get(name, name) not in self.gradient.derivation.cotangents

    def run(
        self, point: Point, mode: Mode = PLAIN, **tools: Any
    ) -> tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]:
        """Return the gradients by `wrt` and their pullback."""
        gradients, pullback = self.gradient.run(
            self.inside(point), replace(mode, bare=self.bare), **tools
        )
        wrt, noise = self.oracle.wrt, tools.get("noise")

        def seen(*seeds: Array) -> dict[str, Array]:
            found = pullback(*self.view.given(wrt, seeds))
            return self.second(found, noise.total if noise else _total)

        return self._first(gradients), seen

    def noisy(
        self, point: Point, seeds: Sequence[Array], noise: Noise, draws: int
    ) -> Iterator[tuple[tuple[Array, ...], dict[str, Array]]]:
        """Yield the gradients and those of <seeds, gradients> under random rounding."""
        along, mode = self.view.given(self.oracle.wrt, seeds), replace(NOISE, bare=self.bare)
        for gradients, found in self.gradient.noisy(self.inside(point), along, noise, draws, mode):
            yield self._first(gradients), self.second(found, noise.total)

    def _first(self, gradients: Sequence[Array]) -> tuple[Array, ...]:
        return () if self.bare else self.view.returned(self.oracle.wrt, gradients)


def factored(size: int, rank: int) -> tuple[int, ...]:
    """Return `rank` dimensions that make up a size, as near to equal as two of them can be.

    No dimension makes up nothing but 1: another size is one dimension then.
    """
    if rank < 2:
        return (size,) if rank or size != 1 else ()
    small = max(n for n in range(1, int(size**0.5) + 1) if size % n == 0)
    return (small, *[1] * (rank - 2), size // small)
