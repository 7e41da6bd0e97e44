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
    least = {d: 1 for d in spec.dims}
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
