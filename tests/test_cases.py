"""Cases: what is drawn, that nothing is left to luck, and that one line says it all."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, islice, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradverify import Buffer, Constant, Input, Output, Param, Spec, UsageError, catalog
from gradverify.cases import (
    AT_KINKS,
    COTANGENTS,
    LARGE,
    LAYOUTS,
    MAX_ELEMENTS,
    PARAMS,
    VALUES,
    Case,
    cases,
    draw,
    factors_of,
    pairwise,
    parse_case,
    size_patterns,
    smaller,
    solved,
    with_layout,
)
from gradverify.cases.covering import spread
from gradverify.loading import catalogue_folder, load

BOTH = ("float64", "float32")
CATALOGUE = {
    layer.spec.name: layer.spec
    for path in sorted(catalogue_folder().glob("*.py"))
    for layer in load(path)
}

every_spec = pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)


def case(spec, **changed):
    """Return the plainest case of a spec, with some things changed."""
    first = next(cases(spec, ("float64",), 0, 0))
    sizes = tuple((k, changed.pop(k, n)) for k, n in first.sizes)
    return replace(first, sizes=sizes, **changed)


# -- which cases


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(0, 99))
def test_rows_hold_every_pair_of_values(counts, seed):
    """Whatever the factors, every two values of every two of them meet, in few rows."""
    factors = {f"f{k}": range(n) for k, n in enumerate(counts)}
    rows = pairwise(factors, seed)
    for (a, first), (b, second) in combinations(factors.items(), 2):
        assert {(row[a], row[b]) for row in rows} == set(product(first, second))
    largest = sorted(counts)[-2:]
    assert len(rows) <= 2 * largest[0] * largest[1]


def test_one_factor_is_covered_too():
    """A single factor has no pairs; its first value is tried."""
    assert pairwise({"dtype": ("float64",)}, 0) == [{"dtype": "float64"}]


@pytest.mark.parametrize("seed", range(5))
def test_the_first_case_is_the_plainest(seed):
    """The first row has the first value of everything, whatever the seed."""
    first = next(cases(CATALOGUE["conv2d"], BOTH, 0, seed))
    assert dict(first.constants) == {"S": 1, "P": 0, "D": 1}
    assert (first.dtype, first.layout, first.values, first.cotangent) == (
        "float64", "C", "ordinary", "signed",
    )  # fmt: skip


@every_spec
def test_the_covering_set_holds_every_pair(spec):
    """Constants, dtype, layout, values of inputs and of parameters and cotangent all meet
    pairwise, before any luck."""
    rows = [
        dict(c.constants)
        | {"dtype": c.dtype, "layout": c.layout, "values": c.values, "cotangent": c.cotangent,
           "params": c.params}
        for c in cases(spec, BOTH, 0, 0)
    ]  # fmt: skip
    factors = dict(spec.constants) | {
        "dtype": BOTH, "layout": LAYOUTS, "values": VALUES, "cotangent": COTANGENTS,
    }  # fmt: skip
    if spec.params:
        factors["params"] = PARAMS
    for a, b in combinations(factors, 2):
        assert {(r[a], r[b]) for r in rows} == set(product(factors[a], factors[b]))


@every_spec
def test_every_combination_of_constants_occurs(spec):
    """Three constants that are wrong together only are met together, which no pair demands."""
    met = [dict(c.constants) for c in cases(spec, BOTH, 0, 0)]
    assert all(choice in met for choice in spec.constant_choices)


def test_combinations_are_few():
    """A spec of very many combinations is not tried in all of them: pairs are what it gets."""
    many = {name: Constant(*range(1, 7)) for name in "abcd"}
    spec = Spec("many", x=Input("N"), y=Output("N"), **many)
    assert len(list(cases(spec, BOTH, 0, 0))) < 150


@every_spec
def test_every_pattern_of_sizes_occurs(spec):
    """Unequal, mirrored, equal, one and large sizes all occur, as near as constraints allow."""
    found = list(cases(spec, BOTH, 0, 0))
    plain = {"layout": "C", "values": "ordinary", "params": "ordinary", "cotangent": "signed",
             "dtype": "float64"}  # fmt: skip
    rows = [
        dict(choice) | plain | dict.fromkeys(spec.stars, 1) | dict.fromkeys(spec.ones, "")
        for choice in spec.constant_choices
    ]
    for pattern in size_patterns(spec):
        nearest = [dict(solved(spec, row, pattern, 0).sizes) for row in rows]
        starred = {d: n * (n + 1) for d, n in pattern.items() if d in spec.stars}
        near = [dict(solved(spec, row, pattern | starred, 0).sizes) for row in rows]
        assert any(dict(c.sizes) in nearest + near for c in found), pattern


def test_patterns_tell_mistakes_apart():
    """There are unequal, mirrored, equal, single and large sizes of every dimension, powers of two
    and sizes beyond the blocks of 32, 64 and 128 that code is written in."""
    assert list(size_patterns(CATALOGUE["linear"])) == [
        {"N": 2, "D": 3, "K": 5},
        {"N": 5, "D": 3, "K": 2},
        {"N": 3, "D": 3, "K": 3},
        {"N": 1, "D": 1, "K": 1},
        {"N": 1, "D": 3, "K": 5},
        {"N": 19, "D": 3, "K": 2},
        {"N": 2, "D": 1, "K": 5},
        {"N": 2, "D": 19, "K": 2},
        {"N": 2, "D": 3, "K": 1},
        {"N": 2, "D": 3, "K": 19},
        {"N": 4, "D": 4, "K": 4},
        {"N": 8, "D": 4, "K": 2},
        {"N": 67, "D": 3, "K": 2},
        {"N": 131, "D": 3, "K": 2},
        {"N": 2, "D": 67, "K": 2},
        {"N": 2, "D": 131, "K": 2},
        {"N": 2, "D": 3, "K": 67},
        {"N": 2, "D": 3, "K": 131},
    ]
    for n in LARGE:
        assert all(n % block for block in (2, 16, 32, 64, 128))  # there is a rest in each


@every_spec
def test_every_dimension_is_large_alone_where_it_can_be(spec):
    """Each dimension is 19 or more while another is not, in two cases at least; where constraints
    tie it to others these grow with it."""
    found = [dict(c.sizes) for c in cases(spec, BOTH, 0, 0)]
    for dim in spec.dims:
        large = [sizes for sizes in found if sizes[dim] >= LARGE[0]]
        assert len(large) >= 2, dim
        assert len(spec.dims) == 1 or any(min(sizes.values()) < 19 for sizes in large)


@every_spec
def test_patterns_of_sizes_come_with_various_values(spec):
    """Every pattern is tried equally often, each time with other values: where one kind shows
    nothing, another does."""
    rows = pairwise(factors_of(spec, BOTH), 0)
    patterns = spread(rows, 12)
    assert patterns[:12] == list(range(12))
    times = [patterns.count(k) for k in range(12)]
    assert max(times) - min(times) <= 1
    for k in range(12):
        values = [
            row["values"] for row, pattern in zip(rows, patterns, strict=True) if pattern == k
        ]
        assert len(set(values)) >= min(3, len(values) - 1)


def test_what_a_short_run_sees_is_varied():
    """After the plainest case every single value comes as soon as can be."""
    for name in ("batch_norm", "softmax", "conv2d"):
        spec = CATALOGUE[name]
        first = list(cases(spec, BOTH, 0, 0))[:14]
        assert {c.values for c in first} == set(VALUES)
        assert {c.layout for c in first} == set(LAYOUTS)
        assert {c.cotangent for c in first} == set(COTANGENTS)
        assert {c.dtype for c in first} == set(BOTH)
        assert {c.params for c in first} == set(PARAMS if spec.params else PARAMS[:1])


@every_spec
def test_sizes_are_solved_and_not_rejected(spec):
    """Hypothesis gives exactly as many cases as it is asked for: none is drawn in vain."""
    assert len(list(cases(spec, BOTH, 30, 3))) - len(list(cases(spec, BOTH, 0, 3))) == 30


@every_spec
def test_cases_are_what_the_spec_allows(spec):
    """Every case satisfies every constraint, makes every size at least 1 and stays small."""
    for c in cases(spec, BOTH, 20, 1):
        assert dict(c.sizes) == next(spec.sizes(dict(c.constants), dict(c.sizes)))
        shapes = [spec.shape(t, c.at) for t in spec.tensors]
        assert all(n >= 1 for shape in shapes for n in shape)
        assert max(int(np.prod(shape)) for shape in shapes) <= MAX_ELEMENTS


def test_the_same_seed_draws_the_same_cases():
    """Cases follow from the spec and the seed; another seed gives others."""
    spec = CATALOGUE["group_norm"]
    assert list(cases(spec, BOTH, 20, 7)) == list(cases(spec, BOTH, 20, 7))
    assert list(cases(spec, BOTH, 20, 7)) != list(cases(spec, BOTH, 20, 8))
    assert list(cases(spec, BOTH, 0, 7)) != list(cases(spec, BOTH, 0, 8))


def test_cases_do_not_depend_on_the_process():
    """Another process, where texts hash differently, draws the same cases."""
    program = (
        "from gradverify import catalog; from gradverify.cases import cases\n"
        "print(*cases(catalog('conv2d'), ('float64', 'float32'), 20, 5), sep='\\n')"
    )
    environment = dict(os.environ, PYTHONHASHSEED="1234")
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(c) for c in cases(catalog("conv2d"), BOTH, 20, 5)]


def test_given_sizes_are_kept():
    """`sizes` fixes some dimensions, however large, and leaves the others free."""
    found = list(cases(CATALOGUE["linear"], BOTH, 10, 0, {"N": 4, "D": 9_000}))
    assert {(dict(c.sizes)["N"], dict(c.sizes)["D"]) for c in found} == {(4, 9_000)}
    assert len({dict(c.sizes)["K"] for c in found}) > 3


def test_a_case_that_no_size_allows_is_none():
    """A row whose given sizes contradict the constraints makes no case."""
    row = {"eps": 1e-5, "dtype": "float64", "layout": "C", "values": "ordinary",
           "params": "ordinary", "cotangent": "signed"}  # fmt: skip
    assert solved(CATALOGUE["batch_norm"], row, {}, 0, {"N": 1}) is None


# -- one line


@every_spec
def test_a_case_is_read_back_from_its_line(spec):
    """Printing a case and parsing the line gives the same case, for the whole catalogue."""
    for c in cases(spec, ("float64", "float32", "float16"), 10, 2):
        assert parse_case(str(c), spec) == c


def test_the_line_of_a_case():
    """A case prints as names and values, sizes first."""
    assert str(case(CATALOGUE["batch_norm"], seed=5)) == (
        "N=2 C=3 eps=1e-05 dtype=float64 layout=C values=ordinary cotangent=signed seed=5"
    )


LINE = "N=2 C=3 eps=1e-05 dtype=float64 layout=C values=ordinary cotangent=signed seed=5"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seed=5", "seed", "'seed' is not of the form name=value"),
        ("seed=5", "", "seed is missing; a case of batch_norm gives ['C', 'N', 'cotangent', "),
        ("seed=5", "seed=5 D=3", "D names nothing; a case of batch_norm gives ['C', 'N', "),
        ("seed=5", "seed=x", "seed=x is not a whole number"),
        ("N=2", "N=-2", "N=-2 is not a whole number"),
        ("N=2", "N=1", "batch_norm does not allow these sizes"),
        ("C=3", "C=0", "batch_norm does not allow these sizes"),
        ("eps=1e-05", "eps=0.1", "eps=0.1 is not one of (1e-05, 0.01)"),
        ("float64", "double", "dtype=double is not one of float64, float32, float16"),
        ("layout=C", "layout=Z", "layout=Z is not one of C, F, strided, negative, readonly, broad"),
        (
            "values",
            "params=odd values",
            "params=odd is not one of ordinary, negative, zeros, large",
        ),
        ("ordinary", "odd", "values=odd is not one of ordinary, small, large, offset, positive, "),
        ("signed", "dense", "cotangent=dense is not one of signed, sparse, one-hot"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(old, new, told):
    """A line that is no case gets a message that names the part and what could stand there."""
    with pytest.raises(UsageError) as error:
        parse_case(LINE.replace(old, new), CATALOGUE["batch_norm"])
    assert str(error.value).startswith(f"case: {told}")


MARKED = ("N=3 C=2 H=1 W=1 gamma=1,C beta=N,C dtype=float64 layout=C values=ordinary "
          "cotangent=signed seed=5")  # fmt: skip
STARRED = "N=(2,3) D=3 K=4 dtype=float64 layout=C values=ordinary cotangent=signed seed=5"


@pytest.mark.parametrize(
    ("written", "leading", "size"),
    [("N=(2,3)", (2, 3), 6), ("N=()", (), 1), ("N=6", (6,), 6), ("N=(2,1,3)", (2, 1, 3), 6)],
)
def test_the_line_says_what_stands_for_a_star(written, leading, size):
    """A starred dimension is a list of dimensions in brackets, or one dimension as any other."""
    read = parse_case(STARRED.replace("N=(2,3)", written), CATALOGUE["linear_any"])
    assert (read.leading, read.at["N"]) == ((("N", leading),), size)
    assert str(read) == STARRED.replace("N=(2,3)", written)
    arrays = draw(CATALOGUE["linear_any"], read)
    assert arrays.tensors["x"].shape == (*leading, 3)
    assert arrays.cotangents[0].shape == (*leading, 4)


def test_the_line_says_the_shapes_that_tensors_are_given_in():
    """A tensor that may be 1 on an axis has a shape of its own in the line."""
    read = parse_case(MARKED, CATALOGUE["film"])
    assert str(read) == MARKED
    arrays = draw(CATALOGUE["film"], read).tensors
    assert (arrays["gamma"].shape, arrays["beta"].shape) == ((1, 2), (3, 2))


@pytest.mark.parametrize(
    ("line", "name", "old", "new", "told"),
    [
        (STARRED, "linear_any", "(2,3)", "(2,x)", "N=(2,x) is not a whole number"),
        (STARRED, "linear_any", "(2,3)", "(2,0)", "linear_any does not allow these sizes"),
        (STARRED, "linear_any", "D=3", "D=(3)", "D=(3) is not a whole number"),
        (MARKED, "film", "=1,C", "=N,1", "gamma=N,1 is not one of N,C, 1,C"),
        (MARKED, "film", "gamma=1,C", "", "gamma is missing; a case of film gives ['C', 'H', "),
    ],
)
def test_what_is_wrong_with_a_marked_dimension_is_said(line, name, old, new, told):
    """A line gives what stands for a star, and the shape of each tensor that may be 1."""
    with pytest.raises(UsageError) as error:
        parse_case(line.replace(old, new), CATALOGUE[name])
    assert str(error.value).startswith(f"case: {told}")


@pytest.mark.parametrize("seed", range(3))
def test_the_covering_set_has_every_rank_and_every_shape(seed):
    """No dimension, one, two unequal ones and three; each tensor whole and of size 1, and so in a
    quick run."""
    first = [*cases(CATALOGUE["linear_any"], BOTH, 0, seed)]
    made = [dict(c.leading)["N"] for c in first]
    assert {len(m) for m in made} == {0, 1, 2, 3}
    for few in (made, made[:14]):
        assert any(len(m) == 2 and 1 not in m and m[0] != m[1] for m in few)
    marked = [dict(c.shapes) for c in cases(CATALOGUE["film"], BOTH, 0, seed)]
    pairs = {(c["gamma"], c["beta"]) for c in marked[:14]}
    assert pairs == {*product(("N,C", "1,C"), repeat=2)}


def test_one_dimension_and_whole_tensors_are_simpler():
    """A failure is shrunk to one dimension for a star and to full shapes, where it stays one."""
    starred = parse_case(STARRED, CATALOGUE["linear_any"])
    simpler, *smallest = smaller(CATALOGUE["linear_any"], starred)
    assert str(simpler) == STARRED.replace("(2,3)", "6")
    sizes = [dict(c.leading)["N"] for c in smallest]
    assert {(1, 1), (1, 2), (1, 3), (1, 5)} <= set(sizes)
    (whole, *_) = smaller(CATALOGUE["film"], parse_case(MARKED, CATALOGUE["film"]))
    assert str(whole) == MARKED.replace("=1,C", "=N,C")


def test_constraints_hold_for_the_whole_of_a_star():
    """Where no dimension cannot be, one is; a size that is given is split as it goes."""
    spec = Spec("s", x=Input("*B D"), y=Output("*B"), where=["B >= 2", "B % 2 == 0"])
    made = {dict(c.leading)["B"] for c in cases(spec, BOTH, 20, 0)}
    assert () not in made
    assert all(np.prod(m) % 2 == 0 for m in made)
    given = {dict(c.leading)["B"] for c in cases(spec, BOTH, 0, 0, {"B": 12})}
    assert given == {(12,), (3, 4), (3, 1, 4)}


# -- arrays

VALUE = np.arange(1.0, 13.0).reshape(3, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 1, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_a_layout_changes_no_value(layout, shape, dtype):
    """A copy has the same values, shape and dtype in every layout, and shares no memory."""
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    laid = with_layout(array, layout)
    assert laid.dtype == array.dtype
    assert laid.shape == array.shape
    assert np.array_equal(laid, array)
    assert not np.shares_memory(laid, array)


def test_layouts_are_what_they_are_called():
    """Strides and flags are those that the name of a layout promises."""
    strides = {k: with_layout(VALUE, k).strides for k in LAYOUTS}
    assert strides == {
        "C": (32, 8), "F": (8, 24), "strided": (128, 16), "negative": (-32, -8), "readonly": (32, 8),
        "broadcast": (32, 8), "mixed": (32, 8),
    }  # fmt: skip
    assert with_layout(VALUE, "C").flags.c_contiguous
    assert with_layout(VALUE, "F").flags.f_contiguous
    assert not with_layout(VALUE, "F").flags.c_contiguous
    for layout in ("strided", "negative"):
        flags = with_layout(VALUE, layout).flags
        assert not flags.c_contiguous
        assert not flags.f_contiguous
    writeable = {k: with_layout(VALUE, k).flags.writeable for k in LAYOUTS}
    assert writeable == dict.fromkeys(LAYOUTS, True) | {"readonly": False, "broadcast": False}


def test_equal_elements_are_kept_once_in_a_broadcast_layout():
    """A stride is 0 along every axis on which all elements are equal, one of size 1 among them."""
    rows = np.repeat([[1.0, 2.0, 3.0]], 4, axis=0)
    for array, zero in (
        (rows, (0,)), (rows.T, (1,)), (np.full((3, 4), 2.5), (0, 1)), (VALUE[:, :1], (1,)), (VALUE, ()),
    ):  # fmt: skip
        laid = with_layout(array, "broadcast")
        assert tuple(k for k, stride in enumerate(laid.strides) if stride == 0) == zero
        assert np.array_equal(laid, array)
        assert not laid.flags.writeable
        assert not np.shares_memory(laid, array)


def test_cotangents_of_a_broadcast_layout_have_equal_elements():
    """A cotangent is the same along an axis, as that of a sum is, unless it is one-hot or sparse."""
    spec = CATALOGUE["linear"]
    for seed in range(6):
        (dy,) = draw(spec, case(spec, N=4, K=3, layout="broadcast", seed=seed)).cotangents
        assert 0 in dy.strides
        assert len(np.unique(dy)) > 1
    axes = [draw(spec, case(spec, N=4, K=3, layout="broadcast", seed=s)).cotangents[0].strides.index(0)
            for s in range(6)]  # fmt: skip
    assert set(axes) == {0, 1}
    (hot,) = draw(spec, case(spec, N=4, layout="broadcast", cotangent="one-hot")).cotangents
    assert np.array_equal(hot[hot != 0], [-1.5])


def test_layouts_are_mixed_tensor_by_tensor():
    """Tensors and cotangents have layouts of their own, which follow from the seed."""
    spec = CATALOGUE["linear"]

    def laid(seed):
        arrays = draw(spec, case(spec, N=4, D=5, K=3, layout="mixed", seed=seed))
        tensors = (*arrays.tensors.values(), *arrays.cotangents)
        return tuple((a.strides, a.flags.writeable) for a in tensors)

    assert laid(1) == laid(1)
    for k in range(4):
        assert len({laid(seed)[k] for seed in range(40)}) >= (3 if k == 2 else 5)


@pytest.mark.parametrize("layout", [k for k in LAYOUTS if k != "mixed"])
def test_everything_a_layer_gets_has_the_layout(layout):
    """Inputs, parameters and cotangents are laid out alike, in the dtype of the case."""
    arrays = draw(CATALOGUE["linear"], case(CATALOGUE["linear"], layout=layout, dtype="float32"))
    for array in (arrays.tensors["x"], arrays.tensors["w"], *arrays.cotangents):
        assert array.strides == with_layout(array, layout).strides
        assert array.flags.writeable is (layout not in ("readonly", "broadcast"))
        assert array.dtype == np.float32


def test_another_tensor_changes_no_values():
    """A tensor is drawn from its name: a replay survives what is declared beside it."""
    one = Spec("one", x=Input("N C"), y=Output("N C"))
    two = Spec("two", w=Param("C N"), x=Input("N C"), z=Output("N"), y=Output("N C"))
    first, second = (draw(s, case(s, N=3, C=4, seed=11)) for s in (one, two))
    assert np.array_equal(first.tensors["x"], second.tensors["x"])
    assert np.array_equal(first.cotangents[0], second.cotangents[1])
    assert not np.array_equal(first.tensors["x"], second.tensors["w"].T)


def test_a_cotangent_is_not_its_output():
    """Tensors and cotangents of one shape, and those of different seeds, all differ."""
    spec = CATALOGUE["softmax"]
    drawn = [draw(spec, case(spec, seed=s)) for s in (1, 2)]
    arrays = [a for d in drawn for a in (d.tensors["x"], d.cotangents[0])]
    assert len({a.tobytes() for a in arrays}) == 4


def test_values_look_as_they_are_called():
    """Inputs are small, tiny, large, huge, offset or of one sign; parameters are tied with them,
    and else none of it."""
    spec = Spec("s", x=Input("N"), w=Param("N"), y=Output("N"))
    drawn = {v: draw(spec, case(spec, N=500, values=v)).tensors for v in VALUES}
    x = {v: d["x"] for v, d in drawn.items()}
    assert np.array_equal(x["small"], 1e-3 * x["ordinary"])
    assert np.array_equal(x["large"], 30 * x["ordinary"])
    assert np.array_equal(x["tiny"], 1e-8 * x["ordinary"])
    assert np.array_equal(x["huge"], 1000 * x["ordinary"])
    assert np.array_equal(x["offset"], x["ordinary"] + 8)
    assert x["positive"].min() > 0 > x["negative"].max()
    assert x["ordinary"].min() < -2 < 2 < x["ordinary"].max()
    same = {d["w"].tobytes() for v, d in drawn.items() if v != "ties"}
    assert len(same) == 1


def test_parameters_look_as_they_are_called():
    """Parameters are negative, tiny, large or zero in half of their elements, and inputs none of
    it; learning starts where it is declared to, whatever a case says."""
    spec = Spec("s", x=Input("N"), w=Param("N", init="ones"), y=Output("N"))
    drawn = {p: draw(spec, case(spec, N=500, params=p)).tensors for p in PARAMS}
    w = {p: d["w"] for p, d in drawn.items()}
    assert w["negative"].max() < 0
    assert np.array_equal(w["tiny"], 1e-8 * w["ordinary"])
    assert np.array_equal(w["large"], 30 * w["ordinary"])
    assert 0.4 < np.mean(w["zeros"] == 0) < 0.6
    assert len({d["x"].tobytes() for d in drawn.values()}) == 1
    for p in PARAMS:
        assert set(draw(spec, case(spec, params=p), start=True).tensors["w"]) == {1.0}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_squares_and_what_is_made_of_them_are_numbers_of_the_dtype(dtype):
    """The largest and the smallest values still have squares, and products of three, that neither
    overflow nor lose their digits in that dtype; exp of the huge ones overflows."""
    spec = Spec("s", x=Input("N"), y=Output("N"))
    top, least = (
        max(float(np.abs(draw(spec, case(spec, N=100, values=v, dtype=dtype, seed=s)).tensors["x"])
                  .astype(float).max()) for s in range(9))
        for v in ("huge", "tiny")
    )  # fmt: skip
    info = np.finfo(dtype)
    assert top**2 < info.max / 16
    assert least**2 > 20 * info.tiny or dtype == "float16"
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(np.asarray(top, dtype)))


def test_cotangents_look_as_they_are_called():
    """A sparse cotangent is half zeros, a one-hot one has a single element, -1.5, a negative one no
    positive one; tiny and large are what they are of inputs."""
    spec = Spec("s", x=Input("N C"), y=Output("N C"))
    dy = {c: draw(spec, case(spec, N=40, C=9, cotangent=c)).cotangents[0] for c in COTANGENTS}
    assert dy["negative"].max() < 0
    assert np.array_equal(dy["tiny"], 1e-8 * dy["signed"])
    assert np.array_equal(dy["large"], 30 * dy["signed"])
    assert np.all(dy["signed"] != 0)
    assert 0.4 < np.mean(dy["sparse"] == 0) < 0.6
    assert np.array_equal(dy["one-hot"][dy["one-hot"] != 0], [-1.5])


def test_declared_values_are_kept_to():
    """Ranges, listed values and integers are drawn as declared, in every regime."""
    spec = Spec(
        "s",
        x=Input("N", range="0.1..3"),
        mask=Input("N", values=(0, 1), differentiable=False),
        ids=Input("N", dtype=int, range="0..V-1"),
        bit=Input("N", dtype=int),
        w=Param("V", range="-2..-1"),
        y=Output("N"),
    )
    for values in VALUES:
        at = draw(spec, case(spec, N=300, V=4, values=values)).tensors
        assert 0.1 <= at["x"].min() <= at["x"].max() <= 3
        if values not in AT_KINKS:
            assert at["x"].min() < 0.2 < 2.9 < at["x"].max()
        assert set(at["mask"]) == {0.0, 1.0}
        assert set(at["ids"]) == {0, 1, 2, 3}
        assert set(at["bit"]) == {0, 1}
        assert at["ids"].dtype.kind == "i"
        assert -2 <= at["w"].min() <= at["w"].max() <= -1


def test_learning_starts_where_it_is_declared_to():
    """With `start`, parameters and buffers have their initial values; otherwise they are drawn
    away from them."""
    spec = Spec(
        "s", x=Input("N"), ones=Param("N", init="ones"), zeros=Param("N", init="zeros"),
        slope=Param("N", init=0.25), free=Param("N"), y=Output("N"),
        state=Buffer("N", init="ones", range="0.5..3"),
    )  # fmt: skip
    at = case(spec, N=5)
    started, drawn = draw(spec, at, start=True).tensors, draw(spec, at).tensors
    assert {k: set(started[k]) for k in ("ones", "zeros", "slope", "state")} == {
        "ones": {1.0}, "zeros": {0.0}, "slope": {0.25}, "state": {1.0},
    }  # fmt: skip
    for name in ("x", "free"):
        assert np.array_equal(started[name], drawn[name])
    assert np.all((drawn["state"] >= 0.5) & (drawn["state"] <= 3))
    for name in ("ones", "zeros", "slope", "state"):
        assert not np.any(np.isin(drawn[name], (0, 0.25, 1)))


# -- smaller ones


@every_spec
def test_smaller_cases_are_simpler_and_allowed(spec):
    """What a failure is shrunk to is simpler in one respect, and a case of the spec."""
    for c in islice(cases(spec, BOTH, 0, 0), 0, None, 4):
        for simpler in smaller(spec, c):
            assert simpler.weight < c.weight
            assert parse_case(str(simpler), spec) == simpler


def test_the_simplest_case_has_none_smaller():
    """A plain case of smallest sizes ends the search."""
    spec = CATALOGUE["batch_norm"]
    assert list(smaller(spec, case(spec, N=2, C=1))) == []


def test_plainness_is_tried_before_size():
    """Layout, values, parameters, cotangent and dtype become plain first, then sizes fall."""
    spec = Spec("s", x=Input("N"), a=Constant(1, 2), y=Output("N"))
    odd = Case((("N", 9),), (("a", 2),), "float32", "F", "large", "sparse", 4, params="tiny")
    plain = [replace(odd, layout="C"), replace(odd, values="ordinary"),
             replace(odd, params="ordinary"), replace(odd, cotangent="signed"),
             replace(odd, dtype="float64")]  # fmt: skip
    shorter = [replace(odd, sizes=(("N", n),)) for n in (1, 2, 4, 8)]
    assert list(smaller(spec, odd)) == plain + shorter
