"""The derived vjp and jvp are torch's, for the catalogue and for recurrences over time."""

import math
import sys

import mpmath
import numpy as np
import pytest
import sympy
from definitions import LSTM, NAMES, NOWHERE_SINGULAR, RNN, recurrences, spec_of
from torch_layers import (
    SPECS,
    assert_agree,
    by_oracle,
    by_torch,
    draw,
    exactly,
    forwards,
    oracle,
    pairing,
)

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.calculus.compile import Oracle
from gradverify.calculus.point import Point
from gradverify.errors import SpecError
from gradverify.notation.schedule import Block
from gradverify.notation.tree import text


def points(spec, seed, draws=2):
    """Yield points at every combination of constants: random sizes, and all sizes 1 (or least)."""
    rng = np.random.default_rng(seed)
    for constants in spec.constant_choices:
        preferences = [dict.fromkeys(spec.dims, 1)]
        preferences += [{d: int(rng.integers(1, 7)) for d in spec.dims} for _ in range(draws)]
        for preferred in preferences:
            sizes = next(spec.sizes(constants, preferred))
            yield draw(spec, {**constants, **sizes}, rng)


# -- the catalogue


def test_torch_knows_the_whole_catalogue():
    """Every spec of the catalogue has a forward in torch to be compared with, and no other has."""
    assert forwards().keys() == SPECS.keys()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_catalogue_agrees_with_torch(name):
    """Outputs, gradients and tangents are torch's to 1e-12 at any sizes and constants."""
    spec, forward = SPECS[name], forwards()[name]
    for point in points(spec, seed=1):
        assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_catalogue_in_float32_stays_float32(name):
    """float32 in is float32 out, for every result, and agrees to 1e-4."""
    spec, forward = SPECS[name], forwards()[name]
    for point in points(spec, seed=2, draws=1):
        single = point.astype("float32")
        got = by_oracle(spec, single)
        assert {a.dtype for _, a in got.parts()} == {np.dtype("float32")}
        # The same rounded numbers in double precision: float32 is not to be compared to itself.
        exact = by_torch(forward, spec, single.astype("float64"))
        assert_agree(spec, single, got, exact, 1e-4)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_vjp_and_jvp_are_transposes(name):
    """<dy, J v> is <J^T dy, v>: forward and reverse mode are derived from the same derivatives."""
    spec = SPECS[name]
    for point in points(spec, seed=3, draws=1):
        got = by_oracle(spec, point)
        forward = [a * b for a, b in zip(point.cotangents, got.tangents, strict=True)]
        reverse = [got.gradients[k] * point.tangents[k] for k in spec.differentiable]
        size = max(np.abs(p).sum() for p in (*forward, *reverse))
        difference = abs(sum(map(np.sum, forward)) - sum(map(np.sum, reverse)))
        if difference > 1e-12 * size:  # the gradients' own terms may cancel, as those of a length
            size = pairing(point, exactly(spec, point).magnitudes)
        assert difference <= 1e-12 * size


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_a_cell_called_over_time_agrees_with_torch(steps):
    """An LSTM that is its cell mapped over time is torch's at any number of steps."""
    spec, rng = SPECS["lstm"], np.random.default_rng(steps)
    point = draw(spec, {"T": steps, "N": 2, "D": 3, "H": 4}, rng)
    expected = by_torch(forwards()["lstm"], spec, point)
    assert_agree(spec, point, by_oracle(spec, point), expected, 1e-12)


# -- recurrences


@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("which", range(len(NAMES)), ids=NAMES)
def test_recurrences_agree_with_torch(which, T):
    """A recurrence over a symbolic time axis is torch's unrolled one, for any T."""
    spec, forward = recurrences()[which]
    rng = np.random.default_rng(T)
    for rest in (1, 2, 3):
        sizes = {**dict.fromkeys(spec.dims, rest), "T": T}
        point = draw(spec, sizes, rng)
        assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)


