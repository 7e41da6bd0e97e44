"""forward_mode and second_order: what a layer offers beside its pullback is as derived."""

import json

import numpy as np
import pytest
from catalogue import CATALOGUE
from offered_layers import LAYERS, LINEAR, TANH, tanh

from gradverify import Constant, Input, Layer, Output, Spec, Status, Verdict, oracle, verify
from gradverify.cases import parse_case
from gradverify.checks import CHECKS
from gradverify.checks.offered import KINDS, Tangents
from gradverify.cli import main
from gradverify.replayed import Stopped
from gradverify.trial import Trial, make_oracle

OFFERED = ("forward_mode", "second_order")


def checked(layer, checks=OFFERED, profile="quick", **options):
    """Return the statuses of the two checks, and the findings."""
    (result,) = verify(layer, profile=profile, checks=checks, **options).layers
    found = {c.check: c for c in result.checks}
    return {name: found[name] for name in OFFERED}, result.findings


def statuses(layer, **options):
    found, findings = checked(layer, **options)
    assert findings == ()
    return [found[name].status for name in OFFERED]


# -- right


@pytest.mark.parametrize("name", LAYERS)
def test_a_right_layer_is_verified_with_what_it_offers(name):
    """Written by hand: dicts, tuples and arrays alone; integers, buffers, constants, two outputs."""
    spec, forward, jvp, double_vjp = LAYERS[name]
    layer = Layer(spec, forward, jvp=jvp, double_vjp=double_vjp)
    (result,) = verify(layer, profile="quick").layers
    assert result.findings == ()
    assert result.verdict is Verdict.VERIFIED
    found = {c.check: c for c in result.checks}
    assert [found[c].status for c in OFFERED] == [Status.PASSED] * 2
    assert tuple(found["forward_mode"].tensors) == spec.differentiable_outputs
    assert tuple(found["second_order"].tensors) == (
        *spec.differentiable, *spec.differentiable_outputs,
    )  # fmt: skip


# All of them, at both profiles, are verified by `python tests/sweep_right.py`.
@pytest.mark.parametrize("name", sorted(CATALOGUE)[::6])
def test_what_is_derived_is_right(name):
    """The oracle's own derivatives raise no false alarm, and the cases tell right from wrong."""
    spec = CATALOGUE[name]
    derived = oracle(spec)
    layer = Layer(spec, lambda **given: _called(spec, derived, given), name=name, file=__file__,
                  jvp=derived.jvp, double_vjp=derived.double_vjp)  # fmt: skip
    assert statuses(layer, seed=5) == [Status.PASSED] * 2


def _called(spec, derived, given):
    tensors = {k: given[k] for k in spec.given}
    constants = {k: given[k] for k in spec.constants}

    def pullback(*cotangents):
        named = dict(zip(spec.differentiable_outputs, cotangents, strict=True))
        return derived.vjp(tensors, named, constants)

    return tuple(derived.forward(tensors, constants).values()), pullback


def test_float16_is_asked_too():
    """In half precision as well, where a third of the digits are left."""
    spec, forward, jvp, double_vjp = LAYERS["two"]
    layer = Layer(spec, forward, dtypes=["float16"], jvp=jvp, double_vjp=double_vjp)
    assert statuses(layer) == [Status.PASSED] * 2


# -- wrong


def jvp_of(name, change):
    """Return the layer with its tangents changed by change(tangents, tensors, v, constants)."""
    spec, forward, jvp, _ = LAYERS[name]

    def wrong(tensors, v, constants):
        found = jvp(tensors, v, constants)
        found = found["y"] if isinstance(found, dict) else found
        return change(found, tensors, v, constants)

    return Layer(spec, forward, name=name, jvp=wrong)


def double_of(name, change):
    """Return the layer with its double backward changed by change(first, second, ...)."""
    spec, forward, _, double_vjp = LAYERS[name]

    def wrong(tensors, cotangents, seeds, constants):
        first, second = double_vjp(tensors, cotangents, seeds, constants)
        return change(first, second, tensors, cotangents, seeds, constants)

    return Layer(spec, forward, name=name, double_vjp=wrong)


def without_var(y, t, v, c):
    x, gamma = t["x"], t["gamma"]
    s = np.sqrt(x.var(0) + c["eps"])
    centred = x - x.mean(0)
    return gamma * (v["x"] - v["x"].mean(0)) / s + centred / s * v["gamma"] + v["beta"]


