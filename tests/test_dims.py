"""Sizes: when two are the same, how subscripts split, and how constraints are solved."""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradverify.errors import SpecError
from gradverify.loading import catalogue_folder, load
from gradverify.notation import dims
from gradverify.notation.dims import (
    affine,
    evaluate,
    negative,
    normal,
    parse_constraint,
    parse_shape,
    plus,
    same,
    solutions,
    tidy,
    times,
)
from gradverify.notation.parse import Source, parse_expression
from gradverify.notation.tree import Name, text

SPECS = {x.spec.name: x.spec for p in catalogue_folder().glob("*.py") for x in load(p)}


def size(written):
    return parse_expression(Source(written))


def solved(names, constraints, fixed=None, preferred=None):
    return solutions(
        names.split(), [parse_constraint(c) for c in constraints], fixed or {}, preferred or {}
    )


# -- shapes and their values


def test_a_shape_is_sizes_separated_by_blanks():
    """A shape text is one size per axis, and the empty text is a scalar."""
    assert [text(s) for s in parse_shape("B T NH*DH (H+2*P-R)//S+1", "x")] == [
        "B", "T", "NH*DH", "(H + 2*P - R)//S + 1",
    ]  # fmt: skip
    assert parse_shape("", "x") == ()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("A + B*C", 2 + 3 * 4),
        ("-A + 10", 8),
        ("(C+2*A-B)//2+1", 3),
        ("C % B", 1),
        ("A < B and B < C", 1),
        ("A < B < C", 1),
        ("A > B or not B == C", 1),
        ("A >= B", 0),
        ("A != B", 1),
        ("A <= 2", 1),
    ],
)
def test_evaluate_gives_the_integer(written, value):
    """A size, subscript or constraint at concrete sizes is Python's own value of it."""
    assert evaluate(size(written), {"A": 2, "B": 3, "C": 4}) == value


def test_evaluate_refuses_what_is_no_size():
    """A function of tensors has no size; that is a defect of the caller, not of the user."""
    with pytest.raises(TypeError, match="is not a size"):
        evaluate(size("exp(A)"), {"A": 2})


# -- equality for all sizes


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("N*M", "M*N", True),
        ("2*(N + M) - N", "N + 2*M", True),
        ("N - N", "0", True),
        ("(N + 1)*(N - 1)", "N*N - 1", True),
        ("(H - K)//S + 1", "1 + (H - K)//S", True),
        ("(H - K)//S", "(-K + H)//S", True),
        ("N % K", "N % K", True),
        ("N//2 + N//2", "N", False),
        ("N//K", "K//N", False),
        ("N", "M", False),
        ("2*N", "N + 2", False),
        ("N//2", "N % 2", False),
    ],
)
def test_same_means_equal_at_every_size(a, b, equal):
    """`same` compares polynomial normal forms, in which a quotient is one atom."""
    assert same(size(a), size(b)) is equal
    assert (normal(size(a)) == normal(size(b))) is equal


@pytest.mark.parametrize(
    ("written", "tidied"),
    [
        ("N + 1 - 1", "N"),
        ("2*N - N", "N"),
        ("N - N", "0"),
        ("T - 1 + 1 + 1", "T + 1"),
        ("1 - N", "-N + 1"),
        ("H*2 + H", "3*H"),
        ("N*M - 2*M*N", "-(M*N)"),
        ("(H - K)//S + 1 - 1", "(H - K)//S + 1 - 1"),
    ],
)
def test_tidy_collects_terms(written, tidied):
    """Terms that cancel are gone from a tidied size; one with a quotient stays as it is."""
    assert text(tidy(size(written))) == tidied


SIZES = st.recursive(
    st.sampled_from("ABC").map(Name) | st.integers(-3, 3).map(lambda v: size(str(v))),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: plus(*t)),
        st.tuples(inner, inner).map(lambda t: times(*t)),
        inner.map(negative),
    ),
    max_leaves=8,
)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(SIZES, SIZES, st.tuples(*[st.integers(1, 50)] * 3))
def test_rewriting_a_size_never_changes_its_value(a, b, values):
    """plus, times, negative, tidy and the text of a size all keep its value at any sizes."""
    at = dict(zip("ABC", values, strict=True))
    assert evaluate(plus(a, b), at) == evaluate(a, at) + evaluate(b, at)
    assert evaluate(times(a, b), at) == evaluate(a, at) * evaluate(b, at)
    assert evaluate(negative(a), at) == -evaluate(a, at)
    assert evaluate(tidy(a), at) == evaluate(a, at)
    assert evaluate(size(text(tidy(a))), at) == evaluate(a, at)
    assert same(a, tidy(a))
    if same(a, b):
        assert evaluate(a, at) == evaluate(b, at)
    assert not same(a, plus(a, Name("D")))


# -- subscripts