@pytest.mark.parametrize("T", [1, 2, 7, 50])
@pytest.mark.parametrize("name", ["gru", "rnn"])
def test_the_catalogues_recurrences_agree_with_torch(name, T):
    """The symbolic time axis holds for one step, and for the fifty that no other test takes."""
    spec, forward = SPECS[name], forwards()[name]
    point = draw(spec, {"T": T, "N": 2, "D": 3, "H": 4}, np.random.default_rng(T))
    assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)


def test_a_recurrence_runs_backwards_in_its_vjp():
    """Statements that read each other over time are one block, reversed by the vjp."""
    derivation = oracle(LSTM).derivation
    (block,) = (e for e in derivation.forward if isinstance(e, Block))
    assert {s.target for s in block.steps} == {"sum2", "z", "i", "f", "g", "o", "c", "h"} - {"sum2"}
    (back,) = (e for e in derivation.vjp if isinstance(e, Block))
    assert {s.target for s in back.steps} >= {"dc", "dh", "dz"}
    source = oracle(LSTM).source("lstm")
    assert source.index("for t in range(T):") < source.index("for t in reversed(range(T)):")


@pytest.mark.parametrize(
    "definition",
    [
        "y[n] = y[n] + x[n]",
        "y[n] = h[n]\nh[n] = y[n]*x[n]",
        "h[-1] = 0\nh[N] = 0\nh[n] = h[n-1]*h[n+1] + x[n]\ny[n] = h[n]",
        "h[-1,-1] = 0\nh[-1,m] = 0\nh[n,-1] = 0\nh[n,m] = h[n-1,m] + h[n,m-1]\ny[n] = h[n,0]",
    ],
)
def test_a_circle_that_no_index_orders_is_refused(definition):
    """What reads its own present, past and future, or two pasts is refused, and it says so."""
    ranges = {"n": "N", "m": "N"}
    spec = Spec("s", x=Input("N"), y=Output("N"), ranges=ranges, definition=definition)
    with pytest.raises(SpecError, match="depend on each other in a circle, and no index orders it"):
        oracle(spec).source("s")


# -- what is derived


def steps(order):
    return [s for e in order for s in (e.steps if isinstance(e, Block) else (e,))]


def derived(spec):
    """Return one line a step of the vjp."""
    return [
        f"{s.target}[{','.join(map(text, s.subscripts))}] += {s.value}"
        for s in steps(oracle(spec).derivation.vjp)
    ]


def test_gather_and_scatter_swap():
    """The vjp adds to the place that the forward read, over the same loops."""
    spec = spec_of("y[n,c] = x[n,ids[n]]*w[c]", ids=Input("N", dtype=int, range="0..C-1"))
    assert sorted(derived(spec)) == [
        "dw[c] += dy[n,c]*x[n,ids[n]]",
        "dx[n,ids[n]] += dy[n,c]*w[c]",
    ]


def test_a_derivative_is_written_by_the_value_where_it_can():
    """d sqrt(v) is 1/(2 sigma): the forward's own value is used again."""
    (line, *_) = (x for x in derived(SPECS["batch_norm"]) if x.startswith("dvar"))
    assert line == "dvar[c] += dsigma[c]/(2*sigma[c])"


def test_the_value_of_a_sum_of_statements_is_not_that_of_one_of_them():
    """Where several statements make up a tensor, its value stands in no derivative of theirs."""
    spec = spec_of("y[n,c] = sum[k](w[k]) + tanh(x[n,c])")
    assert "dx[n,c] += dy[n,c]*(1 - tanh(x[n,c])**2)" in derived(spec)
    spec = spec_of("y[n] += exp(x[n,0])\ny[n] += w[0]", y=Output("N"))
    assert "dx[n,0] += dy[n]*exp(x[n,0])" in derived(spec)


def test_only_what_lies_between_has_a_cotangent():
    """Tensors that no gradient flows through have neither cotangent nor tangent."""
    spec = spec_of(
        "a[c] = ids[c]*2\nb[n] = stop_gradient(x[n,0])\ny[n,c] = x[n,c]*a[c]*b[n]\nh[n] = b[n]",
        ids=Input("C", dtype=int, range="0..3"),
    )
    derivation = oracle(spec).derivation
    assert derivation.cotangents == {"x": "dx", "y": "dy"}
    assert derivation.tangents == {"x": "x_dot", "y": "y_dot"}


