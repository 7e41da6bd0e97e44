"""Allowances: large enough for every right way of writing a layer, small enough to see a mistake."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gradverify import Constant, Input, Layer, Output, Param, Spec
from gradverify.calculus.point import Point
from gradverify.cases import Case, cases, draw, parse_case
from gradverify.checks.observation import compare
from gradverify.loading import catalogue_folder, load
from gradverify.numerics.allowance import (
    CAP,
    FACTOR,
    POWER,
    Allowance,
    reference,
    unit_roundoff,
)
from gradverify.regular import settled
from gradverify.result import Status
from gradverify.trial import Trial, make_oracle

RIGHT = Path(__file__).parent / "right"


@cache
def layers(name):
    """Return the right ways of writing a layer, the catalogue's own first."""
    own = load(catalogue_folder() / f"{name}.py")
    return (*own, *(x for x in load(RIGHT / f"{name}.py") if not x.name.startswith("naive")))


@cache
def oracle(name):
    return make_oracle(layers(name)[0].spec)


def trial(name, line, layer=0):
    found = layers(name)[layer]
    return Trial(found, parse_case(line, found.spec), oracle(name))


def at(dtype="float64", seed=0, values="ordinary", sizes="N=7 C=5"):
    return f"{sizes} eps=1e-05 dtype={dtype} layout=C values={values} cotangent=signed seed={seed}"


# -- enough


@pytest.mark.parametrize("name", ["batch_norm", "softmax", "lstm_cell"])
def test_every_right_way_is_within_what_is_allowed(name):
    """Step by step, closed form, folded, einsum and more: none is further off than allowed."""
    needed = {}
    spec = layers(name)[0].spec
    chosen = list(cases(spec, ("float64", "float32"), 10, 0))[::2]
    chosen = [c for c in (settled(spec, oracle(name), c) for c in chosen) if c is not None]
    assert len(chosen) > 15
    for layer in layers(name):
        for case in chosen:
            if layer.dtypes is not None and case.dtype not in layer.dtypes:
                continue
            # Another spec object of the same file's text: the case means the same to it.
            seen = Trial(layer, case, oracle(name))
            for tensor, got in seen.gradients.items():
                allowance = seen.reference.allowed_gradients[tensor]
                if not allowance.vacuous:
                    off = float(np.max(np.abs(got - seen.reference.gradients[tensor])))
                    if off > 0.5 * allowance.value:
                        # The few draws that it is measured by are small by chance once in
                        # thousands of times: then the checks draw more as well.
                        allowance = seen.careful.allowed_gradients[tensor]
                    needed[layer.name, tensor] = max(
                        needed.get((layer.name, tensor), 0.0), off / allowance.value
                    )
    assert len({layer for layer, _ in needed}) >= 5
    # Measured in these cases, of what is allowed: batch norm 0.20 (in one pass), LSTM cell 0.12,
    # softmax 0.05.
    assert max(needed.values()) < 0.5


# -- and not more


def test_a_relative_error_of_1e_12_is_seen():
    """At ordinary values, in float64, hundreds of units in the last place are no rounding."""
    ratios = []
    for seed in range(40):
        known = trial("batch_norm", at(seed=seed)).reference
        for tensor, expected in known.gradients.items():
            ratios.append(known.allowed_gradients[tensor].value / float(np.abs(expected).max()))
    # Measured at 120 gradients: 1.0e-14 at the median, 2.6e-14 at most.
    assert np.median(ratios) < 5e-14
    assert max(ratios) < 1e-12


@pytest.mark.parametrize("name", ["linear", "softmax", "layer_norm", "gelu"])
def test_other_layers_are_judged_as_finely(name):
    """The same holds of other layers: what is allowed is some rounding and not more."""
    layer = layers(name)[0]
    ratios = []
    for case in [replace(c, values="ordinary") for c in cases(layer.spec, ("float64",), 0, 0)][:9]:
        known = Trial(layer, case, oracle(name)).reference
        for tensor, expected in known.gradients.items():
            if np.any(expected):
                top = float(np.abs(expected).max())
                ratios.append(known.allowed_gradients[tensor].value / top)
    assert len(ratios) >= 6
    # Measured: 5e-15 (linear, gelu), 1.3e-14 (layer norm), 2.4e-14 (softmax).
    assert np.median(ratios) < 1e-13


