"""The oracle's NumPy: every way to subscript, source that can be pasted, its modes and dtypes."""

import itertools
import keyword
from functools import cache

import numpy as np
import pytest
from features import FEATURES, feature, feature_forwards, points, spec_of
from torch_layers import (
    SPECS,
    Derivatives,
    assert_agree,
    by_oracle,
    by_torch,
    exactly,
    forwards,
    largest,
    oracle,
)

from gradverify import Constant, Input, Output, Param
from gradverify.calculus.compile import ABSOLUTE, NOISE, SWITCHES, Oracle
from gradverify.calculus.emit import Mode
from gradverify.calculus.noise import Noise
from gradverify.calculus.point import Point
from gradverify.calculus.switches import Switches
from gradverify.errors import SpecError


@pytest.mark.parametrize("name", FEATURES)
def test_every_way_to_write_a_layer_agrees_with_torch(name):
    """Outputs, gradients and tangents of one layer per feature of the language are torch's."""
    spec, forward = feature(name), feature_forwards()[name]
    for point in points(spec):
        assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)


@pytest.mark.parametrize("name", FEATURES)
def test_every_way_to_write_a_layer_agrees_with_the_interpreter(name):
    """The compiled source computes what the statements say, one scalar at a time."""
    spec = feature(name)
    for point in itertools.islice(points(spec), 2):
        exact = exactly(spec, point)
        got = by_oracle(spec, point)
        for y, expected in zip(got.outputs, exact.outputs, strict=True):
            assert y.shape == expected.shape
            assert largest(y - expected) <= 1e-13 * max(largest(expected), 1)
        for k, gradient in got.gradients.items():
            difference = largest(gradient - exact.gradients[k])
            assert difference <= 1e-13 * max(largest(exact.magnitudes[k]), 1)


# -- source to paste


@cache
def pasted(spec):
    """Return the function whose source is printed, from a namespace that has nothing else."""
    source, namespace = oracle(spec).source("layer", sizes=False), {}
    exec(compile(source, "pasted", "exec"), namespace)
    return namespace["layer"]


def by_paste(spec, point):
    with np.errstate(all="ignore"):  # a branch that is not taken may divide by zero
        outputs, pullback = pasted(spec)(**point.tensors, **point.constants)
        gradients = pullback(*point.cotangents)
    return outputs if isinstance(outputs, tuple) else (outputs,), gradients


@pytest.mark.parametrize("name", [*sorted(SPECS), *FEATURES])
def test_the_printed_source_is_a_right_layer(name):
    """Pasted into a file of its own, the source is a layer in the pullback convention."""
    spec = SPECS[name] if name in SPECS else feature(name)
    for point in points(spec):
        outputs, gradients = by_paste(spec, point)
        expected = by_oracle(spec, point)
        assert list(gradients) == list(spec.differentiable)
        for a, b in zip(outputs, expected.outputs, strict=True):
            np.testing.assert_array_equal(a, b)
        for k, b in expected.gradients.items():
            np.testing.assert_array_equal(gradients[k], b)


@pytest.mark.parametrize("name", [*sorted(SPECS), *FEATURES])
def test_the_printed_source_keeps_float32(name):
    """Pasted source computes float32 arrays in float32, without a cast by anyone."""
    spec = SPECS[name] if name in SPECS else feature(name)
    for point in points(spec):
        outputs, gradients = by_paste(spec, point.astype("float32"))
        assert {np.asarray(a).dtype for a in (*outputs, *gradients.values())} == {
            np.dtype("float32")
        }


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_a_layer_named_like_a_helper_does_not_hide_it(name):
    """The pasted sigmoid calls the helper of that name, and so has another name itself."""
    source, namespace = oracle(SPECS[name]).source(name, sizes=False), {}
    assert f"\n\ndef {name}_(x" in source
    exec(compile(source, "pasted", "exec"), namespace)
    (point, *_) = points(SPECS[name])
    outputs, _ = namespace[f"{name}_"](**point.tensors, **point.constants)
    np.testing.assert_array_equal(outputs, by_oracle(SPECS[name], point).outputs[0])


def test_the_source_reads():
    """The source of batch norm is what a person would write: means, einsum-free, no loops."""
    source = oracle(SPECS["batch_norm"]).source("batch_norm", sizes=False)
    assert source.startswith("import numpy as np\n\n\ndef batch_norm(x, gamma, beta, *, eps):\n")
    for line in (
        "N, C = x.shape",
        "sigma = np.sqrt(eps + var)",
        "xhat = (x - mu)/sigma",
        "def pullback(dy):",
        "dbeta = dy.sum(axis=0)",
        'return {"x": dx, "gamma": dgamma, "beta": dbeta}',
        "return y, pullback",
    ):
        assert f"    {line}\n" in source