def test_names_that_are_taken_are_not_used_for_cotangents():
    """A parameter called dx stays what it is; the cotangent of x gets another name."""
    spec = spec_of("y[n,c] = x[n,c]*dx[c]*x_dot[c]*m_pick[c] + exp(max[k](x[n,k]))",
                   dx=Param("C"), x_dot=Param("C"), m_pick=Param("C"))  # fmt: skip
    derivation = oracle(spec).derivation
    assert derivation.cotangents["x"] == "dx_"
    assert derivation.tangents["x"] == "x_dot_"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x[n,c]/(1 - 1)", "y is a real number nowhere"),
        ("sqrt(-1)*x[n,c]", "y is a real number nowhere"),
        ("log(-2)", "y is a real number nowhere"),
        ("inf - inf + x[n,c]", "y is a real number nowhere"),
    ],
)
def test_what_is_a_number_nowhere_is_refused(body, said):
    """An equation that no tensors make a real number is an error of the spec."""
    with pytest.raises(SpecError, match=said):
        _ = oracle(spec_of(f"y[n,c] = {body}")).derivation


def test_a_step_function_has_derivative_zero():
    """Quotients and remainders of values are constant between their steps."""
    spec = spec_of("y[n,c] = (3*x[n,c]//2)*w[c] + x[n,c] % 2")
    rng = np.random.default_rng(0)
    point = draw(spec, {"N": 3, "C": 2}, rng)
    got = by_oracle(spec, point)
    x, w = point.tensors["x"], point.tensors["w"]
    np.testing.assert_allclose(got.outputs[0], (3 * x // 2) * w + x % 2, rtol=1e-14)
    np.testing.assert_array_equal(got.gradients["x"], point.cotangents[0])


# -- functions

RANGED = {"x": Input("N C"), "w": Param("C", range="0.2..4")}


def torch_functions():
    """Return, by the text of a body, the same in torch."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - as everyone calls it

    return {
        "logaddexp(x[n,c], w[c])": lambda x, w: torch.logaddexp(x, w),
        "erfc(x[n,c])*w[c]": lambda x, w: torch.erfc(x) * w,
        "gelu(x[n,c])*w[c]": lambda x, w: F.gelu(x) * w,
        "silu(x[n,c])*w[c]": lambda x, w: F.silu(x) * w,
        "tan(x[n,c]/3) + atan(x[n,c]*w[c])": lambda x, w: (x / 3).tan() + (x * w).atan(),
        "sinh(x[n,c]) + cosh(x[n,c]*w[c])": lambda x, w: x.sinh() + (x * w).cosh(),
        "x[n,c]*gamma(w[c])": lambda x, w: x * torch.lgamma(w).exp(),
        "x[n,c]*lgamma(w[c])": lambda x, w: x * torch.lgamma(w),
        "x[n,c]*digamma(w[c])": lambda x, w: x * torch.digamma(w),
        "x[n,c]*polygamma(2, w[c])": lambda x, w: x * torch.polygamma(2, w),
    }  # fmt: skip


@pytest.mark.parametrize("body", sorted(torch_functions()))
def test_functions_agree_with_torch(body):
    """Every function of the language has torch's value and derivative, to 1e-12."""
    spec, forward = spec_of(f"y[n,c] = {body}", **RANGED), torch_functions()[body]
    # torch's trigamma is wrong by up to 5e-10; test_exact compares ours with 50 digits.
    relative = 1e-9 if "digamma" in body else 1e-12
    for point in points(spec, seed=4):
        expected = by_torch(forward, spec, point)
        assert_agree(spec, point, by_oracle(spec, point), expected, relative)


@pytest.mark.parametrize("body", sorted(torch_functions()))
def test_functions_without_scipy(body, monkeypatch):
    """Where scipy is not installed the emitted code has the same values to 1e-13."""
    spec = spec_of(f"y[n,c] = {body} + lgamma(N) + erf(eps) + digamma(eps)*0.001",
                   **RANGED, eps=Constant(0.5))  # fmt: skip
    point = next(points(spec, seed=5))
    expected = by_oracle(spec, point)
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    found = Oracle(spec.program, spec.differentiable)
    for dtype in ("float64", "float32"):
        at = point.astype(dtype)
        (y,), pullback = found.run(at)
        gradients = pullback(*at.cotangents)
        assert {a.dtype for a in (y, *gradients.values())} == {np.dtype(dtype)}
        relative = 1e-13 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(y, expected.outputs[0], rtol=relative, atol=relative)
        for k, gradient in gradients.items():
            np.testing.assert_allclose(
                gradient, expected.gradients[k], rtol=10 * relative, atol=relative
            )


def test_functions_keep_their_digits_far_out():
    """erfc, gelu and logaddexp neither cancel nor overflow, nor does lgamma of a size."""
    spec = spec_of("y[n,c] = gelu(x[n,c]) + logaddexp(10*x[n,c], -9000) + 0*lgamma(N)")
    x = np.array([[-30.0, -10.0, 0.0, 10.0, 900.0]])
    outputs, pullback = oracle(spec).run(Point({"x": x, "w": np.zeros(5)}, {}, {"N": 1, "C": 5}))
    assert np.all(np.isfinite(outputs[0]))
    assert np.all(np.isfinite(pullback(np.ones((1, 5)))["x"]))
    spec = spec_of("y[n,c] = gelu(x[n,c])")
    (y,), _ = oracle(spec).run(Point({"x": x, "w": np.zeros(5)}, {}, {"N": 1, "C": 5}))
    phi = float(mpmath.ncdf(-10))
    np.testing.assert_allclose(y[0], [0, -10 * phi, 0, 10, 900], rtol=1e-13, atol=1e-150)
    source = oracle(spec_of("y[n,c] = x[n,c]*lgamma(N)")).source("s")
    assert "lgamma(N)" in source


def test_a_tensor_may_be_called_gamma():
    """gamma(x) is the function and gamma[c] the parameter, in values and in emitted code."""
    spec = spec_of("y[n,c] = gamma[c]*gamma(x[n,c]**2 + 1)", gamma=Param("C"))
    point = next(points(spec, seed=6))
    got, x = by_oracle(spec, point), point.tensors["x"]
    expected = [[math.gamma(v**2 + 1) for v in row] for row in x] * point.tensors["gamma"]
    np.testing.assert_allclose(got.outputs[0], expected, rtol=1e-13)
    assert "gamma*gamma_function(1 + x**2)" in oracle(spec).source("s", sizes=False)


# -- reductions


def torch_reductions():
    """Return, by the text of a definition, the same in torch."""
    import torch

    def others(x, w):
        return torch.stack([x[:, [j for j in range(x.shape[1]) if j != c]].prod(1)
                            for c in range(x.shape[1])], dim=1)  # fmt: skip

    def logcumsumexp(x, w):
        # torch's own has a second derivative of nan, by which its jvp is computed.
        z = x + w
        value = torch.stack([z[:, : c + 1].logsumexp(1) for c in range(z.shape[1])], dim=1)
        assert torch.allclose(value, z.logcumsumexp(1), rtol=1e-14, atol=1e-14)
        return value

    def suffix(x):
        return x.flip(1).cumsum(1).flip(1)

    return {
        "y[n,c] = w[c]*prod[k](x[n,k])": lambda x, w: w * x.prod(1, keepdim=True),
        "y[n,c] = prod[m,k](x[m,k]*w[c])": lambda x, w: (x[..., None] * w).prod(0).prod(0)
        .expand(x.shape),
        "y[n,c] = prod[k](w[c])": lambda x, w: (w ** x.shape[1]).expand(x.shape),
        "y[n,c] = prod[m](prod[k](x[m,k]) + w[c])": lambda x, w: (x.prod(1)[:, None] + w)
        .prod(0).expand(x.shape),
        "y[n,c] = where(w[c] > 0, prod[k](tanh(x[n,k]) + w[k]), 1) - prod[m](x[m,c])":
            lambda x, w: torch.where(w > 0, (x.tanh() + w).prod(1, keepdim=True), 1) - x.prod(0),
        "y[n,c] = w[c]*var[k](x[n,k])": lambda x, w: w * x.var(1, keepdim=True, correction=0),
        "y[n,c] = var[m,k](x[m,k]*w[k])": lambda x, w: (x * w).var(correction=0).expand(x.shape),
        "y[n,c] = x[n,c]/sqrt(var[m](x[m,c]) + 0.1)*w[c]":
            lambda x, w: x / (x.var(0, correction=0) + 0.1).sqrt() * w,
        "y[n,c] = w[c]*sum[j<=c](x[n,j])": lambda x, w: w * x.cumsum(1),
        "y[n,c] = sum[j>=c](x[n,j]) + sum[j>c](w[j])":
            lambda x, w: suffix(x) + suffix(w[None]) - w,
        "y[n,c] = sum[k!=c](x[n,k]*w[k])": lambda x, w: ((x * w).sum(1, keepdim=True) - x * w),
        "y[n,c] = prod[j<=c](x[n,j])": lambda x, w: x.cumprod(1),
        "y[n,c] = prod[k!=c](x[n,k])": others,
        "y[n,c] = max[j<=c](x[n,j]*w[j])": lambda x, w: (x * w).cummax(1).values,
        "y[n,c] = min[j<=c](x[n,j]*w[j])": lambda x, w: (x * w).cummin(1).values,
        "y[n,c] = logsumexp[j<=c](x[n,j] + w[j])": logcumsumexp,
        "y[n,c] = sum[j<=c,m<=n](x[m,j]*w[j])": lambda x, w: (x * w).cumsum(0).cumsum(1),
        "y[n,c] = sum[j<=c,m](x[m,j])": lambda x, w: x.sum(0).cumsum(0).expand(x.shape),
        "s[n,c] = sum[j<=c](x[n,j])\ny[n,c] = sum[j==c](s[n,j])*w[c]":
            lambda x, w: x.cumsum(1) * w,
    }  # fmt: skip


@pytest.mark.parametrize("definition", sorted(torch_reductions()))
def test_reductions_agree_with_torch(definition):
    """Products, variances and cumulative reductions are torch's to 1e-12, at any sizes."""
    spec = spec_of(definition, ranges={"k": "C"})
    forward = torch_reductions()[definition]
    for point in points(spec, seed=7, draws=3):
        assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)
        single = point.astype("float32")
        got = by_oracle(spec, single)
        assert {a.dtype for _, a in got.parts()} == {np.dtype("float32")}


@pytest.mark.parametrize("definition", [d for d in sorted(torch_reductions()) if "prod" in d])
@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_products_have_derivatives_at_zeros(definition, zeros):
    """With one, two or more factors zero a product's derivatives are torch's: nothing divides."""
    spec = spec_of(definition, ranges={"k": "C"})
    forward = torch_reductions()[definition]
    point = draw(spec, {"N": 3, "C": 4}, np.random.default_rng(zeros))
    point.tensors["x"][:, :zeros] = 0
    point.tensors["w"][1:zeros] = 0
    assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)


