"""The errors a user can cause; each message says what is wrong, where, and what to do instead."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceback import FrameSummary


class GradverifyError(Exception):
    """Anything that is wrong with what gradverify was given; never a defect of gradverify."""


class SpecError(GradverifyError):
    """A spec, its shapes, constraints or definition cannot be used as written."""


class UsageError(GradverifyError):
    """A path, name or option value on the command line or in a call is not usable."""


def innermost(error: BaseException, of: Callable[[str], bool]) -> "FrameSummary | None":
    """Return the innermost line that an error went through in files `of` a kind, None if none."""
    from traceback import extract_tb  # not needed until something is wrong

    frames = [f for f in extract_tb(error.__traceback__) if of(f.filename)]
    return frames[-1] if frames else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is most like a wrong one, or at what is known."""
    from difflib import get_close_matches  # not needed until something is wrong

    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {few(names, 10)}"


def few(names: Sequence[str], most: int) -> str:
    """Return at most so many names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def caret(text: str, line: int, column: int) -> str:
    """Return line `line` (from 1) of `text` with a caret under `column` (from 0)."""
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines)) - 1]
    indent = len(shown) - len(shown.lstrip())
    return f"    {shown.strip()}\n    {' ' * max(column - indent, 0)}^"


def complain(message: str) -> None:
    """Tell the user of the command line, beside what the command prints."""
    print(f"gradverify: {message}", file=sys.stderr)
