"""The report as text: what a person reads at any width, with and without colour."""

import io
import math
import re
from dataclasses import replace

import pytest

from gradverify import Finding, Report, Status, UsageError, Verdict
from gradverify.report import FORMATS, Page
from gradverify.report.deliver import deliver, views
from gradverify.report.progress import progress
from gradverify.result import CheckResult, LayerResult, TensorResult, report_from_json

CHECKS = ("contract", "forward", "symbolic", "finite_difference", "descent")
CASE = "N=3 C=2 eps=1e-05 float64 C-order seed=7"
FINDING = Finding(
    check="symbolic",
    question="gradient",
    message="the gradient of gamma is not the derived one",
    tensor="gamma",
    index=(1,),
    expected=1.234567890123,
    got=-0.5,
    allowed=2.5e-14,
    why="20 x the spread of the oracle",
    case=CASE,
    diagnosis="mean where the sum is derived (ratio 1/N)",
    derived="dgamma[c] = Σ[n](dy[n,c]*xhat[n,c])\n  xhat[n,c] = (x[n,c] - mu[c])/sigma[c]",
    location="/home/me/specs/batch_norm.py:31",
    replay=f'gradverify replay /home/me/specs/batch_norm.py::numpy_batch_norm::symbolic "{CASE}"',
)
PLAIN = Finding("contract", "raises", "the layer raised ValueError: no")


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    """Standard output is 100 columns wide and no terminal, wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def layer(name="numpy_batch_norm", verdict=Verdict.VERIFIED, statuses=(), findings=(), **rest):
    checks = tuple(
        CheckResult(c, s, "" if s is Status.PASSED else f"why {s}")
        for c, s in {**dict.fromkeys(CHECKS, Status.PASSED), **dict(statuses)}.items()
    )
    source = rest.pop("source", f"/home/me/specs/{name}.py:31")
    return LayerResult("spec", name, source, verdict, rest.pop("checks", checks), findings, **rest)


def report(*layers, **rest):
    return Report("0.1.0", "default", 7, layers, **rest)


def shown(*layers, width=100, colour=False, verbose=False, **rest):
    page = Page(verbose=verbose, width=width, colour=colour, folder="/home/me")
    return FORMATS["text"](report(*layers, **rest), page)


def failed(*findings):
    return layer(
        verdict=Verdict.FAILED,
        statuses={"symbolic": Status.FAILED},
        findings=findings or (FINDING,),
    )


# The table


def test_all_is_well_in_a_few_lines():
    """A run that found nothing is a heading, a table of words, and the counts."""
    assert shown(layer("numpy_linear"), layer("numpy_relu")) == (
        "gradverify 0.1.0, profile default, seed 7\n"
        "\n"
        "layer         contract  forward  symbolic  finite_difference  descent  verdict\n"
        + "─" * 79 + "\n"
        "numpy_linear  ok        ok       ok        ok                 ok       verified\n"
        "numpy_relu    ok        ok       ok        ok                 ok       verified\n"
        "\n"
        "2 layers: 2 verified\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (Status.PASSED, "ok"),
        (Status.FAILED, "FAIL"),
        (Status.REDUNDANT, "redundant"),
        (Status.NOT_APPLICABLE, "n/a"),
        (Status.VACUOUS, "vacuous"),
        (Status.UNAVAILABLE, "unavailable"),
        (Status.SKIPPED, "skipped"),
        (Status.ERROR, "ERROR"),
    ],
)
def test_every_status_has_a_word(status, word):
    """Each status is one word in the table, which needs no colour to be read."""
    row = next(x for x in shown(layer(statuses={"forward": status})).splitlines() if "numpy" in x)
    assert row.split() == ["numpy_batch_norm", "ok", word, "ok", "ok", "ok", "verified"]


def test_every_verdict_has_a_word():
    """Each verdict stands in its layer's row and is counted in the last line."""
    out = shown(layer("a", Verdict.VERIFIED), layer("b", Verdict.FAILED), layer("c", "incomplete"))
    rows = [line.split() for line in out.splitlines()[4:7]]
    assert [(row[0], row[-1]) for row in rows] == [
        ("a", "verified"), ("b", "FAILED"), ("c", "incomplete"),
    ]  # fmt: skip
    assert out.splitlines()[-1] == "3 layers: 1 verified, 1 failed, 1 incomplete"


