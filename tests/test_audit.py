"""The audit: faults that are planted, which of them are none, and what is said of survivors."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gradverify import Constant, Input, Layer, Output, Spec, UsageError, asking
from gradverify.audit import run
from gradverify.audit.calls import told_apart
from gradverify.audit.fault import few, of_one
from gradverify.audit.faults import KINDS, fault, faults
from gradverify.audit.run import LayerAudit, audit, checked_kinds, power
from gradverify.audit.show import as_json, as_text
from gradverify.audit.site import Site, more_sites, sites_of
from gradverify.audit.survival import reason_and_remedy
from gradverify.audit.witness import Witness, witness
from gradverify.cases import cases
from gradverify.checks.observation import passed
from gradverify.cli import main
from gradverify.engine import first_error, profile_of
from gradverify.ground import ground_of
from gradverify.loading import catalogue_folder, load
from gradverify.regular import settled
from gradverify.replayed import replay
from gradverify.trial import Trial, make_oracle

QUICK = profile_of("quick")


def of_catalogue(file, name=None):
    layers = load(catalogue_folder() / f"{file}.py")
    return next(x for x in layers if name in (None, x.name))


batch_norm = of_catalogue("batch_norm")
relu = of_catalogue("relu")
linear = of_catalogue("linear")


def trial_of(layer, row=0):
    oracle = make_oracle(layer.spec)
    case = list(cases(layer.spec, ("float64",), 0, 0))[row]
    return Trial(layer, settled(layer.spec, oracle, case), oracle)


def places(layer):
    return sites_of(layer.spec, ground_of(layer, QUICK, 0).cases)


# -- the faults


def test_a_layer_has_faults_of_every_kind():
    """Batch norm has all but those that need two gradients of a shape, and these it has too."""
    found = faults(batch_norm)
    assert {f.kind for f in found} == set(KINDS)
    assert len({f.name for f in found}) == len(found) > 300
    assert all(f.name.startswith(f.kind) for f in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sign:whole:x", lambda g, n: -g),
        ("count:times-N:x", lambda g, n: g * n),
        ("count:N-1:x", lambda g, n: g * n / (n - 1)),
        ("axis:reversed[-2]:x", lambda g, n: g[::-1]),
        ("transposed:[-2,-1]:x", lambda g, n: g.T.reshape(g.shape)),
        ("precision:float32:x", lambda g, n: g.astype("float32").astype(float)),
    ],
)
def test_a_fault_of_values_alters_one_gradient(name, expected):
    """Its name says how, and all other gradients stay as they are."""
    trial, right = trial_of(fault(batch_norm, name).layer(batch_norm)), trial_of(batch_norm)
    got, own = trial.gradients, right.gradients
    np.testing.assert_array_equal(got["x"], expected(own["x"], trial.point.sizes["N"]))
    for other in ("gamma", "beta"):
        np.testing.assert_array_equal(got[other], own[other])


def test_a_missing_path_is_the_one_that_its_name_tells():
    """Without what flows through var, dx is what is left of the paper's formula."""
    trial = trial_of(fault(batch_norm, "missing path:dvar:4").layer(batch_norm))
    x, gamma = trial.wide.tensors["x"], trial.wide.tensors["gamma"]
    (dy,) = trial.wide.cotangents
    sigma = np.sqrt(x.var(axis=0) + trial.constants["eps"])
    np.testing.assert_allclose(trial.gradients["x"], gamma / sigma * (dy - dy.mean(axis=0)))


def test_eps_outside_of_the_root_is_read_off_the_definition():
    """Gradients are those of sqrt(var) + eps."""
    trial = trial_of(fault(batch_norm, "eps:eps:outside").layer(batch_norm))
    x, gamma, eps = trial.wide.tensors["x"], trial.wide.tensors["gamma"], trial.constants["eps"]
    (dy,) = trial.wide.cotangents
    sigma = np.sqrt(x.var(axis=0)) + eps
    np.testing.assert_allclose(trial.gradients["gamma"], (dy * (x - x.mean(axis=0)) / sigma).sum(0))
    assert gamma.shape == trial.gradients["gamma"].shape


