"""The 50-digit interpreter: the compiled oracle rounds around it, and zero is zero there."""

import mpmath
import numpy as np
import pytest
from torch_layers import SPECS, by_oracle, draw, exactly, largest, oracle

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.calculus.exact import DIGITS, cost, evaluate_exactly
from gradverify.calculus.point import Point

# A scalar at a time, and fifty digits each: enough for the small sizes that show everything.
MAX_COST = 1_000


def points(spec, seed=0):
    """Yield points at small sizes, for every combination of constants."""
    rng = np.random.default_rng(seed)
    for constants in spec.constant_choices:
        for preferred in (1, 2, 3):
            sizes = {
                **constants,
                **next(spec.sizes(constants, dict.fromkeys(spec.dims, preferred))),
            }
            if cost(oracle(spec).derivation, sizes) <= MAX_COST:
                yield draw(spec, sizes, rng)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_compiled_oracle_rounds_around_the_exact_value(name):
    """Outputs and gradients of the catalogue are the exact ones to 1e-13 of their terms."""
    spec, seen = SPECS[name], 0
    for point in points(spec):
        exact, got = exactly(spec, point), by_oracle(spec, point)
        for y, expected in zip(got.outputs, exact.outputs, strict=True):
            assert y.shape == expected.shape
            assert largest(y - expected) <= 1e-13 * max(largest(expected), 1e-300)
        assert list(got.gradients) == list(exact.gradients)
        for k, gradient in got.gradients.items():
            difference = largest(gradient - exact.gradients[k])
            assert difference <= 1e-13 * largest(exact.magnitudes[k])
        seen += 1
    assert seen >= len(spec.constant_choices)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_magnitudes_bound_the_gradient(name):
    """Terms added up by their absolute values are never smaller than their sum."""
    spec = SPECS[name]
    point = next(points(spec))
    exact = exactly(spec, point)
    for k, gradient in exact.gradients.items():
        pairs = zip(gradient.ravel(), exact.magnitudes[k].ravel(), strict=True)
        assert all(abs(g) <= m for g, m in pairs)


def test_a_redundant_gradient_is_zero():
    """A bias before batch norm has gradient zero: to 1e-40 here, to a rounding error in float64."""
    spec = SPECS["linear_batch_norm"]
    for point in points(spec):
        exact = exactly(spec, point)
        assert max(abs(g) for g in exact.gradients["b"]) < mpmath.mpf("1e-40")
        assert min(exact.magnitudes["b"]) > 1e-3
        assert largest(by_oracle(spec, point).gradients["b"]) < 1e-12
        assert largest(exact.gradients["gamma"]) > 1e-3


def test_results_have_fifty_digits():
    """1/3 is a third to fifty digits, and a float that is given is the exact number it is."""
    spec = Spec("s", x=Input("N"), y=Output("N"), definition="y[n] = x[n]/3 + 0.1")
    exact = evaluate_exactly(
        oracle(spec).derivation, Point({"x": np.ones(1)}, {}, {"N": 1}), [np.ones(1)]
    )
    with mpmath.workdps(DIGITS + 10):
        third = mpmath.mpf(1) / 3
        assert abs(exact.gradients["x"][0] - third) < mpmath.mpf(10) ** (1 - DIGITS)
        assert abs(exact.outputs[0][0] - third - mpmath.mpf(0.1)) < mpmath.mpf(10) ** (1 - DIGITS)


def test_the_precision_of_others_is_left_alone():
    """The interpreter has a context of its own: mpmath's global precision does not change."""
    before = mpmath.mp.dps
    spec = SPECS["relu"]
    exactly(spec, next(points(spec)))
    assert mpmath.mp.dps == before


def test_what_is_no_number_in_an_untaken_branch_is_harmless():
    """1/0, log(0) and sqrt(-1) may stand in a branch that is not selected."""
    spec = Spec(
        "s", x=Input("N C"), y=Output("N"),
        definition="""
            y[n] = where(x[n,0] > 0, sum[c](sqrt(x[n,c]) + log(x[n,c]) + 1/x[n,c]), 2)
        """,
    )  # fmt: skip
    for value in (0.0, -1.0):
        x = np.full((2, 3), value)
        exact = evaluate_exactly(
            oracle(spec).derivation, Point({"x": x}, {}, {"N": 2, "C": 3}), [np.ones(2)]
        )
        assert list(exact.outputs[0]) == [2, 2]
        assert largest(exact.gradients["x"]) == 0


