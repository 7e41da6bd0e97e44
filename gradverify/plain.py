"""Dataclasses as plain data that JSON can hold, and back, with the place of whatever is wrong."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

# JSON has no nan and no infinity: they are written as text.
NOT_FINITE = ("nan", "inf", "-inf")


def to_plain(value: Any) -> Any:
    """Return dataclasses as dicts, tuples as lists and floats that are not finite as text."""
    return _finite(asdict(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not (-float("inf") < value < float("inf")):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def from_plain(kind: type[T], data: Any, place: str = "") -> T:
    """Return the dataclass that `to_plain` was given; ValueError says what is wrong, and where.

    Keys that are not known are left out: a newer version has added them.
    """
    found: T = _read(kind, data, place)
    return found


def _read(kind: Any, data: Any, place: str) -> Any:
    if get_origin(kind) is UnionType:
        return _any_of([k for k in get_args(kind) if k is not NoneType], data, place)
    if is_dataclass(kind):
        return _object(kind, data, place)
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        items = _checked(data, list, "a list", place)
        return tuple(_read(parts[0], x, f"{place}[{k}]") for k, x in enumerate(items))
    if get_origin(kind) is dict:
        table = _checked(data, dict, "an object", place)
        return {key: _read(get_args(kind)[1], x, f"{place}.{key}") for key, x in table.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            raise ValueError(f"{place} is {_told(data)}, no {kind.__name__.lower()}") from None
    if kind is float:
        if data in NOT_FINITE:
            return float(data)
        return float(_checked(data, (int, float), "a number", place))
    what = {str: "a text", int: "a whole number", bool: "true or false"}[kind]
    return _checked(data, kind, what, place)


def _any_of(kinds: list[Any], data: Any, place: str) -> Any:
    """Return an optional value: None, or of the one type there is."""
    (kind,) = kinds
    return None if data is None else _read(kind, data, place)


def _object(kind: Any, data: Any, place: str) -> Any:
    table = _checked(data, dict, "an object", place)
    types = _types(kind)
    found = {}
    for f in fields(kind):
        if f.name in table:
            inside = f"{place}.{f.name}" if place else f.name
            found[f.name] = _read(types[f.name], table[f.name], inside)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{place or 'the report'} has no {f.name!r}")
    try:
        return kind(**found)
    except ValueError as error:  # what a class asks of its data itself
        raise ValueError(f"{place or 'the report'} {error}") from None


@lru_cache
def _types(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _checked(data: Any, kind: type | tuple[type, ...], what: str, place: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f"{place or 'the report'} is {_told(data)}, not {what}")
    return data


def _told(data: Any) -> str:
    shown = repr(data)
    return shown if len(shown) <= 40 else shown[:37] + "..."
