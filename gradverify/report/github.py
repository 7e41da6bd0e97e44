"""A report as annotations of GitHub Actions, and as the summary of a step."""

import os

from gradverify.report import Page
from gradverify.report.finding import printable
from gradverify.report.markdown import limited
from gradverify.report.worst import Told, brief, worst_first
from gradverify.result import Report

# GitHub shows so many annotations of each kind for a step, and drops all others without a word.
MOST = 10
# It cuts what is longer than this.
TITLE, MESSAGE = 200, 4000
# A summary above this size is refused whole.
SUMMARY = 1024 * 1024


def render(report: Report, page: Page) -> str:
    """Return one command a line; GitHub shows each at its line of the pullback."""
    # A job takes paths to be relative to its checkout.
    told = worst_first(report, page, os.environ.get("GITHUB_WORKSPACE", ""))
    lines, left = [], []
    for severity in ("error", "warning"):
        mine = [t for t in told if t.severity == severity]
        lines += [_command(severity, t) for t in mine[:MOST]]
        if (more := len(mine) - MOST) > 0:
            left.append(f"{more} more {severity}{'s' * (more != 1)}")
    if left:
        message = f"{' and '.join(left)}: see the step's summary or log for all of them"
        lines.append(f"::notice title=gradverify::{_data(message)}")
    return "".join(f"{line}\n" for line in lines)


def summary(report: Report, page: Page, before: int = 0) -> str:
    """Return the report in Markdown, at most as long as a step's summary can be.

    `before` bytes are in it already.
    """
    return limited(report, page, SUMMARY - before - 1024, bytes_count=True)


def _command(severity: str, told: Told) -> str:
    where = [f"title={_property(brief(printable(told.title), TITLE))}"]
    if told.place.path:
        line = [f"line={told.place.line}"] if told.place.line else []
        where = [f"file={_property(told.place.path)}", *line, *where]
    text = printable(told.text)
    if len(text) > MESSAGE:
        text = text[:MESSAGE] + "\n(cut: see the log)"
    return f"::{severity} {','.join(where)}::{_data(text)}"


def _data(text: str) -> str:
    """Return a text in which nothing ends the command, or starts another."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
