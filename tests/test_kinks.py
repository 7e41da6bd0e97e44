"""kinks: any mixture of the derivatives on the sides of a kink is right, and nothing else."""

import re
from dataclasses import replace

import numpy as np
import pytest

from gradverify import (
    Constant,
    Input,
    Layer,
    Output,
    Param,
    Spec,
    Status,
    Verdict,
    asking,
    catalog,
    checks,
    verify,
)
from gradverify.calculus.compile import SWITCHES
from gradverify.calculus.point import Point
from gradverify.calculus.switches import Switches
from gradverify.checks import kinks
from gradverify.sides import Vicinity, ties
from gradverify.trial import make_oracle

relu, max_pool = catalog("relu"), catalog("max_pool2d")
magnitude = Spec("magnitude", x=Input("N"), y=Output("N"), definition="y[n] = abs(x[n])")
ONLY = {"checks": ["kinks"], "profile": "quick"}


def asked(spec, function, **options):
    """Return what kinks says of a layer, and its findings."""
    (result,) = verify(Layer(spec, function), **(ONLY | options)).layers
    (check,) = (c for c in result.checks if c.check == "kinks")
    return check, [f for f in result.findings if f.check == "kinks"]


def passes(spec, function, **options):
    check, findings = asked(spec, function, **options)
    return findings == [] and check.status is Status.PASSED


def relu_with(at_zero):
    """Return a relu whose derivative at 0 is a number, or is drawn for each element."""

    def layer(x):
        drawn = np.random.default_rng(0).random(x.shape) if at_zero is None else at_zero
        slope = np.where(x == 0, drawn, x > 0).astype(x.dtype)
        return np.maximum(x, 0), lambda dy: {"x": dy * slope}

    return layer


def pooled(share):
    """Return a max pooling that gives `share(tied)` of the cotangent to each tied element.

    `tied` has shape (..., window).
    """

    def layer(x, *, K, S):
        windows = np.lib.stride_tricks.sliding_window_view(x, (K, K), axis=(2, 3))
        windows = windows[:, :, ::S, ::S]
        y = windows.max(axis=(-2, -1))
        tied = windows.reshape(*y.shape, -1) == y[..., None]
        part = np.asarray(share(tied), x.dtype).reshape(windows.shape)

        def pullback(dy):
            dx = np.zeros_like(x)
            for p in range(y.shape[2]):
                for q in range(y.shape[3]):
                    dx[:, :, p * S : p * S + K, q * S : q * S + K] += (
                        dy[:, :, p, q, None, None] * part[:, :, p, q]
                    )
            return {"x": dx}

        return y, pullback

    return layer


def first(tied):
    return np.eye(tied.shape[-1])[tied.argmax(axis=-1)]


SHARES = {
    "first": first,
    "last": lambda tied: first(tied[..., ::-1])[..., ::-1],
    "equal": lambda tied: tied / tied.sum(axis=-1, keepdims=True),
    "drawn": lambda tied: first(tied * np.random.default_rng(1).random(tied.shape)),
}