def test_allowances_scale_with_the_unit_roundoff():
    """What float32 may be off by is what float64 may, times the ratio of their precisions."""
    assert unit_roundoff("float64") == 2.0**-53
    assert unit_roundoff("float32") == 2.0**-24
    assert unit_roundoff("float16") == 2.0**-11
    for dtype, ratio in (("float32", 2.0**29), ("float16", 2.0**42)):
        for seed in range(5):
            wide, low = (trial("batch_norm", at(d, seed)).reference for d in ("float64", dtype))
            for tensor in wide.gradients:
                found = low.allowed_gradients[tensor].value / wide.allowed_gradients[tensor].value
                # Drawn from another amplitude, and in float16 no longer in proportion.
                assert 0.3 < found / ratio < 3


def test_larger_values_allow_more():
    """An allowance is in proportion to what is added up, not to the result."""
    shifted = "z[n] = x[n] + 1e6\ny[n] = z[n] - 1e6"
    spec = Spec("shift", x=Input("N"), y=Output("N"), definition=shifted)
    found = make_oracle(spec)
    known = reference(
        found, Point({"x": np.full(3, 0.5)}, {}, {"N": 3}), [np.ones(3)], "float64", 0
    )
    assert known.outputs["y"] == pytest.approx(np.full(3, 0.5), abs=1e-9)
    assert 1e-10 < known.allowed_outputs["y"].value < 1e-7
    assert known.allowed_gradients["x"].value < 1e-14


@pytest.mark.parametrize(
    ("definition", "tensor", "value", "unit"),
    [
        ("y[n] = expm1(x[n])", "y", 1e-6, True),  # exp(x) - 1
        ("y[n] = log1p(x[n])", "y", 1e-6, True),  # log(1 + x)
        ("y[n] = tanh(x[n])", "y", 1e-6, True),  # 2/(1 + exp(-2*x)) - 1
        ("y[n] = 3*expm1(x[n])", "x", -30.0, True),  # dy*(y + 3)
        ("y[n] = 3*exp(x[n])", "x", -30.0, False),
        ("y[n] = sin(x[n])", "y", 1e-6, False),
    ],
)
def test_what_is_usually_had_from_a_number_near_one_is_off_by_its_rounding(
    definition, tensor, value, unit
):
    """The small difference of two numbers near 1 keeps their rounding; other small values do not."""
    spec = Spec("small", x=Input("N"), y=Output("N"), definition=definition)
    tensors, dy = {"x": np.full(20, value)}, [np.ones(20)]
    known = reference(make_oracle(spec), Point(tensors, {}, {"N": 20}), dy, "float64", 0)
    allowed = (known.allowed_outputs | known.allowed_gradients)[tensor].value
    assert (allowed > FACTOR * 2.0**-53) == unit
    assert allowed < 10 * FACTOR * 2.0**-53


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(-90.0, "float32"), (-95.0, "float32"), (-100.0, "float32"), (-14.0, "float16")],
)
def test_what_underflows_has_lost_its_digits(value, dtype):
    """A factor below the smallest normal number is a multiple of the smallest there is; what it is
    multiplied by, values and cotangents, multiplies its error."""
    spec = Spec(
        "scaled", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*exp(x[n])"
    )
    x, w, dy = np.array([value], dtype), np.array([900.0], dtype), np.array([30.0], dtype)
    known = reference(
        make_oracle(spec), Point({"x": x.astype(float), "w": w.astype(float)}, {}, {"N": 1}),
        [dy.astype(float)], dtype, 0,
    )  # fmt: skip
    allowed = known.allowed_gradients["x"].value
    off = abs(float((np.exp(x) * w * dy)[0]) - known.gradients["x"][0])
    assert off < 0.5 * allowed
    info = np.finfo(dtype)
    assert allowed < 1e3 * info.tiny
    if value < -90:  # more than FACTOR roundings of the result alone
        assert off > FACTOR * info.smallest_subnormal


