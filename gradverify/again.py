"""The line that shows a finding again, and what has changed since it was printed."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from gradverify.layer import Layer, from_registration
from gradverify.notation.tree import text
from gradverify.spec import REGISTERED, Spec

# So many digits tell two versions of a file apart, and leave the line short.
_DIGITS = 8
DIGEST = rf"[0-9a-f]{{{_DIGITS}}}-[0-9a-f]{{{_DIGITS}}}"


def replay_line(layer: Layer, check: str | None, case: object) -> str:
    """Return what shows a finding again, of all checks where none is named: a command, or a line
    of Python where no file gives the layer back, as from a notebook or from inside a function."""
    if not _found_again(layer):
        asked = f"checks=[{json.dumps(check)}], " if check else ""
        return f"gradverify.verify(layer, {asked}case={json.dumps(str(case))})"
    target = "::".join((beside(layer.file), layer.name, *([check] if check else [])))
    return f"gradverify replay {quoted(target)} {quoted(str(case))} --digest {digest(layer)}"


def _found_again(layer: Layer) -> bool:
    """Whether to load the layer's file gives it back: the same code for the same spec."""
    entry = REGISTERED.get((layer.file, layer.name))
    if entry is None or entry.module is None:
        return False
    known = from_registration(entry)
    return (known.location, _declared(known.spec)) == (layer.location, _declared(layer.spec))


def beside(file: str) -> str:
    """Return a path as it is written from the current folder."""
    path, here = Path(file), Path.cwd()
    shown = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return os.path.join(os.curdir, shown) if shown.startswith("-") else shown


def quoted(word: str) -> str:
    """Return a word for a command line, in the quotes that all shells know where they do."""
    return shlex.quote(word) if re.search(r'["$`\\!]', word) else f'"{word}"'


def digest(layer: Layer) -> str:
    """Return what a layer was when it was looked at, its spec and its files, in a few digits."""
    return f"{_hash([_declared(layer.spec).encode()])}-{_hash(map(_content, _files(layer)))}"


def changes(layer: Layer, known: str) -> tuple[str, ...]:
    """Return what of a layer has changed since its digest was this one, a sentence each."""
    now = digest(layer)
    spec, files = (a != b for a, b in zip(known.split("-"), now.split("-"), strict=True))
    told = []
    if spec:
        told.append(f"the spec {layer.spec.name} has changed since this line was printed, so that "
                    "the case may be another one")  # fmt: skip
    if files:
        shown = " or ".join(beside(file) for file in _files(layer)) or "its code"
        told.append(f"the layer has changed since this line was printed: {shown} is another")
    return tuple(told)


def _files(layer: Layer) -> list[str]:
    """Return the files of a layer: where its code is, and where it is registered."""
    code = layer.location.rpartition(":")[0]
    files = {os.path.realpath(f) for f in (code, layer.file) if f and os.path.isfile(f)}
    return sorted(files)


def _content(file: str) -> bytes:
    # The line ends of a checkout are no change.
    return Path(file).read_bytes().replace(b"\r\n", b"\n")


def _declared(spec: Spec) -> str:
    """Return all that a spec declares as text, whatever its layout and comments."""
    equations = [
        (str(e), sorted((k, text(size)) for k, size in (e.ranges or {}).items()))
        for e in spec.equations
    ]
    sizes = {name: [text(size) for size in shape] for name, shape in spec.shapes.items()}
    where = [text(condition) for condition in spec.where]
    parts = (spec.name, [*spec.tensors.items()], [*spec.constants.items()], sizes, where, equations,
             [*spec.allow.items()], spec.stars, sorted(spec.ones.items()))  # fmt: skip
    return json.dumps(parts, default=repr)


def _hash(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:_DIGITS]
