"""A report as SARIF 2.1.0: rules are the checks, results the findings, at their pullback."""

import json
from hashlib import sha256
from pathlib import PurePath, PurePosixPath
from typing import Any
from urllib.parse import quote

from gradverify.report import Page
from gradverify.report.finding import printable, show
from gradverify.report.table import labels
from gradverify.report.worst import Place, place, problem_place, unjudged
from gradverify.result import Finding, LayerResult, Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "SRCROOT"
# A message that is longer is refused by some servers.
MESSAGE = 8000

ASKS = {  # what a rule asks whether
    "contract": "every declared tensor has a gradient of the right shape and dtype, and nothing "
    "is mutated, accumulated or shared",
    "forward": "the outputs are those of the definition",
    "symbolic": "every gradient, element by element, is the derived one",
    "finite_difference": "every gradient is the slope of the layer's own forward",
    "exact": "in 50-digit arithmetic, the pullback is the adjoint of the forward",
    "forward_mode": "the tangents of a layer's own jvp are the derived ones",
    "second_order": "the gradients of a layer's own double backward are the derived ones",
    "kinks": "on a kink or a tie, the gradient lies between the one-sided derivatives",
    "buffers": "running statistics are updated as declared, once, and by the forward alone",
    "descent": "one step along the gradients lowers the loss, as fast as they promise",
    "gate": "every layer is registered and verified as the project's policy wants it",
    "verdict": "every check that a verdict needs could judge the layer",
}
# Where `gradverify explain` tells of a rule that is no check.
TOLD_UNDER = {"verdict": "incomplete"}


def render(report: Report, page: Page) -> str:
    """Return the log of one run."""
    used = [f.check for f in report.findings]
    rules = list(dict.fromkeys([*ASKS, *used]))
    results: list[dict[str, Any]] = []
    for name, layer in zip(labels(report, page), report.layers, strict=True):
        for finding in layer.findings:
            results.append(_result(rules, name, layer, finding, page, report))
        if not layer.passes and not layer.errors:
            results.append(_incomplete(rules, name, layer, report))
    run = {
        "tool": {"driver": {
            "name": "gradverify", "semanticVersion": report.version, "version": report.version,
            "rules": [_rule(rule) for rule in rules],
        }},
        "invocations": [_invocation(report, page)],
        "originalUriBaseIds": {ROOT: {"uri": _folder_uri(report.root or page.folder)}},
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {"profile": report.profile, "seed": report.seed, **report.environment},
    }  # fmt: skip
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    # Half of a surrogate pair, which a name can hold, is no UTF-8.
    return json.dumps(log, indent=2, ensure_ascii=True) + "\n"


def _rule(name: str) -> dict[str, Any]:
    asked = ASKS.get(name, name)
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in name.split("_")) or "Check",
        "shortDescription": {"text": f"{name}: {asked}"},
        "fullDescription": {"text": f"{name} asks whether {asked}."},
        "help": {"text": f"gradverify explain {TOLD_UNDER.get(name, name)}"},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["gradients"]},
    }


def _result(
    rules: list[str], name: str, layer: LayerResult, finding: Finding, page: Page, report: Report
) -> dict[str, Any]:
    text = printable(show(name, finding, page).plain)
    who = (layer.spec, name, finding.check, finding.question, finding.tensor or "")
    return {
        "ruleId": finding.check,
        "ruleIndex": rules.index(finding.check),
        "level": "warning" if finding.severity == "warning" else "error",
        # A known failure is what this standard calls suppressed.
        **({"suppressions": [{"kind": "external", "justification": printable(layer.known)}]}
           if finding.severity == "known" else {}),
        "message": {"text": text[:MESSAGE]},
        "locations": _locations(place(finding.location or layer.source, report)),
        # The same thing in the next run, whatever its case and the line that it has moved to.
        "partialFingerprints": {"gradverify/v1": _digest(*who)},
        "properties": {"layer": name, "tensor": finding.tensor, "case": finding.case,
                       "replay": finding.replay},
    }  # fmt: skip


def _incomplete(rules: list[str], name: str, layer: LayerResult, report: Report) -> dict[str, Any]:
    why = "; ".join(unjudged(layer)) or "no check was made"
    return {
        "ruleId": "verdict",
        "ruleIndex": rules.index("verdict"),
        "level": "error",
        "message": {"text": printable(f"{name} is {layer.verdict}: {why}")[:MESSAGE]},
        "locations": _locations(place(layer.source, report)),
        "partialFingerprints": {"gradverify/v1": _digest(layer.spec, name, "verdict")},
    }


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _invocation(report: Report, page: Page) -> dict[str, Any]:
    notes = [
        {"level": "error", "message": {"text": printable(page.short(problem))[:MESSAGE]},
         "locations": _locations(problem_place(problem, report))}
        for problem in report.problems
    ]  # fmt: skip
    notes += [{"level": "note", "message": {"text": printable(n)[:MESSAGE]}} for n in report.notes]
    done = not report.interrupted and not report.problems
    found: dict[str, Any] = {"executionSuccessful": done, "toolExecutionNotifications": notes}
    if date := report.environment.get("date"):
        found["startTimeUtc"] = date.replace("+00:00", "Z")
    return found


def _locations(where: Place) -> list[dict[str, Any]]:
    if not where.path:
        return []
    uri = quote(where.path, errors="backslashreplace")
    artifact: dict[str, Any] = {"uri": uri, "uriBaseId": ROOT}
    if PurePosixPath(where.path).is_absolute() or ":" in where.path[:2]:
        artifact = {"uri": f"file://{'' if uri.startswith('/') else '/'}{uri}"}
    physical: dict[str, Any] = {"artifactLocation": artifact}
    if where.line:
        physical["region"] = {"startLine": where.line}
    return [{"physicalLocation": physical}]


def _folder_uri(root: str) -> str:
    path = quote(PurePath(root).as_posix().rstrip("/"), errors="backslashreplace")
    return f"file://{'' if path.startswith('/') else '/'}{path}/"
