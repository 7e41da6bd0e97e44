"""What only the gate finds, in every view: known failures, layers that nobody judged, and a run in
which nothing had to be judged."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import xmlschema
from reports import ALSO, WRONG, failed, layer, report
from web_tools import sarif_schema

from gradverify import Finding, Verdict
from gradverify.report import FORMATS, Page
from gradverify.result import LayerResult, report_from_json

PAGE = Page(folder="/home/me/project")
EXCUSED = failed(
    "excused", *(replace(f, severity="known") for f in (WRONG, ALSO)),
    known="see the paper (until 2100-01-01)", remarks=("known failure: see the paper",),
)  # fmt: skip
PLACE = "/home/me/project/mylib/new.py:1"
LEFT_OUT = LayerResult(
    "", "mylib.new:Norm", PLACE, Verdict.FAILED, (),
    (Finding("gate", "unregistered", "it looks like a layer", location=PLACE),),
)  # fmt: skip
IDLE = report(notes=("nothing was verified: nothing changed since HEAD",))


def view(name, made):
    return FORMATS[name](made, PAGE)


def test_a_known_failure_is_green_in_no_view_and_red_in_none():
    """A layer that fails as known is not counted as wrong, and is told as a known failure."""
    made = report(layer("calm"), EXCUSED, notes=("2 of 3 spec files to judge",))
    assert made.ok
    assert report_from_json(made.to_json()) == made
    for name in ("text", "markdown", "html"):
        shown = view(name, made)
        assert "1 known failure" in shown, name
        assert "2 of 3 spec files to judge" in shown, name
        assert "known failure: see the paper" in shown or name == "markdown"
    assert view("github", made) == ""
    root = ET.fromstring(view("junit", made))
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    skipped = [s.get("message") for s in root.iter("skipped")]
    assert skipped.count("known failure: see the paper (until 2100-01-01)") == 2
    results = json.loads(view("sarif", made))["runs"][0]["results"]
    assert [r["suppressions"][0]["justification"] for r in results] == [EXCUSED.known] * 2


def test_a_layer_that_nobody_registered_is_an_error_in_every_view():
    """What has no checks is shown all the same, and nothing passes with it."""
    made = report(layer("calm"), LEFT_OUT)
    assert not made.ok
    for name in FORMATS:
        assert "it looks like a layer" in view(name, made), name
    assert ET.fromstring(view("junit", made)).get("failures") == "1"
    assert "::error file=mylib/new.py,line=1," in view("github", made)


def test_where_nothing_had_to_be_judged_nothing_is_called_verified_or_wrong():
    """No view says that something was verified, and none stops a merge."""
    assert not IDLE.ok
    for name in set(FORMATS) - {"sarif"}:
        assert "nothing was verified: nothing changed since HEAD" in view(name, IDLE), name
    assert ET.fromstring(view("junit", IDLE)).get("failures") == "0"
    assert view("github", IDLE).startswith("::warning ")
    assert "### gradverify: ⚪ nothing was verified" in view("markdown", IDLE)
    assert "Nothing verified" in view("html", IDLE)
    assert not report().idle


@pytest.mark.parametrize(
    "made", [report(EXCUSED, LEFT_OUT, notes=("a note",)), IDLE], ids=["some", "none"]
)
def test_the_schemas_hold(made):
    """JUnit and SARIF stay valid."""
    xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd"))).validate(view("junit", made))
    jsonschema.validate(json.loads(view("sarif", made)), sarif_schema())
