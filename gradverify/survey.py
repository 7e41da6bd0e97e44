"""Which layers files register, and which of them are meant: what verify, list and replay choose."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from gradverify.config import Config
from gradverify.errors import UsageError, complain, nearest
from gradverify.project import named_files, spec_files, strays

if TYPE_CHECKING:
    from gradverify.jobs import Job
    from gradverify.workers import WorkerDied, WorkerTimeout


@dataclass(frozen=True)
class Found:
    """A layer that a file registers, as far as it must be known to choose and to list it."""

    path: str
    digest: str
    layer: str
    spec: str
    location: str
    params: str


def look(path: str) -> tuple[Found, ...]:
    """Load a spec file and return what it registers; SpecError for whatever goes wrong in it."""
    from gradverify.loading import content_hash, load

    layers = load(Path(path))
    digest = content_hash(Path(path))
    return tuple(
        Found(path, digest, layer.name, layer.spec.name, layer.location,
              ", ".join(f"{p} {layer.spec.shape_text(p)}" for p in layer.spec.params))
        for layer in layers
    )  # fmt: skip


def died(file: str | Path, error: "WorkerDied | WorkerTimeout") -> str:
    """Return what is known of the end of a process that only loaded a file."""
    from gradverify.workers import last_words

    line, said = last_words(error.output, str(file))
    place = f"{file}:{line}" if line else file
    printed = "; it printed:\n" + indent(said, "    ") if said else ""
    return f"{place}: does not import: {error}{printed}"


def job_for(
    found: Found,
    config: Config,
    checks: Sequence[str],
    selected: Sequence[str] = (),
    case: str | None = None,
    since: str | None = None,
    *,
    evidence: bool = False,
) -> "Job":
    """Return the work of judging a layer, as the settings have it."""
    from gradverify.jobs import Job

    own = config.of_layer(found.layer, selected)
    asked = tuple(c for c in checks if c not in own.ignored)
    return Job(found.path, found.digest, found.layer, own.profile, asked, config.seed, case,
               ignored=tuple(own.ignored.items()), remarks=own.remarks, since=since,
               evidence=evidence)  # fmt: skip


def try_case(path: str, layer: str, case: str, since: str | None) -> None:
    """Raise UsageError where a line is no case of a layer, and say so if the layer has changed."""
    from gradverify.again import changes
    from gradverify.cases import parse_case
    from gradverify.loading import load

    for found in load(Path(path)):
        if found.name == layer:
            try:
                parse_case(case, found.spec)
            except UsageError as error:
                told = () if since is None else changes(found, since)
                raise UsageError("\n".join((str(error), *told))) from None


def files_under(paths: Sequence[str], config: Config) -> list[str]:
    """Return the spec files under the paths, or those that the settings name: specs, modules."""
    for path in paths:
        if "::" in path and not os.path.exists(path):
            file, _, layer = path.partition("::")
            raise UsageError(f"{path}: PATH is a file or a folder; write {file} --layer {layer}")
    if not (paths or config.specs or config.modules):
        raise UsageError(
            "nothing matched: name a PATH, such as `gradverify verify specs`, or write "
            '[tool.gradverify] specs = ["specs"] in pyproject.toml'
        )
    if paths:
        found = spec_files(paths, config.root)
        if not found:
            raise UsageError(f"nothing matched: there is no Python file in {', '.join(paths)}")
    else:
        found = [Path(os.path.relpath(file)) for file in named_files(config)]
    for stray in strays(paths or [config.root / spec for spec in config.specs], config.root):
        complain(f"note: {stray} is a link out of the project: it is loaded only where it is named")
    return sorted({path.resolve(): str(path) for path in found}.values())  # each once


def by_glob(globs: Sequence[str]) -> Callable[[Sequence[Found]], list[Found]]:
    """Return what chooses the layers that a glob matches; UsageError where one matches none."""

    def choose(found: Sequence[Found]) -> list[Found]:
        names = sorted({f.layer for f in found})
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                raise UsageError(f"--layer {glob!r} matches nothing; {nearest(glob, names)}")
        return [f for f in found if not globs or any(fnmatchcase(f.layer, g) for g in globs)]

    return choose


def by_name(name: str) -> Callable[[Sequence[Found]], list[Found]]:
    """Return what chooses the one layer of that name; UsageError where there is none."""

    def choose(found: Sequence[Found]) -> list[Found]:
        chosen = [f for f in found if f.layer == name]
        if not chosen:
            hint = nearest(name, [f.layer for f in found])
            raise UsageError(f"{found[0].path} registers no layer {name!r}; {hint}")
        return chosen

    return choose


def meant(
    targets: Sequence[str], config: Config
) -> tuple[list[str], Callable[[Sequence[Found]], list[Found]]]:
    """Return the files of targets, PATH, PATH::LAYER or a spec of the catalogue, and what chooses
    their layers; without targets, the files that the settings name and all layers."""
    from gradverify.loading import catalog

    paths, wanted = [], []
    for target in targets:
        path, _, layer = target.partition("::")
        if layer or path.endswith(".py") or os.path.exists(path):
            paths.append(path)
            wanted.append((path, layer, ""))
        else:
            spec = catalog(path)
            file = os.path.relpath(spec.location.rpartition(":")[0])
            paths.append(file)
            wanted.append((file, "", spec.name))
    files = files_under(paths, config)

    def choose(found: Sequence[Found]) -> list[Found]:
        chosen: dict[Found, None] = {}
        for path, layer, spec in wanted or [(os.curdir, "", "")]:
            inside = [f for f in found if not wanted or _is_under(f.path, path)]
            mine = [f for f in inside if f.layer == (layer or f.layer)
                    and f.spec == (spec or f.spec)]  # fmt: skip
            if not mine and layer:
                hint = nearest(layer, [f.layer for f in inside])
                raise UsageError(f"{path} registers no layer {layer!r}; {hint}")
            chosen |= dict.fromkeys(mine)
        return list(chosen)

    return files, choose


def _is_under(file: str, path: str) -> bool:
    return Path(file).resolve().is_relative_to(Path(path).resolve())
