"""What is known of index expressions for all sizes: bounds, equality and where they differ."""

from itertools import product

import pytest

from gradverify.calculus.integers import Integers, opaque, solution
from gradverify.notation.dims import evaluate
from gradverify.notation.parse import Source, parse_expression
from gradverify.notation.tree import Name, free_names, text

LEAST = {"N": 1, "G": 1, "K": 1, "H": 1, "P": 0, "S": 1}
RANGES = {"g": "G", "h": "G", "k": "K", "l": "K", "u": "H", "v": "H", "n": "N", "m": "N"}


def parsed(expression):
    return parse_expression(Source(expression))


@pytest.fixture
def integers():
    found = Integers(LEAST)
    found.ranges |= {i: Name(size) for i, size in RANGES.items()}
    return found


@pytest.mark.parametrize(
    ("expression", "bound", "known"),
    [
        ("N", 1, True), ("N", 2, False), ("N - 1", 0, True), ("N*K - K", 0, True),
        ("P", 0, True), ("P", 1, False), ("S*P + 1", 1, True), ("2 - N", 0, False),
        ("N*N - N", 0, True), ("X", 0, False),
    ],
)  # fmt: skip
def test_lower_bounds_hold_for_all_sizes(integers, expression, bound, known):
    """A size is known to be at least a number exactly where no smallest size refutes it."""
    assert integers.at_least(parsed(expression), bound) is known


SIDES = [
    "g*K+k",
    "h*K+l",
    "g*K",
    "k",
    "l",
    "u",
    "v+H",
    "u+2*H",
    "n",
    "m",
    "N-1-n",
    "g",
    "n+1",
    "k+1",
]


@pytest.mark.parametrize(("left", "right"), [(a, b) for a in SIDES for b in SIDES])
def test_conditions_are_what_equality_means(integers, left, right):
    """Two index expressions are equal exactly where all conditions are 0, at small sizes."""
    a, b = parsed(left), parsed(right)
    conditions = integers.conditions(a, b)
    indices = sorted({*free_names(a), *free_names(b)} & RANGES.keys())
    for N, G, K, H in product((1, 2, 3), repeat=4):
        sizes = {"N": N, "G": G, "K": K, "H": H}
        for values in product(*(range(sizes[RANGES[i]]) for i in indices)):
            at = {**sizes, **dict(zip(indices, values, strict=True))}
            same = evaluate(a, at) == evaluate(b, at)
            if conditions is None:
                assert not same, at
            else:
                assert same == all(evaluate(c, at) == 0 for c in conditions), at


def test_digits_are_compared_one_by_one(integers):
    """g*K+k == h*K+l is g == h and k == l; a slice never meets the next one."""
    shown = {text(c) for c in integers.conditions(parsed("g*K+k"), parsed("h*K+l"))}
    assert shown == {"g - h", "k - l"}
    assert integers.conditions(parsed("u+H"), parsed("v+2*H")) is None
    assert integers.conditions(parsed("n"), parsed("n")) == []


def test_places_inside_an_axis(integers):
    """An index expression is known to be inside an axis only if it is, whatever the sizes are."""
    assert integers.inside(parsed("g*K+k"), parsed("G*K"))
    assert integers.inside(parsed("N-1-n"), parsed("N"))
    assert not integers.inside(parsed("n+1"), parsed("N"))
    assert not integers.inside(parsed("k"), parsed("N"))
    assert not integers.inside(parsed("n//2"), parsed("N"))


def test_solutions_and_what_has_none():
    """A condition is solved for an index with the coefficient 1 or -1, through gathers too."""
    assert text(solution(parsed("n - m - 1"), "n")) == "m + 1"
    assert text(solution(parsed("P - n"), "n")) == "P"
    assert solution(parsed("2*n - m"), "n") is None
    assert text(solution(parsed("c - t[n]"), "c")) == "t[n]"
    assert solution(parsed("c - t[c]"), "c") is None
    assert opaque(parsed("n//2"))
    assert not opaque(parsed("2*n"))
