"""The report as a page: whole in itself, escaped, with mathematics and pictures; see test_browser."""

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from reports import EVIDENCE, HARMFUL, MATH, failed, full, hostile, layer, report

from gradverify import Status, Verdict
from gradverify.report import FORMATS, Page
from gradverify.report.html import plots
from gradverify.report.html.mathematics import checked

PAGE = Page(folder="/home/me/project")
VOID = {"meta", "link", "br", "wbr"}


class Reader(HTMLParser):
    """Collects elements and text; what is not closed, or is closed twice, is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "math", "svg"} & set(self.open):
            self.text.append(data)

    @property
    def said(self):
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def page():
    return FORMATS["html"](full(), PAGE)


def test_the_page_says_what_the_report_has(page):
    """Verdict, table, findings, declaration, mathematics, coverage and environment are there, what
    is wrong first."""
    read = Reader(page)
    parts = [
        "✗ Not verified 3 layers: 1 verified, 1 failed, 1 incomplete; 2 errors, 1 warning, 1 problem",
        "profile default, seed 7, 2031-02-03 04:05:06 UTC",
        "specs/bad.py:3: does not import: NameError: no",
        "norm ✗ failed ✓ ok ✓ ok ✗ fail ✗ fail – n/a",
        "unsure ! incomplete",
        "Wrong beta: a mean over N where the sum is derived",
        "the gradient of beta is not the derived one",
        "difference1, 1e+14 times what is allowed",
        'gradverify replay "specs/norm.py::norm::symbolic"',
        "also in descent (slope)",
        "Warning x: dx is dy",
        "2 of 4 elements of the gradient of beta are off by more than allowed",
        "2 of 9 rows are shown.",
        "x input",
        "beta param(C)starts at 0",
        "eps constant1e-05, 0.01",
        "where N >= 2",
        "Definition",
        "Cotangents, given dy dx[n,c] = 0",
        "beta: chosen step 0.01; extrapolated from there the error is 1e-12, where 1e-11 is "
        "allowed; the layer's gradient is off by 0.5",
        "beta: predicted slope -12, chosen rate 0.5",
        "closed forms of dx are left out",
        "float64 6 float32 3 float16 0",
        "N=1: not allowed by N >= 2",
        "forward: vacuous: why forward is vacuous",
        "numpy 2.4.6",
    ]  # fmt: skip
    flat = re.sub(r"\s", "", read.said)
    places = [flat.find(re.sub(r"\s", "", part)) for part in parts]
    assert -1 not in places, [p for p, at in zip(parts, places, strict=True) if at < 0]
    assert "✓ Verified 1 layer: 1 verified" in Reader(FORMATS["html"](report(layer()), PAGE)).said


def test_the_page_needs_nothing_but_itself(page):
    """There is no script, and no address in it that anything is loaded from."""
    read = Reader(page)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in read.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                assert value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)", page)
    policy = next(a["content"] for t, a in read.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_every_id_is_there_once_and_every_link_leads_somewhere(page):
    """Pictures of one page do not share ids; every link within the page has its place."""
    read = Reader(page)
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    used = {
        a[k][1:]
        for _, a in read.elements
        for k in ("href", "xlink:href")
        if a.get(k, "")[:1] == "#"
    }
    used |= {i for _, a in read.elements for i in a.get("aria-labelledby", "").split()}
    used |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert used <= set(ids)


def test_mathematics_and_pictures_are_elements_of_the_page(page):
    """Equations are MathML, pictures SVG that says in words what it shows."""
    read = Reader(page)
    tags = [tag for tag, _ in read.elements]
    assert tags.count("math") == 2
    pictures = [a for tag, a in read.elements if tag == "svg"]
    assert len(pictures) == 6
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in pictures)
    assert "var(--accent)" in page
    assert not any(colour in page for colour in plots.COLOURS)


def test_names_that_mean_harm_are_only_text():
    """Whatever a layer, tensor or message is called, it is text: no element, no attribute, no
    character that could hide."""
    shown = FORMATS["html"](hostile(), PAGE)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)
    read = Reader(shown)
    assert not {tag for tag, _ in read.elements} & {"script", "b x", "p x"}
    assert not any("onerror" in a for _, a in read.elements)
    assert [a for tag, a in read.elements if tag == "img"] == []
    for text in (HARMFUL[0], HARMFUL[1], HARMFUL[8], HARMFUL[10]):
        assert text in "".join(read.text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no mathematics",
        "<math>no namespace</math>",
        MATH.replace("<mn>1</mn>", "<script>alert(1)</script>"),
        MATH.replace(
            "<mn>1</mn>", '<annotation-xml encoding="text/html"><b>1</b></annotation-xml>'
        ),
        MATH.replace("<mn>", '<mn xmlns="http://www.w3.org/1999/xhtml">'),
        MATH.replace("</math>", ""),
        '<!DOCTYPE math [<!ENTITY a "b">]>' + MATH,
        MATH.replace("<mn>1</mn>", "<mrow>" * 300 + "</mrow>" * 300),
        "<p>" + MATH + "</p>",
    ],
)
def test_only_mathematics_gets_in_as_it_is(text):
    """MathML of a file that anyone may have written is let in element by element, or not at all."""
    assert checked(text) is None


def test_attributes_that_could_act_are_left_out():
    """Of attributes those stay that only lay mathematics out."""
    risky = MATH.replace(
        "<mn>", '<mn href="javascript:alert(1)" onclick="x()" style="x" stretchy="false">'
    )
    assert '<mn stretchy="false">1</mn>' in checked(risky)
    assert "javascript" not in checked(risky)
    assert checked(MATH.replace("β", "&lt;b&gt;")).count("&lt;b&gt;") == 1


def test_pictures_say_in_words_what_they_show():
    """Who cannot see a picture is told the numbers in it."""
    curve, loss, heat = EVIDENCE.differences[0], EVIDENCE.losses[0], EVIDENCE.heat[0]
    assert plots.describe_differences(curve) == (
        "Error of central differences in beta for 4 steps from 1e-06 to 1: it is least, 1e-10, at "
        "step 0.0001. The chosen step is 0.01; extrapolated from there the error is 1e-12, where "
        "1e-11 is allowed. The layer's gradient is off by 0.5, which is not allowed."
    )
    assert plots.extrapolated(replace(curve, error=None)) == (
        "1e-11 is allowed beside the extrapolation from there, which all errors are measured from"
    )
    assert plots.describe_losses(loss) == (
        "Loss after one step in beta for learning rates from 0 to 1: 4 at rate 0, least 1. The "
        "gradient predicts a slope of -12 at rate 0; between the first two rates it is -6. The rate "
        "chosen for all is 0.5."
    )
    assert plots.describe_heat(heat) == (
        "2 of 4 elements of the gradient of beta are off by more than allowed, the most at row 1, "
        "column 1: inf times what is allowed. 2 of 9 rows are shown."
    )


ODD = [
    replace(EVIDENCE, differences=(replace(EVIDENCE.differences[0], errors=(0.0,) * 4, error=0.0,
                                           off=float("nan")),)),
    replace(EVIDENCE, differences=(replace(EVIDENCE.differences[0], errors=(float("inf"),) * 4,
                                           off=float("inf")),)),
    replace(EVIDENCE, losses=(replace(EVIDENCE.losses[0], losses=(1.0, 1.0, 1.0), rate=None),)),
    replace(EVIDENCE, losses=(replace(EVIDENCE.losses[0], losses=(1.0, float("inf"), float("nan"))),)),
    replace(EVIDENCE, heat=(replace(EVIDENCE.heat[0], shape=(), rows=((float("nan"),),)),)),
    replace(EVIDENCE, heat=(replace(EVIDENCE.heat[0], shape=(3, 64), rows=((0.0,) * 64,) * 3),)),
]  # fmt: skip


def test_numbers_that_cannot_be_drawn_spoil_no_page():
    """Zeros on a logarithmic axis, infinities and constants leave a page, and no warning."""
    made = report(*(failed(f"odd_{k}", evidence=odd) for k, odd in enumerate(ODD)))
    assert Reader(FORMATS["html"](made, PAGE)).said.count("Loss against learning rate") == len(ODD)


@pytest.mark.parametrize(
    "made",
    [
        report(),
        report(layer(checks=())),
        report(
            layer(verdict=Verdict.INCOMPLETE, statuses=dict.fromkeys(["forward"], Status.ERROR))
        ),
        report(failed(), interrupted=True, folder="", root=""),
    ],
    ids=["empty", "no checks", "error", "interrupted"],
)
def test_a_report_with_little_in_it_is_a_page(made):
    """What is not there leaves no hole and no heading."""
    read = Reader(FORMATS["html"](made, PAGE))
    assert ("Not verified" in read.said) is (not made.ok)
    assert "Coverage" not in read.said
    assert "Environment" not in read.said


def test_other_formats_do_without_what_html_needs():
    """Neither jinja2 nor matplotlib is imported by the views of the core."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); from reports import full; "
        "from gradverify.report import FORMATS, Page; "
        "[FORMATS[f](full(), Page()) for f in FORMATS if f != 'html']; "
        "assert not {'jinja2', 'matplotlib', 'numpy', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=__file__.rpartition("/tests/")[0])
