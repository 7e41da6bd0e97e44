"""finite_difference: derivatives with an honest error, and gradients that are compared to them."""

import math

import numpy as np
import pytest
from changed import changed

from gradverify import Layer, Spec, Status, verify
from gradverify.cases import Arrays, draw, parse_case
from gradverify.checks import finite_difference
from gradverify.loading import catalogue_folder, load
from gradverify.numerics.finite_difference import CAP, Estimate, contradicted, derivative, locate
from gradverify.trial import LayerRaised, Trial, make_oracle

UNIT = 2.0**-53


def estimate(function, step=0.05, **options):
    options.setdefault("rounding", UNIT * max(abs(function(0.0)), 1e-300))
    found = derivative(function, step, options.pop("rounding"), **options)
    assert found is not None
    return found


# -- derivatives of functions

KNOWN = {
    "a constant": (lambda h: 3.0, 0.0),
    "a line": (lambda h: 2.5 * h - 1, 2.5),
    "a parabola": (lambda h: (h + 3) ** 2, 6.0),
    "a cubic": (lambda h: (h - 1) ** 3, 3.0),
    "exp": (lambda h: math.exp(1 + h), math.e),
    "sin": (lambda h: math.sin(1 + h), math.cos(1)),
    "log": (lambda h: math.log(2 + h), 0.5),
    "tanh": (lambda h: math.tanh(0.3 + h), 1 - math.tanh(0.3) ** 2),
    "a rational function": (lambda h: 1 / (1 + (1 + h) ** 2), -0.5),
    "a root": (lambda h: math.sqrt(0.5 + h), 0.5 / math.sqrt(0.5)),
    "a sigmoid": (lambda h: 1 / (1 + math.exp(-h)), 0.25),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_derivatives_are_met(name):
    """The derivative is within what is allowed around it, which is little."""
    function, expected = KNOWN[name]
    found = estimate(function)
    assert abs(found.value - expected) <= found.allowed
    # Measured: errors up to 7e-14, of which 1.3e-13 (a line) to 2.5e-12 (exp) are allowed.
    assert found.allowed < 1e-11


# Steps that are far too long, functions that turn within them, and chance in every value.
HARD = {
    "steep": (lambda h: math.exp(50 * h), 50.0),
    "steeper than the step": (lambda h: math.tanh(300 * (h + 1e-3)), 300 / math.cosh(0.3) ** 2),
    "oscillating": (lambda h: math.sin(100 * h + 1), 100 * math.cos(1)),
    "oscillating with the steps": (lambda h: math.sin(2 * math.pi * 20 * h), 40 * math.pi),
    "with a pole nearby": (lambda h: 1 / (h - 0.06), -1 / 0.06**2),
    "noisy": (lambda h: math.exp(h) + 1e-7 * math.sin(1e9 * h), 1.0),
    "very noisy": (lambda h: h + 1e-3 * math.sin(1e6 * h), 1.0),
    "cancelling": (lambda h: (1e8 + math.sin(1 + h)) - 1e8, math.cos(1)),
    "in steps": (lambda h: round(1e6 * math.exp(h)) / 1e6, 1.0),
}


@pytest.mark.parametrize("name", HARD)
def test_the_error_is_honest(name):
    """Where a derivative cannot be had exactly, what is allowed around it says so."""
    function, expected = HARD[name]
    found = estimate(function)
    # Measured: at most 0.063 of what is allowed, which is that of the oscillation with the steps.
    assert abs(found.value - expected) <= found.allowed / 4


def test_the_error_is_honest_for_many_functions():
    """Of 600 sums of waves and exponentials with random lengths no error is beyond allowed."""
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(600):
        size, speed, phase = rng.standard_normal((3, 3))
        speed *= 10 ** rng.uniform(-1, 1.5)

        def function(h, size=size, speed=speed, phase=phase):
            waves = size[:2] * np.sin(speed[:2] * h + phase[:2])
            return float(waves.sum() + size[2] * np.exp(0.3 * speed[2] * h))

        expected = float(
            (size[:2] * speed[:2] * np.cos(phase[:2])).sum() + 0.3 * size[2] * speed[2]
        )
        found = estimate(function, rounding=UNIT * float(np.abs(size).sum()))
        beyond.append(abs(found.value - expected) / found.allowed)
    # Measured: at most 0.058 of what is allowed; a half of them below 0.007.
    assert max(beyond) < 0.25


def test_a_known_rounding_is_allowed_for():
    """What the values are known to be off by is allowed, divided by the step."""
    coarse = estimate(lambda h: 3.0 * h, rounding=1e-6)
    assert coarse.value == pytest.approx(3.0)
    assert coarse.allowed >= 1e-6 / coarse.step
    assert "the rounding of the loss at step" in coarse.why


def test_steps_stay_on_one_side_of_a_known_kink():
    """With `valid`, steps are shortened until no kink is crossed, and the slope is one side's."""
    kink = 1e-3
    found = estimate(lambda h: abs(h - kink), valid=lambda h: h < kink)
    assert found.value == pytest.approx(-1, abs=1e-12)
    assert found.step < kink


def test_a_kink_in_between_makes_an_estimate_worthless():
    """Without `valid`, what a step across a kink gives is far from certain, and says so."""
    assert estimate(lambda h: abs(h - 1e-3)).allowed > 10 * CAP


def test_without_a_valid_step_there_is_no_derivative():
    """At a kink itself nothing is valid, and nothing is returned."""
    assert derivative(abs, 0.05, 0.0, lambda h: False) is None


def test_a_kink_that_nobody_declared_is_found_out():
    """Much smaller steps give another slope at a hidden kink, and the same where there is none."""
    kinked = lambda h: abs(h - 1e-5)  # noqa: E731
    found = derivative(kinked, 0.05, 1e-18)
    assert contradicted(kinked, found, -1.0, 0.05, 1e-18)
    smooth = lambda h: math.sin(h - 1e-5)  # noqa: E731
    found = derivative(smooth, 0.05, 1e-18)
    assert not contradicted(smooth, found, 2.0, 0.05, 1e-18)


@pytest.mark.parametrize("near", [0.0, 1e-9])
def test_a_kink_where_no_step_is_nearer_excuses_what_it_explains(near):
    """relu at 0 has the slopes 0 and 1: both are right, and 5 is not, though differences give 0.5
    at all steps."""
    relu = lambda h: max(0.0, h - near)  # noqa: E731
    found = derivative(relu, 0.05, 1e-18)
    assert found.value == pytest.approx(0.5, abs=1e-6)
    assert all(contradicted(relu, found, slope, 0.05, 1e-13) for slope in (0.0, 1.0))
    assert not contradicted(relu, found, 5.0, 0.05, 1e-13)


@pytest.mark.parametrize("wrong", [0, 1, 499, 500, 731, 999])
def test_an_element_is_located_by_halving(wrong):
    """One element in a thousand is found by asking for few groups."""
    asked = []

    def discrepancy(group):
        asked.append(tuple(group))
        return float(wrong in group)

    assert locate(discrepancy, range(1000), 64) == wrong
    assert len(asked) <= 2 * 4 + 64


def test_the_worst_of_several_elements_is_located():
    """In a small tensor every element is asked alone, so that none hides another."""
    off = {3: 1.0, 17: -5.0, 40: 2.0}
    worst = locate(lambda group: abs(sum(off.get(e, 0.0) for e in group)), range(60), 64)
    assert worst == 17


# -- the check

RIGHT = {
    layer.spec.name: layer
    for name in ("batch_norm", "conv2d", "embedding", "group_norm", "linear", "log_softmax",
                 "linear_batch_norm", "lstm_cell", "prelu", "relu", "softmax_cross_entropy")
    for layer in load(catalogue_folder() / f"{name}.py")
}  # fmt: skip
linear = RIGHT["linear"].spec


def judged(layer, profile="quick", **options):
    (result,) = verify(layer, profile=profile, checks=["finite_difference"], **options).layers
    (check,) = (c for c in result.checks if c.check == "finite_difference")
    return result, check


@pytest.mark.parametrize("name", RIGHT)
def test_the_catalogue_passes(name):
    """Right gradients are the slopes of their forwards, also beside kinks and integers."""
    result, check = judged(RIGHT[name], "default")
    assert result.findings == ()
    assert check.status is Status.PASSED
    assert check.cases == 24


def test_a_wrong_element_is_located():
    """The finding names tensor, element, slope, gradient and who set what is allowed."""

    def last(g, _):
        g[-1, -1] *= 1.01
        return g

    result, check = judged(changed("linear", w=last))
    (finding,) = result.findings
    assert (finding.question, finding.tensor) == ("slope", "w")
    assert finding.message.startswith(
        "the gradient of w is not the slope of the layer's forward (in "
    )
    assert finding.case.startswith("N=1 D=1 K=1 dtype=float64 layout=C values=ordinary")
    assert finding.index == (0, 0)
    assert finding.got == pytest.approx(1.01 * finding.expected, rel=1e-9)
    assert finding.allowed < 1e-9
    assert finding.why.startswith("16 x the largest of two extrapolations' error estimates")
    assert finding.why.endswith("for the rounding of the gradient itself")
    assert check.tensors["w"].status is Status.FAILED
    assert check.tensors["x"].status is Status.PASSED


def test_an_element_of_a_large_tensor_is_located():
    """In a tensor of many elements the wrong one is found, and no other named."""

    def one(g, _):
        g[7, 3] += 1
        return g

    layer = changed("linear", w=one)
    line = "N=2 D=19 K=30 dtype=float64 layout=C values=ordinary cotangent=signed seed=4"
    trial = Trial(layer, parse_case(line, linear), make_oracle(linear))
    seen = {s.tensor: s for s in finite_difference.examine(trial)}
    found = finite_difference.worst_element(trial, seen["w"])
    assert found.index == (7, 3)
    assert found.got == pytest.approx(found.expected + 1)
    assert {t: s.outcome for t, s in seen.items()} == {
        "x": Status.PASSED, "w": Status.FAILED, "b": Status.PASSED,
    }  # fmt: skip


def test_a_small_relative_error_is_seen():
    """An error of 1e-6, and even of 1e-9, in a smooth layer's gradient is no rounding."""
    for error in (1e-6, 1e-9):
        result, _ = judged(changed("lstm_cell", wx=lambda g, _, e=error: g * g.dtype.type(1 + e)))
        assert {f.tensor for f in result.errors} == {"wx"}


def test_nan_is_no_slope():
    """A gradient that is not finite is wrong where the slope is finite."""

    def bad(g, _):
        g[0] = np.nan
        return g

    result, _ = judged(changed("linear", b=bad))
    (finding,) = result.findings
    assert finding.tensor == "b"
    assert finding.index == (0,)
    assert math.isnan(finding.got)


def test_the_widest_precision_is_asked():
    """Differences need all digits: an error in float32 alone is the other checks' to find, but a
    layer that takes nothing wider is differenced there."""
    result, check = judged(
        changed("linear", b=lambda g, _: g * (2 if g.dtype == np.float32 else 1)), "default"
    )
    assert result.findings == ()
    assert check.status is Status.PASSED
    result, check = judged(Layer(linear, RIGHT["linear"].function, dtypes=["float32"]))
    assert result.findings == ()
    assert check.status is Status.PASSED
    wrong = changed("linear", b=lambda g, _: g * (2 if g.dtype == np.float32 else 1))
    result, check = judged(Layer(linear, wrong.function, dtypes=["float32"]))
    assert {f.tensor for f in result.errors} == {"b"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["batch_norm", "linear", "log_softmax"])
def test_the_rounding_of_a_precision_is_known(name, dtype):
    """In few digits a difference is rough, and what is allowed around it says how rough."""
    layer = Layer(RIGHT[name].spec, RIGHT[name].function, dtypes=[dtype])
    worst = []
    for seed in range(4):
        result, check = judged(layer, "default", seed=seed)
        assert result.findings == ()
        worst += [t.worst for t in check.tensors.values() if t.worst is not None]
    assert max(worst) < 0.5


def huge():
    layer = RIGHT["lstm_cell"]
    line = "N=128 D=3 H=2 dtype=float64 layout=C values=huge cotangent=signed seed=1155119200"
    trial = Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))
    return {s.tensor: s.outcome for s in finite_difference.examine(trial)}