def test_a_check_that_a_layer_did_not_have_is_left_blank():
    """Layers with different checks share one table."""
    short = layer("short", checks=(CheckResult("descent", Status.PASSED),))
    row = next(x for x in shown(layer(), short).splitlines() if x.startswith("short"))
    assert row.split() == ["short", "ok", "verified"]
    assert row.index("ok") > 50


LONG = ("numpy_softmax_cross_entropy", "numpy_a_layer_of_quite_an_uncommonly_long_name_indeed")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("more", [(), ("exact", "kinks", "buffers")])
def test_no_width_cuts_a_word(width, more):
    """At every width lines fit and every name is there, if need be on two lines."""
    statuses = dict.fromkeys(more, Status.PASSED) | {"symbolic": Status.UNAVAILABLE}
    out = shown(layer(LONG[0], statuses=statuses), layer(LONG[1]), width=width)
    for name in (*LONG, "unavailable", *CHECKS, *more, "verified"):
        assert all(part in out for part in name.split("_"))
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width


@pytest.mark.parametrize("width", range(60, 110))
def test_no_width_cuts_a_head(width):
    """The heads of the columns are whole too, where the names of the layers are shorter."""
    out = shown(layer("f"), width=width)
    assert "…" not in out
    assert "verdict" in out


def test_a_long_name_is_broken_at_an_underscore_where_that_saves_the_table():
    """At 80 columns a name too long for its column goes on in the next line."""
    lines = shown(layer(LONG[0]), layer("numpy_relu"), width=80).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("numpy_softmax"))
    assert lines[start].split() == ["numpy_softmax_cross_", *["ok"] * 5, "verified"]
    assert lines[start + 1] == "entropy"
    assert lines[start + 2].split() == ["numpy_relu", *["ok"] * 5, "verified"]


def test_a_narrow_page_gets_a_list():
    """Where no table fits, each layer has its checks in lines, what is wrong first."""
    lines = shown(layer(LONG[1]), failed(PLAIN), width=62).splitlines()
    assert lines[2].split() == ["verdict", "layer", "and", "its", "checks"]
    assert lines[4:10] == [
        "verified  numpy_a_layer_of_quite_an_uncommonly_long_name_",
        "          indeed",
        "            ok in all 5 checks",
        "FAILED    numpy_batch_norm",
        "            FAIL symbolic",
        "            ok contract, forward, finite_difference,",
    ]


def unoffered():
    """Return the result of a check of what a layer does not offer."""
    return CheckResult("forward_mode", Status.NOT_APPLICABLE, "the layer offers no forward mode")


@pytest.mark.parametrize("width", [60, 100])
def test_what_no_layer_offers_has_no_column(width):
    """A check that is about none of the layers is left out of the table, and stands in the JSON."""
    asked = CheckResult("symbolic", Status.PASSED)
    none = layer("numpy_softmax_cross_entropy_with_logits", checks=(asked, unoffered()))
    out = shown(none, layer("b", checks=(asked, unoffered())), width=width)
    assert "forward" not in out
    assert '"forward_mode"' in report(none).to_json()
    offers = CheckResult("forward_mode", Status.PASSED)
    out = shown(none, layer("b", checks=(asked, offers)), width=width)
    assert "forward_" in out
    assert "n/a" in out
    (row,) = (line for line in FORMATS["markdown"](report(none), Page()).splitlines()
              if line.startswith("| layer"))  # fmt: skip
    assert row == "| layer | <code>symbolic</code> | verdict |"


def test_what_no_layer_offers_is_told_where_nothing_else_was_asked():
    """Someone who asks for forward mode alone sees why there is no answer."""
    skipped = CheckResult("symbolic", Status.SKIPPED, "not selected")
    out = shown(layer("a", Verdict.INCOMPLETE, checks=(skipped, unoffered())))
    assert "forward_mode" in out
    assert "n/a" in out


def test_two_layers_of_one_name_are_told_apart_by_their_files():
    """A name that two files use is shown with its file, in the table and in the findings."""
    out = shown(
        layer("f", source="/home/me/specs/a.py:3"),
        layer("f", Verdict.FAILED, findings=(PLAIN,), source="/home/me/specs/b.py:5"),
    )
    assert "\nspecs/a.py::f  ok " in out
    assert "\nspecs/b.py::f  ok " in out
    assert "\nFAILED specs/b.py::f · contract\n" in out


