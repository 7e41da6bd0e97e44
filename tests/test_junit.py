"""The report as JUnit XML: valid for CI servers, never green where the report is not."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from reports import HARMFUL, SHARED, WRONG, failed, full, hostile, layer, report

from gradverify import Status, Verdict
from gradverify.report import FORMATS, Page
from gradverify.result import CheckResult

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))
PAGE = Page(folder="/home/me/project")


def read(made):
    text = FORMATS["junit"](made, PAGE)
    SCHEMA.validate(text)
    return ET.fromstring(text)


def cases(suite):
    return {
        case.get("name"): next((child.tag for child in case), "passed")
        for case in suite.findall("testcase")
    }


def test_a_suite_a_layer_and_a_case_a_check():
    """Every layer is a suite and each of its checks a case, with what was wrong in full."""
    root = read(full())
    assert [suite.get("name") for suite in root] == ["calm", "norm", "unsure", "gradverify"]
    calm, wrong, unsure, problems = root
    assert cases(calm) == {
        "contract": "passed", "forward": "passed", "symbolic": "passed", "descent": "passed",
        "kinks": "skipped",
    }  # fmt: skip
    assert cases(wrong)["symbolic"] == cases(wrong)["descent"] == "failure"
    assert cases(unsure) == {**cases(calm), "forward": "failure"}
    (failure,) = (c.find("failure") for c in wrong if c.get("name") == "symbolic")
    assert failure.get("message") == WRONG.message
    assert failure.get("type") == "factor"
    assert "diagnosis   a mean over N where the sum is derived" in failure.text
    assert "at          specs/norm.py:29" in failure.text
    assert "warning norm · contract · x" in wrong.find("system-out").text
    assert problems.find("testcase").get("name") == "specs/bad.py:3"
    assert [root.get(k) for k in ("tests", "failures", "errors")] == ["16", "4", "0"]
    assert calm.get("timestamp") == "2031-02-03T04:05:06"


@pytest.mark.parametrize(
    "made",
    [
        report(),
        report(layer(), interrupted=True),
        report(layer(), problems=("no",)),
        report(layer("a", Verdict.INCOMPLETE, statuses={"forward": Status.SKIPPED})),
        report(layer("a", Verdict.FAILED, [WRONG], checks=())),
        report(layer("a", Verdict.INCOMPLETE, statuses={"forward": Status.UNAVAILABLE})),
    ],
    ids=["empty", "interrupted", "problem", "skipped", "no checks", "unavailable"],
)
def test_what_is_not_ok_is_never_green(made):
    """Whatever keeps a report from being ok is a failure, though no check failed."""
    assert not made.ok
    root = read(made)
    assert int(root.get("failures")) == 1
    assert len(list(root.iter("failure"))) == 1


def test_what_is_ok_is_green():
    """A warning fails nothing: it stands in the output of its suite."""
    made = report(layer("a", findings=[SHARED]))
    assert made.ok
    root = read(made)
    assert root.get("failures") == "0"
    assert "dx is dy" in root[0].find("system-out").text


@pytest.mark.parametrize(
    ("check", "status"),
    [("exact", Status.VACUOUS), ("exact", Status.UNAVAILABLE), ("kinks", Status.UNAVAILABLE)],
)
def test_what_a_verdict_does_without_is_skipped(check, status):
    """A layer is verified without what it cannot be asked: no server may call that a failure."""
    made = report(layer("a", checks=(CheckResult(check, status, "why"),)))
    assert made.ok
    root = read(made)
    assert root.get("failures") == "0"
    (skipped,) = root.iter("skipped")
    assert skipped.get("message") == f"{status}: why"


def test_names_that_mean_harm_are_only_names():
    """XML is whole whatever a layer is called: what it cannot hold is shown by its number."""
    root = read(hostile())
    names = [suite.get("name") for suite in root]
    assert names[0] == HARMFUL[0]
    assert names[3] == "\\x1b[2Jbell\\x07nul\\x00del\\x7f\\xfffe"
    assert names[4] == "half \\ud800 of a pair"
    assert len(names[10]) == 10_000


def test_two_layers_of_one_name_have_suites_of_their_own():
    """A server that counts by name counts both."""
    a, b = failed(source="/home/me/project/a.py:3"), layer(source="/home/me/project/b.py:3")
    assert [s.get("name") for s in read(report(a, b))] == ["a.py::norm", "b.py::norm"]


def test_the_schema_refuses_what_servers_refuse():
    """A case that has an error, or a suite without its time, is not valid here either."""
    text = FORMATS["junit"](report(layer(checks=(CheckResult("forward", Status.PASSED),))), PAGE)
    for old, new in (
        ('hostname="localhost"', ""),
        ("</testcase>", ""),
        ('time="0.000"', 'time="x"'),
    ):
        if old in text:
            assert not SCHEMA.is_valid(text.replace(old, new, 1))
    broken = text.replace(
        'name="forward" time="0.000" />', 'name="forward" time="0.000"><error/></testcase>'
    )
    assert broken != text
    assert not SCHEMA.is_valid(broken)
