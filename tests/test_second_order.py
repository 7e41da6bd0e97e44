"""Double backward and Hessian-vector products are torch's; their public interface says what is
wrong with what it is given."""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy
import torch_layers
from definitions import NAMES, NOWHERE_SINGULAR, recurrences, spec_of
from features import FEATURES, feature, feature_forwards
from torch_layers import SPECS, draw, forwards, largest

from gradverify import Input, Output, Param, Spec, UsageError, catalog, oracle
from gradverify.calculus.compile import ABSOLUTE, NOISE
from gradverify.calculus.derive import in_order
from gradverify.calculus.exact import evaluate_exactly
from gradverify.calculus.noise import Noise
from gradverify.calculus.point import Point

derivatives = cache(oracle)


def gradient(spec):
    """Return the oracle of the gradients."""
    return torch_layers.oracle(spec).gradient


def given(spec, point):
    """Return what the gradients are a function of: the tensors and the cotangents, by name."""
    names = gradient(spec).program.declared.given
    return dict(zip(names, [*point.tensors.values(), *point.cotangents], strict=True))


def second_by_torch(forward, spec, point):
    """Return the gradients of <tangents, vjp> in the tensors and in the cotangents."""
    import torch
    from torch.autograd.functional import vjp

    fixed = {k: torch.tensor(v) for k, v in point.tensors.items()}
    wrt = spec.differentiable
    at = tuple(fixed[k] for k in wrt)
    dy = tuple(map(torch.tensor, point.cotangents))
    seeds = tuple(torch.tensor(point.tangents[k]) for k in wrt)

    def outputs(*values):
        found = forward(**{**fixed, **dict(zip(wrt, values, strict=True))}, **point.constants)
        found = found if isinstance(found, list | tuple) else (found,)
        named = dict(zip(spec.outputs, found, strict=True))
        return tuple(named[y] for y in spec.differentiable_outputs)

    def gradients(*values):
        return vjp(outputs, values[: len(at)], values[len(at) :], create_graph=True)[1]

    return [g.numpy() for g in vjp(gradients, (*at, *dy), seeds)[1]]


def assert_second_order(forward, spec, point):
    """Assert that the second order is torch's to 1e-12.

    Relative to an array's own size or, where its terms cancel, to their absolute values.
    """
    found = derivatives(spec)
    tensors, dy = (
        point.tensors,
        dict(zip(spec.differentiable_outputs, point.cotangents, strict=True)),
    )
    first, second = found.double_vjp(tensors, dy, point.tangents, point.constants)
    product = found.hvp(tensors, dy, point.tangents, point.constants)
    assert list(first) == list(product) == list(spec.differentiable)
    assert list(second) == list(spec.differentiable_outputs)
    expected = second_by_torch(forward, spec, point)
    terms = cache(lambda: list(exactly(spec, point).magnitudes.values()))
    # The Hessian is symmetric: its product with the seeds is the double backward's first part.
    for k, values in enumerate(zip([*first.values(), *second.values()],
                                   [*product.values(), *second.values()], expected, strict=True)):  # fmt: skip
        *got, b = values
        for a in got:
            assert a.shape == b.shape
            difference, scale = largest(a - b), largest(b)
            if difference > 1e-12 * scale:
                scale = largest(terms()[k])
            assert difference <= 1e-12 * scale, f"{k} at {point.sizes}: {a} is not {b}"


def exactly(spec, point):
    """Return the double backward in 50-digit arithmetic."""
    seeds = [point.tangents[k] for k in spec.differentiable]
    return evaluate_exactly(
        gradient(spec).derivation, replace(point, tensors=given(spec, point)), seeds
    )


# -- what torch says


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_catalogue_agrees_with_torch(name):
    """Double backward and Hessian-vector product of every layer, at sizes of 1 and others."""
    spec, rng = SPECS[name], np.random.default_rng(5)
    least = dict.fromkeys(spec.dims, 1)
    more = {d: int(rng.integers(2, 5)) for d in spec.dims}
    choices = spec.constant_choices
    for constants, preferred in ((choices[0], least), (choices[-1], more)):
        sizes = next(spec.sizes(constants, preferred))
        assert_second_order(forwards()[name], spec, draw(spec, {**constants, **sizes}, rng))


@pytest.mark.parametrize("name", FEATURES)
def test_every_way_to_write_a_layer_agrees_with_torch(name):
    """Every feature of the language is differentiated twice: gathers, scatters, padding, max."""
    spec, rng = feature(name), np.random.default_rng(6)
    for sizes in itertools.islice(spec.sizes(), 2):
        assert_second_order(feature_forwards()[name], spec, draw(spec, sizes, rng))


