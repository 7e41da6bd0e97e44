"""What pyproject.toml, the environment and options say, as the data that everything else reads."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from gradverify.errors import UsageError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Profile:
    """How much to try: rows of the covering set (None: all), cases that Hypothesis draws after
    it, and how many cases the checks that call the layer many times look at.

    `dtypes` are those to try of what a layer accepts (None: all). After `seconds` for one layer,
    cases that are left of those drawn are left out, and the report says so.
    """

    covering: int | None
    drawn: int
    sampled: int
    dtypes: tuple[str, ...] | None = None
    seconds: float | None = None
    name: str = "custom"

    def __post_init__(self) -> None:
        for key in ("covering", "drawn", "sampled", "seconds"):
            if (value := getattr(self, key)) is not None and value < 0:
                raise UsageError(f"Profile({key}={value}): it has to be 0 or more")


PROFILES: Mapping[str, Profile] = {
    "quick": Profile(14, 0, 6, name="quick"),
    "default": Profile(None, 25, 24, name="default"),
    "thorough": Profile(None, 400, 120, name="thorough"),
}


@dataclass(frozen=True)
class Override:
    """What is different for the layers whose names the glob `layer` matches, and the reason."""

    layer: str
    reason: str
    profile: str | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownFailure:
    """A failure that is expected of layers (a glob), until the day after `expires`.

    `check` and `tensor` narrow it (None: any).
    """

    layer: str
    reason: str
    expires: date
    check: str | None = None
    tensor: str | None = None

    def counts(self, today: date) -> bool:
        """Whether it has not expired."""
        return today <= self.expires


@dataclass(frozen=True)
class Unregistered:
    """Something that looks like a layer, `module:name`, and may stay unregistered."""

    name: str
    reason: str


@dataclass(frozen=True)
class GatePolicy:
    """What the gate demands: see the table of [tool.gradverify.gate] in the README."""

    paths: tuple[str, ...] = ()
    base_classes: tuple[str, ...] = ()
    record: str = "gradverify-layers.txt"
    require: tuple[str, ...] = ()
    require_definition: bool = False
    min_power: float | None = None
    unregistered: tuple[Unregistered, ...] = ()


@dataclass(frozen=True)
class OfLayer:
    """What is asked of one layer: the reasons of checks that are `ignored`, and what to remark."""

    profile: Profile
    ignored: Mapping[str, str]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """The settings of a project. Paths in it are relative to `root`, the folder of `file`.

    `timeout` is in seconds for each layer and `jobs` the number of processes (None: one per
    processor). `origin` says of each key, such as "seed" or "gate.record", where its value comes
    from: "default", "pyproject.toml", an environment variable or an option.
    """

    root: Path
    file: Path | None = None
    specs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    profile: str = "default"
    seed: int = 0
    timeout: float = 300.0
    jobs: int | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    known_failures: tuple[KnownFailure, ...] = ()
    gate: GatePolicy = field(default_factory=GatePolicy)
    origin: Mapping[str, str] = field(default_factory=dict)

    def given(self, **options: tuple[str, object | None]) -> "Config":
        """Return the settings with those options that are not None: `seed=("--seed", 7)`."""
        told = {key: pair for key, pair in options.items() if pair[1] is not None}
        values: dict[str, Any] = {key: value for key, (_, value) in told.items()}
        origin = {**self.origin, **{key: option for key, (option, _) in told.items()}}
        return replace(self, **values, origin=origin)

    @property
    def chosen(self) -> Profile:
        """The profile that is asked for; UsageError where there is none of that name."""
        return self.profile_named(self.profile, self._place("profile"))

    def profile_named(self, name: str, place: str = "") -> Profile:
        """Return a profile, built in or the project's own; UsageError says the place of the name
        and the nearest one."""
        known = {**PROFILES, **self.profiles}
        if name not in known:
            head = f"{place}: " if place else ""
            raise UsageError(f"{head}there is no profile {name!r}; {nearest(name, known)}")
        return known[name]

    def of_layer(self, layer: str, selected: Iterable[str] = ()) -> "OfLayer":
        """Return what is asked of a layer.

        Overrides stand in the file: a profile of the environment or of an option goes before
        theirs, and so do the checks that an option has `selected`.
        """
        profile, ignored, remarks = self.chosen, dict[str, str](), list[str]()
        for override in self.overrides:
            if not fnmatchcase(layer, override.layer):
                continue
            if override.profile and self.origin.get("profile") in (None, DEFAULT, IN_FILE):
                profile = self.profile_named(override.profile, "overrides")
                remarks.append(f"profile {profile.name}: {override.reason}")
            checks = [check for check in override.ignore if check not in selected]
            ignored |= dict.fromkeys(checks, override.reason)
            if checks:
                remarks.append(f"{', '.join(checks)} ignored: {override.reason}")
        return OfLayer(profile, ignored, tuple(remarks))

    def _place(self, key: str) -> str:
        origin = self.origin.get(key, "default")
        return f"{self.file}: [tool.gradverify] {key}" if origin == IN_FILE else origin


# The origins of values that are not variables or options.
DEFAULT, IN_FILE = "default", "pyproject.toml"
_VARIABLES = {
    "GRADVERIFY_PROFILE": "profile",
    "GRADVERIFY_SEED": "seed",
    "GRADVERIFY_TIMEOUT": "timeout",
    "GRADVERIFY_JOBS": "jobs",
}


def read_config(start: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the settings of the nearest pyproject.toml from `start` upwards, and those of the
    environment, which go before them; a variable that is empty says nothing.

    UsageError, with file, key and remedy, for what cannot be read, unknown keys and wrong types.
    """
    folder = start.resolve()
    files = (d / "pyproject.toml" for d in (folder, *folder.parents))
    file = next((f for f in files if f.is_file()), None)
    root = folder if file is None else file.parent
    table = {} if file is None else _our_table(file)
    origin = dict(_origins(table))
    config = Config(root, file, origin=origin)
    if file is not None and table:
        config = _made(Config, table, _Place(file, "tool.gradverify"), vars(config))
        _check_profiles(config)
    for variable, key in _VARIABLES.items():
        if text := environment.get(variable):
            config = config.given(**{key: (variable, _from_text(key, text, variable))})
    return config


