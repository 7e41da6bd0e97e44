"""A report as one page of HTML: no network, no script, readable in light, dark, print and aloud."""

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gradverify.evidence import Evidence
from gradverify.report import Page
from gradverify.report.finding import fields, printable
from gradverify.report.html import mathematics, plots
from gradverify.report.table import WORDS, called, columns_of, labels
from gradverify.report.terminal import counts
from gradverify.report.worst import leading, unjudged
from gradverify.result import CheckResult, Coverage, Finding, LayerResult, Report, Status, Verdict

# What is shown beside each status and verdict, so that no colour is needed to tell them apart.
SIGNS = {
    Status.PASSED: ("✓", "good"), Status.FAILED: ("✗", "bad"), Status.ERROR: ("✗", "bad"),
    Status.REDUNDANT: ("∅", "calm"), Status.NOT_APPLICABLE: ("–", "calm"),
    Status.VACUOUS: ("!", "warn"), Status.UNAVAILABLE: ("?", "warn"), Status.SKIPPED: ("–", "calm"),
}  # fmt: skip
ORDER = {Verdict.FAILED: 0, Verdict.INCOMPLETE: 1, Verdict.VERIFIED: 2}
VERDICT_SIGNS = {
    Verdict.VERIFIED: ("✓", "good"),
    Verdict.FAILED: ("✗", "bad"),
    Verdict.INCOMPLETE: ("!", "warn"),
}


@dataclass(frozen=True)
class Badge:
    """A word with its sign and its class of colours; `more` is told beside it."""

    word: str
    sign: str
    kind: str
    more: str = ""


@dataclass(frozen=True)
class Group:
    """Findings of one tensor: the one that says most, and those of other checks."""

    title: str
    severity: str
    rows: list[tuple[str, str, bool]]
    message: str
    others: list[tuple[str, str, list[tuple[str, str, bool]]]]


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    svg: Markup
    tensor: str
    caption: str
    case: str


@dataclass(frozen=True)
class Formula:
    """Equations under a heading: `math` where they can be typeset, else `text`."""

    title: str
    text: str
    math: Markup | None


@dataclass(frozen=True)
class Section:
    """One layer, as the page shows it."""

    key: str
    name: str
    spec: str
    source: str
    seconds: float
    verdict: Badge
    statuses: list[Badge | None]
    groups: list[Group]
    reasons: list[str]
    remarks: list[str]
    checks: list[CheckResult]
    wholes: list[Badge]
    tensors: list[tuple[str, str, list[Badge | None]]]
    coverage: Coverage | None
    evidence: Evidence | None
    constants: list[tuple[str, str]]
    formulas: list[Formula]
    heat: list[Figure]
    differences: list[Figure]
    losses: list[Figure]


def render(report: Report, page: Page) -> str:
    """Return the page."""
    checks = columns_of(report)
    names = labels(report, page)
    pairs = zip(names, report.layers, strict=True)
    # What is wrong comes first, and stands in the order of the run.
    worst = sorted(pairs, key=lambda pair: (pair[1].passes, ORDER[pair[1].verdict]))
    sections = [_section(k, name, layer, checks, page) for k, (name, layer) in enumerate(worst)]
    environment = Environment(
        loader=PackageLoader("gradverify.report.html"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=StrictUndefined, finalize=_legal,
    )  # fmt: skip
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.j2").render(
        report=report,
        verdict=("Verified", "✓", "good")
        if report.ok
        else ("Nothing verified", "–", "warn")
        if report.idle
        else ("Not verified", "✗", "bad"),
        counts=counts(report),
        date=report.environment.get("date", ""),
        checks=checks,
        layers=sections,
        problems=[page.short(p) for p in report.problems],
    )


def _legal(value: object) -> object:
    """Return what the template writes, without characters that no page can hold."""
    return printable(value) if type(value) is str else value


def _breakable(name: str) -> Markup:
    """Return a name that may be broken after its underscores."""
    return Markup(escape(printable(name)).replace("_", Markup("_<wbr>")))


