"""Any number of dimensions for `*B`, and tensors given with size 1 where `N|1` is declared."""

import numpy as np
import pytest

from gradverify import Input, Layer, Output, Param, Part, Spec, UsageError, Verdict, catalog, verify
from gradverify.calculus.compile import ABSOLUTE, NOISE, Oracle
from gradverify.calculus.noise import Noise
from gradverify.calculus.point import Point
from gradverify.calculus.show import emit
from gradverify.cases import parse_case
from gradverify.derivatives import oracle
from gradverify.trial import Trial, make_oracle
from gradverify.view import View, factored, flattened, forms, seen

LINEAR, FILM = catalog("linear_any"), catalog("film")
tanh = np.tanh  # a layer of MIXED has an argument called np
RANKS = [(), (4,), (2, 3), (2, 1, 3)]

# Marks in the middle and in one tensor, a tensor that may be 1 in two ways, integers, two outputs,
# and names that the printed code needs for itself.
MIXED = Spec(
    "mixed",
    x=Input("A *B D"),
    sum_to=Param("*B D|1"),
    np=Input("A|1 *B D|1"),
    k=Input("*B", dtype=int, range="0..3"),
    y=Output("*B"),
    z=Output("D A"),
    definition="""
        y[b]   = sum[a,d](x[a,b,d]*sum_to[b,d]*np[a,b,d]) + k[b]
        z[d,a] = sum[b](tanh(x[a,b,d]*np[a,b,d])) + sum[b](y[b])
    """,
)