# Findings


def test_a_finding_is_shown_in_full():
    """A finding says what, where, by how much, who says so, and how to see it again."""
    out = shown(failed())
    start = out.index("FAILED numpy_batch_norm · symbolic · gamma")
    assert out[start:] == (
        "FAILED numpy_batch_norm · symbolic · gamma\n"
        "  the gradient of gamma is not the derived one\n"
        "  diagnosis   mean where the sum is derived (ratio 1/N)\n"
        "  question    gradient\n"
        f"  case        {CASE}\n"
        "  element     gamma[1]\n"
        "  expected     1.2345679\n"
        "  got         -0.5\n"
        "  difference   1.73, 6.94e+13 times what is allowed\n"
        "  allowed     2.5e-14: 20 x the spread of the oracle\n"
        "  derived     dgamma[c] = Σ[n](dy[n,c]*xhat[n,c])\n"
        "                xhat[n,c] = (x[n,c] - mu[c])/sigma[c]\n"
        "  at          specs/batch_norm.py:31\n"
        "  replay      gradverify replay specs/batch_norm.py::numpy_batch_norm::symbolic "
        f'"{CASE}"\n'
        "\n"
        "`gradverify explain QUESTION` says what a finding means and how to fix it\n"
        "\n"
        "1 layer: 1 failed; 1 error\n"
    )


def test_what_a_finding_does_not_have_is_left_out():
    """A question that is not about a number has no rows for numbers."""
    assert shown(failed(PLAIN)).endswith(
        "FAILED numpy_batch_norm · contract\n"
        "  the layer raised ValueError: no\n"
        "  question    raises\n"
        "\n"
        "`gradverify explain QUESTION` says what a finding means and how to fix it\n"
        "\n"
        "1 layer: 1 failed; 1 error\n"
    )


@pytest.mark.parametrize(
    ("expected", "got", "rows"),
    [
        (1.0, 2.0, ["1", "2", "1"]),
        (1.0, 1.0 + 1e-12, ["1", "1.000000000001", "1e-12"]),
        (1e-300, -2.5e20, [" 1e-300", "-2.5e+20", " 2.5e+20"]),
        (0.1, math.nextafter(0.1, 1), ["0.1", "0.10000000000000002", "1.39e-17"]),
        (1.0, math.nan, ["1", "nan", "nan"]),
        (-math.inf, 3.0, ["-inf", " 3", " inf"]),
    ],
)
def test_digits_show_the_difference(expected, got, rows):
    """Expected and got have as many digits as it takes to tell them apart, and two more."""
    out = shown(failed(Finding("symbolic", "gradient", "m", expected=expected, got=got)))
    assert re.findall(r"(?m)^  (?:expected  |got       |difference)  (.*)$", out) == rows


def test_what_several_checks_say_of_a_tensor_is_told_once():
    """Findings of one tensor with one diagnosis are one block that names them; -v shows each."""
    again = replace(FINDING, check="descent", question="slope")
    other = replace(FINDING, diagnosis="something else", check="contract")
    wrong = failed(FINDING, again, other)
    brief, whole = shown(wrong), shown(wrong, verbose=True)
    assert brief.count("FAILED numpy_batch_norm · ") == 2
    assert "\n  question    gradient\n  also in     descent (slope)\n" in brief
    assert whole.count("FAILED numpy_batch_norm · ") == 3
    assert "also in" not in whole
    assert "3 errors" in brief


def test_what_is_wrong_with_a_known_failure_is_shown_on_demand():
    """The findings of a known failure, told by its reason, are counted, and shown by -v."""
    known = replace(failed(replace(FINDING, severity="known")), known="a paper")
    brief, whole = shown(known), shown(known, verbose=True)
    assert brief.endswith("\n`-v` shows 1 finding of known failures\n\n1 layer: 1 known failure\n")
    assert FINDING.message not in brief
    assert FINDING.message in whole
    assert "`-v`" not in whole


def test_errors_come_before_warnings_and_both_before_problems():
    """What fails a layer is shown first, whichever layer and place it is found at."""
    warning = Finding("contract", "sharing", "dx shares memory with dy", severity="warning")
    out = shown(
        layer("first", findings=(warning,)), failed(), problems=("specs/bad.py:3: does not import",)
    )
    heads = ["FAILED numpy", "warning first · contract", "PROBLEM specs/bad.py:3: does not import"]
    assert sorted(heads, key=out.index) == heads
    assert out.endswith("\n2 layers: 1 verified, 1 failed; 1 error, 1 warning, 1 problem\n")


