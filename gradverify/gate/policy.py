"""What a project demands of its layers beyond their verdicts, and which failures it knows of."""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify.again import beside, quoted
from gradverify.config import Config, GatePolicy, KnownFailure
from gradverify.errors import few, nearest
from gradverify.gate import CHECK
from gradverify.result import GOOD, Finding, LayerResult, Status, Verdict

if TYPE_CHECKING:
    from gradverify.audit.run import LayerAudit


def under_policy(layer: LayerResult, file: str, config: Config, today: date) -> LayerResult:
    """Return a result, of a layer that a file registers, as the project's policy has it.

    What is required and not there is an error, and so is a known failure that does not fail, of
    what was asked. Where nothing but known failures is wrong, the layer is marked as known to fail.
    """
    mine = [k for k in config.known_failures if fnmatchcase(layer.layer, k.layer)]
    live = [k for k in mine if k.counts(today)]
    failing = {f.check for f in layer.errors}
    unanswered = [c for c in layer.checks if c.blocks and c.check not in failing]
    excuses = [
        *((f.check, _excuses(live, f.check, f.tensor)) for f in layer.errors),
        # A check that fails of itself, and not of one tensor, is known only as a whole; what was
        # not asked is not known.
        *(
            (c.check, _excuses(live, c.check, None) if c.status is not Status.SKIPPED else [])
            for c in unanswered
        ),
    ]
    excused = {check for check, found in excuses if found}
    used = {k for _, found in excuses for k in found}
    findings = [
        *(
            _passes(layer, file, k, config.file)
            for k in live
            if k not in used and _was_asked(layer, k)
        ),
        *_missing(layer, file, config.gate, failing | excused),
    ]
    expired = [
        f"a failure known until {k.expires} ({k.reason}) is not excused any more"
        for k in mine if k not in live
    ]  # fmt: skip
    told = with_findings(replace(layer, remarks=(*expired, *layer.remarks)), findings)
    if layer.verdict is Verdict.VERIFIED or findings or not all(found for _, found in excuses):
        return told
    known = "; ".join(f"{k.reason} (until {k.expires})" for k in live if k in used)
    return replace(
        told,
        known=known,
        remarks=(f"known failure: {known}", *told.remarks),
        findings=tuple(
            replace(f, severity="known") if f.severity == "error" else f for f in told.findings
        ),
    )


def _excuses(live: Iterable[KnownFailure], check: str, tensor: str | None) -> list[KnownFailure]:
    """Return the known failures that cover a failure of a check."""
    return [k for k in live if k.covers(check, tensor)]


def _was_asked(layer: LayerResult, known: KnownFailure) -> bool:
    """Whether all was asked that could have failed as known."""
    mine = [c for c in layer.checks if known.check in (None, c.check)]
    return all(c.ignored or c.status is not Status.SKIPPED for c in mine)


def _passes(layer: LayerResult, file: str, known: KnownFailure, settings: Path | None) -> Finding:
    where = " · ".join(filter(None, (known.check, known.tensor))) or "any check"
    return _finding(
        layer,
        file,
        "known",
        f"a failure of {where} is listed as known until {known.expires} ({known.reason}), and "
        "there is none: delete it from [[tool.gradverify.known_failures]]",
        location=str(settings),
    )


def _missing(
    layer: LayerResult, file: str, policy: GatePolicy, told: AbstractSet[str]
) -> Iterator[Finding]:
    """Yield an error for each check, and a definition, that is required and not there, but for
    checks of which something is told already."""
    results = {c.check: c for c in layer.checks if c.status not in GOOD}
    for name in policy.require:
        if name in results and name not in told:
            status, reason = results[name].status, results[name].reason
            because = f": {reason}" if reason else ""
            message = f"the project requires {name}, which is {status}{because}"
            yield _finding(layer, file, "required", message)
    if policy.require_definition and any(c.undefined for c in layer.checks):
        message = f"the project requires a definition, and the spec {layer.spec!r} has none"
        yield _finding(layer, file, "definition", message)


def with_power(layer: LayerResult, file: str, audit: "LayerAudit", least: float) -> LayerResult:
    """Return the result of a new layer with an error where too few planted faults were caught.

    One that could not be audited, by a defect of gradverify, is incomplete.
    """
    from gradverify.jobs import DEFECT  # slow to import, and here already

    if audit.planted and audit.caught >= least * audit.planted:
        return layer
    if audit.problem.startswith(DEFECT):
        return replace(layer, verdict=Verdict.INCOMPLETE, remarks=(*layer.remarks, audit.problem))
    share = f"{100 * audit.caught / audit.planted:.3g} %" if audit.planted else ""
    told = audit.problem or (
        f"the checks caught {audit.caught} of {audit.planted} planted faults, {share}"
        if audit.planted else "no fault could be planted"
    )  # fmt: skip
    weak = replace(
        _finding(
            layer, file, "power", f"{told}; the project demands {100 * least:.3g} % of new layers"
        ),
        diagnosis="not caught: " + few([s.fault for s in audit.survivors], 5)
        if audit.survivors else None,
        replay=f"gradverify audit {quoted(f'{beside(file)}::{layer.layer}')} --min-power {least:g}",
    )  # fmt: skip
    return with_findings(layer, [weak])


def unmatched(failures: Iterable[KnownFailure], names: Iterable[str]) -> list[str]:
    """Return a problem for each known failure that is none of any of the layers, all there are."""
    known = sorted(set(names))
    return [
        f"[[tool.gradverify.known_failures]] layer = {f.layer!r} matches no layer; "
        f"{nearest(f.layer, known)}"
        for f in failures
        if not any(fnmatchcase(name, f.layer) for name in known)
    ]


def with_findings(layer: LayerResult, findings: Sequence[Finding]) -> LayerResult:
    """Return a result that fails with these errors too, if any."""
    if not findings:
        return layer
    return replace(layer, verdict=Verdict.FAILED, findings=(*layer.findings, *findings), known="")


def _finding(
    layer: LayerResult, file: str, question: str, message: str, *, location: str | None = None
) -> Finding:
    replay = f"gradverify verify {quoted(beside(file))} --layer {quoted(escape(layer.layer))}"
    return Finding(CHECK, question, message, location=location or layer.source, replay=replay)
