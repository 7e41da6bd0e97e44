"""JAX's functions as layers: what they give, what is said of wrong ones, and of bad input."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conventions import FEW, SQUARE, WRONG, found_as_in_numpy

import gradverify
from gradverify import Buffer, Constant, Input, Layer, Output, Param, Spec, catalog, verify
from gradverify.adapter import NotOffered
from gradverify.adapters import jax_function
from gradverify.config import Profile
from gradverify.errors import UsageError
from gradverify.layer import ConventionError

SCALED = Spec(
    "scaled", x=Input("N C"), w=Param("C"), a=Constant(2, 3), y=Output("N C"), z=Output(""),
    definition="""
        y[n,c] = a*w[c]*tanh(x[n,c])
        z      = sum[n,c](x[n,c]**2)
    """,
)  # fmt: skip


def drawn(dtype="float64"):
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(3, 2)).astype(dtype), "w": rng.normal(size=2).astype(dtype)}


def scaled(x, w, *, a):
    return a * w * jnp.tanh(x), jnp.sum(x**2)


@pytest.mark.parametrize("jit", [True, False])
def test_all_derivatives_are_those_of_the_definition(jit):
    """Outputs, gradients, tangents and second-order gradients agree with the oracle, by name."""
    layer = Layer(SCALED, jax_function(scaled, jit=jit))
    oracle, rng = gradverify.oracle(SCALED), np.random.default_rng(2)
    tensors, constants = drawn(), {"a": 3}
    dys = {"y": rng.normal(size=(3, 2)), "z": rng.normal(size=())}
    along = {k: rng.normal(size=v.shape) for k, v in tensors.items()}

    outputs, pullback = layer.forward(tensors, constants)
    first, second = layer.double_vjp(tensors, dys, along, constants)
    derived = oracle.double_vjp(tensors, dys, along, constants)

    for got, expected in (
        (dict(zip(SCALED.outputs, outputs, strict=True)), oracle.forward(tensors, constants)),
        (pullback(*dys.values()), oracle.vjp(tensors, dys, constants)),
        (layer.jvp(tensors, along, constants), oracle.jvp(tensors, along, constants)),
        (first, derived[0]),
        (second, derived[1]),
    ):
        assert got.keys() == expected.keys()
        for k, value in got.items():
            assert type(value) is np.ndarray
            np.testing.assert_allclose(value, expected[k], rtol=1e-12)


def test_float64_is_judged_as_such_and_float32_as_the_project_has_it():
    """JAX would truncate float64 in silence: x64 is switched on for such a call, and for no
    other; where it is off, an array of ones has the dtype of float32 input."""

    def with_ones(x, w, *, a):
        return a * w * jnp.tanh(x) * jnp.ones(2), jnp.sum(x**2)

    layer = Layer(SCALED, jax_function(with_ones))
    for dtype in ("float64", "float32"):
        (y, z), pullback = layer.forward(drawn(dtype), {"a": 2})
        gradients = pullback(y, z)
        assert {v.dtype for v in (y, z, *gradients.values())} == {np.dtype(dtype)}
    assert not jax.config.jax_enable_x64
    assert jnp.ones(2).dtype == jnp.float32


def test_what_a_project_has_enabled_shows_in_float32():
    """With x64 on in the project, an array of ones makes float64 of float32, and that is told."""

    def with_ones(x, w, *, a):
        return a * w * jnp.tanh(x) * jnp.ones(2), jnp.sum(x**2)

    with jax.enable_x64(True):
        (y, _), _ = Layer(SCALED, jax_function(with_ones)).forward(drawn("float32"), {"a": 2})
    assert y.dtype == np.float64


def test_parameters_come_in_a_tree():
    """`tree` says which tensors an argument is made of, in dicts, lists and tuples of any depth;
    a jitted function takes constants as static ones."""

    def nested(params, x, *, a):
        (w,) = params["layers"][0]
        return scaled(x, w, a=a)

    adapter = jax_function(
        jax.jit(nested, static_argnames="a"), tree={"params": {"layers": [("w",)], "fixed": None}}
    )
    outputs, pullback = Layer(SCALED, adapter).forward(drawn(), {"a": 2})
    plain, pullback_plain = Layer(SCALED, jax_function(scaled)).forward(drawn(), {"a": 2})
    np.testing.assert_allclose(outputs[0], plain[0])
    got, expected = pullback(*plain), pullback_plain(*plain)
    np.testing.assert_allclose(got["w"], expected["w"])


def test_integers_buffers_and_positional_arguments():
    """Integer inputs are passed as such, what is a buffer's next value takes no cotangent, and a
    function that takes no names is called in its own order."""
    looked_up = Spec(
        "looked_up", ids=Input("N", dtype=int, range="0..V-1"), w=Param("V D"),
        seen=Buffer("", update="now"), y=Output("N D"), now=Output(""),
        definition="""
            y[n,d] = w[ids[n],d]
            now    = seen + 1
        """,
    )  # fmt: skip

    def function(w, ids, /, seen):
        return w[ids], seen + 1

    tensors = {"ids": np.array([1, 1, 0]), "w": np.eye(2), "seen": np.array(4.0)}
    (y, now), pullback = Layer(looked_up, jax_function(function)).forward(tensors, {})
    assert now == 5
    np.testing.assert_array_equal(y, np.eye(2)[[1, 1, 0]])
    assert pullback(np.ones((3, 2)))["w"].tolist() == [[1, 1], [2, 2]]


def test_nothing_is_shared_with_the_caller():
    """The caller may write to what it gave and to what it got: a later pullback gives the same."""
    tensors = drawn()
    (y, z), pullback = Layer(SCALED, jax_function(scaled, jit=False)).forward(tensors, {"a": 2})
    before = pullback(np.ones((3, 2)), np.ones(()))
    tensors["x"][:], y[:] = 7, 7
    after = pullback(np.ones((3, 2)), np.ones(()))
    np.testing.assert_array_equal(before["x"], after["x"])
    assert z.flags.writeable


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_custom_vjp_is_found_as_in_numpy(name):
    """The findings are those of the same layer in NumPy, and name the line of its bwd."""
    wrong = WRONG[name]
    line = wrong.backward.__code__.co_firstlineno
    for finding in found_as_in_numpy(wrong, wrong.in_jax()):
        assert finding.location.endswith(f"conventions.py:{line}")


def test_a_residual_in_a_global_is_stale_without_jit_and_leaks_with_it():
    """Without jit the finding is NumPy's; with it JAX itself refuses, and the remedy is told."""
    saved = {}

    def forward(x, w, b):
        saved["x"] = x
        return x @ w + b, w

    function = jax.custom_vjp(lambda x, w, b: x @ w + b)
    function.defvjp(forward, lambda w, dy: (dy @ w.T, saved["x"].T @ dy, dy.sum(axis=0)))
    eager = Layer(SQUARE, jax_function(function, jit=False), name="stale")
    report = verify(eager, profile=Profile(1, 0, 1), checks=["contract"], sizes={"N": 2, "D": 2})
    assert ("stale", "w") in [(f.question, f.tensor) for f in report.findings]
    _, pullback = Layer(SQUARE, jax_function(function)).forward(
        {"x": np.ones((3, 2)), "w": np.eye(2), "b": np.ones(2)}, {}
    )
    with pytest.raises(ConventionError, match=r"the pullback raised UnexpectedTracerError.*among the "
                       "residuals"):  # fmt: skip
        pullback(np.ones((3, 2)))


