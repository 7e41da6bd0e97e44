"""Diagnosis: what is wrong with a formula is named, and nothing is claimed that is not so."""

import numpy as np
import pytest
from changed import changed, right

from gradverify import Input, Layer, Output, Param, Spec, catalog, verify
from gradverify.diagnose.coefficient import Coefficient, Fraction, Measured, coefficients, sized

linear, softmax, huber = catalog("linear"), catalog("softmax"), catalog("huber")
attention, batch_norm = catalog("attention"), catalog("batch_norm")
DIAGNOSED = ["contract", "symbolic"]


def diagnosed(layer, tensor):
    """Return the kind and the text of what is said of a tensor by the last check that fails."""
    (result,) = verify(layer, checks=DIAGNOSED).layers
    found = [f for f in result.findings if f.tensor == tensor and f.diagnosis]
    return found[-1].kind, found[-1].diagnosis


# -- where it is wrong


@pytest.mark.parametrize(
    ("condition", "kind", "told"),
    [
        (lambda x, w: len(w) % 2 == 1 and len(w) > 1, "size", "where K is odd and not 1"),
        (lambda x, w: len(w) == x.shape[1], "size", "where D = K"),
        (lambda x, w: x.size > 1 and np.all(x == x.flat[0]), "values",
         "where all elements of x are equal"),
        (lambda x, w: w.size > 1 and np.all(w == w.flat[0]), "values",
         "where all elements of w are equal"),
        (lambda x, w: x.size and np.abs(x).max() > 50, "values", "where the largest |x| is "),
    ],
    ids=["odd", "equal sizes", "equal inputs", "equal parameters", "large"],
)  # fmt: skip
def test_a_condition_of_all_failing_cases_is_told(condition, kind, told):
    """What holds in every failing case and in no other, and what is wrong there."""
    spec = Spec(
        "product", x=Input("N D"), w=Param("K D"), y=Output("N K"),
        definition="y[n,k] = sum[d](x[n,d]*w[k,d])",
    )  # fmt: skip

    def layer(x, w):
        def pullback(dy):
            dw = dy.T @ x
            return dy @ w, 2 * dw if condition(x, w) else dw

        return x @ w.T, pullback

    found = diagnosed(Layer(spec, layer), "w")
    assert found[0] == kind
    assert told in found[1]
    assert found[1].endswith("there the gradient of w is 2 times what is derived")


def test_what_few_cases_have_in_common_by_chance_is_not_told():
    """Without a definition a handful of cases is differenced: the layouts of two that pass, since
    a factor of C is 1 there, are not why the others fail."""
    spec = Spec("rms", x=Input("N C"), weight=Param("C"), y=Output("N C"))

    def layer(x, weight):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)

        def pullback(dy):
            g = dy * weight
            return g * r - x * r**3 * (g * x).sum(-1, keepdims=True), (dy * x * r).sum(0)

        return x * r * weight, pullback

    for profile in ("quick", "default"):
        (result,) = verify(Layer(spec, layer), profile=profile, checks=["finite_difference"]).layers
        (found,) = {f.diagnosis for f in result.findings}
        assert found.startswith("unexplained: no factor and no other axis gives it")
        assert found.endswith("in a definition, terms and paths are told apart")


def test_cases_on_kinks_do_not_confuse():
    """At |x - t| = delta another choice is right as well: the constant is told all the same."""

    def layer(x, t, *, delta):
        e = x - t
        loss = np.where(np.abs(e) <= delta, e * e / 2, delta * (np.abs(e) - delta / 2)).mean()
        return loss, lambda dloss: (dloss / e.size * np.clip(e, -1, 1).astype(e.dtype), None)

    assert diagnosed(Layer(huber, layer), "x") == ("constant", "delta is 1 whatever is given")


# -- what is wrong


def test_two_wrong_paths_are_told_together():
    """Batch norm with N-1 in both means: two factors are measured at once."""

    def layer(x, gamma, beta, *, eps):
        n, sigma = len(x), np.sqrt(x.var(axis=0) + eps)
        xhat = (x - x.mean(axis=0)) / sigma
        less = max(n - 1, 1)

        def pullback(dy):
            g = gamma * dy
            across = g.sum(axis=0) / less + 2 * xhat * (g * xhat).mean(axis=0)
            dx = (g - across) / sigma
            return dx.astype(x.dtype), (dy * xhat).sum(axis=0), dy.sum(axis=0)

        return (gamma * xhat + beta).astype(x.dtype), pullback

    kind, told = diagnosed(Layer(batch_norm, layer), "x")
    assert kind in ("count", "factor")
    assert "the path through mu is N/(N-1) times what is derived" in told
    assert "the path through var is 2 times what is derived" in told


def test_eps_outside_the_root_is_told_as_such():
    """The error falls with eps where the gradient does not, and faster where that falls too."""

    def layer(x, gamma, beta, *, eps):
        sigma, std = np.sqrt(x.var(axis=0) + eps), x.std(axis=0) + x.dtype.type(eps)
        xhat = (x - x.mean(axis=0)) / sigma

        def pullback(dy):
            g = gamma * dy
            dx = (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0)) / std
            return dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)

        return gamma * xhat + beta, pullback

    kind, told = diagnosed(Layer(batch_norm, layer), "x")
    assert kind == "eps"
    assert told == "eps is left out or in the wrong place: the error vanishes as eps does"


