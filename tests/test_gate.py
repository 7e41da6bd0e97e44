"""`gradverify gate`: what is judged and how, what is a finding, every exit code, and the record."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from inline import Inline
from repositories import ENVIRONMENT, Repository

from gradverify import Status, Verdict
from gradverify.audit.run import LayerAudit, Survivor
from gradverify.checks.names import NAMES
from gradverify.cli import main
from gradverify.config import Config, KnownFailure
from gradverify.gate.policy import under_policy
from gradverify.gate.record import read, update
from gradverify.loading import catalogue_folder
from gradverify.result import CheckResult, Finding, LayerResult

HEAD = 'from gradverify import Input, Output, Spec\ns = Spec("s", x=Input("N"), y=Output("N"))\n'
PYPROJECT = '[tool.gradverify]\nspecs = ["specs"]\nprofile = "quick"\n\n[tool.gradverify.gate]\npaths = ["mylib"]\n'
RECORD = "gradverify-layers.txt"


def layer(name, uses=""):
    return f"{HEAD}\n{uses}\n@s.register\ndef {name}(x):\n    return {name}_of(x)\n"


def result(job):
    """Return the result of a layer by its name: what it fails, or does without."""
    fails = {"wrong": ("symbolic", "w"), "twice": ("symbolic", "w")}
    found, statuses = [], dict.fromkeys(job.checks, Status.PASSED)
    for word in job.layer.split("_"):
        if word in fails:
            check, tensor = fails[word]
            found.append(Finding(check, "gradient", "it is wrong", tensor=tensor))
            statuses[check] = Status.FAILED
        if word == "twice":
            found.append(Finding("descent", "rises", "the loss rises", tensor="w"))
            statuses["descent"] = Status.FAILED
        if word == "bare":
            statuses |= dict.fromkeys(("forward", "symbolic", "kinks"), Status.UNAVAILABLE)
        if word == "inexact":
            statuses["exact"] = Status.UNAVAILABLE
        if word == "vacuous":
            statuses["exact"], statuses["descent"] = Status.PASSED, Status.VACUOUS
    checks = tuple(CheckResult(name, status) for name, status in statuses.items())
    verdict = Verdict.FAILED if found else Verdict.VERIFIED
    verdict = Verdict.INCOMPLETE if "vacuous" in job.layer else verdict
    return LayerResult("s", job.layer, f"{job.file}:6", verdict, checks, tuple(found))


@pytest.fixture
def judged(monkeypatch):
    """An engine that judges layers by their names; returns (layer, profile) of what it judged."""
    seen = []

    def run(jobs, executor, on_result):
        results = [result(job) for job in jobs]
        for job, found in zip(jobs, results, strict=True):
            seen.append((job.layer, job.profile.name))
            on_result(job, found)
        return tuple(results)

    monkeypatch.setattr("gradverify.jobs.run", run)
    monkeypatch.setattr("gradverify.workers.WorkerPool", Inline)
    return seen


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with three layers that are in the record, one of which uses a helper."""
    for key, value in {
        **ENVIRONMENT,
        "COLUMNS": "120",
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    made = Repository(tmp_path / "project")
    made.write(
        specs__a=layer("first"),
        specs__b=layer("second", "from mylib.helper import second_of"),
        specs__c=layer("third"),
        mylib__init="",
        mylib__helper="def second_of(x): ...\n",
    )
    made.path.joinpath("pyproject.toml").write_text(PYPROJECT)
    known = {
        f"specs/{file}.py::{name}"
        for file, name in zip("abc", ("first", "second", "third"), strict=True)
    }
    update(made.path / RECORD, known, set())
    made.commit()
    monkeypatch.chdir(made.path)
    monkeypatch.syspath_prepend(made.path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylib"]:
        monkeypatch.delitem(sys.modules, name)  # of another test
    return made


def settings(project, text):
    """Add to the settings of the project, which is part of its history then."""
    lines = (line.strip() for line in text.splitlines())
    project.path.joinpath("pyproject.toml").write_text(PYPROJECT + "\n".join(lines))
    project.commit()


def gate(capsys, *arguments):
    """Return the exit code, the report as JSON, and what was complained of."""
    code = main(["gate", "--format", "json", *arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def findings(report):
    return {
        (found["layer"], f["question"]): f for found in report["layers"] for f in found["findings"]
    }


# What is judged


def test_all_layers_are_judged(project, judged, capsys):
    """Without --since every registered layer is judged, with the profile of the settings."""
    code, report, _ = gate(capsys)
    assert code == 0
    assert judged == [("first", "quick"), ("second", "quick"), ("third", "quick")]
    assert report["notes"] == []


def test_a_new_layer_is_judged_thoroughly(project, judged, capsys):
    """A layer that is not in the record gets the thorough profile, whatever the settings and
    overrides say of others, and the report tells it."""
    project.write(specs__d=layer("fresh"))
    settings(project, """
        [[tool.gradverify.overrides]]
        layer = "fresh"
        profile = "quick"
        reason = "slow"
    """)  # fmt: skip
    code, report, _ = gate(capsys, "--since", "HEAD", "--profile", "quick")
    assert (code, judged) == (0, [("fresh", "thorough")])
    assert report["notes"][-1] == (
        f"1 layer is new (not in {RECORD}) and judged with the thorough profile: fresh"
    )


def test_without_a_record_all_layers_are_new(project, judged, capsys):
    """Where there is no record nothing is known of any layer, and the way out is told."""
    project.commit(**{f"{RECORD}": None})
    code, report, _ = gate(capsys)
    assert (code, {profile for _, profile in judged}) == (0, {"thorough"})
    assert report["notes"][-1] == (
        f"3 layers are new (there is no {RECORD}, which `gradverify gate --write-record` writes) "
        "and judged with the thorough profile: first, second, third"
    )


def test_nothing_changed(project, judged, capsys):
    """Without a change nothing is judged, which is told and does not stop a merge; no earlier
    result stands for a verdict."""
    code, report, _ = gate(capsys, "--since", "HEAD")
    assert (code, judged, report["layers"]) == (0, [], [])
    assert report["notes"] == ["nothing was verified: nothing changed since HEAD"]
    assert main(["gate", "--since", "HEAD"]) == 0
    out = capsys.readouterr().out
    assert "nothing was verified: nothing changed since HEAD\n" in out
    assert out.endswith("\nnothing was judged\n")


def test_a_changed_layer_is_judged_alone(project, judged, capsys):
    """A change to one layer's file verifies that one."""
    project.commit(specs__a=layer("first") + "# changed\n")
    code, _, _ = gate(capsys, "--since", "HEAD~1")
    assert (code, judged) == (0, [("first", "quick")])


def test_a_changed_helper_reaches_its_layers(project, judged, capsys):
    """A change to a helper verifies all that reach it, and the reason is told."""
    project.commit(mylib__helper="def second_of(x): pass\n")
    code, report, _ = gate(capsys, "--since", "HEAD~1")
    assert (code, judged) == (0, [("second", "quick")])
    assert report["notes"] == [
        "1 file changed since HEAD~1: 1 of 3 spec files to judge",
        "  specs/b.py: reaches mylib/helper.py, which changed",
    ]


def test_what_the_run_writes_is_no_change(project, judged, capsys):
    """The report that the run itself is asked for does not mean everything, nor does the record."""
    (project.path / "r.json").write_text("{}")
    update(project.path / RECORD, {"specs/a.py::more"}, set())
    code = main(["gate", "--since", "HEAD", "--format", "text,json:r.json", "--write-record"])
    assert (code, judged) == (0, [])


def test_from_a_folder_of_the_project(project, judged, capsys, monkeypatch):
    """The gate is that of the project, wherever in it it is run."""
    monkeypatch.chdir(project.path / "mylib")
    project.write(specs__a=layer("first") + "# changed\n")
    code, report, _ = gate(capsys, "--since", "HEAD")
    assert (code, judged) == (0, [("first", "quick")])
    assert report["notes"][1] == "  specs/a.py: changed"


def test_without_git(project, judged, capsys):
    """All layers can be judged without git; what changed cannot be told."""
    project.path.joinpath(".git").rename(project.path / "git-is-gone")
    assert gate(capsys)[0] == 0
    assert len(judged) == 3
    code, report, told = gate(capsys, "--since", "main")
    assert (code, report, len(judged)) == (2, {}, 3)
    assert "not a git repository" in told


def test_a_project_without_layers_is_never_green(project, judged, capsys):
    """Where nothing is registered there is nothing to pass, with --since or without."""
    for name in "abc":
        project.write(**{f"specs__{name}": "x = 1\n"})
    project.commit()
    for arguments in ([], ["--since", "HEAD"]):
        code, _, told = gate(capsys, *arguments)
        assert code == 2
        assert told == (
            "gradverify: nothing matched: no layer is registered in specs/a.py, specs/b.py, "
            "specs/c.py\n"
        )


def test_a_spec_that_does_not_import_does_not_hide_the_others(project, judged, capsys):
    """A file that cannot be loaded is a problem; the others are judged all the same."""
    project.commit(specs__a="import no_such_module\n@s.register\ndef first(x): ...\n")
    code, report, _ = gate(capsys)
    assert (code, judged) == (1, [("second", "quick"), ("third", "quick")])
    (problem,) = report["problems"]
    assert problem.startswith("specs/a.py:1: needs the package no_such_module")


def test_modules_are_spec_files_too(project, judged, capsys):
    """A module that registers layers is judged like a spec file, reached by what it imports, and
    recorded under its file."""
    project.write(mylib__own=layer("inside", "from .helper import second_of"))
    path = project.path / "pyproject.toml"
    path.write_text(PYPROJECT.replace('["specs"]', '["specs"]\nmodules = ["mylib.own"]'))
    project.commit()
    assert gate(capsys, "--write-record")[0] == 0
    assert judged[0] == ("inside", "thorough")
    assert "mylib/own.py::inside" in read(project.path / RECORD)
    judged.clear()
    project.write(mylib__helper="def second_of(x): pass\n")
    code, report, _ = gate(capsys, "--since", "HEAD")
    assert (code, [name for name, _ in judged]) == (0, ["inside", "second"])
    assert report["notes"][1] == "  mylib/own.py: reaches mylib/helper.py, which changed"


def test_the_whole_catalogue_without_a_change(tmp_path):
    """That nothing changed is known without importing anything heavy, and no layer is loaded."""
    project = Repository(tmp_path)
    shutil.copytree(catalogue_folder(), tmp_path / "specs")
    (tmp_path / "pyproject.toml").write_text('[tool.gradverify]\nspecs = ["specs"]\n')
    project.commit()
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gradverify", "gate", "--since", "HEAD"],
        cwd=tmp_path, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "nothing was verified: nothing changed since HEAD\n" in told.stdout
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "gradverify.gate.plan" in imported
    assert imported.isdisjoint({"numpy", "sympy", "hypothesis", "multiprocessing"})


def test_a_file_whose_layers_its_text_does_not_tell(project, judged, capsys):
    """A file that registers in a loop is loaded to learn whether one of its layers is new; if not,
    it is told that nothing was verified."""
    loop = HEAD + "for name in {}:\n    s.register(name=name)(lambda x: x)\n"
    project.write(specs__a=loop.format(("first",)))
    project.commit()
    code, report, _ = gate(capsys, "--since", "HEAD")
    assert (code, judged) == (0, [])
    assert report["notes"] == [
        "nothing changed since HEAD: 1 of 3 spec files to judge",
        "  specs/a.py: may register a layer that is not in the record",
        "nothing was verified: none of these registers a layer that is new",
    ]
    project.commit(specs__a=loop.format(("first", "fresh")))
    assert gate(capsys, "--since", "HEAD")[0] == 0
    assert judged == [("fresh", "thorough")]


# What is left out


def test_an_unregistered_layer_is_a_finding(project, judged, capsys):
    """What looks like a layer and is registered nowhere is told with the command that helps; it is
    found whatever changed."""
    project.commit(
        mylib__new="class Norm:\n    def forward(self, x): ...\n    def backward(self, dy): ...\n"
    )
    code, report, _ = gate(capsys, "--since", "HEAD")
    assert (code, judged) == (1, [])
    finding = findings(report)["mylib.new:Norm", "unregistered"]
    assert "it has a backward next to its forward" in finding["message"]
    assert "A spec for it is written by:\n  gradverify new mylib.new:Norm\n" in finding["message"]
    assert finding["location"] == f"{project.path}/mylib/new.py:1"
    assert main(["gate"]) == 1
    out = capsys.readouterr().out
    assert "FAILED mylib.new:Norm · gate\n" in out
    assert out.endswith("\n4 layers: 3 verified, 1 failed; 1 error\n")


def test_a_layer_may_stay_unregistered_for_a_reason(project, judged, capsys):
    """An entry of the ignore list is told with its reason; one that excuses nothing is a problem."""
    project.commit(
        mylib__new="class Norm:\n    def forward(self, x): ...\n    def backward(self, dy): ...\n"
    )
    entry = "[[tool.gradverify.gate.unregistered]]\nname = {!r}\nreason = 'not ours'\n"
    settings(project, entry.format("mylib.new:Norm"))
    code, report, _ = gate(capsys)
    assert code == 0
    assert report["notes"] == ["left unregistered on purpose: mylib.new:Norm (not ours)"]
    settings(project, entry.format("mylib.new:Nrm"))
    code, report, _ = gate(capsys)
    assert code == 1
    assert report["problems"] == [
        "[[tool.gradverify.gate.unregistered]] name = 'mylib.new:Nrm': nothing of that name is an "
        "unregistered layer: did you mean 'mylib.new:Norm'?"
    ]


def test_where_layers_are_looked_for_is_checked(project, judged, capsys):
    """A folder that is not there is an error, and that none is named is told."""
    path = project.path / "pyproject.toml"
    path.write_text(PYPROJECT.replace("mylib", "mylb"))
    assert gate(capsys)[2] == (
        "gradverify: [tool.gradverify.gate] paths: mylb does not exist; did you mean 'mylib'?\n"
    )
    path.write_text(PYPROJECT.replace('"mylib"', ""))
    assert gate(capsys)[1]["notes"] == [
        "unregistered layers were not looked for: [tool.gradverify.gate] paths names no folder"
    ]


# The policy


def test_checks_and_a_definition_can_be_required(project, judged, capsys):
    """What the project requires beyond the verdict is an error where it is not there."""
    project.write(specs__a=layer("inexact"), specs__b=layer("bare"), specs__c=layer("wrong"))
    settings(project, 'require = ["exact", "symbolic"]\nrequire_definition = true\n')
    code, report, _ = gate(capsys, "--write-record")
    assert code == 1
    told = {key: f["message"] for key, f in findings(report).items() if f["check"] == "gate"}
    assert told == {
        ("inexact", "required"): "the project requires exact, which is unavailable",
        ("bare", "required"): "the project requires symbolic, which is unavailable",
        ("bare", "definition"): "the project requires a definition, and the spec 's' has none",
    }  # fmt: skip
    replay = findings(report)["bare", "definition"]["replay"]
    assert replay == 'gradverify verify "specs/b.py" --layer "bare"'
    assert [x["verdict"] for x in report["layers"]] == ["failed", "failed", "failed"]
    assert read(project.path / RECORD) == frozenset()


KNOWN = """
    [[tool.gradverify.known_failures]]
    layer = "{layer}"
    reason = "see the paper"
    expires = {expires}
"""
FAILING = {
    # what is known, the layer -> whether it passes, and what is told
    ("wrong", "", "wrong"): True,
    ("wr*", "", "wrong"): True,
    ("wrong", 'check = "symbolic"\n', "wrong"): True,
    ("wrong", 'check = "symbolic"\ntensor = "w"\n', "wrong"): True,
    ("wrong", 'check = "symbolic"\ntensor = "b"\n', "wrong"): False,
    ("wrong", 'check = "descent"\n', "wrong"): False,
    ("twice", "", "twice"): True,
    ("twice", 'check = "symbolic"\n', "twice"): False,
    ("vacuous", 'check = "descent"\n', "vacuous"): True,
    ("vacuous", 'tensor = "w"\n', "vacuous"): False,
    ("bare", 'check = "symbolic"\n', "bare"): False,
}


@pytest.mark.parametrize(("glob", "more", "name"), FAILING)
def test_a_known_failure_does_not_stop_the_gate(project, judged, capsys, glob, more, name):
    """A layer whose every failure is known passes, marked as such; one with any other does not."""
    project.write(specs__a=layer(name))
    settings(project, KNOWN.format(layer=glob, expires="2100-01-01") + more)
    code, report, _ = gate(capsys, "--write-record")
    passes = FAILING[glob, more, name]
    assert code == (0 if passes else 1)
    assert report["layers"][0]["known"] == ("see the paper (until 2100-01-01)" if passes else "")
    severities = {f["severity"] for f in report["layers"][0]["findings"]}
    assert severities <= ({"known"} if passes else {"error"})
    assert (f"specs/a.py::{name}" in read(project.path / RECORD)) is passes


def test_a_known_failure_excuses_nothing_else(project, judged, capsys):
    """What is required beside the known failure is required still."""
    project.write(specs__a=layer("wrong_inexact"))
    settings(
        project,
        'require = ["exact", "symbolic"]\n'
        + KNOWN.format(layer="wrong_*", expires="2100-01-01")
        + 'check = "symbolic"\n',
    )
    code, report, _ = gate(capsys, "--write-record")
    assert (code, report["layers"][0]["known"]) == (1, "")
    assert [q for _, q in findings(report)] == ["gradient", "required"]


def test_how_a_known_failure_reads(project, judged, capsys):
    """The text neither hides the failure nor counts it as an error."""
    project.write(specs__a=layer("wrong"))
    settings(project, KNOWN.format(layer="wrong", expires="2100-01-01"))
    assert main(["gate", "--write-record"]) == 0
    out = capsys.readouterr().out
    assert "* wrong: known failure: see the paper (until 2100-01-01)\n" in out
    assert out.endswith(
        "\n`-v` shows 1 finding of known failures\n\n3 layers: 2 verified, 1 known failure\n"
    )
    assert main(["gate", "-v"]) == 0
    assert "known wrong · symbolic · w\n" in capsys.readouterr().out


def test_verify_knows_the_same_failures(project, judged, capsys):
    """`verify` ends green where only what is known fails, shows it, and is strict about the rest."""
    project.write(specs__a=layer("wrong"))
    settings(project, KNOWN.format(layer="wrong", expires="2100-01-01"))
    assert main(["verify", "-v"]) == 0
    out = capsys.readouterr().out
    assert "known wrong · symbolic · w\n" in out
    assert out.endswith("\n3 layers: 2 verified, 1 known failure\n")
    settings(project, KNOWN.format(layer="second", expires="2100-01-01"))
    assert main(["verify", "--layer", "second"]) == 1
    assert "there is none: delete it from" in " ".join(capsys.readouterr().out.split())
    settings(project, KNOWN.format(layer="secnd", expires="2100-01-01"))
    assert main(["verify", "specs/b.py"]) == 0  # the layer may be elsewhere
    assert main(["verify"]) == 1
    assert "matches no layer; did you mean 'second'?" in " ".join(capsys.readouterr().out.split())


def test_what_is_not_asked_is_no_known_failure():
    """Where only other checks are made, it neither is one nor is it missed; the layer is unsure."""
    known = KnownFailure("*", "see the paper", date(2100, 1, 1))
    config = Config(root=Path(), known_failures=(known, replace(known, check="symbolic")))
    asked = dict.fromkeys(NAMES, Status.SKIPPED) | {"contract": Status.PASSED}
    checks = tuple(CheckResult(name, status) for name, status in asked.items())
    unsure = LayerResult("s", "wrong", "a.py:6", Verdict.INCOMPLETE, checks)
    assert under_policy(unsure, "a.py", config, date(2026, 1, 1)) == unsure


def test_a_known_failure_is_strict(project, judged, capsys):
    """What is listed as failing and does not fail is an error, and so is what matches nothing."""
    settings(
        project,
        KNOWN.format(layer="first", expires="2100-01-01")
        + KNOWN.format(layer="frist", expires="2100-01-01"),
    )
    code, report, _ = gate(capsys)
    assert code == 1
    message = findings(report)["first", "known"]["message"]
    assert message.startswith("a failure of any check is listed as known until 2100-01-01 (see")
    assert "there is none: delete it" in message
    assert report["problems"] == [
        "[[tool.gradverify.known_failures]] layer = 'frist' matches no layer; did you mean 'first'?"
    ]


def test_a_known_failure_expires(project, judged, capsys):
    """After its day a known failure excuses nothing, and that is told."""
    project.write(specs__a=layer("wrong"))
    settings(project, KNOWN.format(layer="wrong", expires="2020-01-31"))
    code, report, _ = gate(capsys, "--write-record")
    assert code == 1
    assert report["layers"][0]["known"] == ""
    assert report["layers"][0]["remarks"] == [
        "a failure known until 2020-01-31 (see the paper) is not excused any more"
    ]


def test_new_layers_need_power(project, judged, capsys, monkeypatch):
    """New layers that are verified are audited where the project demands power; the survivors
    are named."""
    audited = []

    def audits(jobs, executor, on_result):
        found = []
        for job in jobs:
            audited.append((job.layer, job.profile.name))
            weak = "weak" in job.layer
            survivors = (Survivor("x: sign", "sign", "", "", ""),) if weak else ()
            found.append(
                LayerAudit(job.layer, "a.py:1", {"sign": (20, 18 if weak else 19)}, survivors)
            )
            on_result(found[-1])
        return tuple(found)

    monkeypatch.setattr("gradverify.audit.job.run_audits", audits)
    project.write(specs__d=layer("weak"), specs__e=layer("strong"), specs__f=layer("wrong"))
    settings(project, "min_power = 0.95\n")
    code, report, _ = gate(capsys)
    assert (code, audited) == (1, [("weak", "quick"), ("strong", "quick")])
    finding = findings(report)["weak", "power"]
    assert finding["message"] == (
        "the checks caught 18 of 20 planted faults, 90 %; the project demands 95 % of new layers"
    )
    assert finding["diagnosis"] == "not caught: x: sign"
    assert finding["replay"] == 'gradverify audit "specs/d.py::weak" --min-power 0.95'
    assert {key for key in findings(report) if key[0] == "strong"} == set()


def test_an_audit_that_cannot_be_made_loses_no_report(project, judged, capsys, monkeypatch):
    """A defect in the audit of one layer leaves the results there are, and the exit code is its."""

    def audit(layer, **options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("gradverify.audit.job.audit", audit)
    project.write(specs__d=layer("fresh"))
    settings(project, "min_power = 0.95\n")
    code, report, _ = gate(capsys, "--write-record")
    assert code == 3
    fresh = next(x for x in report["layers"] if x["layer"] == "fresh")
    assert fresh["verdict"] == "incomplete"
    assert fresh["remarks"] == [
        "a defect of gradverify: ZeroDivisionError: oops in the audit of fresh; please report it"
    ]
    assert "specs/d.py::fresh" not in read(project.path / RECORD)


def test_a_run_that_is_interrupted_is_not_green(project, judged, capsys, monkeypatch):
    """After a Ctrl-C in an audit what is known is told, and the record is not written."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradverify.audit.job.run_audits", interrupt)
    project.write(specs__d=layer("fresh"))
    settings(project, "min_power = 0.95\n")
    code, report, _ = gate(capsys, "--write-record")
    assert (code, report["interrupted"], len(report["layers"])) == (1, True, 4)
    assert "specs/d.py::fresh" not in read(project.path / RECORD)


# The record


def test_the_record_is_written_with_what_passes(project, judged, capsys):
    """Layers that pass are added, those that are gone are taken out, and wrong ones are left out;
    after that the new one is not new."""
    project.write(specs__a=None, specs__d=layer("fresh"), specs__e=layer("wrong"))
    code, _, told = gate(capsys, "--write-record")
    assert code == 1
    assert told.endswith(f"gradverify: note: {RECORD} was written\n")
    assert read(project.path / RECORD) == {
        "specs/b.py::second", "specs/c.py::third", "specs/d.py::fresh",
    }  # fmt: skip
    judged.clear()
    assert gate(capsys, "--write-record")[2].endswith(f"{RECORD} was left as it was\n")
    assert ("fresh", "quick") in judged


def test_what_is_written_after_a_narrow_run_keeps_the_rest(project, judged, capsys):
    """With --since, layers that were not judged stay in the record."""
    project.write(specs__d=layer("fresh"))
    assert gate(capsys, "--since", "HEAD", "--write-record")[0] == 0
    assert judged == [("fresh", "thorough")]
    assert len(read(project.path / RECORD)) == 4


def test_a_layer_that_is_gone_is_told(project, judged, capsys):
    """To take away a registration is no way past the gate, unless the record says so too."""
    project.commit(specs__a=None, specs__c=layer("other"))
    code, report, _ = gate(capsys, "--since", "HEAD~1")
    assert (code, judged) == (1, [("other", "thorough")])
    assert report["problems"] == [
        f"{RECORD} lists specs/{entry}, which is registered no more: if that is meant, run "
        "`gradverify gate --write-record`" for entry in ("a.py::first", "c.py::third")
    ]  # fmt: skip


def test_a_corrupt_record_stops_the_gate(project, judged, capsys):
    """A record that cannot be read is never overwritten, and nothing is judged without it."""
    (project.path / RECORD).write_text("<<<<<<< HEAD\n")
    code, _, told = gate(capsys, "--write-record")
    assert (code, judged) == (2, [])
    assert f"{RECORD} is no record of layers" in told
    assert (project.path / RECORD).read_text() == "<<<<<<< HEAD\n"


def test_a_record_that_cannot_be_written_is_known_before(project, judged, capsys):
    """Nothing is judged for a record whose folder is not there."""
    settings(project, 'record = "no/where.txt"\n')
    code, _, told = gate(capsys, "--write-record")
    assert (code, judged) == (2, [])
    assert "no/where.txt cannot be written" in told


def test_a_defect_is_3(project, judged, capsys, monkeypatch):
    """What goes wrong in gradverify itself is neither a finding nor green."""
    monkeypatch.setattr("gradverify.gate.plan.narrowed", lambda *_: 1 / 0)
    code, _, told = gate(capsys, "--since", "HEAD")
    assert code == 3
    assert "internal error: ZeroDivisionError" in told


def test_help_says_what_the_exit_code_means(capsys):
    """That --since may find nothing to judge, and is green then, stands in the help."""
    assert main(["gate", "--help"]) == 0
    out = capsys.readouterr().out
    assert (
        "0  every layer is verified (or a known failure), or --since left nothing to judge" in out
    )
    assert all(option in out for option in ("--since REF", "--write-record", "--format"))


def test_checks_are_all_asked(project, judged, capsys):
    """The gate leaves no check out."""
    _, report, _ = gate(capsys)
    assert [c["check"] for c in report["layers"][0]["checks"]] == list(NAMES)
