"""Where the views of a report go: `--format text,json:FILE` is read, tried and carried out."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from gradverify.errors import UsageError, nearest
from gradverify.report import FORMATS, Page
from gradverify.result import Report

View = tuple[str, Path | None]  # the name of a format, and its file; None is stdout


def views(asked: str) -> tuple[View, ...]:
    """Return the views that `--format` asks for; UsageError where they cannot be delivered."""
    found: list[View] = []
    for part in asked.split(","):
        name, colon, file = part.strip().partition(":")
        if name not in FORMATS:
            raise UsageError(f"--format: there is no format {name!r}; {nearest(name, FORMATS)}")
        if colon and not file:
            raise UsageError(f"--format: {part.strip()!r} names no file; write {name}:FILE")
        found.append((name, Path(file) if file else None))
    for name, path in found:
        if [other for _, other in found].count(path) > 1:
            where = path or "standard output"
            raise UsageError(
                f"--format: two views cannot both go to {where}; give each a file of its own, "
                f"such as {name}:report.{'txt' if name == 'text' else name}"
            )
        if path is not None:
            _try(path)
    return tuple(found)


def _try(path: Path) -> None:
    """Raise UsageError where a file cannot be written, which is better known before a run."""
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise UsageError(f"--format: cannot write {path}: {error.strerror}") from None


def deliver(report: Report, wanted: Sequence[View], *, verbose: bool) -> None:
    """Write each view of a report where it goes, as `write_views` does."""
    write_views(lambda name, page: FORMATS[name](report, page), wanted, verbose=verbose)


def write_views(
    shown: Callable[[str, Page], str], wanted: Sequence[View], *, verbose: bool = False
) -> None:
    """Write each view, shown by its format on a page, where it goes; UsageError where a file
    cannot be written after all."""
    # Standard output first: a full disk must not hide the report.
    for name, path in sorted(wanted, key=lambda view: view[1] is not None):
        if path is None:
            write(shown(name, _screen(verbose)))
            continue
        try:
            path.write_text(shown(name, Page(verbose=verbose)), "utf-8")
        except OSError as error:
            raise UsageError(f"--format: cannot write {path}: {error.strerror}") from None


def _screen(verbose: bool) -> Page:
    """Return standard output as a page: as wide as the terminal, in colour if it is one."""
    from rich.console import Console  # slow to import

    console = Console(file=sys.stdout)
    page = Page(verbose=verbose, width=max(shutil.get_terminal_size((100, 24)).columns, 40))
    return replace(page, colour=console.color_system is not None and not console.no_color)


def write(text: str) -> None:
    """Write to standard output, quietly to nobody where its reader, such as `head`, has gone."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would raise once more when Python exits.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
