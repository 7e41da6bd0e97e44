"""The pytest plugin in other projects: what is collected, what fails and how, and what it costs."""

from importlib.metadata import entry_points
from textwrap import dedent

import pytest

from gradverify.checks.names import NAMES

pytest_plugins = ["pytester"]

CHECKS = sorted(NAMES)
ALL = len(CHECKS)

PYPROJECT = """\
[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = ["--strict-markers", "--strict-config"]
filterwarnings = ["error"]

[tool.gradverify]
specs = ["specs"]
"""

RIGHT = """\
from gradverify import Input, Output, Param, Spec

product = Spec("product", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")


@product.register
def right(x, w):
    return w * x, lambda dy: {"x": dy * w, "w": dy * x}
"""

WRONG = RIGHT.replace("def right", "def twice").replace("dy * w", "2 * dy * w")

# In place of the engine, so that a test does not wait for it; it writes down what it is asked.
ENGINE = """\
import sys
from types import ModuleType

from gradverify.result import CheckResult, Finding, LayerResult, Report, Status, Verdict

OUTCOMES = {}
FINDINGS = []


def verify(layer, *, profile, checks, seed):
    with open("asked.txt", "a") as file:
        print(layer.name, profile.name, seed, *checks, file=file)
    if OUTCOMES is None:
        raise NameError("oops")
    results = tuple(
        CheckResult(c, *OUTCOMES.get(c, (Status.PASSED,))) for c in checks
    )
    result = LayerResult("s", layer.name, "f.py:1", Verdict.FAILED, results, tuple(FINDINGS))
    return Report("0", profile.name, seed, (result,))


engine = ModuleType("gradverify.engine")
engine.verify = verify
sys.modules["gradverify.engine"] = engine
"""


class Project:
    """A project of somebody else, in which pytest is run in a process of its own."""

    def __init__(self, pytester):
        self.pytester, self.path = pytester, pytester.path
        self.write("pyproject.toml", PYPROJECT)
        self.write("tests/test_own.py", "def test_own(): pass\n")
        self.write("specs/right.py", RIGHT)

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def outcomes(self, outcomes, *findings):
        """Let the engine find that, at once."""
        settings = f"OUTCOMES = {outcomes}\nFINDINGS = [{', '.join(findings)}]"
        self.write("conftest.py", ENGINE.replace("OUTCOMES = {}\nFINDINGS = []", settings))

    def run(self, *args):
        return self.pytester.runpytest_subprocess("-p", "gradverify.pytest_plugin", *args)

    def ids(self, *args):
        result = self.run("--collect-only", "-q", *args)
        return [line for line in result.outlines if "::" in line and " " not in line]

    def asked(self):
        return sorted((self.path / "asked.txt").read_text().splitlines())


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # What else is installed does not matter; and the entry point may not be.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return Project(pytester)


def ids(file, layer):
    return [f"{file}::{layer}::{check}" for check in CHECKS]


