"""Double backward and Hessian-vector products are torch's; their public interface says what is
wrong with what it is given."""

import itertools
from functools import cache

import numpy as np
import pytest
import sympy
import torch_layers
from test_compile import FEATURES, feature, feature_forwards
from test_derive import NAMES, NOWHERE_SINGULAR, recurrences, spec_of
from torch_layers import SPECS, draw, forwards, largest

from gradverify import Constant, Input, Output, Param, Spec, UsageError, catalog, oracle
from gradverify.calculus.compile import NOISE, Noise
from gradverify.calculus.derive import in_order
from gradverify.calculus.exact import evaluate_exactly

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
        return tuple(found) if isinstance(found, list | tuple) else (found,)

    def gradients(*values):
        return vjp(outputs, values[: len(at)], values[len(at) :], create_graph=True)[1]

    return [g.numpy() for g in vjp(gradients, (*at, *dy), seeds)[1]]


def assert_second_order(forward, spec, point):
    """Assert that the second order is torch's to 1e-12.

    Relative to an array's own size or, where its terms cancel, to their absolute values.
    """
    found = derivatives(spec)
    tensors, dy = point.tensors, dict(zip(spec.outputs, point.cotangents, strict=True))
    first, second = found.double_vjp(tensors, dy, point.tangents, point.constants)
    product = found.hvp(tensors, dy, point.tangents, point.constants)
    assert list(first) == list(product) == list(spec.differentiable)
    assert list(second) == list(spec.outputs)
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
        gradient(spec).derivation, given(spec, point), point.constants, point.sizes, seeds
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
    outputs, pullback = found.run(values, {}, {"N": 2, "C": 3})
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
