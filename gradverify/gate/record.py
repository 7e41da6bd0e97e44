"""The record of known layers: plain, sorted, mergeable text, one line `file::layer` a layer."""

import contextlib
import os
import re
from collections.abc import Iterator, Set
from pathlib import Path

from gradverify.errors import UsageError
from gradverify.files import write_whole

_TITLE = "# gradverify layers, format "
FORMAT = 1
_HEAD = (
    f"{_TITLE}{FORMAT}\n"
    "# Layers that the gate has verified; all others are new to it and judged more thoroughly.\n"
    "# Written by `gradverify gate --write-record`; keep the lines of both sides when merging.\n"
)
# What would break a line, or be taken for something else, is written as \uXXXX.
_UNPRINTABLE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]|^#")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")


def key(file: str, layer: str) -> str:
    """Return the entry of a layer; `file` is relative to the project, with slashes."""
    return f"{file}::{layer}"


def file_of(entry: str) -> str:
    """Return the file that an entry names."""
    return entry.partition(".py::")[0] + ".py"


def read(path: Path) -> frozenset[str] | None:
    """Return the entries of a record, None where there is no file; UsageError where it is corrupt.

    Lines may stand in any order and twice, as a merge leaves them.
    """
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    lines = text.split("\n")
    _check_head(path, text, lines[0])
    entries = set()
    for number, line in enumerate(lines[1:-1], 2):
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>", "|||||||")):
            raise _corrupt(
                f"{path}:{number}: an unresolved merge; keep the layers of both sides and delete "
                "the line"
            )
        if not line.startswith("#") and line.strip():
            entries.add(_entry(path, number, line))
    return frozenset(entries)


def _check_head(path: Path, text: str, first: str) -> None:
    version = first.removeprefix(_TITLE)
    if not first.startswith(_TITLE) or not version.isdecimal():
        what = "is empty" if not text.strip() else f"does not begin with {_TITLE + str(FORMAT)!r}"
        raise _corrupt(f"{path} is no record of layers: it {what}")
    if int(version) != FORMAT:
        raise UsageError(
            f"{path} is of format {version}, and this gradverify knows format {FORMAT}: use the "
            "version that wrote it. It was left as it is"
        )
    if not text.endswith("\n"):
        raise _corrupt(f"{path} is truncated: its last line does not end")


def _entry(path: Path, number: int, line: str) -> str:
    file, separator, layer = line.partition(".py::")
    if not (separator and file and layer) or "\\" in _ESCAPED.sub("", line):
        raise _corrupt(f"{path}:{number}: {line[:80]!r} is not FILE.py::LAYER")
    return _ESCAPED.sub(lambda m: chr(int(m[1], 16)), line)


def _corrupt(what: str) -> UsageError:
    return UsageError(
        f"{what}. It was left as it is: repair it, restore it with git, or delete it and run "
        "`gradverify gate --write-record`"
    )


def text_of(entries: Set[str]) -> str:
    """Return the text of a record."""
    lines = (_UNPRINTABLE.sub(lambda m: f"\\u{ord(m[0]):04x}", entry) for entry in entries)
    return _HEAD + "".join(f"{line}\n" for line in sorted(lines))


def update(path: Path, added: Set[str], removed: Set[str]) -> bool:
    """Write entries into a record, made if it is not there, and return whether it changed.

    What another run wrote meanwhile is kept. UsageError where the file is corrupt or cannot be
    written; it is then as it was.
    """
    try:
        with _locked(path.parent):
            old = read(path)
            new = ((old or frozenset()) - removed) | added
            if new == old:
                return False
            write_whole(path, text_of(new), errors="surrogateescape")  # names of files
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return True


def check_writable(path: Path) -> None:
    """Raise UsageError where a record cannot be written, which is better known before a run."""
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: {path.parent} is not a folder to write to")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, so that no file of the lock's own is left in it."""
    try:
        import fcntl
    except ImportError:  # Windows: replacing is atomic, though two runs may drop each other's lines
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # and with it the lock