def _origins(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where each key's value comes from, as far as the file says; those in tables dotted."""
    inner = [("gate", _KINDS[GatePolicy], table.get("gate"))]
    profiles = table.get("profiles")
    for name, profile in profiles.items() if isinstance(profiles, dict) else ():
        inner.append((f"profiles.{name}", _KINDS[Profile], profile))
    for head, kinds, given in (("", _KINDS[Config], table), *inner):
        for key in kinds:
            there = isinstance(given, dict) and key in given
            yield f"{head}.{key}".lstrip("."), IN_FILE if there else DEFAULT


def require_known(config: Config, checks: Iterable[str], dtypes: Iterable[str]) -> None:
    """Raise UsageError where the settings name a check or a dtype that is none of these.

    Whoever knows them asks for this; here nothing is imported that is slow.
    """
    checks, dtypes = tuple(checks), tuple(dtypes)
    head = f"{config.file}: "
    named = [
        *(("check", checks, f"[[tool.gradverify.overrides]] no. {k} ignore", o.ignore)
          for k, o in enumerate(config.overrides, 1)),
        *(("check", checks, f"[[tool.gradverify.known_failures]] no. {k} check", (f.check,))
          for k, f in enumerate(config.known_failures, 1) if f.check),
        ("check", checks, "[tool.gradverify.gate] require", config.gate.require),
        *(("dtype", dtypes, f"[tool.gradverify.profiles.{p.name}] dtypes", p.dtypes or ())
          for p in config.profiles.values()),
    ]  # fmt: skip
    for what, known, place, names in named:
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{head}{place}: there is no {what} {name!r}; {nearest(name, known)}"
                )


def require_matches(config: Config, layers: Iterable[str]) -> None:
    """Raise UsageError where an override matches none of the layers, all of a project."""
    names = sorted(set(layers))
    for k, override in enumerate(config.overrides, 1):
        if not any(fnmatchcase(name, override.layer) for name in names):
            raise UsageError(
                f"{config.file}: [[tool.gradverify.overrides]] no. {k} layer = "
                f"{override.layer!r} matches no layer; {nearest(override.layer, names)}"
            )