def test_a_function_that_turns_within_the_steps_fails_nobody(monkeypatch):
    """Values of hundreds take tanh from one end to the other between two steps: much smaller steps
    give another derivative, and so do the same steps of the definition, and so nobody is accused;
    unless neither are asked."""
    assert Status.FAILED not in huge().values()
    with monkeypatch.context() as patch:
        patch.setattr(finite_difference, "contradicted", lambda *_: False)
        assert Status.FAILED not in huge().values()
    monkeypatch.setattr(finite_difference, "contradicted", lambda *_: False)
    monkeypatch.setattr(finite_difference, "_blind", lambda *_: False)
    assert huge()["c"] is Status.FAILED


# Cases in which a right gradient differs from the slope by more than an estimate of the slope's
# error alone would allow: the gradient itself is rounded, or the loss is flat.
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("linear_batch_norm", "N=2 D=1 C=1 eps=1e-05 dtype=float64 layout=C values=small cotangent=signed seed=4256408884"),
        ("batch_norm", "N=2 C=3 eps=1e-05 dtype=float64 layout=C values=offset cotangent=signed seed=1236178763"),
        ("group_norm", "N=1 K=1 H=1 W=2 G=3 eps=1e-05 dtype=float64 layout=C values=large cotangent=signed seed=2131337006"),
        ("softmax_cross_entropy", "N=1 C=2 dtype=float64 layout=C values=large cotangent=signed seed=850136869"),
        ("log_softmax", "N=3 C=3 dtype=float64 layout=C values=large cotangent=one-hot seed=302313366"),
    ],
)  # fmt: skip
def test_rounding_is_no_finding(name, line):
    """Where terms cancel or a layer is saturated, what is left of a gradient is rounding."""
    layer = RIGHT[name]
    trial = Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))
    assert [s for s in finite_difference.examine(trial) if s.outcome is Status.FAILED] == []


