"""What the cases of a layer were like, in a few lines."""

from collections.abc import Iterator, Mapping

from rich.text import Text

from gradverify.report import Page
from gradverify.report.finding import wrapped
from gradverify.result import Coverage

_LABEL = 12  # columns of a label: those of a finding


def covered(coverage: Coverage, page: Page) -> Iterator[Text]:
    """Yield the lines that tell how often each value occurred, and what did not."""
    yield from _line("cases", f"{coverage.cases}, of which", page)
    for what, counts in (*coverage.factors.items(), *coverage.sizes.items()):
        if len(counts) > 1 or what in coverage.sizes:
            yield from _line(what, _counted(counts), page)
    for missing in coverage.missing:
        yield from _line("not tried", missing, page)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value}: {times}" for value, times in counts.items())


def _line(label: str, body: str, page: Page) -> Iterator[Text]:
    filled = wrapped(body, page, _LABEL + 2).lstrip()
    yield Text.assemble((f"  {label:<{_LABEL}}", "dim"), filled)