class TestCollection:
    """One item per layer and check, under ids that stay."""

    def test_configured_specs_are_collected_although_testpaths_names_only_tests(self, project):
        """The configured files come after the tests, one item per layer and check, in order."""
        second = '\n\n@product.register(name="also")\ndef _(x, w):\n    return right(x, w)\n'
        project.write("specs/a/right.py", RIGHT + second)
        specs = [
            *ids("specs/a/right.py", "also"),
            *ids("specs/a/right.py", "right"),
            *ids("specs/right.py", "right"),
        ]
        assert project.ids() == ["tests/test_own.py::test_own", *specs]
        assert specs == sorted(specs)

    def test_without_testpaths_they_are_collected_once(self, project):
        """Where pytest collects the whole project, a spec file that is configured counts once."""
        project.write("pyproject.toml", PYPROJECT.replace('testpaths = ["tests"]', ""))
        assert project.ids() == [*ids("specs/right.py", "right"), "tests/test_own.py::test_own"]

    def test_a_path_that_is_named_is_all_that_is_collected(self, project):
        """A folder or an id on the command line takes the place of what is configured."""
        assert project.ids("tests") == ["tests/test_own.py::test_own"]
        assert project.ids("specs") == ids("specs/right.py", "right")
        one = "specs/right.py::right::symbolic"
        assert project.ids(one) == [one]

    def test_a_folder_of_the_project_is_all_that_is_collected_from_within_it(
        self, project, monkeypatch
    ):
        """Run in the folder of its tests, pytest collects these alone."""
        monkeypatch.chdir(project.path / "tests")
        assert project.ids() == ["tests/test_own.py::test_own"]

    def test_specs_may_stand_beside_the_project(self, project, monkeypatch):
        """A path may lead out of the project: it is meant from its pyproject.toml."""
        table = PYPROJECT.replace('["specs"]', '["../specs"]')
        project.write("inner/pyproject.toml", table.replace("tests", "."))
        monkeypatch.chdir(project.path / "inner")
        assert project.ids() == ids("right.py", "right")

    @pytest.mark.parametrize(
        "table", ["", "# not [tool.gradverify]", "[tool.gradverify]\nseed = 1"]
    )
    def test_a_project_that_names_no_specs_has_none(self, project, table):
        """Without a table of ours, or without specs in it, nothing is added."""
        project.write("pyproject.toml", PYPROJECT.partition("[tool.gradverify]")[0] + table)
        assert project.ids() == ["tests/test_own.py::test_own"]

    def test_a_file_that_does_not_import_is_an_error_of_that_file_alone(self, project):
        """It is told with its line and without a traceback, and the other files are judged."""
        project.outcomes({})
        project.write("specs/broken.py", "import numpy\n1 / 0\n")
        result = project.run("--continue-on-collection-errors")
        result.assert_outcomes(passed=ALL + 1, errors=1)
        result.stdout.fnmatch_lines([
            "*ERROR collecting specs/broken.py*",
            "specs/broken.py:2: does not import: ZeroDivisionError: division by zero",
        ])  # fmt: skip
        assert "Traceback" not in result.stdout.str()
        assert "loading.py" not in result.stdout.str()

    def test_a_spec_file_may_skip_itself(self, project):
        """pytest.importorskip in a spec file means what it means in a test."""
        project.outcomes({})
        project.write("specs/other.py", "import pytest\npytest.importorskip('no_such_thing')\n")
        result = project.run("-rs")
        result.assert_outcomes(passed=ALL + 1, skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED*could not import 'no_such_thing'*"])

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ('specs = "specs"', '*pyproject.toml: [[]tool.gradverify] specs = *: it has to be a list, such as [[]"specs"]'),
            ('specs = ["spec"]', "*spec does not exist; did you mean *specs?"),
            ('specs = ["none"]', "*[[]tool.gradverify] specs: there is no Python file in none"),
        ],
    )  # fmt: skip
    def test_a_configuration_that_cannot_be_meant_is_an_error(self, project, table, message):
        """A wrong table is wrong usage, with the remedy, and never an empty green run."""
        project.write("none/readme.txt", "")
        project.write("pyproject.toml", PYPROJECT.replace('specs = ["specs"]', table))
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])


