"""Reads tables of TOML into dataclasses, and says of what is wrong in them where it stands."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from gradverify.errors import UsageError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A table of a file, as messages name it; of an array of tables the `number`-th."""

    file: Path
    table: str
    number: int = 0

    def wrong(self, message: str) -> NoReturn:
        """Raise UsageError over this table."""
        head = f"[[{self.table}]] no. {self.number}" if self.number else f"[{self.table}]"
        raise UsageError(f"{self.file}: {head} {message}")

    def expected(self, key: str, what: str, value: object) -> NoReturn:
        """Raise UsageError over a value that is not what it has to be."""
        self.wrong(f"{key} = {value!r:.60}: it has to be {what}")


# Reads the value of a key at a place, and what reads the values of all keys of a table.
Kind = Callable[[Any, Place, str], Any]
Kinds = Mapping[str, Kind]


@dataclass(frozen=True)
class Single:
    """Reads a value that is no table: `what` it has to be, how to test that, and how a text that
    stands for it is read."""

    what: str
    test: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value
    read: Callable[[str], Any] = str

    def __call__(self, value: Any, place: Place, key: str) -> Any:
        """Return the value as it is kept; UsageError where it is not what it has to be."""
        if not self.test(value):
            place.expected(key, self.what, value)
        return self.convert(value)

    def of_text(self, text: str) -> Any:
        """Return the value that a variable or an option gives as a text; ValueError says what it
        has to be."""
        with suppress(ValueError):
            if self.test(value := self.read(text)):
                return self.convert(value)
        raise ValueError(self.what)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


TEXT = Single("a text that is not empty", _is_text)
SECONDS = Single(
    "a number of seconds above 0", lambda v: _is_number(v) and 0 < v < float("inf"), float, float
)
SHARE = Single("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1, float, float)
BOOL = Single("true or false", lambda v: type(v) is bool)
DATE = Single("a date without quotes, such as 2030-01-31", lambda v: type(v) is date)


def whole(least: int) -> Single:
    """Return what reads a whole number that is at least `least`."""
    return Single(f"a whole number from {least}", lambda v: type(v) is int and v >= least, read=int)


SEED, JOBS = whole(0), whole(1)


def texts(example: str) -> Single:
    """Return what reads a list of texts, each once."""
    return Single(
        f'a list, such as ["{example}"]',
        lambda v: isinstance(v, list) and all(map(_is_text, v)),
        lambda v: tuple(dict.fromkeys(v)),
    )


def table(cls: type[Any], kinds: Kinds) -> Kind:
    """Return what reads a table."""

    def read(value: Any, place: Place, key: str) -> Any:
        return made(cls, kinds, value, Place(place.file, f"{place.table}.{key}"))

    return read


def tables(cls: type[Any], kinds: Kinds) -> Kind:
    """Return what reads an array of tables."""

    def read(value: Any, place: Place, key: str) -> tuple[Any, ...]:
        inner = f"{place.table}.{key}"
        if not isinstance(value, list):
            place.expected(key, f"a list of tables, each under [[{inner}]]", value)
        places = [Place(place.file, inner, k) for k, _ in enumerate(value, 1)]
        return tuple(made(cls, kinds, *pair) for pair in zip(value, places, strict=True))

    return read


def named_tables(cls: type[Any], kinds: Kinds, base: Any, taken: Mapping[str, Any]) -> Kind:
    """Return what reads tables with names that are not taken; they start from `base`."""

    def read(value: Any, place: Place, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            place.expected(key, f"tables, each under [{place.table}.{key}.NAME]", value)
        found = {}
        for name, inside in value.items():
            inner = Place(place.file, f"{place.table}.{key}.{shown(name)}")
            if name in taken:
                inner.wrong("has a name that is built in: choose another")
            found[name] = made(cls, kinds, inside, inner, {**vars(base), "name": name})
        return found

    return read


def shown(name: str) -> str:
    """Return the name of a table as a message can have it."""
    return name if re.fullmatch(r"[\w-]{1,60}", name) else f"{name!r:.60}"


def made(
    cls: type[T], kinds: Kinds, inside: object, place: Place, base: Mapping[str, Any] | None = None
) -> T:
    """Return what a table says, and `base` or the defaults where it says nothing.

    UsageError for a key that is not known or has another type, and for one that is missing.
    """
    if not isinstance(inside, dict):
        place.wrong(f"is {inside!r:.60}: it has to be a table")
    for key in inside:
        if key not in kinds:
            place.wrong(f"there is no key {key!r}; {nearest(key, kinds)}")
    read = {key: kinds[key](value, place, key) for key, value in inside.items()}
    values = {**(base or {}), **read}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            place.wrong(f"has no {f.name}, which is required")
    return cls(**values)
