"""From files to layers: spec files are executed and modules imported, each under its real path."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from gradverify.errors import GradverifyError, SpecError, UsageError, nearest
from gradverify.layer import Layer, from_registration
from gradverify.project import importable, module_of
from gradverify.spec import REGISTERED, Spec


def content_hash(path: Path) -> str:
    """Return a hash of a file's bytes, by which a worker knows that it loads the same file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> tuple[Layer, ...]:
    """Execute a spec file, or import it where it is a module that pyproject.toml names, and
    return the layers it registers, by name.

    Raises SpecError, with file and line, for whatever goes wrong in it.
    """
    loaded(path)
    file = str(path.resolve())
    entries = [entry for (where, _), entry in REGISTERED.items() if where == file]
    return tuple(from_registration(e) for e in sorted(entries, key=lambda e: e.name))


def loaded(path: Path) -> ModuleType:
    """Return the module that a spec file is, imported by its name where pyproject.toml has it."""
    module = module_of(path)
    return execute(path) if module is None else _imported(path, *module)


# What the files of imported modules held then: they are not imported again when they change.
_IMPORTED: dict[str, str] = {}


def _imported(path: Path, name: str, folder: Path) -> ModuleType:
    """Import a file by its name from a folder, which stays importable: functions import late."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise SpecError(_import_message(path, path.resolve(), error)) from None
    if (other := Path(str(module.__file__))).resolve() != path.resolve():
        raise SpecError(
            f"{path}: the module {name} is imported from {other} instead: rename one of them, or "
            "install the project in editable mode"
        )
    if _IMPORTED.setdefault(name, digest := content_hash(path)) != digest:
        raise SpecError(f"{path} changed after this process had imported it as {name}: run again")
    return module


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
    # Its project need not be installed, and is not in the way of what is: functions import late.
    sys.path += [f for f in map(str, importable(real)) if f not in sys.path]
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
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            name = _PACKAGES.get(package, package)
            own = "" if package in _PACKAGES else " (your own: pip install -e its project)"
            return (
                f"{place}: needs the package {package}, which is not installed: pip install "
                f"{name}{own}"
            )
        remedy = f" (the {package} that is installed here has none: is it another version?)"
    if isinstance(error, ImportError) and "relative import" in reason:
        remedy = " (a module of a package is named in [tool.gradverify] modules)"
    return f"{place}: does not import: {type(error).__name__}: {reason}{remedy}"


# Packages that are nobody's own, by the names that they are imported by, and installed by.
_PACKAGES = {
    "PIL": "pillow", "autograd": "autograd", "cv2": "opencv-python", "jax": "jax",
    "scipy": "scipy", "skimage": "scikit-image", "sklearn": "scikit-learn", "torch": "torch",
    "yaml": "pyyaml",
}  # fmt: skip


def catalogue_folder() -> Path:
    """Return the folder of the shipped catalogue: in the wheel, or beside the package."""
    package = Path(__file__).resolve().parent
    shipped = package / "_catalogue"
    return shipped if shipped.is_dir() else package.parent / "specs"


def catalogue_files(name: str) -> list[Path]:
    """Return the files of the catalogue that may hold a spec of that name."""
    files = sorted(catalogue_folder().glob("*.py"))
    # Most files are named like their spec; the others are found by their text.
    likely = [p for p in files if p.stem == name]
    return likely or [p for p in files if f'"{name}"' in p.read_text("utf-8")]


def catalog(name: str) -> Spec:
    """Return a spec of the shipped catalogue, such as `catalog("batch_norm")`.

    Raises UsageError, with the nearest name, where there is none of that name.
    """
    for path in catalogue_files(name):
        for value in vars(execute(path)).values():
            if isinstance(value, Spec) and value.name == name:
                return value
    names = sorted(p.stem for p in catalogue_folder().glob("*.py"))
    raise UsageError(f"the catalogue has no spec {name!r}; {nearest(name, names)}")
