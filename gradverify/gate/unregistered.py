"""What looks like a layer and is registered with no spec: found in the text, nothing is run."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gradverify.config import GatePolicy
from gradverify.errors import UsageError, nearest
from gradverify.gate import CHECK
from gradverify.gate.definitions import Definitions, Name, statements
from gradverify.gate.sources import Project, Source, python_files
from gradverify.result import Finding, LayerResult, Verdict

_FUNCTION = {
    f"torch.autograd.{where}{name}"
    for where in ("", "function.")
    for name in ("Function", "InplaceFunction", "NestedIOFunction")
}
_CUSTOM_VJP = {"jax.custom_vjp", "jax.custom_derivatives.custom_vjp"}


@dataclass(frozen=True)
class Candidate:
    """A class or function that looks like a layer: `name` is `module:name`, and `why` it does."""

    name: str
    file: str
    line: int
    why: str
    uses: tuple[Name, ...]  # the layer is registered where all these are used by one that is


@dataclass(frozen=True)
class Search:
    """Looks for layers in files of a project; `bases` are the base classes of its layers."""

    definitions: Definitions
    bases: frozenset[Name | str]

    @cached_property
    def project(self) -> Project:
        """The project."""
        return self.definitions.project

    def candidates(self, files: Iterable[str]) -> Iterator[Candidate]:
        """Yield all that looks like a layer."""
        for file in files:
            source = self.project.source(file)
            top = list(statements(source))
            yield from self._pairs(source, top)
            for statement in top:
                yield from self._within(source, statement, ())

    def _within(
        self, source: Source, statement: ast.stmt, outer: tuple[str, ...]
    ) -> Iterator[Candidate]:
        why = ""
        match statement:
            case ast.ClassDef(name=name, body=body):
                if (source.file, name) not in self.bases:
                    why = self._class(source, statement)
                for inner in body:
                    yield from self._within(source, inner, (*outer, name))
            case ast.FunctionDef(name=name, decorator_list=decorators):
                if any(self._is_custom_vjp(source, d) for d in decorators):
                    why = "it is a jax.custom_vjp"
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as value)
            ):
                if isinstance(value, ast.Call) and self._is_custom_vjp(source, value):
                    why = "it is a jax.custom_vjp"
        if why:
            yield self._candidate(source, statement, (*outer, name), why)

    def _candidate(
        self, source: Source, node: ast.stmt, names: Sequence[str], why: str, *also: str
    ) -> Candidate:
        module = self.project.module(source.file)
        uses = tuple((source.file, name) for name in (names[0], *also))
        return Candidate(f"{module}:{'.'.join(names)}", source.file, node.lineno, why, uses)

    def _pairs(self, source: Source, top: Iterable[ast.stmt]) -> Iterator[Candidate]:
        """Yield functions that have `backward` in their name where another has `forward`."""
        functions = {s.name: s for s in top if isinstance(s, ast.FunctionDef)}
        for name, function in functions.items():
            words = name.split("_")
            other = "_".join("backward" if word == "forward" else word for word in words)
            if "forward" in words and other in functions:
                yield self._candidate(
                    source, function, (name,), f"{other} stands next to it", other
                )

    def _class(self, source: Source, node: ast.ClassDef) -> str:
        """Return why a class looks like a layer, "" where it does not."""
        if _is_abstract(node):
            return ""
        own, lines = _methods(node), list(self._ancestors(source, node))
        for base, _ in lines:
            if base in self.bases:
                shown = base if isinstance(base, str) else ":".join(
                    [self.project.module(base[0]), base[1]])  # fmt: skip
                return f"it derives from {shown}"
            if base in _FUNCTION:
                return "it is a torch.autograd.Function"
        inherited = {m for _, parent in lines if parent is not None for m in _methods(parent)}
        if {"forward", "backward"} <= own | inherited and own & {"forward", "backward"}:
            return "it has a backward next to its forward"
        return ""

    def _ancestors(
        self, source: Source, node: ast.ClassDef
    ) -> Iterator[tuple[Name | str, ast.ClassDef | None]]:
        """Yield what a class derives from, each with its text where that is in the project."""
        seen: set[Name | str] = set()
        waiting = [(source, base) for base in node.bases]
        while waiting:
            where, expression = waiting.pop(0)
            if isinstance(expression, ast.Subscript):  # Layer[T]
                expression = expression.value
            name = self.definitions.resolve(where, expression)
            if name in seen:
                continue
            seen.add(name)
            found = [] if isinstance(name, str) else self.definitions.scope(name[0])[name[1]]
            parents = [parent for parent in found if isinstance(parent, ast.ClassDef)]
            yield name, parents[0] if parents else None
            for parent in parents:
                own = self.project.source(name[0])
                waiting += [(own, base) for base in parent.bases]

    def _is_custom_vjp(self, source: Source, node: ast.expr) -> bool:
        """Whether an expression is custom_vjp, a call of it, or a partial one."""
        if not isinstance(node, ast.Call):
            return source.dotted(node) in _CUSTOM_VJP
        partial = source.dotted(node.func) in ("functools.partial", "partial")
        return any(
            self._is_custom_vjp(source, part)
            for part in (node.args[:1] if partial else [node.func])
        )


def find(project: Project, policy: GatePolicy) -> list[Candidate]:
    """Return what looks like a layer in the configured paths, and is used by none that is
    registered; UsageError for a path or a base class that is not there."""
    definitions = Definitions(project)
    bases = base_names(definitions, policy.base_classes)
    folders = [project.root / path for path in policy.paths]
    for path, folder in zip(policy.paths, folders, strict=True):
        if not folder.exists():
            known = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise UsageError(
                f"[tool.gradverify.gate] paths: {path} does not exist"
                + (f"; {nearest(folder.name, known)}" if known else "")
            )
    registered = definitions.registered(sorted(project.specs))
    files = python_files(project.root, folders)
    found = Search(definitions, bases).candidates(files)
    return [c for c in found if not registered.issuperset(c.uses)]


def result_of(candidate: Candidate, root: Path) -> LayerResult:
    """Return the result of what looks like a layer and is registered with no spec."""
    place = f"{root / candidate.file}:{candidate.line}"
    finding = Finding(
        CHECK,
        "unregistered",
        f"it looks like a layer, since {candidate.why}, and no registered layer uses it.\n"
        f"A spec for it is written by:\n  gradverify new {candidate.name}\n"
        "If it may stay unregistered, list it with the reason under "
        "[[tool.gradverify.gate.unregistered]].",
        location=place,
        replay="gradverify gate",
    )
    return LayerResult("", candidate.name, place, Verdict.FAILED, (), (finding,))


def stale(ignored: Iterable[str], found: Sequence[str]) -> list[str]:
    """Return a problem for each name that may stay unregistered and is not found to be so."""
    return [
        f"[[tool.gradverify.gate.unregistered]] name = {name!r}: nothing of that name is an "
        "unregistered layer: " + (f"{nearest(name, found)}" if found else "delete it")
        for name in ignored
        if name not in found
    ]


def base_names(definitions: Definitions, dotted: Sequence[str]) -> frozenset[Name | str]:
    """Return what the configured base classes name; UsageError where the project has no such."""
    found: set[Name | str] = set()
    for name in dotted:
        base = definitions.look_up(name)
        module, _, attribute = name.rpartition(".")
        if isinstance(base, str) and (files := definitions.project.find(module)):
            known = [n for file in files for n in definitions.scope(file)]
            raise UsageError(
                f"[tool.gradverify.gate] base_classes: {files[0]} defines no {attribute!r}; "
                f"{nearest(attribute, known)}"
            )
        found.add(base)
    return frozenset(found)


def _methods(node: ast.ClassDef) -> set[str]:
    functions = (s.name for s in node.body if isinstance(s, ast.FunctionDef))
    assigned = (t.id for s in node.body if isinstance(s, ast.Assign)
                for t in s.targets if isinstance(t, ast.Name))  # fmt: skip
    return {*functions, *assigned}


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether a class only says what others have: a protocol, or one with abstract methods, which
    are marked so or raise NotImplementedError."""
    words = {n.id if isinstance(n, ast.Name) else n.attr
             for part in (*node.bases, *(d for s in node.body if isinstance(s, ast.FunctionDef)
                                         for d in s.decorator_list))
             for n in ast.walk(part) if isinstance(n, ast.Name | ast.Attribute)}  # fmt: skip
    return bool(words & {"Protocol", "abstractmethod"}) or any(
        isinstance(s, ast.FunctionDef) and s.name in ("forward", "backward") and _is_missing(s)
        for s in node.body
    )


def _is_missing(method: ast.FunctionDef) -> bool:
    """Whether all that a method does is to raise NotImplementedError."""
    body = [s for s in method.body if not isinstance(s, ast.Expr)]  # a docstring is one
    match body:
        case [ast.Raise(exc=ast.Name(id="NotImplementedError"))]:
            return True
        case [ast.Raise(exc=ast.Call(func=ast.Name(id="NotImplementedError")))]:
            return True
    return False
