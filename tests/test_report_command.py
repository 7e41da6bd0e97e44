"""`gradverify report`: every view from the JSON alone, and files that are no report."""

import os

import pytest
from reports import full

from gradverify.cli import main
from gradverify.report import FORMATS, Page
from gradverify.result import report_from_json


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "r.json").write_text(full().to_json(), "utf-8")
    return tmp_path


def test_every_view_can_be_made_later(kept, capsys):
    """What a run would have written, the JSON gives, wherever and whenever it is read."""
    files = {"text": "txt", "json": "json", "junit": "xml", "markdown": "md", "sarif": "sarif",
             "html": "html", "github": "log"}  # fmt: skip
    assert files.keys() == FORMATS.keys()
    asked = ",".join(f"{name}:out.{ending}" for name, ending in files.items())
    assert main(["report", "r.json", "--format", asked]) == 0
    assert capsys.readouterr() == ("", "")
    page = Page(folder="/home/me/project")
    for name, ending in files.items():
        assert (kept / f"out.{ending}").read_text("utf-8") == FORMATS[name](full(), page)


def test_text_is_what_is_shown_where_nothing_is_asked(kept, capsys, monkeypatch):
    """Paths are those of the run's own folder; -v has what it has in a run."""
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["report", "r.json"]) == 0
    out = capsys.readouterr().out
    assert "\n  at          specs/norm.py:29\n" in out
    assert "worst/allowed" not in out
    assert main(["report", "r.json", "-v"]) == 0
    assert "worst/allowed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "cannot be read as a report: it is empty"),
        (b'{"schema": 1, "layers": [', "cannot be read as a report: it is no JSON, or cut short: Exp"),
        (b"\xff\xfe{", "cannot be read as a report: it is no text in UTF-8"),
        (b'{"schema": 7, "gradverify": "9.0", "layers": []}',
         "cannot be read as a report: it is of schema 7, written by gradverify 9.0, where 1 is read: "
         "update gradverify"),
    ],
    ids=["empty", "cut", "binary", "newer"],
)  # fmt: skip
def test_what_is_no_report_stays_as_it_is(kept, capsys, text, told):
    """A file that cannot be read is named in one line, and nothing is written, to it or beside."""
    (kept / "bad.json").write_bytes(text)
    before = sorted(os.listdir(kept))
    assert main(["report", "bad.json", "--format", "json:bad.json,junit:new.xml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gradverify: bad.json: {told}")
    assert err.count("\n") == 1
    assert (kept / "bad.json").read_bytes() == text
    assert sorted(os.listdir(kept)) == before


def test_a_file_that_is_not_there_is_named(kept, capsys):
    """A wrong name and a folder are told apart."""
    assert main(["report", "no.json"]) == 2
    assert (
        capsys.readouterr().err
        == "gradverify: no.json: cannot be read: No such file or directory\n"
    )
    assert main(["report", "."]) == 2
    assert capsys.readouterr().err == "gradverify: .: cannot be read: Is a directory\n"


SPEC = """\
from gradverify import Input, Output, Param, Spec

half = Spec("half", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")

@half.register
def layer(x, w):
    return w * x, lambda dy: {"x": dy * w, "w": dy}
"""


def test_a_run_keeps_what_its_views_need(kept, capsys):
    """One run writes all views at once; its JSON has the evidence, and gives the same again."""
    (kept / "spec.py").write_text(SPEC)
    options = ["spec.py", "--profile", "quick", "--select", "symbolic,descent", "-j", "1"]
    files = "text,json:{0}.json,junit:{0}.xml,markdown:{0}.md,github,sarif:{0}.sarif,html:{0}.html"
    assert main(["verify", *options, "--format", files.format("run")]) == 1
    told = capsys.readouterr().out
    assert told.index("1 layer: 1 failed; ") < told.index("::error file=spec.py,line=7,title=layer")
    made = report_from_json((kept / "run.json").read_text("utf-8"))
    assert made.folder == made.root == str(kept)
    assert {"date", "python", "numpy"} <= made.environment.keys()
    (layer,) = made.layers
    assert [h.tensor for h in layer.evidence.heat] == ["w"]
    assert [c.tensor for c in layer.evidence.losses] == ["w"]
    assert main(["report", "run.json", "--format", files.format("again")]) == 0
    assert capsys.readouterr().out == told
    for ending in ("json", "xml", "md", "sarif", "html"):
        assert (kept / f"run.{ending}").read_bytes() == (kept / f"again.{ending}").read_bytes()