def test_source_is_changed_in_the_functions_that_a_layer_calls_too():
    """What is wrong then is the helper that attention shares with its causal sibling."""
    attention = of_catalogue("attention", "numpy_attention")
    names = [f.name for f in faults(attention, ["source"])]
    assert "source:1 / math.sqrt(q.shape[2]) -> 1 * math.sqrt(q.shape[2])" in names
    wrong = fault(attention, "source:p * (dp - (dp * p).sum(axis=2, keepdims=True)) * scale -> "
                  "p * (dp - (dp * p).sum(axis=2, keepdims=True))")  # fmt: skip
    got, own = trial_of(wrong.layer(attention)), trial_of(attention)
    scale = np.sqrt(own.point.sizes["D"])
    np.testing.assert_allclose(got.gradients["q"], own.gradients["q"] * scale)
    np.testing.assert_array_equal(got.gradients["v"], own.gradients["v"])


def test_a_layer_without_source_of_its_own_has_no_faults_of_source():
    """A closure, as adapters return, cannot be compiled again; all other kinds remain."""
    slope = 2.0

    def closed(x):
        return x * slope, lambda dy: {"x": dy * slope}

    spec = Spec("twice", x=Input("N"), y=Output("N"), definition="y[n] = 2*x[n]")
    found = {f.kind for f in faults(Layer(spec, closed))}
    assert "source" not in found
    assert {"sign", "missing path", "stale"} <= found


def test_a_wrong_name_of_a_fault_is_told_the_nearest():
    """So that a row of a table that is outdated is easily put right."""
    with pytest.raises(UsageError, match="has no fault 'sign:hole:x'; did you mean 'sign:whole:x'"):
        fault(relu, "sign:hole:x")


def test_a_choice_of_faults_keeps_some_of_every_kind():
    """The same for a seed, another for another."""
    found = faults(batch_norm)
    kept = [few(found, 2, seed) for seed in (0, 0, 1)]
    assert {f.kind for f in kept[0]} == set(KINDS)
    assert max(sum(f.kind == k for f in kept[0]) for k in KINDS) == 2
    assert [f.name for f in kept[0]] == [f.name for f in kept[1]] != [f.name for f in kept[2]]


# -- faults that are none


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (batch_norm, "missing path:dmu:6"),  # zero by algebra
        (batch_norm, "size:N=1:x"),  # the spec wants N >= 2
        (batch_norm, "layout:fortran:gamma"),  # a vector is in both orders
        (relu, "values:zero:x"),  # at its kink both are right
        (relu, "region:negative:x"),  # doubled where it is 0
    ],
)
def test_a_fault_that_changes_nothing_is_left_out(layer, name):
    """Nobody could find it, and nobody should."""
    assert run.shows(fault(layer, name), layer, places(layer)) is None


@pytest.mark.parametrize(
    ("layer", "name", "tensor", "least"),
    [
        (batch_norm, "factor:1.000001:x", "x", 1e-13),  # beside terms that cancel
        (batch_norm, "missing path:dvar:4", "x", 1e-6),
        (batch_norm, "precision:float32:gamma", "gamma", 1e-12),
        (relu, "region:64[-1]:x", "x", 0.01),
        (linear, "values:zero:b", "b", 0.01),
    ],
)
def test_a_fault_that_changes_something_has_a_witness(layer, name, tensor, least):
    """In 50 digits, relative to its terms; at a size or values beyond the cases too."""
    shown = run.shows(fault(layer, name), layer, places(layer))
    assert shown.difference >= least * 0.99
    assert shown.tensor == tensor


def test_faults_of_behaviour_are_told_by_calls():
    """One that only looks like a fault is none: a copy of what is returned."""
    copying = replace(
        fault(relu, "reused:x"), name="copying", plant=lambda layer: lambda x: layer.function(x=x)
    )
    assert witness(copying, relu, places(relu)) is None
    assert witness(fault(relu, "reused:x"), relu, places(relu)) is not None


