"""A trial: one layer at one case, what it returned, and which cases are none."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from gradverify import Input, Layer, Output, Param, Spec, catalog, verify
from gradverify.cases import Case, cases, draw
from gradverify.layer import ConventionError
from gradverify.regular import settled
from gradverify.trial import LayerRaised, Trial, call, make_oracle, real_array

linear = catalog("linear")
CASE = Case((("N", 2), ("D", 3), ("K", 4)), (), seed=5)


def right(x, w, b):
    return x @ w.T + b, lambda dy: {"x": dy @ w, "w": dy.T @ x, "b": dy.sum(axis=0)}


def trial(function, spec=linear, case=CASE):
    return Trial(Layer(spec, function), case, make_oracle(spec))


# -- what a layer returned


def test_a_trial_holds_what_the_layer_returned():
    """Outputs and gradients are those of the layer at the arrays of the case, in float64."""
    seen = trial(right, case=replace(CASE, dtype="float32"))
    x, w, b = (seen.arrays.tensors[k] for k in ("x", "w", "b"))
    (dy,) = seen.arrays.cotangents
    assert seen.failure is None
    assert seen.shaped
    assert seen.outputs["y"].dtype == np.float64
    assert np.array_equal(seen.outputs["y"], np.float64(x @ w.T + b))
    assert list(seen.gradients) == ["x", "w", "b"]
    assert np.array_equal(seen.gradients["w"], np.float64(dy.T @ x))
    assert seen.called.gradients["w"].dtype == np.float32


def test_a_trial_calls_the_layer_once():
    """What is asked for twice is computed once."""
    calls = []

    def counted(x, w, b):
        calls.append(1)
        return right(x, w, b)

    seen = trial(counted)
    for _ in range(3):
        assert seen.outputs
        assert seen.gradients
        assert seen.failure is None
    assert len(calls) == 1


def test_what_does_not_fit_is_left_out():
    """Outputs and gradients of another shape or kind are no numbers to compare."""

    def layer(x, w, b):
        y, _pullback = right(x, w, b)
        return y[0], lambda dy: {"x": "text", "w": w * 1j, "b": None}

    seen = trial(layer)
    assert seen.outputs == {}
    assert seen.gradients == {}
    assert not seen.shaped


def test_what_is_kept_is_a_copy():
    """A layer that writes to its old results later changes nothing that was compared."""
    buffer = np.zeros((2, 4))

    def layer(x, w, b):
        y, pullback = right(x, w, b)
        buffer[...] = y
        return buffer, pullback

    seen = trial(layer)
    before = seen.outputs["y"].copy()
    buffer[...] = 0
    assert np.array_equal(seen.outputs["y"], before)


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        (np.ones(3), True),
        (np.float32(2), True),
        ([1, 2], True),
        (np.array([True]), True),
        (None, False),
        ("1", False),
        ([[1], [2, 3]], False),
        (1j, False),
        (np.array([object()]), False),
    ],
)
def test_real_arrays_are_told_from_the_rest(value, usable):
    """Whatever a layer returns is an array of real numbers or nothing."""
    assert (real_array(value) is not None) is usable


def test_what_refuses_to_be_an_array_is_none():
    """An array of another library that raises when asked is as unusable as text."""

    class Elsewhere:
        def __array__(self, *_, **__):
            raise RuntimeError("on another device")

    assert real_array(Elsewhere()) is None


# -- what it raised


def test_whatever_a_layer_raises_becomes_a_failure():
    """Errors and SystemExit are told with the part, the kind, the text and the line."""

    def layer(x, w, b):
        def pullback(dy):
            sys.exit("enough")

        return right(x, w, b)[0], pullback

    line = layer.__code__.co_firstlineno + 2
    seen = trial(layer)
    assert seen.failure.question == "raises"
    assert seen.failure.message == f"the pullback raised SystemExit: enough (line {line})"


def test_the_line_is_the_layers_own():
    """Where NumPy raises, the line is the one of the layer that called it."""

    def layer(x, w, b):
        return x @ w + b, None

    seen = trial(layer)
    assert seen.failure.message.startswith("the forward raised ValueError: matmul: ")
    assert seen.failure.message.endswith(f"(line {layer.__code__.co_firstlineno + 1})")


def test_ctrl_c_is_no_failure():
    """Who interrupts means the run, and not the layer."""

    def layer(x, w, b):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _ = trial(layer).failure


def test_a_broken_convention_names_itself():
    """What is no pair of outputs and pullback is a question of its own."""
    arrays = draw(linear, CASE)
    failure = call(Layer(linear, lambda x, w, b: 3), arrays.tensors, {}, arrays.cotangents)
    assert failure.question == "convention"
    with pytest.raises(ConventionError, match="where \\(output, pullback\\) is expected"):
        Layer(linear, lambda x, w, b: 3).forward(arrays.tensors, {})


def test_a_forward_elsewhere_raises_for_the_layer():
    """A layer that fails at other values than its own raises LayerRaised, with the line."""

    def layer(x, w, b):
        if np.any(x > 100):
            raise OverflowError("too large")
        y, pullback = right(x, w, b)
        return (y[0] if np.any(x < -100) else y), pullback

    seen = trial(layer)
    given = seen.wide.tensors
    (y,) = seen.forward(given)
    assert np.array_equal(y, seen.outputs["y"])
    with pytest.raises(LayerRaised, match=r"^the forward raised OverflowError: too large \(line"):
        seen.forward(given | {"x": given["x"] + 1000})
    with pytest.raises(
        LayerRaised, match=r"^the forward returned another shape or type of y at oth"
    ):
        seen.forward(given | {"x": given["x"] - 1000})


# -- what was derived


def test_the_reference_is_derived_at_the_same_numbers():
    """The derived outputs and gradients are those of the case's values, in float64."""
    seen = trial(right)
    for name, expected in seen.reference.gradients.items():
        assert np.allclose(seen.gradients[name], expected, rtol=1e-13)
    assert np.allclose(seen.outputs["y"], seen.reference.outputs["y"], rtol=1e-13)
    exact = seen.exact
    assert exact is not None
    assert np.allclose(seen.gradients["w"], exact.gradients["w"].astype(float), rtol=1e-14)


