"""Wrong layers, of many kinds over the catalogue, are failed; with a broken check they pass.

Each layer of tests/wrong is named after what is wrong with it: `dx_...` has a wrong gradient of x,
`y_...` a wrong output y, `x_...` changes x.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from gradverify import Status, Verdict, asking, checks, engine, ground, shrink, trial, verify
from gradverify.cases import Arrays, draw
from gradverify.checks import exact, finite_difference, precision
from gradverify.checks.observation import Observation
from gradverify.loading import load
from gradverify.numerics import allowance

LAYERS = [
    layer for path in sorted((Path(__file__).parent / "wrong").glob("*.py")) for layer in load(path)
]
BY_NAME = {layer.name: layer for layer in LAYERS}


def tensor_of(layer):
    """Return the tensor that the name of a wrong layer starts with."""
    names = (t for t in layer.spec.tensors if layer.name.startswith((f"d{t}_", f"{t}_")))
    return max(names, key=len)


@pytest.fixture
def _once(monkeypatch):
    # Neither a smaller case nor the worst element is asked for here.
    monkeypatch.setattr(shrink, "SHRINKS", 0)
    monkeypatch.setattr(finite_difference, "MOST_ELEMENTS", 2)
    monkeypatch.setattr(exact, "MOST_ELEMENTS", 2)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.spec.name}-{layer.name}")
def test_a_wrong_layer_is_failed(layer):
    """The default profile meets an error at seed 0."""
    assert engine.first_error(layer, engine.profile_of("default")) is not None


@pytest.mark.parametrize("layer", LAYERS[::11], ids=lambda layer: f"{layer.spec.name}-{layer.name}")
@pytest.mark.usefixtures("_once")
def test_what_is_wrong_is_named(layer):
    """The findings name the wrong tensor, and blame no other for a wrong gradient."""
    (result,) = verify(layer).layers
    assert result.verdict is Verdict.FAILED
    named = {finding.tensor for finding in result.errors} - {None}
    assert tensor_of(layer) in named
    if layer.name.startswith("d"):
        assert named == {tensor_of(layer)}  # nothing else is blamed for a wrong gradient


def test_many_kinds_are_tried():
    """The collection is no handful: a hundred layers over more than a dozen specs."""
    assert len(LAYERS) == len(BY_NAME) >= 100
    assert len({layer.spec.name for layer in LAYERS}) >= 20


def test_what_overflows_where_the_definition_does_not_is_told_what_to_do():
    """A softmax without the maximum is right at values that people try, and not at huge ones: the
    finding says what to declare if such are not meant."""
    (result,) = verify(BY_NAME["y_of_softmax_without_the_maximum"], checks=["contract"]).layers
    finding = next(f for f in result.findings if (f.question, f.tensor) == ("finite", "y"))
    assert finding.message.startswith("output y is nan at y[")
    assert "where the definition is finite: x has huge values, up to " in finding.message
    assert 'declare its range, such as x=Input(..., range="-10..10")' in finding.message


# -- these tests can fail: with a broken check, wrong layers pass or the verdict says so


@pytest.fixture
def _anew(monkeypatch):
    """Keep nothing that was computed before a check is broken."""
    for module, name in ((trial, "_reference"), (ground, "_ground")):
        uncached = lru_cache(maxsize=0)(getattr(module, name).__wrapped__)
        monkeypatch.setattr(module, name, uncached)


def judged(name, **options):
    (result,) = verify(BY_NAME[name], profile="quick", **options).layers
    return result


def test_a_comparison_that_always_passes_lets_wrong_layers_through(monkeypatch):
    """What symbolic alone can tell to be wrong is then verified."""

    def content(question, tensor, expected, got, allowance):
        yield Observation(question, tensor, Status.PASSED)

    assert judged("dx_wrong_in_float32").verdict is Verdict.FAILED
    monkeypatch.setattr(precision, "compare", content)
    assert judged("dx_wrong_in_float32").verdict is Verdict.VERIFIED


@pytest.mark.usefixtures("_anew")
def test_an_allowance_without_bound_makes_all_vacuous(monkeypatch):
    """Nothing is wrong then, and nothing verified either."""
    assert judged("dbeta_halved", checks=["symbolic"]).verdict is Verdict.FAILED
    monkeypatch.setattr(allowance, "FACTOR", float("inf"))
    result = judged("dbeta_halved", checks=["symbolic"])
    assert result.verdict is Verdict.INCOMPLETE
    assert {c.check: c.status for c in result.checks}["symbolic"] is Status.VACUOUS


@pytest.mark.usefixtures("_anew")
def test_a_generous_allowance_lets_small_errors_through(monkeypatch):
    """With a factor of 1e11 instead of 16, symbolic no longer sees an error of 1e-6."""
    assert judged("dx_off_by_1e_6", checks=["symbolic"]).findings
    monkeypatch.setattr(allowance, "FACTOR", 1e11)
    assert not judged("dx_off_by_1e_6", checks=["symbolic"]).findings


@pytest.mark.parametrize("name", ["symbolic", "finite_difference", "descent"])
def test_a_tensor_that_is_skipped_has_not_passed(name, monkeypatch):
    """A check that says nothing of a tensor is vacuous, and the verdict incomplete."""
    check = checks.CHECKS[name]

    def skips_beta(trial):
        return (seen for seen in check.examine(trial) if seen.tensor != "beta")

    lazy = dict(checks.CHECKS) | {name: replace(check, examine=skips_beta)}
    assert judged("dbeta_halved", checks=[name]).verdict is Verdict.FAILED
    monkeypatch.setattr(asking, "CHECKS", lazy)
    result = judged("dbeta_halved", checks=[name])
    assert result.verdict is Verdict.INCOMPLETE
    (found,) = (c for c in result.checks if c.check == name)
    assert (found.status, found.tensors["beta"].status) == (Status.VACUOUS, Status.VACUOUS)
    assert "only 0 case(s) could have told right from wrong" in found.tensors["beta"].reason


@pytest.mark.usefixtures("_anew")
def test_without_a_case_nothing_has_passed(monkeypatch):
    """An empty list of cases is vacuous in every check, with the reason."""
    monkeypatch.setattr(ground, "covering_set", lambda *_: iter(()))
    monkeypatch.setattr(ground, "drawn_cases", lambda *_: iter(()))
    result = judged("dbeta_halved")
    assert result.verdict is Verdict.INCOMPLETE
    asked = [c for c in result.checks if c.status is not Status.NOT_APPLICABLE]
    assert len(asked) == 6
    assert {(c.status, c.reason) for c in asked} == {(Status.VACUOUS, "there was no case")}


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("dx_of_the_first_16_rows", lambda case: dict(case.sizes)["N"] > 16),
        ("dw_for_c_order_only", lambda case: case.layout not in ("C", "readonly")),
        ("dx_for_the_usual_eps_only", lambda case: dict(case.constants)["eps"] == 1e-2),
        ("dx_wrong_in_float32", lambda case: case.dtype == "float32"),
        ("dx_of_softmax_wrong_for_one_class", lambda case: dict(case.sizes)["C"] == 1),
        ("db_summed_over_k_for_one_vector", lambda case: "N=()" in str(case)),
        ("dx_with_the_leading_dimensions_swapped", lambda case: len(dict(case.leading)["N"]) > 1),
        ("dgamma_averaged_over_n", lambda case: "gamma=1,C" in str(case)),
        ("dgamma_summed_even_where_it_is_whole", lambda case: "gamma=N,C" in str(case)),
    ],
)
def test_a_kind_of_case_that_is_missing_lets_wrong_layers_through(name, missing, monkeypatch):
    """Large sizes, layouts, constants, precisions, single sizes, vectors, batches of sequences and
    tensors of size 1 are all there for a reason."""
    assert verify(BY_NAME[name], checks=["symbolic"]).findings
    for source in ("covering_set", "drawn_cases"):
        drawn = getattr(ground, source)
        kept = lambda *a, drawn=drawn: (c for c in drawn(*a) if not missing(c))  # noqa: E731
        monkeypatch.setattr(ground, source, kept)
    assert not verify(BY_NAME[name], checks=["symbolic"]).findings


def test_differences_that_are_never_trusted_verify_nothing(monkeypatch):
    """A slope that is always uncertain is vacuous."""
    monkeypatch.setattr(finite_difference, "derivative", lambda *_: None)
    result = judged("dbeta_halved", checks=["finite_difference"])
    assert {c.check: c.status for c in result.checks}["finite_difference"] is Status.VACUOUS


@pytest.mark.usefixtures("_anew")
def test_a_cotangent_that_is_always_zero_verifies_nothing(monkeypatch):
    """Every gradient is then right, zero, and neither passed nor redundant."""

    def blank(spec, case, *, start=False):
        arrays = draw(spec, case, start=start)
        return Arrays(arrays.tensors, tuple(np.zeros_like(dy) for dy in arrays.cotangents))

    monkeypatch.setattr(trial, "draw", blank)
    result = judged("dbeta_halved", checks=["symbolic", "finite_difference"])
    assert result.findings == ()
    assert {c.status for c in result.checks if c.cases} == {Status.VACUOUS}
