"""The engine: statuses and verdicts, the same from the same seed, whatever a layer does."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from gradverify import Input, Layer, Output, Param, Spec, Status, UsageError, Verdict, verify
from gradverify.cases import Case
from gradverify.checks.observation import failed, warned
from gradverify.engine import profile_of, verify_layer
from gradverify.jobs import Job, run
from gradverify.loading import catalogue_folder, content_hash, load
from gradverify.tally import Seen
from gradverify.workers import WorkerPool

MANY = """
import os, time
from gradverify import catalog

relu = catalog("relu")

@relu.register
def dies(x):
    os._exit(3)

@relu.register
def good(x):
    return x * (x > 0), lambda dy: {"x": dy * (x > 0)}

@relu.register
def hangs(x):
    while True:
        time.sleep(1)

@relu.register
def raises(x):
    return x.nothing
"""


def timeless(report):
    """Return a report without the seconds that its checks took."""
    layers = [
        replace(layer, checks=tuple(replace(c, seconds=0.0) for c in layer.checks))
        for layer in report.layers
    ]
    return replace(report, layers=tuple(layers))


def job(path, layer, **changed):
    made = Job(str(path), content_hash(path), layer, "quick", ("contract", "symbolic"), 0)
    return replace(made, **changed)


@pytest.fixture
def many(tmp_path):
    path = tmp_path / "many.py"
    path.write_text(MANY)
    return path


def halved(x, w):
    return x * w, lambda dy: {"x": dy * w, "w": dy * x / 2}


def test_the_same_seed_gives_the_same_report():
    """Cases, statuses, findings and figures follow from the seed alone."""
    layer = Layer(catalog_like(), halved)
    assert timeless(verify(layer, seed=3)) == timeless(verify(layer, seed=3))
    cases = {verify(layer, seed=s).findings[-1].case for s in (3, 4)}
    assert len(cases) == 2


def catalog_like(definition="y[n] = x[n]*w[n]"):
    return Spec("s", x=Input("N"), w=Param("N"), y=Output("N"), definition=definition)


def test_without_a_definition_the_other_checks_decide():
    """Symbolic and forward are unavailable; a wrong gradient is found all the same."""
    bare = catalog_like(None)
    (right,) = verify(Layer(bare, lambda x, w: (x * w, lambda dy: (dy * w, dy * x)))).layers
    statuses = {c.check: c.status for c in right.checks}
    assert statuses["symbolic"] is statuses["forward"] is Status.UNAVAILABLE
    assert right.verdict is Verdict.VERIFIED
    assert "verified without a definition" in right.remarks
    (wrong,) = verify(Layer(bare, halved)).layers
    assert wrong.verdict is Verdict.FAILED
    assert {(f.check, f.tensor) for f in wrong.errors} >= {("finite_difference", "w")}


def test_what_could_not_be_told_is_vacuous_and_not_green():
    """A gradient that is zero in every case that is drawn verifies nothing."""
    never = Spec(
        "s", x=Input("N", values=(-1.0, -2.0)), y=Output("N"), definition="y[n] = relu(x[n])"
    )
    (result,) = verify(Layer(never, lambda x: (0 * x, lambda dy: 0 * dy))).layers
    assert {c.check: c.status for c in result.checks}["symbolic"] is Status.VACUOUS
    assert result.verdict is Verdict.INCOMPLETE


def test_a_check_that_is_not_chosen_leaves_the_verdict_open():
    """All checks are required: some of them alone verify nothing."""
    right = Layer(catalog_like(), lambda x, w: (x * w, lambda dy: (dy * w, dy * x)))
    (result,) = verify(right, checks=["symbolic"]).layers
    assert result.verdict is Verdict.INCOMPLETE
    assert {c.check: c.status for c in result.checks}["descent"] is Status.SKIPPED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "fast"}, "there is no profile 'fast'; known are quick, default, thorough"),
        ({"checks": ["symbolik"]}, "there is no check 'symbolik'; did you mean 'symbolic'?"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(options, said):
    """A wrong option of verify is a UsageError that names what was probably meant."""
    with pytest.raises(UsageError) as error:
        verify(Layer(catalog_like(), halved), **options)
    assert str(error.value) == said


def test_the_bias_before_batch_norm_is_redundant_and_beta_is_not():
    """What is derived zero is told from what does not learn, and the layer is verified."""
    from gradverify.loading import catalogue_folder

    (layer,) = load(catalogue_folder() / "linear_batch_norm.py")
    (result,) = verify(layer).layers
    descent = {c.check: c for c in result.checks}["descent"].tensors
    assert descent["b"].status is Status.REDUNDANT
    assert {descent[t].status for t in ("x", "w", "gamma", "beta")} == {Status.PASSED}
    assert any(remark.startswith("b is redundant") for remark in result.remarks)
    assert result.verdict is Verdict.VERIFIED


def test_a_layer_that_dies_is_a_finding_and_the_others_are_judged(many):
    """One layer never takes another one down, nor the run."""
    names = ("dies", "good", "raises")
    seen = []
    with WorkerPool(2, None) as pool:
        asked = [job(many, name) for name in names]
        results = run(asked, pool, lambda job, result: seen.append((job.layer, result.layer)))
    assert [r.layer for r in results] == list(names)
    assert sorted(seen) == sorted(zip(names, names, strict=True))
    questions = [[f.question for f in r.findings] for r in results]
    assert questions == [["dies"], [], ["raises"]]
    statuses = {c.check: c.status for c in results[1].checks}
    assert statuses["contract"] is statuses["symbolic"] is Status.PASSED


def test_a_layer_that_hangs_is_a_finding_and_its_process_is_no_loss(many):
    """However slow the machine is, what never ends is told; and the next task is run."""
    with WorkerPool(1, 1.0) as pool:
        (result,) = run([job(many, "hangs")], pool, lambda job, result: None)
        (after,) = run([job(many, "dies")], pool, lambda job, result: None)
    assert [f.question for f in result.findings] == ["hangs"]
    assert after.layer == "dies"
    assert len(after.findings) == 1  # that it dies, or where loading it is slow, that it hangs


def test_any_executor_will_do_and_a_changed_file_is_told(many):
    """Work goes as plain data; the worker checks that it loads the file that was meant."""
    with ThreadPoolExecutor(1) as pool:
        right, changed = run(
            [job(many, "good"), job(many, "good", digest="0")], pool, lambda job, result: None
        )
    assert right.findings == ()
    (finding,) = changed.findings
    assert "changed while it was being verified" in finding.message


def test_one_case_can_be_judged_again():
    """The case of a finding, put to the layer alone, gives the same finding and verifies nothing."""
    from gradverify.cases import parse_case
    from gradverify.checks.names import NAMES

    layer = Layer(catalog_like(), halved)
    finding = verify(layer).findings[0]
    case = parse_case(finding.case, layer.spec)
    again = verify_layer(layer, profile_of("default"), NAMES, 0, case=case)
    same = next(f for f in again.findings if (f.check, f.tensor) == (finding.check, finding.tensor))
    assert (same.index, same.expected, same.got) == (finding.index, finding.expected, finding.got)
    assert again.verdict is Verdict.FAILED


def test_a_spec_is_no_layer():
    """A spec handed to verify is told from a function that was never registered."""
    spec = Spec("s", x=Input("N"), y=Output("N"))
    with pytest.raises(
        UsageError, match=r"^Spec\('s'\) is a spec, and what is judged are layers: give a"
    ):
        verify(spec)


def test_a_sampled_check_looks_on_where_cases_told_nothing():
    """Cases that could not tell right from wrong are made up for by others, up to three times as
    many; where they could, the sample is enough."""
    (softmax,) = load(catalogue_folder() / "softmax.py")

    def cases_of(sampled):
        profile = replace(profile_of("default"), sampled=sampled)
        result = verify_layer(softmax, profile, ("finite_difference",), 0)
        (found,) = (c for c in result.checks if c.check == "finite_difference")
        return found.cases, found.status

    assert cases_of(1) == (3, Status.VACUOUS)
    assert cases_of(20) == (20, Status.PASSED)
    cases, status = cases_of(4)
    assert 4 <= cases <= 12
    assert status is Status.PASSED


def test_few_rows_are_followed_by_more_for_what_they_do_not_tell():
    """At fourteen rows a maximum is on too few ties to be judged there: `kinks` alone goes on."""
    (result,) = verify(load(catalogue_folder() / "max_pool2d.py")[0], profile="quick").layers
    cases = {check.check: check.cases for check in result.checks}
    assert result.verdict == "verified"
    assert cases["symbolic"] <= 14 < result.coverage.cases <= 42
    assert all(
        t.powered >= 3 for c in result.checks for t in c.tensors.values() if c.check == "kinks"
    )


def test_a_layer_of_large_fixed_sizes_is_judged_at_a_few_cases():
    """A module with all its sizes is verified, and a wrong one fails; the report says at how much."""
    spec = Spec("wide", x=Input("N 200"), w=Param("150 200"), y=Output("N 150"),
                definition="y[n,k] = tanh(sum[d](x[n,d]*w[k,d]))")  # fmt: skip

    def layer(factor):
        def wide(x, w):
            y = np.tanh(x @ w.T)
            return y, lambda dy: {
                "x": (dy * (1 - y**2)) @ w,
                "w": factor * (dy * (1 - y**2)).T @ x,
            }

        return Layer(spec, wide)

    (right,) = verify(layer(1), profile="quick").layers
    assert right.verdict == "verified"
    assert right.remarks[0].startswith(
        "judged at 3 cases, what takes many calls at the plainest only, since a tensor has 30,000 "
    )
    (wrong,) = verify(layer(1.001), profile="quick").layers
    assert {(f.check, f.tensor) for f in wrong.errors} >= {("symbolic", "w")}


def test_of_a_wrong_layer_differences_are_taken_where_an_error_shows():
    """What is known to be wrong from the first case is differenced in few; one of them is where a
    gradient is wrong, though that is only in long arrays."""
    spec = Spec("scale", x=Input("N"), w=Param(""), y=Output("N"), definition="y[n] = w*x[n]")

    def layer(x, w):
        return w * x, lambda dy: {"x": w * dy, "w": np.sum((x * dy)[:100]), "b": 0.0}

    checks = ["contract", "symbolic", "finite_difference"]
    (result,) = verify(Layer(spec, layer), checks=checks).layers
    found = {c.check: c for c in result.checks}
    assert found["contract"].status is Status.FAILED
    assert found["finite_difference"].tensors["w"].status is Status.FAILED
    assert found["finite_difference"].cases < found["symbolic"].cases / 5


def test_a_question_that_fails_is_no_warning_whatever_else_it_warned_of():
    """What a lower precision only warns of must not hide the error of another, in any order."""
    warning, error = warned("finite", "x", "inf"), failed("finite", "x", "nan")
    narrow, wide = Case((("N", 2),), (), dtype="float16"), Case((("N", 3),), ())
    for told in ([(narrow, warning), (wide, error)], [(wide, error), (narrow, warning)]):
        seen = Seen()
        for case, observation in told:
            seen.note(case, observation)
        assert seen.failures["finite", "x"] == [(wide, error)]


def test_the_order_in_which_dtypes_are_declared_changes_nothing():
    """Most cases are in the widest, where an error shows best, not in the one named first."""
    (softmax,) = load(catalogue_folder() / "softmax.py")
    results = [
        verify_layer(
            Layer(softmax.spec, softmax.function, dtypes=dtypes),
            profile_of("quick"),
            ["contract"],
            0,
        )
        for dtypes in (["float64", "float32"], ["float32", "float64", "float32"])
    ]
    assert results[0].coverage == results[1].coverage
    told = results[0].coverage.factors["dtype"]
    assert told["float64"] > told["float32"]
