"""How a function is called that has its own names and order for what a spec declares."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gradverify.errors import few
from gradverify.layer import ConventionError


@dataclass(frozen=True)
class Arguments:
    """What a function is called with, and the names of what it is given in its own order."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    order: tuple[str, ...]


def arranged(
    function: Callable[..., Any],
    tensors: Mapping[str, Any],
    constants: Mapping[str, Any],
    remedy: str,
) -> Arguments:
    """Return the arguments with which a function is called.

    What it has a parameter for of the same name, in capitals or not, goes there. Other tensors
    take the parameters that are left, in order; other constants go by name, where it takes any.
    Raises ConventionError, which ends with the remedy, where something has no place.
    """
    signature = signature_of(function)
    if signature is None:  # compiled code
        return Arguments(tuple(tensors.values()), dict(constants), tuple(tensors))
    kinds = inspect.Parameter
    own = {p.name: p for p in signature.parameters.values()}
    listed = next((p.name for p in own.values() if p.kind is kinds.VAR_POSITIONAL), None)
    mapped = next((p.name for p in own.values() if p.kind is kinds.VAR_KEYWORD), None)
    free = [name for name in own if name not in (listed, mapped)]
    told = f"{name_of(function)}{signature}"
    found: dict[str, Any] = {}
    names: dict[str, list[str]] = {}
    left: dict[str, Any] = {}
    for name, value in {**tensors, **constants}.items():
        if (parameter := alike(name, free)) is not None:
            found[parameter] = value
            names[parameter] = [name]
            free.remove(parameter)
        else:
            left[name] = value
    # What is a number or a text where nobody gives it is no tensor.
    by_position = [
        name for name in free if own[name].kind is not kinds.KEYWORD_ONLY
        and not isinstance(own[name].default, float | int | str)
    ]  # fmt: skip
    for name, value in left.items():
        if name in tensors and by_position:
            parameter = by_position.pop(0)
            found[parameter] = value
            names[parameter] = [name]
            free.remove(parameter)
        elif name in tensors and listed:
            found.setdefault(listed, ())
            found[listed] += (value,)
            names.setdefault(listed, []).append(name)
        elif mapped:
            found.setdefault(mapped, {})[name] = value
            names.setdefault(mapped, []).append(name)
        else:
            raise ConventionError("convention", f"{told} takes no argument for {name}: {remedy}")
    needed = [name for name in free if own[name].default is kinds.empty]
    if needed:
        raise ConventionError(
            "convention",
            f"{told} needs {', '.join(needed)}, and what is declared is "
            f"{few([*tensors, *constants], 12)}: {remedy}",
        )
    bound = inspect.BoundArguments(signature, {k: found[k] for k in own if k in found})
    order = tuple(name for k in own for name in names.get(k, ()))
    return Arguments(bound.args, bound.kwargs, order)


def alike(name: str, known: list[str]) -> str | None:
    """Return the same name among known ones, or the only one that is so in other capitals."""
    if name in known:
        return name
    others = [k for k in known if k.casefold() == name.casefold()]
    return others[0] if len(others) == 1 else None


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return what a function takes, without self; None where nobody can know, as of compiled
    code."""
    own = getattr(function, "__func__", None)
    if own is None:
        return _signature(function)
    signature = _signature(own)
    if signature is None:
        return None
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@lru_cache(maxsize=256)  # a layer is called thousands of times
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def name_of(function: Callable[..., Any]) -> str:
    """Return how a function is called in a message."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
