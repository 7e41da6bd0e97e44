"""The table layer x check, in the widest form that the page has room for."""

from collections import Counter
from dataclasses import replace

from rich import box
from rich.table import Table
from rich.text import Text

from gradverify.report import Page
from gradverify.report.finding import printable, wrapped
from gradverify.result import CheckResult, LayerResult, Report, Status, Verdict

WORDS = {
    Status.PASSED: ("ok", "green"),
    Status.FAILED: ("FAIL", "bold red"),
    Status.REDUNDANT: ("redundant", "cyan"),
    Status.NOT_APPLICABLE: ("n/a", "dim"),
    Status.VACUOUS: ("vacuous", "yellow"),
    Status.UNAVAILABLE: ("unavailable", "yellow"),
    Status.SKIPPED: ("skipped", "dim"),
    Status.ERROR: ("ERROR", "bold red"),
}
VERDICTS = {
    Verdict.VERIFIED: ("verified", "green"),
    Verdict.FAILED: ("FAILED", "bold red"),
    Verdict.INCOMPLETE: ("incomplete", "bold yellow"),
}
_GAP = 2
_NAME = 16  # columns below which a layer's name is not broken into lines any more


def labels(report: Report, page: Page) -> list[str]:
    """Return what each layer is called: its name, with its file where two have the same name."""
    times = Counter(layer.layer for layer in report.layers)
    return [
        printable(layer.layer)
        if times[layer.layer] == 1
        else printable(f"{page.short(layer.source).rpartition(':')[0]}::{layer.layer}")
        for layer in report.layers
    ]


def word(status: Status) -> Text:
    """Return a status as a short word that needs no colour to be read."""
    return Text(*WORDS[status])


def called(layer: LayerResult) -> tuple[str, str]:
    """Return what a layer's verdict is called, and its colour."""
    return ("known failure", "yellow") if layer.known else VERDICTS[layer.verdict]


def verdict(layer: LayerResult) -> Text:
    """Return a verdict; a star says that there are remarks on it."""
    shown, style = called(layer)
    return Text(shown + "*" * bool(layer.remarks), style)


def columns_of(report: Report) -> list[str]:
    """Return the checks that a table has a column for: not those of what no layer offers, unless
    nothing else was asked."""
    checks = [c for layer in report.layers for c in layer.checks]
    asked = any(c.offered and c.status is not Status.SKIPPED for c in checks)
    return list(dict.fromkeys(c.check for c in checks if c.offered or not asked))


def layers_by_checks(report: Report, page: Page) -> Table:
    """Return the table of all layers: a column a check where there is room for that."""
    names = labels(report, page)
    checks = columns_of(report)
    columns = [_column(check, report.layers) for check in checks]
    verdicts = max(len("verdict"), *(len(verdict(layer)) for layer in report.layers))
    for heads in (checks, [check.replace("_", "_\n") for check in checks]):
        widths = [
            max(*(len(line) for line in head.split("\n")), *(len(WORDS[s][0]) for s in column))
            for head, column in zip(heads, columns, strict=True)
        ]
        room = page.width - sum(widths) - verdicts - _GAP * (len(checks) + 1)
        if room >= max(len("layer"), *map(len, names)):
            return _wide(report, names, checks, heads)
    # Then a few long names are broken at their underscores.
    names = [_broken(name, room) for name in names]
    if room >= _NAME and max(len(line) for name in names for line in name.split("\n")) <= room:
        return _wide(report, names, checks, heads)
    return _narrow(report, labels(report, page), checks, page)


def _column(check: str, layers: tuple[LayerResult, ...]) -> list[Status]:
    return [c.status for layer in layers for c in layer.checks if c.check == check]


def _broken(name: str, width: int) -> str:
    lines = [""]
    for part in name.replace("_", "_\0").replace("/", "/\0").replace("::", "::\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _table() -> Table:
    # The box itself has a blank between columns.
    return Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), show_edge=False, pad_edge=False)


def _wide(report: Report, names: list[str], checks: list[str], heads: list[str]) -> Table:
    table = _table()
    for head in ("layer", *heads, "verdict"):
        table.add_column(Text(head), no_wrap=True)
    for name, layer in zip(names, report.layers, strict=True):
        found = {c.check: word(c.status) for c in layer.checks}
        table.add_row(Text(name), *(found.get(c, Text()) for c in checks), verdict(layer))
    return table


def _narrow(report: Report, names: list[str], columns: list[str], page: Page) -> Table:
    table = _table()
    table.add_column("verdict", no_wrap=True)
    table.add_column("layer and its checks", overflow="fold")
    words = [*(v for v, _ in VERDICTS.values()), *(called(layer)[0] for layer in report.layers)]
    room = replace(page, width=page.width - max(map(len, words)) - 2 * _GAP)
    for name, layer in zip(names, report.layers, strict=True):
        table.add_row(verdict(layer), Text(_broken(name, room.width)))
        if layer.checks:
            table.add_row("", _grouped(layer.checks, columns, room))
    return table


def _grouped(checks: tuple[CheckResult, ...], columns: list[str], room: Page) -> Text:
    """Return the checks by status, what is wrong first: "FAIL symbolic", "ok contract"."""
    order = sorted(Status, key=lambda s: (s is not Status.FAILED, s is Status.PASSED))
    groups = []
    checks = tuple(c for c in checks if c.check in columns)
    for status in order:
        names = [c.check for c in checks if c.status is status]
        if names:
            listed = ", ".join(names)
            if len(names) == len(checks) > 1:
                listed = f"in all {len(names)} checks"
            shown = word(status)
            body = wrapped(f"{shown} {listed}", room, _GAP).lstrip().removeprefix(shown.plain)
            groups.append(Text.assemble(" " * _GAP, shown, body))
    return Text("\n").join(groups)
