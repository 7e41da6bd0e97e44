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


FORMATS: Mapping[str, Callable[[Report, Page], str]] = {"text": text, "json": json}
