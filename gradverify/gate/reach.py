"""Which files a spec file reaches by what it imports, as far as that can be traced in the text."""

import ast
from dataclasses import dataclass

from gradverify.gate.sources import Project, Source, relative


@dataclass(frozen=True)
class Reach:
    """What a spec file executes: `files`, itself included, each with the file that imports it.

    `names` are the modules that are imported anywhere on the way, those that are not there
    included: a file that is deleted or added may be one of them. `untraced` says what is
    imported otherwise, so that the spec file may execute any file.
    """

    files: dict[str, str]
    names: frozenset[str]
    untraced: str
    anywhere: bool

    def way(self, file: str) -> list[str]:
        """Return the files from one of `files` back to the spec file."""
        way = [file]
        while (file := self.files[file]) != way[-1]:
            way.append(file)
        return way


def reach(project: Project, spec: str) -> Reach:
    """Trace a spec file of a project."""
    files, names = {spec: spec}, set[str]()
    waiting, untraced, anywhere = [spec], "", False
    while waiting:
        source = project.source(file := waiting.pop())
        untraced = untraced or source.untraced
        anywhere |= source.changes_path
        found = _modules(project, source) - names
        names |= found
        reached = {f for name in found for f in project.find(name)} | _catalogued(project, source)
        for other in sorted(reached - files.keys()):
            files[other] = file
            waiting.append(other)
    return Reach(files, frozenset(names), untraced, anywhere)


def _modules(project: Project, source: Source) -> set[str]:
    """Return the modules that a file imports, with the packages they are in."""
    named = {n for n in source.imports if n.partition(".")[0] != "gradverify"}
    named |= {name for star in source.stars for name in project.below(star)}
    return {".".join(parts[:k]) for parts in (n.split(".") for n in named)
            for k in range(1, len(parts) + 1)}  # fmt: skip


def _catalogued(project: Project, source: Source) -> set[str]:
    """Return the files of the catalogue that are asked for by name, where it is in the project."""
    asked: set[str] = set()
    for node in ast.walk(source.tree) if source.tree else ():
        match node:
            case ast.Call(args=[ast.Constant(value=str(name))]):
                if source.dotted(node.func) in ("gradverify.catalog", "gradverify.loading.catalog"):
                    asked.add(name)
    if not asked:
        return set()
    from gradverify.loading import catalogue_files  # slow to import

    files = (file for name in asked for file in catalogue_files(name))
    return {relative(f, project.root) for f in files if f.is_relative_to(project.root)}
