"""Which definitions of a project a registered layer uses, followed by name from file to file."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gradverify.gate.sources import Project, Source

Name = tuple[str, str]  # a file of the project, and what its top level defines


@dataclass(frozen=True)
class Definitions:
    """What the files of a project define at their top level, and what each definition names."""

    project: Project
    _scopes: dict[str, Mapping[str, list[ast.stmt]]] = field(default_factory=dict, repr=False)

    def scope(self, file: str) -> Mapping[str, list[ast.stmt]]:
        """Return the statements that define each name of a file."""
        if file not in self._scopes:
            found: dict[str, list[ast.stmt]] = {}
            for statement in statements(self.project.source(file)):
                for name in _defines(statement):
                    found.setdefault(name, []).append(statement)
            self._scopes[file] = found
        return self._scopes[file]

    def resolve(self, source: Source, node: ast.expr) -> Name | str:
        """Return what an expression such as `a.b.c` names: a definition of the project, or else
        its absolute dotted name, "" for other expressions."""
        dotted = source.dotted(node)
        first = dotted.partition(".")[0]
        if first in self.scope(source.file) and first not in source.aliases:
            return source.file, first
        for star in source.stars if first not in source.aliases and "." not in dotted else ():
            found = self.look_up(f"{star}.{dotted}")
            if not isinstance(found, str):
                return found
        return self.look_up(dotted)

    def look_up(self, dotted: str, *, _seen: frozenset[str] = frozenset()) -> Name | str:
        """Return the definition that a dotted name leads to, through any re-exports, or itself."""
        if dotted in _seen:  # modules that import from each other
            return dotted
        parts, seen = dotted.split("."), _seen | {dotted}
        for k in range(len(parts) - 1, 0, -1):
            for file in self.project.find(".".join(parts[:k])):
                name, source = parts[k], self.project.source(file)
                if name in self.scope(file):
                    return file, name
                if name in source.aliases:
                    return self.look_up(
                        ".".join([source.aliases[name], *parts[k + 1 :]]), _seen=seen
                    )
                for star in source.stars:
                    found = self.look_up(f"{star}.{name}", _seen=seen)
                    if not isinstance(found, str):
                        return found
        return dotted

    def used_by(self, roots: Iterable[tuple[Source, ast.AST]]) -> frozenset[Name]:
        """Return the definitions that statements name, and those that these name, and so on."""
        found: set[Name] = set()
        waiting = list(roots)
        while waiting:
            source, root = waiting.pop()
            for node in ast.walk(root):
                if not isinstance(node, ast.Name | ast.Attribute):
                    continue
                name = self.resolve(source, node)
                if isinstance(name, str) or name in found:
                    continue
                found.add(name)
                own = self.project.source(name[0])
                waiting += [(own, statement) for statement in self.scope(name[0])[name[1]]]
        return frozenset(found)

    def registered(self, files: Iterable[str]) -> frozenset[Name]:
        """Return the definitions that files register as layers, or that such layers use."""
        roots = [
            (source, statement)
            for source in map(self.project.source, files)
            for statement in statements(source)
            if registers(statement)
        ]
        own = {(s.file, name) for s, statement in roots for name in _defines(statement)}
        return self.used_by(roots) | own


def statements(source: Source) -> Iterator[ast.stmt]:
    """Yield the statements of a file's top level, those under `if`, `try` and `with` included."""
    waiting: list[ast.stmt] = list(source.tree.body) if source.tree else []
    while waiting:
        statement = waiting.pop(0)
        if isinstance(statement, ast.If | ast.Try | ast.With):
            waiting[:0] = [s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)]
            handlers = statement.handlers if isinstance(statement, ast.Try) else []
            waiting[:0] = [s for handler in handlers for s in handler.body]
        else:
            yield statement


def _defines(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            yield name


def registers(statement: ast.AST) -> bool:
    """Whether a statement registers layers, as far as its text tells."""
    return any(isinstance(n, ast.Attribute) and n.attr == "register" for n in ast.walk(statement))


def layer_names(source: Source) -> frozenset[str] | None:
    """Return the names of the layers that a file registers, None where its text does not tell."""
    found: set[str | None] = {None} if source.tree is None else set()
    for statement in statements(source):
        decorators = [] if not isinstance(statement, ast.FunctionDef) else [
            d for d in statement.decorator_list if registers(d)
        ]  # fmt: skip
        for decorator in decorators:
            assert isinstance(statement, ast.FunctionDef)
            match decorator:
                case ast.Attribute():
                    found.add(statement.name)
                case ast.Call(func=ast.Attribute(attr="register"), args=[], keywords=options):
                    named = {option.arg: option.value for option in options}
                    match named.get("name", ast.Constant(statement.name)):
                        case ast.Constant(value=str(name)) if None not in named:
                            found.add(name)
                        case _:
                            found.add(None)
                case _:
                    found.add(None)
        if not decorators and registers(statement):
            found.add(None)
    names = frozenset(name for name in found if name is not None)
    return None if len(names) < len(found) else names
