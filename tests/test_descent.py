"""descent: the same step lowers the loss for every parameter, as fast as its gradient promises."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from changed import changed

from gradverify import Input, Layer, Output, Param, Spec, Status, Verdict, verify
from gradverify.cases import parse_case
from gradverify.checks import descent, problem
from gradverify.checks.problem import problem_of
from gradverify.loading import catalogue_folder, load
from gradverify.trial import Trial, make_oracle

RIGHT_FOLDER = Path(__file__).parent / "right"
RIGHT = {
    layer.spec.name: layer
    for path in sorted(catalogue_folder().glob("*.py"))
    for layer in load(path)
}


def judged(layer, profile="quick", **options):
    """Return the result of a layer and that of descent alone."""
    (result,) = verify(layer, profile=profile, checks=["descent"], **options).layers
    (check,) = (c for c in result.checks if c.check == "descent")
    return result, check


def the_finding(layer, **options):
    """Return the only finding of descent in a layer."""
    result, check = judged(layer, **options)
    assert check.status is Status.FAILED
    (finding,) = result.findings
    assert finding.check == "descent"
    return finding


# -- right layers


@pytest.mark.parametrize("name", RIGHT)
def test_the_catalogue_learns(name):
    """Every parameter of every layer, and every input, learns by plain gradient descent."""
    result, check = judged(RIGHT[name])
    assert result.findings == ()
    assert check.status in (Status.PASSED, Status.VACUOUS)  # six cases do not always tell
    params = [check.tensors[p].status for p in RIGHT[name].spec.params]
    assert set(params) <= {Status.PASSED, Status.REDUNDANT}


def test_there_is_one_step_for_every_parameter(monkeypatch):
    """gamma and beta of batch norm go through the same call as a weight, at the same rate."""
    step, calls = descent.sgd_step, []

    def recorded(params, grads, lr):
        calls.append((tuple(grads), lr, {k: params[k] for k in grads}, grads))
        new = step(params, grads, lr)
        for name, old in params.items():
            expected = old - lr * grads[name] if name in grads else old
            assert np.array_equal(new[name], expected)
        return new

    for module in (descent, problem):
        monkeypatch.setattr(module, "sgd_step", recorded)
    seen = defaultdict(list)
    for name in ("batch_norm", "linear", "prelu"):
        line = "eps=1e-05 " if name == "batch_norm" else ""
        sizes = "N=5 D=3 K=4 " if name == "linear" else "N=5 C=3 "
        layer = RIGHT[name]
        case = f"{sizes}{line}dtype=float64 layout=C values=ordinary cotangent=signed seed=1"
        trial = Trial(layer, parse_case(case, layer.spec), make_oracle(layer.spec))
        calls.clear()
        assert all(s.outcome is not Status.FAILED for s in descent.examine(trial))
        for names, lr, _, _ in calls:
            seen[name, names].append(lr)
    assert step(
        {"gamma": np.array([1.0, 2.0]), "w": np.array([[3.0]])},
        {"gamma": np.array([10.0, -10.0]), "w": np.array([[1.0]])}, 0.1,
    ) == {"gamma": pytest.approx([0.0, 3.0]), "w": pytest.approx(np.array([[2.9]]))}  # fmt: skip
    for name, params in (("batch_norm", ("gamma", "beta")), ("linear", ("w", "b"))):
        together = set(seen[name, params])
        for param in params:
            # The rate at which all together pass is one that is tried for each alone.
            assert together & set(seen[name, (param,)])
    assert seen["prelu", ("a",)]
    assert seen["prelu", ("x",)]


def test_one_rate_is_found_for_all_together_and_for_each_alone():
    """The rate is the largest, by halving, at which every step lowers the loss as Armijo asks."""
    layer = RIGHT["batch_norm"]
    case = "N=5 C=3 eps=1e-05 dtype=float64 layout=C values=ordinary cotangent=signed seed=2"
    trial = Trial(layer, parse_case(case, layer.spec), make_oracle(layer.spec))
    problem = problem_of(trial, start=False)
    gradients = problem.gradients(problem.start)
    grads = {k: gradients[k] for k in ("gamma", "beta")}
    rate, stuck = descent.one_rate(problem, grads)
    assert stuck == {}

    def lowers(rate, *names):
        part = {k: grads[k] for k in names}
        after = problem.loss(descent.sgd_step(problem.start, part, rate))
        promised = rate * sum(float(np.sum(g**2)) for g in part.values())
        return after <= problem.before - descent.ARMIJO * promised

    groups = [("gamma", "beta"), ("gamma",), ("beta",)]
    assert all(lowers(rate, *names) for names in groups)
    assert not all(lowers(2 * rate, *names) for names in groups)


def test_a_layer_without_parameters_is_answered_by_its_inputs():
    """Softmax has none, and its input learns by the same step."""
    _result, check = judged(RIGHT["softmax"], "default")
    assert check.status is Status.PASSED
    assert check.reason == "no parameters: the inputs were stepped"
    assert list(check.tensors) == ["x"]


def test_a_redundant_bias_is_not_stepped_and_beta_is():
    """In front of batch norm the bias is derived to be redundant; beta does its job."""
    result, check = judged(RIGHT["linear_batch_norm"], "default")
    assert check.status is Status.PASSED
    statuses = {name: t.status for name, t in check.tensors.items()}
    assert statuses.pop("b") is Status.REDUNDANT
    assert set(statuses.values()) == {Status.PASSED}
    assert check.tensors["b"].reason == "its derived gradient is zero"
    (remark,) = result.remarks
    assert remark.startswith("b is redundant: ")
    assert "proven for all sizes" in remark


def test_without_anything_to_learn_it_is_not_applicable():
    """A layer of integers alone has no gradient, which is proved and no gap."""
    spec = Spec(
        "seen", ids=Input("N", dtype=int, range="0..3"), y=Output("N"),
        definition="y[n] = where(ids[n] > 0, 1, 0)",
    )  # fmt: skip
    report = verify(Layer(spec, lambda ids: ((ids > 0).astype(float), lambda dy: {})))
    (result,) = report.layers
    assert result.verdict is Verdict.VERIFIED
    assert result.remarks == ()
    (check,) = (c for c in result.checks if c.check == "descent")
    assert (check.status, check.reason) == (Status.NOT_APPLICABLE, "no tensor takes a gradient")


# -- declared ranges


def ranged(**declared):
    """Return a layer that refuses values outside the declared ranges of log(x)*s."""
    declared = {"x": Input("N D", range="0.1..3"),
                "s": Param("D", init="ones", range="0.5..1"), **declared}  # fmt: skip
    spec = Spec("scaled", **declared, y=Output("N D"), definition="y[n,d] = log(x[n,d])*s[d]")

    def layer(x, s):
        for value, (low, high) in ((x, (0.1, 3)), (s, (0.5, 1))):
            rounding = np.finfo(value.dtype).eps
            assert np.all((low * (1 - rounding) <= value) & (value <= high * (1 + rounding)))
        return np.log(x) * s, lambda dy: {"x": dy * s / x, "s": (dy * np.log(x)).sum(axis=0)}

    return Layer(spec, layer)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("defined", [True, False])
def test_no_step_leaves_a_declared_range(seed, defined):
    """A layer is never called outside its ranges, and learning is judged right up to their ends."""
    layer = ranged()
    if not defined:
        layer = Layer(Spec("scaled", **dict(layer.spec.tensors)), layer.function)
    (result,) = verify(layer, seed=seed, checks=["finite_difference", "descent"]).layers
    assert result.findings == ()
    judging = [c for c in result.checks if c.check in ("finite_difference", "descent")]
    assert [t.status for c in judging for t in c.tensors.values()] == 4 * [Status.PASSED]


def test_a_tensor_at_the_end_of_its_range_is_no_finding():
    """Where every step leads out of the range nothing is promised, so nothing can be broken."""
    line = "N=1 D=1 dtype=float64 layout=C values=ordinary cotangent=signed seed={}"
    layer = ranged()
    pinned = 0
    for seed in range(20):
        trial = Trial(layer, parse_case(line.format(seed), layer.spec), make_oracle(layer.spec))
        problem = problem_of(trial, start=True)
        assert problem.start["s"] == 1
        grads = {"s": problem.gradients(problem.start)["s"]}
        outward = bool(grads["s"] < 0)
        assert problem.flat(grads) == outward
        pinned += outward
        assert [s for s in descent.examine(trial) if s.outcome is Status.FAILED] == []
    assert 0 < pinned < 20


@pytest.mark.parametrize("seed", [73, 135, 256])
def test_a_nearly_flat_place_is_no_finding(seed):
    """Momentum needs a small rate where the loss is flat here and worse at the end of the range."""
    spec = Spec(
        "plateau", x=Input("N", range="1..1.1", differentiable=False),
        a=Param("", range="-3.4..8"), y=Output("N"), where=["N >= 2"],
        definition="y[n] = where(n == 0, 1, exp(-x[n]*exp(-a)))",
    )  # fmt: skip

    def layer(x, a):
        y = np.exp(-x * np.exp(-a))
        y[0] = 1
        return y, lambda dy: {"a": (dy * y * x)[1:].sum() * np.exp(-a)}

    line = f"N=2 dtype=float64 layout=C values=ordinary cotangent=signed seed={seed}"
    assert verify(Layer(spec, layer), checks=["descent"], case=line).findings == ()


@pytest.mark.parametrize("factor", [-1, 0.5])
def test_a_wrong_gradient_of_a_tensor_with_a_range_is_told(factor):
    """Staying inside hides no wrong sign and no wrong length."""
    right = ranged()

    def layer(x, s):
        y, pullback = right.function(x=x, s=s)
        return y, lambda dy: pullback(dy) | {"s": factor * pullback(dy)["s"]}

    result, _check = judged(Layer(right.spec, layer))
    assert "s" in {f.tensor for f in result.errors} <= {"s", None}  # None: the walks


# -- wrong layers


def test_an_element_that_never_moves_is_told():
    """A gradient of zero lowers nothing, and is found by asking whether the loss depends on it."""
    finding = the_finding(changed("batch_norm", beta=lambda g, given: 0 * g))
    assert (finding.question, finding.tensor, finding.index) == ("moves", "beta", (0,))
    assert finding.message.startswith(
        "this element of beta never moves, yet the loss depends on it (in "
    )
    assert finding.got == 0
    assert abs(finding.expected) > finding.allowed > 0
    assert finding.case.startswith("N=2 C=1 eps=")
    assert finding.derived.startswith("dbeta[c] = Σ[n] dy[n,c]")


def test_a_single_element_that_never_moves_is_told():
    """One element of many is found, since every element must move over the cases."""

    def frozen(g, given):
        g[-1] = 0
        return g

    finding = the_finding(changed("linear", b=frozen), profile="default", sizes={"K": 4})
    assert (finding.question, finding.tensor) == ("moves", "b")


def test_a_dead_unit_is_no_finding():
    """Where the loss does not depend on an element, a gradient of zero is right."""
    dead = Spec(
        "dead", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = relu(x[n]*w[n])"
    )

    def layer(x, w):
        on = x * w > 0
        return x * w * on, lambda dy: {"x": dy * w * on, "w": dy * x * on}

    result, check = judged(Layer(dead, layer))
    assert result.findings == ()
    assert check.status is Status.PASSED


@pytest.mark.parametrize("factor", [2, 0.5, 1.001])
def test_a_gradient_of_the_wrong_length_is_told(factor):
    """A doubled gradient lowers the loss as well; its slope shows that it promises too much."""
    layer = changed("batch_norm", gamma=lambda g, given: g * g.dtype.type(factor))
    finding = the_finding(layer)
    assert (finding.question, finding.tensor) == ("slope", "gamma")
    assert finding.expected == -1
    assert finding.got == pytest.approx(-1 / factor, rel=1e-9)
    assert finding.message.startswith(
        f"a step along minus the gradient of gamma changes the loss by {-1 / factor:.9g} times the "
        "step's squared length over the rate, where its gradient promises -1"
    )
    assert finding.case.startswith("N=2 C=1 eps=")


def test_a_negated_gradient_is_told():
    """Up is not down: no learning rate lowers the loss."""
    result, check = judged(changed("linear", w=lambda g, given: -g))
    (finding,) = (f for f in result.findings if f.tensor == "w")
    assert finding.question == "decrease"
    assert finding.message.startswith("no learning rate down to ")
    assert " lowers the loss along minus the gradient of w" in finding.message
    assert finding.got > finding.expected
    assert finding.why == "the rounding of the loss"
    assert finding.case.startswith("N=1 D=")
    assert check.tensors["b"].status is not Status.FAILED


def test_one_wrong_sign_is_told():
    """One element of many with the wrong sign still lowers the loss, and has the wrong slope."""

    def turned(g, given):
        g[..., -1] *= -1
        return g

    for tensor in ("gamma", "x"):
        result, _check = judged(changed("batch_norm", **{tensor: turned}), sizes={"C": 5})
        assert {f.tensor for f in result.errors} <= {tensor, None}
        assert "slope" in {f.question for f in result.errors}


def test_a_permuted_gradient_is_told():
    """A permuted gradient has the right length and leads elsewhere."""
    layer = changed("batch_norm", gamma=lambda g, given: np.roll(g, 1))
    result, _check = judged(layer, "default")
    assert {f.tensor for f in result.errors} == {"gamma", None}  # None: of all together
    slope = next(f for f in result.errors if f.question == "slope")
    assert slope.case.startswith("N=2 C=2 eps=1e-05 dtype=float64")


def test_a_gradient_that_is_wrong_where_learning_starts_is_told():
    """Other checks draw gamma away from 1 and beta from 0; learning starts there."""

    def first(g, given):
        start = np.all(given["gamma"] == 1) and np.all(given["beta"] == 0)
        return -g if start else g

    finding = the_finding(changed("batch_norm", gamma=first, beta=first))
    assert (finding.question, finding.tensor) == ("steps", None)
    assert finding.message.startswith(
        "step 1 of plain gradient descent on gamma, beta does not lower the loss at any learning "
        "rate"
    )


def test_a_wrong_input_gradient_is_told():
    """Inputs are stepped too: what a layer hands back is what the layers before it learn by."""
    layer = changed("softmax", x=lambda g, given: g * g.dtype.type(3))
    finding = the_finding(layer)
    assert (finding.question, finding.tensor) == ("slope", "x")
    assert finding.got == pytest.approx(-1 / 3, rel=1e-9)


# -- no alarm


# Saturated cases: the gradient is some 1e-20 and the loss flat within its rounding, so that a rate
# which could show anything leads to where the loss has nothing to do with the gradient.
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("softmax", "N=1 C=3 dtype=float64 layout=C values=large cotangent=signed seed=1639577730"),
        ("softmax", "N=1 C=3 dtype=float64 layout=C values=large cotangent=signed seed=4276950086"),
        ("softmax_cross_entropy", "N=1 C=3 dtype=float64 layout=C values=large cotangent=signed seed=1639577730"),
        ("softmax_cross_entropy", "N=1 C=2 dtype=float64 layout=C values=large cotangent=signed seed=2638559578"),
    ],
)  # fmt: skip
def test_a_saturated_layer_is_no_finding(name, line):
    """What cannot be seen is vacuous in that case, and never failed."""
    layer = RIGHT[name]
    trial = Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))
    seen = list(descent.examine(trial))
    assert {s.outcome for s in seen} <= {Status.PASSED, Status.VACUOUS}
    assert not any(s.powered for s in seen if s.tensor == "x" and s.outcome is Status.VACUOUS)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        # The third step of descent stands beside the kink, below which nothing is left to learn.
        ("relu", "N=2 C=2 dtype=float64 layout=C values=ordinary cotangent=signed seed=1982925818"),
        # A step that could show leads out of the saturated gates.
        ("lstm_cell", "N=2 D=3 H=1 dtype=float64 layout=C values=large cotangent=signed seed=1894745303"),
    ],
)  # fmt: skip
def test_where_the_loss_is_no_line_nothing_is_promised(name, line):
    """A step too long for the slope, or across a kink, that does not lower the loss is no fault."""
    layer = RIGHT[name]
    trial = Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))
    assert [s for s in descent.examine(trial) if s.outcome is Status.FAILED] == []


def test_a_step_that_overshoots_by_the_definition_too_is_no_finding():
    """In float16 the shortest step that shows leads beyond the minimum of a sum over 66 steps."""
    line = ("T=66 N=3 D=2 H=3 dtype=float16 layout=C values=negative params=equal cotangent=signed "
            "seed=121999420")  # fmt: skip
    (right,) = (x for x in load(RIGHT_FOLDER / "lstm.py") if x.name == "steps_recomputed")
    trial = Trial(right, parse_case(line, right.spec), make_oracle(right.spec))
    assert [s for s in descent.examine(trial) if s.outcome is Status.FAILED] == []


def test_a_gradient_that_overflows_is_no_crash():
    """A gradient whose square is infinite has no rate; other checks say that it is wrong."""
    layer = changed("linear", w=lambda g, given: np.full_like(g, 1e300 if g.itemsize == 8 else 1))
    _result, check = judged(layer)
    assert check.tensors["w"].status is not Status.PASSED


# -- without a definition


def undefined(name):
    spec = RIGHT[name].spec
    return Spec(spec.name, **dict(spec.tensors))


@pytest.mark.parametrize("name", ["linear", "prelu", "softmax", "lstm_cell"])
def test_without_a_definition_it_is_asked_as_well(name):
    """Descent needs the layer's own forward and nothing else."""
    result, check = judged(Layer(undefined(name), RIGHT[name].function), "default")
    assert result.findings == ()
    assert check.status is Status.PASSED


@pytest.mark.parametrize(
    ("change", "question"),
    [(lambda g, given: 0 * g, "moves"), (lambda g, given: 2 * g, "slope")],
)
def test_without_a_definition_a_wrong_gradient_is_told(change, question):
    """A gradient of zero and a doubled one are told without a definition too."""
    finding = the_finding(changed("prelu", spec=undefined("prelu"), a=change))
    assert (finding.question, finding.tensor, finding.derived) == (question, "a", None)