def point(leading, sizes=(5, 4), seed=0):
    """Return tensors, cotangents and tangents of MIXED, `sizes` being what np has for A and D."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (5, *leading, 4), "sum_to": (*leading, sizes[1]),
              "np": (sizes[0], *leading, sizes[1])}  # fmt: skip
    tensors = {k: rng.standard_normal(s) for k, s in shapes.items()}
    tensors["k"] = rng.integers(0, 4, leading)
    cotangents = {"y": rng.standard_normal(leading), "z": rng.standard_normal((4, 5))}
    return tensors, cotangents, {k: rng.standard_normal(s) for k, s in shapes.items()}


def full(leading, tensors):
    """Return the tensors of MIXED at their full sizes, flattened."""
    wide = {"x": (5, *leading, 4), "sum_to": (*leading, 4), "np": (5, *leading, 4), "k": leading}
    flat = {"x": (5, -1, 4), "sum_to": (-1, 4), "np": (5, -1, 4), "k": (-1,)}
    return {k: np.broadcast_to(v, wide[k]).reshape(flat[k]) for k, v in tensors.items()}


# -- both ways


def test_a_view_goes_both_ways():
    """Tensors are flattened and expanded for the definition, gradients summed and unflattened."""
    view = View(MIXED, {"A": 2, "B": 6, "D": 3}, {"B": (2, 3)}, {"np": (0, 2), "sum_to": (1,)})
    assert view.shape("x") == (2, 2, 3, 3)
    assert view.shape("np") == (1, 2, 3, 1)
    assert view.shape("y") == (2, 3)
    given = {"np": np.arange(6.0).reshape(1, 2, 3, 1)}
    wide = view.to_definition(given)["np"]
    assert np.array_equal(wide, np.arange(6.0)[None, :, None] * np.ones((2, 6, 3)))
    assert np.array_equal(view.to_layer({"np": wide})["np"], 6 * given["np"])
    assert view.to_layer({"y": np.arange(6)})["y"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_spec_without_marks_is_left_alone():
    """Its arrays and its oracle are the very same objects."""
    view, x = View(catalog("relu"), {"N": 2, "C": 3}, {}, {}), np.ones((2, 3))
    own = make_oracle(catalog("relu"))
    assert view.to_definition({"x": x})["x"] is view.to_layer({"x": x})["x"] is x
    assert seen(own, view) is own


def test_the_shapes_that_a_tensor_may_be_given_in():
    """Every choice of axes of size 1 is one, the full shape first."""
    assert forms(MIXED) == {
        "sum_to": {"B,D": (), "B,1": (1,)},
        "np": {"A,B,D": (), "A,B,1": (2,), "1,B,D": (0,), "1,B,1": (0, 2)},
    }


@pytest.mark.parametrize("leading", RANKS)
def test_what_stands_for_a_star_is_read_off(leading):
    """In front, behind and in between, for all tensors the same."""
    tensors, _, _ = point(leading)
    found, flat = flattened(MIXED, tensors)
    assert found == {"B": leading}
    for name, value in full(leading, tensors).items():
        assert np.array_equal(flat[name], value)


def test_sizes_are_made_of_unequal_dimensions():
    """A product is split as evenly as it goes; nothing but 1 is made of no dimension."""
    assert [factored(6, rank) for rank in range(4)] == [(6,), (6,), (2, 3), (2, 1, 3)]
    assert [factored(1, rank) for rank in range(3)] == [(), (1,), (1, 1)]
    assert factored(7, 2) == (1, 7)


# -- the derivatives


@pytest.mark.parametrize("sizes", [(5, 4), (1, 4), (5, 1), (1, 1)])
@pytest.mark.parametrize("leading", RANKS)
def test_derivatives_are_those_of_the_full_tensors(leading, sizes):
    """All of first and second order are what the chain rule makes of the definition's."""
    tensors, dy, v = point(leading, sizes)
    mine, plain = oracle(MIXED), make_oracle(MIXED)
    at = {"A": 5, "B": int(np.prod(leading)), "D": 4}
    outputs, pullback = plain.run(Point(full(leading, tensors), {}, at))
    gradients = mine.vjp(tensors, dy)
    for name, expected in zip("yz", outputs, strict=True):
        np.testing.assert_array_equal(mine.forward(tensors)[name], expected.reshape(dy[name].shape))
    for name, expected in pullback(dy["y"].reshape(-1), dy["z"]).items():
        assert gradients[name].shape == tensors[name].shape
        wide = expected.reshape(full_shape := (*expected.shape[:-2], *leading, 4))
        axes = tuple(k for k, n in enumerate(full_shape) if tensors[name].shape[k] != n)
        np.testing.assert_allclose(gradients[name], wide.sum(axes, keepdims=True), 1e-12, 1e-12)
    tangents, curvature = mine.jvp(tensors, v), mine.hvp(tensors, dy, v)
    seeds, of_cotangents = mine.double_vjp(tensors, dy, v)
    forward = sum(np.sum(tangents[k] * dy[k]) for k in dy)
    assert forward == pytest.approx(sum(np.sum(gradients[k] * v[k]) for k in v), 1e-12)
    for name in v:  # the Hessian is symmetric
        np.testing.assert_allclose(seeds[name], curvature[name], 1e-12, 1e-12)
    for name in dy:
        np.testing.assert_allclose(of_cotangents[name], tangents[name], 1e-12, 1e-12)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sum_to": np.ones(())}, "sum_to has the shape (), declared (*B, D|1)"),
        ({"sum_to": np.ones((2, 4))}, "sum_to has the shape (2, 4), but (*B, D|1) is (2, 3, 4)"),
        ({"np": np.ones((2, 2, 3, 4))},
         "np has the shape (2, 2, 3, 4), but (A|1, *B, D|1) is (5, 2, 3, 4), by the other shapes"),
        ({"k": np.ones((3, 2), int)}, "k has the shape (3, 2), but (*B) is (2, 3)"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_told(changed, said):
    """The declared shape is shown with its marks, and what it is by the other tensors."""
    tensors, _, _ = point((2, 3))
    with pytest.raises(UsageError) as error:
        oracle(MIXED).forward(tensors | changed)
    assert said in str(error.value)


# -- what is allowed


def test_a_sum_over_an_axis_is_perturbed_like_any_other():
    """Random rounding and absolute terms of a summed gradient are those of the same definition
    with a tensor that has no such axis."""
    x, dy = np.random.default_rng(1).standard_normal((2, 500, 3))
    whole = Spec("whole", x=Input("N C"), g=Input("N|1 C"), y=Output("N C"),
                 definition="y[n,c] = x[n,c]*g[n,c]")  # fmt: skip
    shared = Spec("shared", x=Input("N C"), g=Input("C"), y=Output("N C"),
                  definition="y[n,c] = x[n,c]*g[c]")  # fmt: skip
    at = {"N": 500, "C": 3}
    one = seen(make_oracle(whole), View(whole, at, {}, {"g": (0,)}))
    tensors = [{"x": x, "g": np.ones((1, 3))}, {"x": x, "g": np.ones(3)}]
    spreads = []
    for run, given in zip((one.run, make_oracle(shared).run), tensors, strict=True):
        _, absolute = run(Point(given, {}, at), ABSOLUTE)
        np.testing.assert_allclose(absolute(dy)["g"].ravel(), np.abs(x * dy).sum(axis=0), 1e-12)
        noise = Noise(1e-6, np.random.default_rng(2))
        drawn = [
            run(Point(given, {}, at), NOISE, noise=noise)[1](dy)["g"].ravel() for _ in range(200)
        ]
        spreads.append(np.std(drawn, axis=0))
    np.testing.assert_allclose(spreads[0], spreads[1], rtol=0.3)


def test_exact_results_have_the_shapes_of_the_layer():
    """50-digit gradients are summed and unflattened as the oracle's are."""
    line = ("A=2 B=(2,3) D=3 sum_to=B,1 np=1,B,D dtype=float64 layout=C values=ordinary "
            "cotangent=signed seed=1")  # fmt: skip
    trial = Trial(Layer(MIXED, lambda **_: None), parse_case(line, MIXED), make_oracle(MIXED))
    reference = trial.reference
    for name, gradient in reference.gradients.items():
        assert gradient.shape == trial.arrays.tensors[name].shape
        exact = trial.exact.gradients[name].astype(float)
        np.testing.assert_allclose(gradient, exact, 1e-12, 1e-12)
        assert np.all(trial.exact.magnitudes[name] >= abs(trial.exact.gradients[name]))
    for name, own in zip("yz", trial.exact.outputs, strict=True):
        np.testing.assert_allclose(reference.outputs[name], own.astype(float), 1e-12, 1e-12)


# -- the source that is printed

FILM_SOURCE = '''import numpy as np


def sum_to(a, shape):
    """`a` summed over the axes that have size 1 in `shape`."""
    axes = tuple(k for k, n in enumerate(shape) if n == 1)
    return a.sum(axis=axes, keepdims=True)


def film(x, gamma, beta):
    gamma_shape = gamma.shape
    beta_shape = beta.shape
    N, C, H, W = x.shape
    dtype = x.dtype
    gamma = np.broadcast_to(gamma, (N, C))
    beta = np.broadcast_to(beta, (N, C))
    y = beta[:, :, None, None] + gamma[:, :, None, None]*x

    def pullback(dy):
        dbeta = dy.sum(axis=(2, 3))
        dx = dy*gamma[:, :, None, None]
        dgamma = (dy*x).sum(axis=(2, 3))
        return {"x": dx, "gamma": sum_to(dgamma, gamma_shape), "beta": sum_to(dbeta, beta_shape)}

    return y, pullback
'''

LINEAR_SOURCE = """import numpy as np


def linear_any(x, w, b):
    x_shape = x.shape
    N_shape = x_shape[:-1]
    x = x.reshape(-1, *x_shape[-1:])
    N, D = x.shape
    K, _ = w.shape
    dtype = x.dtype
    y = np.einsum("kd,nd->nk", w, x)
    y = y + b

    def pullback(dy):
        dy = dy.reshape((N, K))
        db = dy.sum(axis=0)
        dw = np.einsum("nk,nd->kd", dy, x)
        dx = np.einsum("nk,kd->nd", dy, w)
        return {"x": dx.reshape(x_shape), "w": dw, "b": db}

    return y.reshape((*N_shape, K)), pullback
"""


@pytest.mark.parametrize(("spec", "source"), [(LINEAR, LINEAR_SOURCE), (FILM, FILM_SOURCE)])
def test_the_printed_source(spec, source):
    """It flattens and expands at the top, and gives back the shapes that it got."""
    assert emit(Oracle(spec.program, spec.differentiable), "numpy", spec.name) == source


@pytest.mark.parametrize("leading", RANKS)
def test_the_printed_source_is_a_layer_of_any_rank(leading):
    """Printed for stars in the middle and tensors that may be 1, it agrees with the oracle."""
    tensors, dy, _ = point(leading, (1, 1))
    namespace = {}
    exec(emit(Oracle(MIXED.program, MIXED.differentiable), "numpy", "mixed"), namespace)
    outputs, pullback = namespace["mixed"](**tensors)
    for got, expected in zip(outputs, oracle(MIXED).forward(tensors).values(), strict=True):
        np.testing.assert_array_equal(got, expected)
    gradients, expected = pullback(*dy.values()), oracle(MIXED).vjp(tensors, dy)
    for name in expected:
        assert gradients[name].shape == tensors[name].shape
        np.testing.assert_allclose(gradients[name], expected[name], 1e-12, 1e-12)


# -- from end to end


def mixed(x, sum_to, np, k):
    y = (x * sum_to * np).sum(axis=(0, -1)) + k.astype(x.dtype)
    t = tanh(x * np)
    axes = tuple(range(1, x.ndim - 1))

    def pullback(dy, dz):
        total = dy + dz.sum()
        slope = dz.T.reshape(len(x), *[1] * len(axes), -1) * (1 - t**2)
        found = {
            "x": slope * np + total[..., None] * sum_to * np,
            "sum_to": (total[..., None] * x * np).sum(axis=0),
            "np": slope * x + total[..., None] * sum_to * x,
        }
        given = {"x": x.shape, "sum_to": sum_to.shape, "np": np.shape}
        return {k: as_given(g, given[k]) for k, g in found.items()}

    return (y, t.sum(axis=axes).T + y.sum()), pullback


def as_given(gradient, shape):
    axes = tuple(k for k, n in enumerate(shape) if n != gradient.shape[k])
    return gradient.sum(axis=axes, keepdims=True)


def test_a_layer_of_any_rank_is_verified():
    """By all checks: with stars in the middle, axes of size 1, integers and two outputs."""
    (result,) = verify(Layer(MIXED, mixed)).layers
    assert result.verdict is Verdict.VERIFIED, result.findings


def test_a_layer_that_forgets_to_sum_is_failed_in_a_case_that_replays():
    """The finding's case says how the tensors were given, and fails again when read back."""

    def forgets(**tensors):
        outputs, pullback = mixed(**tensors)

        def wrong(dy, dz):
            found = pullback(dy, dz)
            return found | {"np": found["np"] / (len(dz.T) if len(tensors["np"]) == 1 else 1)}

        return outputs, wrong

    layer = Layer(MIXED, forgets)
    findings = [f for f in verify(layer).findings if f.check == "symbolic"]
    assert {f.tensor for f in findings} == {"np"}
    case = parse_case(findings[0].case, MIXED)
    assert dict(case.shapes)["np"].startswith("1,B")
    trial = Trial(layer, case, make_oracle(MIXED))
    reference = trial.reference
    worst = np.max(np.abs(trial.gradients["np"] - reference.gradients["np"]))
    assert worst > reference.allowed_gradients["np"].value


def test_without_a_definition_a_layer_sees_the_same_shapes():
    """Contract and finite differences need no definition to draw any number of dimensions."""
    spec = Spec("free", x=Input("*B D"), b=Param("D|1"), y=Output("*B D"))

    def shift(x, b):
        def pullback(dy):
            rows = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
            return {"x": dy, "b": rows if b.shape == rows.shape else rows.sum(keepdims=True)}

        return x + b, pullback

    (result,) = verify(Layer(spec, shift)).layers
    assert result.verdict is Verdict.VERIFIED, result.findings


def test_a_chain_keeps_any_number_of_dimensions():
    """What its first spec takes in any number of dimensions, the chain takes and gives back."""
    mlp = Spec.chain("mlp", fc1=LINEAR, act=catalog("relu"), fc2=Part(LINEAR, K="M"))
    assert (mlp.shape_text("x"), mlp.shape_text("y")) == ("(*N, D)", "(*N, M)")
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 4), "fc1_w": (5, 4), "fc1_b": (5,), "fc2_w": (2, 5), "fc2_b": (2,)}
    at = {k: rng.standard_normal(s) for k, s in shapes.items()}
    hidden = np.maximum(at["x"] @ at["fc1_w"].T + at["fc1_b"], 0)
    expected = hidden @ at["fc2_w"].T + at["fc2_b"]
    np.testing.assert_allclose(oracle(mlp).forward(at)["y"], expected, 1e-12)


def test_a_chain_keeps_what_may_be_1():
    """Further inputs of its specs may be of size 1 as before."""
    twice = Spec.chain("twice", a=FILM, b=FILM)
    assert twice.shape_text("b_gamma") == "(N|1, C)"