def test_exact_arithmetic_is_for_small_cases():
    """Where 50 digits would take too long there are none."""
    assert trial(right, case=replace(CASE, sizes=(("N", 40), ("D", 40), ("K", 40)))).exact is None


def test_noise_is_what_rounding_inside_changes():
    """A definition tells how much the outputs may be off; without one, terms near 1 are assumed, whose errors have nothing to do with each other."""
    shifted = Spec(
        "shifted", x=Input("N"), y=Output("N"), definition="z[n] = x[n] + 1e6\ny[n] = z[n] - 1e6"
    )

    def layer(x):
        return (x + 1e6) - 1e6, lambda dy: {"x": dy.copy()}

    case = Case((("N", 4),), ())
    weights = [np.ones(4)]
    assert 1e-12 < trial(layer, shifted, case).noise(weights) < 1e-8
    unknown = Spec("shifted", x=Input("N"), y=Output("N"))
    assert trial(layer, unknown, case).noise(weights) == 2 * 2.0**-53


# -- which cases are none

ONE = Case((("N", 1),), (), seed=1)


def spec_of(definition, **options):
    return Spec("s", x=Input("N", **options), y=Output("N"), definition=definition)


def settle(spec, case):
    return settled(spec, make_oracle(spec), case)


@pytest.mark.parametrize(
    "definition",
    [
        "y[n] = relu(x[n])",
        "y[n] = max(x[n], 0)",
        "y[n] = min(x[n], 0)",
        "y[n] = abs(x[n])",
        "y[n] = where(x[n] > 0, x[n], 2*x[n])",
        "y[n] = where(x[n] <= 0, x[n], 2*x[n])",
        "y[n] = max(x[n], x[n]**2)",
    ],
)
def test_a_kink_is_no_case(definition):
    """At a kink several gradients are right: such values are drawn anew, or the case is dropped."""
    at_the_kink = spec_of(definition, values=(0.0,))
    assert settle(at_the_kink, ONE) is None
    nearby = spec_of(definition, values=(0.0, 0.5))
    oracle = make_oracle(nearby)
    for case in cases(nearby, ("float64",), 0, 0):
        if case.sizes == (("N", 1),):
            found = settled(nearby, oracle, case)
            assert found is not None
            assert draw(nearby, found).tensors["x"] == [0.5]