class TestOneKink:
    """Everything between the derivatives to both sides is right; beyond them it is wrong."""

    @pytest.mark.parametrize("at_zero", [0, 1, 0.5, 0.3, None])
    def test_relu_may_have_any_slope_from_0_to_1_at_0(self, at_zero):
        """0, 1, a half, any other share and another one for each element pass."""
        assert passes(relu, relu_with(at_zero))

    @pytest.mark.parametrize("at_zero", [2, -1, 1.01, -0.01, np.nan])
    def test_another_slope_at_0_is_wrong(self, at_zero):
        """More than 1, less than 0 and nan at exactly 0 are findings, with both derivatives."""
        check, findings = asked(relu, relu_with(at_zero))
        assert (check.status, check.reason) == (Status.FAILED, "x")
        (finding,) = findings
        assert finding.question == "subgradient"
        assert finding.message.startswith("on a kink of the definition")
        assert re.search(r"the gradient at x\[\d, \d\] = 0 must be between ", finding.message)
        assert "by its derivatives to all sides" in finding.message
        assert finding.allowed < 1e-2
        if np.isfinite(at_zero):
            # What is expected is the nearer end: 0 or the cotangent.
            ratio = finding.got / at_zero * (at_zero > 0)
            assert finding.expected == pytest.approx(ratio, rel=1e-6)

    @pytest.mark.parametrize("at_zero", [0, 1, -1, 0.5])
    def test_abs_may_have_any_slope_from_minus_1_to_1_at_0(self, at_zero):
        """The sign 0 is one of them."""

        def layer(x):
            slope = np.where(x == 0, at_zero, np.sign(x)).astype(x.dtype)
            return np.abs(x), lambda dy: {"x": dy * slope}

        assert passes(magnitude, layer)

    def test_x_over_its_magnitude_is_nan_at_0(self):
        """0/0 is found by cases in which inputs are exactly 0."""

        def layer(x):
            return np.abs(x), lambda dy: {"x": dy * x / np.abs(x)}

        _, findings = asked(magnitude, layer)
        assert np.isnan(findings[0].got)

    @pytest.mark.parametrize(
        ("lower", "upper", "right"),
        [
            (-0.5, 1.0, True), (0, 1.5, True), (-0.2, 1.2, True),
            (-0.7, 1.0, False), (0, 0, False), (0.2, 1.0, False),
        ],
    )  # fmt: skip
    def test_the_ends_of_hardswish(self, lower, upper, right):
        """At exactly -3 and 3, numbers that the definition names, it is as elsewhere."""

        def layer(x):
            slope = np.where(x < -3, 0, np.where(x > 3, 1, (2 * x + 3) / 6))
            slope = np.where(x == -3, lower, np.where(x == 3, upper, slope)).astype(x.dtype)
            return x * np.clip(x + 3, 0, 6) / 6, lambda dy: {"x": dy * slope}

        assert passes(catalog("hardswish"), layer, profile="default") is right

    @pytest.mark.parametrize(("factor", "right"), [(1, True), (0, False), (2, False)])
    def test_the_boundary_of_huber(self, factor, right):
        """Where both branches have one slope there is nothing to choose: it must be that."""

        def layer(x, t, *, delta):
            e = x - t
            far = np.abs(e) > delta
            loss = np.where(far, delta * (np.abs(e) - delta / 2), e**2 / 2).mean()
            slope = np.where(far, delta * np.sign(e), e) / e.size
            slope = np.where(np.abs(e) == delta, factor, 1) * slope
            return loss, lambda dloss: {"x": (dloss * slope).astype(x.dtype)}

        assert passes(catalog("huber"), layer, profile="default") is right

    def test_a_parameter_is_asked_too(self):
        """The slope of a PReLU has no gradient at x = 0, whichever side is taken."""

        def layer(x, a, at_zero=0.0):
            y = np.where(x > 0, x, a * x)

            def pullback(dy):
                da = np.where(x == 0, at_zero, np.where(x > 0, 0, x)).astype(x.dtype)
                dx = dy * np.where(x > 0, np.ones_like(x), a)
                return {"x": dx, "a": (dy * da).sum(axis=0)}

            return y, pullback

        prelu = catalog("prelu")
        assert passes(prelu, layer, profile="default")
        _, findings = asked(prelu, lambda x, a: layer(x, a, 1.0), profile="default")
        assert {f.tensor for f in findings} == {"a"}


class TestTies:
    """However a maximum's cotangent is shared among equal elements, the shares add up to it."""

    @pytest.mark.parametrize("share", SHARES)
    def test_any_way_of_sharing_is_right(self, share):
        """The first, the last, equal shares and one that is drawn pass."""
        assert passes(max_pool, pooled(SHARES[share]), profile="default")

    @pytest.mark.parametrize(
        ("share", "total"),
        [
            (lambda tied: tied, 2),
            (lambda tied: first(tied) * (tied.sum(axis=-1, keepdims=True) == 1), 0),
        ],
        ids=["all to each", "nothing"],
    )
    def test_shares_that_do_not_add_up_are_wrong(self, share, total):
        """Each tied element getting all of it, or none getting any, is told as a sum."""
        _, findings = asked(max_pool, pooled(share))
        (finding,) = findings
        assert "which are tied, must add up to " in finding.message
        assert "however it is shared; they add up to " in finding.message
        times = finding.got / finding.expected
        assert times == pytest.approx(round(times))  # once for each that is tied
        assert round(times) >= total if total else times == 0

    def test_a_half_to_each_is_wrong_where_three_are_tied(self):
        """Cases with more than two equal elements are among those asked."""

        def half(tied):
            return tied / np.where(tied.sum(axis=-1, keepdims=True) > 1, 2, 1)

        _, findings = asked(max_pool, pooled(half), profile="default")
        assert len(findings) == 1


