"""The report as SARIF: valid by its schema, at the lines of the code, the same from run to run."""

import json
from dataclasses import replace

import jsonschema
import pytest
from reports import ALSO, SHARED, WRONG, failed, full, hostile, layer, report
from web_tools import sarif_schema

from gradverify import Verdict
from gradverify.cli import main
from gradverify.report import FORMATS, Page
from gradverify.report.sarif import ASKS

PAGE = Page(folder="/home/me/project")


def run(made):
    log = json.loads(FORMATS["sarif"](made, PAGE))
    assert log["version"] == "2.1.0"
    (only,) = log["runs"]
    return only


@pytest.mark.parametrize("made", [full, hostile, report], ids=lambda f: f.__name__)
def test_it_is_valid_by_the_schema(made):
    """Whatever is in a report, the log is valid by the schema of SARIF 2.1.0."""
    schema = sarif_schema()
    log = json.loads(FORMATS["sarif"](made(), PAGE))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [e.message for e in validator.iter_errors(log)] == []
    assert validator.is_valid({**log, "version": "2.0.0"}) is False


def test_results_are_findings_at_their_lines():
    """Each finding is a result of its check's rule, at the line of the pullback."""
    found = run(full())
    assert [(r["ruleId"], r["level"]) for r in found["results"]] == [
        ("symbolic", "error"), ("descent", "error"), ("contract", "warning"), ("verdict", "error"),
    ]  # fmt: skip
    rules = found["tool"]["driver"]["rules"]
    for result in found["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    first = found["results"][0]
    assert first["locations"] == [
        {"physicalLocation": {
            "artifactLocation": {"uri": "specs/norm.py", "uriBaseId": "SRCROOT"},
            "region": {"startLine": 29},
        }}
    ]  # fmt: skip
    assert found["originalUriBaseIds"] == {"SRCROOT": {"uri": "file:///home/me/project/"}}
    assert "a mean over N where the sum is derived" in first["message"]["text"]
    assert first["properties"]["replay"] == WRONG.replay


def test_every_check_is_a_rule():
    """Rules are there whether or not they found anything, so that a server can list them."""
    from gradverify.checks.names import NAMES

    assert {*NAMES, "gate", "verdict"} == set(ASKS)
    rules = run(report(layer()))["tool"]["driver"]["rules"]
    assert [r["id"] for r in rules] == list(ASKS)
    for rule in rules:
        command, *words = rule["help"]["text"].split()
        assert command == "gradverify"
        assert main(words) == 0, "what a rule says to look up is explained"


def test_what_could_not_be_judged_is_told():
    """A problem is a notification of a run that did not succeed; an unjudged layer is a result."""
    found = run(full())
    (invocation,) = found["invocations"]
    assert invocation["executionSuccessful"] is False
    (note,) = invocation["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("specs/bad.py:3: does not import")
    assert note["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}
    assert invocation["startTimeUtc"] == "2031-02-03T04:05:06Z"
    last = found["results"][-1]
    assert (
        last["message"]["text"] == "unsure is incomplete: forward: vacuous: why forward is vacuous"
    )
    assert run(report(layer()))["invocations"][0]["executionSuccessful"] is True


def test_fingerprints_stay_where_lines_move():
    """The same thing has the same fingerprint at another line and case, another one has not."""
    moved = replace(WRONG, location="/home/me/project/specs/norm.py:99", case="N=2", got=0.25)
    prints = [
        run(report(failed("norm", f)))["results"][0]["partialFingerprints"]["gradverify/v1"]
        for f in (WRONG, moved, ALSO, SHARED)
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_file_outside_of_the_project_has_an_address_of_its_own():
    """What is not below the root is named in full, with what a URI cannot hold encoded."""
    away = replace(WRONG, location="/opt/a b#c.py:3")
    (result,) = run(report(layer("a", Verdict.FAILED, [away])))["results"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": "file:///opt/a%20b%23c.py"}


def test_a_relative_path_is_one_of_the_folder_of_the_run():
    """Who runs in a folder of a repository gets paths that the repository knows."""
    near = replace(WRONG, location="norm.py:3")
    made = report(layer("a", Verdict.FAILED, [near]), folder="/home/me/project/specs")
    (result,) = run(made)["results"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": "specs/norm.py", "uriBaseId": "SRCROOT"}
