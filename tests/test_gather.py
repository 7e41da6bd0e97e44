"""The evidence of a layer: what it is, curves that show what they should, maps of what is wrong."""

import math

import numpy as np
import pytest

from gradverify import Buffer, Constant, Input, Layer, Output, Param, Spec, verify
from gradverify.evidence import DeclaredTensor
from gradverify.gather import COLUMNS, ROWS, SIZES, declared

# y = b + w*tanh(x): smooth, with a third derivative, so that differences have both ends of a V.
DEFINITION = "y[n,c] = b[c] + w[c]*tanh(x[n,c])"
TENSORS = {"x": Input("N C"), "w": Param("C"), "b": Param("C", init="zeros"), "y": Output("N C")}
curved = Spec("curved", **TENSORS, definition=DEFINITION)
bare = Spec("curved", **TENSORS)


def right(x, w, b):
    t = np.tanh(x)
    return b + w * t, lambda dy: (dy * w * (1 - t**2), (dy * t).sum(0), dy.sum(0))


def wrong(x, w, b):
    y, pullback = right(x, w, b)

    def pulled(dy):
        dx, dw, db = pullback(dy)
        dx[:, 1:] *= 1 + 1e-6
        return dx, dw, 2 * db

    return y, pulled


def evidence(function, spec=curved, **options):
    options = {"profile": "quick", "evidence": True, **options}
    (result,) = verify(Layer(spec, function, name="layer"), **options).layers
    return result.evidence


@pytest.fixture(scope="module")
def of_right():
    return evidence(right)


@pytest.fixture(scope="module")
def of_wrong():
    return evidence(wrong, checks=["symbolic", "finite_difference", "descent"])


def test_evidence_is_gathered_only_where_it_is_wanted():
    """A run that shows none does not pay for it."""
    assert evidence(right, checks=["contract"], evidence=False) is None


def test_the_equations_are_those_of_the_derivation(of_right):
    """Definition, cotangents and closed forms are there as text and as MathML."""
    titles = [e.title for e in of_right.equations]
    assert titles == [
        "definition", "cotangents, given dy", "closed forms, each checked against the equations above",
    ]  # fmt: skip
    first, cotangents, closed = of_right.equations
    assert first.text == "y[n,c] = b[c] + w[c]·tanh(x[n,c])"
    assert "db[c]   = Σ[n] dy[n,c]" in cotangents.text
    assert "dw[c]   = Σ[n] dy[n,c]·tanh(x[n,c])" in closed.text
    assert all(
        e.mathml.startswith("<math ") and e.mathml.endswith("</math>") for e in of_right.equations
    )
    assert of_right.notes == ()


def test_differences_of_a_right_layer_make_a_v(of_right):
    """Long steps err as their square, short ones by rounding, and the chosen one beats both; the
    layer's own gradient is better than all."""
    assert [c.tensor for c in of_right.differences] == ["x", "w", "b"]
    curve = of_right.differences[0]
    assert curve.case.startswith(f"N={SIZES[0]} C={SIZES[1]} ")
    errors = dict(zip(curve.steps, curve.errors, strict=True))
    long, short = max(errors), min(errors)
    least = min(errors, key=errors.__getitem__)
    assert short < least < long
    assert errors[long] > 1e4 * errors[least] < errors[short]
    slope = math.log(curve.errors[2] / curve.errors[4]) / math.log(curve.steps[2] / curve.steps[4])
    assert slope == pytest.approx(2, abs=0.2)
    assert curve.error <= curve.allowed < errors[short]
    assert curve.off <= curve.allowed


def test_differences_of_a_wrong_layer_show_by_how_much(of_wrong):
    """A gradient that is off by a millionth is far above what is allowed, and one that is right is
    not."""
    x, w, b = of_wrong.differences
    assert x.off > 1000 * x.allowed
    assert b.off > 1000 * b.allowed
    assert w.off <= w.allowed
    assert x.error <= x.allowed


def test_the_loss_starts_with_the_slope_that_a_right_gradient_predicts(of_right, of_wrong):
    """At rate 0 the loss falls as the gradient says, and by half of it where that is doubled."""
    for found, factor in ((of_right, 1.0), (of_wrong, 0.5)):
        curves = {c.tensor: c for c in found.losses}
        assert list(curves) == ["w", "b"]
        b = curves["b"]
        # The loss is a parabola in b: three points give its slope at 0.
        (r0, r1, r2), (y0, y1, y2) = b.rates[:3], b.losses[:3]
        start = (y1 - y0) / (r1 - r0) * 2 - (y2 - y0) / (r2 - r0)
        assert start == pytest.approx(factor * b.slope, rel=1e-2)
        assert r0 == 0 < b.rate < b.rates[-1]
        assert min(b.losses) < y0