class TestBehindOneAnother:
    """Kinks that depend on each other leave all choices for each."""

    NESTED = Spec("nested", x=Input("N"), y=Output("N"), definition="y[n] = relu(relu(relu(x[n])))")
    NETWORK = Spec(
        "network", x=Input("N D"), w=Param("K D"), b=Param("K"), v=Param("J K"), y=Output("N"),
        definition="""
            h[n,k] = relu(sum[d](x[n,d]*w[k,d]) + b[k])
            z[n,j] = relu(sum[k](h[n,k]*v[j,k]))
            y[n]   = max[j](z[n,j])
        """,
    )  # fmt: skip

    @pytest.mark.parametrize("at_zero", [0, 1, 0.5, 0.3])
    def test_relu_of_relu(self, at_zero):
        """Any slope between 0 and 1 is some product of slopes."""
        assert passes(self.NESTED, relu_with(at_zero))
        _, findings = asked(self.NESTED, relu_with(2 + at_zero))
        assert findings

    @pytest.mark.parametrize("at_zero", [0.0, 1.0, 0.5])
    @pytest.mark.parametrize("share", ["first", "last", "equal"])
    def test_a_network_of_them_is_no_false_alarm(self, at_zero, share):
        """Two layers of relu and a maximum, each with a convention of its own, pass."""

        def layer(x, w, b, v, scale=1.0):
            def slope(a):
                return np.where(a == 0, at_zero, a > 0).astype(x.dtype)

            a = x @ w.T + b
            h = np.maximum(a, 0)
            c = h @ v.T
            z = np.maximum(c, 0)
            y = z.max(axis=1)
            part = np.asarray(SHARES[share](z == y[:, None]), x.dtype) * scale

            def pullback(dy):
                dc = dy[:, None] * part * slope(c)
                da = dc @ v * slope(a)
                return {"x": da @ w, "w": da.T @ x, "b": da.sum(axis=0), "v": dc.T @ h}

            return y, pullback

        check, findings = asked(self.NETWORK, layer, profile="default")
        assert findings == []
        assert check.status is Status.PASSED

    def test_a_recurrence(self):
        """Kinks in a loop are kinks of each of its turns."""
        spec = Spec(
            "recurrence", x=Input("T N"), u=Param("N"), h0=Input("N"), h=Output("T N"),
            definition="h[t,n] = relu(x[t,n] + u[n]*h[t-1,n])\nh[-1,n] = h0[n]",
        )  # fmt: skip

        def layer(x, u, h0, at_zero=0.0):
            before, inside, outputs = [], [], []
            h = h0
            for row in x:
                before.append(h)
                inside.append(row + u * h)
                h = np.maximum(inside[-1], 0)
                outputs.append(h)

            def pullback(dh):
                dx, du, carried = np.zeros_like(x), np.zeros_like(u), np.zeros_like(h0)
                for t in reversed(range(len(x))):
                    slope = np.where(inside[t] == 0, at_zero, inside[t] > 0).astype(x.dtype)
                    dx[t] = (dh[t] + carried) * slope
                    du += dx[t] * before[t]
                    carried = dx[t] * u
                return {"x": dx, "u": du, "h0": carried}

            return np.stack(outputs), pullback

        for right in (0.0, 0.4):
            assert passes(spec, lambda x, u, h0, c=right: layer(x, u, h0, c))
        _, findings = asked(spec, lambda x, u, h0: layer(x, u, h0, 3.0), profile="default")
        assert findings