@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("which", range(len(NAMES)), ids=NAMES)
def test_recurrences_agree_with_torch(which, T):
    """A recurrence runs forwards, backwards, and forwards and backwards again, for any T."""
    spec, forward = recurrences()[which]
    sizes = {**dict.fromkeys(spec.dims, 2), "T": T}
    assert_second_order(forward, spec, draw(spec, sizes, np.random.default_rng(T)))


def test_a_long_recurrence_agrees_with_torch():
    """Fifty steps of a tanh RNN, and a single unit of it."""
    spec, forward = recurrences()[NAMES.index("rnn")]
    for rest in (1, 3):
        sizes = {**dict.fromkeys(spec.dims, rest), "T": 50}
        assert_second_order(forward, spec, draw(spec, sizes, np.random.default_rng(rest)))


# -- branches that are not taken

# What a branch reads is of the second degree in something that is itself singular.
NESTED = [
    "y[n,c] = where(x[n,c] > 0, sum[j](sum[k](sqrt(x[n,k]))**2*x[n,j]), 0)",
    "y[n,c] = where(x[n,c] > 0, sum[j](sum[k](1/x[n,k])**2*x[n,j]), 0)",
    "y[n,c] = where(x[n,c] > 0, x[n,c]*sum[j](exp(sum[k](log(x[n,k])))*x[n,j])**1.5, 0)",
    "y[n,c] = where(x[n,c] > 0, where(x[n,c] < 1, 2, 1)*sum[k](where(w[k] > 0, sqrt(x[n,k]), 1)), 0)",
]  # fmt: skip
SINGULAR = [*NOWHERE_SINGULAR, *NESTED]


def singular(definition):
    return spec_of(definition, x=Input("N C"), y=Output("N C"),
                   ranges={"k": "N" if "x[k,j]" in definition else "C", "j": "C"})  # fmt: skip


@pytest.mark.parametrize("definition", SINGULAR)
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_branch_that_is_not_taken_contributes_nothing(definition, value):
    """Where a branch is singular and not taken, all of the first three orders is exactly 0."""
    spec = singular(definition)
    tensors = {"x": np.full((2, 3), value), "w": np.ones(3)}
    dy, ones = {"y": np.ones((2, 3))}, {k: np.ones_like(v) for k, v in tensors.items()}
    found = derivatives(spec)
    orders = [*found.double_vjp(tensors, dy, ones), found.hvp(tensors, dy, ones)]
    orders.append(third_order(spec, [*tensors.values(), *dy.values(), *ones.values()]))
    for gradients in orders:
        assert all(not np.any(a) for a in gradients.values()), gradients


def third_order(spec, arrays):
    """Return the gradients of the sum of all results of a double backward, by name."""
    found = gradient(spec).gradient
    values = dict(zip(found.program.declared.given, arrays, strict=True))
    outputs, pullback = found.run(Point(values, {}, {"N": 2, "C": 3}))
    return pullback(*map(np.ones_like, outputs))


@pytest.mark.parametrize("definition", SINGULAR)
def test_a_cotangent_of_zero_is_no_branch_that_is_not_taken(definition):
    """The derivative in the cotangent is the tangent of the output, also where the cotangent is 0."""
    spec, rng = singular(definition), np.random.default_rng(7)
    tensors = {"x": rng.uniform(0.2, 0.9, (2, 3)), "w": np.ones(3)}
    seeds = {"x": rng.standard_normal((2, 3))}
    thirds = []
    for dy in (np.zeros((2, 3)), np.eye(2, 3)):
        along = [seeds["x"], np.ones(3)]
        thirds.append(third_order(spec, [*tensors.values(), dy, *along])["dy"])
        _, second = derivatives(spec).double_vjp(tensors, {"y": dy}, seeds)
        expected = derivatives(spec).jvp(tensors, seeds)
        assert np.all(expected["y"] != 0)
        np.testing.assert_allclose(second["y"], expected["y"], rtol=1e-13)
    # Gradients are linear in the cotangent, so that their derivatives in it are everywhere the same.
    np.testing.assert_allclose(*thirds, rtol=1e-12)