def test_an_empty_product_is_one():
    """A product over no values is 1 and has no derivative, as that of a window of K - 1 at K = 1."""
    spec = Spec("s", x=Input("N K"), y=Output("N"), ranges={"r": "K-1"},
                definition="y[n] = prod[r](x[n,r+1])*x[n,0]")  # fmt: skip
    point = draw(spec, {"N": 2, "K": 1}, np.random.default_rng(0))
    got, exact = by_oracle(spec, point), exactly(spec, point)
    np.testing.assert_array_equal(got.outputs[0], point.tensors["x"][:, 0])
    np.testing.assert_array_equal(exact.outputs[0].astype(float), got.outputs[0])
    np.testing.assert_array_equal(got.gradients["x"][:, 0], point.cotangents[0])


def test_a_product_over_time_may_stand_in_a_recurrence():
    """A product inside a recurrence is run with it, and goes backwards with it."""
    spec = Spec("s", x=Input("T N"), w=Param("N N"), y=Output("T N"), definition="""
        h[-1,n] = 1
        h[t,n]  = tanh(prod[m](h[t-1,m]*w[m,n] + 1) + x[t,n])
        y[t,n]  = h[t,n]
    """)  # fmt: skip
    import torch

    def forward(x, w):
        states = [torch.ones_like(x[0])]
        for x_t in x:
            states.append(((states[-1][:, None] * w + 1).prod(0) + x_t).tanh())
        return torch.stack(states[1:])

    for sizes in ({"T": 1, "N": 1}, {"T": 4, "N": 3}):
        point = draw(spec, sizes, np.random.default_rng(1))
        assert_agree(spec, point, by_oracle(spec, point), by_torch(forward, spec, point), 1e-12)


