"""An object of a layer in use: tensors are put into it, and outputs and gradients read from it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gradverify.adapters.arguments import alike, arranged, signature_of
from gradverify.adapters.kept import Kept
from gradverify.adapters.pair import named
from gradverify.adapters.place import Place, attributes, gradient_place, kept, param_place
from gradverify.adapters.sizes import sizes_of
from gradverify.errors import nearest
from gradverify.layer import ConventionError
from gradverify.notation.dims import evaluate
from gradverify.notation.tree import free_names
from gradverify.spec import Spec

# What a mode of training is called that is an attribute.
_MODES = ("training", "train", "is_training", "train_mode", "mode")

# What a method must leave alone, and what it is for.
REPLACED = "puts another array in the place of {}, which holds {}: a step is for an update"
UPDATED = "changes {}, which holds {}: only the forward gives a next value"


class Used:
    """An object, which a forward and then a backward are called of, in turn.

    `places` are those of its parameters and buffers, `grads` those of gradients that were found,
    and `missing` says of each other gradient why it was not.
    """

    def __init__(
        self, thing: Any, spec: Spec, kept: Kept, made_of: Mapping[str, str]
    ) -> None:  # fmt: skip
        self.thing, self.spec, self._kept = thing, spec, kept
        self._told = set(made_of.values())  # what it was made of needs no telling
        self._new = True
        how = kept.accumulates
        if isinstance(how, str) and not callable(getattr(thing, how, None)):
            raise ConventionError(
                "convention", f"the object has no method {how}, which accumulates says clears "
                f"its gradients: name its own, or say accumulates=True",
            )  # fmt: skip
        self.places = {k: self._place(k) for k in spec.given if k not in spec.inputs}
        self.grads: dict[str, Place] = {}
        self.missing: dict[str, str] = {}
        self._held: dict[str, Any] = {}
        self._after: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._order: list[str] = []

    def _place(self, name: str) -> Place:
        place = self._kept.params.get(name)
        what = f"{name}, a {'parameter' if name in self.spec.params else 'buffer'}"
        say = f'say where with params={{"{name}": "..."}}'
        if place is None:
            place = param_place(self.thing, name, self.spec.params)
            if place is None:
                raise ConventionError(
                    "convention", f"the object keeps nothing that is called like {what}; it has "
                    f"{kept(self.thing)}: {say}",
                )  # fmt: skip
        elif not place.holds(self.thing):
            raise ConventionError(
                "convention", f"the object has no {place}, where {what}, is said to be; it has "
                f"{kept(self.thing)}: {say}",
            )  # fmt: skip
        return place

    def _stored(self, name: str, value: Any, sizes: Mapping[str, Any]) -> Any:
        """Return a tensor in the shape that the object keeps it in."""
        if name in self._kept.stored:
            said = self._kept.stored[name]
            unknown = [n for size in said for n in free_names(size) if n not in sizes]
            if unknown:
                raise ConventionError(
                    "convention", f"stored: {unknown[0]}, in the shape of {name}, is no dimension "
                    f"and no constant; {nearest(unknown[0], sizes)}",
                )  # fmt: skip
            shape = tuple(evaluate(size, sizes) for size in said)
            if value.size != int(np.prod(shape)):
                raise ConventionError(
                    "convention", f"stored: {name} has {value.size} elements, which do not fit "
                    f"into the shape {shape} that is said to be stored",
                )  # fmt: skip
            value = value.reshape(shape)
        if self._new:
            own = self.places[name].get(self.thing)
            if isinstance(own, np.ndarray) and own.shape != value.shape:
                raise ConventionError(
                    "convention", f"{self.places[name]} of a new object has shape {own.shape}, "
                    f"and {name} is declared {self.spec.shape_text(name)} = {value.shape}: if it "
                    f'is only kept in another shape, say stored={{"{name}": "..."}}, else look at '
                    "the sizes that the object is made with",
                )  # fmt: skip
        return value

    def forward(self, tensors: Mapping[str, Any], constants: Mapping[str, Any]) -> tuple[Any, ...]:
        """Put tensors into the object, call its forward and return the outputs in declared order.

        Parameters are put there as they are, so that it shows where they are written to.
        """
        spec, sizes = self.spec, {**sizes_of(self.spec, tensors, constants), **constants}
        for name, place in self.places.items():
            value = tensors[name]
            if name not in spec.params:
                value = value.copy()  # the object goes on with it
            self._held[name] = self._stored(name, value, sizes)
            place.set(self.thing, self._held[name])
        self._clear()
        method = getattr(self.thing, self._kept.forward)
        signature = signature_of(method)
        own = [*signature.parameters] if signature else []
        by_name = {}
        for name, value in constants.items():
            said = self._kept.constants.get(name)
            called = str(said.key) if said is not None and len(said.steps) == 1 else name
            if alike(called, own) is not None:
                by_name[called] = value
            elif name not in self._told:
                self._tell(name, value)
        inputs = {k: tensors[k] for k in spec.inputs}
        remedy = 'declare it, or write a method that does without, which forward="..." names'
        found = arranged(method, inputs, by_name, remedy)
        self._order = [k for k in found.order if k in inputs]
        result = method(*found.args, **found.kwargs)
        self._new = False
        self._check(spec.params, self._held, f"{self._kept.forward} {REPLACED}")
        outputs = self._outputs(result)
        for buffer, output in spec.updates.items():
            self._held[buffer] = self.places[buffer].get(self.thing)
            outputs[output] = np.reshape(self._held[buffer], tensors[buffer].shape)
        self._after = {k: np.array(self._held[k], subok=True) for k in spec.updates}
        self._shapes = {k: tensors[k].shape for k in self.places}
        return tuple(outputs[y] for y in spec.outputs)

    def _outputs(self, result: Any) -> dict[str, Any]:
        """Return outputs by name: as they are returned, or where the object has left them."""
        wanted = self.spec.differentiable_outputs
        if result is None:
            found = {y: param_place(self.thing, y, ()) for y in wanted}
            if len(wanted) == 1 and found[wanted[0]] is None:
                found[wanted[0]] = param_place(self.thing, "y", ())
            for name, place in found.items():
                if place is None:
                    raise ConventionError(
                        "convention", f"{self._kept.forward} returned None, and left nothing that "
                        f"is called like {name}; the object has {kept(self.thing)}",
                    )  # fmt: skip
            return {y: place.get(self.thing) for y, place in found.items() if place is not None}
        listed = result if isinstance(result, tuple) else (result,)
        if len(listed) != len(wanted):
            raise ConventionError(
                "convention", f"{self._kept.forward} returned {len(listed)} values where "
                f"{', '.join(wanted)} is expected",
            )  # fmt: skip
        return dict(zip(wanted, listed, strict=True))

    def _clear(self) -> None:
        """Clear gradients that add up, as is done before each step."""
        how = self._kept.accumulates
        if isinstance(how, str):
            try:
                getattr(self.thing, how)()
            except Exception:
                if not self._new:  # a new object may have nothing to clear yet
                    raise
        elif how:
            for place in self.grads.values():
                place.set(self.thing, np.zeros_like(place.get(self.thing)))

    def _tell(self, name: str, value: Any) -> None:
        """Set a constant that the object was neither made with nor gets in its forward."""
        place = self._kept.constants.get(name)
        if place is not None:
            place.set(self.thing, value)
            return
        train, evaluate = (getattr(self.thing, n, None) for n in ("train", "eval"))
        if isinstance(value, bool) and callable(train) and callable(evaluate):
            (train if value else evaluate)()
            return
        own = list(attributes(self.thing))
        usual = (name, *(_MODES if isinstance(value, bool) else ()))
        attribute = next((a for n in usual if (a := alike(n, own)) is not None), None)
        if attribute is None:
            raise ConventionError(
                "convention", f"the object is not told the constant {name}: name it in the "
                f"function that makes the object, or in its {self._kept.forward}, or say which "
                f'attribute it is with constants={{"{name}": "..."}}; it has {kept(self.thing)}',
            )  # fmt: skip
        setattr(self.thing, attribute, value)

    def backward(self, cotangents: Sequence[Any]) -> dict[str, Any]:
        """Call the object's backward and return the gradients that it returns and leaves."""
        method = getattr(self.thing, self._kept.backward)
        signature = signature_of(method)
        factor: Any = None
        if signature is not None and not signature.parameters:
            if len(cotangents) > 1 or np.ndim(cotangents[0]):
                raise ConventionError(
                    "convention", f"{self._kept.backward}() takes no cotangent, as if its output "
                    f"was one number: declare that with the shape \"\"",
                )  # fmt: skip
            factor = cotangents[0]
            cotangents = ()
        result = method(*cotangents)
        found = {} if result is None else self._of_inputs(result)
        found |= {k: g for k, g in self._left(self.spec.params) if k not in found}
        own = [k for k in self.spec.differentiable if k in self.spec.inputs and k not in found]
        found |= dict(self._left(own))
        self._check(self.spec.params, self._held, f"{self._kept.backward} {REPLACED}")
        self._check(self.spec.updates, self._after, f"{self._kept.backward} {UPDATED}")
        if factor is not None:
            found = {k: g if g is None else factor * g for k, g in found.items()}
        return found

    def _of_inputs(self, result: Any) -> dict[str, Any]:
        if isinstance(result, Mapping):
            return named(self.spec, result, {})
        listed = result if isinstance(result, tuple | list) else (result,)
        own = [k for k in self._order if k in self.spec.differentiable]
        for names in (own, self._order, self.spec.differentiable):
            if len(listed) == len(names):
                return dict(zip(names, listed, strict=True))
        raise ConventionError(
            "convention", f"{self._kept.backward} returned {len(listed)} values where the "
            f"gradients of {', '.join(own) or 'no input'} are expected",
        )  # fmt: skip

    def _left(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield the gradients that backward has left in the object."""
        for name in names:
            param = self.places.get(name, Place((("attribute", name),)))
            place = self._kept.grads.get(name) or self.grads.get(name)
            place = place or gradient_place(self.thing, name, param)
            say = f'say where with grads={{"{name}": "..."}}'
            if place is None or not place.holds(self.thing):
                usual = f"self.d{param.key} or another place called like it"
                self.missing[name] = (
                    f"the object has no {place or usual} after {self._kept.backward}; it has "
                    f"{kept(self.thing)}: {say}"
                )
                continue
            value = place.get(self.thing)
            if value is None:
                self.missing[name] = f"{place} is None after {self._kept.backward}"
                continue
            if name in self.places:
                self.grads[name] = place
            yield name, self._declared(name, value, place)

    def _declared(self, name: str, value: Any, place: Place) -> Any:
        """Return a copy of a gradient in the declared shape: what is kept in an object is its
        own, and is written to by its next backward."""
        if not isinstance(value, np.ndarray):
            return value
        if name not in self.places:
            return value.copy()
        stored, declared = self._held[name].shape, self._shapes[name]
        if value.shape == stored:
            return value.reshape(declared).copy()
        if value.shape == declared:
            raise ConventionError(
                "shape", f"{place} has shape {value.shape}, and {self.places[name]}, of which it "
                f"is the gradient, is stored as {stored}",
            )  # fmt: skip
        return value.copy()

    def _check(self, names: Iterable[str], before: Mapping[str, Any], told: str) -> None:
        """Raise ConventionError where another array has taken the place of one."""
        for name in names:
            now = self.places[name].get(self.thing)
            if now is not self._held[name] and not _equal(now, before[name]):
                raise ConventionError("mutates", told.format(self.places[name], name))


def copied(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of tensors, laid out in memory as they are."""
    return {k: v.copy(order="K") for k, v in tensors.items()}


def _equal(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.all((a == b) | (b != b)))
