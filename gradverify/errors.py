"""The errors a user can cause; each message says what is wrong, where, and what to do instead."""


class GradverifyError(Exception):
    """Anything that is wrong with what gradverify was given; never a defect of gradverify."""


class SpecError(GradverifyError):
    """A spec, its shapes, constraints or definition cannot be used as written."""


class UsageError(GradverifyError):
    """A path, name or option value on the command line or in a call is not usable."""


def caret(text: str, line: int, column: int) -> str:
    """Return line `line` (from 1) of `text` with a caret under `column` (from 0)."""
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines)) - 1]
    indent = len(shown) - len(shown.lstrip())
    return f"    {shown.strip()}\n    {' ' * max(column - indent, 0)}^"
