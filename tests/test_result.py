"""What results say of themselves: when a report is ok, and that JSON keeps all of it."""

import json
import math
from dataclasses import replace

import pytest
from reports import full, hostile

from gradverify import Finding, Report, Status, Verdict
from gradverify.result import CheckResult, LayerResult, TensorResult, report_from_json

FINDING = Finding(
    check="symbolic",
    question="gradient",
    message="dgamma is halved",
    tensor="gamma",
    index=(1, 2),
    expected=1.5,
    got=0.75,
    allowed=1e-15,
    why="20 x the spread of the oracle",
    case="N=3 C=2",
    diagnosis="ratio 1/2",
    derived="dgamma[c] = Σ[n](dy[n,c]*xhat[n,c])",
    location="specs/batch_norm.py:31",
    replay='gradverify replay specs/batch_norm.py::numpy_batch_norm "N=3 C=2"',
)
CHECK = CheckResult(
    "symbolic", Status.FAILED, "gamma differs", 40, 0.25,
    {"gamma": TensorResult(Status.FAILED, "12 cases", 7.5e14, 1e-15)},
)  # fmt: skip


def layer(verdict=Verdict.VERIFIED, checks=(), findings=()):
    return LayerResult("spec", "layer", "specs/spec.py:3", verdict, checks, findings, ("a remark",))


def report(*layers, **rest):
    return Report("0.1.0", "default", 7, layers, **rest)


def test_only_verified_layers_make_a_report_ok():
    """Of the three verdicts only *verified* is green, and one other layer spoils the report."""
    assert {v: report(layer(v)).ok for v in Verdict} == {
        Verdict.VERIFIED: True,
        Verdict.FAILED: False,
        Verdict.INCOMPLETE: False,
    }
    assert not report(layer(), layer(Verdict.INCOMPLETE), layer()).ok


@pytest.mark.parametrize("status", Status)
def test_a_report_follows_the_verdict_whatever_the_statuses(status):
    """A report judges no check again: the verdict of the layer has weighed every status."""
    checks = (CheckResult("symbolic", status, tensors={"x": TensorResult(status)}),)
    assert report(layer(Verdict.VERIFIED, checks)).ok
    assert not report(layer(Verdict.FAILED, checks)).ok
    assert not report(layer(Verdict.INCOMPLETE, checks)).ok


def test_nothing_judged_is_not_ok():
    """A report without layers, with an input that could not be judged or cut short is not ok."""
    assert not report().ok
    assert report(layer()).ok
    assert not report(layer(), problems=("specs/bad.py:3: does not import",)).ok
    assert not report(layer(), interrupted=True).ok


def test_warnings_are_findings_but_no_errors():
    """A report lists the findings of all layers in order; a layer's errors leave warnings out."""
    warning = Finding("contract", "sharing", "dx is dy", severity="warning")
    first, second = layer(findings=(warning,)), layer(Verdict.FAILED, findings=(FINDING,))
    assert report(first, second).findings == (warning, FINDING)
    assert first.errors == ()
    assert second.errors == (FINDING,)
    assert report(first).ok


def test_json_gives_the_same_report_back():
    """What `to_json` writes, `report_from_json` reads: every status, index, number and text."""
    checks = tuple(
        CheckResult(f"check {status}", status, "why", 3, 0.5, {"x": TensorResult(status)})
        for status in Status
    )
    full = report(
        layer(Verdict.FAILED, (CHECK, *checks), (FINDING, Finding("contract", "raises", "no"))),
        layer(Verdict.INCOMPLETE),
        problems=("specs/bad.py:3: does not import",),
        interrupted=True,
    )
    assert report_from_json(full.to_json()) == full
    assert report_from_json(full.to_json(indent=None)) == full


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_json_keeps_values_that_are_not_finite(value):
    """A nan or infinite gradient is written as text, since JSON has no number for it."""
    finding = Finding("contract", "finite", "not finite", expected=1.0, got=value, allowed=value)
    tensors = {"x": TensorResult(Status.FAILED, "", value, value)}
    check = CheckResult("contract", Status.FAILED, tensors=tensors)
    written = report(layer(Verdict.FAILED, (check,), (finding,))).to_json()
    (found,) = json.loads(written, parse_constant=pytest.fail)["layers"][0]["findings"]
    assert found["got"] == str(value)
    read = report_from_json(written).layers[0]
    tensor = read.checks[0].tensors["x"]
    for number in (read.findings[0].got, read.findings[0].allowed, tensor.worst, tensor.allowed):
        assert isinstance(number, float)
        assert str(number) == str(value)


def test_a_known_failure_is_ok_and_comes_back():
    """What a project knows to fail does not make a report not ok, and JSON keeps that."""
    excused = replace(layer(Verdict.FAILED, (CHECK,), (FINDING,)), known="see the paper")
    whole = replace(report(excused), notes=("one of two was judged",))
    assert whole.ok
    assert report_from_json(whole.to_json()) == whole
    assert not report(excused, layer(Verdict.FAILED)).ok


def test_json_has_the_keys_of_schema_1():
    """The keys are those of the published schema, at every level: readers depend on them."""
    data = json.loads(report(layer(Verdict.FAILED, (CHECK,), (FINDING,))).to_json())
    assert list(data) == [
        "schema", "gradverify", "profile", "seed", "problems", "interrupted", "environment",
        "folder", "root", "notes", "layers",
    ]  # fmt: skip
    assert [data["schema"], data["gradverify"], data["profile"], data["seed"]] == [
        1, "0.1.0", "default", 7,
    ]  # fmt: skip
    (found,) = data["layers"]
    assert list(found) == [
        "spec",
        "layer",
        "source",
        "verdict",
        "checks",
        "findings",
        "remarks",
        "coverage",
        "evidence",
        "known",
    ]
    assert found["verdict"] == "failed"
    (check,) = found["checks"]
    assert list(check) == ["check", "status", "reason", "cases", "seconds", "tensors"]
    assert check["status"] == "failed"
    assert list(check["tensors"]["gamma"]) == [
        "status",
        "reason",
        "worst",
        "allowed",
        "why",
        "powered",
    ]
    (finding,) = found["findings"]
    assert set(finding) == {
        "severity", "check", "question", "tensor", "index", "expected", "got", "allowed",
        "case", "diagnosis", "location", "replay", "message", "why", "derived", "kind",
        "odd_one_out", "follows",
    }  # fmt: skip
    assert finding["index"] == [1, 2]