class TestNothingToAsk:
    """Where there are no kinks, or none can be met, that is said and takes no green away."""

    def test_a_definition_without_kinks(self):
        """Its program says so."""
        check, _ = asked(catalog("tanh"), lambda x: (np.tanh(x), lambda dy: dy), profile="quick")
        assert check.status is Status.NOT_APPLICABLE
        assert check.reason == "the definition has no kinks"

    def test_kinks_that_no_gradient_sees(self):
        """Under stop_gradient, and in conditions on masks, there is nothing to choose."""
        for definition in (
            "y[n] = x[n] - stop_gradient(abs(x[n]))",
            "y[n] = where(m[n] > 0, x[n], 0)",
        ):
            spec = Spec(
                "s", x=Input("N"), m=Input("N", values=(0, 1), differentiable=False),
                y=Output("N"), definition=definition,
            )  # fmt: skip
            assert kinks.absent(spec) == "the definition has no kinks"

    def test_a_range_that_excludes_them(self):
        """A relu of positive numbers has no kink that a case could be placed on."""
        spec = Spec("s", x=Input("N", range="0.1..3"), y=Output("N"), definition="y[n]=relu(x[n])")

        def layer(x):
            return x.copy(), lambda dy: {"x": dy.copy()}

        (result,) = verify(Layer(spec, layer)).layers
        (check,) = (c for c in result.checks if c.check == "kinks")
        assert (check.status, check.reason) == (Status.NOT_APPLICABLE, kinks.ONE_SIDE)
        assert result.verdict is Verdict.VERIFIED

    @pytest.mark.parametrize(
        ("definition", "forward"),
        [
            ("y[n] = where(x[n] > 0, 1, 0) + x[n]", lambda x: (x > 0) + x),
            ("y[n] = x[n]//1 + x[n]", lambda x: np.floor(x) + x),
            ("y[n] = x[n] % 2", lambda x: x % 2),
        ],
        ids=["step", "floor", "remainder"],
    )
    def test_jumps_have_no_derivative(self, definition, forward):
        """A step has no gradient at it: nothing is asked there, and elsewhere all is as ever."""
        spec = Spec("s", x=Input("N"), y=Output("N"), definition=definition)

        def layer(x):
            return forward(x).astype(x.dtype), lambda dy: {"x": dy.copy()}

        (result,) = verify(Layer(spec, layer)).layers
        (check,) = (c for c in result.checks if c.check == "kinks")
        assert (check.status, check.reason) == (Status.NOT_APPLICABLE, kinks.JUMPS)
        assert (result.findings, result.verdict) == ((), Verdict.VERIFIED)

    def test_without_a_definition(self):
        """Nobody knows where the kinks are: unavailable, and ties are for contract alone."""
        spec = Spec("s", x=Input("N"), y=Output("N"))

        def layer(x):
            return np.abs(x), lambda dy: {"x": dy * np.sign(x)}

        (result,) = verify(Layer(spec, layer)).layers
        (check,) = (c for c in result.checks if c.check == "kinks")
        assert (check.status, check.reason) == (Status.UNAVAILABLE, "the spec has no definition")
        assert (result.findings, result.verdict) == ((), Verdict.VERIFIED)

    def test_a_norm_that_is_guarded(self):
        """A branch that is not finite on one side of its kink is no alarm."""
        spec = Spec(
            "s", x=Input("N D"), y=Output("N D"),
            definition="""
                r[n]   = sqrt(sum[d](x[n,d]**2))
                y[n,d] = where(r[n] == 0, 0, x[n,d]/r[n])
            """,
        )  # fmt: skip

        def layer(x):
            r = np.sqrt((x**2).sum(axis=1, keepdims=True))
            safe = np.where(r == 0, 1, r)
            y = x / safe

            def pullback(dy):
                dx = (dy - y * (dy * y).sum(axis=1, keepdims=True)) / safe
                return {"x": np.where(r == 0, 0, dx).astype(x.dtype)}

            return y, pullback

        _, findings = asked(spec, layer, profile="default")
        assert findings == []