def test_a_product_is_rounded_before_a_function_sees_it():
    """sin(x*exp(a)) is nothing but rounding where a is large, log(x*w) where that is near 1."""
    large = Spec(
        "large", x=Input("N"), a=Param(""), y=Output("N"), definition="y[n] = sin(x[n]*exp(a))"
    )
    x, dy = np.array([0.3, -1.7, 2.2]), [np.ones(3)]
    for a, vacuous in ((2.0, False), (30.0, True)):
        point = Point({"x": x, "a": np.array(a)}, {}, {"N": 3})
        known = reference(make_oracle(large), point, dy, "float32", 0)
        assert known.allowed_outputs["y"].vacuous == vacuous
    near = Spec("near", x=Input("N"), w=Param(""), y=Output("N"), definition="y[n] = log(x[n]*w)")
    point = Point({"x": 2 * (1 + 1e-3 * x), "w": np.array(0.5)}, {}, {"N": 3})
    known = reference(make_oracle(near), point, dy, "float32", 0)
    assert 2.0**-24 <= known.allowed_outputs["y"].spread <= 2.0**-21


def test_a_sum_that_underflows_has_lost_its_digits():
    """What is made of it afterwards has its error in proportion."""
    spec = Spec("s", x=Input("N"), y=Output("N"),
                definition="z[n] = x[n]**2 + 0*x[n]\ny[n] = 8192*z[n]")  # fmt: skip
    x = np.linspace(1e-3, 2e-3, 9).astype("float16")
    tensors = {"x": x.astype(float)}
    known = reference(make_oracle(spec), Point(tensors, {}, {"N": 9}), [np.ones(9)], "float16", 0)
    off = np.abs((x**2 * np.float16(8192)).astype(float) - known.outputs["y"]).max()
    assert off > 16 * unit_roundoff("float16") * known.outputs["y"].max() / 4
    assert off < 0.5 * known.allowed_outputs["y"].value


@pytest.mark.parametrize(("eps", "ratio"), [(1e-7, True), (2.0**-20, False)])
def test_a_constant_is_rounded_to_the_precision(eps, ratio):
    """In float16, 1e-7 is 1.2e-7: where it is all that a denominator has, a right layer is off by
    as much. A constant that the precision holds exactly moves nothing."""
    spec = Spec(
        "scaled", x=Input("N"), eps=Constant(eps), y=Output("N"),
        definition="y[n] = x[n]/(x[n]**2 + eps)",
    )  # fmt: skip
    x = np.full(3, 2.0**-13)
    known = reference(
        make_oracle(spec), Point({"x": x}, {"eps": eps}, {"N": 3}), [np.ones(3)], "float16", 0
    )
    held = float(np.float16(eps))
    off = abs(x[0] / (x[0] ** 2 + held) - known.outputs["y"][0])
    assert (off > 1e-2 * known.outputs["y"][0]) == ratio
    assert off < known.allowed_outputs["y"].value / 2


def test_what_cancels_makes_an_allowance_vacuous():
    """Where next to no digit is left, the comparison could not tell right from wrong."""
    found = oracle("batch_norm")
    rng = np.random.default_rng(0)
    dy = rng.standard_normal((6, 3))
    vacuous = {}
    for offset in (0.0, 1e3, 1e12):
        tensors = {
            "x": offset + 1e-2 * rng.standard_normal((6, 3)),
            "gamma": np.array([0.5, 1.5, -1.0]), "beta": np.zeros(3),
        }  # fmt: skip
        known = reference(
            found, Point(tensors, {"eps": 1e-5}, {"N": 6, "C": 3}), [dy], "float64", 0
        ).allowed_gradients
        vacuous[offset] = {k for k, a in known.items() if a.vacuous}
    assert vacuous[0.0] == vacuous[1e3] == set()
    assert {"x", "gamma"} <= vacuous[1e12]
    assert "beta" not in vacuous[1e12]


