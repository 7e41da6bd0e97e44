"""Which layers files register, and which of them are meant: what verify, list and replay choose."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gradverify.errors import UsageError, nearest


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


def try_case(path: str, layer: str, case: str) -> None:
    """Raise UsageError where a line is no case of a layer."""
    from gradverify.cases import parse_case
    from gradverify.loading import load

    for found in load(Path(path)):
        if found.name == layer:
            parse_case(case, found.spec)


def files_under(paths: Sequence[str]) -> list[str]:
    """Return the spec files under the paths, or under those that pyproject.toml names."""
    from gradverify.loading import spec_files

    for path in paths:
        if "::" in path:
            file, _, layer = path.partition("::")
            raise UsageError(f"{path}: PATH is a file or a folder; write {file} --layer {layer}")
    given = paths or _configured()
    try:
        files = {path.resolve(): str(path) for path in spec_files(given)}  # each once
    except UsageError as error:
        raise error if paths else UsageError(f"[tool.gradverify] specs: {error}") from None
    if not files:
        raise UsageError(f"nothing matched: there is no Python file in {', '.join(given)}")
    return sorted(files.values())


def _configured() -> list[str]:
    """Return `[tool.gradverify] specs` of the nearest pyproject.toml, relative to here."""
    import tomllib

    here = Path.cwd()
    file = next((f for d in (here, *here.parents) if (f := d / "pyproject.toml").is_file()), None)
    table: object = {}
    if file is not None:
        try:
            table = tomllib.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read: {error}") from None
    for key in ("tool", "gradverify", "specs"):
        table = table.get(key) if isinstance(table, dict) else None
    if file is None or table is None:
        raise UsageError(
            "nothing matched: name a PATH, such as `gradverify verify specs`, or write "
            '[tool.gradverify] specs = ["specs"] in pyproject.toml'
        )
    if not (isinstance(table, list) and table and all(isinstance(s, str) for s in table)):
        raise UsageError(f'{file}: [tool.gradverify] specs is a list: write specs = ["specs"]')
    return [os.path.relpath(file.parent / spec) for spec in table]


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


def meant(targets: Sequence[str]) -> tuple[list[str], Callable[[Sequence[Found]], list[Found]]]:
    """Return the files of targets, PATH, PATH::LAYER or a spec of the catalogue, and what chooses
    their layers; without targets, the files that pyproject.toml names and all layers."""
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
    files = files_under(paths)

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
