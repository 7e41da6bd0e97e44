"""exact: the layer's own code in 50 digits, where neither rounding nor cancellation hides errors."""

import functools
import math
import runpy
import sys
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from numpy import zeros

from gradverify import Input, Layer, Output, Param, Spec, Status, Verdict, catalog, checks, verify
from gradverify.cases import cases, parse_case
from gradverify.checks import exact, products
from gradverify.loading import catalogue_folder, load
from gradverify.numerics.dual_arrays import Duals
from gradverify.replayed import Products, Replay, Unavailable, _namespaces, replay
from gradverify.tally import Seen
from gradverify.trial import Trial, make_oracle

PLAIN = Spec("plain", x=Input("N C"), w=Param("C"), y=Output("N C"))


def result_of(function, spec=PLAIN, profile="quick"):
    """Return the result of the check, and the findings, of a layer."""
    layer = Layer(spec, function, name="layer", dtypes=["float64"])
    report = verify(layer, checks=["exact"], profile=profile)
    (layer,) = report.layers
    return {c.check: c for c in layer.checks}["exact"], layer.findings


def trial_of(function, spec=PLAIN, line="N=3 C=2"):
    rest = "dtype=float64 layout=C values=ordinary cotangent=signed seed=3"
    case = parse_case(f"{line} {rest}", spec)
    return Trial(Layer(spec, function, name="layer"), case, make_oracle(spec))


def tanh_layer(x, w, *, scale=1.0, extra=0.0, helper=np.tanh):
    """Return y = tanh(x*w); the gradient of w is wrong by a factor or by a small number."""
    y = helper(x * w)

    def pullback(dy):
        dz = dy * (1 - y**2)
        return {"x": dz * w, "w": scale * (dz * x).sum(axis=0) + extra}

    return y, pullback


def test_a_right_layer_passes_without_a_definition():
    """Each tensor has cases in which a wrong gradient would have shown."""
    result, findings = result_of(tanh_layer, profile="default")
    assert result.status is Status.PASSED
    assert {t.status for t in result.tensors.values()} == {Status.PASSED}
    assert findings == ()
    assert result.cases == 10


@pytest.mark.parametrize("scale", [-1, 2, 1.01, 1 + 1e-6])
def test_a_wrong_gradient_fails_and_nothing_else_is_blamed(scale):
    """The finding names the tensor, an element, both values, what is allowed, and why."""
    result, findings = result_of(functools.partial(tanh_layer, scale=scale))
    assert result.status is Status.FAILED
    (finding,) = findings
    assert (finding.tensor, finding.question, finding.severity) == ("w", "adjoint", "error")
    assert finding.message.startswith(
        "in 50-digit arithmetic, the gradient of w is not the derivative of the layer's forward"
    )
    assert finding.got == pytest.approx(scale * finding.expected, rel=1e-12)
    assert finding.allowed < 1e-12
    assert finding.why.startswith("64 x (")
    assert 'checks=["exact"], case="N=1 C=1 ' in finding.replay


def test_one_wrong_element_is_found():
    """In a tensor too large to look at each element, halving finds the one that is wrong."""

    def layer(x, w):
        y, pullback = tanh_layer(x, w)

        def wrong(dy):
            grads = pullback(dy)
            grads["x"][-1, 0] *= 1.5
            return grads

        return y, wrong

    trial = trial_of(layer, line="N=7 C=5")
    (seen,) = [s for s in exact.examine(trial) if s.tensor == "x"]
    assert seen.outcome is Status.FAILED
    seen = exact.worst_element(trial, seen)
    assert seen.index == (6, 0)
    assert seen.got == pytest.approx(1.5 * seen.expected)


TANH = Spec(
    "t", x=Input("N C"), w=Param("C"), y=Output("N C"), definition="y[n,c] = tanh(x[n,c]*w[c])"
)


def test_a_constant_wrong_in_the_13th_digit_fails():
    """With a definition this is an error: whoever wrote 1.0000000000005 did not mean 1."""
    result, findings = result_of(functools.partial(tanh_layer, scale=1 + 5e-13), TANH)
    assert result.status is Status.FAILED
    assert [f.tensor for f in findings] == ["w"]