def test_a_line_to_paste_is_never_broken():
    """At any width the case, the equation and the replay line are one line each."""
    lines = shown(failed(), width=40).splitlines()
    assert f"  case        {CASE}" in lines
    assert sum(line.startswith("  replay      gradverify replay specs/") for line in lines) == 1
    assert sum(line.endswith(f'::symbolic "{CASE}"') for line in lines) == 1


@pytest.mark.parametrize("colour", [False, True])
def test_text_of_the_user_is_no_markup(colour):
    """Brackets stay brackets, and an escape sequence is shown instead of carried out."""
    nasty = "[bold]shape [/red] [3] :smile: \x1b[2J\r\x07"
    finding = Finding("contract", "raises", nasty, tensor="[b]x[/b]", diagnosis=nasty)
    out = shown(
        failed(finding), layer("[red]name", remarks=(nasty,)), problems=(nasty,), colour=colour
    )
    assert out.count(r"[bold]shape [/red] [3] :smile: \x1b[2J\x0d\x07") == 4
    assert "[b]x[/b]" in out
    assert "[red]name" in out


def test_a_message_of_several_lines_keeps_its_lines():
    """An equation with a caret under it stays aligned in a problem."""
    out = shown(layer(), problems=("specs/bad.py:3: no tensor q\n    y[n] = q[n]\n           ^",))
    assert (
        "PROBLEM specs/bad.py:3: no tensor q\n"
        "    y[n] = q[n]\n"
        "           ^\n"
    ) in out  # fmt: skip


# What else a person should know


def test_remarks_are_shown_and_starred():
    """A verdict with a remark has a star in the table, and the remark below it."""
    out = shown(layer(remarks=("verified without a definition",)))
    assert " verified*\n" in out
    assert "\n* numpy_batch_norm: verified without a definition\n" in out


def test_reasons_are_told_where_a_check_could_not_judge():
    """A vacuous, unavailable or broken-off check says why; one that does not apply is quiet."""
    statuses = {
        "contract": Status.ERROR,
        "forward": Status.UNAVAILABLE,
        "symbolic": Status.VACUOUS,
        "descent": Status.NOT_APPLICABLE,
    }
    out = shown(layer(statuses=statuses))
    assert "\nnumpy_batch_norm · contract: error: why error\n" in out
    assert "\nnumpy_batch_norm · forward: unavailable: why unavailable\n" in out
    assert "\nnumpy_batch_norm · symbolic: vacuous: why vacuous\n" in out
    assert "why not applicable" not in out
    assert "why not applicable" in shown(layer(statuses=statuses), verbose=True)


def test_one_reason_is_told_once_for_all_its_checks():
    """Checks of a layer that share a status and its reason share a line."""
    check = CheckResult("forward", Status.UNAVAILABLE, "the spec has no definition")
    both = (check, CheckResult("symbolic", check.status, check.reason))
    assert (
        "\nnumpy_batch_norm · forward, symbolic: unavailable: the spec has no definition\n"
    ) in shown(layer(checks=both))


def test_a_failed_check_without_a_finding_gives_its_reason():
    """No failure goes without a word, even if no finding came with it."""
    out = shown(layer(verdict=Verdict.FAILED, statuses={"descent": Status.FAILED}))
    assert "\nnumpy_batch_norm · descent: failed: why failed\n" in out


TENSORS = {
    "b": TensorResult(Status.REDUNDANT, "zero to 40 digits at 3 cases", 0.1, 1e-15),
    "beta": TensorResult(Status.PASSED, "", 0.0321, 1e-14),
}


def test_skipped_checks_are_named_with_what_follows():
    """A layer stays incomplete where checks were not selected; one line says so for all."""
    layers = [layer(n, Verdict.INCOMPLETE, {"forward": Status.SKIPPED}) for n in ("a", "b")]
    told = "\nskipped: forward (a layer is verified only by all checks)\n"
    assert shown(*layers).count(told) == 1
    assert told not in shown(*layers, interrupted=True)


