"""A class with forward and backward: its parameters, and the adapter that makes a layer of it."""

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradverify.adapters.names import is_of_gradients
from gradverify.adapters.place import Place, gradient_place, param_place, places
from gradverify.scaffold.calling import Array, Called, quietly
from gradverify.scaffold.example import Example
from gradverify.scaffold.observe import SECONDS, SHARES, Observed, described, numbers
from gradverify.scaffold.roles import Argument, arguments_of, is_buffer
from gradverify.scaffold.search import Shape, Size, first_accepted
from gradverify.scaffold.write import TODO, registration

# What the arguments of a class are set to where nobody says: each a size that is no other's.
_SIZES = (3, 7, 2, 11, 5, 13)
# And the sizes of dimensions that only inputs have.
_MORE = (5, 17, 19, 13, 23, 29)


@dataclass(frozen=True)
class Made:
    """What was observed of a class, and the source of the layer that it is."""

    observed: Observed
    body: str


@dataclass(frozen=True)
class _Class:
    """A class: what it is made with, and the shapes of its parameters and buffers by name.

    `dims` are the arguments that are sizes, whose number is that of their dimension; `places` are
    where an object keeps its arrays, and `ones` the axes of size 1 that they have there only.
    """

    made: type[Any]
    given: Mapping[str, Any]
    dims: tuple[str, ...]
    inputs: tuple[Argument, ...]
    params: Mapping[str, Shape]
    places: Mapping[str, Place]
    ones: Mapping[str, tuple[int, ...]]

    def run(self, shapes: Mapping[str, Shape], given: Mapping[str, Array]) -> Any:
        """Return outputs and pullback as a layer does."""
        layer = self.made(**made_at(self, shapes, given))
        for name, place in self.places.items():
            place.set(layer, np.expand_dims(given[name], self.ones[name]))
        y = layer.forward(**{a.name: given[a.name] for a in self.inputs})
        outputs = y if isinstance(y, tuple) else (y,)
        for name in self.places:
            if is_buffer(name):
                outputs += (np.squeeze(self.places[name].get(layer), self.ones[name]),)

        def pullback(*cotangents: Array) -> dict[str, Any]:
            returned = layer.backward(*cotangents[: len(outputs) - len(self.buffers)])
            listed = returned if isinstance(returned, tuple) else (returned,)
            taking = [a.name for a in self.inputs if not a.integer]
            found = dict(zip(taking, listed, strict=False))
            for name, place in self.places.items():
                kept = None if is_buffer(name) else gradient_place(layer, name, place)
                value = None if kept is None else kept.get(layer)
                found[name] = None if value is None else np.squeeze(value, self.ones[name])
            return found

        return outputs if len(outputs) > 1 else outputs[0], pullback

    @property
    def buffers(self) -> tuple[str, ...]:
        """Those of its arrays that are buffers, by their names."""
        return tuple(filter(is_buffer, self.places))


