"""HIPS autograd's functions and primitives as layers: right ones, wrong ones, and bad input."""

import sys

import autograd.numpy as anp
import numpy as np
import pytest
from autograd.extend import defjvp, defvjp, primitive
from conventions import FEW, SQUARE, WRONG, found_as_in_numpy

import gradverify
from gradverify import Buffer, Input, Layer, Output, Param, Spec, catalog, verify
from gradverify.adapter import NotOffered
from gradverify.adapters import autograd_function
from gradverify.errors import UsageError
from gradverify.layer import ConventionError

SCALED = Spec(
    "scaled", x=Input("N C"), w=Param("C"), seen=Buffer("C", update="now"),
    y=Output("N C"), now=Output("C"), z=Output(""),
    definition="""
        y[n,c] = w[c]*tanh(x[n,c])
        now[c] = (seen[c] + sum[n](x[n,c]))/2
        z      = sum[n,c](x[n,c]**2)
    """,
)  # fmt: skip


def drawn(dtype="float64"):
    rng = np.random.default_rng(1)
    shapes = {"x": (3, 2), "w": (2,), "seen": (2,)}
    return {k: rng.normal(size=shape).astype(dtype) for k, shape in shapes.items()}


def scaled(x, w, seen):
    return w * anp.tanh(x), (seen + anp.sum(x, axis=0)) / 2, anp.sum(x**2)


def test_all_derivatives_are_those_of_the_definition():
    """Outputs, gradients, tangents and second-order gradients agree with the oracle, by name; what
    is a buffer's next value takes no cotangent."""
    layer, oracle = Layer(SCALED, autograd_function(scaled)), gradverify.oracle(SCALED)
    tensors, rng = drawn(), np.random.default_rng(2)
    dys = {"y": rng.normal(size=(3, 2)), "z": rng.normal(size=())}
    along = {k: rng.normal(size=tensors[k].shape) for k in ("x", "w")}

    outputs, pullback = layer.forward(tensors, {})
    first, second = layer.double_vjp(tensors, dys, along, {})
    derived = oracle.double_vjp(tensors, dys, along)

    for got, expected in (
        (dict(zip(SCALED.outputs, outputs, strict=True)), oracle.forward(tensors)),
        (pullback(*dys.values()), oracle.vjp(tensors, dys)),
        (layer.jvp(tensors, along, {}), oracle.jvp(tensors, along)),
        (first, derived[0]),
        (second, derived[1]),
    ):
        assert got.keys() == expected.keys()
        for k, value in got.items():
            np.testing.assert_allclose(value, expected[k], rtol=1e-12)


def test_dtypes_and_trees_are_kept():
    """Float32 stays float32; a tree may be of dicts, lists and tuples of any depth."""

    def nested(params, x, seen):
        ((w,),) = params["w"]
        return scaled(x, w, seen)

    adapter = autograd_function(nested, tree={"params": {"w": [("w",)], "unused": None}})
    outputs, pullback = Layer(SCALED, adapter).forward(drawn("float32"), {})
    gradients = pullback(outputs[0], outputs[2])
    arrays = (*outputs, *gradients.values())
    assert {np.asarray(a).dtype for a in arrays} == {np.dtype("float32")}
    assert gradients["w"].shape == (2,)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_defvjp_is_found_as_in_numpy(name):
    """The findings are those of the same layer in NumPy, and name the line of its rule."""
    wrong = WRONG[name]
    for finding in found_as_in_numpy(wrong, wrong.in_autograd()):
        assert "conventions.py:" in finding.location


def test_what_a_rule_keeps_in_a_global_is_stale():
    """A primitive that leaves its input where every call does is found as in NumPy."""
    saved = {}

    @primitive
    def stale(x, w, b):
        saved["x"] = x
        return x @ w + b

    defvjp(
        stale,
        lambda ans, x, w, b: lambda g: g @ w.T,
        lambda ans, x, w, b: lambda g: saved["x"].T @ g,
        lambda ans, x, w, b: lambda g: anp.sum(g, axis=0),
    )
    layer = Layer(SQUARE, autograd_function(stale))
    report = verify(layer, profile=FEW, checks=["contract"])
    (found,) = [f for f in report.findings if f.question == "stale"]
    assert found.tensor == "w"
    assert found.diagnosis == "it is the gradient at the values of another call, the last one"


@primitive
def cube(x):
    return x**3


def cube_rule(ans, x):
    return lambda g: 3 * g * x**2


defvjp(cube, cube_rule)


def calls_cube(x):
    return cube(x) + 1