def without_seed(name):
    """Return a change that leaves out what the seed of a tensor adds to the first gradient."""

    def change(first, second, t, dy, s, c):
        kept = {k: np.zeros_like(v) if k == name else v for k, v in s.items()}
        found, _ = LAYERS["batch_norm"][3](t, dy, kept, c)
        return {**first, "x": found["x"]}, second

    return change


WRONG = {
    "a tensor is left out": (
        jvp_of("linear", lambda y, t, v, c: y - v["b"]), "tangent", "y",
        "what the tangent of b adds to the tangent of y is missing",
    ),
    "a path is missing": (
        jvp_of("batch_norm", without_var), "tangent", "y",
        "in the tangent of y, the path through var is missing",
    ),
    "the wrong sign": (
        jvp_of("tanh", lambda y, t, v, c: -y[0]), "tangent", "y",
        "the tangent of y has the wrong sign",
    ),
    "twice": (
        jvp_of("softmax", lambda y, t, v, c: 2 * y), "tangent", "y",
        "the tangent of y is 2 times what is derived",
    ),
    "a part of it twice": (
        jvp_of("centred", lambda y, t, v, c: y + v["w"] * (t["x"] - t["x"].mean(0))),
        "tangent", "y", "what the tangent of w adds to the tangent of y is 2 times what is derived",
    ),
    "in another order": (
        jvp_of("tanh", lambda y, t, v, c: np.flip(y[0], 0)), "tangent", "y",
        "the tangent of y is reversed along axis 0",
    ),
    "one of two outputs": (
        jvp_of("two", lambda y, t, v, c: (y[0], y[1] + c["k"])), "zero", "z", None,
    ),
    "one output is forgotten": (
        jvp_of("two", lambda y, t, v, c: {"y": y[0]}), "missing", "z", None,
    ),
    "something else is returned": (
        jvp_of("linear", lambda y, t, v, c: {"y": y, "w": v["w"]}), "extra", None, None,
    ),
    "another shape": (
        jvp_of("linear", lambda y, t, v, c: y.sum(0)), "shape", "y", None,
    ),
    "float64 for float32": (
        jvp_of("linear", lambda y, t, v, c: y.astype(float)), "dtype", "y", None,
    ),
    "computed in float32": (
        jvp_of("linear", lambda y, t, v, c: y.astype(np.float32).astype(y.dtype)), "tangent", "y",
        "y is computed in float32: all its digits fit in that",
    ),
    "not linear": (
        jvp_of("linear", lambda y, t, v, c: np.clip(y, -50, 50)), "linear", "y", None,
    ),
    "neither a dict nor a tuple": (
        jvp_of("two", lambda y, t, v, c: y[0]), "convention", None, None,
    ),
    "the cross term of x is missing": (
        double_of("batch_norm", without_seed("gamma")), "second", "x",
        "what the seed of gamma adds to the second-order gradient of x is missing",
    ),
    "the cross term of gamma is missing": (
        double_of("batch_norm", lambda a, b, *_: ({**a, "gamma": 0 * a["gamma"]}, b)),
        "second", "gamma", "the second-order gradient of gamma is zero",
    ),
    "the cotangent is forgotten": (
        double_of("batch_norm", lambda a, b, *_: (a, {})), "missing", "y", None,
    ),
    "the gradient of the cotangent is that of another": (
        double_of("two", lambda a, b, *_: (a, (b[1], b[1]))), "tangent", "y", None,
    ),
    "one cotangent is left out": (
        double_of("two", lambda a, b, t, dy, s, c: ({**a, "b": s["a"] * dy["y"]}, b)),
        "second", "b", "what the cotangent of z adds to the second-order gradient of b is missing",
    ),
    "transposed": (
        double_of("linear", lambda a, b, t, *_: ({**a, "w": _transposed(a["w"])}, b)),
        "second", "w", "the second-order gradient of w is transposed: its axes are in the order",
    ),
    "what is 0 is not": (
        double_of("linear", lambda a, b, t, dy, s, c: ({**a, "b": s["b"]}, b)), "second", "b", None,
    ),
    "no pair": (
        double_of("linear", lambda a, b, *_: a), "convention", None, None,
    ),
}  # fmt: skip


