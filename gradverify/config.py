"""What pyproject.toml, the environment and options say, as the data that everything else reads."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gradverify.errors import UsageError, nearest
from gradverify.tables import (
    BOOL,
    DATE,
    JOBS,
    SECONDS,
    SEED,
    SHARE,
    TEXT,
    Kinds,
    Place,
    made,
    named_tables,
    shown,
    table,
    tables,
    texts,
    whole,
)


@dataclass(frozen=True)
class Profile:
    """How much to try: rows of the covering set (None: all), cases that Hypothesis draws after
    it, and how many cases the checks that call the layer many times look at.

    A check that so many rows do not suffice for is asked at others, up to three times as many.

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

    def covers(self, check: str, tensor: str | None) -> bool:
        """Whether it is that of a check that fails, of a tensor or (None) as a whole."""
        return self.check in (None, check) and self.tensor in (None, tensor)

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
    """What the gate demands of the layers of a project: [tool.gradverify.gate]."""

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
        """The profile that is asked for; UsageError where there is none of that name, or no time
        for it."""
        return self._with_time(self.profile_named(self.profile, self._place("profile")))

    def _with_time(self, profile: Profile) -> Profile:
        """Return a profile; UsageError where a layer is stopped before its time is over."""
        if profile.seconds is not None and profile.seconds >= self.timeout:
            raise UsageError(
                f"{self._place('timeout')}: a layer would be stopped after {self.timeout:g} s, "
                f"before the {profile.seconds:g} s of profile {profile.name!r} are over"
            )
        return profile

    def profile_named(self, name: str, place: str = "") -> Profile:
        """Return a profile, built in or the project's own; UsageError says the place of the name
        and the nearest one."""
        known = {**PROFILES, **self.profiles}
        if name not in known:
            head = f"{place}: " if place else ""
            raise UsageError(f"{head}there is no profile {name!r}; {nearest(name, known)}")
        return known[name]

    def of_layer(self, layer: str, selected: Iterable[str] = ()) -> "OfLayer":
        """Return what is asked of a layer; of the profiles that overrides name the last counts.
        UsageError where there is no time for it.

        Overrides stand in the file: a profile of the environment or of an option goes before
        theirs, and so do the checks that an option has `selected`.
        """
        profile, ignored, remarks = self.chosen, dict[str, str](), list[str]()
        mine = [o for o in self.overrides if fnmatchcase(layer, o.layer)]
        if self.origin.get("profile", DEFAULT) in (DEFAULT, IN_FILE):
            for override in [o for o in mine if o.profile][-1:]:
                profile = self._with_time(self.profile_named(str(override.profile), "overrides"))
                remarks.append(f"profile {profile.name}: {override.reason}")
        for override in mine:
            if checks := [check for check in override.ignore if check not in selected]:
                ignored |= dict.fromkeys(checks, override.reason)
                remarks.append(f"{', '.join(checks)} ignored: {override.reason}")
        return OfLayer(profile, ignored, tuple(remarks))

    def _place(self, key: str) -> str:
        origin = self.origin.get(key, DEFAULT)
        return {DEFAULT: key, IN_FILE: f"{self.file}: [tool.gradverify] {key}"}.get(origin, origin)


# The origins of values that are not variables or options.
DEFAULT, IN_FILE = "default", "pyproject.toml"


# What reads the keys of each table.
_PROFILE: Kinds = {
    "covering": whole(1), "drawn": whole(0), "sampled": whole(1), "dtypes": texts("float64"),
    "seconds": SECONDS,
}  # fmt: skip
_OVERRIDE: Kinds = {"layer": TEXT, "profile": TEXT, "ignore": texts("exact"), "reason": TEXT}
_KNOWN_FAILURE: Kinds = {
    "layer": TEXT, "check": TEXT, "tensor": TEXT, "reason": TEXT, "expires": DATE,
}  # fmt: skip
_GATE: Kinds = {
    "paths": texts("mylib"), "base_classes": texts("mylib.base.Layer"), "record": TEXT,
    "require": texts("exact"), "require_definition": BOOL, "min_power": SHARE,
    "unregistered": tables(Unregistered, {"name": TEXT, "reason": TEXT}),
}  # fmt: skip
_SETTINGS: Kinds = {
    "specs": texts("specs"), "modules": texts("mylib.layers"), "profile": TEXT, "seed": SEED,
    "timeout": SECONDS, "jobs": JOBS,
    "profiles": named_tables(Profile, _PROFILE, PROFILES["default"], PROFILES),
    "overrides": tables(Override, _OVERRIDE),
    "known_failures": tables(KnownFailure, _KNOWN_FAILURE),
    "gate": table(GatePolicy, _GATE),
}  # fmt: skip
# The variables of the environment, and the key that each goes before.
_VARIABLES = {
    "GRADVERIFY_PROFILE": ("profile", TEXT),
    "GRADVERIFY_SEED": ("seed", SEED),
    "GRADVERIFY_TIMEOUT": ("timeout", SECONDS),
    "GRADVERIFY_JOBS": ("jobs", JOBS),
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
    found = {} if file is None else _our_table(file)
    config = Config(root, file, origin=dict(_origins(found)))
    if file is not None and found:
        config = made(Config, _SETTINGS, found, Place(file, "tool.gradverify"), vars(config))
        _check_overrides(config)
    for variable, (key, kind) in _VARIABLES.items():
        if text := environment.get(variable):
            try:
                config = config.given(**{key: (variable, kind.of_text(text))})
            except ValueError as what:
                raise UsageError(f"{variable}={text!r:.60}: it has to be {what}") from None
    return config


def _origins(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where each key's value comes from, as far as the file says; those in tables dotted."""
    inner = [("gate", _GATE, found.get("gate"))]
    profiles = found.get("profiles")
    for name, profile in profiles.items() if isinstance(profiles, dict) else ():
        inner.append((f"profiles.{name}", _PROFILE, profile))
    for head, kinds, given in (("", _SETTINGS, found), *inner):
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
        *(("dtype", dtypes, f"[tool.gradverify.profiles.{shown(p.name)}] dtypes", p.dtypes or ())
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
    found = tool.get("gradverify", {}) if isinstance(tool, dict) else {}
    if not isinstance(found, dict):
        Place(file, "tool").expected("gradverify", "a table: [tool.gradverify]", found)
    return found


def _check_overrides(config: Config) -> None:
    """Raise UsageError where the file names a profile that there is not, or changes nothing."""
    config.profile_named(config.profile, config._place("profile"))
    for k, override in enumerate(config.overrides, 1):
        place = f"{config.file}: [[tool.gradverify.overrides]] no. {k}"
        if override.profile is not None:
            config.profile_named(override.profile, f"{place} profile")
        elif not override.ignore:
            raise UsageError(f"{place} changes nothing: give it a profile, or checks to ignore")
