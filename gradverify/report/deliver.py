"""Where the views of a report go: `--format text,json:FILE` is read, tried and carried out."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from gradverify.errors import UsageError, nearest
from gradverify.files import check_writable, write_whole
from gradverify.report import EVIDENT, EXTRAS, FORMATS, Page
from gradverify.result import Report

View = tuple[str, Path | None]  # the name of a format, and its file; None is stdout

# Standard output can take annotations below a text: the server picks them out by line.
TOGETHER = {"text", "github"}
# How a file is called where its format's own name would be unusual.
_ENDINGS = {"text": "txt", "markdown": "md", "junit": "xml", "github": "log"}


def views(asked: str, formats: Collection[str] = tuple(FORMATS)) -> tuple[View, ...]:
    """Return the views that `--format` asks for; UsageError where they cannot be delivered.

    What would only fail after a run is found here: a file that cannot be written, or an extra
    that is not installed.
    """
    found: list[View] = []
    for part in asked.split(","):
        name, colon, file = part.strip().partition(":")
        if name not in formats:
            raise UsageError(f"--format: there is no format {name!r}; {nearest(name, formats)}")
        if colon and not file:
            raise UsageError(f"--format: {part.strip()!r} names no file; write {name}:FILE")
        found.append((name, Path(file) if file else None))
    for name, path in found:
        same = [other for other, where in found if _same(path, where)]
        if len(same) > 1 and not (path is None and len(same) == 2 and set(same) == TOGETHER):
            raise UsageError(
                f"--format: two views cannot both go to {path or 'standard output'}; give each a "
                f"file of its own, such as {name}:report.{_ENDINGS.get(name, name)}"
            )
        missing = [p for p in EXTRAS.get(name, ()) if find_spec(p) is None]
        if missing:
            raise UsageError(
                f"--format: {name} needs {' and '.join(missing)}: pip install 'gradverify[report]'"
            )
        if path is not None:
            try:
                check_writable(path)
            except OSError as error:
                raise UsageError(f"--format: {_refused(path, error)}") from None
    return tuple(found)


def evidence(wanted: Sequence[View]) -> bool:
    """Whether one of the views shows the evidence of layers, which has to be gathered then."""
    return any(name in EVIDENT for name, _ in wanted)


def _same(a: Path | None, b: Path | None) -> bool:
    return a == b if a is None or b is None else os.path.realpath(a) == os.path.realpath(b)


def _refused(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror}"


def deliver(report: Report, wanted: Sequence[View], *, verbose: bool) -> None:
    """Write each view of a report where it goes, as `write_views` does."""
    folder = report.folder or os.getcwd()

    def shown(name: str, page: Page) -> str:
        return FORMATS[name](report, replace(page, folder=folder))

    write_views(shown, wanted, verbose=verbose)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and any(name == "github" for name, _ in wanted):
        _append_summary(Path(summary), report, Page(verbose=verbose, folder=folder))


def write_views(
    shown: Callable[[str, Page], str], wanted: Sequence[View], *, verbose: bool = False
) -> None:
    """Write each view, shown by its format on a page, where it goes.

    One that cannot be written after all does not keep the others from being written: UsageError
    names all of them at the end.
    """
    refused = []
    for name, path in sorted(wanted, key=_order):
        if path is None:
            write(shown(name, _screen(verbose)))
            continue
        try:
            write_whole(path, shown(name, Page(verbose=verbose)))
        except OSError as error:
            kept = " (what was in it before is still there)" if path.exists() else ""
            refused.append(_refused(path, error) + kept)
    if refused:
        raise UsageError("--format: " + "; ".join(refused))


def _order(view: View) -> tuple[bool, bool, bool]:
    """Return the place of a view: what most depends on comes first.

    Standard output, since a full disk must not hide the report, annotations below the text; then
    the JSON, from which all others can be made again.
    """
    name, path = view
    return path is not None, name != "json", name == "github"


def _append_summary(path: Path, report: Report, page: Page) -> None:
    """Append the summary of a step, which other steps may have written to before."""
    from gradverify.report.github import summary

    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(summary(report, page, before))
    except OSError as error:
        raise UsageError(f"$GITHUB_STEP_SUMMARY: {_refused(path, error)}") from None


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