def _section(number: int, name: str, layer: LayerResult, checks: list[str], page: Page) -> Section:
    key = f"layer-{number + 1}"
    evidence = layer.evidence
    found = {c.check: c for c in layer.checks}
    offered = [c for c in layer.checks if c.offered]
    sign, kind = ("!", "warn") if layer.known else VERDICT_SIGNS[layer.verdict]
    judged = layer.passes or bool(layer.errors)
    return Section(
        key=key,
        name=name,
        spec=layer.spec,
        source=page.short(layer.source),
        seconds=sum(c.seconds for c in layer.checks),
        verdict=Badge(called(layer)[0].lower(), sign, kind),
        statuses=[_badge(found[c].status) if c in found else None for c in checks],
        groups=list(_groups(layer, page)),
        reasons=[] if judged else list(unjudged(layer)),
        remarks=list(layer.remarks),
        checks=offered,
        wholes=[_badge(c.status) for c in offered],
        tensors=list(_tensors(layer, offered)),
        coverage=layer.coverage,
        evidence=evidence,
        constants=[
            (name, ", ".join(f"{v:g}" for v in values))
            for name, values in (evidence.declaration.constants if evidence else {}).items()
        ],
        formulas=list(_formulas(evidence)),
        heat=[
            Figure(Markup(plots.heat(h, f"{key}-heat-{k}")), h.tensor, plots.describe_heat(h),
                   h.case)
            for k, h in enumerate(evidence.heat if evidence else ())
        ],
        differences=[
            Figure(Markup(plots.differences(c, f"{key}-step-{k}")), c.tensor,
                   f"chosen step {c.step:.2g}; {plots.extrapolated(c)}"
                   + f"; the layer's gradient is off by {c.off:.3g}" * (not c.off <= c.allowed),
                   c.case)
            for k, c in enumerate(evidence.differences if evidence else ())
        ],
        losses=[
            Figure(Markup(plots.losses(c, f"{key}-loss-{k}")), c.tensor,
                   f"predicted slope {c.slope:.3g}, "
                   + (f"chosen rate {c.rate:.2g}" if c.rate else "no rate lowers the loss"), c.case)
            for k, c in enumerate(evidence.losses if evidence else ())
        ],
    )  # fmt: skip


def _badge(status: Status, more: str = "") -> Badge:
    sign, kind = SIGNS[status]
    return Badge(WORDS[status][0].lower(), sign, kind, more)


def _groups(layer: LayerResult, page: Page) -> Iterator[Group]:
    """Yield the findings by tensor, errors first."""
    groups: dict[tuple[str, str | None], list[Finding]] = {}
    for severity in ("error", "warning"):
        for finding in layer.findings:
            if (finding.severity == "error") is (severity == "error"):
                groups.setdefault((severity, finding.tensor), []).append(finding)
    for (severity, tensor), findings in groups.items():
        first = leading(findings)
        title = first.diagnosis or first.message
        about = f"{tensor}: " if tensor else ""
        rows = _rows(first, page, "diagnosis")
        others = [
            (f"{f.check} ({f.question})", f.message,
             _rows(f, page, "diagnosis", "derived", "odd one"))
            for f in findings if f is not first
        ]  # fmt: skip
        rows.insert(0, ("check", first.check, True))
        message = first.message if first.diagnosis else ""
        yield Group(about + title, severity, rows, message, others)


def _rows(finding: Finding, page: Page, *left_out: str) -> list[tuple[str, str, bool]]:
    return [(label, value.strip(), filled) for label, value, filled in fields(finding, page)
            if label not in left_out]  # fmt: skip


def _tensors(
    layer: LayerResult, checks: list[CheckResult]
) -> Iterator[tuple[str, str, list[Badge | None]]]:
    """Yield a row for each tensor: its name, its role, and how each check came out for it."""
    declared = layer.evidence.declaration.tensors if layer.evidence else ()
    roles = {t.name: t.role for t in declared}
    seen = dict.fromkeys(t for check in checks for t in check.tensors)
    for tensor in sorted(seen, key=lambda t: list(roles).index(t) if t in roles else len(roles)):
        yield tensor, roles.get(tensor, ""), [_cell(check, tensor) for check in checks]


def _cell(check: CheckResult, tensor: str) -> Badge | None:
    found = check.tensors.get(tensor)
    if found is None:
        return None
    return _badge(found.status, "" if found.worst is None else f"{found.worst:.2g}")


def _formulas(evidence: Evidence | None) -> Iterator[Formula]:
    for equations in evidence.equations if evidence else ():
        math = mathematics.checked(equations.mathml)
        yield Formula(equations.title, equations.text, None if math is None else Markup(math))