@pytest.mark.parametrize(
    ("written", "coefficients", "offset"),
    [
        ("p", {"p": "1"}, "0"),
        ("S*p + D*r - P", {"p": "S", "r": "D"}, "-P"),
        ("N - 1 - p", {"p": "-1"}, "N - 1"),
        ("-(p - r)", {"p": "-1", "r": "1"}, "0"),
        ("2*(p + K)", {"p": "2"}, "2*K"),
        ("p*S*D", {"p": "D*S"}, "0"),
        ("p + p", {"p": "2"}, "0"),
        ("p - p", {}, "0"),
        ("K", {}, "K"),
        ("K//2 + p", {"p": "1"}, "K//2"),
    ],
)
def test_affine_splits_a_subscript(written, coefficients, offset):
    """An affine subscript is coefficients of indices, in sizes, and an offset without any."""
    found = affine(size(written), "pr")
    assert found is not None
    assert {i: text(tidy(c)) for i, c in found[0].items()} == coefficients
    assert same(found[1], size(offset))


@pytest.mark.parametrize("written", ["p*r", "p//2", "p % S", "ids[p]", "p + ids[0]", "K//p"])
def test_affine_is_none_for_the_rest(written):
    """A product of indices, a quotient of one and a gather are not affine."""
    assert affine(size(written), "pr") is None


# -- solutions


def test_solutions_come_nearest_first():
    """The first solution is the preferred one wherever that satisfies the constraints."""
    preferred = {"N": 5, "C": 7}
    assert next(solved("N C", ["N >= 2"], {}, preferred)) == preferred
    first = [s["N"] for s in islice(solved("N", ["N != 5"], {}, {"N": 5}), 5)]
    assert first == [4, 6, 3, 7, 2]


def test_solutions_divide():
    """`C % G == 0` is solved for each G, without drawing any C that G does not divide."""
    for G in (1, 2, 3, 4, 5):
        found = [s["C"] for s in islice(solved("C", ["C % G == 0"], {"G": G}, {"C": 6}), 3)]
        assert all(c % G == 0 for c in found)
        assert abs(found[0] - 6) <= G // 2


def test_solutions_of_a_convolution():
    """Sizes of a convolution are such that every output has at least one element."""
    where = ["H + 2*P >= D*(R - 1) + 1", "(H + 2*P - D*(R - 1) - 1)//S + 1 >= 2"]
    fixed = {"P": 0, "D": 2, "S": 2}
    for sizes in islice(solved("H R", where, fixed, {"H": 5, "R": 5}), 50):
        H, R = sizes["H"], sizes["R"]
        assert (H - 2 * (R - 1) - 1) // 2 + 1 >= 2


def test_solutions_keep_what_is_fixed():
    """A name that has a value already keeps it, and the constraints see it."""
    assert next(solved("N", ["N > K"], {"K": 9}, {"N": 2})) == {"N": 10}


def test_solutions_reach_a_large_literal():
    """A size far from the others is found where a constraint names it."""
    assert next(solved("N", ["N >= 500"])) == {"N": 500}
    assert next(solved("N", ["N == 1000"])) == {"N": 1000}


@pytest.mark.parametrize(
    "where", [["N >= 2", "N < 2"], ["N % 2 == 0", "N % 2 == 1"], ["N < 1"], ["N % (N - N) == 0"]]
)
def test_solutions_of_what_cannot_be_are_none(where):
    """Constraints that contradict each other have no solution, and the search ends."""
    assert next(solved("N C", where), None) is None


def test_a_search_without_end_is_given_up(monkeypatch):
    """The search stops after MAX_NODES assignments instead of trying all of them."""
    seen = []
    monkeypatch.setattr(dims, "MAX_NODES", 1000)
    monkeypatch.setattr(dims, "evaluate", lambda expr, sizes: seen.append(expr) and 0)
    assert next(solved("A B C D E F", ["A*B*C*D*E*F == 7919"]), None) is None
    assert len(seen) <= 1000


def test_a_constraint_must_compare():
    """A constraint that is only a size is refused."""
    with pytest.raises(SpecError, match="compares nothing"):
        parse_constraint("N + 1")


# A specification's sizes are asked for in every case drawn: the search must not be one.
MOST_LOOKS = 300


@pytest.mark.parametrize("name", sorted(SPECS))
def test_sizes_of_the_catalogue_come_without_a_search(name, monkeypatch):
    """For every constant and several preferences, few constraints are looked at per solution."""
    spec = SPECS[name]
    depth, looks = 0, 0
    original = dims.evaluate

    def counted(expr, sizes):
        nonlocal depth, looks
        looks += depth == 0
        depth += 1
        try:
            return original(expr, sizes)
        finally:
            depth -= 1

    monkeypatch.setattr(dims, "evaluate", counted)
    for constants in spec.constant_choices:
        for preferred in (1, 2, 3, 5, 7, 12):
            looks = 0
            assert next(spec.sizes(constants, dict.fromkeys(spec.dims, preferred)))
            assert looks <= MOST_LOOKS
