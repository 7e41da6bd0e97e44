"""A report as text for a person: the table, then what is wrong in full, then the counts."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gradverify.report import Page
from gradverify.report.coverage import covered
from gradverify.report.finding import alike, printable, show, wrapped
from gradverify.report.table import labels, layers_by_checks, verdict, word
from gradverify.result import LayerResult, Report, Status, Verdict

# Of these a person wants to know why, even where nothing failed.
_TELL = (Status.VACUOUS, Status.UNAVAILABLE, Status.ERROR)


def render(report: Report, page: Page) -> str:
    """Return the report as text of the page's width, in colour where the page has it."""
    return rendered(_sections(report, page), page)


def rendered(sections: Iterable[RenderableType], page: Page) -> str:
    """Return sections as text of the page's width."""
    console = Console(
        file=io.StringIO(),
        width=page.width,
        force_terminal=page.colour,
        color_system="standard" if page.colour else None,
        no_color=not page.colour,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as capture:
        for section in sections:
            # Text is filled already; what is longer than the page is meant to be.
            console.print(section, soft_wrap=isinstance(section, Text))
    return "".join(f"{_no_command(line.rstrip())}\n" for line in capture.get().splitlines())


def _no_command(line: str) -> str:
    """Return a line that no CI server takes for a command, though a name may look like one."""
    return re.sub(r"^(\s*)(::|##\[)", r"\1\\\2", line)


def _sections(report: Report, page: Page) -> Iterator[RenderableType]:
    about = f"gradverify {report.version}, profile {report.profile}, seed {report.seed}"
    yield Text.assemble((wrapped(about, page, 0), "dim"))
    for note in report.notes:
        yield Text(wrapped(note, page, 0, hang=2))
    yield Text()
    if report.layers:
        yield layers_by_checks(report, page)
        yield Text()
    if page.verbose:
        for name, layer in zip(labels(report, page), report.layers, strict=True):
            yield from _tensors(name, layer, page)
    notes = list(_notes(report, page))
    yield from notes
    if notes:
        yield Text()
    yield from _findings(report, page)
    for problem in report.problems:
        yield _note(page, "PROBLEM", page.short(problem), "bold red")
        yield Text()
    colour = "green" if report.ok else "yellow" if report.idle else "red"
    yield Text(wrapped(counts(report), page, 0), f"bold {colour}")


def _findings(report: Report, page: Page) -> Iterator[Text]:
    """Yield the findings, errors before warnings; those of known failures only to a verbose page,
    which tells each by itself."""
    hidden = 0 if page.verbose else sum(f.severity == "known" for f in report.findings)
    for severities in (("error",), ("warning", "known") if page.verbose else ("warning",)):
        for name, layer in zip(labels(report, page), report.layers, strict=True):
            told = [f for f in layer.findings if f.severity in severities]
            derived: set[str | None] = set()
            for finding, *others in [[f] for f in told] if page.verbose else alike(told):
                # Equations are told once, not by every check that fails.
                known = finding.derived in derived
                shown = replace(finding, derived=None) if known else finding
                yield show(name, shown, page, others)
                yield Text()
                derived.add(finding.derived)
    hints = []
    if len(report.findings) > hidden:
        hints = ["`gradverify explain QUESTION` says what a finding means and how to fix it"]
    if hidden:
        hints.append(f"`-v` shows {_many(hidden, 'finding')} of known failures")
    for hint in hints:
        yield Text(wrapped(hint, page, 0), "dim")
    if hints:
        yield Text()


def _tensors(name: str, layer: LayerResult, page: Page) -> Iterator[RenderableType]:
    """Yield one row for every tensor of every check of a layer."""
    seconds = sum(check.seconds for check in layer.checks)
    spec = f", spec {layer.spec}" if layer.spec else ""
    heading = f"{name}{spec}, {page.short(layer.source)}, {seconds:.1f} s: "
    yield Text.assemble((printable(heading), "bold"), verdict(layer))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in ("  check", "cases", "tensor", "status", "worst/allowed", "allowed"):
        table.add_column(head, no_wrap=True, justify="right" if head == "cases" else "left")
    table.add_column("reason", overflow="fold")
    for check in layer.checks:
        rows = [
            (tensor, result.status, result.worst, result.allowed, result.reason)
            for tensor, result in check.tensors.items()
        ]
        if check.reason or not rows:
            rows.insert(0, ("", check.status, None, None, check.reason))
        for tensor, status, worst, allowed, reason in rows:
            table.add_row(
                f"  {check.check}",
                str(check.cases),
                Text(printable(tensor)),
                word(status),
                "" if worst is None else f"{worst:.2g}",
                "" if worst is None or allowed is None else f"{allowed:.1e}",
                Text(printable(reason)),
            )
    yield table
    if layer.coverage is not None:
        yield from covered(layer.coverage, page)
    yield Text()


def _notes(report: Report, page: Page) -> Iterator[Text]:
    """Yield what a person should know besides the findings, one line each."""
    for name, layer in zip(labels(report, page), report.layers, strict=True):
        for remark in layer.remarks:
            yield _note(page, f"* {name}:", remark)
        reasons: dict[str, list[str]] = {}
        for check in layer.checks:
            if check.status in _TELL or (check.status is Status.FAILED and not layer.findings):
                why = f"{check.status}: {check.reason}" if check.reason else str(check.status)
                reasons.setdefault(why, []).append(check.check)
        for why, checks in reasons.items():
            yield _note(page, f"{name} · {', '.join(checks)}:", why)
    skipped = dict.fromkeys(
        check.check for layer in report.layers for check in layer.checks
        if check.status is Status.SKIPPED and not check.ignored
    )  # fmt: skip
    if skipped and not report.interrupted:
        names = ", ".join(skipped)
        yield _note(page, "skipped:", f"{names} (a layer is verified only by all checks)")


def _note(page: Page, subject: str, body: str, style: str = "bold") -> Text:
    subject = printable(subject)
    shown = Text(wrapped(f"{subject} {body}", page, 0, hang=2))
    shown.highlight_regex("^" + re.escape(subject), style)
    return shown


def counts(report: Report) -> str:
    """Return the last line: how many layers came out how, and how many findings there are."""
    tally = Counter(layer.verdict for layer in report.layers if not layer.known)
    known = sum(bool(layer.known) for layer in report.layers)
    kinds = [f"{tally[v]} {v}" for v in Verdict if tally[v]]
    judged = ", ".join(kinds + ([_many(known, "known failure")] if known else []))
    line = f"{_many(len(report.layers), 'layer')}: {judged}" if judged else "nothing was judged"
    told = Counter(f.severity for f in report.findings)
    told["problem"] = len(report.problems)
    severities = ("error", "warning", "problem")
    found = ", ".join(_many(told[kind], kind) for kind in severities if told[kind])
    return "interrupted: " * report.interrupted + line + (f"; {found}" if found else "")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