def test_another_rounding_is_no_fault():
    """What float64 tells apart may be the same in 50 digits; a real difference is not."""
    spec = Spec("copy", x=Input("N"), y=Output("N"), definition="y[n] = x[n]")

    def copied(x):
        return x.copy(), lambda dy: {"x": dy.copy()}

    def rounding(x):
        return x.copy(), lambda dy: {"x": (dy + 1e6) - 1e6}

    def wrong(x):
        return x.copy(), lambda dy: {"x": dy * 1.000000001}

    right, near, off = (Layer(spec, f) for f in (copied, rounding, wrong))
    site = Site(spec, trial_of(right).case)
    with np.errstate(all="ignore"):
        assert np.any(trial_of(near).gradients["x"] != trial_of(right).gradients["x"])
    assert told_apart(right, near, site) is None
    assert told_apart(right, off, site) == "x"


def test_a_planted_layer_can_be_replayed():
    """What is put around a layer does not stand in the way of 50 digits."""
    own = replay(trial_of(batch_norm))
    for name, factor in (("sign:whole:x", -1), ("factor:2:x", 2), ("missing:none:beta", 1)):
        found = replay(trial_of(fault(batch_norm, name).layer(batch_norm)))
        assert max(abs(v) for v in (found["x"] - factor * own["x"]).flat) < 1e-40
    assert fault(batch_norm, "sign:whole:x").layer(batch_norm).location == batch_norm.location


# -- which are caught


def test_first_error_is_what_verify_meets():
    """None for a right layer, the first error of a wrong one, with its case."""
    assert first_error(batch_norm, QUICK) is None
    found = first_error(fault(batch_norm, "sign:whole:x").layer(batch_norm), QUICK)
    assert (found.check, found.tensor, found.severity) == ("symbolic", "x", "error")
    assert "dtype=float64" in found.case


def test_all_checks_are_asked_before_a_layer_has_no_error(monkeypatch):
    """What only descent finds is found; without any check nothing is."""
    wrong = fault(linear, "sign:whole:w").layer(linear)
    assert first_error(wrong, QUICK, ["descent"]).check == "descent"
    assert first_error(wrong, QUICK, []) is None


def test_an_audit_counts_what_is_planted_and_caught():
    """Each of these is gross, so each is caught."""
    found = audit(linear, profile="quick", kinds=["sign", "missing", "stale"], each=2)
    assert found.kinds == {"sign": (2, 2), "missing": (2, 2), "stale": (2, 2)}
    assert (found.planted, found.caught, found.survivors, found.problem) == (6, 6, (), "")
    assert power([found]) == 1.0


def test_checks_that_see_nothing_have_no_power(monkeypatch):
    """An audit can fail: with checks that always pass every fault survives, by name."""
    blind = {
        name: replace(check, examine=lambda trial: iter([passed("raises")]))
        for name, check in asking.CHECKS.items()
    }
    monkeypatch.setattr(asking, "CHECKS", blind)
    found = audit(linear, profile="quick", kinds=["sign"], each=2)
    assert power([found]) == 0.0
    assert [s.kind for s in found.survivors] == ["sign", "sign"]
    assert all("no check asks for it" in s.reason for s in found.survivors)


def test_a_layer_that_is_wrong_itself_is_not_audited():
    """Every fault would be caught in it, by its own."""
    wrong = fault(linear, "sign:whole:w").layer(linear)
    found = audit(wrong, profile="quick", kinds=["sign"])
    assert found.planted == 0
    assert "is failed by symbolic: gradient (of w), before any fault is planted" in found.problem


# -- why faults survive