def noisy(x, w, *, a):
    return a * w * jnp.tanh(x) + np.random.default_rng().normal(), jnp.sum(x**2)


def branching(x, w, *, a):
    return (w if x.sum() > 0 else -w) * x, jnp.sum(x)


def in_numpy(x, w, *, a):
    return np.tanh(x) * w, jnp.sum(x)


def constant(x, w, *, a):
    return np.ones((3, 2)), jnp.sum(x)


def of_another_shape(x, w, *, a):
    return jnp.sum(w * x, axis=0), jnp.sum(x)


def integral(x, w, *, a):
    return (w * x).astype(int), jnp.sum(x)


@pytest.mark.parametrize(
    ("function", "options", "question", "words"),
    [
        (noisy, {}, "repeatable", "the function is not pure: traced twice for the same shapes"),
        (branching, {}, "raises", r"TracerBoolConversionError at .*test_adapters_jax.py:\d+: .*write jnp.where, lax.cond .*jax_function\(f, jit=False\)"),
        (in_numpy, {}, "raises", r"TracerArrayConversionError at .*use jax.numpy"),
        (in_numpy, {"jit": False}, "raises", r"TracerArrayConversionError at .*use jax.numpy"),
        (constant, {}, "type", "output y is a numpy.ndarray, not a JAX array: to JAX it is a constant"),
        (of_another_shape, {}, "shape", r"output y has shape \(2,\), declared .*= \(3, 2\)"),
        (integral, {}, "type", "output y is int64, of which JAX gives no gradient"),
        (lambda x, w, a: x, {}, "convention", r"returned 1 value\(s\) where \(y, z\) are declared"),
        (lambda params, x, a: x, {}, "convention", r"cannot be called with x, w, a by name: missing a required argument: 'params'; parameters that it takes in a tree are named by tree="),
        (scaled, {"tree": {"w": "weight"}}, "convention", "tree names 'weight', which the spec does not declare: known are x, w, a"),
    ],
)  # fmt: skip
def test_bad_functions_are_told_in_one_line(function, options, question, words):
    """What JAX cannot take is told with the place and the remedy, as a finding."""
    layer = Layer(SCALED, jax_function(function, **options))
    with pytest.raises(ConventionError, match=words) as caught:
        layer.forward(drawn(), {"a": 2})[1](np.ones((3, 2)), np.ones(()))
    assert caught.value.question == question
    assert "\n" not in str(caught.value)