class TestOutcome:
    """A check passes, fails with its finding, or is skipped with its reason."""

    def test_a_right_layer_passes_and_a_wrong_one_fails_with_the_finding(self, project):
        """The failure is the finding as the command line shows it, with no frame of ours."""
        project.write("specs/wrong.py", WRONG)
        result = project.run("--gradverify-profile=quick", "-rf", "specs")
        # The product has neither kinks nor buffers.
        result.assert_outcomes(passed=2 * ALL - 8, failed=4, skipped=4)
        lines = """\
            *_ twice::symbolic _*
            wrong: x

            FAILED twice · symbolic · x
              the gradient of x is not the derived one (in * cases; this is a small one)
              *
              element     x[[]0]
              expected    *
              got         *
              difference  * times what is allowed
              allowed     *
              at          specs/wrong.py:8
              replay      gradverify replay "specs/wrong.py::twice::symbolic" "N=1 *" --digest *
            * short test summary *
            FAILED specs/wrong.py::twice::descent - Failed: wrong: x
            FAILED specs/wrong.py::twice::exact - Failed: wrong: x
            FAILED specs/wrong.py::twice::finite_difference - Failed: wrong: x
            FAILED specs/wrong.py::twice::symbolic - Failed: wrong: x
        """
        result.stdout.fnmatch_lines(dedent(lines).splitlines())
        for ours in ("Traceback", "pytest_plugin", "engine.py"):
            assert ours not in result.stdout.str()

    def test_a_layer_without_a_definition_skips_what_needs_one(self, project):
        """Forward, symbolic and kinks are skipped with their reason; so are absent buffers."""
        project.write("specs/right.py", RIGHT.replace(', definition="y[n] = w[n]*x[n]"', ""))
        result = project.run("--gradverify-profile=quick", "-rs", "specs")
        result.assert_outcomes(passed=ALL - 4, skipped=4)
        result.stdout.fnmatch_lines(["SKIPPED [[]3]*: right: the spec has no definition"])

    def test_every_status_has_its_outcome(self, project):
        """Only passed passes and only not applicable is skipped; what was not judged fails."""
        project.outcomes({
            "contract": ("error", "the layer gave no result"),
            "descent": ("vacuous", "only 1 case(s)"),
            "finite_difference": ("not applicable", "no tensor takes a gradient"),
            "forward": ("unavailable", "the engine is out of order"),
            "exact": ("unavailable", "compiled code takes no 50-digit numbers"),
        })  # fmt: skip
        result = project.run("-rsf", "specs")
        result.assert_outcomes(passed=ALL - 5, skipped=2, failed=3)
        lines = """\
            SKIPPED*: right: compiled code takes no 50-digit numbers
            SKIPPED*: right: no tensor takes a gradient
            FAILED specs/right.py::right::contract - Failed: error: the layer gave no result
            FAILED specs/right.py::right::descent - Failed: vacuous: only 1 case(s)
            FAILED specs/right.py::right::forward - Failed: unavailable: the engine is out of order
        """
        result.stdout.fnmatch_lines(dedent(lines).splitlines())

    def test_a_warning_does_not_fail_but_can_be_seen(self, project):
        """A warning stands in the captured output of a check that passes."""
        project.outcomes({}, 'Finding("contract", "aliases", "dy is returned twice", "warning")')
        result = project.run("-rP", "specs")
        result.assert_outcomes(passed=ALL)
        result.stdout.fnmatch_lines(["*Captured gradverify call*", "warning right · contract"])

    def test_a_defect_of_gradverify_is_told_in_one_line(self, project):
        """An exception of the engine is named as ours; its traceback needs --full-trace."""
        project.outcomes(None)
        one = "specs/right.py::right::symbolic"
        result = project.run(one)
        result.stdout.fnmatch_lines(["internal error: NameError: oops (a defect of gradverify: *"])
        assert "pytest_plugin" not in result.stdout.str()
        project.run(one, "--full-trace").stdout.fnmatch_lines(["E*NameError: oops"])