def test_verbose_has_a_row_for_every_tensor_of_every_check():
    """With -v each tensor has its status, its worst case in parts of what is allowed, and why."""
    checks = (
        CheckResult("symbolic", Status.PASSED, "", 40, 0.5, TENSORS),
        CheckResult("descent", Status.VACUOUS, "no case moved x", 0, 0.25),
    )
    out = shown(layer(checks=checks), verbose=True)
    start = out.index("numpy_batch_norm, spec")
    assert out[start:].splitlines()[:5] == [
        "numpy_batch_norm, spec spec, specs/numpy_batch_norm.py:31, 0.8 s: verified",
        "  check     cases  tensor  status     worst/allowed  allowed  reason",
        "  symbolic     40  b       redundant  0.1            1.0e-15  zero to 40 digits at 3 cases",
        "  symbolic     40  beta    ok         0.032          1.0e-14",
        "  descent       0          vacuous                            no case moved x",
    ]


def test_an_empty_report_says_that_nothing_was_judged():
    """Without layers there is no table, and no word that could be taken for success."""
    assert shown(problems=("specs/bad.py:3: does not import",)) == (
        "gradverify 0.1.0, profile default, seed 7\n"
        "\n"
        "PROBLEM specs/bad.py:3: does not import\n"
        "\n"
        "nothing was judged; 1 problem\n"
    )


def test_an_interrupted_report_says_so():
    """After Ctrl-C the last line says that this is not all."""
    out = shown(layer(), layer("late", Verdict.INCOMPLETE), interrupted=True)
    assert out.endswith("\ninterrupted: 2 layers: 1 verified, 1 incomplete\n")


# Colour, width, places