def test_a_survivor_tells_the_size_it_needs():
    """And how to have the layer verified at that size."""
    site = next(s for s in more_sites(relu.spec) if s.case.at["C"] == 67)
    short = [place for place in places(relu) if place.case.at["C"] < 20]
    most = max(place.case.at["C"] for place in short)
    told = reason_and_remedy(fault(relu, "region:64[-1]:x"), relu, Witness(site, "x", 1.0), short)
    assert told == (f"it shows where C is 67; the cases reach C={most}",
                    'verify(layer, sizes={"C": 67})')  # fmt: skip


def test_a_survivor_tells_the_values_it_needs():
    """Such as exact zeros in parameters."""
    site = Site(linear.spec, trial_of(linear).case, "exact zeros", "param")
    told = reason_and_remedy(fault(linear, "values:zero:b"), linear, Witness(site, "b", 1.0),
                             places(linear))  # fmt: skip
    assert (
        told[0] == "it shows where parameters have exact zeros, and no case that was tried does so"
    )
    assert "range=" in told[1]


def test_a_survivor_tells_how_much_is_allowed():
    """Where a change is below rounding no check can see it; a larger eps could be felt."""
    spec = Spec("root", x=Input("N"), eps=Constant(1e-12), y=Output("N"),
                definition="y[n] = sqrt(x[n]**2 + eps)")  # fmt: skip

    def root(x, *, eps):
        y = np.sqrt(x * x + eps)
        return y, lambda dy: {"x": dy * x / y}

    layer = Layer(spec, root)
    tiny = of_one("factor", "x", "tiny", None, "", lambda g, _: g * (1 + 1e-15))
    shown = Witness(places(layer)[0], "x", 1e-15)
    reason, remedy = reason_and_remedy(tiny, layer, shown, places(layer))
    assert reason.startswith("it changes no gradient by more than ")
    assert "is allowed for rounding" in reason
    assert remedy == "declare eps=Constant(1e-12, 1e-2), so that it is felt"


# -- what is shown


AUDITS = (
    LayerAudit("right", "specs/a.py:3", {"sign": (4, 4), "region": (3, 2)},
               (run.Survivor("region:64[-1]:x", "region", "dx is doubled", "it shows where N is 67",
                             "verify(layer, sizes={'N': 67})"),)),
    LayerAudit("wrong", "specs/b.py:9", {}, (), "wrong is failed by symbolic"),
)  # fmt: skip


def test_the_text_has_the_power_by_kind_and_every_survivor():
    """Kinds in their order, with what is wrong, why it survives and what would catch it."""
    lines = as_text(AUDITS, 80).splitlines()
    assert lines[0] == "wrong is failed by symbolic"
    assert [line.split() for line in lines[1:5]] == [
        ["kind", "of", "fault", "planted", "caught", "power"],
        ["sign", "4", "4", "100.0%"], ["region", "3", "2", "66.7%"], ["all", "7", "6", "85.7%"],
    ]  # fmt: skip
    assert lines[6:] == [
        "survivors in right (specs/a.py:3):", "  region:64[-1]:x", "    wrong:  dx is doubled",
        "    why:    it shows where N is 67", "    remedy: verify(layer, sizes={'N': 67})",
    ]  # fmt: skip


def test_what_is_missed_is_never_shown_as_all():
    """One of ten thousand is not 100.0%."""
    text = as_text([LayerAudit("a", "a.py:1", {"sign": (10_000, 9_999)})], 80)
    assert "99.9%" in text
    assert "100.0%" not in text


def test_long_names_are_wrapped_and_control_characters_shown():
    """A name of any length keeps within the page; one that moves the cursor does not."""
    long = "survivor " * 40 + "\x1b[2J"
    survivor = run.Survivor("x" * 300, "sign", long, long, long)
    text = as_text([LayerAudit("a" * 300, "a.py:1", {"sign": (1, 0)}, (survivor,))], 60)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if "survivor " in line) <= 60


