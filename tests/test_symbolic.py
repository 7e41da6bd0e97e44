"""forward and symbolic: outputs are the definition's and gradients the derived ones."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from changed import changed

from gradverify import Layer, Status, Verdict, verify
from gradverify.cases import parse_case
from gradverify.checks import precision, symbolic
from gradverify.engine import profile_of, verify_layer
from gradverify.loading import catalogue_folder, load
from gradverify.trial import Trial, make_oracle

RIGHT = {
    layer.spec.name: layer
    for name in ("batch_norm", "gelu", "linear", "lstm_cell", "relu", "softmax")
    for layer in load(catalogue_folder() / f"{name}.py")
}
batch_norm, linear, softmax = (RIGHT[k].spec for k in ("batch_norm", "linear", "softmax"))


def result_of(layer, checks=("forward", "symbolic"), profile="quick", **options):
    (result,) = verify(layer, profile=profile, checks=checks, **options).layers
    return result


def findings(layer, **options):
    """Return the findings of forward and symbolic, by check, question and tensor."""
    result = result_of(layer, **options)
    return {(f.check, f.question, f.tensor): f for f in result.findings}


def status(result, check):
    (found,) = (c for c in result.checks if c.check == check)
    return found.status


# -- right layers


@pytest.mark.parametrize("name", RIGHT)
def test_the_catalogue_passes(name):
    """Right outputs and gradients pass, every tensor with power to tell right from wrong."""
    result = result_of(RIGHT[name])
    assert result.findings == ()
    for check in ("forward", "symbolic"):
        assert status(result, check) is Status.PASSED
        (found,) = (c for c in result.checks if c.check == check)
        assert all(t.status is Status.PASSED for t in found.tensors.values())
        assert all(t.worst <= 1 for t in found.tensors.values() if t.worst is not None)


# -- wrong gradients


def test_a_wrong_gradient_is_shown_in_a_small_case():
    """The finding says tensor, element, both values, what is allowed, who says so, and where."""
    wrong = changed("linear", b=lambda g, given: g / 2)
    found = findings(wrong)
    assert list(found) == [("symbolic", "gradient", "b")]
    finding = found["symbolic", "gradient", "b"]
    assert (
        finding.message
        == "the gradient of b is not the derived one (in 12 cases; this is a small one)"
    )
    assert finding.index == (0,)
    assert finding.got == pytest.approx(finding.expected / 2, rel=1e-15)
    assert 0 < finding.allowed < 1e-13
    assert finding.why.startswith("16 x (spread ")
    assert finding.case.startswith("N=1 D=1 K=1 dtype=float64 layout=C values=ordinary cotangent=s")
    assert "db[k] = Σ[n] dy[n,k]" in finding.derived
    assert finding.severity == "error"


def test_the_worst_element_is_the_one_shown():
    """The index leads to the element that is furthest off."""

    def last(g, given):
        g[-1, -1] *= 1.5
        return g

    found = findings(changed("linear", w=last), sizes={"K": 3, "D": 2})
    finding = found["symbolic", "gradient", "w"]
    sizes = dict(part.split("=") for part in finding.case.split()[:3])
    assert finding.index == (int(sizes["K"]) - 1, int(sizes["D"]) - 1)


# Batch norm's mistakes that people make; many more, of all layers, are in tests/wrong.


def without_the_mean(g, given, dy):
    xc = given["x"] - given["x"].mean(axis=0)
    sigma = np.sqrt((xc**2).mean(axis=0) + given["eps"])
    return given["gamma"] / sigma * (dy - xc / sigma * (dy * xc / sigma).mean(axis=0))


def without_the_variance(g, given, dy):
    sigma = np.sqrt(given["x"].var(axis=0) + given["eps"])
    return given["gamma"] / sigma * (dy - dy.mean(axis=0))


def over_the_wrong_axis(g, given, dy):
    xc = given["x"] - given["x"].mean(axis=0)
    return (dy * xc / np.sqrt((xc**2).mean(axis=0) + given["eps"])).sum(axis=1)


def in_float32_on_the_way(g, given, dy):
    return g - dy.mean(axis=0) + np.float32(dy.mean(axis=0)).astype(g.dtype)


def at_its_last_element(g, given, dy):
    g[-1, -1] += g.dtype.type(1e-3)
    return g


WRONG = {
    "dx without the path through the mean": ("x", without_the_mean),
    "dx without the path through the variance": ("x", without_the_variance),
    "dgamma over the wrong axis": ("gamma", over_the_wrong_axis),
    "dbeta halved": ("beta", lambda g, given, dy: g / 2),
    "dx off by 1e-6": ("x", lambda g, given, dy: g * g.dtype.type(1 + 1e-6)),
    "dx with one step in float32": ("x", in_float32_on_the_way),
    "dx wrong in one element": ("x", at_its_last_element),
    "dgamma permuted": ("gamma", lambda g, given, dy: np.roll(g, 1)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_batch_norm_is_refused(name):
    """Each is failed, the right tensor named and no other, in a case of at most nine elements."""
    tensor, change = WRONG[name]
    right = RIGHT["batch_norm"].function

    def layer(**given):
        y, pullback = right(**given)

        def wrong(dy):
            grads = pullback(dy)
            return grads | {tensor: change(grads[tensor], given, dy)}

        return y, wrong

    result = result_of(Layer(batch_norm, layer), checks=None, profile="default")
    assert result.verdict is Verdict.FAILED
    assert {f.tensor for f in result.errors} - {None} == {tensor}
    for finding in (f for f in result.errors if f.check != "descent"):
        sizes = dict(part.split("=") for part in finding.case.split())
        assert int(sizes["N"]) * int(sizes["C"]) <= 9
    if name != "dgamma over the wrong axis":  # of which contract says that the shape is wrong
        finding = next(f for f in result.errors if f.check == "symbolic")
        assert finding.message.startswith(f"the gradient of {tensor} is not the derived one")
        assert abs(finding.got - finding.expected) > finding.allowed


def test_a_gradient_right_for_some_layouts_only_is_told():
    """Elements taken as they lie in memory are right for arrays in C order, and no others."""

    def as_it_lies(g, given):
        return g.ravel()[np.argsort(_order(given["w"]))].reshape(g.shape)

    def _order(w):
        return np.arange(w.size).reshape(w.shape).ravel() if w.flags.c_contiguous else (
            np.arange(w.size).reshape(w.shape).ravel(order="F")
        )  # fmt: skip

    found = findings(changed("linear", w=as_it_lies), profile="default")
    finding = found["symbolic", "gradient", "w"]
    assert "layout=C" not in finding.case
    assert "layout=readonly" not in finding.case


@pytest.mark.parametrize(
    ("condition", "shown"),
    [
        (lambda x: x.shape[0] != 1, "N=2 D=1 K=1"),
        (lambda x: x.shape[0] == 1, "N=1 D=1 K=1"),
        (lambda x: x.shape[0] != x.shape[1], "N=1 D=2 K=1"),
        (lambda x: x.shape[0] > 16, "N=17 D=1 K=1"),
        (lambda x: bool((x < 0).any()), "N=1 D=1 K=1"),
        (lambda x: bool((x > 0).all()), "N=1 D=1 K=1"),
        (lambda x: bool((np.abs(x) > 5).any()), "N=1 D=1 K=1"),
        (lambda x: bool((np.abs(x) < 1e-2).any()), "N=1 D=1 K=1"),
    ],
    ids=["N > 1", "N = 1", "N differs from D", "N > 16", "x < 0", "x > 0", "large x", "small x"],
)
def test_a_gradient_right_for_some_sizes_or_values_only_is_told(condition, shown):
    """Wrong for some sizes or values is wrong; the case is shrunk to where it still shows."""
    wrong = changed("linear", b=lambda g, given: g * (2 if condition(given["x"]) else 1))
    finding = findings(wrong, profile="default")["symbolic", "gradient", "b"]
    assert finding.case.startswith(f"{shown} dtype=float64 layout=C")


def test_a_gradient_right_for_one_constant_only_is_told():
    """Every declared value of a constant is tried, and the case says which it was."""
    wrong = changed("batch_norm", x=lambda g, given: g * (1 + 1e-3 * (given["eps"] == 1e-2)))
    finding = findings(wrong)["symbolic", "gradient", "x"]
    assert finding.case.startswith("N=2 C=1 eps=0.01 dtype=float64")


# -- wrong outputs


def test_a_wrong_output_is_told_though_its_backward_fits():
    """A backward that is consistent with a wrong forward does not hide it."""

    def over_the_batch(x):
        e = np.exp(x - x.max(axis=0))
        y = e / e.sum(axis=0)
        return y, lambda dy: {"x": y * (dy - (dy * y).sum(axis=0))}

    layer = Layer(softmax, over_the_batch)
    result = result_of(layer, checks=None)
    finding = next(f for f in result.findings if f.check == "forward")
    assert finding.message.startswith("output y is not what the definition gives (in ")
    assert finding.tensor == "y"
    assert finding.case.startswith("N=2 C=1 dtype=float64 layout=C")
    assert finding.location == layer.location
    assert {f.check for f in result.errors} == {"forward", "symbolic"}


def test_a_wrong_gradient_does_not_blame_the_output():
    """Where the forward is right, forward says so."""
    result = result_of(changed("linear", x=lambda g, given: -g))
    assert status(result, "forward") is Status.PASSED
    assert status(result, "symbolic") is Status.FAILED


def test_each_of_several_outputs_is_compared():
    """The second output of an LSTM cell is judged as the first is, and named."""
    right = RIGHT["lstm_cell"]

    def layer(**given):
        (h_next, c_next), pullback = right.function(**given)
        return (h_next, c_next + np.float64(1e-9).astype(c_next.dtype)), pullback

    found = findings(Layer(right.spec, layer))
    assert list(found) == [("forward", "output", "c_next")]
    assert found["forward", "output", "c_next"].index == (0, 0)


def test_one_step_in_float32_is_seen_in_the_output():
    """In float64 a step in float32 costs half of the digits."""

    def layer(x, w, b):
        _y, pullback = RIGHT["linear"].function(x, w, b)
        return (x @ np.float32(w).astype(w.dtype).T + b).astype(x.dtype), pullback

    finding = findings(Layer(linear, layer))["forward", "output", "y"]
    assert finding.case.startswith("N=1 D=1 K=1 dtype=float64")
    assert 1e-10 < abs(finding.got - finding.expected) < 1e-7


# -- a lower precision


def by_dtype(dtype, factor, g, given):
    return g * g.dtype.type(factor if g.dtype == dtype else 1)


def test_what_is_grossly_wrong_in_float32_only_is_wrong():
    """An error of a tenth is no rounding, though float64 is right."""
    wrong = changed("linear", w=partial(by_dtype, np.float32, 1.1))
    result = result_of(wrong)
    (finding,) = result.findings
    assert finding.message.startswith(
        "the gradient of w is not the derived one; only seen in float3"
    )
    assert finding.severity == "error"
    assert result.verdict is Verdict.FAILED
    assert finding.case.startswith("N=1 D=1 K=1 dtype=float32 layout=C values=ordinary")


def in_half_precision(g, given):
    digits, exponent = np.frexp(g)
    half = np.ldexp(np.round(digits * 2**11) / g.dtype.type(2**11), exponent)
    return half if g.dtype == np.float32 else g


def test_a_wrong_factor_in_float32_only_is_wrong():
    """An error of a thousandth is as small as a rounding, and yet the same at other values."""
    wrong = changed("linear", w=partial(by_dtype, np.float32, 1.001))
    result = result_of(wrong, checks=None, profile="default")
    (finding,) = result.findings
    assert finding.severity == "error"
    assert finding.message.startswith(
        "the gradient of w is not the derived one; only seen in float32; no rounding: the error is "
        "the same at other values nearby"
    )


def test_what_is_inaccurate_in_float32_is_a_warning():
    """An error of a thousandth that changes with the values is a rounding, and fails nothing."""
    wrong = changed("linear", w=in_half_precision)
    result = result_of(wrong, checks=None, profile="default")
    (finding,) = result.findings
    assert (finding.question, finding.tensor, finding.severity) == ("inaccurate", "w", "warning")
    assert finding.message.startswith(
        "less accurate in float32 than the order of operations explains (in "
    )
    assert result.errors == ()


def test_what_is_wrong_is_not_called_inaccurate_as_well():
    """A formula that is wrong in both precisions is one finding, not two."""
    found = findings(changed("linear", w=lambda g, given: g * g.dtype.type(1.001)))
    assert list(found) == [("symbolic", "gradient", "w")]


def test_the_only_precision_is_no_lower_one():
    """Where a layer takes float32 alone, what is inaccurate there is wrong."""
    wrong = changed("linear", dtypes=["float32"], w=partial(by_dtype, np.float32, 1.001))
    result = result_of(wrong)
    (finding,) = result.findings
    assert (finding.question, finding.severity) == ("gradient", "error")
    assert "only seen in float32" in finding.message


# -- near what is allowed


def trial_of(name, line):
    layer = RIGHT[name]
    return Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))


LINE = "N=4 C=3 eps=1e-05 dtype=float64 layout=C values=ordinary cotangent=signed seed=3"


def test_doubt_is_decided_in_50_digits(monkeypatch):
    """Where the oracle itself may have rounded, its formula is evaluated again and exactly."""
    trial = trial_of("batch_norm", LINE)
    off = trial.reference.gradients["x"]
    off += 20 * trial.reference.allowed_gradients["x"].value
    assert {s.tensor: s.outcome for s in symbolic.examine(trial)}["x"] is Status.PASSED
    monkeypatch.setattr(precision, "DOUBT", 0.0)
    assert {s.tensor: s.outcome for s in symbolic.examine(trial)}["x"] is Status.FAILED


def test_an_error_of_a_hundred_allowances_is_no_doubt():
    """Exact arithmetic acquits nobody whose gradient is wrong."""
    trial = trial_of("batch_norm", LINE)
    allowed = trial.reference.allowed_gradients["x"].value
    trial.gradients["x"][1, 2] += 100 * allowed
    (seen,) = (s for s in symbolic.examine(trial) if s.tensor == "x")
    assert seen.outcome is Status.FAILED
    assert seen.index == (1, 2)
    assert seen.worst > 10  # of what many more draws of rounding allow


def judged_in(layer, line):
    """Return what becomes of one layer in one case."""
    names = ("forward", "symbolic")
    return verify_layer(layer, profile_of("default"), names, 0, case=parse_case(line, layer.spec))


def right_way(spec, name):
    folder = Path(__file__).parent / "right"
    return next(x for x in load(folder / f"{spec}.py") if x.name == name)


@pytest.mark.parametrize(
    ("spec", "name", "line"),
    [
        ("batch_norm", "one_pass", "N=3 C=1 eps=1e-05 dtype=float64 layout=C values=offset cotangent=signed seed=306"),
        ("instance_norm", "instance_norm_one_pass", "N=1 C=1 H=1 W=3 eps=1e-05 dtype=float64 layout=C values=offset cotangent=signed seed=306"),
    ],
)  # fmt: skip
def test_few_draws_of_rounding_accuse_nobody(spec, name, line):
    """In a tensor of one element three draws may be small by luck: many decide."""
    assert judged_in(right_way(spec, name), line).findings == ()


def test_rounding_that_the_definition_does_not_have_is_inaccurate():
    """delta + (|e| - delta) rounds at the size of delta where the definition has e alone: in
    float32 the error is larger as the rounding is, so that no formula is wrong."""
    layer = right_way("huber", "naive_quadratic_and_linear_part")
    line = "N=1 C=1 delta=1.0 dtype=float64 layout=C values=small cotangent=signed seed=3105752741"
    (finding,) = judged_in(layer, line).findings
    assert (finding.question, finding.severity) == ("inaccurate", "warning")
    assert "the error grows with the rounding of a lower precision" in finding.message
