"""Lower precisions: what is wrong there is told from what is inaccurate, and a layer that knows
no other precision is judged by all checks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from changed import changed

from gradverify import Input, Layer, Output, Spec, Verdict, catalog, verify
from gradverify.cases import parse_case
from gradverify.checks import precision
from gradverify.checks.compared import Gradients, Outputs
from gradverify.checks.precision import systematic
from gradverify.loading import catalogue_folder, load
from gradverify.trial import Trial, make_oracle

RIGHT = {
    layer.spec.name: layer
    for name in ("batch_norm", "gelu", "linear", "relu", "softmax")
    for layer in load(catalogue_folder() / f"{name}.py")
}


def judged(layer, **options):
    (result,) = verify(layer, **options).layers
    return result


def factor(value, dtype=np.float32):
    return lambda g, _: g * g.dtype.type(value if g.dtype == dtype else 1)


def rounded_to_half(g, _):
    digits, exponent = np.frexp(g)  # as float16, whose range is not the point
    return np.ldexp(np.round(digits * 2**11) / g.dtype.type(2**11), exponent)


# -- wrong or inaccurate


@pytest.mark.parametrize("value", [-1.0, 2.0, 1.001, 1.00003, 0.99999])
def test_a_factor_in_float32_only_is_wrong(value):
    """However small an error is that does not change with the values, it is an error."""
    result = judged(changed("linear", w=factor(value)), checks=["symbolic"])
    (finding,) = result.findings
    assert (finding.tensor, finding.severity) == ("w", "error")
    assert "only seen in float32" in finding.message


def test_a_term_left_out_in_float32_only_is_wrong():
    """A formula of its own for one precision, here without the path through the mean."""

    def without_the_mean(g, given):
        if g.dtype != np.float32:
            return g
        sigma = np.sqrt(given["x"].var(axis=0) + np.float32(given["eps"]))
        xhat = (given["x"] - given["x"].mean(axis=0)) / sigma
        dy = given["dy"]
        return given["gamma"] / sigma * (dy - xhat * (dy * xhat).mean(axis=0))

    result = judged(changed("batch_norm", x=without_the_mean), checks=["symbolic"])
    assert {(f.tensor, f.severity) for f in result.findings} == {("x", "error")}


def test_a_step_in_lower_precision_is_inaccurate():
    """Half precision within a layer costs float32 digits, other ones at every value: a warning;
    in float64 it is an error, since float64 decides what is wrong."""

    def of_float32(g, _):
        return rounded_to_half(g, _) if g.dtype == np.float32 else g

    result = judged(changed("linear", w=of_float32))
    (finding,) = result.findings
    assert (finding.question, finding.severity) == ("inaccurate", "warning")
    assert result.verdict is Verdict.VERIFIED
    result = judged(changed("linear", w=rounded_to_half), checks=["symbolic"])
    (finding,) = result.findings
    assert (finding.severity, "float64" in finding.case) == ("error", True)


def test_what_is_wrong_at_the_same_values_in_float64_is_no_matter_of_float32():
    """One finding, that does not speak of precision: a small error that both precisions have."""
    wrong = changed("gelu", x=lambda g, _: g + g.dtype.type(1e-4))
    findings = judged(wrong, checks=["symbolic"]).findings
    assert [f.severity for f in findings] == ["error"]
    assert "only seen" not in findings[0].message


def moving(function, spec, line):
    layer = Layer(spec, function)
    return Trial(layer, parse_case(line, spec), make_oracle(spec))


LINE = "N=5 dtype=float32 layout=C values={} cotangent=signed seed=3"


@pytest.mark.parametrize("values", ["ordinary", "small", "tiny", "offset", "large"])
def test_what_is_lost_beside_a_number_near_one_is_rounding(values):
    """A square by (1 + x)**2 - 1 - 2*x loses its digits where x is small, all of them where it is
    tiny: the same error each time, if x were not moved by what a number near 1 can tell."""
    spec = Spec("square", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")

    def beside_one(x):
        one = x.dtype.type(1)
        return (one + x) ** 2 - one - 2 * x, lambda dy: {"x": 2 * ((one + x) - one) * dy}

    def thousandth(x):
        return x**2 * x.dtype.type(1.001), lambda dy: {"x": x.dtype.type(2.002) * x * dy}

    line = LINE.format(values)
    for kind, tensor in ((Outputs, "y"), (Gradients, "x")):
        assert not systematic(kind(moving(beside_one, spec, line)), tensor)
        # What moves a number near 1 moves what is tiny by as much as itself.
        assert systematic(kind(moving(thousandth, spec, line)), tensor) == (values != "tiny")


def test_without_that_question_a_small_wrong_factor_would_be_a_warning(monkeypatch):
    """So it is what tells the one from the other."""
    monkeypatch.setattr(precision, "SAME", 2.0)
    result = judged(changed("linear", w=factor(1.001)), checks=["symbolic"])
    assert {f.severity for f in result.findings} == {"warning"}


def by_fourth_powers(x):
    """Divide by the root of a sum of fourth powers, which float16 holds for |x| < 16 only."""
    with np.errstate(over="ignore"):
        r = np.sqrt(np.sqrt((x**4).sum()))
    y = x / r

    def pullback(dy):
        return {"x": (dy - (dy * y).sum() * y**3) / r}

    return y, pullback


FOURTH = Spec(
    "fourth",
    x=Input("N"),
    y=Output("N"),
    where=["N >= 2"],
    definition="""
        m = max[n](abs(x[n]))
        u[n] = x[n]/m
        y[n] = u[n]/sqrt(sqrt(sum[n](u[n]**4)))
    """,
)
EACH = ("float64", "float32", "float16")


def test_what_overflows_in_float16_alone_at_large_values_is_inaccurate():
    """An infinite sum leaves a quotient of 0, which is far off and yet no wrong formula."""
    layer = Layer(FOURTH, by_fourth_powers, dtypes=EACH)
    case = "N=5 dtype=float16 layout=C values=huge cotangent=signed seed=1"
    result = judged(layer, case=case, checks=["forward", "symbolic", "finite_difference"])
    assert {(f.check, f.severity) for f in result.findings} == {
        ("forward", "warning"), ("symbolic", "warning")
    }  # fmt: skip
    assert all("float16 ends at 65504" in f.message for f in result.findings)
    assert judged(layer).errors == ()


def test_what_is_far_off_in_float16_at_ordinary_values_is_wrong():
    """Nothing of theirs is near the end of float16."""

    def halved(x):
        y, back = by_fourth_powers(x)
        return y, lambda dy: {"x": back(dy)["x"] / np.dtype(x.dtype).type(1 + (x.itemsize == 2))}

    result = judged(Layer(FOURTH, halved, dtypes=EACH), checks=["symbolic"])
    assert {(f.tensor, f.severity) for f in result.errors} == {("x", "error")}
    assert all("only seen in float16" in f.message for f in result.errors)


# -- layers of one precision


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_right_layer_of_one_precision_is_verified(name, dtype):
    """All checks have an answer in float32 and in float16 alone: differences and descent too."""
    result = judged(Layer(RIGHT[name].spec, RIGHT[name].function, dtypes=[dtype]))
    assert result.findings == ()
    assert result.verdict is Verdict.VERIFIED
    assert result.coverage.factors["dtype"] == {dtype: result.coverage.cases}


@pytest.mark.parametrize("value", [-1.0, 2.0, 0.5, 1.001, 1.00003])
def test_a_factor_in_the_only_precision_is_wrong(value):
    """Where there is no float64 to ask, an error that does not change with the values is wrong."""
    result = judged(changed("linear", dtypes=["float32"], w=factor(value)), checks=["symbolic"])
    assert {(f.tensor, f.severity) for f in result.findings} == {("w", "error")}


@pytest.mark.parametrize("check", ["symbolic", "finite_difference", "descent"])
@pytest.mark.parametrize("value", [-1.0, 3.0])
def test_gross_errors_in_float16_are_seen_by_each_check(check, value):
    """A wrong sign and a wrong factor are far more than what three digits lose."""
    wrong = changed("linear", dtypes=["float16"], b=factor(value, np.float16))
    result = judged(wrong, checks=[check])
    assert "b" in {f.tensor for f in result.errors}
    assert {f.check for f in result.errors} == {check}


def test_a_missing_term_in_float16_is_seen():
    """Batch norm without the path through its mean is wrong, however few digits there are."""

    def without_the_mean(g, given):
        sigma = np.sqrt(given["x"].var(axis=0) + given["eps"])
        xhat = (given["x"] - given["x"].mean(axis=0)) / sigma
        dy = given["dy"]
        return (given["gamma"] / sigma * (dy - xhat * (dy * xhat).mean(axis=0))).astype(g.dtype)

    wrong = changed("batch_norm", dtypes=["float16"], x=without_the_mean)
    result = judged(wrong, checks=["symbolic"])
    assert {(f.tensor, f.severity) for f in result.findings} == {("x", "error")}


def two_parts(x, t, *, delta):
    """Huber's loss, whose slope delta + (|e| - delta) carries the rounding of delta."""
    size = np.abs(x - t)
    quadratic = np.minimum(size, delta)
    linear = size - quadratic
    losses = quadratic**2 / 2 + delta * linear

    def pullback(dloss):
        dlinear = delta * np.full_like(losses, dloss / losses.size)
        dsize = dlinear + (quadratic * dloss / losses.size - dlinear) * (size < delta)
        return dsize * np.sign(x - t), None

    return losses.mean(), pullback