class Known(Protocol):
    """What is known of a class that makes layers: how objects are made, and what they keep.

    `given` are the arguments to make one, of which `dims` are the sizes of dimensions; `params`
    are the shapes of parameters and buffers, and `run` calls one as a layer.
    """

    @property
    def given(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def dims(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def inputs(self) -> tuple[Argument, ...]: ...  # noqa: D102
    @property
    def params(self) -> Mapping[str, Shape]: ...  # noqa: D102
    @property
    def buffers(self) -> tuple[str, ...]: ...  # noqa: D102
    def run(self, shapes: Mapping[str, Shape], given: Mapping[str, Array]) -> Any: ...  # noqa: D102


def of_class(made: type[Any], example: Example | None) -> Made | None:
    """Return a class as a layer, None where it cannot be made or called."""
    if not hasattr(made, "backward"):
        return None
    known = _class(made, example)
    found = known and observed_of(known, example)
    return Made(found[0], _body(known, *found)) if known and found else None


def observed_of(known: Known, example: Example | None) -> tuple[Observed, list[int]] | None:
    """Return what is observed of a class and, for each dimension, the number that it had, first
    those of the arguments; None where it accepts nothing that is tried."""
    if example is None:
        sizes = (*(known.given[d] for d in known.dims), *_MORE)
        found = first_accepted(
            known.inputs,
            lambda shapes: _accepts(known, shapes, sizes),
            SHARES[-1],
            time.monotonic() + SECONDS,
            len(known.dims),
        )
    else:
        names = (a.name for a in known.inputs)
        arrays = {**dict(zip(names, example.args, strict=False)), **example.kwargs}
        listed = [known.given[d] for d in known.dims]
        listed += [n for a in arrays.values() for n in np.shape(a)]
        sizes = tuple(dict.fromkeys(listed))
        found = {k: tuple(Size(sizes.index(n)) for n in np.shape(a)) for k, a in arrays.items()}
    if found is None:
        return None
    shapes = {**found, **known.params}
    order = list(dict.fromkeys(s.dim for shape in shapes.values() for s in shape))
    renamed = {k: tuple(Size(order.index(s.dim), s.times) for s in shape)
               for k, shape in shapes.items()}  # fmt: skip
    observed = described(_called(known, shapes), renamed, tuple(sizes[d] for d in order))
    return None if observed is None else (observed, order)


def _class(made: type[Any], example: Example | None) -> _Class | None:
    inputs = arguments_of(made.forward, skip=1)
    given = arguments_to_make(made, example)
    layer = quietly(lambda: made(**given))
    if layer is None:
        return None
    dims = tuple(k for k, v in given.items() if type(v) is int)
    found = _arrays(layer)
    shapes = {}
    for name, (_, array) in found.items():
        shape = shape_in([n for n in array.shape if n > 1], [given[d] for d in dims])
        if shape is None:
            return None
        shapes[name] = shape
    ones = {k: tuple(axis for axis, n in enumerate(a.shape) if n == 1)
            for k, (_, a) in found.items()}  # fmt: skip
    return _Class(made, given, dims, inputs, shapes, {k: p for k, (p, _) in found.items()}, ones)


def arguments_to_make(made: type[Any], example: Example | None) -> dict[str, Any]:
    """Return what an object is made with: what the example says, or sizes that all differ."""
    signature = inspect.signature(made)
    if example is not None and example.made is not None:
        return dict(signature.bind(*example.made[0], **example.made[1]).arguments)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in signature.parameters.values()
              if p.default is p.empty and p.kind not in kinds]  # fmt: skip
    return dict(zip(needed, _SIZES, strict=False))


def made_at(
    known: Known, shapes: Mapping[str, Shape], given: Mapping[str, Array]
) -> dict[str, Any]:
    """Return what an object is made with that is called with these arrays."""
    told = dict(known.given)
    for k, dim in enumerate(known.dims):
        for name, shape in shapes.items():
            for axis, size in enumerate(shape):
                if size == Size(k):
                    told[dim] = given[name].shape[axis]
    return told


def _arrays(layer: Any) -> dict[str, tuple[Place, Array]]:
    """Return the arrays that a new object keeps, but for gradients, by name with their places."""
    found: dict[str, tuple[Place, Array]] = {}
    kept = list(places(layer))
    names = {str(place.key) for place, _ in kept}
    for place, value in kept:
        name = str(place.key if isinstance(place.key, str) else f"{place.steps[0][1]}{place.key}")
        name = str(place.steps[0][1]) if place.key in ("data", "value", "values") else name
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        of_gradients = is_of_gradients(place.steps[0][1]) or is_of_gradients(name)
        if of_gradients or name.removeprefix("d").removeprefix("_") in names - {name}:
            continue
        # An optimiser's list has the same arrays once more.
        if name.isidentifier() and not any(value is other for _, other in found.values()):
            found.setdefault(name, (place, value))
    return found


def shape_in(shape: Sequence[int], sizes: Sequence[int]) -> Shape | None:
    """Return a shape in the sizes that the class was made with, None where it has others."""
    found = []
    for n in shape:
        times = [
            Size(k, n // s) for k, s in enumerate(sizes) if n % s == 0 and n // s in (1, 2, 3, 4)
        ]
        if not times:
            return None
        found.append(min(times, key=lambda size: size.times))
    return tuple(found)


def _called(known: Known, shapes: Mapping[str, Shape]) -> Called:
    state = tuple(
        Argument(k, "buffer") if k in known.buffers
        else Argument(k, "param", init="zeros" if k.lower().startswith("b") else "normal")
        for k in known.params
    )  # fmt: skip
    return Called(lambda **given: known.run(shapes, given), (*known.inputs, *state))


def _accepts(known: Known, inputs: Mapping[str, Shape], sizes: Sequence[int]) -> bool:
    shapes = {**inputs, **known.params}
    return _called(known, shapes).ask(numbers(shapes, sizes)) is not None


def _body(known: _Class, observed: Observed, order: Sequence[int]) -> str:
    """Return the source of the layer; `order` has the dimension of each name that was given."""
    parts = [maker(known, known.made.__qualname__, observed, order)]
    layer = known.made(**known.given)
    params = [k for k in known.params if not is_buffer(k)]
    usual = {k: param_place(layer, k, params) for k in known.params}
    said = {k: str(p).removeprefix("self.") for k, p in known.places.items() if p != usual[k]}
    stored = {k: _stored(observed, k, axes) for k, axes in known.ones.items() if axes}
    parts += [f"{k}={v!r}".replace("'", '"') for k, v in (("stored", stored),) if v]
    parts += [f"params={said!r}"] if said else []
    gradients = observed.answer.gradients or {}
    lost = [k for k in params if gradients.get(k) is None]
    todo = [f"{TODO}say where backward leaves the gradient of {k}: grads={{\"{k}\": \"...\"}}"
            for k in lost]  # fmt: skip
    return "\n".join(["", *todo, registration("stateful", parts)])


def maker(known: Known, name: str, observed: Observed, order: Sequence[int]) -> str:
    """Return the source of what makes an object of dimensions."""
    dims = {d: observed.names[order.index(k)] for k, d in enumerate(known.dims) if k in order}
    given = ", ".join(f"{k}={dims.get(k, repr(v))}" for k, v in known.given.items())
    return f"lambda {', '.join(dict.fromkeys(dims.values()))}: {name}({given})" if given else name


def _stored(observed: Observed, name: str, ones: Sequence[int]) -> str:
    """Return the shape that an object keeps an array in, as text."""
    sizes = observed.text(name).split()
    for axis in ones:
        sizes.insert(axis, "1")
    return " ".join(sizes)