def test_ties_go_to_the_first_as_in_numpy():
    """The interpreter and the compiled source pick the same of equal largest elements."""
    spec = Spec("s", x=Input("N C"), y=Output("N"), definition="y[n] = max[c](x[n,c])")
    x = np.array([[1.0, 3.0, 3.0]])
    point = Point({"x": x}, {}, {"N": 1, "C": 3})
    exact = evaluate_exactly(oracle(spec).derivation, point, [np.ones(1)])
    _, pullback = oracle(spec).run(point)
    np.testing.assert_array_equal(exact.gradients["x"].astype(float), pullback(np.ones(1))["x"])


def test_maxima_that_are_scattered_add_up():
    """`+=` of maxima adds them, in the interpreter as in the compiled source."""
    spec = Spec(
        "s", x=Input("N C"), ids=Input("N", dtype=int, range="0..V-1"), v=Param("V"),
        y=Output("V"),
        definition="y[ids[n]] += max[c](x[n,c])",
    )  # fmt: skip
    x, ids = np.array([[1.0, 2.0], [5.0, 3.0], [7.0, 8.0]]), np.array([0, 0, 1])
    point = Point({"x": x, "ids": ids, "v": np.zeros(2)}, {}, {"N": 3, "C": 2, "V": 2})
    exact = evaluate_exactly(oracle(spec).derivation, point, [np.array([1.0, 10.0])])
    outputs, pullback = oracle(spec).run(point)
    np.testing.assert_array_equal(outputs[0], [7, 8])
    np.testing.assert_array_equal(exact.outputs[0].astype(float), [7, 8])
    gradient = [[0, 1], [1, 0], [0, 10]]
    np.testing.assert_array_equal(exact.gradients["x"].astype(float), gradient)
    np.testing.assert_array_equal(pullback(np.array([1.0, 10.0]))["x"], gradient)


def test_functions_are_those_of_the_compiled_source():
    """Every function has the same value and derivative in 50 digits as in float64, to 1e-13."""
    bodies = ("logaddexp(x[n], w[n])", "erfc(x[n])", "gelu(x[n])", "silu(x[n])", "tan(x[n])",
              "atan(x[n])", "sinh(x[n])", "cosh(x[n])", "gamma(w[n])", "lgamma(w[n])",
              "digamma(w[n])", "polygamma(3, w[n])", "lgamma(0.2 - w[n])")  # fmt: skip
    for body in bodies:
        spec = Spec("s", x=Input("N"), w=Input("N", range="0.3..4"), y=Output("N"),
                    definition=f"y[n] = x[n]*{body}")  # fmt: skip
        point = draw(spec, {"N": 4}, np.random.default_rng(0))
        exact, got = exactly(spec, point), by_oracle(spec, point)
        assert largest(got.outputs[0] - exact.outputs[0]) <= 1e-13 * largest(exact.outputs[0])
        for k, gradient in got.gradients.items():
            scale = max(largest(exact.magnitudes[k]), 1e-300)
            assert largest(gradient - exact.gradients[k]) <= 1e-13 * scale


def test_products_and_bounds_are_those_of_the_compiled_source():
    """Products, also with zeros and scattered, and cumulative reductions agree to 1e-13."""
    definitions = ("y[ids[n]] += prod[c](x[n,c])", "y[n] = prod[m,c](x[m,c]) + 0*ids[n]",
                   "y[n] = sum[m<=n](prod[c](x[m,c])) + 0*ids[n]",
                   "y[n] = prod[c,m<=n](x[m,c]) + max[c>0,m!=n](x[m,c]) + 0*ids[n]",
                   "y[n] = logsumexp[m<=n](x[m,1]) + var[c](x[n,c]) + 0*ids[n]")  # fmt: skip
    for definition in definitions:
        spec = Spec("s", x=Input("N C"), ids=Input("N", dtype=int, range="0..N-1"),
                    y=Output("N"), definition=definition, where=["N >= 2", "C >= 2"])  # fmt: skip
        point = draw(spec, {"N": 3, "C": 3}, np.random.default_rng(1))
        for zeros in range(3):
            point.tensors["x"][0, :zeros] = 0
            exact, got = exactly(spec, point), by_oracle(spec, point)
            assert largest(got.outputs[0] - exact.outputs[0]) <= 1e-13 * largest(exact.outputs[0])
            difference = largest(got.gradients["x"] - exact.gradients["x"])
            assert difference <= 1e-13 * largest(exact.magnitudes["x"])


def test_cost_counts_the_terms():
    """The cost of one evaluation is its scalar terms: forward and vjp of a product, N*C each."""
    spec = Spec("s", x=Input("N C"), w=Param("C"), y=Output("N C"), k=Constant(2),
                definition="y[n,c] = x[n,c]*w[c]")  # fmt: skip
    assert cost(oracle(spec).derivation, {"N": 3, "C": 5}) == 3 * 15