def test_inputs_are_stepped_where_there_is_no_parameter():
    """A layer with nothing to learn shows the loss against a step in its input."""
    square = Spec("square", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")
    found = evidence(lambda x: (x**2, lambda dy: 2 * x * dy), square, checks=["descent"])
    assert [c.tensor for c in found.losses] == ["x"]
    assert found.differences == ()


def test_a_heat_map_shows_which_elements_are_wrong(of_wrong):
    """All but the first column of dx are off, all of db, and nothing of dw."""
    x, b = of_wrong.heat
    assert (x.tensor, x.shape, b.tensor, b.shape) == ("x", (5, 4), "b", (4,))
    assert [[v > 1 for v in row] for row in x.rows] == [[False, True, True, True]] * 5
    assert [[v > 1 for v in row] for row in b.rows] == [[True] * 4]
    assert x.cut == ""
    assert f"N={SIZES[0]} C={SIZES[1]}" in x.case


def test_a_large_map_is_cut_and_says_so():
    """Of a tensor with many rows and columns only the first are kept, and that is told."""
    from gradverify.cases import parse_case
    from gradverify.gather import _map

    case = parse_case(
        "N=1 C=1 dtype=float64 layout=C values=ordinary cotangent=signed seed=1", curved
    )
    found = _map("x", "symbolic", case, np.ones((10, 10, 200)))
    assert (len(found.rows), {*map(len, found.rows)}) == (ROWS, {COLUMNS})
    assert found.cut == f"{ROWS} of 100 rows and {COLUMNS} of 200 columns are shown"
    assert _map("x", "symbolic", case, np.array(3.0)).rows == ((3.0,),)


def test_without_a_definition_there_are_curves_all_the_same():
    """Differences are measured against their own extrapolation, and elements against differences;
    there are no equations then."""
    found = evidence(wrong, bare, checks=["finite_difference", "descent"])
    assert found.equations == ()
    assert {c.tensor: c.off > c.allowed for c in found.differences} == {
        "x": True,
        "w": False,
        "b": True,
    }
    assert all(c.error is None for c in found.differences)
    x, b = found.heat
    assert (x.check, x.tensor, x.shape, b.tensor) == ("finite_difference", "x", (5, 4), "b")
    assert [[v > 1 for v in row] for row in x.rows] == [[False, True, True, True]] * 5


def test_what_is_wrong_in_few_cases_is_shown_in_one_of_them():
    """A fault at one size alone is in the picture, whatever sizes a picture likes."""

    def lonely(x, w, b):
        y, pullback = right(x, w, b)

        def pulled(dy):
            dx, dw, db = pullback(dy)
            return dx, dw, db * (1 + (len(x) == 1))

        return y, pulled

    found = evidence(lonely, checks=["symbolic", "finite_difference"])
    assert {c.tensor: c.off > c.allowed for c in found.differences} == {
        "x": False,
        "w": False,
        "b": True,
    }
    assert found.differences[2].case.startswith("N=1 ")
    assert [(h.tensor, h.case[:4]) for h in found.heat] == [("b", "N=1 ")]


def test_a_layer_that_answers_no_more_loses_its_curves_and_no_verdict():
    """Where the forward raises at other values there is a finding, and no curve of it."""

    def brittle(x, w, b):
        if np.any(np.abs(w) > 1e3):
            raise ValueError("too large")
        calls.append(1)
        if len(calls) > limit:
            raise ValueError("tired")
        return right(x, w, b)

    calls, limit = [], math.inf
    evidence(brittle)
    limit, used = len(calls) - 20, len(calls)
    calls.clear()
    found = evidence(brittle)
    assert used > 100
    assert len(found.differences) + len(found.losses) < 5


def test_a_defect_of_the_evidence_loses_no_verdict(monkeypatch):
    """What goes wrong while pictures are made is a note; the verdict is that of the checks."""

    def broken(*given):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("gradverify.gather.difference_curve", broken)
    layer = Layer(curved, right, name="layer")
    (result,) = verify(layer, profile="quick", evidence=True).layers
    assert result.verdict == "verified"
    assert len(result.evidence.losses) == 2
    assert result.evidence.notes == (
        "differences are left out: ZeroDivisionError: a defect (a defect of gradverify: please "
        "report it)",
    )


def test_the_declaration_says_all_that_a_spec_does():
    """Roles, shapes, ranges, starts and what is allowed are told for every tensor."""
    spec = Spec(
        "s",
        x=Input("N C", range="0.1..3"),
        ids=Input("N", dtype=int, range="0..C-1"),
        mask=Input("N C", values=(0, 1), differentiable=False),
        pad=Input("N", outside=0),
        w=Param("C", init="ones"),
        m=Buffer("C", update="new_m", init="zeros"),
        eps=Constant(1e-5, 0.01),
        y=Output("N C"),
        new_m=Output("C"),
        where=["N >= 2"],
        allow={"dw": (1e-6, "from a table")},
        definition="y[n,c] = w[c]*x[n,c]*mask[n,c] + x[n,ids[n]] + pad[n]\nnew_m[c] = m[c] + eps",
    )
    found = declared(spec)
    assert {t.name: t.note for t in found.tensors} == {
        "x": "range 0.1..3",
        "ids": "whole numbers; range 0..C-1; no gradient",
        "mask": "one of 0, 1; no gradient",
        "pad": "0 outside",
        "w": "starts at ones; dw may be off by 1e-06 of its terms: from a table",
        "m": "starts at zeros; next value: new_m; no gradient",
        "y": "",
        "new_m": "",
    }
    assert found.tensors[0] == DeclaredTensor("x", "input", "(N, C)", "range 0.1..3")
    assert found.constants == {"eps": (1e-5, 0.01)}
    assert found.where == ("N >= 2",)
