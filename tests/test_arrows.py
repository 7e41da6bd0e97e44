"""Imports point one way: the table of arrows in the design, read off the source."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import gradverify

PACKAGE = Path(gradverify.__file__).parent

# Each layer of the package, lowest first; one may import from those below it and from itself.
ORDER = [
    ("errors", "result"),
    ("tables",),
    ("config",),
    ("project",),
    ("notation",),
    ("calculus",),
    ("declare",),
    ("parts",),
    ("spec",),
    ("view",),
    ("adapter",),
    ("layer",),
    ("adapters",),
    ("loading",),
    ("numerics",),
    ("cases",),
    ("trial",),
    ("checks",),
    ("diagnose",),
    ("shrink",),
    ("ground",),
    ("engine",),
    ("jobs",),
    ("audit",),
    ("gate",),
    ("report",),
    ("survey",),
    ("scaffold",),
    ("outcome",),
    ("plugin",),
    ("options",),
    ("commands",),
    ("cli", "pytest_plugin", "testing", "__main__", "__init__"),
]

# What may import less than its place in the order allows.
ONLY = {
    "errors": set(),
    "plain": set(),
    "evidence": set(),
    "result": {"plain", "evidence"},
    "tables": {"errors"},
    "config": {"errors", "tables"},
    "project": {"errors", "config"},
    "numerics": {"errors", "notation", "calculus"},
    "report": {"errors", "result", "evidence", "files"},
    "files": set(),
    "workers": {"errors"},
}

# Modules beside the table: the order places each after the one it is built on.
BESIDE = {
    "again": "layer", "derivatives": "layer", "proof": "layer", "witness": "layer", "findings": "shrink", "attribution": "diagnose", "coverage": "diagnose", "tally": "diagnose", "sides": "cases", "replayed": "trial", "regular": "trial", "workers": "errors",
    "plain": "errors", "evidence": "errors", "files": "errors", "environment": "errors", "gather": "ground", "asking": "ground",
}  # fmt: skip

NOTATION = ["tree", "parse", "dims", "marks", "ranges", "inline", "compose", "statements", "check"]


def level(unit: str) -> int:
    unit = BESIDE.get(unit, unit)
    return next(k for k, units in enumerate(ORDER) if unit in units)


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """Yield (dotted name below the package, file) of every module."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] == "_catalogue":
            continue
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), path