def test_decimals_stay_what_they_are():
    """A derivative has 3*0.044715, not whole numbers of 17 digits, which no float16 holds."""
    source = oracle(SPECS["gelu"]).source("gelu", sizes=False)
    assert "(1 + 0.134145*x**2)" in source
    (point, *_) = points(SPECS["gelu"])
    _, gradients = by_paste(SPECS["gelu"], point.astype("float16"))
    right = by_oracle(SPECS["gelu"], point).gradients["x"]
    np.testing.assert_allclose(gradients["x"], right, rtol=0, atol=0.02)


def test_windows_are_views():
    """A convolution is one product of windows that are no copies, and of it dw is another."""
    source = oracle(SPECS["conv2d"]).source("conv2d", sizes=False)
    assert "arange" not in source
    assert source.count("sliding_window_view(x_padded, ") == 1
    for line in (
        'y = np.einsum("kcrt,ncpqrt->nkpq", w, x_windows, optimize=True)',
        '    dw = np.einsum("nkpq,ncpqrt->kcrt", dy, x_windows, optimize=True)',
    ):
        assert f"    {line}\n" in source


def test_digits_are_an_axis_each():
    """Of a subscript such as g*K+k, with k < K, each index is an axis; nothing is looped over."""
    source = oracle(SPECS["group_norm"]).source("group_norm", sizes=False)
    assert "arange" not in source
    assert "for " not in source
    assert "    mu = x.reshape(N, G, K, H, W).sum(axis=(2, 3, 4))/(H*K*W)\n" in source


def test_sizes_are_read_off_the_shapes():
    """A dimension that stands only in products and sums is solved for, from the others."""
    spec = spec_of(
        "y[n] = sum[a,b,c](x[n,a*B+b]*w[b*C+c]*v[c+1])",
        x=Input("N A*B"), w=Param("B*C"), v=Param("C+1"), y=Output("N"),
        ranges={"a": "A", "b": "B", "c": "C"},
    )  # fmt: skip
    for point in points(spec):
        outputs, _ = by_paste(spec, point)
        np.testing.assert_array_equal(outputs[0], by_oracle(spec, point).outputs[0])


# -- nothing of the caller's is changed


def test_an_output_is_never_an_input_itself():
    """An output that only repeats an input is a copy, with and without stop_gradient."""
    spec = spec_of(
        "y[n] = x[n]\nz[n] = stop_gradient(x[n])",
        x=Input("N"), y=Output("N"), z=Output("N"),
    )  # fmt: skip
    x = np.ones(3)
    outputs, _ = pasted(spec)(x)
    assert not any(np.shares_memory(x, y) for y in outputs)


@pytest.mark.parametrize("name", [*sorted(SPECS), *FEATURES])
def test_the_oracle_changes_nothing_that_it_is_given(name):
    """Tensors and cotangents may be read-only, and a pullback can be called again."""
    spec = SPECS[name] if name in SPECS else feature(name)
    point = next(points(spec))
    for array in (*point.tensors.values(), *point.cotangents):
        array.setflags(write=False)
    _, pullback = oracle(spec).run(point)
    first, second = pullback(*point.cotangents), pullback(*point.cotangents)
    for k, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[k])


# -- names