def _our_table(file: Path) -> dict[str, Any]:
    """Return [tool.gradverify] of a file; {} where it has none."""
    try:
        raw = file.read_bytes()
        if b"gradverify" not in raw:
            return {}
        import tomllib  # not needed where gradverify is installed but unused

        tool = tomllib.loads(raw.decode("utf-8")).get("tool")
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    table = tool.get("gradverify", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        _Place(file, "tool").expected("gradverify", "a table: [tool.gradverify]", table)
    return table


def _check_profiles(config: Config) -> None:
    """Raise UsageError where the file names a profile that there is not, or changes nothing."""
    config.profile_named(config.profile, config._place("profile"))
    for k, override in enumerate(config.overrides, 1):
        place = f"{config.file}: [[tool.gradverify.overrides]] no. {k}"
        if override.profile is not None:
            config.profile_named(override.profile, f"{place} profile")
        elif not override.ignore:
            raise UsageError(f"{place} changes nothing: give it a profile, or checks to ignore")


@dataclass(frozen=True)
class _Place:
    """A table of a file, as messages name it; of an array of tables the `number`-th."""

    file: Path
    table: str
    number: int = 0

    def wrong(self, message: str) -> NoReturn:
        head = f"[[{self.table}]] no. {self.number}" if self.number else f"[{self.table}]"
        raise UsageError(f"{self.file}: {head} {message}")

    def expected(self, key: str, what: str, value: object) -> NoReturn:
        self.wrong(f"{key} = {value!r:.60}: it has to be {what}")


# Reads the value of a key at a place.
_Kind = Callable[[Any, _Place, str], Any]


def _made(cls: type[T], table: object, place: _Place, base: Mapping[str, Any] | None = None) -> T:
    """Return what a table says, and `base` or the defaults where it says nothing."""
    kinds = _KINDS[cls]
    if not isinstance(table, dict):
        place.wrong(f"is {table!r:.60}: it has to be a table")
    for key in table:
        if key not in kinds:
            place.wrong(f"there is no key {key!r}; {nearest(key, kinds)}")
    read = {key: kinds[key](value, place, key) for key, value in table.items()}
    values = {**(base or {}), **read}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            place.wrong(f"has no {f.name}, which is required")
    return cls(**values)


@dataclass(frozen=True)
class _Is:
    """Reads a single value: `what` it has to be, and how to test that."""

    what: str
    test: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value

    def __call__(self, value: Any, place: _Place, key: str) -> Any:
        if not self.test(value):
            place.expected(key, self.what, value)
        return self.convert(value)


def _whole(least: int) -> _Is:
    return _Is(f"a whole number from {least}", lambda v: type(v) is int and v >= least)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(example: str) -> _Kind:
    def kind(value: Any, place: _Place, key: str) -> tuple[str, ...]:
        if not (isinstance(value, list) and all(map(_is_text, value))):
            place.expected(key, f'a list, such as ["{example}"]', value)
        return tuple(dict.fromkeys(value))

    return kind


def _table(cls: type[Any]) -> _Kind:
    def kind(value: Any, place: _Place, key: str) -> Any:
        return _made(cls, value, _Place(place.file, f"{place.table}.{key}"))

    return kind


def _tables(cls: type[Any]) -> _Kind:
    def kind(value: Any, place: _Place, key: str) -> tuple[Any, ...]:
        inner = f"{place.table}.{key}"
        if not isinstance(value, list):
            place.expected(key, f"a list of tables, each under [[{inner}]]", value)
        return tuple(_made(cls, x, _Place(place.file, inner, k)) for k, x in enumerate(value, 1))

    return kind


def _profiles(value: Any, place: _Place, key: str) -> dict[str, Profile]:
    if not isinstance(value, dict):
        place.expected(key, f"tables, each under [{place.table}.{key}.NAME]", value)
    found = {}
    for name, table in value.items():
        inner = _Place(place.file, f"{place.table}.{key}.{name}")
        if name in PROFILES:
            inner.wrong("has the name of a profile that is built in: choose another")
        found[name] = _made(Profile, table, inner, {**vars(PROFILES["default"]), "name": name})
    return found


_TEXT = _Is("a text that is not empty", _is_text)
_SECONDS = _Is(
    "a number of seconds above 0", lambda v: _is_number(v) and 0 < v < float("inf"), float
)
_SHARE = _Is("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1, float)
_BOOL = _Is("true or false", lambda v: type(v) is bool)
_DATE = _Is("a date without quotes, such as 2030-01-31", lambda v: type(v) is date)
_CHECKS = _texts("exact")

# What the keys of each table are, and how their values are read.
_KINDS: Mapping[type[Any], Mapping[str, _Kind]] = {
    Profile: {
        "covering": _whole(1), "drawn": _whole(0), "sampled": _whole(1),
        "dtypes": _texts("float64"), "seconds": _SECONDS,
    },
    Override: {"layer": _TEXT, "profile": _TEXT, "ignore": _CHECKS, "reason": _TEXT},
    KnownFailure: {"layer": _TEXT, "check": _TEXT, "tensor": _TEXT, "reason": _TEXT,
                   "expires": _DATE},
    Unregistered: {"name": _TEXT, "reason": _TEXT},
    GatePolicy: {
        "paths": _texts("mylib"), "base_classes": _texts("mylib.base.Layer"), "record": _TEXT,
        "require": _CHECKS, "require_definition": _BOOL,
        "min_power": _SHARE, "unregistered": _tables(Unregistered),
    },
    Config: {
        "specs": _texts("specs"), "modules": _texts("mylib.layers"), "profile": _TEXT,
        "seed": _whole(0), "timeout": _SECONDS, "jobs": _whole(1), "profiles": _profiles,
        "overrides": _tables(Override), "known_failures": _tables(KnownFailure),
        "gate": _table(GatePolicy),
    },
}  # fmt: skip


def _from_text(key: str, text: str, variable: str) -> Any:
    """Return the value of a key that the environment gives as text."""
    kind = _KINDS[Config][key]
    assert isinstance(kind, _Is)
    try:
        value = {"profile": str, "timeout": float}.get(key, int)(text)
    except ValueError:
        value = text
    if not kind.test(value):
        raise UsageError(f"{variable}={text}: it has to be {kind.what}")
    return kind.convert(value)
