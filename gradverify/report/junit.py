"""A report as the JUnit XML that CI servers read: a suite a layer, a case a check."""

import re
from xml.etree import ElementTree as ET

from gradverify.report import Page
from gradverify.report.finding import show
from gradverify.report.table import labels
from gradverify.report.worst import brief, place, unjudged
from gradverify.result import CheckResult, Finding, LayerResult, Report, Status

# What of a failure stands beside its name.
MESSAGE = 300
# What XML cannot hold, in whatever way it is written.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A check that could not judge is no success; one that was not asked is none of the check.
_ASKED = (Status.FAILED, Status.ERROR, Status.VACUOUS)


def render(report: Report, page: Page) -> str:
    """Return XML that is valid for Jenkins' schema and for that of Ant.

    What is wrong is a `failure` of a type; neither schema has an `error` that the other takes.
    """
    root = ET.Element("testsuites", name="gradverify")
    for name, layer in zip(labels(report, page), report.layers, strict=True):
        _suite(root, report, page, name, layer)
    _others(root, report, page)
    suites = list(root)
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", _seconds(sum(float(suite.get("time", "0")) for suite in suites)))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(root: ET.Element, report: Report, page: Page, name: str, layer: LayerResult) -> None:
    suite = _new_suite(root, report, name, layer.source, sum(c.seconds for c in layer.checks))
    group = f"{place(layer.source, report).path}::{layer.layer}"
    known = {c.check for c in layer.checks}
    for check in layer.checks:
        mine = [f for f in layer.findings if f.check == check.check and f.severity == "error"]
        case = _case(suite, group, check.check, check.seconds)
        fails = bool(mine) or (check.status in _ASKED and check.blocks)
        if layer.known and fails:
            excuse = brief(f"known failure: {layer.known}", MESSAGE)
            ET.SubElement(case, "skipped", message=legal(excuse))
        elif fails:
            _fail(case, page, name, mine, check)
        elif check.status is not Status.PASSED:
            why = f"{check.status}: {check.reason}" if check.reason else str(check.status)
            ET.SubElement(case, "skipped", message=legal(brief(why, MESSAGE)))
    others = [f for f in layer.errors if f.check not in known]
    failed = any(case.find("failure") is not None for case in suite)
    if others or not (layer.passes or failed):
        # Nothing above has failed, yet the layer is not verified: that must not look green.
        case = _case(suite, group, "verdict", 0.0)
        text = "\n\n".join(show(name, f, page).plain for f in others) or "\n".join(unjudged(layer))
        failure = ET.SubElement(case, "failure", type=str(layer.verdict),
                                message=f"the layer is {layer.verdict}")  # fmt: skip
        failure.text = legal(text)
    told = [show(name, f, page).plain for f in layer.findings if f.severity != "error"]
    told += [f"* {remark}" for remark in layer.remarks]
    ET.SubElement(suite, "system-out").text = legal("\n\n".join(told))
    ET.SubElement(suite, "system-err").text = ""
    _count(suite)


def _fail(
    case: ET.Element, page: Page, name: str, findings: list[Finding], check: CheckResult
) -> None:
    if findings:
        kind, message = findings[0].kind or findings[0].question, findings[0].message
        text = "\n\n".join(show(name, f, page).plain for f in findings)
    else:
        kind, message = str(check.status), check.reason or str(check.status)
        text = f"{check.check}: {check.status}: {check.reason}"
    failure = ET.SubElement(case, "failure", type=legal(brief(kind, MESSAGE)),
                            message=legal(brief(message, MESSAGE)))  # fmt: skip
    failure.text = legal(text)


def _others(root: ET.Element, report: Report, page: Page) -> None:
    """Add what could not be judged at all as failures of a suite of their own."""
    told = [(p.partition(": ")[0], page.short(p)) for p in report.problems]
    told += [("interrupted", "the run was interrupted")] * report.interrupted
    if not report.layers and not told and not report.idle:
        told = [("nothing", "nothing was judged")]
    if not told and not report.idle:
        return
    suite = _new_suite(root, report, "gradverify", "", 0.0)
    for where, problem in told:
        case = _case(suite, "gradverify", page.short(where), 0.0)
        failure = ET.SubElement(case, "failure", type="problem",
                                message=legal(brief(problem, MESSAGE)))  # fmt: skip
        failure.text = legal(problem)
    if report.idle:
        case = _case(suite, "gradverify", "nothing to judge", 0.0)
        ET.SubElement(case, "skipped", message=legal(brief(report.notes[0], MESSAGE)))
    ET.SubElement(suite, "system-out").text = ""
    ET.SubElement(suite, "system-err").text = ""
    _count(suite)


def _new_suite(
    root: ET.Element, report: Report, name: str, source: str, seconds: float
) -> ET.Element:
    # Ant's schema wants all of these, in local time without a zone: that of the run is UTC.
    date = report.environment.get("date", "1970-01-01T00:00:00")[:19]
    suite = ET.SubElement(
        root, "testsuite", name=legal(name), package="gradverify", id=str(len(root)),
        hostname="localhost", timestamp=legal(date), time=_seconds(seconds),
    )  # fmt: skip
    properties = ET.SubElement(suite, "properties")
    about = {"profile": report.profile, "seed": str(report.seed), "source": source,
             "gradverify": report.version}  # fmt: skip
    about |= {} if len(root) > 1 else report.environment  # the same for all
    for key, value in about.items():
        if value:
            ET.SubElement(properties, "property", name=legal(key), value=legal(value))
    return suite


def _case(suite: ET.Element, group: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=legal(group), name=legal(name),
                         time=_seconds(seconds))  # fmt: skip


def _count(suite: ET.Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def legal(text: str) -> str:
    """Return a text that XML can hold: a character that it cannot is shown by its number."""
    return _ILLEGAL.sub(lambda m: f"\\x{ord(m[0]):02x}", text)