def _transposed(a):
    return np.ascontiguousarray(a.T).reshape(a.shape) if a.shape[0] != a.shape[1] else a.T


@pytest.mark.parametrize("told", WRONG)
def test_a_wrong_one_is_caught_and_explained(told):
    """One finding, of that question and tensor, with what is wrong."""
    layer, question, tensor, diagnosis = WRONG[told]
    found, findings = checked(layer)
    check = "forward_mode" if layer.jvp else "second_order"
    assert found[check].status is Status.FAILED
    errors = {(f.question, f.tensor): f for f in findings if f.severity == "error"}
    assert errors.keys() == {(question, tensor)}
    finding = errors[question, tensor]
    assert finding.check == check
    if diagnosis:
        assert diagnosis in finding.diagnosis
        who = "the jvp" if layer.jvp else "the double backward"
        assert finding.odd_one_out == f"{who}: the pullback is right"


def test_what_is_wrong_beside_a_wrong_pullback_is_no_consequence_of_it():
    """Where the pullback is right, as a factor of C at C = 1, a wrong double backward does not
    follow from it."""
    spec = Spec(
        "squared_mean", x=Input("N C"), y=Output("N"), definition="y[n] = mean[c](x[n,c])**2"
    )

    def layer(x):
        m = x.mean(-1)
        return m**2, lambda dy: {"x": np.broadcast_to((2 * m * dy)[:, None], x.shape).copy()}

    def double_vjp(tensors, cotangents, seeds, constants):
        x, v = tensors["x"], seeds["x"]
        return (np.cos(x) * v,), (2 * x.mean(-1) * v.mean(-1),)

    _, findings = checked(Layer(spec, layer, double_vjp=double_vjp), checks=["symbolic", *OFFERED])
    (wrong,) = (f for f in findings if f.check == "symbolic")
    assert wrong.kind == "count"
    found = next(f for f in findings if (f.check, f.question) == ("second_order", "second"))
    assert (found.odd_one_out, found.follows) == (
        "the double backward: the pullback is right",
        None,
    )
    assert "follows" not in found.diagnosis


def test_a_wrong_pullback_is_said_to_be_so():
    """Where the tangents belong to another formula, as the pullback does, that is told once."""
    forward = LAYERS["linear"][1]

    def layer(x, w, b):
        y, pullback = forward(x, w, b)
        return y, lambda dy: {**pullback(dy), "x": 2 * dy @ w.T}

    def jvp(tensors, v, constants):
        return 2 * v["x"] @ tensors["w"] + tensors["x"] @ v["w"] + v["b"]

    _, findings = checked(Layer(LINEAR, layer, jvp=jvp), checks=["symbolic", *OFFERED])
    (finding,) = (f for f in findings if f.check == "forward_mode")
    assert finding.diagnosis == (
        "what the tangent of x adds to the tangent of y is 2 times what is derived"
    )
    assert finding.odd_one_out == "the pullback: it is wrong as well, see symbolic"


LAST = {}


def of_the_call_before(tensors, v, constants):
    """Work with what the last call has left."""
    kept, LAST["x"] = LAST.get("x"), np.array(tensors["x"])
    fits = kept is not None and kept.shape == tensors["x"].shape
    y = np.tanh(kept if fits else tensors["x"]).astype(tensors["x"].dtype)
    return v["x"] * (1 - y * y)


def into_one_array(tensors, v, constants):
    """Return the same array each time."""
    y = LAST.setdefault((*tensors["x"].shape, tensors["x"].dtype), np.empty_like(tensors["x"]))
    y[...] = v["x"] * (1 - np.tanh(tensors["x"]) ** 2)
    return y


def in_place(tensors, v, constants):
    """Multiply the tangent that the caller owns."""
    v["x"].flags.writeable = True
    v["x"] *= 1 - np.tanh(tensors["x"]) ** 2
    return v["x"]


def that_raises(tensors, v, constants):
    """Take only one column."""
    (_,) = v["x"][0]
    return LAYERS["tanh"][2](tensors, v, constants)


def that_returns_once(tensors, v, constants):
    """Return nothing from a later call."""
    if LAST.setdefault("x", v["x"]) is v["x"]:
        return LAYERS["tanh"][2](tensors, v, constants)
    return ()


