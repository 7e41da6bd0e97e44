"""Views of a Report: the table of formats, each a function from a Report and a Page to text."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

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


def _by(module: str) -> Callable[[Report, Page], str]:
    """Return what shows a report by a module of this package, which is imported when it is asked
    for: they are slow to import."""

    def shown(report: Report, page: Page) -> str:
        return str(import_module(f"{__name__}.{module}").render(report, page))

    return shown


FORMATS: Mapping[str, Callable[[Report, Page], str]] = {
    "text": _by("terminal"), "json": lambda report, page: report.to_json() + "\n",
    "junit": _by("junit"), "markdown": _by("markdown"), "github": _by("github"),
    "sarif": _by("sarif"), "html": _by("html"),
}  # fmt: skip

# What a format needs besides the core.
EXTRAS: Mapping[str, tuple[str, ...]] = {"html": ("jinja2", "matplotlib")}

# What shows evidence, or keeps it for a view that is made later.
EVIDENT = frozenset({"json", "html"})