@pytest.mark.parametrize("definition", [d for d in SINGULAR if "x[k,j]" not in d])
def test_a_branch_that_is_not_taken_does_not_disturb_one_that_is(definition):
    """Beside a row where the branch is singular, another row has the second order it has alone."""
    spec, rng = singular(definition), np.random.default_rng(8)
    x, v, dy = rng.uniform(0.2, 0.9, (1, 3)), rng.standard_normal((1, 3)), np.ones((1, 3))
    zero = np.zeros((1, 3))
    found, w = derivatives(spec), np.ones(3)
    alone = found.hvp({"x": x, "w": w}, {"y": dy}, {"x": v})["x"]
    tensors, dy = {"x": np.vstack([x, zero]), "w": w}, {"y": np.vstack([dy, dy])}
    both = {"x": np.vstack([v, v])}
    expected = np.vstack([alone, zero])
    np.testing.assert_allclose(found.hvp(tensors, dy, both)["x"], expected, rtol=1e-13)
    np.testing.assert_allclose(found.double_vjp(tensors, dy, both)[0]["x"], expected, rtol=1e-12)


# -- what is derived


@pytest.mark.parametrize("name", ["batch_norm", "causal_attention", "lstm_cell"])
def test_a_hessian_is_symmetric(name):
    """<u, H v> is <v, H u> for random directions u and v."""
    spec, rng = SPECS[name], np.random.default_rng(9)
    sizes = {**spec.constant_choices[0], **next(spec.sizes(spec.constant_choices[0]))}
    point, other = draw(spec, sizes, rng), draw(spec, sizes, rng)
    dy = dict(zip(spec.differentiable_outputs, point.cotangents, strict=True))

    def product(u, v):
        found = derivatives(spec).hvp(point.tensors, dy, v, point.constants)
        return [u[k] * found[k] for k in spec.differentiable]

    u, v = product(point.tangents, other.tangents), product(other.tangents, point.tangents)
    size = sum(np.abs(p).sum() for p in (*u, *v))
    assert size > 0
    assert abs(sum(map(np.sum, u)) - sum(map(np.sum, v))) <= 1e-13 * size


def test_the_third_order_agrees_with_torch():
    """The gradient of the gradient of a gradient is a program as well."""
    import torch

    spec, rng = SPECS["rms_norm"], np.random.default_rng(10)
    constants = spec.constant_choices[-1]
    point = draw(spec, {**constants, **next(spec.sizes(constants))}, rng)
    found = gradient(spec).gradient
    wrt, names = spec.differentiable, found.program.declared.given
    values = [*point.tensors.values(), *point.cotangents, *point.tangents.values()]
    outputs, pullback = found.run(
        Point(dict(zip(names, values, strict=True)), constants, point.sizes)
    )
    seeds = [rng.standard_normal(y.shape) for y in outputs]
    got = pullback(*seeds)

    forward = forwards()["rms_norm"]
    leaves = [torch.tensor(v, requires_grad=True) for v in values]
    x, dy, v = leaves[: len(wrt)], leaves[len(wrt) : -len(wrt)], leaves[-len(wrt) :]
    y = forward(**dict(zip(wrt, x, strict=True)), **constants)
    first = torch.autograd.grad(y, x, dy, create_graph=True)
    second = torch.autograd.grad(first, [*x, *dy], v, create_graph=True)
    third = torch.autograd.grad(second, leaves, list(map(torch.tensor, seeds)))
    for a, b in zip(got.values(), third, strict=True):
        assert largest(a - b.numpy()) <= 1e-12 * largest(b.numpy())


@pytest.mark.parametrize("name", ["conv2d", "softmax", "max_pool2d"])
def test_the_compiled_source_rounds_around_the_exact_value(name):
    """The 50-digit interpreter reads the program of the gradients as it reads any other."""
    spec = SPECS[name]
    point = draw(spec, next(spec.sizes()), np.random.default_rng(11))
    exact = exactly(spec, point)
    _, pullback = gradient(spec).run(replace(point, tensors=given(spec, point)))
    got = pullback(*point.tangents.values())
    assert got.keys() == exact.gradients.keys()
    for k, a in got.items():
        assert largest(a - exact.gradients[k]) <= 1e-13 * max(largest(exact.magnitudes[k]), 1e-300)


@pytest.mark.parametrize("name", ["batch_norm", "causal_attention", "max_pool2d"])
def test_the_second_order_has_all_modes(name):
    """Noise moves the double backward by about a rounding error; absolute values bound it."""
    spec, rng = SPECS[name], np.random.default_rng(12)
    point = draw(spec, next(spec.sizes()), rng)
    seeds, found = point.tangents.values(), gradient(spec)
    at = replace(point, tensors=given(spec, point))
    plain = found.run(at)[1](*seeds)
    noisy = found.run(at, NOISE, noise=Noise(1e-12, rng))[1](*seeds)
    bound = found.run(at, ABSOLUTE)[1](*seeds)
    for k, a in plain.items():
        assert np.all(np.abs(a) <= bound[k] * (1 + 1e-9))
        assert largest(a - noisy[k]) <= 1e-8 * largest(bound[k])
    assert any(np.any(plain[k] != noisy[k]) for k in plain)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_only_functions_that_can_be_computed_are_derived(name):
    """No derivative is left unevaluated, and none is a distribution."""
    derivation = gradient(SPECS[name]).derivation
    for step in in_order(derivation.vjp):
        assert not step.value.has(sympy.Derivative, sympy.Subs, sympy.DiracDelta), step


