"""From paths and names to layers: spec files are loaded, each under its real path, once."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from gradverify.errors import GradverifyError, SpecError, UsageError, nearest
from gradverify.layer import Layer, from_registration
from gradverify.spec import REGISTERED, Spec


def spec_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return the Python files under the paths, sorted; UsageError for a path that is not there."""
    found: set[Path] = set()
    for given in paths:
        path = Path(given)
        if path.is_dir():
            inside = path.rglob("*.py")
            found |= {p for p in inside if not _hidden(p.relative_to(path))}
        elif path.suffix == ".py" and path.is_file():
            found.add(path)
        elif path.exists():
            raise UsageError(f"{path} is not a Python file: name a spec file or a folder of them")
        else:
            near = get_close_matches(path.name, _siblings(path), 1)
            hint = f"; did you mean {path.parent / near[0]}?" if near else ""
            raise UsageError(f"{path} does not exist{hint}")
    return sorted(found)


def _hidden(inside: Path) -> bool:
    return any(part.startswith((".", "__")) for part in inside.parts)


def _siblings(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []


def content_hash(path: Path) -> str:
    """Return a hash of a file's bytes, by which a worker knows that it loads the same file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> tuple[Layer, ...]:
    """Execute a spec file and return the layers it registers, by name.

    Raises SpecError, with file and line, for whatever goes wrong in it.
    """
    execute(path)
    file = str(path.resolve())
    entries = [entry for (where, _), entry in REGISTERED.items() if where == file]
    return tuple(from_registration(e) for e in sorted(entries, key=lambda e: e.name))


def execute(path: Path) -> ModuleType:
    """Execute a spec file as a module of its own and return it; SpecError with file and line."""
    real = path.resolve()
    for key in [key for key in REGISTERED if key[0] == str(real)]:
        del REGISTERED[key]
    name = f"gradverify_spec_{hashlib.sha256(str(real).encode()).hexdigest()[:12]}"
    module_spec = importlib.util.spec_from_file_location(name, real)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    # A spec file may import its neighbours, as a script may.
    sys.path.insert(0, str(real.parent))
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SpecError(_import_message(path, real, error)) from None
    finally:
        sys.path.remove(str(real.parent))
    return module


def _import_message(path: Path, real: Path, error: BaseException) -> str:
    """Return file, line and reason of an error in a spec file."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).resolve() == real:
            line = frame.lineno
    place = f"{path}:{line}" if line else str(path)
    if isinstance(error, GradverifyError):
        return f"{place}: {error}"
    remedy = ""
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, ModuleNotFoundError):
        remedy = f" (is {error.name} installed in this environment?)"
    return f"{place}: does not import: {type(error).__name__}: {reason}{remedy}"


def catalogue_folder() -> Path:
    """Return the folder of the shipped catalogue: in the wheel, or beside the package."""
    package = Path(__file__).resolve().parent
    shipped = package / "_catalogue"
    return shipped if shipped.is_dir() else package.parent / "specs"


def catalog(name: str) -> Spec:
    """Return a spec of the shipped catalogue, such as `catalog("batch_norm")`.

    Raises UsageError, with the nearest name, where there is none of that name.
    """
    names = {}
    for path in sorted(catalogue_folder().glob("*.py")):
        # Most files are named like their spec; the others are found by their text.
        names[path.stem] = path
    likely = [names[name]] if name in names else []
    others = [p for p in names.values() if p not in likely and f'"{name}"' in p.read_text("utf-8")]
    for path in (*likely, *others):
        for value in vars(execute(path)).values():
            if isinstance(value, Spec) and value.name == name:
                return value
    raise UsageError(f"the catalogue has no spec {name!r}; {nearest(name, sorted(names))}")