def test_digits_lost_at_unusual_values_are_a_warning_of_one_check():
    """In 50 digits the formula is right: at tiny values it is inaccurate, whatever by, and no
    check that sees the lost digits as well fails the layer."""
    result = judged(Layer(catalog("huber"), two_parts, dtypes=["float64"]))
    assert result.verdict is Verdict.VERIFIED
    (finding,) = result.findings
    assert (finding.check, finding.question, finding.tensor) == ("symbolic", "inaccurate", "x")
    assert "in 50-digit arithmetic it gives the derived gradient" in finding.message
    assert "values=tiny" in finding.case


def test_digits_lost_at_ordinary_values_are_an_error():
    """A step in float32 is seen where nothing excuses it, though 50 digits do not show it."""
    wrong = changed("linear", dtypes=["float64"], w=lambda g, _: g.astype(np.float32).astype(float))
    result = judged(wrong, checks=["symbolic"])
    assert {(f.tensor, f.severity) for f in result.findings} == {("w", "error")}


def test_what_exceeds_float16_on_its_way_is_a_warning():
    """A right formula whose cube of 1/||v|| is beyond 65504 for tiny v only is not failed; it is
    told that such values overflow."""
    weight_norm = catalog("weight_norm")

    def cubed(x, v, g, b):
        a, rnorm = x @ v.T, 1 / np.sqrt(np.sum(v * v, axis=1))

        def pullback(dy):
            dscale = np.sum(dy * a, axis=0)
            dv = (dy * (g * rnorm)).T @ x - (dscale * g * rnorm**3)[:, None] * v
            return dy * (g * rnorm) @ v, dv, dscale * rnorm, dy.sum(axis=0)

        return a * (g * rnorm) + b, pullback

    result = judged(Layer(weight_norm, cubed, dtypes=["float16"]))
    assert result.verdict is not Verdict.FAILED
    (told,) = [f for f in result.findings if f.question == "finite"]
    assert (told.tensor, told.severity) == ("v", "warning")
    assert "float16 ends at 65504" in told.message


