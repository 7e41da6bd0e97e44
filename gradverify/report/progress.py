"""How far a run is, on stderr: a bar on a terminal, one line a layer elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from gradverify.report.finding import printable
from gradverify.report.table import verdict
from gradverify.result import LayerResult, Verdict


@contextmanager
def progress(total: int) -> Iterator[Callable[[LayerResult], None]]:
    """Yield a function to call with the result of each of `total` layers."""
    # Not what rich takes for a terminal: FORCE_COLOR in a log asks for no bar.
    if not sys.stderr.isatty():
        yield _Lines(total)
        return
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[layer]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, layer="")

        def advance(result: LayerResult) -> None:
            name = printable(result.layer)
            bar.update(task, advance=1, layer=name)
            if result.verdict is not Verdict.VERIFIED:
                bar.console.print(Text.assemble(verdict(result), " ", name))

        yield advance


class _Lines:
    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def __call__(self, result: LayerResult) -> None:
        self.done += 1
        width = len(str(self.total))
        print(
            f"{self.done:>{width}}/{self.total}  {verdict(result).plain:<10}  "
            f"{printable(result.layer)}",
            file=sys.stderr,
            flush=True,
        )