def test_forward_mode_is_offered_where_a_primitive_has_a_rule():
    """Without `defjvp` there is none, also where a function calls the primitive; with it there is."""

    @primitive
    def square(x):
        return x**2

    defvjp(square, lambda ans, x: lambda g: 2 * g * x)
    defjvp(square, lambda g, ans, x: 2 * g * x)
    for function in (cube, calls_cube):
        assert autograd_function(function).jvp is None
        assert autograd_function(function).written[-1] is cube_rule
    spec = Spec("square_of", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")
    layer = Layer(spec, autograd_function(square))
    assert layer.jvp({"x": np.array([3.0])}, {"x": np.array([1.0])}, {})["y"] == 6


def test_what_is_not_offered_is_told_when_it_is_called():
    """A primitive that is out of sight may have no forward mode, and one without a rule in that of
    another makes that not differentiable twice: autograd's word for it is passed on."""
    hidden = {"cube": cube}
    once, square = primitive(lambda x: x**3), primitive(lambda x: x**2)
    defvjp(once, lambda ans, x: lambda g: 3 * g * square(x))
    spec = Spec("cubed", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**3")
    at = {"x": np.array([3.0])}
    layer = Layer(spec, autograd_function(lambda x: hidden["cube"](x)))
    with pytest.raises(NotOffered, match="forward mode: JVP of cube"):
        layer.jvp(at, at, {})
    with pytest.raises(NotOffered, match="double backward: VJP of"):
        Layer(spec, autograd_function(once)).double_vjp(at, {"y": np.ones(1)}, at, {})


def objects(x, w, seen):
    return np.array(x) * w, seen, anp.sum(x)


def outer(x, w, seen):
    return np.add.outer(x, w), seen, anp.sum(x)


def scalar(x, w, seen):
    return float(w[0]) * x, seen, anp.sum(x)


def of_another_shape(x, w, seen):
    return anp.sum(w * x, axis=0), seen, anp.sum(x)


@pytest.mark.parametrize(
    ("function", "question", "words"),
    [
        (objects, "type", "output y is an array of objects, made by NumPy of what autograd traces"),
        (outer, "raises", r"TypeError at .*test_adapters_autograd.py:\d+: .*'ArrayBox'; where an array is traced, use autograd.numpy"),
        (scalar, "raises", "float.* not 'ArrayBox'; .*ask for no float of it"),
        (of_another_shape, "shape", r"output y has shape \(2,\), declared .*= \(3, 2\)"),
        (lambda x, w, seen: x, "convention", r"returned 1 value\(s\) where \(y, now, z\)"),
        (lambda params, x: x, "convention", "cannot be called with x, w, seen by name"),
    ],
)  # fmt: skip
def test_bad_functions_are_told_in_one_line(function, question, words):
    """What autograd cannot take is told with the place and the remedy, as a finding."""
    layer = Layer(SCALED, autograd_function(function))
    with pytest.raises(ConventionError, match=words) as caught:
        layer.forward(drawn(), {})[1](np.ones((3, 2)), np.ones(()))
    assert caught.value.question == question
    assert "object at 0x" not in str(caught.value)


def test_an_output_that_depends_on_nothing_has_gradients_of_zero():
    """It is judged like any other: autograd's own warning of it is not passed on."""

    def constant(x, w, seen):
        return np.ones((3, 2)), seen, np.float64(1)

    _, pullback = Layer(SCALED, autograd_function(constant)).forward(drawn(), {})
    assert not np.any(pullback(np.ones((3, 2)), np.ones(()))["x"])


def test_a_right_function_is_verified():
    """Softmax in autograd.numpy passes all checks; 50-digit numbers are not for it."""

    def softmax(x):
        e = anp.exp(x - anp.max(x, axis=1, keepdims=True))
        return e / anp.sum(e, axis=1, keepdims=True)

    report = verify(Layer(catalog("softmax"), autograd_function(softmax)), profile="quick")
    assert report.ok
    (exact,) = [c for c in report.layers[0].checks if c.check == "exact"]
    assert exact.reason.endswith("on 50-digit numbers: autograd differentiates arrays of floats")


def test_a_missing_package_and_a_bad_tree_are_usage_errors(monkeypatch):
    """Without autograd the install command is told, where the adapter is asked for."""
    with pytest.raises(UsageError, match=r"tree='w'\): write tree="):
        autograd_function(scaled, tree="w")
    monkeypatch.setitem(sys.modules, "autograd", None)
    with pytest.raises(UsageError, match=r"needs the package autograd: pip install"):
        autograd_function(scaled)