# -- without a definition


def undefined(name):
    """Return a catalogue spec without its definition."""
    spec = RIGHT[name].spec
    return Spec(spec.name, **dict(spec.tensors))


def test_without_a_definition_a_wrong_gradient_is_seen():
    """The layer's own forward is all that is needed."""
    layer = Layer(undefined("linear"), changed("linear", b=lambda g, _: g / 2).function)
    result, _ = judged(layer)
    assert {f.tensor for f in result.errors} == {"b"}
    assert result.findings[0].derived is None


@pytest.mark.parametrize("name", ["relu", "prelu"])
@pytest.mark.parametrize("seed", range(4))
def test_without_a_definition_a_kink_is_no_finding(name, seed):
    """Where nobody declared the kinks, a step across one is found out before anyone is blamed."""
    result, check = judged(Layer(undefined(name), RIGHT[name].function), "default", seed=seed)
    assert result.findings == ()
    assert check.status is Status.PASSED


def test_without_a_definition_a_wrong_relu_is_seen():
    """Kinks excuse no wrong formula: elsewhere it shows."""

    def leaks(x):
        return np.maximum(x, 0), lambda dy: {"x": np.where(x > 0, dy, dy * x.dtype.type(1e-3))}

    result, _ = judged(Layer(undefined("relu"), leaks), "default")
    assert {f.tensor for f in result.errors} == {"x"}


