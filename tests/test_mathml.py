"""Equations in MathML: valid, by the rules of MathML Core, and the same as in the other styles."""

import re
import xml.etree.ElementTree as ET
from functools import cache

import pytest
from catalogue import SPECS, oracle

from gradverify import Input, Output, Param, Spec
from gradverify.calculus.compile import Oracle
from gradverify.calculus.mathml import SPACE
from gradverify.calculus.show import emit

CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "msqrt": 1}
WORDS = {"mi", "mn", "mo", "mtext"}
ROWS = {"mrow", "mtable", "mtr", "mtd", "math"}


@cache
def page(name):
    return ET.fromstring(emit(oracle(name), "mathml", name))


def here(definition, name="here", **tensors):
    spec = Spec(name, definition=definition, **tensors)
    shown = emit(Oracle(spec.program, spec.differentiable), "mathml", name)
    return shown, ET.fromstring(shown)


def tag(element):
    return element.tag.removeprefix(f"{{{SPACE}}}")


def said(element):
    """The text of an element as one reads it aloud from left to right."""
    return "".join(element.itertext()).replace("\u2062", "·").replace("\u2061", "")


@pytest.mark.parametrize("name", SPECS)
def test_every_element_has_the_children_it_may_have(name):
    """Fractions have two parts, words none, and each row of a table as many cells as the rest."""
    for math in page(name).iter(f"{{{SPACE}}}math"):
        for e in math.iter():
            kind = tag(e)
            assert kind in CHILDREN or kind in WORDS or kind in ROWS, kind
            if kind in CHILDREN:
                assert len(e) == CHILDREN[kind], ET.tostring(e, "unicode")
            if kind in WORDS:
                assert len(e) == 0
                assert e.text
            else:
                assert not (e.text or "").strip(), "text stands in words only"
            assert not (e.tail or "").strip()
        rows = [[int(cell.get("columnspan", 1)) for cell in row] for row in math[0]]
        assert {sum(row) for row in rows} == {3}


@pytest.mark.parametrize("name", SPECS)
def test_every_equation_is_there(name):
    """As many equations as in unicode, and a left side for every gradient."""
    text = emit(oracle(name), "unicode", name)
    rows = [row for math in page(name).findall(f"{{{SPACE}}}math") for row in math[0]]
    lefts = [said(row[0]) for row in rows if len(row) == 3]
    assert len(lefts) == len(re.findall(r"^  +[a-z]\S* +\+?= ", text, re.M))
    assert all(row[1][0].text in ("=", "+=") for row in rows if len(row) == 3)
    heads = [p.text for p in page(name).findall("p")]
    assert heads[0] == f"{name}: definition"
    assert heads[1].startswith(f"{name}: cotangents, given d")


def test_batch_norm_is_set_as_in_print():
    """A mean is a fraction and a sum, a hat a hat, a root a root, and Greek letters are Greek."""
    definition, cotangents = page("batch_norm").findall(f"{{{SPACE}}}math")
    rows = {said(row[0]): row[2] for math in (definition, cotangents) for row in math[0]}
    assert [*rows][:5] == ["μc", "varc", "σc", "x^n,c", "yn,c"]
    assert said(rows["μc"]) == "1N∑nxn,c"
    assert [tag(e) for e in rows["σc"].iter()][2:4] == ["msqrt", "mrow"]
    assert said(rows["σc"]) == "varc+ε"
    assert said(rows["dγc"]) == "∑ndyn,c·x^n,c"
    assert [tag(e) for e in rows["x^n,c"].iter()].count("mfrac") == 1
    assert len([*rows["dσc"].iter(f"{{{SPACE}}}msubsup")]) == 1  # sigma[c]² in one piece


def test_a_loop_and_scattering_are_said():
    """What is no equation stands in rows of their own, or behind the equation."""
    *_, math = page("plain_rnn").findall(f"{{{SPACE}}}math")
    assert said(math[0][0]) == "for\u00a0t=T−1,…,0:"
    marked = ["border-left" in row[0].get("style", "") for row in math[0]]
    assert marked[:4] == [False, True, True, False]
    *_, math = page("max_pool2d").findall(f"{{{SPACE}}}math")
    assert said(math[0][0][2]).endswith("\u00a0\u00a0\u00a0for\u00a0all\u00a0n,c,p,q,r,t")


def test_a_choice_is_set_as_cases():
    """where(c, a, b) is two rows in braces; a comparison is escaped."""
    shown, root = here("y[n] = where(x[n] < 1 or x[n] > 2, x[n], 0)", x=Input("N"), y=Output("N"))
    cases = [e for e in root.iter(f"{{{SPACE}}}mtable") if len(e) == 2]
    assert [said(row) for row in cases[0]] == ["xnwhere\u00a0(xn<1)∨(xn>2)", "0otherwise"]
    assert "<mo>&lt;</mo>" in shown


@pytest.mark.parametrize("name", ["<script>", "a & b", 'say "x"', "\x00\x1f", "ünïcode", "]]>"])
def test_what_a_user_wrote_is_escaped(name):
    """The name of a spec is text, whatever is in it; what XML cannot hold is replaced."""
    shown, root = here("y[n] = x[n]", name, x=Input("N"), y=Output("N"))
    kept = re.sub("[\x00-\x1f]", "\ufffd", name)
    assert root.find("p").text == f"{kept}: definition"
    assert "<script" not in shown


def test_names_are_taken_apart_only_where_they_say_so():
    """Letters with numbers, hats over greek letters, and words with underscores."""
    _, root = here(
        "theta_hat[i] = delta[i]*x[i]\nlong_name[i] = sum[j](theta_hat[j]*x[i])\n"
        "y[i] = long_name[i] + hat[i]",
        x=Input("N"), hat=Input("N"), delta=Param("N"), y=Output("N"),
    )  # fmt: skip
    lefts = [said(row[0]) for math in root.findall(f"{{{SPACE}}}math") for row in math[0]]
    assert lefts[:3] == ["θ^i", "long_namei", "yi"]
    assert "dδi" in lefts
    assert "dhati" in lefts


def test_bounds_and_functions_with_signs_of_their_own():
    """A bound stands below its Σ or Π; gamma functions have the letters that print has for them."""
    _, root = here(
        "p[n] = prod[m<n](x[m])\ny[n] = p[n]*gamma(x[n]) + polygamma(1, x[n]) + lgamma(x[n])",
        x=Input("N"), y=Output("N"),
    )  # fmt: skip
    rows = {said(row[0]): row[2] for row in root.find(f"{{{SPACE}}}math")[0] if len(row) == 3}
    assert said(rows["pn"]) == "∏m<nxm"
    assert said(rows["yn"]) == "log Γ(xn)+ψ(1)(xn)+pn·Γ(xn)"
