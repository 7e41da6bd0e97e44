"""What `module:function` and `path.py:function` name, and how another file imports it."""

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradverify.errors import SpecError, UsageError, innermost, nearest


@dataclass(frozen=True)
class Target:
    """An object of a module; `root` is the folder that the module is imported from."""

    root: str
    module: str
    name: str

    @property
    def file_name(self) -> str:
        """The name of a spec file for it."""
        return self.name.replace(".", "_").lower()


def target_of(text: str) -> Target:
    """Return what a target names; UsageError where it cannot name anything."""
    place, colon, name = text.replace("::", ":").rpartition(":")  # `::` as where a layer is named
    if not (colon and place and name) or not all(p.isidentifier() for p in name.split(".")):
        raise UsageError(f"{text}: name a function, such as mylib.layers:relu or layers.py:relu")
    if not place.endswith(".py"):
        if not all(part.isidentifier() for part in place.split(".")):
            raise UsageError(f"{text}: {place} is no module and no Python file")
        return Target(str(Path.cwd()), place, name)
    path = Path(place).resolve()
    if not path.is_file():
        raise UsageError(f"{place} does not exist")
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if not all(part.isidentifier() for part in parts):
        raise UsageError(f"{place}: no module can be called {'.'.join(parts)}: rename it")
    return Target(str(folder), ".".join(parts), name)


def loaded(target: Target) -> Any:
    """Import and return the object; SpecError for what goes wrong in its module.

    Its folder stays importable, since functions import late.
    """
    if target.root not in sys.path:
        sys.path.insert(0, target.root)
    try:
        module = importlib.import_module(target.module)
    except (Exception, SystemExit) as error:
        own = innermost(error, lambda file: Path(file).is_relative_to(target.root))
        place = "" if own is None else f"{os.path.relpath(own.filename)}:{own.lineno}: "
        raise SpecError(
            f"{place}{target.module} does not import: {type(error).__name__}: {error}"
        ) from None
    found: Any = module
    for part in target.name.split("."):
        if not hasattr(found, part):
            known = [k for k, v in vars(found).items() if callable(v) and not k.startswith("_")]
            hint = f"; {nearest(part, known)}" if known else ""
            raise UsageError(f"{target.module} has no {target.name!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{target.module}:{target.name} is no function and no class")
    return found


def importable(target: Target) -> bool:
    """Whether the module is found as it is, as what is installed is."""
    here = {os.path.realpath(p or os.curdir) for p in sys.path}
    return os.path.realpath(target.root) in here or _installed(target)


def _installed(target: Target) -> bool:
    known = sys.modules.pop(target.module.partition(".")[0], None)
    try:
        return importlib.util.find_spec(target.module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
    finally:
        if known is not None:
            sys.modules[target.module.partition(".")[0]] = known