def test_without_a_definition_equal_values_and_zeros_are_looked_at():
    """Where the forward does not bend at them, more than one gradient cannot be right."""

    def leaves_out_zeros(x):
        return np.tanh(x), lambda dy: {"x": np.where(x == 0, 0, dy * (1 - np.tanh(x) ** 2))}

    result, _ = judged(Layer(undefined("relu"), leaves_out_zeros), "default")
    assert {f.tensor for f in result.errors} == {"x"}
    assert all("values=ties" in f.case for f in result.errors)


@pytest.mark.parametrize(
    ("function", "bends"),
    [
        (np.tanh, False), (np.abs, True), (lambda x: x * np.abs(x), False), (np.sign, True),
        (lambda x: np.maximum(x, 0), True), (lambda x: np.maximum(x, 0) ** 2, False),
        (lambda x: np.linalg.norm(x, axis=1, keepdims=True) + 0 * x, True),
    ],
    ids=["smooth", "abs", "x|x|", "step", "relu", "relu squared", "norm at 0"],
)  # fmt: skip
def test_without_a_definition_a_kink_is_found_by_its_bend(function, bends):
    """At zeros, by the forward alone: the slopes to both sides are others."""
    spec, line = (
        undefined("relu"),
        "N=3 C=2 dtype=float64 layout=C values=ties cotangent=signed seed=1",
    )
    given = Arrays({"x": np.zeros((3, 2))}, (np.ones((3, 2)),))
    layer = Layer(spec, lambda x: (function(x), lambda dy: {"x": dy}))
    assert Trial(layer, parse_case(line, spec), None, given=given).kinked == bends


def test_a_forward_that_raises_near_its_input_is_told():
    """A layer that raises at values beside those it was called with is told with its line."""
    line = "N=1 D=2 K=2 dtype=float64 layout=C values=ordinary cotangent=signed seed=1"
    first = draw(linear, parse_case(line, linear)).tensors["x"]

    def layer(x, w, b):
        if np.any(x != first):
            raise ValueError("moved")
        return RIGHT["linear"].function(x, w, b)

    trial = Trial(Layer(linear, layer), parse_case(line, linear), make_oracle(linear))
    with pytest.raises(LayerRaised, match=r"^the forward raised ValueError: moved \(line \d+\)$"):
        list(finite_difference.examine(trial))


def test_a_forward_that_changes_its_shape_is_told():
    """A layer whose output has another shape at other values has no slope there."""
    line = "N=1 D=2 K=2 dtype=float64 layout=C values=ordinary cotangent=signed seed=1"
    first = draw(linear, parse_case(line, linear)).tensors["x"]

    def layer(x, w, b):
        y, pullback = RIGHT["linear"].function(x, w, b)
        return (y if np.all(x == first) else y[0]), pullback

    trial = Trial(Layer(linear, layer), parse_case(line, linear), make_oracle(linear))
    with pytest.raises(LayerRaised, match=r"^the forward returned another shape or type of y at"):
        list(finite_difference.examine(trial))


def test_an_estimate_says_who_allows_what():
    """The line names the factor, the step and, where there is one, the gradient's own part."""
    plain = Estimate(1.0, 1e-9, 0.01)
    assert plain.why == (
        "16 x the largest of two extrapolations' error estimates, their disagreement and the "
        "rounding of the loss at step 0.01"
    )
    assert Estimate(1.0, 1e-9, 0.01, 2e-12).why == (
        f"{plain.why} + 2e-12 for the rounding of the gradient itself"
    )