def imports(path: Path, name: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Yield (dotted name below the package, line) of all that a file imports of ours, wherever."""
    tree = ast.parse(path.read_text("utf-8"))
    here = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "gradverify":
                    yield (
                        alias.name.removeprefix("gradverify").lstrip(".") or "__init__",
                        node.lineno,
                    )
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*here[: len(here) - node.level + 1], *filter(None, [node.module])]
            elif node.module and node.module.split(".")[0] == "gradverify":
                base = node.module.split(".")[1:]
            else:
                continue
            if base:
                yield ".".join(base), node.lineno
            else:
                for alias in node.names:  # from gradverify import Finding, cases
                    yield alias.name, node.lineno


def homes(package: Path) -> Mapping[str, str]:
    """Return where the names live that the package itself hands out, by its table `_HOMES`."""
    for node in ast.walk(ast.parse((package / "__init__.py").read_text("utf-8"))):
        match node:
            case ast.Assign(targets=[ast.Name(id="_HOMES")], value=value):
                return ast.literal_eval(value)
    return {}


def violations(package: Path) -> list[str]:
    """Return one line for every import that points the wrong way."""
    found, public = [], homes(package)
    for name, path in modules(package):
        unit, _, inner = name.partition(".")
        if unit == "__init__":
            continue  # it imports on demand and for type checkers only; see the last test
        for target, line in imports(path, name, path.name == "__init__.py"):
            if target == "__version__":
                continue
            target = public.get(target, target)
            other, _, other_inner = target.partition(".")
            wrong = (
                (unit in ONLY and other != unit and other not in ONLY[unit])
                or level(other) > level(unit)
                or (unit != other and other == "workers" and level(unit) < level("engine"))
                or (unit == other == "notation" and not _allowed(inner, other_inner))
            )
            if wrong:
                found.append(f"{path.relative_to(package)}:{line}: {name} imports {target}")
    return found


def _allowed(inner: str, other: str) -> bool:
    """Whether one module of notation may import another."""
    if inner == "" or "schedule" in (inner, other):
        return inner == ""
    return NOTATION.index(other) < NOTATION.index(inner)


def test_imports_point_one_way():
    """No module imports, even inside a function, from one that the design puts above it."""
    assert violations(PACKAGE) == []


def test_every_module_stands_in_the_table():
    """A new module has to be given its place."""
    known = {unit for units in ORDER for unit in units} | BESIDE.keys()
    assert {name.partition(".")[0] for name, _ in modules(PACKAGE)} <= known
    notation = {n.partition(".")[2] for n, _ in modules(PACKAGE) if n.startswith("notation.")}
    assert notation == {*NOTATION, "schedule"}


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("spec.py", "from gradverify.layer import Layer", "spec imports layer"),
        ("spec.py", "import gradverify.engine", "spec imports engine"),
        ("spec.py", "def f():\n    from gradverify.checks import CHECKS", "spec imports checks"),
        ("spec.py", "if TYPE_CHECKING:\n    from gradverify import verify", "spec imports engine"),
        ("spec.py", "import gradverify", "spec imports __init__"),
        ("spec.py", "from .cases import Case", "spec imports cases"),
        ("spec.py", "from . import cases", "spec imports cases"),
        ("errors.py", "from gradverify.result import Status", "errors imports result"),
        ("result.py", "from gradverify.errors import SpecError", "result imports errors"),
        ("numerics/step.py", "from gradverify.layer import Layer", "numerics.step imports layer"),
        ("numerics/step.py", "from gradverify.spec import Spec", "numerics.step imports spec"),
        ("report/html.py", "from gradverify.engine import verify", "report.html imports engine"),
        ("report/html.py", "from ..spec import Spec", "report.html imports spec"),
        ("workers.py", "from gradverify.result import Report", "workers imports result"),
        ("checks/forward.py", "from gradverify.diagnose import why", "forward imports diagnose"),
        ("notation/tree.py", "from gradverify.notation.parse import Source", "imports notation."),
        ("notation/dims.py", "from .ranges import resolve", "dims imports notation.ranges"),
        ("notation/schedule.py", "from .tree import Expr", "schedule imports notation.tree"),
        ("notation/dims.py", "from gradverify.calculus.derive import derive", "imports calculus"),
    ],
)  # fmt: skip
def test_a_wrong_import_is_found(tmp_path, file, line, named):
    """This test can fail: a module with an import that points upwards is named, with its line."""
    (tmp_path / "__init__.py").write_text('_HOMES = {"verify": "engine"}\n')
    target = tmp_path / file
    target.parent.mkdir(exist_ok=True)
    target.write_text(f'"""A file."""\n\n{line}\n')
    (found,) = violations(tmp_path)
    assert named in found
    assert found.startswith(f"{file}:{3 + line.count(chr(10))}: ")


def test_right_imports_are_not_found(tmp_path):
    """What points downwards is allowed, from inside functions and relatively too."""
    (tmp_path / "__init__.py").write_text("_HOMES = {}\n")
    (tmp_path / "checks").mkdir()
    (tmp_path / "notation").mkdir()
    (tmp_path / "spec.py").write_text("from gradverify.notation.dims import same\nimport numpy\n")
    (tmp_path / "layer.py").write_text("def f():\n    from .spec import Spec\n")
    (tmp_path / "checks" / "a.py").write_text("from gradverify.checks import b\nfrom . import b\n")
    (tmp_path / "notation" / "check.py").write_text("from gradverify.notation.tree import text\n")
    (tmp_path / "cli.py").write_text("from gradverify.engine import verify\n")
    (tmp_path / "engine.py").write_text("from gradverify import __version__\n")
    assert violations(tmp_path) == []


def test_the_package_imports_nothing_when_it_is_imported():
    """`import gradverify` runs no other module of ours: all names are found when asked for."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    eager = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all("gradverify" not in ast.unparse(node) for node in eager)
