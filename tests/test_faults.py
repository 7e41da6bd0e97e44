"""The collection of wrong layers in tests/faults: each is wrong indeed, and the checks fail it.

A subset is judged here; `python tests/faults/sweep.py` judges all at several seeds.
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gradverify.audit.faults import KINDS, fault
from gradverify.audit.run import shows
from gradverify.audit.site import sites_of
from gradverify.cases import cases
from gradverify.engine import first_error, profile_of
from gradverify.regular import settled
from gradverify.trial import make_oracle

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from collection import by_hand, catalogue, layer_of, planted, row_of, undefined, written

# What a diagnosis can name (result.Finding).
NAMED = {
    "missing path", "count", "axis", "broadcast", "transposed", "sign", "factor", "eps", "stale",
    "accumulated", "precision", "region", "size", "layout", "values", "constant", "dtype",
    "mutation", "shape", "missing", "nondeterministic", "cotangent", "swapped",
}  # fmt: skip
ROWS = planted()
# Every so many of the table, so that all kinds and nearly all specs occur.
STEP = 9
SOME = ROWS[::STEP]
# What no case of today shows; the README tells of it.
UNSEEN = {}


def test_the_collection_is_large_and_of_all_kinds():
    """Hundreds of wrong layers over the whole catalogue, each with a name of its own."""
    rows = [*ROWS, *by_hand()]
    assert len({row.name for row in rows}) == len(rows) >= 700
    assert {row.layer for row in ROWS} == catalogue().keys()
    assert {row.fault.partition(":")[0] for row in ROWS} == set(KINDS)
    assert {row.layer for row in by_hand()} == written().keys()
    assert {kind for row in rows for kind in row.told.split("|")} <= NAMED | {"-"}


@pytest.mark.parametrize("name", catalogue())
def test_each_planted_fault_changes_something(name):
    """In 50-digit arithmetic its gradient is another than the derived one, or its calls show it."""
    right = catalogue()[name]
    oracle = make_oracle(right.spec)
    listed = (
        settled(right.spec, oracle, c) for c in cases(right.spec, ("float64", "float32"), 0, 0)
    )
    places = sites_of(right.spec, [case for case in islice(listed, 24) if case])
    with np.errstate(all="ignore"):
        for row in (row for row in ROWS if row.layer == name):
            planted = fault(right, row.fault)
            assert shows(planted, right, places) is not None, row.name
            assert row.told == row_of(right, planted).told


@pytest.mark.parametrize("row", SOME, ids=lambda row: row.name)
def test_a_planted_fault_is_failed(row):
    """The default profile finds an error at seed 0."""
    found = first_error(layer_of(row), profile_of("default"))
    if row.name in UNSEEN:
        pytest.xfail(UNSEEN[row.name])
    assert found is not None
    assert found.severity == "error"


@pytest.mark.parametrize("name", ["numpy_batch_norm", "numpy_film", "numpy_multi_head_attention"])
def test_a_spec_without_its_definition_declares_the_same(name):
    """Stars, axes of size 1, constants and the parameters of parts are all kept."""
    spec = catalogue()[name].spec
    bare = undefined(spec)
    assert bare.program is None
    assert (bare.shapes, bare.dims, bare.stars, bare.ones) == (
        spec.shapes, spec.dims, spec.stars, spec.ones
    )  # fmt: skip
    assert (bare.constants, bare.where) == (spec.constants, spec.where)