def test_json_holds_the_same():
    """Counts by kind, survivors and what could not be audited."""
    data = json.loads(as_json(AUDITS, "quick", 3))
    assert (data["schema"], data["profile"], data["seed"]) == (1, "quick", 3)
    assert data["power"] == pytest.approx(6 / 7)
    assert data["layers"][0]["kinds"]["region"] == {"planted": 3, "caught": 2}
    assert data["layers"][0]["survivors"][0]["fault"] == "region:64[-1]:x"
    assert data["layers"][1]["problem"] == "wrong is failed by symbolic"


def test_a_kind_that_is_not_known_is_told_the_nearest():
    """Kinds are told as the table has them, each once and in its order."""
    assert checked_kinds(["stale", "sign"]) == ("sign", "stale")
    assert checked_kinds([]) == KINDS
    with pytest.raises(UsageError, match="there is no kind of fault 'sing'; did you mean 'sign'"):
        checked_kinds(["sing"])


# -- from the command line


LINEAR = str(catalogue_folder() / "linear.py")
FAST = ["--profile", "quick", "-j", "1"]


def test_the_command_audits_a_layer(capsys):
    """By path and name or as a spec of the catalogue; enough is caught."""
    for target in (f"{LINEAR}::numpy_linear", "linear"):
        assert main(["audit", target, "--kind", "stale,zeroed", "--min-power", "1", *FAST]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].split() == ["all", "5", "5", "100.0%"]
        assert "5/5 caught in numpy_linear" in err


def test_too_little_power_is_a_failure(capsys, monkeypatch):
    """6 of 7 are 85.7%: the gate shuts above that, and not at it."""
    monkeypatch.setattr("gradverify.audit.job.run_audits", lambda *_: AUDITS[:1])
    asked = ["audit", LINEAR, *FAST]
    assert main(asked) == 0
    assert main([*asked, "--min-power", str(6 / 7)]) == 0
    assert main([*asked, "--min-power", "0.86"]) == 1
    assert "survivors in right" in capsys.readouterr().out


def test_a_layer_that_cannot_be_audited_is_a_failure(capsys, monkeypatch):
    """However many faults are caught in others."""
    monkeypatch.setattr("gradverify.audit.job.run_audits", lambda *_: AUDITS)
    assert main(["audit", LINEAR, *FAST]) == 1
    assert capsys.readouterr().out.startswith("wrong is failed by symbolic")


def test_nothing_planted_is_never_green(capsys):
    """A layer without constants has no faults of eps."""
    assert main(["audit", LINEAR, "--kind", "eps", *FAST]) == 2
    assert "no fault could be planted" in capsys.readouterr().out


def test_a_wrong_layer_is_a_problem(tmp_path, capsys):
    """Exit code 2, since nothing is planted in it, and the text says why."""
    file = tmp_path / "doubled.py"
    file.write_text(
        "from gradverify import Input, Output, Spec\n"
        'spec = Spec("copy", x=Input("N"), y=Output("N"), definition="y[n] = x[n]")\n'
        "@spec.register\n"
        'def doubled(x):\n    return x.copy(), lambda dy: {"x": 2*dy}\n'
    )
    assert main(["audit", str(file), "--kind", "sign", *FAST]) == 2
    out, err = capsys.readouterr()
    assert "doubled is failed by symbolic" in out
    assert "doubled" not in err.replace("caught in doubled", "")
    views = f"json,text:{tmp_path}/told.txt"  # neither of which a person sees
    assert main(["audit", str(file), "--kind", "sign", *FAST, "--format", views]) == 2
    assert "doubled is failed by symbolic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "the catalogue has no spec 'nowhere'"),
        ([LINEAR, "--kind", "sing"], "did you mean 'sign'"),
        ([LINEAR, "--min-power", "2"], "'2' is not a number from 0 to 1"),
        ([f"{LINEAR}::numpy_liner"], "did you mean 'numpy_linear'"),
        ([LINEAR, "--profile", "fast"], "there is no profile 'fast'"),
    ],
)
def test_wrong_usage_is_told(options, said, capsys):
    """Exit code 2 and one line that says what to write."""
    assert main(["audit", *options, "-j", "1"]) == 2
    assert said in capsys.readouterr().err
