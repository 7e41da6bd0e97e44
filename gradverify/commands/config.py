"""`gradverify config`: show the settings that count here, and where each comes from."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date
from textwrap import wrap
from typing import Any

from gradverify.config import DEFAULT, IN_FILE, Config, KnownFailure, Override, require_known
from gradverify.options import Command, formats, sampling, settled, timing

# A setting: its key, its value and where that comes from.
Row = tuple[str, Any, str]

# What None says, by the last part of a key.
_NONE = {
    "covering": "all", "dtypes": "all", "seconds": "no budget", "min_power": "no audit",
    "jobs": "one per processor",
}  # fmt: skip


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("config", "show the settings that count here, and where each comes from")
    made.set_defaults(run=run)
    sampling(made)
    timing(made)
    formats(made, "text or json")


def run(options: argparse.Namespace) -> int:
    """Print the settings and return the exit code; UsageError for what is wrong in them."""
    from gradverify.checks.names import NAMES
    from gradverify.declare import DTYPES
    from gradverify.project import named_files
    from gradverify.report.deliver import views, write_views

    wanted = views(options.format, ("text", "json"))
    config = settled(options)
    require_known(config, NAMES, DTYPES)
    named_files(config)
    rows = list(_rows(config))
    write_views(
        lambda name, page: _json(config, rows) if name == "json"
        else _text(config, rows, page.width),
        wanted,
    )  # fmt: skip
    return 0


def _rows(config: Config) -> Iterator[Row]:
    """Yield all settings: of profiles the one that counts and the project's own."""
    for key in ("specs", "modules", "profile", "seed", "timeout", "jobs"):
        yield key, getattr(config, key), config.origin[key]
    for name, profile in {config.chosen.name: config.chosen, **config.profiles}.items():
        for key in ("covering", "drawn", "sampled", "dtypes", "seconds"):
            origin = config.origin.get(f"profiles.{name}.{key}", DEFAULT)
            yield f"profiles.{name}.{key}", getattr(profile, key), origin
    yield from ((f"overrides.{k}", o, IN_FILE) for k, o in enumerate(config.overrides, 1))
    yield from ((f"known_failures.{k}", f, IN_FILE) for k, f in enumerate(config.known_failures, 1))
    for key in (f.name for f in fields(config.gate) if f.name != "unregistered"):
        yield f"gate.{key}", getattr(config.gate, key), config.origin[f"gate.{key}"]
    for k, thing in enumerate(config.gate.unregistered, 1):
        yield f"gate.unregistered.{k}", thing, IN_FILE


def _text(config: Config, rows: Sequence[Row], width: int) -> str:
    """Return the settings as a table, in which long values are wrapped."""
    place = "no pyproject.toml here or above" if config.file is None else str(config.file)
    from gradverify.report.finding import printable

    shown = [("setting", "value", "from")]
    shown += [(printable(k), printable(_shown(k, v)), origin) for k, v, origin in rows]
    keys, origins = (max(len(row[k]) for row in shown) for k in (0, 2))
    room = max(width - keys - origins - 4, 24)
    longest = min(max(len(value) for _, value, _ in shown), room)
    lines = [place, ""]
    for key, value, origin in shown:
        first, *more = wrap(value, longest, break_on_hyphens=False) or [""]
        lines.append(f"{key:<{keys}}  {first:<{longest}}  {origin}")
        lines += [f"{'':<{keys}}  {line}" for line in more]
    return "\n".join(lines) + "\n"


def _shown(key: str, value: Any) -> str:
    """Return a value as a person reads it."""
    match value:
        case None:
            return _NONE[key.rpartition(".")[2]]
        case bool():
            return str(value).lower()
        case ():
            return "none"
        case tuple():
            return ", ".join(value)
        case float():
            return f"{value:g}" + " s" * (key.rpartition(".")[2] in ("seconds", "timeout"))
        case Override():
            told = [f"profile {value.profile}"] * bool(value.profile)
            told += [f"{', '.join(value.ignore)} ignored"] * bool(value.ignore)
            return f"{value.layer}: {'; '.join(told)} ({value.reason})"
        case KnownFailure():
            where = " · ".join(filter(None, (value.layer, value.check, value.tensor)))
            late = "" if value.counts(date.today()) else "EXPIRED, "
            return f"{where}: {late}known until {value.expires} ({value.reason})"
        case _ if hasattr(value, "reason"):
            return f"{value.name} ({value.reason})"
    return str(value)


def _json(config: Config, rows: Sequence[Row]) -> str:
    """Return the settings as JSON text."""
    settings: Mapping[str, Any] = {
        key: {"value": asdict(value) if hasattr(value, "reason") else value, "from": origin}
        for key, value, origin in rows
    }
    data = {
        "root": str(config.root),
        "file": None if config.file is None else os.fspath(config.file),
        "settings": settings,
    }
    return json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n"
