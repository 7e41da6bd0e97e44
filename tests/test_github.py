"""Annotations and comments on GitHub: within its limits, worst first, and nothing is a command."""

import re
from dataclasses import replace

import pytest
from reports import HARMFUL, SHARED, WRONG, failed, full, hostile, layer, report

from gradverify import Finding, Status, Verdict
from gradverify.report import FORMATS, Page
from gradverify.report.deliver import deliver
from gradverify.report.github import SUMMARY, summary
from gradverify.report.markdown import COMMENT
from gradverify.result import LayerResult

PAGE = Page(folder="/home/me/project")
COMMAND = re.compile(
    r"::(error|warning|notice) (?:file=([^,:]*),(?:line=(\d+),)?)?title=([^,:]*)::(.*)"
)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch):
    """No test writes into the summary of the job that runs it."""
    for name in ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def annotations(made):
    lines = FORMATS["github"](made, PAGE).splitlines()
    found = [COMMAND.fullmatch(line) for line in lines]
    assert all(found), lines
    return [m.groups() for m in found]


def test_an_annotation_is_at_the_line_of_the_pullback():
    """What is wrong with one tensor is one annotation, with the diagnosis for its title."""
    kind, file, line, title, body = annotations(report(failed()))[0]
    assert (kind, file, line) == ("error", "specs/norm.py", "29")
    assert title == "norm · beta%3A a mean over N where the sum is derived"
    assert "%0A  replay      gradverify replay" in body
    assert "%0A  also in     descent (slope)%0A" in body
    assert annotations(report(failed()))[1][:3] == ("warning", "specs/norm.py", "29")


def test_what_could_not_be_judged_is_annotated_too():
    """A file that does not import and a layer without a verdict are errors where they stand."""
    found = [a[:4] for a in annotations(full())]
    assert (
        "error",
        "specs/bad.py",
        "3",
        "specs/bad.py%3A3%3A does not import%3A NameError%3A no",
    ) in found
    assert ("error", "specs/unsure.py", "12", "unsure%3A incomplete") in found
    assert len(found) == 4
    assert annotations(report())[0][3] == "nothing was judged"
    assert annotations(report(layer())) == []


def test_the_worst_come_first_and_the_rest_is_counted():
    """Ten of each kind are shown, which is what GitHub shows, and the others are told."""
    wrong = [
        layer(f"l{k}", Verdict.FAILED, [replace(WRONG, got=1.5 + 1e-13 * 10**k), SHARED])
        for k in range(12)
    ]
    found = annotations(report(*wrong))
    assert [a[0] for a in found] == ["error"] * 10 + ["warning"] * 10 + ["notice"]
    assert [a[3].split(" ")[0] for a in found[:10]] == [f"l{k}" for k in range(11, 1, -1)]
    assert found[-1][4].startswith("2 more errors and 2 more warnings%3A".replace("%3A", ":"))


def test_a_consequence_comes_after_its_cause():
    """What only follows from another finding has no number, and is not the worst for that."""
    steps = Finding("descent", "steps", "step 2 does not lower the loss", follows="beta")
    found = annotations(report(layer("norm", Verdict.FAILED, [steps, WRONG])))
    assert [a[3] for a in found] == [
        "norm · beta%3A a mean over N where the sum is derived",
        "norm%3A step 2 does not lower the loss",
    ]


def test_paths_are_relative_to_the_workspace(monkeypatch):
    """In a job the checkout is the root, wherever the command was run in it."""
    monkeypatch.setenv("GITHUB_WORKSPACE", "/home/me")
    assert annotations(report(failed()))[0][1] == "project/specs/norm.py"


def test_nothing_of_a_user_is_a_command():
    """A name that looks like a command, or has line breaks, stays within its own command; in the
    text report, which stands in the same log, no line starts one."""
    made = hostile()
    for start in range(len(HARMFUL)):
        some = replace(made, layers=made.layers[start:], problems=())
        for kind, *_ in annotations(some):
            assert kind in ("error", "notice")
    assert not re.search(r"(?m)^\s*(::|##\[)", FORMATS["text"](made, PAGE))


def test_the_summary_of_a_step_is_appended(tmp_path, monkeypatch, capsys):
    """Where GitHub asks for a summary it gets one, below what other steps have written."""
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    deliver(report(failed()), (("text", None), ("github", None)), verbose=False)
    out = capsys.readouterr().out
    assert out.index("1 layer: 1 failed") < out.index("::error file=")
    assert file.read_text("utf-8").startswith("before\n### gradverify: ❌ not verified\n")
    deliver(report(failed()), (("text", None),), verbose=False)
    assert file.read_text("utf-8").count("###") == 1


def many(count):
    long = replace(WRONG, derived="Σ" * 2000)
    return report(*(layer(f"layer_{k}", Verdict.FAILED, [long], {"symbolic": Status.FAILED})
                    for k in range(count)))  # fmt: skip


def test_a_comment_and_a_summary_keep_within_their_limits():
    """However much is wrong, a comment and a summary are short enough, and tell what they leave."""
    comment = FORMATS["markdown"](many(1000), PAGE)
    assert len(comment) <= COMMENT
    assert re.search(r"\n\d+ more layers are left out of this table\.\n", comment)
    assert re.search(r"\n\d+ more of these are left out here: see the log or the JSON\.\n", comment)
    told = summary(many(1000), PAGE, 500_000)
    assert SUMMARY - 500_000 - 20_000 < len(told.encode()) < SUMMARY - 500_000


def test_a_comment_says_the_verdict_then_the_table_then_what_is_wrong():
    """What a reviewer needs comes first: the word, then who, then what, folded but for the first."""
    shown = FORMATS["markdown"](full(), PAGE)
    parts = [
        "### gradverify: ❌ not verified",
        "3 layers: 1 verified, 1 failed, 1 incomplete",
        "| <code>norm</code> | ✅ ok |",
        "| <code>unsure</code> |",
        "| <code>calm</code> |",
        "<details open><summary>❌",
        "<details><summary>❌ norm · beta: a mean over N where the sum is derived "
        "(<code>specs/norm.py&#58;29</code>)</summary>",
        "```text\nFAILED norm · symbolic · beta\n",
    ]
    assert sorted(parts, key=shown.index) == parts
    assert FORMATS["markdown"](report(layer()), PAGE).startswith("### gradverify: ✅ verified\n")


def test_names_that_mean_harm_are_no_markup():
    """No name makes markup, a mention, a table cell or the end of a block of code."""
    for text_ in HARMFUL:
        one = LayerResult(
            text_, text_, "a.py:3", Verdict.FAILED, (), (replace(WRONG, message=text_),)
        )
        shown = FORMATS["markdown"](report(one), PAGE)
        row = next(line for line in shown.splitlines() if line.startswith("| <code>"))
        assert row.count("|") == 3
        fence = re.search(r"^(`{3,})text$", shown, re.MULTILINE)[1]
        inside = re.search(rf"^{fence}text\n(.*?)\n{fence}$", shown, re.DOTALL | re.MULTILINE)[1]
        assert "\n  at          specs/norm.py:29" in inside
        outside = shown.replace(inside, "")
        assert not re.search(r"<(script|img)|[^;]@\w|\]\(|\*bold", outside)