def test_what_exceeds_float16_at_ordinary_values_is_an_error():
    """A layer meant for float16 is finite at ordinary values, whatever the order of its steps."""
    big = np.float16(6e4)
    result = judged(changed("linear", dtypes=["float16"], w=lambda g, _: g * big * big / big / big))
    assert {("w", "finite"), ("w", "gradient")} <= {(f.tensor, f.question) for f in result.errors}


def test_the_wider_of_two_precisions_decides():
    """A layer of float32 and float16 is differenced in float32, and wrong where float32 is."""
    wrong = changed("linear", dtypes=["float16", "float32"], b=factor(1.01))
    result = judged(wrong)
    assert {f.severity for f in result.findings} == {"error"}
    assert {f.check for f in result.findings} >= {"symbolic", "finite_difference"}
    assert all("dtype=float32" in f.case for f in result.findings if f.check != "symbolic")


def test_values_nearby_are_of_the_same_kind():
    """Ranges are kept to, what takes no gradient stays, and all is in the layer's precision."""
    spec = Spec(
        "s", x=Input("N", range="0..1"), mask=Input("N", values=(0, 1), differentiable=False),
        y=Output("N"), definition="y[n] = x[n]*mask[n]",
    )  # fmt: skip
    trial = moving(lambda x, mask: (x * mask, lambda dy: {"x": dy * mask}), spec,
                   LINE.format("ordinary"))  # fmt: skip
    moved = precision._moved(trial, np.random.default_rng(0))
    x, old = moved.arrays.tensors["x"], trial.arrays.tensors["x"]
    assert (x.dtype, x.min() >= 0, x.max() <= 1) == (np.float32, True, True)
    assert 1e-3 < np.abs(x - old).max() < 0.1
    assert np.array_equal(moved.arrays.tensors["mask"], trial.arrays.tensors["mask"])
    assert replace(moved, given=None) == trial


def test_what_overflows_in_float16_at_many_rows_alone_is_inaccurate():
    """Of many rows there is always one whose variance is next to nothing, and the third power of
    its inverse is infinite: smaller sizes tell that from what overflows whatever is given."""
    ways = load(Path(__file__).parent / "right" / "transformer_block.py")
    (layer,) = (x for x in ways if x.name == "checkpointed")
    half = Layer(layer.spec, layer.function, name="half", dtypes=["float16"], file=layer.file)
    case = (
        "B=2 T=17 D=2 E=1 H=1 G=1 eps=1e-05 dtype=float16 layout=C values=ordinary "
        "cotangent=signed seed=4245214700"
    )
    result = judged(half, case=case, checks=["contract"])
    assert result.errors == ()
    assert {(f.severity, f.question) for f in result.findings} == {("warning", "finite")}
