"""What pytest says at the end: the table of layers and checks, and what was not checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import RenderableType
from rich.text import Text

from gradverify import __version__
from gradverify.checks.names import NAMES
from gradverify.config import Config
from gradverify.errors import few
from gradverify.outcome import broken
from gradverify.report import Page
from gradverify.report.finding import printable, show, wrapped
from gradverify.report.table import layers_by_checks
from gradverify.report.terminal import counts, rendered
from gradverify.result import LayerResult, Report, Status, Verdict

if TYPE_CHECKING:
    from gradverify.plugin.session import Plan

_ROWS = 20  # of a longer table only those layers are shown that are not verified
_UNASKED = (Status.SKIPPED, Status.VACUOUS, Status.UNAVAILABLE, Status.ERROR)
_NAMES = 3  # of layers in one line


def summarize(
    reporter: "pytest.TerminalReporter",
    results: Mapping[str, LayerResult],
    plan: "Plan",
    settings: Config,
    page: Page,
) -> None:
    """Write the summary: one line with -q, nothing with -qq, all rows and remarks with -v."""
    verbosity = reporter.config.getoption("verbose")
    ordered = [results[key] for key in sorted(results)]
    report = Report(__version__, settings.chosen.name, settings.seed, tuple(ordered))
    if verbosity < -1:
        return
    if verbosity < 0:
        reporter.write_line(f"gradverify: {counts(report)}")
        return
    writer = reporter.config.get_terminal_writer()
    page = replace(page, width=writer.fullwidth, colour=writer.hasmarkup, verbose=verbosity > 0)
    reporter.write_sep("=", "gradverify")
    reporter.write(rendered(_sections(report, results, plan, page), page))


def _sections(
    report: Report, results: Mapping[str, LayerResult], plan: "Plan", page: Page
) -> Iterator[RenderableType]:
    rows = report.layers
    if len(rows) > _ROWS and not page.verbose:
        rows = tuple(r for r in rows if r.verdict is not Verdict.VERIFIED)
    if rows:
        yield layers_by_checks(replace(report, layers=_narrowed(rows, plan, page)), page)
    if more := len(report.layers) - len(rows):
        yield Text(f"{'and ' * bool(rows)}{more} that are verified (-v shows all)")
    if page.verbose:
        for layer in report.layers:
            for remark in layer.remarks:
                yield Text(wrapped(f"* {layer.layer}: {remark}", page, 0, hang=2))
    if lines := list(_unchecked(results, plan)):
        yield Text()
        yield Text("not checked:", "bold")
        for line in lines:
            yield Text(wrapped(line, page, 2, hang=2))
    for layer in report.layers:
        for finding in layer.findings:
            if finding.severity == "warning":
                yield Text()
                yield show(layer.layer, finding, page)
    yield Text()
    yield Text(counts(report))


def _narrowed(layers: Sequence[LayerResult], plan: "Plan", page: Page) -> tuple[LayerResult, ...]:
    """Return layers with those checks that were asked of any, and had something to ask there."""
    asked = {check for checks in plan.asked.values() for check in checks}
    asked &= {c.check for x in layers for c in x.checks if c.status is not Status.NOT_APPLICABLE}
    return tuple(
        replace(layer, checks=tuple(c for c in layer.checks if c.check in asked),
                remarks=layer.remarks if page.verbose else ())
        for layer in layers
    )  # fmt: skip


def _unchecked(results: Mapping[str, LayerResult], plan: "Plan") -> Iterator[str]:
    """Yield a line for each reason for which checks of layers have no answer."""
    reasons: dict[tuple[str, str], list[str]] = {}  # (checks, reason) -> layers
    for key in sorted({*results, *plan.asked, *plan.deselected}):
        own: dict[str, list[str]] = {}  # reason -> checks
        if key not in results:
            own["the run ended before"] = sorted(plan.asked.get(key, ()))
            own["deselected"] = sorted(plan.deselected.get(key, ()))
        elif told := broken(results[key]):
            own[told] = sorted(NAMES)
        else:
            for check in results[key].checks:
                if check.status in _UNASKED:
                    own.setdefault(_reason(check.status, check.reason), []).append(check.check)
        for reason, checks in own.items():
            if checks:
                names = "" if sorted(checks) == sorted(NAMES) else f" · {', '.join(checks)}"
                name = results[key].layer if key in results else key.rpartition("::")[2]
                reasons.setdefault((names, reason), []).append(name)
    for (names, reason), layers in reasons.items():
        yield printable(f"{few(layers, _NAMES)}{names}: {reason}")


def _reason(status: Status, reason: str) -> str:
    if status is Status.SKIPPED:
        return "deselected" if reason == "not selected" else reason
    return f"{status}: {reason}".removesuffix(": ")