def test_the_cap_is_a_fraction_of_the_terms():
    """Above a thousandth of the gradient's own terms, and where it is not finite, all would pass."""
    assert not Allowance(CAP, 0.0, 1.0).vacuous
    # float16 has three digits: a sixteenth, and still a quarter of the terms has power.
    half = unit_roundoff("float16")
    assert not Allowance(0.06, 0.0, 1.0, half).vacuous
    assert Allowance(0.07, 0.0, 1.0, half).vacuous
    assert Allowance(0.06, 0.0, 1.0, half).power == 4
    assert Allowance(0.06, 0.0, 1.0, unit_roundoff("float32")).power == POWER
    assert Allowance(1.01 * CAP, 0.0, 1.0).vacuous
    assert Allowance(float("inf"), 0.0, 1.0).vacuous
    assert Allowance(float("nan"), 0.0, 1.0).vacuous


def test_the_same_case_allows_the_same():
    """Allowances are drawn from the case's seed, and nothing else."""
    first, second = (trial("softmax", "N=3 C=4 " + at().split(" ", 3)[3]) for _ in range(2))
    assert first.reference.allowed_gradients == second.reference.allowed_gradients


def test_who_set_an_allowance_is_said():
    """The line names the factor, the measured spread and the size of the terms."""
    assert Allowance(1.0, 2.5e-15, 3.25).why == (
        f"{FACTOR:g} x (spread 2.5e-15 of the derived formula under random rounding + rounding of "
        "its terms, up to 3.2)"
    )


# -- a comparison


def seen(expected, got, allowance):
    (found,) = compare("gradient", "x", np.array(expected), np.array(got), allowance)
    return found


def test_a_comparison_is_absolute():
    """|got - expected| <= allowed decides, near zero and far from it alike."""
    allowed = Allowance(0.5, 0.0, 1e4)
    assert seen([0.0, 1e4], [0.5, 1e4], allowed).outcome is Status.PASSED
    assert seen([0.0, 1e4], [0.0, 1e4 + 0.6], allowed).outcome is Status.FAILED
    assert seen([0.0, 1e4], [-0.6, 1e4], allowed).outcome is Status.FAILED


def test_the_worst_element_is_shown():
    """The observation has the place of the largest difference and both values there."""
    found = seen([[1.0, 2.0], [3.0, 4.0]], [[1.1, 2.0], [2.0, 4.0]], Allowance(0.01, 0.0, 100.0))
    assert (found.index, found.expected, found.got) == ((1, 0), 3.0, 2.0)
    assert found.worst == pytest.approx(100)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_the_worst(bad):
    """nan compares with nothing, and must not pass for that."""
    found = seen([1.0, 2.0, 3.0], [9.0, bad, 3.0], Allowance(0.01, 0.0, 100.0))
    assert (found.outcome, found.index) == (Status.FAILED, (1,))


def test_a_vacuous_allowance_passes_nothing():
    """Where the allowance is too large the outcome is vacuous, whatever the difference."""
    too_large = Allowance(1.0, 0.0, 100.0)
    assert seen([1.0], [1.0], too_large).outcome is Status.VACUOUS
    assert seen([1.0], [50.0], too_large).outcome is Status.VACUOUS


def test_power_is_a_gradient_far_above_what_is_allowed():
    """Only a gradient a thousand times as large as what is allowed could not be wrong unseen."""
    allowed = Allowance(1e-3, 0.0, 1.0)
    assert seen([0.0, POWER * 1e-3], [0.0, 1.0], allowed).powered
    assert not seen([0.0, 0.99 * POWER * 1e-3], [0.0, 0.99], allowed).powered
    assert not seen([0.0, 0.0], [0.0, 0.0], allowed).powered


def test_nothing_is_said_of_an_empty_array():
    """There is nothing to compare, and so nothing that passed."""
    assert (
        list(compare("gradient", "x", np.zeros((0, 3)), np.zeros((0, 3)), Allowance(1, 0, 1))) == []
    )