def test_a_tie_is_no_case():
    """Where two elements are the largest, each subgradient is as right as the other."""
    tied = Spec(
        "tied", x=Input("N", values=(1.0, 2.0)), y=Output(""), definition="y = max[n](x[n])"
    )
    assert settle(tied, replace(ONE, sizes=(("N", 9),))) is None
    assert settle(tied, ONE) is not None
    found = settle(tied, replace(ONE, sizes=(("N", 2),)))
    assert sorted(draw(tied, found).tensors["x"]) == [1.0, 2.0]


def test_values_within_rounding_of_a_kink_are_no_case():
    """A right layer may be on the other side where rounding decides."""
    many = replace(ONE, sizes=(("N", 19),))
    near = "y[n] = max(x[n] + 1e-14 - 1, 0)"
    assert settle(spec_of(near, values=(1.0,)), many) is None
    far = "y[n] = max(x[n] + 1e-3 - 1, 0)"
    assert settle(spec_of(far, values=(1.0,)), many) is not None
    assert settle(spec_of(far, values=(1.0,)), replace(many, dtype="float16")) is None


def test_under_stop_gradient_there_is_no_kink():
    """A tie of a maximum that is only subtracted to keep exp small is harmless."""
    softmax = Spec(
        "softmax", x=Input("N", values=(1.0,)), y=Output("N"),
        definition="""
            m    = stop_gradient(max[n](x[n]))
            e[n] = exp(x[n] - m)
            y[n] = e[n]/sum[k](e[k])
        """,
    )  # fmt: skip
    assert settle(softmax, replace(ONE, sizes=(("N", 5),))) is not None


@pytest.mark.parametrize(
    "definition",
    ["y[n] = log(x[n])", "y[n] = sqrt(x[n])", "y[n] = x[n]**0.5", "y[n] = log1p(x[n] - 1)"],
)
def test_where_the_definition_is_not_finite_there_is_no_case(definition):
    """Negative values are drawn anew for a logarithm; `range` says what is meant."""
    any_sign = spec_of(definition)
    found = [settle(any_sign, replace(ONE, seed=seed)) for seed in range(8)]
    assert all(draw(any_sign, c).tensors["x"] > 0 for c in found)
    assert settle(any_sign, replace(ONE, sizes=(("N", 19),))) is None
    bounded = spec_of(definition, range="0.1..3")
    many = replace(ONE, sizes=(("N", 19),))
    assert settle(bounded, many) == many


def test_a_gradient_that_is_not_finite_is_no_case_either():
    """The square root is finite at 0 and its gradient is not."""
    assert settle(spec_of("y[n] = sqrt(x[n])", values=(0.0,)), ONE) is None


def test_a_case_that_is_one_keeps_its_seed():
    """Nothing is drawn anew without need, so that a replayed case is the same."""
    assert settle(linear, CASE) == CASE
    relu = spec_of("y[n] = relu(x[n])")
    found = settle(relu, ONE)
    assert settle(relu, found) == found


def test_without_a_definition_every_case_is_one():
    """Nobody knows where such a layer has kinks."""
    spec = Spec("s", x=Input("N", values=(0.0,)), w=Param("N"), y=Output("N"))
    assert make_oracle(spec) is None
    assert settled(spec, None, ONE) == ONE


def test_a_layer_that_writes_to_its_input_is_judged_to_the_end():
    """What it is asked next is not what it has written: verify says what is wrong, and no more."""

    def writes(x, slope):
        y, pullback = np.where(x > 0, x, slope * x), x.copy()
        x[...] = 0
        return y, lambda dy: {"x": dy * np.where(pullback > 0, 1, slope).astype(dy.dtype)}

    spec = catalog("leaky_relu")
    (result,) = verify(Layer(spec, writes)).layers
    found = {(f.check, f.question) for f in result.errors}
    assert ("contract", "mutates") in found
    assert {check for check, _ in found} == {"contract"}
