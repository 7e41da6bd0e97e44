"""What has to be told where there is no room for all of it: worst first, each thing once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from gradverify.report import Page
from gradverify.report.finding import show
from gradverify.report.table import labels
from gradverify.result import Finding, LayerResult, Report


@dataclass(frozen=True)
class Place:
    """A file, relative to the project where it is in it, and a line of it; "" for no file."""

    path: str
    line: int | None = None


@dataclass(frozen=True)
class Told:
    """One thing to act on: what checks have found of a tensor of a layer, or why there is no
    verdict. `title` is a line and `text` all of it."""

    severity: str
    title: str
    text: str
    place: Place
    worst: float = math.inf


def place(location: str | None, report: Report, root: str = "") -> Place:
    """Return the place that file:line says, relative to a root (default: that of the project)."""
    path, _, line = (location or "").rpartition(":")
    if not line.isdigit():
        path, line = location or "", ""
    if path:
        whole = PurePath(report.folder, path)  # where it is relative, to where the run was
        root = root or report.root
        inside = root and whole.is_relative_to(root)
        path = (whole.relative_to(root) if inside else whole).as_posix()
    return Place(path, int(line) if line else None)


def problem_place(problem: str, report: Report, root: str = "") -> Place:
    """Return where a problem is, which starts with file:line where that is known."""
    first = problem.partition("\n")[0]
    for text in (": ".join(first.split(": ")[:k]) for k in (1, 2)):
        found = place(text, report, root)
        if found.path.endswith(".py"):
            return found
    return Place("")


def worst_first(report: Report, page: Page, root: str = "") -> list[Told]:
    """Return all that keeps a report from being ok, then its warnings.

    Findings of one tensor at one place are one thing: a wrong gradient fails several checks.
    Places are relative to a root, by default that of the project.
    """
    told = [*_problems(report, page, root), *_layers(report, page, root)]
    order = {"error": 0, "warning": 1}
    return sorted(told, key=lambda t: (order.get(t.severity, 1), -t.worst))


def _problems(report: Report, page: Page, root: str) -> Iterator[Told]:
    for problem in report.problems:
        head = page.short(problem)
        yield Told("error", head.partition("\n")[0], head, problem_place(problem, report, root))
    if report.interrupted:
        yield Told("error", "the run was interrupted", "Not all layers were judged.", Place(""))
    if report.idle:
        yield Told("warning", report.notes[0], "\n".join(report.notes), Place(""))
    elif not report.layers and not report.problems:
        yield Told("error", "nothing was judged", "The report has no layers.", Place(""))


def _layers(report: Report, page: Page, root: str) -> Iterator[Told]:
    for name, layer in zip(labels(report, page), report.layers, strict=True):
        groups: dict[tuple[str | None, str | None, str], list[Finding]] = {}
        for finding in layer.findings:
            key = finding.tensor, finding.location, finding.severity
            groups.setdefault(key, []).append(finding)
        for (_, location, severity), findings in groups.items():
            where = place(location or layer.source, report, root)
            first = leading(findings)
            text = show(name, first, page, [f for f in findings if f is not first]).plain
            worst = max(map(excess, findings))
            yield Told(severity, _title(name, first), text, where, worst)
        if not layer.passes and not layer.errors:
            reasons = list(unjudged(layer))
            title = f"{name}: {layer.verdict}"
            yield Told(
                "error", title, "\n".join([title, *reasons]), place(layer.source, report, root), 0.0
            )


def unjudged(layer: LayerResult) -> Iterator[str]:
    """Yield why a layer is not verified where no finding says so."""
    for check in layer.checks:
        if check.blocks:
            yield f"{check.check}: {check.status}" + f": {check.reason}" * bool(check.reason)


def excess(finding: Finding) -> float:
    """Return how many times more than allowed a finding is off; what is no number is worse, but
    for what only follows from another finding."""
    if finding.follows is not None:
        return 0.0
    if finding.expected is None or finding.got is None or not finding.allowed:
        return math.inf
    found = abs(finding.got - finding.expected) / finding.allowed
    return math.inf if math.isnan(found) else found


def leading(findings: Sequence[Finding]) -> Finding:
    """Return the finding that says most of those of one tensor: what is wrong with the formula."""
    return next((f for f in findings if f.kind), findings[0])


def _title(name: str, finding: Finding) -> str:
    tensor = f" · {finding.tensor}" if finding.tensor else ""
    what = (finding.diagnosis or finding.message).partition("\n")[0]
    return f"{name}{tensor}: {what}"


def brief(text: str, most: int) -> str:
    """Return a text of one line that is cut in its middle where it is too long."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head = (most - 3) * 2 // 3
    return f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"
