"""Views of a Report: the table of formats, each a function from a Report and a Page to text."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gradverify.result import Report


@dataclass(frozen=True)
class Page:
    """What a view is written on: `width` in columns, in `colour` or not, `verbose` or not.

    Paths below `folder` are shown relative to it.
    """

    verbose: bool = False
    width: int = 100
    colour: bool = False
    folder: str = field(default_factory=os.getcwd)

    def short(self, text: str) -> str:
        """Return `text` with the paths below the folder made relative to it."""
        prefix = re.escape(self.folder.rstrip(os.sep) + os.sep)
        # A path starts where a word starts; /work is not the start of /other/work.
        return re.sub(rf"(?<![^\s\"'(=]){prefix}", "", text)


def text(report: Report, page: Page) -> str:
    """Return the report as a person reads it."""
    from gradverify.report.terminal import render  # rich is slow to import

    return render(report, page)


def json(report: Report, page: Page) -> str:
    """Return the report as JSON, the same on every page."""
    return report.to_json() + "\n"


def junit(report: Report, page: Page) -> str:
    """Return the report as the XML that CI servers read test results from."""
    from gradverify.report.junit import render

    return render(report, page)


def markdown(report: Report, page: Page) -> str:
    """Return the report as a comment on a code review."""
    from gradverify.report.markdown import render

    return render(report, page)


def github(report: Report, page: Page) -> str:
    """Return what is wrong as annotations of lines, by the commands of GitHub Actions."""
    from gradverify.report.github import render

    return render(report, page)


def sarif(report: Report, page: Page) -> str:
    """Return the findings as SARIF 2.1.0, which code scanning reads."""
    from gradverify.report.sarif import render

    return render(report, page)


def html(report: Report, page: Page) -> str:
    """Return the report as one page that a browser shows without a network."""
    from gradverify.report.html import render

    return render(report, page)


FORMATS: Mapping[str, Callable[[Report, Page], str]] = {
    "text": text, "json": json, "junit": junit, "markdown": markdown, "github": github,
    "sarif": sarif, "html": html,
}  # fmt: skip

# What a format needs besides the core.
EXTRAS: Mapping[str, tuple[str, ...]] = {"html": ("jinja2", "matplotlib")}

# What shows evidence, or keeps it for a view that is made later.
EVIDENT = frozenset({"json", "html"})