def test_json_is_read_as_people_write_it():
    """Greek letters stay letters in the file, so that an equation can be read there."""
    assert "Σ[n]" in report(layer(findings=(FINDING,))).to_json()


def test_all_that_a_report_can_have_is_given_back():
    """Evidence, coverage and the environment survive being written and read."""
    read = report_from_json(full().to_json())
    assert read == full()
    assert read.environment == full().environment
    assert report_from_json(hostile().to_json()) == hostile()


def test_numbers_in_a_row_stand_in_a_row():
    """A curve is a line of the file, and a name that looks like one stays as it is."""
    made = report(layer(findings=(replace(FINDING, message="[\n  1,\n  2\n]", tensor="[\n 1 ]"),)))
    assert report_from_json(made.to_json()) == made
    assert '"steps": [1.0, 0.01, 0.0001, 1e-06],' in full().to_json()


def test_an_older_report_is_read():
    """A report of schema 1 from before a key was added has its default."""
    data = json.loads(report(layer(Verdict.FAILED, (CHECK,), (FINDING,))).to_json())
    for key in ("environment", "folder", "root"):
        del data[key]
    del data["layers"][0]["coverage"], data["layers"][0]["evidence"]
    del data["layers"][0]["checks"][0]["tensors"]["gamma"]["why"]
    read = report_from_json(json.dumps(data))
    assert read.environment == {}
    assert read.layers[0].evidence is None
    assert read.layers[0].checks[0].tensors["gamma"].worst == 7.5e14


def test_a_key_of_a_newer_version_is_passed_over():
    """Keys may be added within a schema: whoever does not know them reads the rest."""
    data = json.loads(report(layer()).to_json())
    data["added"] = data["layers"][0]["added"] = {"since": "0.2"}
    assert report_from_json(json.dumps(data)) == report(layer())


GOOD = report(layer(Verdict.FAILED, (CHECK,), (FINDING,))).to_json()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        (GOOD[: len(GOOD) // 2], "it is no JSON, or cut short: "),
        ("PK\x03\x04", "it is no JSON, or cut short: Expecting value"),
        ("[]", "it is not a gradverify report of schema 1"),
        ("{}", "it is not a gradverify report of schema 1"),
        ("[" * 100_000, "it is no report: it is nested too deeply"),
        ('{"schema": true, "layers": []}', "it is not a gradverify report of schema 1"),
        (
            '{"schema": 2, "gradverify": "0.9.0", "layers": []}',
            "it is of schema 2, written by gradverify 0.9.0, where 1 is read: update gradverify",
        ),
        (
            '{"schema": 0, "layers": []}',
            "it is of schema 0, written by gradverify of another version, where 1 is read: verify "
            "again",
        ),
        ('{"schema": 1, "layers": []}', "version is None, not a text"),
        (GOOD.replace('"seed": 7', '"seed": "7"'), "seed is '7', not a whole number"),
        (GOOD.replace('"seed": 7,', ""), "the report has no 'seed'"),
        (GOOD.replace('"verdict": "failed"', '"verdict": "fine"'),
         "layers[0].verdict is 'fine', no verdict"),
        (GOOD.replace('"cases": 40', '"cases": true'),
         "layers[0].checks[0].cases is True, not a whole number"),
        (GOOD.replace('"worst": 750000000000000.0', '"worst": [1]'),
         "layers[0].checks[0].tensors.gamma.worst is [1], not a number"),
        (GOOD.replace('"index": [1, 2]', '"index": "12"'),
         "layers[0].findings[0].index is '12', not a list"),
        (GOOD.replace('"layer": "layer"', f'"layer": {[0] * 99}'),
         "layers[0].layer is [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..., not a text"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused_in_one_line(text, told):
    """A file that is corrupt, cut short, older, newer or another's says what is wrong, and where."""
    assert text != GOOD
    with pytest.raises(ValueError, match=r"^it|^version|^seed|^layers|^the report") as error:
        report_from_json(text)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            '"steps": [1.0, ',
            '"steps": [',
            "differences[0] does not hold that it has as many errors",
        ),
        (
            '"rates": [0.0, 0.5, 1.0]',
            '"rates": []',
            "losses[0] does not hold that it has as many l",
        ),
        ('"rows": [', '"rows": [[],', "heat[0] does not hold that it has rows of one length"),
    ],
)
def test_evidence_that_cannot_be_drawn_is_refused(old, new, told):
    """A curve with a number too few is found when the file is read, not when it is drawn."""
    text = full().to_json()
    assert old in text
    with pytest.raises(ValueError, match="does not hold") as error:
        report_from_json(text.replace(old, new, 1))
    assert str(error.value).startswith(f"layers[0].evidence.{told}")


def test_only_numbers_are_read_as_numbers():
    """A tensor called nan, or a message that is just inf, stays text."""
    finding = Finding("contract", "finite", "inf", tensor="nan", diagnosis="-inf", got=math.inf)
    written = report(layer(Verdict.FAILED, findings=(finding,))).to_json()
    assert report_from_json(written).findings == (finding,)