def test_cancellation_hides_nothing():
    """Where the gradient is a difference of numbers 1e12 times as large, float64 allows what 50
    digits do not."""
    spec = Spec(
        "far", x=Input("N"), y=Output("N"), definition="y[n] = (x[n] + 2**40)**2 - x[n]*2**41"
    )

    def layer(x, factor=1.0):
        far = x + 2.0**40
        # Wrong by a millionth of the gradient 2*x, which is 1e-18 of the terms.
        return far * far - x * 2.0**41, lambda dy: dy * factor * (2 * far - 2.0**41)

    right, wrong = (result_of(functools.partial(layer, factor=f), spec)[0] for f in (1, 1 + 1e-6))
    assert right.status is Status.PASSED
    assert wrong.status is Status.FAILED
    wrong = functools.partial(layer, factor=1 + 1e-6)
    (found,) = verify(Layer(spec, wrong, name="far", dtypes=["float64"]), profile="quick").layers
    # Differences see nothing of it.
    assert {f.check for f in found.errors} == {"exact", "symbolic"}


# -- what is never an alarm

ROUNDED = {
    "a third": lambda x: (x * (1 / 3), lambda dy: dy / 3),
    "three thirds": lambda x: (x * (1 / 3) + x * (1 / 3) + x * (1 / 3), lambda dy: dy),
    "what is left of 0.999": lambda x: (x - 0.999 * x, lambda dy: dy * (1 - 0.999)),
    "rounded and cancelled": lambda x: (
        0.1 * (x + 1000) - 100 * x - 0.1 * x, lambda dy: dy * (0.1 - 100.1),
    ),
    "a table": lambda x: (
        np.cos(np.arange(len(x))) ** 2 * x, lambda dy: dy * (1 - np.sin(np.arange(len(dy))) ** 2),
    ),
    "the normal distribution": lambda x: (
        x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        lambda dy: dy * slope_of_gelu(x),
    ),
}  # fmt: skip