def test_colour_only_adds_to_the_words():
    """On a terminal the text is the same, coloured; elsewhere there is no escape sequence."""
    plain, coloured = (shown(failed(), layer("b"), colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[32mok" in coloured
    assert "\x1b[1;31mFAIL" in coloured
    without = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [x.rstrip() for x in without.splitlines()] == plain.splitlines()


def test_no_colour_does_as_the_page_says(monkeypatch):
    """What a page is decides about colour, not the environment of whoever renders it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in shown(failed())


def test_paths_below_the_folder_are_shortened():
    """Paths are shown from here where they are below here, and in full elsewhere."""
    page = Page(folder="/home/me")
    assert page.short("/home/me/a.py:3") == "a.py:3"
    assert page.short('replay "/home/me/a.py" (/home/me/b.py)') == 'replay "a.py" (b.py)'
    assert page.short("/mnt/home/me/a.py /home/meg/a.py") == "/mnt/home/me/a.py /home/meg/a.py"
    assert Page(folder="/").short("/a.py") == "a.py"


# Formats and where they go


def test_the_formats():
    """Every format is a view of the same report; json can be read back."""
    assert list(FORMATS) == ["text", "json", "junit", "markdown", "github", "sarif", "html"]
    full = report(failed())
    assert report_from_json(FORMATS["json"](full, Page())) == full


def test_views_are_read(tmp_path):
    """A format goes to standard output, or to the file after its colon."""
    assert views("text") == (("text", None),)
    file = tmp_path / "report.json"
    assert views(f"text, json:{file}") == (("text", None), ("json", file))
    assert not file.exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("jsn", "--format: there is no format 'jsn'; did you mean 'json'?"),
        (
            "",
            "--format: there is no format ''; known are text, json, junit, markdown, "
            "github, sarif, html",
        ),
        ("json:", "--format: 'json:' names no file; write json:FILE"),
        (
            "text,json",
            "--format: two views cannot both go to standard output; give each a file of its own, "
            "such as text:report.txt",
        ),
        (
            "json:/nowhere/at/all",
            "--format: cannot write /nowhere/at/all: No such file or directory",
        ),
    ],
)
def test_views_that_cannot_be_delivered_are_refused(asked, told):
    """A wrong `--format` is one message with what to write, before anything runs."""
    with pytest.raises(UsageError) as error:
        views(asked)
    assert str(error.value) == told


def test_two_views_in_one_file_are_refused(tmp_path, monkeypatch):
    """A file takes one view, however it is written: the second would overwrite the first."""
    monkeypatch.chdir(tmp_path)
    for other in (tmp_path / "out", "./out", "../" + tmp_path.name + "/out"):
        with pytest.raises(UsageError, match=r"two views cannot both go to .*out; give each a"):
            views(f"text:out,json:{other}")


def test_annotations_go_below_the_text():
    """On GitHub the log has the text and the annotations, in this order; JSON stays alone."""
    assert views("github,text") == (("github", None), ("text", None))
    with pytest.raises(UsageError, match="cannot both go to standard output"):
        views("json,github")


def test_an_extra_that_is_missing_is_known_before_a_run(monkeypatch):
    """HTML needs more than the core, and says so at once, with what to install."""
    monkeypatch.setattr("gradverify.report.deliver.find_spec", lambda name: None)
    assert views("text,junit:x.xml")
    with pytest.raises(UsageError) as error:
        views("html:r.html")
    assert str(error.value) == (
        "--format: html needs jinja2 and matplotlib: pip install 'gradverify[report]'"
    )


def test_one_view_that_fails_takes_no_other_with_it(tmp_path, capsys):
    """What cannot be written is told at the end; standard output and the JSON come first."""
    wanted = views(f"text,junit:{tmp_path}/r.xml,json:{tmp_path}/r.json")
    (tmp_path / "r.xml").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*r\.xml: it is a folder"):
        views(f"junit:{tmp_path}/r.xml")
    with pytest.raises(UsageError, match=r"cannot write .*r\.xml: Is a directory"):
        deliver(report(layer()), wanted, verbose=False)
    assert capsys.readouterr().out.endswith("1 layer: 1 verified\n")
    assert report_from_json((tmp_path / "r.json").read_text("utf-8")).ok


def test_a_full_disk_is_told_with_what_is_left(tmp_path, monkeypatch):
    """Whoever meets a full disk learns that the earlier report is still there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.json").write_text("earlier")

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradverify.report.deliver.write_whole", full)
    with pytest.raises(UsageError) as error:
        deliver(report(layer()), views("json:r.json,junit:new.xml"), verbose=False)
    assert str(error.value) == (
        "--format: cannot write r.json: No space left on device (what was in it before is still "
        "there); cannot write new.xml: No space left on device"
    )


def test_trying_a_file_leaves_it_as_it_was(tmp_path):
    """Whether a file can be written is found without touching what is in it."""
    file = tmp_path / "old.json"
    file.write_text("old")
    views(f"json:{file}")
    assert file.read_text() == "old"


def test_views_are_delivered(tmp_path, capsys):
    """Each view goes where it should: text to standard output, without colour to a file."""
    files = tmp_path / "out.txt", tmp_path / "out.json"
    full = report(failed())
    deliver(full, views(f"json:{files[1]},text,text:{files[0]}"), verbose=False)
    assert capsys.readouterr().out.endswith("\n1 layer: 1 failed; 1 error\n")
    assert files[0].read_text("utf-8").endswith("\n1 layer: 1 failed; 1 error\n")
    assert report_from_json(files[1].read_text("utf-8")) == full


def test_standard_output_that_closes_early_is_no_error(monkeypatch):
    """`gradverify verify specs | head -1` ends without a word."""

    def closed(text):
        raise BrokenPipeError

    monkeypatch.setattr("sys.stdout.write", closed)
    deliver(report(layer()), (("text", None),), verbose=False)


def test_progress_off_a_terminal_is_a_line_a_layer(capsys):
    """In a log, each layer that is done is one plain line on stderr, and nothing on stdout."""
    with progress(10) as advance:
        advance(layer("numpy_relu"))
        advance(layer("numpy_gelu", Verdict.FAILED))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == " 1/10  verified    numpy_relu\n 2/10  FAILED      numpy_gelu\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    """On a terminal a bar counts the layers; one that is not verified leaves a line."""
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress(2) as advance:
        advance(layer("[b]numpy_relu"))
        advance(layer("[b]numpy_gelu", Verdict.FAILED))
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "2/2 [b]numpy_gelu" in written
    assert re.findall(r"FAILED \S+", written) == ["FAILED [b]numpy_gelu"]
    assert capsys.readouterr().out == ""


def test_colour_is_for_terminals_and_who_asks_for_it(monkeypatch, capsys):
    """Piped output has no colour, unless FORCE_COLOR asks for it."""
    deliver(report(layer()), (("text", None),), verbose=False)
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    deliver(report(layer()), (("text", None),), verbose=False)
    assert "\x1b[32mok" in capsys.readouterr().out