def test_the_other_factors_are_a_product_again():
    """What a product is differentiated by is a step of the same kind, for each factor one."""
    spec = spec_of("y[n] = prod[k](x[n,k]*w[k])", y=Output("N"))
    derivation = oracle(spec).derivation
    *_, others = steps(derivation.forward)
    assert (others.target, others.kind) == ("y_others", "prod")
    assert [text(s) for s in others.subscripts] == ["n", "k"]
    assert [i for i, _ in others.loops] == ["n", "k", "k1"]
    assert str(others.value) == "Select(Equal(k1, k), 1, w[k1]*x[n,k1])"
    assert "dw[k] += dy[n]*x[n,k]*y_others[n,k]" in derived(spec)
    stopped = spec_of("y[n,c] = x[n,c]*stop_gradient(prod[k](x[n,k])) + prod[n](ids[n])",
                      ids=Input("N", dtype=int, range="1..3"))  # fmt: skip
    assert not [s for s in steps(oracle(stopped).derivation.forward) if "others" in s.target]


# -- kinks and what is not selected


@pytest.mark.parametrize("definition", NOWHERE_SINGULAR)
def test_a_branch_that_is_not_selected_contributes_nothing(definition):
    """Where a branch is singular and not taken, gradients and tangents are exactly 0, not nan."""
    spec = spec_of(definition, x=Input("N C"), ranges={"k": "C"} if "x[k,j]" not in definition
                   else {"k": "N"})  # fmt: skip
    for value in (0.0, -1.0):
        x = np.full((2, 3), value)
        point = Point({"x": x, "w": np.zeros(3)}, {}, {"N": 2, "C": 3})
        outputs, pullback = oracle(spec).run(point)
        assert np.all(np.isfinite(outputs[0]))
        assert not np.any(pullback(np.ones((2, 3)))["x"])
        tangents = {"x": np.ones((2, 3)), "w": np.zeros(3)}
        (tangent,) = oracle(spec).jvp(point, tangents)
        assert not np.any(tangent)


