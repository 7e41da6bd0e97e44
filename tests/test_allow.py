"""What a spec allows by itself, for a reason: `allow={"dx": (1e-6, "interpolated from a table")}`."""

import numpy as np
import pytest

from gradverify import Input, Layer, Output, Param, Spec, SpecError, Verdict, verify
from gradverify.numerics.allowance import POWER, Allowance
from gradverify.result import Status

NODES = np.linspace(-9, 9, 30_001)
TABLE = np.tanh(NODES)
ALLOW = {"y": (1e-6, "interpolated from a table"), "dx": (1e-5, "from the interpolated output")}


def tanh(**options):
    return Spec("tanh", x=Input("N", range="-3..3"), y=Output("N"), definition="y[n] = tanh(x[n])",
                **options)  # fmt: skip


def from_a_table(x):
    y = np.interp(x, NODES, TABLE).astype(x.dtype)
    return y, lambda dy: {"x": dy * (1 - y**2)}


def judged(spec, function=from_a_table, **options):
    (result,) = verify(Layer(spec, function), **options).layers
    return result


def test_a_table_is_wrong_without_an_allowance_and_verified_with_one():
    """Every check goes by it: outputs, gradients, differences of a forward that is off, descent."""
    assert {f.check for f in judged(tanh()).errors} >= {"forward", "symbolic"}
    result = judged(tanh(allow=ALLOW))
    assert result.errors == ()
    assert result.verdict is Verdict.VERIFIED


def test_the_report_says_what_is_allowed_and_why():
    """The tensor's reason has the fraction and the person's own words, `why` the number's."""
    result = judged(tanh(allow=ALLOW), checks=["forward", "symbolic", "finite_difference"])
    checks = {c.check: c.tensors for c in result.checks}
    told = "the spec allows 1e-06 of its terms: interpolated from a table"
    assert (checks["forward"]["y"].status, checks["forward"]["y"].reason) == (Status.PASSED, told)
    told = "the spec allows 1e-05 of its terms: from the interpolated output"
    assert checks["symbolic"]["x"].reason == checks["finite_difference"]["x"].reason == told
    assert checks["symbolic"]["x"].why.startswith("the spec: 1e-05 of its terms, up to ")
    assert checks["symbolic"]["x"].why.endswith(" (from the interpolated output)")


@pytest.mark.parametrize("factor", [1.0001, 1.001, 2.0, -1.0])
def test_what_is_more_than_allowed_is_wrong(factor):
    """An allowance is no licence: beyond it a gradient fails, and the finding says who set it."""

    def wrong(x):
        y, pullback = from_a_table(x)
        return y, lambda dy: {"x": pullback(dy)["x"] * x.dtype.type(factor)}

    (finding,) = judged(tanh(allow=ALLOW), wrong, checks=["symbolic"]).findings
    assert (finding.tensor, finding.severity) == ("x", "error")
    assert "(from the interpolated output)" in finding.why


def test_an_allowance_is_a_fraction_of_the_terms_and_a_least_one():
    """It is power that it costs: what may be off by a hundredth cannot be told to a thousandth."""
    exact = Allowance(1e-15, 1e-16, 1.0)
    some = Allowance(1e-6, 1e-16, 1.0, declared=(1e-6, "r"))
    much = Allowance(1e-2, 1e-16, 1.0, declared=(1e-2, "r"))
    assert (exact.power, some.power, much.power) == (POWER, POWER, 25)
    assert not exact.vacuous
    assert not much.vacuous
    assert Allowance(2e-2, 1e-16, 1.0, declared=(1e-2, "r")).vacuous
    assert (exact.noise, some.noise) == (1e-16, 1e-6)
    # What was measured may be more than what is declared; then it is said that it was.
    assert Allowance(1e-5, 1e-6, 1.0, declared=(1e-6, "r")).why.startswith("16 x (spread ")


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        ({"dX": (1e-6, "r")}, "allow: there is no output or gradient 'dX'; known are y, dx, dw"),
        ({"x": (1e-6, "r")}, "allow: there is no output or gradient 'x'; "),
        ({"dt": (1e-6, "r")}, "allow: there is no output or gradient 'dt'; "),
        ({"dx": 1e-6}, "allow: dx=1e-06 is no fraction with a reason: write allow={"),
        ({"dx": (1e-6,)}, "allow: dx=(1e-06,) is no fraction with a reason: write allow={"),
        ({"dx": (0, "r")}, "allow: dx may be off by 0 of its terms: the fraction is more than 0"),
        ({"dx": (0.5, "r")}, "allow: dx may be off by 0.5 of its terms: the fraction is more than"),
        ({"dx": ("1", "r")}, "allow: dx may be off by '1' of its terms: "),
        ({"dx": (float("nan"), "r")}, "allow: dx may be off by nan of its terms: "),
        ({"dx": (1e-6, " ")}, "allow: dx needs a reason, which the report shows: write allow={"),
        ({"dx": (1e-6, None)}, "allow: dx needs a reason, which the report shows"),
        ([("dx", 1e-6)], "allow=[('dx', 1e-06)]: write allow={"),
    ],
)
def test_what_is_wrong_with_an_allowance_is_said(allow, told):
    """A name that is no gradient or output, no number, no reason: each error says what to write."""
    with pytest.raises(SpecError) as error:
        Spec("s", x=Input("N"), t=Input("N", dtype=int), w=Param("N"), y=Output("N"), allow=allow)
    assert str(error.value).startswith(f"spec 's': {told}")


def test_an_allowance_needs_a_definition():
    """It is of what is derived, and would do nothing without one; that is said."""
    with pytest.raises(SpecError, match="allow is what may be off from what a definition gives"):
        Spec("tanh", x=Input("N"), y=Output("N"), allow=ALLOW)
