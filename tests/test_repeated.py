"""Computed several times at once: each time the same as alone, and no two roundings alike."""

from dataclasses import replace
from functools import cache
from itertools import cycle, islice

import numpy as np
import pytest

from gradverify import Input, Output, Param, Spec
from gradverify.calculus.compile import DRAWS_AT_ONCE, Oracle, most_at_once
from gradverify.calculus.noise import BLOCK, Noise
from gradverify.calculus.point import Point
from gradverify.calculus.repeated import repeated
from gradverify.calculus.weighted import weighted_definition, weighted_summands
from gradverify.cases import cases, draw, view_of
from gradverify.loading import catalogue_folder, load
from gradverify.regular import settled
from gradverify.trial import make_oracle, widened

NAMES = sorted(path.stem for path in catalogue_folder().glob("*.py"))
TIMES = 2


@cache
def spec_of(name):
    return load(catalogue_folder() / f"{name}.py")[0].spec


def points(spec, count):
    """Yield points and cotangents as the definition of a spec has them."""
    oracle = make_oracle(spec)
    for case in islice(cases(spec, ("float64",), 0, 0), count):
        if (usable := settled(spec, oracle, case)) is not None:
            arrays, view = widened(draw(spec, usable)), view_of(spec, usable)
            cotangents = view.given(spec.differentiable_outputs, arrays.cotangents)
            yield view.inside(usable.point(arrays.tensors)), cotangents


def agree(oracle, point, cotangents):
    """Compare what is computed at values and at others nearby with both at once."""
    derivation, size = repeated(oracle.derivation)
    integers = oracle.program.declared.integers
    tensors = point.tensors.items()
    both = [{k: v if k in integers else v * (1 + 1e-3 * r) for k, v in tensors}
            for r in range(TIMES)]  # fmt: skip
    given = {k: v if k in integers else np.stack([t[k] for t in both]) for k, v in tensors}
    outputs, pullback = Oracle.of(derivation).run(
        Point(given, point.constants, {**point.sizes, size: TIMES})
    )
    gradients = pullback(*(np.stack([dy] * TIMES) for dy in cotangents))
    for k, own in enumerate(both):
        alone, back = oracle.run(replace(point, tensors=own))
        for one, several in zip(alone, outputs, strict=True):
            np.testing.assert_allclose(several[k], one, rtol=1e-9, atol=1e-12)
        for tensor, one in back(*cotangents).items():
            close = 1e-12 * (1 + np.max(np.abs(one), initial=0.0))
            np.testing.assert_allclose(gradients[tensor][k], one, rtol=1e-9, atol=close)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_each_time_alone(name):
    """Of every definition of the catalogue: windows, tables, recurrences and picks too."""
    spec = spec_of(name)
    for point, cotangents in points(spec, 4):
        agree(make_oracle(spec), point, cotangents)


@pytest.mark.parametrize("name", ["attention", "batch_norm", "conv2d", "embedding", "lstm"])
def test_so_are_those_of_the_gradients(name):
    """A program of gradients is repeated as one of a definition is."""
    spec = spec_of(name)
    oracle = make_oracle(spec)
    first = oracle.program.declared.given
    for point, cotangents in points(spec, 3):
        gradient = oracle.gradient
        seeds = gradient.program.declared.given[len(first) :]
        gradients = oracle.run(point)[1](*cotangents)
        given = {**point.tensors, **dict(zip(seeds, cotangents, strict=True))}
        along = [np.cos(gradients[t]) for t in oracle.wrt]
        agree(gradient, replace(point, tensors=given), along)


@pytest.mark.parametrize("name", NAMES)
def test_each_time_has_weights_of_its_own(name):
    """A term of the derivation, or of the definition, that is changed one time is so in no other;
    with all weights as they are, what is computed is what is derived."""
    spec = spec_of(name)
    oracle = make_oracle(spec)
    point, cotangents = next(points(spec, 1))
    for made in (weighted_summands(oracle.derivation), weighted_definition(oracle.derivation)):
        some = made.terms[:: max(1, len(made.terms) // 5)]
        changes = [{}, *({t.weight: factor} for t, factor in zip(some, cycle((0.0, 2.0))))]
        listed = [made.plain | change for change in changes]
        found = list(made.several.run(
            point, cotangents, len(listed),
            apart={w: np.array([weights[w] for weights in listed]) for w in made.plain},
        ))  # fmt: skip
        assert len(found) == len(listed)
        for weights, (outputs, gradients) in zip(listed, found, strict=True):
            alone, back = made.oracle.run(replace(point, constants=point.constants | weights))
            for one, several in zip(alone, outputs, strict=True):
                np.testing.assert_allclose(several, one, rtol=1e-9, atol=1e-12)
            for tensor, one in back(*cotangents).items():
                close = 1e-12 * (1 + np.max(np.abs(one), initial=0.0))
                np.testing.assert_allclose(gradients[tensor], one, rtol=1e-9, atol=close)
        plain, derived = found[0][1], oracle.run(point)[1](*cotangents)
        assert all(np.allclose(plain[t], derived[t], rtol=1e-9) for t in derived)
        told = [np.concatenate([a.ravel() for a in (*o, *g.values())]) for o, g in found]
        assert any(not np.array_equal(a, told[0], equal_nan=True) for a in told[1:])


def test_names_of_a_definition_are_left_to_it():
    """A dimension and a tensor that are called as the new size and index keep their names."""
    spec = Spec(
        "named",
        x=Input("REPEATS"),
        repeat=Param(""),
        y=Output("REPEATS"),
        definition="y[n] = repeat*x[n]",
    )
    for point, cotangents in points(spec, 2):
        agree(make_oracle(spec), point, cotangents)


def test_as_many_at_once_as_are_worth_it():
    """Small arrays and empty ones often, one of a block once."""
    assert most_at_once([np.ones(BLOCK // 3), np.ones(2)]) == 3
    assert most_at_once([np.ones(2 * BLOCK)]) == 1
    assert most_at_once([np.ones(0)]) == most_at_once([]) == BLOCK


@pytest.mark.parametrize("draws", [1, 3, DRAWS_AT_ONCE + 1])
def test_every_draw_has_a_rounding_of_its_own(draws):
    """As many are drawn as were asked for, and no two are alike in an output or a gradient."""
    spec = spec_of("batch_norm")
    point, cotangents = next(points(spec, 1))
    noise = Noise(2.0**-30, np.random.default_rng(0))
    drawn = list(make_oracle(spec).noisy(point, cotangents, noise, draws))
    assert len(drawn) == draws
    for found in ([y for (y,), _ in drawn], *([g[t] for _, g in drawn] for t in drawn[0][1])):
        assert len({a.tobytes() for a in found}) == draws
        assert np.max(np.ptp(np.stack(found), axis=0)) < 1e-6