def test_names_that_the_source_needs_can_be_tensors():
    """Tensors and constants called np, math, dtype, sigmoid, range, pullback... are harmless."""
    spec = spec_of(
        "sigmoid_[t] = sigmoid(sigmoid[t]*dtype) + erf(np[t])*sqrt(2)\n"
        "range[-1] = max\n"
        "range[t] = range[t-1]*pullback[t] + sigmoid_[t]\n"
        "reversed = max[t](range[t]*noise)\n"
        "type[t] = range[t]*reversed*math",
        sigmoid=Input("T"), np=Input("T"), pullback=Param("T"), noise=Param(""), math=Param(""),
        max=Param(""), dtype=Constant(0.5, 2.0), type=Output("T"),
    )  # fmt: skip
    plain = spec_of(
        "g[t] = sigmoid(a[t]*k) + erf(b[t])*sqrt(2)\n"
        "h[-1] = e\n"
        "h[t] = h[t-1]*p[t] + g[t]\n"
        "m = max[t](h[t]*q)\n"
        "y[t] = h[t]*m*r",
        a=Input("T"), b=Input("T"), p=Param("T"), q=Param(""), r=Param(""), e=Param(""),
        k=Constant(0.5, 2.0), y=Output("T"),
    )  # fmt: skip
    names = dict(zip(spec.given, plain.given, strict=True))
    for odd, same in zip(points(spec), points(plain), strict=True):
        expected = by_oracle(plain, same)
        renamed = Derivatives(
            expected.outputs, {k: expected.gradients[names[k]] for k in names}, expected.tangents
        )
        assert_agree(spec, odd, by_oracle(spec, odd), renamed, 1e-15)
        outputs, gradients = by_paste(spec, odd)
        np.testing.assert_allclose(outputs[0], expected.outputs[0], rtol=1e-14)
        assert list(gradients) == list(spec.given)
        for mode, tools in ((NOISE, {"noise": Noise(0.0, np.random.default_rng(0))}),
                            (SWITCHES, {"switches": Switches()})):  # fmt: skip
            again, _ = oracle(spec).run(odd, mode, **tools)
            np.testing.assert_allclose(again[0], expected.outputs[0], rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["dx", "dy", "m_pick", "m_terms", "x_padded", "dx_wide", "low0", "high0", "dx_part",
             "n_p", "x_dot", "y_dot", "dm", "sum1", "n1", "c1", "y_path", "dtype_", "first_max"],
)  # fmt: skip
def test_names_of_helping_variables_can_be_tensors(name):
    """A parameter that is called like a variable the emitter would make up is left alone."""

    def made(extra):
        return spec_of(
            "m[p] = max[c](x[S*p-1,c])\n"
            "h[p] = sum[c](sum[n](x[n,c])*tanh(x[S*p,c]))\n"
            f"y[p] = m[p]*h[p]*{extra}",
            x=Input("N C", outside=0), S=Constant(1, 2), y=Output("(N-1)//S+1"),
            ranges={"p": "(N-1)//S+1"},
            **{extra: Param("")},
        )  # fmt: skip

    spec, plain = made(name), made("w")
    for odd, same in zip(points(spec), points(plain), strict=True):
        expected, got = by_oracle(plain, same), by_oracle(spec, odd)
        gradients = {"x": expected.gradients["x"], name: expected.gradients["w"]}
        renamed = Derivatives(expected.outputs, gradients, expected.tangents)
        assert_agree(spec, odd, got, renamed, 1e-13)
        outputs, gradients = by_paste(spec, odd)
        np.testing.assert_array_equal(outputs[0], got.outputs[0])
        np.testing.assert_array_equal(gradients[name], got.gradients[name])


@pytest.mark.parametrize("name", ["in", "lambda", "None"])
def test_a_name_that_python_keeps_for_itself_is_refused(name):
    """No layer could be called with a tensor named like a keyword."""
    assert keyword.iskeyword(name)
    with pytest.raises(SpecError, match=f"{name} has a meaning in Python"):
        spec_of("y[n] = x[n]", x=Input("N"), y=Output("N"), **{name: Param("N")})


# -- modes


@pytest.mark.parametrize("name", [*sorted(SPECS), *FEATURES])
def test_noise_of_amplitude_zero_is_none(name):
    """The noisy source with no noise computes the same, so that its spread is the noise's alone."""
    spec = SPECS[name] if name in SPECS else feature(name)
    for point in points(spec):
        plain = by_oracle(spec, point)
        noise = Noise(0.0, np.random.default_rng(0))
        outputs, pullback = oracle(spec).run(point, NOISE, noise=noise)
        noisy = Derivatives(outputs, pullback(*point.cotangents), plain.tangents)
        assert_agree(spec, point, noisy, plain, 1e-12)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_noise_spreads_by_about_its_amplitude(name):
    """With noise every output differs from the plain one, but by little more than the noise."""
    spec = SPECS[name]
    point = next(points(spec))
    outputs, _ = oracle(spec).run(point)
    noise = Noise(1e-9, np.random.default_rng(0))
    noisy, _ = oracle(spec).run(point, NOISE, noise=noise)
    for y, other in zip(outputs, noisy, strict=True):
        assert 0 < largest(y - other) < 1e-6 * max(1, largest(y))


@pytest.mark.parametrize("name", [*sorted(SPECS), *FEATURES])
def test_the_absolute_mode_bounds_the_gradient(name):
    """With absolute values added up, no gradient is smaller than the plain one in size."""
    spec = SPECS[name] if name in SPECS else feature(name)
    for point in points(spec):
        plain = by_oracle(spec, point).gradients
        _, pullback = oracle(spec).run(point, ABSOLUTE)
        bound = pullback(*point.cotangents)
        for k, gradient in plain.items():
            assert np.all(np.abs(gradient) <= bound[k] * (1 + 1e-12) + 1e-300)