def test_an_elementwise_derivative_of_what_is_not_elementwise_is_told():
    """y*(1 - y) is the diagonal of softmax's derivative."""

    def layer(x):
        u = np.exp(x - x.max(axis=1, keepdims=True))
        y = u / u.sum(axis=1, keepdims=True)
        return y, lambda dy: y * (1 - y) * dy

    kind, told = diagnosed(Layer(softmax, layer), "x")
    assert kind == "missing path"
    assert "x reaches only its own elements of y" in told


def test_a_matrix_that_is_read_transposed_is_told():
    """w for its transpose, where it is square and no shape shows it."""
    spec = Spec(
        "square", x=Input("N D"), w=Param("D D"), y=Output("N D"),
        definition="y[n,k] = sum[d](x[n,d]*w[d,k])",
    )  # fmt: skip
    wrong = Layer(spec, lambda x, w: (x @ w, lambda dy: (dy @ w, x.T @ dy)))
    kind, told = diagnosed(wrong, "x")
    assert kind == "transposed"
    assert "is read where w[" in told


def test_a_forgotten_root_is_told():
    """Attention's scale left out of a gradient: a factor of the root of a size."""
    wrong = changed("attention", q=lambda g, given: g * np.sqrt(g.shape[-1]).astype(g.dtype))
    kind, told = diagnosed(wrong, "q")
    assert kind == "count"
    assert "is sqrt(D) times what is derived" in told


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_precision_of_a_result_is_read_off_its_digits(dtype):
    """Though rounding is not linear either: a rounded cotangent is no clipped one."""
    wrong = changed("softmax", x=lambda g, given: g.astype(dtype).astype(g.dtype))
    assert diagnosed(wrong, "x") == ("precision", f"x is computed in {dtype}: all its digits fit "
                                                  "in that")  # fmt: skip


# -- in the order of calls


def test_a_random_gradient_is_nondeterministic():
    """And neither stale nor accumulated, though a second call gives another result."""
    rng = np.random.default_rng(0)

    def noisy(g, given):
        return g * (1 + 0.001 * rng.standard_normal(g.shape)).astype(g.dtype)

    (result,) = verify(changed("linear", w=noisy), checks=DIAGNOSED).layers
    assert {f.kind for f in result.findings} == {"nondeterministic"}
    assert {f.question for f in result.findings if f.check == "contract"} == {"repeatable"}


def test_what_is_other_in_every_second_call_is_nondeterministic():
    """A layer that alternates gives the same in every other call: it is asked more often."""
    calls = []
    like = right("linear")

    def layer(**given):
        calls.append(None)
        y, pullback = like.function(**given)
        factor = 1 + len(calls) % 2
        return y, lambda dy: {k: factor * g for k, g in pullback(dy).items()}

    (result,) = verify(Layer(linear, layer), checks=DIAGNOSED).layers
    assert "nondeterministic" in {f.kind for f in result.findings}
    assert "stale" not in {f.kind for f in result.findings}


# -- factors of sizes


@pytest.mark.parametrize(
    ("factor", "at", "value", "written"),
    [
        (Coefficient(Fraction(1), (("D", Fraction(-1, 2)),)), {"D": 16}, 0.25, "1/sqrt(D)"),
        (Coefficient(Fraction(1), (("N", 1),), ("N", -1)), {"N": 3}, 1.5, "N/(N-1)"),
        (Coefficient(Fraction(1), (("N", Fraction(1, 2)),), ("N", Fraction(-1, 2))), {"N": 5},
         np.sqrt(5 / 4), "sqrt(N)/sqrt(N-1)"),
        (Coefficient(Fraction(2), (), ("R", 1)), {"R": 1}, 0.0, "2*(R-1)"),
    ],
)  # fmt: skip
def test_factors_of_sizes_are_computed_and_written(factor, at, value, written):
    """Roots as such; less one is 0 at 1."""
    assert factor.value(at) == pytest.approx(value, rel=1e-15)
    assert str(factor) == written


def test_a_division_by_a_size_less_one_is_nothing_at_one():
    """There it is not known what a layer does."""
    assert np.isnan(Coefficient(Fraction(1), (), ("N", -1)).value({"N": 1}))
    assert any(str(c) == "1/sqrt(D)" for c in sized({"D": 4}, ["D"]))


def test_a_factor_of_one_explains_nothing():
    """What is off by little is told by how much, if by anything, and not as 1 times the derived."""
    assert list(coefficients([Measured({}, 1 + 1e-9, 2e-5)], [])) == []
    measured = [Measured({}, 1 + 8.8e-6, 2e-5), Measured({}, 1 + 9.1e-6, 2e-5)]
    assert [str(c) for c in coefficients(measured, [])] == ["1.00001"]
    assert [str(c) for c in coefficients([Measured({}, 1.001, 2e-5)], [])] == ["1.001"]
