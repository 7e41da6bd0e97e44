"""What a report says of the cases themselves: which values occurred, and what could not."""

import json
from dataclasses import replace

from gradverify import Constant, Input, Layer, Output, Spec, catalog, verify
from gradverify.cases import cases
from gradverify.coverage import coverage
from gradverify.loading import catalogue_folder, load
from gradverify.report import Page
from gradverify.report.terminal import render
from gradverify.result import report_from_json

BOTH = ("float64", "float32")
batch_norm = catalog("batch_norm")
(numpy_batch_norm,) = load(catalogue_folder() / "batch_norm.py")


def test_each_value_of_each_factor_is_counted():
    """The counts of a factor add up to the cases, and no declared value is left out."""
    chosen = list(cases(batch_norm, BOTH, 5, 0))
    found = coverage(batch_norm, BOTH, chosen, [], {})
    assert found.cases == len(chosen)
    assert set(found.factors) == {"eps", "dtype", "layout", "values", "cotangent", "params"}
    for counts in found.factors.values():
        assert sum(counts.values()) == len(chosen)
        assert min(counts.values()) >= 1
    assert found.factors["eps"].keys() == {"1e-05", "0.01"}


def test_sizes_are_told_by_what_they_are():
    """A dimension is 1, equal to another or to none, prime, a power of two, large: several at once."""
    first = next(cases(batch_norm, BOTH, 0, 0))
    chosen = [
        replace(first, sizes=(("N", n), ("C", c))) for n, c in ((2, 1), (3, 3), (19, 4), (9, 6))
    ]
    found = coverage(batch_norm, BOTH, chosen, [], {}).sizes
    assert found["N"] == {
        "1": 0, "equal": 1, "unequal": 3, "prime": 3, "power of 2": 1, ">=19": 1,
    }  # fmt: skip
    assert found["C"] == {
        "1": 1, "equal": 1, "unequal": 3, "prime": 1, "power of 2": 1, ">=19": 0,
    }  # fmt: skip


def test_what_cannot_be_is_told_with_its_reason():
    """A size that a constraint forbids, values that overflow the definition, and given sizes."""
    (told,) = verify(numpy_batch_norm).layers[0].coverage.missing
    assert told == "N=1: not allowed by N >= 2"
    spec = Spec(
        "power", x=Input("N"), a=Constant(2.0), y=Output("N"), definition="y[n] = exp(x[n])"
    )

    def function(x, a):
        import numpy as np

        y = np.exp(x)
        return y, lambda dy: {"x": dy * y}

    (result,) = verify(Layer(spec, function), checks=["forward"], sizes={"N": 40}).layers
    told, *sizes = result.coverage.missing
    assert sizes == ["N=1: N=40 is given"]
    assert told.startswith("values=huge: no values found in ")
    assert told.endswith(" case(s) at which the definition is finite and away from its kinks")
    assert result.remarks == ()  # others came instead
    given = verify(numpy_batch_norm, checks=["forward"], sizes={"N": 4}).layers[0].coverage.missing
    assert given == ("N=1: N=4 is given", "N>=19: N=4 is given")


def test_a_short_run_says_what_it_left_out():
    """In the quick profile some values do not occur, and the report says so."""
    found = verify(numpy_batch_norm, profile="quick", checks=["forward"]).layers[0].coverage
    assert found.cases == 14
    few = coverage(batch_norm, BOTH, [next(cases(batch_norm, BOTH, 0, 0))], [], {})
    assert "layout=F: not among the cases of this profile" in few.missing
    assert "C=1: not among the cases of this profile" in few.missing


def test_coverage_is_in_the_json_and_read_back():
    """JSON has the counts, and for each tensor the number of powered cases and who set what."""
    report = verify(numpy_batch_norm, profile="quick")
    data = json.loads(report.to_json())["layers"][0]
    assert data["coverage"]["cases"] == 14
    assert data["coverage"]["factors"]["dtype"].keys() == {"float64", "float32"}
    tensor = data["checks"][2]["tensors"]["gamma"]
    assert 3 <= tensor["powered"] <= 14
    assert tensor["why"].startswith("16 x (spread ")
    assert report_from_json(report.to_json()) == report
    for layer in (old := json.loads(report.to_json()))["layers"]:
        del layer["coverage"]
    assert report_from_json(json.dumps(old)).layers[0].coverage is None


def test_coverage_is_shown_when_asked_for():
    """With -v the counts stand below the tensors; without, they do not."""
    report = verify(numpy_batch_norm, profile="quick")
    shown = render(report, Page(width=100, verbose=True))
    assert "\n  cases       14, of which\n  eps         1e-05: " in shown
    assert "\n  not tried   N=1: not allowed by N >= 2\n" in shown
    assert "not tried" not in render(report, Page(width=100))
