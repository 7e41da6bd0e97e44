"""Where an object keeps an array: in an attribute, a dict or a list, and how to find that."""

import ast
from collections.abc import Iterator, MutableMapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradverify.adapters.names import gradient_names, is_of_gradients, same, spellings
from gradverify.errors import UsageError, few

# The array of an object that wraps one, and its gradient there.
_WRAPPED, _WRAPPED_GRADIENTS = ("data", "value", "values"), ("grad", "gradient")
# So deep an object is searched for an array that it keeps in two places.
_DEPTH = 4


@dataclass(frozen=True)
class Place:
    """A path in an object such as params['W'], W.data or layers[0].b: attributes (a text that is
    not in brackets), keys and indices, the last one apart."""

    steps: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        path = "".join(f".{key}" if how == "attribute" else f"[{key!r}]" for how, key in self.steps)
        return f"self{path}"

    @property
    def key(self) -> Any:
        """The last step: the name of an attribute, a key or an index."""
        return self.steps[-1][1]

    def get(self, thing: Any) -> Any:
        """Return what is there; LookupError or AttributeError where nothing is."""
        for step in self.steps:
            thing = _get(thing, step)
        return thing

    def holds(self, thing: Any) -> bool:
        """Whether anything is there."""
        try:
            self.get(thing)
        except (LookupError, AttributeError, TypeError):
            return False
        return True

    def set(self, thing: Any, value: Any) -> None:
        """Put a value there, and everywhere else where the object keeps the same array."""
        owner = Place(self.steps[:-1]).get(thing)
        old = _get(owner, self.steps[-1])
        how, key = self.steps[-1]
        if how == "attribute":
            setattr(owner, key, value)
        else:
            owner[key] = value
        if isinstance(old, np.ndarray) and old is not value:
            _replace(thing, old, value, _DEPTH)


def parsed(text: str, what: str) -> Place:
    """Return the place that a text such as "params['W']" names; UsageError where it names none."""
    remedy = f'{what}={text!r}: write an attribute, such as "W", "params[\'W\']" or "params[0]"'
    try:
        tree = ast.parse(f"self.{text}", mode="eval").body
    except (SyntaxError, TypeError, ValueError):
        raise UsageError(remedy) from None
    steps: list[tuple[str, Any]] = []
    while not isinstance(tree, ast.Name):
        match tree:
            case ast.Attribute(value=tree, attr=name):
                steps.append(("attribute", name))
            case ast.Subscript(value=tree, slice=ast.Constant(value=str() | int() as key)):
                steps.append(("item", key))
            case _:
                raise UsageError(remedy)
    return Place(tuple(reversed(steps)))


def attributes(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots too."""
    slots = [s for kind in type(thing).__mro__ for s in getattr(kind, "__slots__", ())]
    found = {s: getattr(thing, s) for s in slots if isinstance(s, str) and hasattr(thing, s)}
    return found | dict(getattr(thing, "__dict__", {}))


def kept(thing: Any) -> str:
    """Return what an object keeps, for a message: places of arrays first."""
    arrays = [str(p) for p, value in places(thing) if isinstance(value, np.ndarray)]
    other = [f"self.{k}" for k, v in attributes(thing).items() if not isinstance(v, np.ndarray)]
    return few(list(dict.fromkeys([*arrays, *other])), 10) or "no attribute at all"


def places(thing: Any) -> Iterator[tuple[Place, Any]]:
    """Yield the places of an object where an array can be, each with what is there."""
    for name, value in attributes(thing).items():
        step = ("attribute", name)
        yield Place((step,)), value
        if isinstance(value, MutableMapping):
            for key, inner in value.items():
                if isinstance(key, str | int):
                    yield Place((step, ("item", key))), inner
        elif isinstance(value, MutableSequence):
            for k, inner in enumerate(value):
                yield Place((step, ("item", k))), inner
        elif not isinstance(value, np.ndarray):
            for inner in (*_WRAPPED, *_WRAPPED_GRADIENTS):
                if inner in attributes(value):
                    yield Place((step, ("attribute", inner))), getattr(value, inner)


def param_place(thing: Any, name: str, names: Sequence[str]) -> Place | None:
    """Return where an object keeps a tensor by usual names, None where no such place is; `names`
    are those of all parameters, in the order in which a list has them."""
    found = list(places(thing))
    for spelling in spellings(name):
        fits = [(p, value) for p, value in found if _is_called(p, spelling) and _may_hold(value)]
        if fits:
            exact = [p for p, _ in fits if p.steps[0][1] == spelling or p.key == spelling]
            return (exact or [p for p, _ in fits])[0]
    if name in names:
        for attribute, value in attributes(thing).items():
            listed = isinstance(value, MutableSequence) and len(value) == len(names)
            if listed and not is_of_gradients(attribute):
                return Place((("attribute", attribute), ("item", list(names).index(name))))
    return None


def gradient_place(thing: Any, name: str, param: Place) -> Place | None:
    """Return where an object has left the gradient of a tensor that it keeps in a place."""
    found = [(p, value) for p, value in places(thing) if value is not None]
    if param.key in _WRAPPED:
        wrapped = [Place((*param.steps[:-1], ("attribute", g))) for g in _WRAPPED_GRADIENTS]
        return next((p for p in wrapped if p.holds(thing)), None)
    # The object may keep the array in another place too, as in a list of all.
    array = param.get(thing) if param.holds(thing) else None
    others = [p.key for p, value in found if value is array and p != param]
    own = [n for n in (param.key, name) if isinstance(n, str)]
    called = gradient_names(dict.fromkeys([*own, *spellings(name)]))
    for spelling in called:
        for place, value in found:
            if _may_hold(value) and len(place.steps) == 1 and same(str(place.key), spelling):
                return place
    for key in (param.key, *others, *own, *called, *spellings(name)):
        for place, _ in found:
            first = place.steps[0][1]
            if len(place.steps) == 2 and is_of_gradients(first) and _equal(place.key, key):
                return place
    return None


def _equal(a: Any, b: Any) -> bool:
    return same(a, b) if isinstance(a, str) and isinstance(b, str) else bool(a == b)


def _is_called(place: Place, name: str) -> bool:
    """Whether a place has a tensor's name, and is not one of gradients."""
    first, last = place.steps[0][1], place.key
    if is_of_gradients(first) or last in _WRAPPED_GRADIENTS:
        return False
    if last in _WRAPPED and len(place.steps) == 2:
        return same(first, name)
    return isinstance(last, str) and same(last, name)


def _may_hold(value: Any) -> bool:
    """Whether a tensor may be kept where this value is now; None is for what is not made yet."""
    return value is None or isinstance(value, np.ndarray | np.generic | int | float)


def _get(thing: Any, step: tuple[str, Any]) -> Any:
    how, key = step
    return getattr(thing, key) if how == "attribute" else thing[key]


def _replace(thing: Any, old: Any, new: Any, depth: int) -> None:
    """Put a new array wherever an object keeps the old one."""
    if depth == 0 or isinstance(thing, np.ndarray | str | bytes | type):
        return
    if isinstance(thing, MutableMapping):
        pairs: list[tuple[Any, Any]] = list(thing.items())
    elif isinstance(thing, MutableSequence):
        pairs = list(enumerate(thing))
    else:
        pairs = list(attributes(thing).items())
    for key, value in pairs:
        if value is not old:
            _replace(value, old, new, depth - 1)
        elif isinstance(thing, MutableMapping | MutableSequence):
            thing[key] = new
        else:
            setattr(thing, key, new)