def test_the_sign_of_a_value_is_constant():
    """sqrt(x**2) is |x|, whose second derivative is 0 and no distribution."""
    spec = spec_of("y[n,c] = sqrt(x[n,c]**2)*w[c]")
    tensors = {"x": np.array([[-2.0, 3.0]]), "w": np.array([5.0, 7.0])}
    ones = {k: np.ones_like(v) for k, v in tensors.items()}
    first, _ = derivatives(spec).double_vjp(tensors, {"y": np.ones((1, 2))}, ones)
    np.testing.assert_array_equal(first["x"], [[-1, 1]])


def test_what_has_no_influence_has_second_derivatives_of_zero():
    """A tensor that nothing reads and an output that reads none take part, with zeros."""
    spec = spec_of("y[n,c] = x[n,c]**3\nk[n] = n", k=Output("N"))
    tensors = {"x": np.full((2, 3), 2.0), "w": np.ones(3)}
    dy = {"y": np.ones((2, 3)), "k": np.ones(2)}
    first, second = derivatives(spec).double_vjp(tensors, dy, {"x": np.ones((2, 3))})
    np.testing.assert_array_equal(first["x"], np.full((2, 3), 12.0))
    np.testing.assert_array_equal(first["w"], np.zeros(3))
    np.testing.assert_array_equal(second["y"], np.full((2, 3), 12.0))
    np.testing.assert_array_equal(second["k"], np.zeros(2))
    assert not np.any(derivatives(spec).hvp(tensors, dy, {})["x"])


def test_names_that_are_taken_are_not_used():
    """Tensors called dx, ddx and dy stay what they are; cotangents get other names."""
    spec = spec_of("y[n,c] = x[n,c]**2*dx[c]*ddx[c]\nz[n] = sum[c](y[n,c]*dy[c])",
                   dx=Param("C"), ddx=Param("C"), dy=Param("C"), z=Output("N"))  # fmt: skip

    def forward(x, w, dx, ddx, dy):
        y = x**2 * dx * ddx
        return y, y @ dy

    assert_second_order(forward, spec, draw(spec, {"N": 2, "C": 3}, np.random.default_rng(13)))


# -- the public interface


BATCH_NORM = {"x": np.eye(3, 2), "gamma": np.ones(2), "beta": np.zeros(2)}
EPS = {"eps": 1e-3}


def test_the_first_order_is_that_of_the_checks():
    """forward, vjp and jvp return by name what the oracle of the checks returns."""
    spec = SPECS["lstm_cell"]
    point = draw(spec, next(spec.sizes()), np.random.default_rng(14))
    found, expected = oracle(spec), torch_layers.by_oracle(spec, point)
    dy = dict(zip(spec.differentiable_outputs, point.cotangents, strict=True))
    for got, arrays in (
        (found.forward(point.tensors), dict(zip(spec.outputs, expected.outputs, strict=True))),
        (found.vjp(point.tensors, dy), expected.gradients),
        (
            found.jvp(point.tensors, point.tangents),
            dict(zip(spec.differentiable_outputs, expected.tangents, strict=True)),
        ),
    ):
        assert list(got) == list(arrays)
        for k in got:
            np.testing.assert_array_equal(got[k], arrays[k])


def test_results_have_the_common_dtype_of_the_tensors():
    """float32 stays float32 whatever the cotangents are; lists of numbers become float64."""
    found = oracle(catalog("batch_norm"))
    single = {k: v.astype("float32") for k, v in BATCH_NORM.items()}
    mixed = {**single, "gamma": [1, 1.0]}
    dy, along = {"y": np.ones((3, 2))}, {"x": np.eye(3, 2)}
    for tensors, dtype in ((single, "float32"), (mixed, "float64")):
        first, second = found.double_vjp(tensors, dy, along, EPS)
        results = [*first.values(), *second.values(), *found.hvp(tensors, dy, along, EPS).values()]
        assert {a.dtype for a in results} == {np.dtype(dtype)}


def test_arguments_are_not_changed():
    """What is given is read only."""
    found = oracle(catalog("batch_norm"))
    frozen = {k: np.array(v) for k, v in BATCH_NORM.items()}
    dy, along = {"y": np.ones((3, 2))}, {"x": np.eye(3, 2)}
    for array in (*frozen.values(), *dy.values(), *along.values()):
        array.flags.writeable = False
    assert np.any(found.double_vjp(frozen, dy, along, EPS)[1]["y"])