def test_a_tie_of_a_maximum_goes_to_the_first():
    """Of equal largest elements the first has the gradient, over one index and over several."""
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    spec = spec_of("y[n] = max[c](x[n,c])", y=Output("N"))
    _, pullback = oracle(spec).run(Point({"x": x, "w": np.ones(3)}, {}, {"N": 2, "C": 3}))
    np.testing.assert_array_equal(pullback(np.array([5.0, 7.0]))["x"], [[0, 5, 0], [7, 0, 0]])
    spec = spec_of("y = max[n,c](x[n,c])", y=Output(""))
    _, pullback = oracle(spec).run(Point({"x": x, "w": np.ones(3)}, {}, {"N": 2, "C": 3}))
    np.testing.assert_array_equal(pullback(np.array(5.0))["x"], [[0, 5, 0], [0, 0, 0]])


def test_max_of_two_goes_to_the_first_where_they_are_equal():
    """max(a, b) and min(a, b) take a where a == b; abs and relu have slope -1 and 0 at 0."""
    spec = spec_of("y[n,c] = max(x[n,c], w[c]) + 3*min(x[n,c], w[c])")
    tensors = {"x": np.ones((1, 1)), "w": np.ones(1)}
    _, pullback = oracle(spec).run(Point(tensors, {}, {"N": 1, "C": 1}))
    gradients = pullback(np.ones((1, 1)))
    assert (gradients["x"][0, 0], gradients["w"][0]) == (4, 0)
    spec = spec_of("y[n,c] = abs(x[n,c]) + 10*relu(x[n,c])")
    _, pullback = oracle(spec).run(Point({**tensors, "x": np.zeros((1, 1))}, {}, {"N": 1, "C": 1}))
    assert pullback(np.ones((1, 1)))["x"][0, 0] == -1