def slope_of_gelu(x):
    t = np.tanh(x * (np.sqrt(2 / np.pi) + np.sqrt(2 / np.pi) * 0.044715 * x * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * (
        math.sqrt(2 / math.pi) + 3 * 0.044715 * math.sqrt(2 / math.pi) * x**2
    )


ONE = Spec("one", x=Input("N"), y=Output("N"))


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_constants_are_no_error(name):
    """Constants in the code are float64: what follows from their rounding is allowed."""
    result, findings = result_of(ROUNDED[name], ONE)
    assert result.status is Status.PASSED
    assert findings == ()


def test_without_an_allowance_for_constants_a_right_layer_fails(monkeypatch):
    """The test above can fail: a third is rounded."""
    monkeypatch.setattr(products, "FACTOR", 0.0)
    _, findings = result_of(ROUNDED["a third"], ONE)
    assert [f.tensor for f in findings] == ["x"]


def test_what_is_zero_by_algebra_is_no_error():
    """The bias before a norm has gradient 0 and derivative 1e-50: neither is wrong, in 50 digits."""
    spec = Spec("centred", x=Input("N C"), b=Param("C"), y=Output("N C"))

    def layer(x, b):
        z = np.tanh(x) + b
        z = z - z.mean(axis=0)

        def pullback(dy):
            dz = dy - dy.mean(axis=0)
            return {"x": dz / np.cosh(x) ** 2, "b": dz.sum(axis=0)}

        return z, pullback

    result, findings = result_of(layer, spec)
    assert findings == ()
    assert result.tensors["x"].status is Status.PASSED


def test_a_stabiliser_that_the_gradient_leaves_out_is_a_warning():
    """Without a definition nobody knows whether log(p + 1e-13) or log(p) is meant."""

    def layer(x):
        p = np.exp(x) / np.exp(x).sum()
        return np.log(p + 1e-13), lambda dy: dy - p * dy.sum()

    result, findings = result_of(layer, ONE)
    assert result.status is Status.PASSED
    assert {f.severity for f in findings} == {"warning"}
    assert "differences cannot tell" in findings[0].message


def test_bisection_is_not_judged():
    """What is found by comparisons carries no derivative, though its value has one."""

    def layer(x):
        low, high = np.zeros_like(x) - 8, np.zeros_like(x) + 8
        for _ in range(60):  # y + tanh(y) = x
            middle = (low + high) / 2
            above = middle + np.tanh(middle) > x
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        y = (low + high) / 2
        return y, lambda dy: dy / (2 - np.tanh(y) ** 2)

    result, findings = result_of(layer, ONE)
    assert findings == ()
    assert result.status is Status.UNAVAILABLE
    assert "as where a value is found by comparisons" in result.reason


def test_a_layer_for_float32_may_have_constants_of_float32():
    """Rounded constants are those of the dtype that the layer is written for."""

    def layer(x):
        return x * np.float32(1 / 3), lambda dy: dy / np.float32(3)

    for dtype, found in (("float32", 0), ("float64", 1)):
        (told,) = verify(Layer(ONE, layer, name="l", dtypes=[dtype]), checks=["exact"]).layers
        assert len(told.findings) == found


# -- layers that cannot be replayed


def in_float64_memory(x, w):
    y, pullback = tanh_layer(x, w)
    kept = zeros(x.shape).astype(np.float32)
    kept += x.astype(np.float32)
    return y, pullback


STOPPED = {
    "a compiled function": (lambda x: np.linalg.inv(x[:1, None] * 0 + 1) * x, "np.linalg.inv at"),
    "float": (lambda x: np.array([float(v) for v in x]), "float at"),
    "another precision": (lambda x: x.astype(np.float32).astype(float), "a cast to float32 at"),
    "memory": (lambda x: (x.ctypes.data, x)[1], "compiled code at"),
    "interpolation": (lambda x: np.interp(x, [-9, 9], [-9, 9]), "np.interp at"),
}


@pytest.mark.parametrize("name", STOPPED)
def test_what_takes_no_such_numbers_is_told(name):
    """The reason names the operation and the line; nothing is computed with fewer digits."""
    function, told = STOPPED[name]
    seen = trial_of(lambda x: (function(x), lambda dy: dy), ONE, "N=3")
    found = replay(seen)
    assert isinstance(found, Unavailable)
    line = function.__code__.co_firstlineno
    assert found.reason.startswith(f"{told} test_exact_check.py:{line} ")
    assert "50-digit numbers" in found.reason


def test_unavailable_is_no_lack():
    """A compiled kernel cannot take such numbers: the layer is verified by the other checks."""

    def layer(x, w):
        y, pullback = tanh_layer(x, w)
        return np.interp(y, [-1, 1], [-1, 1]), pullback

    (found,) = verify(Layer(TANH, layer, name="compiled", dtypes=["float64"])).layers
    result = {c.check: c for c in found.checks}["exact"]
    assert result.status is Status.UNAVAILABLE
    assert result.reason.startswith("np.interp at test_exact_check.py:")
    assert found.verdict is Verdict.VERIFIED


def test_the_cases_where_it_runs_count():
    """Code that takes such numbers at some sizes only is judged at those."""

    def layer(x, w):
        y, pullback = tanh_layer(x, w)
        return np.interp(y, [-1, 1], [-1, 1]) if len(x) == 2 else y, pullback

    result, _ = result_of(layer, profile="default")
    assert result.status is Status.PASSED


def test_another_computation_is_not_judged():
    """A layer that sees that its arrays are no float64 and does something else was not replayed."""

    def layer(x, w):
        y, pullback = tanh_layer(x, w)
        return y + isinstance(x, Duals), pullback

    found = replay(trial_of(layer))
    assert found == Unavailable("the forward gives another y on 50-digit numbers")


def test_too_much_work_is_declined():
    """The budget is counted in operations, not in time."""

    def layer(x, w):
        for _ in range(2000):
            x = x * 1
        return tanh_layer(x, w)

    found = replay(trial_of(layer, line="N=7 C=5"))
    assert found == Unavailable("it takes more than 40000 operations on 50-digit numbers")


@functools.lru_cache
def table(size):
    return np.full(size, 0.5)


def test_no_dual_numbers_are_left_behind():
    """Neither NumPy nor the layer's own globals are other than before; caches filled in float64
    keep what they have."""
    before = np, np.zeros, math, zeros

    def layer(x, w):
        y, pullback = tanh_layer(x * table(x.shape[1]) * 2, w)
        return y, lambda dy: {k: g * (0.5 if k == "x" else 1) * (2 if k == "x" else 1)
                              for k, g in pullback(dy).items()}  # fmt: skip

    assert result_of(layer)[0].status is Status.PASSED
    assert before == (np, np.zeros, math, zeros)
    assert type(table(2)) is np.ndarray
    assert type(np.zeros(2)) is np.ndarray


def test_random_numbers_inside_a_layer_do_not_harm():
    """Compiled generators get their memory from the real NumPy."""

    def layer(x, w):
        noise = np.random.default_rng(0).random(x.shape)
        y, pullback = tanh_layer(x + noise, w)
        return y, pullback

    assert result_of(layer)[0].status is Status.PASSED


# -- the numbers as such


def test_the_replay_gives_the_derived_gradients_to_40_digits():
    """For a right layer without constants that are rounded, what the pullback returns in 50 digits
    is what the definition's gradient is in 50 digits."""
    (layer,) = load(catalogue_folder() / "softmax.py")
    case = next(cases(layer.spec, ("float64",), 0, 0))
    trial = Trial(layer, case, make_oracle(layer.spec))
    found = replay(trial)
    assert set(found) == {"x"}
    off = np.abs(found["x"] - trial.exact.gradients["x"])
    assert off.max() <= 1e-40 * np.abs(found["x"]).max()


def test_a_gradient_that_is_not_finite_is_replayed_as_such():
    """What a pullback returns is told, however wrong: infinities, and what is not a number."""

    def layer(x, w):
        y, pullback = tanh_layer(x, w)
        return y, lambda dy: {**pullback(dy), "x": dy * -np.inf, "w": w * np.nan}

    found = replay(trial_of(layer))
    assert set(found["x"].ravel()) <= {mpmath.inf, -mpmath.inf}
    assert all(mpmath.isnan(value) for value in found["w"].ravel())


def test_a_layer_that_gives_no_result_has_no_replay():
    """The reason is that of the trial."""

    def layer(x, w):
        raise ValueError("no")

    assert "no" in replay(trial_of(layer)).reason


def test_products_of_a_right_layer_agree_in_all_digits():
    """What is left of the difference is rounding in the 50th digit."""
    trial = trial_of(tanh_layer)
    found = Replay(trial).products({"x": np.ones((3, 2)), "w": np.ones(2)})
    assert abs(found.difference) < 1e-45 * found.terms
    assert found.forward == found.backward != 0


# -- which cases


def test_cases_with_another_constant_are_looked_at():
    """Ten cases are enough unless a constant of the spec was not met in them."""
    conv = catalog("conv2d")
    (layer,) = load(catalogue_folder() / "conv2d.py")
    check = checks.CHECKS["exact"]
    seen, met = Seen(), set()
    for case in cases(conv, ("float64",), 50, 0):
        trial = Trial(layer, case, make_oracle(conv))
        if check.wants(trial) and not seen.enough(check, (), case, 24):
            seen.cases += 1
            met |= {*case.constants}
            for told in exact.examine(trial):
                seen.note(case, replace(told, outcome=Status.PASSED))
    assert met == {(k, v) for k, values in conv.constants.items() for v in values}
    assert seen.cases <= 16


# -- this check can fail to see


def test_a_check_that_compares_nothing_lets_wrong_layers_through(monkeypatch):
    """With the difference always 0 the layers above that fail would pass."""
    products = Replay.products

    def content(self, directions):
        found = products(self, directions)
        return Products(found.forward, found.backward, 0.0, found.terms)

    monkeypatch.setattr(Replay, "products", content)
    assert result_of(functools.partial(tanh_layer, scale=2))[0].status is Status.PASSED


def test_installed_code_below_a_layer_is_none_of_its_own(tmp_path):
    """A file at the root of a project has a virtual environment below it, and is replayed alone."""
    package = tmp_path / ".venv" / "lib" / "site-packages" / "installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import numpy as np\n")
    (tmp_path / "helpers.py").write_text("import numpy as np\n")
    file = tmp_path / "layer.py"
    file.write_text("import installed\nimport helpers\nimport numpy as np\ndef f(x, w): pass\n")
    sys.path[:0] = [str(tmp_path), str(package.parent)]
    try:
        space = runpy.run_path(str(file))
        layer = Layer(PLAIN, space["f"], file=str(file))
        found = [s.get("__name__") for s in _namespaces(layer)]
    finally:
        del sys.path[:2]
        helpers, installed = sys.modules.pop("helpers"), sys.modules.pop("installed")
    assert helpers.__name__ in found
    assert installed.__name__ not in found