def call(method="vjp", constants=EPS, cotangents=None, directions=None, **changed):
    """Call a method on a usable point with something changed; None leaves a tensor out."""
    tensors = {k: v for k, v in {**BATCH_NORM, **changed}.items() if v is not None}
    found = oracle(catalog("batch_norm"))
    dy = {"y": np.ones((3, 2))} if cotangents is None else cotangents
    if method == "vjp":
        return found.vjp(tensors, dy, constants)
    return getattr(found, method)(tensors, dy, directions, constants)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gamma": None}, "the tensor 'gamma' is missing, of shape (C)"),
        ({"gama": np.ones(2)}, "'gama' is no tensor of it: did you mean 'gamma'?"),
        ({"gamma": np.ones(3)}, "gamma has the shape (3,), but (C) is (2,), by the other shapes: N=3, C=2"),
        ({"x": np.ones(3)}, "x has the shape (3,), declared (N, C)"),
        ({"x": np.ones((1, 2))}, "N >= 2 does not hold at N=1, C=2"),
        ({"x": np.ones((0, 2))}, "every size is at least 1, but the shapes say N=0"),
        ({"x": "text"}, "x is no array of real numbers: str"),
        ({"x": [[1.0], [1.0, 2.0]]}, "x is no array of real numbers: list"),
        ({"x": np.ones((3, 2), complex)}, "x is no array of real numbers: ndarray"),
        ({"constants": {}}, "the constant 'eps' is missing"),
        ({"constants": {"eps": "1"}}, "the constant eps is a number, not '1'"),
        ({"constants": {"eps": 1, "momentum": 1}}, "'momentum' is no constant of it: "),
        ({"constants": 1e-3}, "the constants are given by name, as a dict, not as float"),
        ({"cotangents": {}}, "the cotangent 'y' is missing, of shape (N, C)"),
        ({"cotangents": {"y": np.ones(2)}}, "the cotangent of y has the shape (2,), but (N, C) is (3, 2)"),
        ({"cotangents": {"x": np.ones(2)}}, "'x' is no cotangent of it: "),
        ({"method": "hvp", "directions": {"y": 1}}, "'y' is no tangent of it: "),
        ({"method": "double_vjp", "directions": {"x": 1.0}}, "the seed of x has the shape ()"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changed, said):
    """A wrong argument is named, with what it should be."""
    with pytest.raises(UsageError) as caught:
        call(**changed)
    assert str(caught.value).startswith(f"oracle of 'batch_norm': {said}")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (np.array([0, 4]), "ids holds 0 to 4, but its range is 0..V-1, here 0 to 3"),
        (np.array([-1, 2]), "ids holds -1 to 2, but its range is 0..V-1, here 0 to 3"),
        (np.array([0.0, 1.0]), "ids holds integers, not float64: use ids.astype(int)"),
    ],
)
def test_integers_that_cannot_be_are_refused(ids, said):
    """Indices out of range would wrap around or raise deep inside."""
    with pytest.raises(UsageError) as caught:
        oracle(catalog("embedding")).forward({"ids": ids, "w": np.ones((4, 2))})
    assert str(caught.value) == f"oracle of 'embedding': {said}"


def test_an_integer_constant_is_an_integer():
    """A stride of 1.5 is refused, and one that NumPy made is taken."""
    found = oracle(catalog("avg_pool2d"))
    x = {"x": np.ones((1, 1, 4, 4))}
    with pytest.raises(UsageError, match=r"the constant S is an integer, not 1\.5"):
        found.forward(x, {"K": 2, "S": 1.5})
    assert found.forward(x, {"K": np.int64(2), "S": np.int64(2)})["y"].shape == (1, 1, 2, 2)


def test_a_size_that_does_not_show_is_refused():
    """A dimension that stands in a product only cannot be told from the shapes."""
    spec = Spec("s", x=Input("N*M"), y=Output("N*M"), definition="y[n] = x[n]")
    with pytest.raises(UsageError, match="the size N does not follow from the shapes of x"):
        oracle(spec).forward({"x": np.ones(4)})


def test_without_a_definition_there_is_no_oracle():
    """A spec that only declares its tensors is refused, and so is what is no spec."""
    with pytest.raises(UsageError, match="the spec 's' has no definition"):
        oracle(Spec("s", x=Input("N"), y=Output("N")))
    with pytest.raises(UsageError, match="give it a Spec, such as"):
        oracle("batch_norm")
