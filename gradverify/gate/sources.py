"""The Python files of a project as text: what each can be imported as, and what it imports."""

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

# Folders that hold no code of the project, and those that hold copies of it at its root.
_FOREIGN = {"__pycache__", "node_modules", "site-packages"}
_BUILT = ("build", "dist")

# What imports by a text; a text that is written out can be followed.
_BY_NAME = {"importlib.import_module", "importlib.__import__", "__import__"}
# What runs other files, or decides how modules are found.
_UNTRACED = {
    "exec", "importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader",
    "importlib.machinery.ExtensionFileLoader", "pkgutil.walk_packages", "pkgutil.iter_modules",
    "runpy.run_module", "runpy.run_path", "sys.meta_path", "sys.path_hooks",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One parsed file: `file` is relative to the project, `aliases` are the absolute dotted names
    of what its imports bind, `stars` those of modules of which it takes all.

    `tree` is None where the file cannot be parsed, and `why_not` says why.
    """

    file: str
    tree: ast.Module | None
    why_not: str = ""

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """What each name that an import binds stands for."""
        found = {}
        for node in self._statements:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                module = self._module(node)
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{module}.{alias.name}".lstrip(".")
        return found

    @cached_property
    def imports(self) -> frozenset[str]:
        """The dotted names that are imported, each also as a module of what it stands in."""
        names: set[str] = set()
        for node in self._statements:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                module = self._module(node)
                names |= {module, *(f"{module}.{a.name}".lstrip(".") for a in node.names)}
            elif isinstance(node, ast.Call) and self.dotted(node.func) in _BY_NAME:
                names |= {self._named(node) or ""}
        return frozenset(names - {""})

    @cached_property
    def stars(self) -> tuple[str, ...]:
        """The modules of which all is imported."""
        return tuple(
            self._module(node)
            for node in self._statements
            if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names)
        )

    @cached_property
    def untraced(self) -> str:
        """What it imports by other means than names in its text, with the line; "" for nothing."""
        if self.tree is None:
            return self.why_not
        followed = {
            id(node.func)
            for node in self._statements
            if isinstance(node, ast.Call)
            and self.dotted(node.func) in _BY_NAME
            and self._named(node) is not None
        }
        for node in self._statements:
            if isinstance(node, ast.Name | ast.Attribute) and id(node) not in followed:
                name = self.dotted(node)
                if name in _UNTRACED or name in _BY_NAME:
                    return f"{self.file}:{node.lineno} imports by {name}"
        return ""

    @cached_property
    def changes_path(self) -> bool:
        """Whether it mentions `sys.path`, so that any folder may be one to import from."""
        return any(
            isinstance(node, ast.Attribute) and self.dotted(node) in ("sys.path", "site.addsitedir")
            for node in self._statements
        )

    def dotted(self, node: ast.expr) -> str:
        """Return the absolute dotted name of an expression such as `a.b.c`, "" for others."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])

    @cached_property
    def _statements(self) -> tuple[ast.AST, ...]:
        return tuple(_executed(self.tree)) if self.tree else ()

    def _module(self, node: ast.ImportFrom) -> str:
        """Return the module of `from module import ...`, a relative one from the project's root."""
        if not node.level:
            return node.module or ""
        folder = PurePosixPath(self.file).parts[: -node.level]
        return ".".join([*folder, *([node.module] if node.module else [])])

    def _named(self, node: ast.Call) -> str | None:
        """Return the module that `import_module("a.b")` names, None where it cannot be told."""
        match node.args:
            case [ast.Constant(value=str(name))] if not name.startswith("."):
                return name
            case [ast.Constant(value=str(name)), ast.Name(id="__package__")]:
                level = len(name) - len(name.lstrip("."))
                folder = PurePosixPath(self.file).parts[:-level]
                return ".".join([*folder, name.lstrip(".")])
        return None


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker looks at."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.If) and _names_type_checking(node.test):
            for other in node.orelse:
                yield other
                yield from _executed(other)
        else:
            yield from _executed(node)


def _names_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


@dataclass(frozen=True)
class Project:
    """The Python files below `root`, relative to it; `specs` are those that are spec files.

    A module can be imported from each folder that is not inside a package, so that `src/` and
    other layouts need no settings, and from that of a spec file, as `gradverify` loads it.
    """

    root: Path
    files: tuple[str, ...]
    specs: frozenset[str] = frozenset()
    _parsed: dict[str, Source] = field(default_factory=dict, repr=False, compare=False)

    def source(self, file: str) -> Source:
        """Return a file, parsed; it is read once."""
        if file not in self._parsed:
            self._parsed[file] = parse(self.root, file)
        return self._parsed[file]

    def names(self, file: str, *, anywhere: bool = False) -> Iterator[str]:
        """Yield the dotted names that a file, be it there or not, can be imported by."""
        path = PurePosixPath(file).with_suffix("")
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        for k in range(len(parts)):
            folder = "/".join(path.parts[:k])
            if anywhere or folder in self._roots or folder not in self._packages:
                yield ".".join(parts[k:])

    def module(self, file: str) -> str:
        """Return the name by which a file is most likely imported, such as `mylib.layers`."""
        parts = PurePosixPath(file).with_suffix("").parts
        top = len(parts) - 1
        while top and "/".join(parts[:top]) in self._packages:
            top -= 1
        if top == len(parts) - 1:  # in no package
            top = int(top > 0 and parts[0] == "src")
        return ".".join(parts[top:]).removesuffix(".__init__")

    def find(self, dotted: str) -> tuple[str, ...]:
        """Return the files that a dotted name may be the module of."""
        return tuple(self._index.get(dotted, ()))

    def below(self, dotted: str) -> Iterator[str]:
        """Yield the names of the modules of a package."""
        for name in self._index:
            if name.rpartition(".")[0] == dotted:
                yield name

    @cached_property
    def _packages(self) -> frozenset[str]:
        return frozenset(
            f.removesuffix("/__init__.py") for f in self.files if f.endswith("/__init__.py")
        )

    @cached_property
    def _roots(self) -> frozenset[str]:
        folders = (str(PurePosixPath(file).parent) for file in self.specs)
        return frozenset({"", *("" if f == "." else f for f in folders)})

    @cached_property
    def _index(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self.files:
            for name in self.names(file):
                found.setdefault(name, []).append(file)
        return found


def parse(root: Path, file: str) -> Source:
    """Return a file of a project, parsed as far as it can be."""
    try:
        return Source(file, ast.parse((root / file).read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return Source(file, None, f"{file}{line} cannot be parsed")


def python_files(root: Path, folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the Python files below folders, relative to the root, but those of environments and
    what a build of the project has left."""
    built = {root / name for name in _BUILT}
    found: set[str] = set()
    for top in folders:
        if top.is_file():
            found.add(relative(top, root))
        for folder, inner, names in os.walk(top):
            inner[:] = [d for d in inner if not _foreign(path := Path(folder, d))
                        and path not in built]  # fmt: skip
            found |= {relative(Path(folder, n), root) for n in names if n.endswith(".py")}
    return tuple(sorted(found))


def _foreign(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _FOREIGN
    return hidden or (folder / "pyvenv.cfg").exists()


def relative(path: Path, root: Path) -> str:
    """Return a path relative to a folder, with slashes, as records and reports show it."""
    return Path(os.path.relpath(path, root)).as_posix()