@pytest.mark.parametrize(
    ("jvp", "question", "message"),
    [
        (of_the_call_before, "repeatable", "gives two values of the tangent of y"),
        (into_one_array, "overwritten", "the tangent of y that was returned is changed by a later"),
        (in_place, "mutates", "the jvp writes to the tangent of x: work on a copy"),
        (that_returns_once, "raises", "the jvp returned a tuple of 0 where a dict"),
        (that_raises, "raises", "the jvp raised ValueError: too many values to unpack"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_it_does_besides_computing_is_told(jvp, question, message):
    """State between calls, arrays that are shared, and what it raises, with its own line."""
    LAST.clear()
    _, findings = checked(Layer(TANH, tanh, jvp=jvp))
    errors = {f.question: f for f in findings if f.severity == "error"}
    assert message in errors[question].message
    assert errors[question].location == f"{__file__}:{jvp.__code__.co_firstlineno}"


# -- without a definition


def bare(name):
    """Return the spec of a layer without its definition."""
    spec = LAYERS[name][0]
    constants = {k: Constant(*values) for k, values in spec.constants.items()}
    return Spec(f"{name}_bare", **{**spec.tensors, **constants})


@pytest.mark.parametrize("name", ["linear", "batch_norm", "two"])
def test_without_a_definition_the_pullback_is_the_measure(name):
    """What is right is verified by the layer's own pullback."""
    _, forward, jvp, double_vjp = LAYERS[name]
    layer = Layer(bare(name), forward, jvp=jvp, double_vjp=double_vjp)
    assert statuses(layer) == [Status.PASSED] * 2


BARE = {
    "the tangent of one tensor": (
        jvp_of("linear", lambda y, t, v, c: y - v["b"]), "adjoint", "y",
        "what the tangent of b adds to the tangent of y is missing",
    ),
    "a path": (
        jvp_of("batch_norm", without_var), "adjoint", "y", "unexplained",
    ),
    "the gradient of a cotangent": (
        double_of("two", lambda a, b, *_: (a, (b[0], -b[1]))), "adjoint", "z",
        "the gradient of the cotangent of z has the wrong sign",
    ),
    "a cross term": (
        double_of("batch_norm", without_seed("gamma")), "slope", "x", "unexplained",
    ),
    "all of the second order": (
        double_of("two", lambda a, b, *_: ({**a, "a": 0 * a["a"]}, b)), "slope", "a",
        "the second-order gradient of a is zero",
    ),
    "digits": (
        jvp_of("linear", lambda y, t, v, c: y.astype(np.float32).astype(y.dtype)),
        "precision", "y", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", BARE)
def test_what_is_wrong_without_a_definition_is_caught(told):
    """By products with the layer's own pullback, and by differences of it."""
    layer, question, tensor, diagnosis = BARE[told]
    layer = Layer(bare(layer.name), layer.function, jvp=layer.jvp, double_vjp=layer.double_vjp)
    _, findings = checked(layer)
    assert {(f.question, f.tensor) for f in findings} == {(question, tensor)}
    assert diagnosis in (findings[0].diagnosis or "")


def test_a_hessian_that_is_not_symmetric_is_told():
    """A term too small for differences is seen where it is in one gradient only."""

    def change(first, second, *_):
        return {**first, "x": first["x"] * np.float32(1.0001)}, second

    wrong = double_of("batch_norm", change)
    layer = Layer(bare("batch_norm"), wrong.function, dtypes=["float32"],
                  double_vjp=wrong.double_vjp)  # fmt: skip
    _, findings = checked(layer, sizes={"N": 5, "C": 3})
    assert [(f.question, f.tensor) for f in findings] == [("symmetric", None)]


# -- where it is asked, and what is told


def test_what_is_not_offered_is_not_applicable():
    """A layer is verified without either; the reason says what it does not offer."""
    found, findings = checked(Layer(TANH, tanh))
    assert findings == ()
    assert [(found[c].status, found[c].reason) for c in OFFERED] == [
        (Status.NOT_APPLICABLE, "the layer offers no forward mode"),
        (Status.NOT_APPLICABLE, "the layer offers no double backward"),
    ]


def test_it_is_not_asked_on_a_kink():
    """There several tangents are right, and no second order is."""
    relu = Spec("kinked", x=Input("N"), y=Output("N"), definition="y[n] = max(x[n], 0)")

    def layer(x):
        return np.maximum(x, 0), lambda dy: {"x": dy * (x >= 0)}

    def jvp(tensors, v, constants):
        return v["x"] * (tensors["x"] > 0)

    def double_vjp(tensors, cotangents, seeds, constants):
        return np.zeros_like(tensors["x"]), jvp(tensors, seeds, constants)

    right = Layer(relu, layer, jvp=jvp, double_vjp=double_vjp)
    assert statuses(right) == [Status.PASSED] * 2
    line = "N=9 dtype=float64 layout=C values=ties cotangent=signed seed={}"
    cases = (parse_case(line.format(seed), relu) for seed in range(50))
    trials = (Trial(right, case, make_oracle(relu)) for case in cases)
    trial = next(trial for trial in trials if trial.kinked)
    assert not any(CHECKS[name].asks(trial) for name in OFFERED)


def test_what_is_allowed_to_a_gradient_is_allowed_to_its_derivatives():
    """A layer that is interpolated on purpose has tangents of as few digits."""

    def rough(y):
        return y * (1 + 1e-7)

    _, forward, jvp, _ = LAYERS["tanh"]
    allow = {"dx": (1e-6, "from a table")}
    spec = Spec("rough", x=Input("N C"), y=Output("N C"), definition="y[n,c] = tanh(x[n,c])",
                allow=allow)  # fmt: skip

    def tangents(tensors, v, constants):
        return rough(jvp(tensors, v, constants)[0])

    assert checked(Layer(spec, forward, jvp=tangents))[1] == ()
    assert checked(Layer(TANH, forward, jvp=tangents))[1] != ()


FILE = """
from gradverify import Input, Output, Spec

cube = Spec("cube", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**3")


def jvp(tensors, v, constants):
    return 3 * tensors["x"] ** 2 * v["x"]


def double_vjp(tensors, cotangents, seeds, constants):
    x, dy, v = tensors["x"], cotangents["y"], seeds["x"]
    return {"x": 6 * x * dy * v}, {"y": 2 * x**2 * v}


@cube.register(jvp=jvp, double_vjp=double_vjp)
def cubed(x):
    return x**3, lambda dy: {"x": 3 * x**2 * dy}
"""


def test_a_registered_layer_is_judged_and_its_finding_replays(tmp_path, capsys):
    """The command names the check, the place of the function and what shows it again."""
    file = tmp_path / "cube.py"
    file.write_text(FILE)
    out = tmp_path / "out.json"
    asked = ["--profile", "quick", "--select", "second_order", "--format", f"json:{out}"]
    assert main(["verify", str(file), *asked]) == 1
    report = json.loads(out.read_text())
    (finding,) = report["layers"][0]["findings"]
    assert (finding["check"], finding["tensor"]) == ("second_order", "y")
    assert finding["diagnosis"] == "the gradient of the cotangent of y is 2/3 times what is derived"
    assert finding["location"].startswith(f"{file}:11")
    capsys.readouterr()
    target, case = f"{file}::cubed::second_order", finding["case"]
    assert main(["replay", target, case]) == 1
    assert "the gradient of the cotangent of y is not the derived one" in capsys.readouterr().out


# -- in 50 digits


def test_a_jvp_is_replayed_in_50_digits():
    """Its own formula is told from what rounding makes of it; code of others takes no such numbers."""
    spec, forward, jvp, double_vjp = LAYERS["linear"]
    derived = oracle(spec)
    line = "N=2 K=3 M=2 dtype=float64 layout=C values=ordinary cotangent=signed seed=1"
    trial = Trial(Layer(spec, forward, jvp=jvp, double_vjp=double_vjp),
                  parse_case(line, spec), make_oracle(spec))  # fmt: skip
    for kind in KINDS.values():
        one = kind(trial)
        for name in one.tensors:
            np.testing.assert_allclose(one.replayed(name), one.exact[name], rtol=1e-15, atol=1e-16)
            np.testing.assert_allclose(one.got[name], one.exact[name], rtol=1e-12, atol=1e-14)
    other = Layer(spec, forward, jvp=derived.jvp)
    with pytest.raises(Stopped):
        Tangents(Trial(other, trial.case, trial.oracle)).replayed("y")
