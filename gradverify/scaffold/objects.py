"""A class with forward and backward: its parameters, and the function that it is as a layer."""

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradverify.scaffold.calling import Array, Called, quietly
from gradverify.scaffold.example import Example
from gradverify.scaffold.observe import SECONDS, SHARES, Observed, described, numbers
from gradverify.scaffold.roles import Argument, arguments_of
from gradverify.scaffold.search import Shape, Size, first_accepted

# What the arguments of a class are set to where nobody says: each a size that is no other's.
_SIZES = (3, 7, 2, 11, 5, 13)
# And the sizes of dimensions that only inputs have.
_MORE = (5, 17, 19, 13, 23, 29)
# Where a gradient is kept after backward, by the name of its parameter.
_PLACES = ("d{}", "d_{}", "grad_{}", "{}_grad", 'grads["{}"]', 'grads["d{}"]', 'gradients["{}"]')


@dataclass(frozen=True)
class Made:
    """What was observed of a class, and the source of the layer that it is."""

    observed: Observed
    body: str


@dataclass(frozen=True)
class _Class:
    """A class: what it is made with, and the shapes of its parameters by attribute.

    `dims` are the arguments that are sizes, whose number is that of their dimension.
    """

    made: type[Any]
    given: Mapping[str, Any]
    dims: tuple[str, ...]
    inputs: tuple[Argument, ...]
    params: Mapping[str, Shape]
    places: Mapping[str, str]

    def source_of(self, dim: str, shapes: Mapping[str, Shape]) -> tuple[str, int] | None:
        """Return the tensor and axis that tell an argument, None where none does."""
        wanted = Size(self.dims.index(dim))
        return next(((name, axis) for name, shape in {**self.params, **shapes}.items()
                     for axis, size in enumerate(shape) if size == wanted), None)  # fmt: skip

    def run(self, shapes: Mapping[str, Shape], given: Mapping[str, Array]) -> Any:
        """Return outputs and pullback as a layer does."""
        told = dict(self.given)
        for dim in self.dims:
            if (place := self.source_of(dim, shapes)) is not None:
                told[dim] = given[place[0]].shape[place[1]]
        layer = self.made(**told)
        for name in self.params:
            setattr(layer, name, given[name])
        y = layer.forward(**{a.name: given[a.name] for a in self.inputs})

        def pullback(*cotangents: Array) -> dict[str, Any]:
            returned = layer.backward(*cotangents)
            listed = returned if isinstance(returned, tuple) else (returned,)
            taking = [a.name for a in self.inputs if not a.integer]
            found = dict(zip(taking, listed, strict=False))
            return found | {k: _found(layer, place) for k, place in self.places.items()}

        return y, pullback


def of_class(made: type[Any], example: Example | None) -> Made | None:
    """Return a class as a layer, None where it cannot be made or called."""
    if not hasattr(made, "backward"):
        return None
    known = _class(made, example)
    if known is None:
        return None
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
    return None if observed is None else Made(observed, _body(known, shapes))


def _class(made: type[Any], example: Example | None) -> _Class | None:
    inputs = arguments_of(made.forward, skip=1)
    signature = inspect.signature(made)
    if example is not None and example.made is not None:
        given = dict(signature.bind(*example.made[0], **example.made[1]).arguments)
    else:
        needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
        given = dict(zip(needed, _SIZES, strict=False))
    layer = quietly(lambda: made(**given))
    if layer is None:
        return None
    dims = tuple(k for k, v in given.items() if type(v) is int)
    arrays = {k: v for k, v in vars(layer).items() if isinstance(v, np.ndarray)
              and v.dtype.kind == "f" and not _is_gradient(k, vars(layer))}  # fmt: skip
    params = {}
    for name, array in arrays.items():
        shape = _shape(array.shape, [given[d] for d in dims])
        if shape is None:
            return None
        params[name] = shape
    places = {k: next((p for p in _PLACES if _kept(vars(layer), p.format(k))), "") for k in params}
    return _Class(made, given, dims, inputs, params, {k: p.format(k) for k, p in places.items()})


def _is_gradient(name: str, attributes: Mapping[str, Any]) -> bool:
    return "grad" in name.lower() or name.removeprefix("d").removeprefix(
        "_"
    ) in attributes.keys() - {name}


def _kept(attributes: Mapping[str, Any], place: str) -> bool:
    name, bracket, _ = place.partition("[")
    if not bracket:
        return name in attributes
    return isinstance(attributes.get(name), Mapping)


def _shape(shape: Sequence[int], sizes: Sequence[int]) -> Shape | None:
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


def _called(known: _Class, shapes: Mapping[str, Shape]) -> Called:
    params = tuple(Argument(k, "param", init="zeros" if k.lower().startswith("b") else "normal")
                   for k in known.params)  # fmt: skip
    return Called(lambda **given: known.run(shapes, given), (*known.inputs, *params))


def _accepts(known: _Class, inputs: Mapping[str, Shape], sizes: Sequence[int]) -> bool:
    shapes = {**inputs, **known.params}
    return _called(known, shapes).ask(numbers(shapes, sizes)) is not None


def _found(layer: Any, place: str) -> Any:
    """Return what is kept in a place such as dw or grads["w"], None where there is nothing."""
    if not place:
        return None
    name, bracket, key = place.partition('["')
    value = getattr(layer, name, None)
    return value.get(key.removesuffix('"]')) if bracket and isinstance(value, Mapping) else value


def _body(known: _Class, shapes: Mapping[str, Shape]) -> str:
    """Return the source of the layer."""
    name = known.made.__qualname__
    told = []
    for key, value in known.given.items():
        at = known.source_of(key, shapes) if key in known.dims else None
        told.append(f"{key}={value!r}" if at is None else f"{key}={at[0]}.shape[{at[1]}]")
    inputs = [a.name for a in known.inputs]
    taking = [a.name for a in known.inputs if not a.integer]
    lines = ["", f'@spec.register(name="{name}")', f"def layer({', '.join(shapes)}):",
             f"    made = {name}({', '.join(told)})"]  # fmt: skip
    lines += [f"    made.{k} = {k}" for k in known.params]
    lines += [f"    y = made.forward({', '.join(inputs)})", "", "    def pullback(dy):",
              f"        {', '.join(f'd{k}' for k in taking)} = made.backward(dy)",
              "        return {"]  # fmt: skip
    lines += [f'            "{k}": d{k},' for k in taking]
    for k, place in known.places.items():
        value = f"made.{place}," if place else "None,  # TODO: where backward leaves its gradient"
        lines.append(f'            "{k}": {value}')
    return "\n".join([*lines, "        }", "", "    return y, pullback"])
