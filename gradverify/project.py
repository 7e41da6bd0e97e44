"""From the settings of a project to its files: what specs and modules name, and as what module a
file is imported. Nothing is imported or executed here."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gradverify.config import Config, read_config
from gradverify.errors import UsageError, nearest


def spec_files(paths: Iterable[str | Path], root: Path | None = None) -> list[Path]:
    """Return the Python files under the paths, sorted; UsageError for a path that is not there.

    What a folder holds that is a link out of it, and out of the project whose `root` is given, is
    left out: see `strays`.
    """
    found: set[Path] = set()
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found |= {p for p in _inside(path) if _stays(p, path, root)}
        elif path.suffix == ".py" and path.is_file():
            found.add(path)
        elif path.exists():
            raise UsageError(f"{path} is not a Python file: name a spec file or a folder of them")
        else:
            from difflib import get_close_matches  # not needed until something is wrong

            near = get_close_matches(path.name, _siblings(path), 1)
            hint = f"; did you mean {path.parent / near[0]}?" if near else ""
            raise UsageError(f"{path} does not exist{hint}")
    return sorted(found)


def strays(paths: Iterable[str | Path], root: Path) -> list[Path]:
    """Return the files in folders of `paths` that lead out of the project and are not named."""
    named = [Path(given) for given in paths]
    folders = [path for path in named if path.is_dir()]
    found = {p for f in folders for p in _inside(f) if not _stays(p, f, root)}
    return sorted(found - set(named))


def named_files(config: Config) -> list[Path]:
    """Return the files that the settings name, specs and modules; none where they name nothing.

    UsageError for a name that stands for no file.
    """
    specs = [config.root / spec for spec in config.specs]
    try:
        found = spec_files(specs, config.root)
    except UsageError as error:
        raise UsageError(f"{config.file}: [tool.gradverify] specs: {error}") from None
    if specs and not found:
        raise UsageError(
            f"{config.file}: [tool.gradverify] specs: there is no Python file in "
            f"{', '.join(config.specs)}"
        )
    return sorted({*found, *module_files(config)})


def module_files(config: Config) -> list[Path]:
    """Return the files of the modules that are configured, of a package those of all its modules.

    UsageError for a module that is in neither the root of the project nor its `src`.
    """
    return [file for name in config.modules for file in _files_of(name, config)]


def module_of(file: Path) -> tuple[str, Path] | None:
    """Return the name of the configured module that a file is, and the folder that has to be
    importable for it; None where it is none, which is executed on its own."""
    real = file.resolve()
    config = read_config(real.parent, {})
    for folder in _folders(config) if config.modules else ():
        if real.is_relative_to(folder):
            parts = real.relative_to(folder).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if any(f"{name}.".startswith(f"{module}.") for module in config.modules):
                return name, folder
    return None


def importable(file: Path) -> tuple[Path, ...]:
    """Return the folders that a spec file may import its project from, none where pyproject.toml
    configures neither specs nor modules."""
    config = read_config(file.resolve().parent, {})
    return _folders(config) if config.specs or config.modules else ()


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the Python files that a folder is searched for."""
    for path in folder.rglob("*.py"):
        if not _hidden(path.relative_to(folder)):
            yield path


def _hidden(inside: Path) -> bool:
    return any(part.startswith((".", "__")) for part in inside.parts)


def _stays(file: Path, folder: Path, root: Path | None) -> bool:
    """Whether a file that was found in a folder is not a link to somewhere else."""
    if not file.is_symlink():  # links to folders are not followed
        return True
    real = file.resolve()
    return any(real.is_relative_to(f.resolve()) for f in (folder, root) if f is not None)


def _siblings(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []


def _folders(config: Config) -> tuple[Path, Path]:
    """Return the folders that modules of a project are imported from."""
    return config.root / "src", config.root


def _files_of(name: str, config: Config) -> list[Path]:
    place = f"{config.file}: [tool.gradverify] modules"
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UsageError(f"{place}: {name!r} is not the name of a module, such as mylib.layers")
    for folder in _folders(config):
        base = folder.joinpath(*parts)
        if (file := base.with_suffix(".py")).is_file():
            return [file]
        package = (p for p in base.rglob("__init__.py") if not _hidden(p.parent.relative_to(base)))
        if found := sorted({*_inside(base), *package}):
            return [file for file in found if _stays(file, base, config.root)]
    where = "src and " if (config.root / "src").is_dir() else ""
    known = sorted(set(_names_beside(parts, config)))
    hint = f"; {nearest(name, known)}" if known else ""
    raise UsageError(f"{place}: there is no module {name} in {where}{config.root}{hint}")


def _names_beside(parts: list[str], config: Config) -> Iterator[str]:
    """Yield the names of the modules where one was looked for."""
    for folder in _folders(config):
        inside = folder.joinpath(*parts[:-1])
        for path in inside.iterdir() if inside.is_dir() else ():
            if path.stem.isidentifier() and (path.suffix == ".py" or any(path.glob("*.py"))):
                yield ".".join([*parts[:-1], path.stem])