def test_stop_gradient_stops_and_keeps_the_value():
    """What stands under stop_gradient has its value and no derivative."""
    spec = spec_of("y[n,c] = x[n,c]*stop_gradient(x[n,c]**2) + stop_gradient(exp(w[c]))")
    point = draw(spec, {"N": 3, "C": 2}, np.random.default_rng(0))
    got, x = by_oracle(spec, point), point.tensors["x"]
    np.testing.assert_allclose(got.outputs[0], x**3 + np.exp(point.tensors["w"]), rtol=1e-14)
    np.testing.assert_allclose(got.gradients["x"], point.cotangents[0] * x**2, rtol=1e-14)
    assert not np.any(got.gradients["w"])
    np.testing.assert_allclose(got.tangents[0], point.tangents["x"] * x**2, rtol=1e-14)


def test_saturated_functions_have_finite_derivatives():
    """sigmoid, tanh, softplus and log_softmax neither overflow nor turn into nan far out."""
    spec = spec_of("y[n,c] = sigmoid(x[n,c]) + tanh(x[n,c]) + softplus(x[n,c])")
    x = np.array([[-800.0, -40.0, 0.0, 40.0, 800.0]])
    tensors = {"x": x, "w": np.zeros(5)}
    outputs, pullback = oracle(spec).run(Point(tensors, {}, {"N": 1, "C": 5}))
    gradient = pullback(np.ones((1, 5)))["x"]
    assert np.all(np.isfinite(outputs[0]))
    np.testing.assert_allclose(gradient, [[0, 2 * np.exp(-40.0), 1.75, 1, 1]], atol=1e-15)


def test_a_tensor_that_nothing_reads_has_gradient_zero():
    """A declared parameter without influence has a gradient all the same: zeros of its shape."""
    spec = spec_of("y[n,c] = 2*x[n,c]")
    point = draw(spec, {"N": 3, "C": 2}, np.random.default_rng(0))
    np.testing.assert_array_equal(by_oracle(spec, point).gradients["w"], np.zeros(2))


def test_an_output_without_influence_of_anything_is_allowed():
    """An output that depends on sizes and constants only has tangent 0 and passes nothing back."""
    spec = spec_of("y[n,c] = x[n,c]*w[c]\nk[n] = n*eps + N", k=Output("N"), eps=Constant(0.5))
    point = draw(spec, {"N": 3, "C": 2, "eps": 0.5}, np.random.default_rng(0))
    got = by_oracle(spec, point)
    np.testing.assert_array_equal(got.outputs[1], [3.0, 3.5, 4.0])
    np.testing.assert_array_equal(got.tangents[1], np.zeros(3))


def test_derivatives_are_kept_factored():
    """A common factor stays in front: 2*(x - mu) is not multiplied out."""
    values = [s.value for s in steps(oracle(SPECS["batch_norm"]).derivation.vjp)]
    assert any(v.has(sympy.Add) and "(-mu[c] + x[n,c])" in str(v) for v in values)


def test_a_derivation_is_made_once():
    """The oracle of a spec derives on first use and keeps the result."""
    found = Oracle(RNN.program, RNN.differentiable)
    assert found.derivation is found.derivation