class TestSelection:
    """pytest's own options mean what they always mean."""

    def test_a_layer_is_verified_once_and_only_for_what_is_selected(self, project):
        """-k and the seed reach the engine, which is asked once for all selected checks."""
        project.outcomes({})
        result = project.run("-k", "symbolic or forward", "--gradverify-seed=3")
        result.assert_outcomes(passed=2, deselected=ALL - 1)
        assert project.asked() == ["right default 3 forward symbolic"]
        result.stdout.fnmatch_lines(["gradverify: profile default, seed 3"])

    def test_the_profile_reaches_the_engine(self, project):
        """--gradverify-profile is the profile that the engine is asked for."""
        project.outcomes({})
        project.run("specs/right.py::right::contract", "--gradverify-profile", "thorough")
        assert project.asked() == ["right thorough 0 contract"]

    def test_settings_reach_the_engine(self, project):
        """A module of the project, its own profile, and a check that is ignored with a reason."""
        project.outcomes({})
        project.write("src/lib/__init__.py", "")
        project.write("src/lib/helper.py", "def same(x): return x\n")
        project.write("src/lib/layers.py", f"from .helper import same\n{RIGHT}")
        project.write(
            "pyproject.toml",
            PYPROJECT.replace('specs = ["specs"]', 'modules = ["lib.layers"]\nprofile = "ci"')
            + "[tool.gradverify.profiles.ci]\ndrawn = 3\n"
            + '[[tool.gradverify.overrides]]\nlayer = "r*"\nignore = ["exact"]\nreason = "why"\n',
        )
        result = project.run("-rs", "-k", "exact or forward or own")
        result.assert_outcomes(passed=2, skipped=1, deselected=ALL - 2)
        result.stdout.fnmatch_lines(["SKIPPED*right: ignored: why"])
        assert project.asked() == ["right ci 0 forward"]
        assert project.ids("src") == ids("src/lib/layers.py", "right")

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("--gradverify-profile=quik", "there is no profile 'quik'; did you mean 'quick'?"),
            ("--gradverify-profile=zzz", "there is no profile 'zzz'; known are quick, *"),
            ("--gradverify-seed=-1", "'-1' is not a whole number from 0"),
        ],
    )
    def test_a_value_that_is_not_known_is_an_error(self, project, option, message):
        """An unknown profile or a seed that is none is wrong usage, with what is known."""
        result = project.run(option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{option.partition('=')[0]}: {message}"])

    def test_markers(self, project):
        """-m gradverify selects exactly our items, and --markers tells of it."""
        project.outcomes({})
        project.run("-m", "gradverify").assert_outcomes(passed=ALL, deselected=1)
        project.run("-m", "not gradverify").assert_outcomes(passed=1, deselected=ALL)
        project.run("--markers").stdout.fnmatch_lines(["@pytest.mark.gradverify: *"])

    def test_names(self, project):
        """-k selects by layer and by check."""
        project.outcomes({})
        project.run("-k", "right").assert_outcomes(passed=ALL, deselected=1)
        others = project.run("-k", "right and not descent")
        others.assert_outcomes(passed=ALL - 1, deselected=2)

    def test_exitfirst_and_last_failed(self, project):
        """-x ends at the first failed check and --lf verifies the failed ones alone."""
        project.outcomes({"descent": ("failed", "x"), "symbolic": ("failed", "x")})
        before = CHECKS.index("descent")
        project.run("-x", "specs").assert_outcomes(passed=before, failed=1)
        project.run("specs").assert_outcomes(passed=ALL - 2, failed=2)
        result = project.run("--lf")
        result.assert_outcomes(failed=2)
        assert project.asked()[0] == f"right default 0 {' '.join(CHECKS)}"
        assert project.asked()[-1] == "right default 0 descent symbolic"

    def test_xdist(self, project):
        """Spread over two processes, each layer is verified once and findings are shown."""
        pytest.importorskip("xdist")
        project.outcomes({"symbolic": ("failed", "x")}, 'Finding("symbolic", "q", "bad")')
        project.write("specs/wrong.py", WRONG)
        result = project.run("-p", "xdist", "-n", "2", "--dist", "loadscope")
        result.assert_outcomes(passed=2 * ALL - 1, failed=2)
        result.stdout.fnmatch_lines(["FAILED right · symbolic"])
        everything = f"default 0 {' '.join(CHECKS)}"
        assert project.asked() == [f"right {everything}", f"twice {everything}"]

    def test_junit(self, project):
        """Each check is a test case of its layer in the XML, with its failure."""
        project.outcomes({"symbolic": ("failed", "x")}, 'Finding("symbolic", "q", "bad")')
        project.run("--junitxml=out.xml", "specs")
        text = (project.path / "out.xml").read_text()
        assert '<testcase classname="specs.right.right" name="symbolic"' in text
        assert '<failure message="Failed: wrong: x' in text


def test_the_entry_point_is_the_plugin():
    """Installed, pytest finds the plugin by itself."""
    found = entry_points(group="pytest11", name="gradverify")
    if not found:
        pytest.skip("gradverify is run from its checkout, not installed")
    assert {point.value for point in found} == {"gradverify.pytest_plugin"}