def test_a_function_that_branches_on_data_is_judged_without_jit():
    """What jit cannot take runs alone, where it needs no value of an array that is traced."""
    (y, _), pullback = Layer(SCALED, jax_function(branching, jit=False)).forward(drawn(), {"a": 2})
    assert np.all(np.isfinite(pullback(y, np.ones(()))["w"]))


def test_the_gradient_of_a_root_that_is_not_taken_is_nan():
    """The best-known mistake in JAX: where() does not keep nan out of a gradient, nor out of the
    double backward, of which nothing more can be told than that."""
    spec = Spec("root", x=Input("N"), y=Output("N"),
                definition="y[n] = where(x[n] > 0, sqrt(x[n]), 0)")  # fmt: skip
    layer = Layer(spec, jax_function(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0)), name="root")
    (result,) = verify(layer, profile="quick").layers
    told = {(f.check, f.question) for f in result.errors}
    assert {("contract", "finite"), ("second_order", "finite")} <= told


def test_forward_mode_is_offered_where_there_is_one():
    """A custom_vjp has none, whether it is the function itself, is jitted, or is called by it;
    a custom_jvp has one, and the finding names its rule."""
    plain = jax.custom_jvp(lambda x: x**2)

    @plain.defjvp
    def rule(primals, tangents):
        return primals[0] ** 2, 2 * primals[0] * tangents[0]

    for function in (CUBE, jax.jit(CUBE), calls_cube):
        assert jax_function(function).jvp is None
        assert jax_function(function).written[-1] is cube_back
    adapter = jax_function(plain)
    assert adapter.jvp is not None
    assert adapter.written[-1] is rule
    spec = Spec("square_of", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")
    layer = Layer(spec, adapter)
    assert layer.jvp({"x": np.array([3.0])}, {"x": np.array([1.0])}, {})["y"] == 6
    assert jax_function(jax.nn.relu).written == (jax.nn.relu,)


@jax.custom_vjp
def CUBE(x):
    return x**3


def cube_back(x, dy):
    return (3 * x**2 * dy,)


CUBE.defvjp(lambda x: (x**3, x), cube_back)


def calls_cube(x):
    return CUBE(x) + 1


def test_what_is_not_offered_is_told_when_it_is_called():
    """A custom_vjp that is out of sight has no forward mode, and a callback in a bwd no double
    backward: JAX's word for it is passed on."""
    hidden = {"cube": CUBE}
    spec = Spec("cubed", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**3")
    at = {"x": np.array([3.0])}
    layer = Layer(spec, jax_function(lambda x: hidden["cube"](x)))
    with pytest.raises(NotOffered, match="forward mode: can't apply"):
        layer.jvp(at, at, {})
    assert layer.double_vjp(at, {"y": np.ones(1)}, at, {})[0]["x"] == 6 * 3 * 3

    called = jax.custom_vjp(lambda x: x**3)
    called.defvjp(
        lambda x: (x**3, x),
        lambda x, dy: (
            dy * jax.pure_callback(lambda v: 3 * v**2, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
        ),
    )
    with pytest.raises(NotOffered, match="double backward: Pure callbacks"):
        Layer(spec, jax_function(called)).double_vjp(at, {"y": np.ones(1)}, at, {})


def test_exact_says_that_jax_has_no_such_numbers():
    """50-digit numbers are not for JAX, which keeps no layer from being verified."""
    layer = Layer(catalog("relu"), jax_function(jax.nn.relu), name="relu")
    report = verify(layer, profile=FEW, sizes={"N": 2, "C": 2})
    (exact,) = [c for c in report.layers[0].checks if c.check == "exact"]
    assert exact.reason == (
        "relu raised TypeError on 50-digit numbers: JAX has no arrays of objects"
    )
    assert not report.findings


def test_a_missing_package_and_a_bad_tree_are_usage_errors(monkeypatch):
    """Without JAX the install command is told, where the adapter is asked for."""
    with pytest.raises(UsageError, match=r"tree='w'\): write tree="):
        jax_function(scaled, tree="w")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UsageError, match=r"needs the package jax: pip install 'gradverify\[jax\]'"):
        jax_function(scaled)


def test_the_adapters_import_no_framework_and_warn_of_nothing(tmp_path):
    """Importing them imports neither JAX nor autograd; a part of the gallery is verified by the
    command line, in processes of its own, where warnings are errors."""
    gallery = Path(gradverify.__file__).parent.parent / "specs" / "third_party"
    code = """if True:
        import sys
        import gradverify.adapters
        assert not {"jax", "autograd", "torch"} & {*sys.modules}
        from gradverify.cli import main
        if __name__ == "__main__":
            sys.exit(main(sys.argv[1:]))
    """
    (tmp_path / "run.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-W", "error", tmp_path / "run.py", "verify", "--profile", "quick",
         "--layer", "jax_relu", gallery / "jax_activations.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 layer: 1 verified" in run.stdout
    assert "Warning" not in run.stdout + run.stderr