class TestChoices:
    """What a point is on, and what follows from choosing."""

    @staticmethod
    def around(spec, x):
        point = Point({"x": np.array(x, float)}, {}, {"N": len(x)})
        return Vicinity(make_oracle(spec), point, ("x",), "float64", 0)

    def test_a_condition_has_two_sides_at_its_kink_only(self):
        """Of relu at -1, 0 and 2 the middle element is on a kink."""
        spec = Spec("s", x=Input("N"), y=Output("N"), definition="y[n] = relu(x[n])")
        _, found = ties(self.around(spec, [-1, 0, 2]))
        assert [(t.place, [bool(s) for s in t.sides]) for t in found] == [((1,), [False, True])]

    def test_equal_elements_are_the_picks_of_a_maximum(self):
        """The first of three equal ones is the definition's; a smaller one is none."""
        spec = Spec("s", x=Input("N"), y=Output(""), definition="y = max[n](x[n])")
        _, (tie,) = ties(self.around(spec, [1, 3, 3, 2, 3]))
        assert [int(np.argmax(s)) for s in tie.sides] == [1, 2, 4]

    def test_what_rounding_makes_unequal_is_tied_too(self):
        """A layer that adds up in another order may find the other element larger."""
        spec = Spec("s", x=Input("N"), y=Output(""), definition="y = max[n](x[n])")
        _, (tie,) = ties(self.around(spec, [1, 1 + 1e-14, 0]))
        assert [int(np.argmax(s)) for s in tie.sides] == [1, 0]

    def test_a_forced_side_is_taken_by_the_pullback(self):
        """The forward notes a kink, and both follow what is chosen for it."""
        oracle = make_oracle(magnitude)
        around = self.around(magnitude, [0.0, 2.0])
        base, (tie,) = ties(around)
        forced = np.array(base.sides[tie.kink])
        forced[tie.place] = tie.sides[1]
        for switches, expected in ((Switches(), -1.0), (Switches({tie.kink: forced}), 1.0)):
            _, pullback = oracle.run(around.point, SWITCHES, switches=switches)
            np.testing.assert_array_equal(pullback(np.ones(2))["x"], [expected, 1.0])


class TestCheckItself:
    """These tests can fail: what a broken check would let through."""

    def test_sides_that_are_never_crossed_leave_nothing_to_ask(self, monkeypatch):
        """Without points on kinks the wrong relu is not seen, and the status says why."""
        monkeypatch.setattr(kinks, "_moved", lambda trial: None)
        monkeypatch.setattr("gradverify.trial.on_a_kink", lambda point: False)
        check, findings = asked(relu, relu_with(2))
        assert (check.status, findings) == (Status.NOT_APPLICABLE, [])

    def test_bounds_that_are_never_looked_at_let_it_pass(self, monkeypatch):
        """Relu with a slope of 2 at 0 is found by the derivatives to both sides alone."""
        monkeypatch.setattr(kinks._Bounds, "beyond", lambda *_: None)
        monkeypatch.setattr(kinks._Bounds, "unshared", lambda *_: None)
        _, findings = asked(relu, relu_with(2))
        assert "no mixture of those on the sides" in findings[0].message
        monkeypatch.setattr(kinks, "nearest_mixture", lambda base, parts, got, enough: got)
        assert asked(relu, relu_with(2))[1] == []

    def test_other_checks_are_not_asked_on_kinks(self, monkeypatch):
        """A right relu that takes the other side at 0 would be failed there by symbolic."""
        layer = Layer(relu, relu_with(0))
        assert not verify(layer, checks=["symbolic"]).findings
        asked_there = replace(checks.CHECKS["symbolic"], at_kinks=True)
        monkeypatch.setattr(asking, "CHECKS", dict(checks.CHECKS) | {"symbolic": asked_there})
        assert verify(layer, checks=["symbolic"]).findings


def test_a_constant_that_is_compared_is_met():
    """Clipping at a declared bound: exactly at it the gradient is between 0 and the cotangent."""
    spec = Spec(
        "clip", x=Input("N"), bound=Constant(0.7, 2.5), y=Output("N"),
        definition="y[n] = min(max(x[n], -bound), bound)",
    )  # fmt: skip

    def clip(x, *, bound, at_bound=1.0):
        edge = np.asarray(bound, x.dtype)
        slope = np.where(np.abs(x) == edge, at_bound, np.abs(x) < edge).astype(x.dtype)
        return np.clip(x, -edge, edge), lambda dy: {"x": dy * slope}

    assert passes(spec, clip, profile="default")
    _, findings = asked(
        spec, lambda x, *, bound: clip(x, bound=bound, at_bound=2.0), profile="default"
    )
    assert findings