# -- that these tests can fail


def test_a_wrong_formula_is_beyond_what_is_allowed():
    """The same comparison refuses a gradient that is off by a part in 1e10 everywhere."""
    right = trial("batch_norm", at())
    for tensor, got in right.gradients.items():
        allowance = right.reference.allowed_gradients[tensor]
        expected = right.reference.gradients[tensor]
        (passes,) = compare("gradient", tensor, expected, got, allowance)
        (fails,) = compare("gradient", tensor, expected, got * (1 + 1e-10), allowance)
        assert (passes.outcome, fails.outcome) == (Status.PASSED, Status.FAILED)


def test_cases_beyond_the_reach_of_float16_are_no_cases():
    """A value that the dtype cannot hold would be infinite for every implementation."""
    spec = Spec("square", x=Input("N"), y=Output("N"), definition="y[n] = 1e6*x[n]**2")
    case = replace(next(cases(spec, ("float16",), 0, 0)), values="offset")
    assert settled(spec, make_oracle(spec), case) is None
    assert settled(spec, make_oracle(spec), replace(case, dtype="float32")) is not None
    assert draw(spec, case).tensors["x"].dtype == np.float16


def test_a_sum_beyond_the_reach_of_float16_is_no_case():
    """Neither is a mean whose sum of squares cannot be held, though the mean can."""
    spec = Spec("power", x=Input("N"), y=Output(""), definition="s = sum[n](x[n]**2)\ny = s/N")
    case = Case((("N", 131),), (), dtype="float16", values="large")
    assert settled(spec, make_oracle(spec), case) is not None
    case = replace(case, sizes=(("N", 4000),))
    assert settled(spec, make_oracle(spec), case) is None
    assert settled(spec, make_oracle(spec), replace(case, dtype="float32")) is not None


def test_a_way_beyond_the_reach_of_float16_is_no_case():
    """Neither is a finite result of something infinite: what is divided by a norm that is none."""
    spec = Spec(
        "unit", x=Input("N"), y=Output("N"), definition="s = sum[n](x[n]**2)\ny[n] = x[n]/sqrt(s)"
    )
    case = Case((("N", 4000),), (), dtype="float16", values="large")
    (y,), _ = make_oracle(spec).run(Point(draw(spec, case).tensors, {}, {"N": 4000}))
    assert np.all(y == 0)
    assert settled(spec, make_oracle(spec), case) is None
    assert settled(spec, make_oracle(spec), replace(case, dtype="float32")) is not None


def test_neither_is_one_beyond_the_reach_of_float32():
    """Where the definition, computed in float32, is infinite, so is many a right layer."""
    spec = Spec(
        "power",
        x=Input("N"),
        p=Param(""),
        y=Output(""),
        definition="s = sum[n](abs(x[n])**p)\ny = s**(1/p)",
    )
    case = Case((("N", 5),), (), dtype="float32", values="large", params="large")
    finite = [settled(spec, make_oracle(spec), replace(case, seed=k)) for k in range(20)]
    assert any(found != replace(case, seed=k) for k, found in enumerate(finite))
    for found in filter(None, finite):
        (y,), _ = make_oracle(spec).run(Point(draw(spec, found).tensors, {}, {"N": 5}))
        assert np.isfinite(y)


def test_what_is_infinite_as_it_is_meant_is_a_case_in_float16():
    """A score of -inf, which a mask gives, is no overflow."""
    spec = Spec(
        "masked",
        x=Input("N"),
        y=Output("N"),
        definition="s[n] = where(n < 2, x[n], -inf)\nm = logsumexp[n](s[n])\ny[n] = exp(s[n] - m)",
    )
    case = Case((("N", 5),), (), dtype="float16")
    assert settled(spec, make_oracle(spec), case) is not None


def test_a_layer_of_another_spec_object_is_judged_alike():
    """Right layers of one file name share a text of the definition, which is all that counts."""
    own, other = layers("batch_norm")[0], layers("batch_norm")[1]
    assert own.spec.definition == other.spec.definition
    assert isinstance(own, Layer)
