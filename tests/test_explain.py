"""`gradverify explain`: every question that a check can ask is explained, in lines of 80 columns."""

import ast
from pathlib import Path

import pytest

import gradverify
from gradverify.checks import names
from gradverify.cli import main
from gradverify.commands.explain import explanations, questions_of
from gradverify.report.table import VERDICTS, WORDS
from gradverify.result import Status, Verdict

PACKAGE = Path(gradverify.__file__).parent
KNOWN = explanations()

# Which check the questions of a file are asked by; what serves several is told with each of them.
OFFERED = ["forward_mode", "second_order"]
ASKED_BY = {
    "adjoint": OFFERED, "conduct": OFFERED, "forward_mode": ["forward_mode"],
    "second_order": ["second_order"], "agreement": ["contract"], "blame": ["contract"], "buffers": ["buffers"],
    "contract": ["contract"], "convention": ["contract"], "descent": ["descent"], "digits": ["contract"],
    "effects": ["contract"], "empty": ["contract"], "exact": ["exact"],
    "finite_difference": ["finite_difference"], "forward": ["forward"], "kinks": ["kinks"],
    "linear": ["contract"], "order": ["contract"],
    "precision": ["forward", "symbolic", "buffers", *OFFERED],
    "returned": ["contract", *OFFERED], "sharing": ["contract"], "state": ["contract"],
    "symbolic": ["symbolic"], "__init__": ["every"],
    "jobs": ["contract"], "layer": ["contract", "kinks", *OFFERED],
    "trial": ["contract", "kinks", *OFFERED],
    "policy": ["gate"], "unregistered": ["gate"],
}  # fmt: skip
# Where they are made: the first argument of these, or `question=...` of any call.
MAKERS = {"Observation", "failed", "warned", "passed", "judged", "compare", "_as_declared",
          "_broken", "ConventionError", "Failure", "Flaw", "compared"}  # fmt: skip


def questions(path, makers=MAKERS):
    """Return the questions that a file writes down, as text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        given = [k.value for k in node.keywords if k.arg == "question"]
        if isinstance(node.func, ast.Name) and node.func.id in makers:
            given += node.args[:4]
        found |= {v.value for v in given if isinstance(v, ast.Constant) and _is_word(v.value)}
    return found


def _is_word(value):
    return isinstance(value, str) and value.isidentifier() and value not in ("outputs", "gradients")


def asked_by(name):
    return ["contract"] if name.startswith("adapters/") else ASKED_BY[name]


def files():
    for path in sorted((PACKAGE / "checks").glob("*.py")):
        if found := questions(path):
            yield path.stem, found
    for name in ("jobs", "layer", "trial"):
        yield name, questions(PACKAGE / f"{name}.py")
    for path in sorted((PACKAGE / "adapters").glob("*.py")):
        if found := questions(path):
            yield f"adapters/{path.stem}", found
    for name in ("policy", "unregistered"):
        yield name, questions(PACKAGE / "gate" / f"{name}.py", {"Finding", "_finding"})


def test_every_question_that_can_be_asked_is_explained():
    """Each question in the source of a check has a text, and no text is of a question nobody asks."""
    asked = {(check, q) for name, found in files() for check in asked_by(name) for q in found}
    asked |= {(check, "inaccurate") for check in ("forward", "symbolic", "buffers", "exact")}
    told = {(check, q) for check, texts in KNOWN["checks"].items() for q in texts["questions"]}
    elsewhere = {("kinks", "raises")}  # as every check has it
    assert asked - told == elsewhere
    assert told - asked == set()


def test_the_questions_are_read_off_the_source():
    """The test above can fail: it sees the questions that the checks are known to ask."""
    found = dict(files())
    assert found["symbolic"] == {"gradient"}
    assert {"stale", "mutates", "overwritten"} <= found["state"]
    assert found["jobs"] == {"hangs", "dies", "changed"}


def test_all_checks_statuses_and_verdicts_are_there():
    """In the order in which they run, and by the words of the report."""
    assert tuple(c for c in KNOWN["checks"] if c != "every") == (*names.NAMES, "gate")
    assert set(KNOWN["statuses"]) == {*map(str, Status), *map(str, Verdict)}
    for word, (shown, _) in (VERDICTS | WORDS).items():
        assert KNOWN["statuses"][str(word)]["shown"] == shown


def explained(capsys, *words):
    assert main(["explain", *words]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_explain_alone_lists_the_checks(capsys):
    """One entry a check, with what it asks."""
    out = explained(capsys)
    for check in names.NAMES:
        assert f"\n  {check} " in f"\n{out}"
    assert "Is every gradient the slope of the layer's own forward?" in out


@pytest.mark.parametrize("check", [*names.NAMES, "gate"])
def test_a_check_is_explained_with_all_its_questions(capsys, check):
    """What it asks, how it decides, and per question what it means and how to fix it; 80 columns."""
    out = explained(capsys, check)
    assert out.startswith(f"{check}\n  ")
    assert "\nHow it decides\n" in out
    for question in questions_of(KNOWN, check):
        assert f"\n  {question} " in out
    assert out.count("Fix: ") == len(questions_of(KNOWN, check))
    assert max(map(len, out.splitlines())) <= 80
    assert out == "".join(f"{line.rstrip()}\n" for line in out.splitlines())


def test_a_question_is_explained_for_each_check_that_asks_it(capsys):
    """`slope` is one of two kinds of differences and one of descent; what all can find is told once."""
    out = explained(capsys, "slope")
    assert [line for line in out.splitlines() if line and line[0] != " "] == [
        "finite_difference", "second_order", "descent",
    ]  # fmt: skip
    assert "\nevery other check\n  raises " in explained(capsys, "raises")


@pytest.mark.parametrize("words", [["n/a"], ["not", "applicable"], ["vacuous"], ["INCOMPLETE"]])
def test_statuses_are_explained_as_they_are_shown(capsys, words):
    """By their name or by the word that the table has for them."""
    status = "not applicable" if words[0][0] == "n" else words[0].lower()
    assert explained(capsys, *words).startswith(f"{status}\n  ")


def test_an_unknown_name_gets_the_nearest(capsys):
    """A misspelt name is told what it may be."""
    assert main(["explain", "symblic"]) == 2
    assert capsys.readouterr().err == (
        "gradverify: there is nothing to explain called 'symblic'; did you mean 'symbolic'?\n"
    )