def test_the_absolute_mode_sees_what_cancels():
    """The gradient of the bias before batch norm is zero; its terms are not, and that shows."""
    spec = SPECS["linear_batch_norm"]
    point = next(points(spec))
    _, pullback = oracle(spec).run(point, ABSOLUTE)
    assert pullback(*point.cotangents)["b"].min() > 1e-3


KINKED = ["relu", "leaky_relu", "prelu", "max_pool2d"]
KINKED += ["contrastive", "elu", "hardswish", "hinge", "huber", "maxout", "selu", "triplet"]
KINKED += ["squeeze_excite", "l2_normalize", "cosine_similarity"]
KINKED += ["mlp", "residual_block"]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_switches_note_the_sides_of_kinks(name):
    """What has kinks notes sides, what has none notes nothing, and stop_gradient hides them."""
    spec = SPECS[name]
    for point in points(spec):
        found = Switches()
        outputs, _ = oracle(spec).run(point, SWITCHES, switches=found)
        np.testing.assert_array_equal(outputs[0], by_oracle(spec, point).outputs[0])
        assert bool(found) == (name in KINKED)


def test_switches_tell_when_a_kink_was_crossed():
    """The same side everywhere is the same; one element on the other side is not."""
    spec = SPECS["relu"]

    def sides(x):
        found = Switches()
        oracle(spec).run(Point({"x": np.array(x)}, {}, {"N": 1, "C": 2}), SWITCHES, switches=found)
        return found

    assert sides([[1.0, -1.0]]).same(sides([[2.0, -3.0]]))
    assert not sides([[1.0, -1.0]]).same(sides([[1.0, 1.0]]))
    assert not sides([[1.0, -1.0]]).same(Switches())


def test_switches_note_which_element_is_the_largest():
    """A maximum changes side when another element becomes the largest."""
    spec = spec_of("y[n] = max[c](x[n,c])", x=Input("N C"), y=Output("N"))

    def sides(x):
        found = Switches()
        oracle(spec).run(Point({"x": np.array(x)}, {}, {"N": 1, "C": 2}), SWITCHES, switches=found)
        return found

    assert sides([[1.0, 2.0]]).same(sides([[3.0, 4.0]]))
    assert not sides([[1.0, 2.0]]).same(sides([[2.0, 1.0]]))


def test_modes_can_be_combined():
    """Noise and switches together are one source."""
    spec, found = SPECS["relu"], Switches()
    noise = Noise(0.0, np.random.default_rng(0))
    mode = Mode(noise=True, switches=True)
    x = np.array([[1.0, -1.0]])
    outputs, _ = oracle(spec).run(
        Point({"x": x}, {}, {"N": 1, "C": 2}), mode, noise=noise, switches=found
    )
    np.testing.assert_array_equal(outputs[0], [[1.0, 0.0]])
    assert len(found) == 1


# -- the rest


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_results_have_the_dtype_of_the_tensors(dtype):
    """Outputs, gradients and tangents come in the dtype of the first floating tensor."""
    for name in ("softmax_cross_entropy", "conv2d", "lstm_cell"):
        spec = SPECS[name]
        point = next(points(spec)).astype(dtype)
        assert {a.dtype for _, a in by_oracle(spec, point).parts()} == {np.dtype(dtype)}


def test_constants_that_divide_by_zero_are_named():
    """A constant at which the definition is not finite is an error that says which."""
    spec = spec_of("y[n] = x[n] + 1/(1 - p)", x=Input("N"), p=Constant(0.5), y=Output("N"))
    with pytest.raises(SpecError, match=r"the definition is not finite at p=1.0"):
        oracle(spec).run(Point({"x": np.ones(2)}, {"p": 1.0}, {"N": 2}))
    spec = spec_of("y[n] = x[n] + log(p)", x=Input("N"), p=Constant(0.5), y=Output("N"))
    with pytest.raises(SpecError, match=r"the definition is not finite at p=-1"):
        oracle(spec).run(Point({"x": np.ones(2)}, {"p": -1}, {"N": 2}))


def test_a_function_is_compiled_once_for_each_mode():
    """Running again does not derive or compile again."""
    found = Oracle(SPECS["relu"].program, ("x",))
    point = next(points(SPECS["relu"]))
    for _ in range(2):
        found.run(point)
        found.run(point, ABSOLUTE)
    assert len(found._functions) == 2


def test_every_feature_has_a_forward_in_torch():
    """The two tables of features name the same layers."""
    assert feature_forwards().keys() == FEATURES.keys()
    assert forwards().keys().isdisjoint(FEATURES)
