"""gradverify in one's own tests: `check` and `parametrize`."""

import plugin_project
import pytest

import gradverify
from gradverify import Input, Layer, Output, Param, Spec, UsageError
from gradverify.checks.names import NAMES

pytest_plugins = ["pytester"]
project = plugin_project.project  # a fixture

product = Spec("product", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")


def multiply(x, w):
    return w * x, lambda dy: {"x": dy * w, "w": dy * x}


def double(x, w):
    return w * x, lambda dy: {"x": 2 * dy * w, "w": dy * x}


RIGHT, WRONG = Layer(product, multiply), Layer(product, double)


def test_check_returns_the_report_of_a_right_layer():
    """A layer that passes gives its report; of named checks only those have to pass."""
    assert gradverify.check(RIGHT, profile="quick").ok
    report = gradverify.check(
        WRONG, checks=["forward", "contract"], profile="quick", sizes={"N": 2}
    )
    assert not report.ok
    assert report.profile == "quick"


def test_check_fails_with_the_findings():
    """The text of its AssertionError is what is wrong, in one line and then in full."""
    with pytest.raises(AssertionError) as raised:
        gradverify.check(WRONG, checks=["symbolic"], profile="quick")
    lines = str(raised.value).splitlines()
    assert lines[0] == "double: the gradient of x is 2 times what is derived"
    assert lines[2] == "FAILED double · symbolic · x"
    assert any(line.startswith("  replay ") for line in lines)


def test_check_is_never_green_on_nothing():
    """Where none of the checks has anything to ask, the test fails and says so."""
    with pytest.raises(AssertionError, match=r"multiply · buffers: the spec has no buffers$"):
        gradverify.check(RIGHT, checks=["buffers", "kinks"], profile="quick")


def test_wrong_use_is_an_error():
    """Unknown names, functions that are no layers and tests that take nothing are told."""
    with pytest.raises(UsageError, match="there is no check 'exakt'; did you mean 'exact'"):
        gradverify.check(RIGHT, checks=["exakt"])
    with pytest.raises(UsageError, match="'multiply' is registered with no spec: write @spec"):
        gradverify.parametrize(multiply)
    with pytest.raises(UsageError, match=r"Spec\('product'\) is a spec, and what is judged are"):
        gradverify.check(product)
    with pytest.raises(UsageError, match="name a layer, or several"):
        gradverify.parametrize()
    with pytest.raises(UsageError, match="test_it takes none of the arguments layer, check, case"):

        @gradverify.parametrize(RIGHT)
        def test_it():
            """Take nothing."""


class TestParametrize:
    """A test gets what it names."""

    @gradverify.parametrize(RIGHT, WRONG)
    def test_layers(self, layer):
        """One item per layer."""
        assert layer in (RIGHT, WRONG)

    @gradverify.parametrize(RIGHT, checks=["symbolic", "exact"], profile="quick")
    def test_checks(self, check, layer):
        """One item per layer and check, in any order of the arguments."""
        report = gradverify.check(layer, checks=[check], profile="quick")
        assert [c.check for c in report.layers[0].checks if c.status == "passed"] == [check]

    @gradverify.parametrize(RIGHT, profile="quick", sizes={"N": 3})
    def test_cases(self, case):
        """One item per case, which holds what to call a layer with."""
        assert case.sizes == {"N": 3}
        assert case.constants == {}
        y, pullback = multiply(**case.tensors)
        assert y.dtype.name in str(case)
        (dy,) = case.cotangents
        assert pullback(dy)["w"].shape == (3,)

    @pytest.mark.parametrize("extra", [1, 2])
    @gradverify.parametrize(RIGHT, checks=["symbolic"])
    def test_other_parameters_are_added(self, layer, check, extra):
        """It is one more parametrization among others."""
        assert (layer, check) == (RIGHT, "symbolic")
        assert extra in (1, 2)


def test_options_of_pytest_are_the_defaults(project):
    """In pytest, profile and seed are by default those of its options; ids are layer, check and
    case; a failure is the finding and no frame of ours."""
    lines = (
        "import gradverify\n"
        "from specs.right import right\n"
        "from specs.wrong import twice\n\n"
        "def test_all():\n"
        "    report = gradverify.check(right)\n"
        "    assert (report.profile, report.seed) == ('quick', 7)\n\n"
        "@gradverify.parametrize(twice, checks=['symbolic', 'contract'])\n"
        "def test_some(layer, check):\n"
        "    gradverify.check(layer, checks=[check])\n\n"
        "@gradverify.parametrize(right)\n"
        "def test_case(case):\n"
        "    pass\n"
    )
    project.write("tests/test_own.py", lines)
    project.write("specs/wrong.py", plugin_project.WRONG)
    project.write("conftest.py", "")
    options = ("--gradverify-profile=quick", "--gradverify-seed=7")
    result = project.run("-v", *options, "tests")
    result.assert_outcomes(passed=16, failed=1)
    result.stdout.fnmatch_lines([
        "tests/test_own.py::test_all PASSED*",
        "tests/test_own.py::test_some[[]twice-contract] PASSED*",
        "tests/test_own.py::test_some[[]twice-symbolic] FAILED*",
        "tests/test_own.py::test_case[[]right-N=*,dtype=*,seed=*] PASSED*",
        ">       gradverify.check(layer, checks=[[]check])",
        "E       AssertionError: twice: the gradient of x is 2 times what is derived",
        "E       FAILED twice · symbolic · x",
        "tests/test_own.py:11: AssertionError",
    ])  # fmt: skip
    assert "testing.py" not in result.stdout.str()


def test_the_names_of_checks_are_what_is_parametrized():
    """Without a selection, a test is given every check."""

    @gradverify.parametrize(RIGHT)
    def test_it(check):
        """Take a check."""

    (mark,) = test_it.pytestmark
    assert [row.id for row in mark.args[1]] == [f"multiply-{name}" for name in sorted(NAMES)]
