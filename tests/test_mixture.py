"""Mixtures: the nearest point of a sum of simplices, found exactly where one is reached."""

import numpy as np
import pytest

from gradverify.numerics.mixture import MOST, nearest_mixture, nonnegative

TIGHT = 1e-12


def drawn(rng, shape, sides, count):
    """Return a base and `count` parts of `sides` sides, the first of which keeps the base."""
    zero = np.zeros(shape)
    parts = [[zero, *rng.standard_normal((sides - 1, *shape))] for _ in range(count)]
    return rng.standard_normal(shape), parts


@pytest.mark.parametrize("sides", [2, 3, 5])
@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 5)])
def test_a_mixture_is_found(shape, count, sides):
    """Weights of every part, drawn, are a point that is reached, whatever other weights reach it."""
    rng = np.random.default_rng([count, sides, len(shape)])
    base, parts = drawn(rng, shape, sides, count)
    weights = rng.dirichlet(np.ones(sides), count)
    pairs = zip(weights, parts, strict=True)
    got = base + sum(w * side for ws, part in pairs for w, side in zip(ws, part, strict=True))
    found = nearest_mixture(base, parts, got, TIGHT)
    np.testing.assert_allclose(found, got, atol=1e-11)


def test_each_corner_and_the_middle_are_mixtures():
    """The base, one side of each and equal shares are as good as any."""
    rng = np.random.default_rng(0)
    base, parts = drawn(rng, (6,), 3, 4)
    for got in (
        base,
        base + sum(part[2] for part in parts),
        base + sum(np.mean(part, axis=0) for part in parts),
    ):
        np.testing.assert_allclose(nearest_mixture(base, parts, got, TIGHT), got, atol=1e-11)


def test_what_is_outside_stays_outside():
    """Beyond a side, or with shares that add up to 2, the nearest point is another."""
    one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    tie = [np.zeros(2), other - one]
    found = nearest_mixture(one, [tie], one + other, TIGHT)
    np.testing.assert_allclose(found, [0.5, 0.5], atol=1e-9)
    found = nearest_mixture(one, [tie], np.array([-1.0, 2.0]), TIGHT)
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-9)


def test_parts_that_share_no_element_are_weighed_apart():
    """Hundreds of them cost no more than each alone; too many that share elements are None."""
    count = 3 * MOST
    parts = [[np.zeros(count), np.eye(count)[k]] for k in range(count)]
    got = np.linspace(0, 1, count)
    np.testing.assert_allclose(nearest_mixture(np.zeros(count), parts, got, TIGHT), got, atol=1e-11)
    rng = np.random.default_rng(1)
    base, mixed = drawn(rng, (4,), 2, MOST)
    assert nearest_mixture(base, mixed, base + 1, TIGHT) is None


def test_the_layout_in_memory_does_not_matter():
    """A base in Fortran order is not copied away from what is returned."""
    base = np.asfortranarray(np.zeros((2, 3)))
    side = np.arange(6.0).reshape(2, 3)
    found = nearest_mixture(base, [[np.zeros((2, 3)), side]], side / 4, TIGHT)
    np.testing.assert_allclose(found, side / 4, atol=1e-11)


def test_no_parts_leave_the_base():
    """Where no side changes anything, the base is all there is."""
    base = np.array([1.0, 2.0])
    np.testing.assert_array_equal(nearest_mixture(base, [], base + 1, TIGHT), base)
    still = [[np.zeros(2), np.zeros(2)]]
    np.testing.assert_array_equal(nearest_mixture(base, still, base + 1, TIGHT), base)


def test_nonnegative_least_squares_is_the_least():
    """At the end no weight is negative, and none could lower what is left by growing."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        left, right = rng.standard_normal((7, 5)), rng.standard_normal(7)
        x = nonnegative(left, right, 0.0)
        slope = left.T @ (right - left @ x)
        assert np.all(x >= 0)
        assert np.all(slope <= 1e-8)
        assert np.all(np.abs(slope[x > 0]) <= 1e-8)
