"""The pytest plugin in other projects: what is collected, and what pytest's own options mean."""

from importlib.metadata import entry_points

import plugin_project
import pytest
from plugin_project import ALL, CHECKS, PYPROJECT, RIGHT, node_ids

pytest_plugins = ["pytester"]
project = plugin_project.project  # a fixture

OWN = "tests/test_own.py::test_own"


class TestCollection:
    """One item per layer and check, under ids that stay."""

    def test_configured_specs_are_collected_although_testpaths_names_only_tests(self, project):
        """The configured files come after the tests, one item per layer and check, in order;
        without testpaths, where pytest finds them by itself, they count once."""
        second = '\n\n@product.register(name="also")\ndef _(x, w):\n    return right(x, w)\n'
        project.write("specs/a/right.py", RIGHT + second)
        specs = [
            *node_ids("specs/a/right.py", "also"),
            *node_ids("specs/a/right.py", "right"),
            *node_ids("specs/right.py", "right"),
        ]
        assert project.ids() == [OWN, *specs]
        assert specs == sorted(specs)
        project.write("pyproject.toml", PYPROJECT.replace('testpaths = ["tests"]', ""))
        assert project.ids() == [*specs, OWN]

    def test_a_path_that_is_named_is_all_that_is_collected(self, project, monkeypatch):
        """A folder, a file or an id takes the place of what is configured, and so does the folder
        of the project in which pytest is run; a spec file that is named is no test module."""
        right = node_ids("specs/right.py", "right")
        assert project.ids("specs", "tests", "--deselect", right[2]) == [
            *right[:2],
            *right[3:],
            OWN,
        ]
        project.write("specs/right.py", RIGHT + "def test_it(): pass\n")
        assert project.ids("specs/right.py") == right
        assert project.ids(right[2], OWN) == [right[2], OWN]
        assert project.ids("--ignore=specs") == [OWN]
        monkeypatch.chdir(project.path / "tests")
        assert project.ids() == [OWN]
        assert project.ids("../specs/right.py::right") == right

    def test_files_may_be_configured_one_by_one_and_be_test_modules_too(self, project):
        """A file that is a spec and a test module is collected as both; linked or named twice, by
        another spec too, its layers count once."""
        project.write("tests/test_layer.py", RIGHT + "\n\ndef test_more(): pass\n")
        project.write("tests/again.py", "from test_layer import right, product\n")
        (project.path / "tests/link.py").symlink_to(project.path / "tests/test_layer.py")
        table = 'specs = ["tests/test_layer.py", "tests/again.py", "tests/link.py", "tests"]'
        project.write("pyproject.toml", PYPROJECT.replace('specs = ["specs"]', table))
        found = project.ids()
        assert sorted(found) == sorted(
            [*node_ids("tests/link.py", "right"), "tests/test_layer.py::test_more", OWN]
        ) or sorted(found) == sorted(
            [*node_ids("tests/test_layer.py", "right"), "tests/test_layer.py::test_more", OWN]
        )

    def test_modules_of_the_project_are_collected(self, project):
        """Modules that are configured are imported by name, from src too, and their packages are
        not set up, which would import them a second time."""
        project.stub()
        project.write("src/mylib/__init__.py", "print(1, file=open('imported.txt', 'a'))\n")
        project.write("src/mylib/specs.py", RIGHT.partition("@")[0])
        layers = "import stub\nfrom .specs import product\n\n\n@" + RIGHT.partition("@")[2]
        project.write("src/mylib/layers.py", layers)
        table = 'modules = ["mylib.layers"]'
        project.write("pyproject.toml", PYPROJECT.replace('specs = ["specs"]', table))
        items = node_ids("src/mylib/layers.py", "right")
        assert project.ids() == [OWN, *items]
        assert project.ids("src/mylib/layers.py::right::exact") == [items[CHECKS.index("exact")]]
        (project.path / "imported.txt").unlink()
        project.run().assert_outcomes(passed=ALL + 1)
        assert (project.path / "imported.txt").read_text() == "1\n"
        project.write(
            "pyproject.toml", PYPROJECT.replace('specs = ["specs"]', table.replace("rs", "r"))
        )
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *there is no module mylib.layer in *mylib.layers*"])

    def test_specs_may_stand_beside_the_project(self, project, monkeypatch):
        """A path may lead out of the project: it is meant from its pyproject.toml."""
        table = PYPROJECT.replace('["specs"]', '["../specs"]')
        project.write("inner/pyproject.toml", table.replace("tests", "."))
        monkeypatch.chdir(project.path / "inner")
        assert project.ids() == node_ids("right.py", "right")

    def test_other_roots_change_nothing(self, project):
        """With another rootdir or ini file, or a confcutdir, the settings are those of where one
        stands."""
        project.write("ci/pytest.ini", "[pytest]\n")
        ids = project.ids("-c", "ci/pytest.ini", "--confcutdir=specs")
        assert sum("::right::" in line for line in ids) == ALL
        ids = project.ids("--rootdir=..")
        assert sum("/specs/right.py::right::" in line for line in ids) == ALL

    def test_a_project_that_names_no_specs_has_none(self, project):
        """Without a table of ours, or without specs in it, nothing is added and nothing told."""
        for table in ("# not [tool.gradverify]", "[tool.gradverify]\nseed = 1"):
            project.write("pyproject.toml", PYPROJECT.partition("[tool.gradverify]")[0] + table)
            result = project.run()
            result.assert_outcomes(passed=1)
            assert "gradverify: " not in result.stdout.str()

    def test_a_file_that_does_not_import_is_an_error_of_that_file_alone(self, project):
        """It is told with its line and without a traceback, one that kills its process too, and
        the other files are judged; a spec file may skip itself."""
        project.stub()
        project.write("specs/broken.py", "import numpy\n1 / 0\n")
        project.write("specs/dead.py", "import os\nprint('bye', flush=True)\nos._exit(3)\n")
        project.write("specs/other.py", "import pytest\npytest.importorskip('no_such_thing')\n")
        result = project.run("--continue-on-collection-errors", "-rs")
        result.assert_outcomes(passed=ALL + 1, errors=2, skipped=1)
        result.stdout.fnmatch_lines([
            "*ERROR collecting specs/broken.py*",
            "specs/broken.py:2: does not import: ZeroDivisionError: division by zero",
            "*ERROR collecting specs/dead.py*",
            "specs/dead.py: does not import: its process exited with code 3; it printed:",
            "    bye",
            "SKIPPED*specs/other.py: could not import 'no_such_thing'*",
        ])  # fmt: skip
        assert "Traceback" not in result.stdout.str()
        assert "loading.py" not in result.stdout.str()

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ('specs = "specs"', "*pyproject.toml: [[]tool.gradverify] specs = 'specs': it has to be *"),
            ('specs = ["spec"]', "*spec does not exist; did you mean *specs?"),
            ('specs = ["none"]', "*[[]tool.gradverify] specs: there is no Python file in none"),
            ('profil = "quick"', "*there is no key 'profil'; did you mean 'profile'?"),
        ],
    )  # fmt: skip
    def test_a_configuration_that_cannot_be_meant_is_an_error(self, project, table, message):
        """A wrong table is wrong usage, with the remedy, and never an empty green run."""
        project.write("none/readme.txt", "")
        project.write("pyproject.toml", PYPROJECT.replace('specs = ["specs"]', table))
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])


class TestOptions:
    """pytest's own options mean what they always mean, and ours what they mean to `verify`."""

    def test_a_layer_is_verified_once_and_only_for_what_is_selected(self, project):
        """-k, -m and --gradverify-select reach the engine, asked once for all selected checks."""
        project.stub()
        project.run("-k", "symbolic or buffers").assert_outcomes(passed=2, deselected=ALL - 1)
        assert project.asked() == ["right default 0 symbolic buffers"]
        select = "--gradverify-select=exact,kinks"
        result = project.run(select, "--gradverify-ignore=kinks", "-m", "gradverify")
        result.assert_outcomes(passed=1, deselected=ALL)
        assert "right default 0 exact" in project.asked()
        project.run("-m", "not gradverify").assert_outcomes(passed=1, deselected=ALL)
        project.run("--markers").stdout.fnmatch_lines(["@pytest.mark.gradverify: *"])

    def test_where_profile_and_seed_come_from(self, project, monkeypatch):
        """Options go before the environment, and that before the file; --hypothesis-seed is ours
        too unless we have our own. The header says which it was."""
        project.stub()
        project.configure('profile = "ci"\nseed = 4\n[tool.gradverify.profiles.ci]\ndrawn = 1\n')
        one = "specs/right.py::right::contract"
        project.run(one).stdout.fnmatch_lines(
            ["gradverify: profile ci (pyproject.toml), seed 4 (pyproject.toml)"]
        )
        monkeypatch.setenv("GRADVERIFY_PROFILE", "quick")
        result = project.run(one, "-p", "hypothesispytest", "--hypothesis-seed=77")
        told = "profile quick (GRADVERIFY_PROFILE), seed 77 (--hypothesis-seed)"
        result.stdout.fnmatch_lines([f"gradverify: {told}"])
        project.run(one, "-p", "hypothesispytest", "--hypothesis-seed=random",
                    "--hypothesis-profile=default", "--gradverify-seed=3",
                    "--gradverify-profile=thorough")  # fmt: skip
        asked = [f"right {told} contract" for told in ("ci 4", "quick 77", "thorough 3")]
        assert project.asked() == asked

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("profile=quik", "there is no profile 'quik'; did you mean 'quick'?"),
            ("seed=-1", "'-1' is not a whole number from 0"),
            ("timeout=0", "'0' is not a number of seconds above 0"),
            ("select=exakt", "there is no check 'exakt'; did you mean 'exact'?"),
        ],
    )
    def test_a_value_that_is_not_known_is_an_error(self, project, option, message):
        """An unknown name or a number that is none is wrong usage, with what is known."""
        result = project.run(f"--gradverify-{option}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        name = option.partition("=")[0]
        result.stderr.fnmatch_lines([f"ERROR: --gradverify-{name}: {message}"])

    def test_stopping_and_going_on(self, project):
        """-x and --maxfail end at the first failures; --lf verifies the failed checks alone, --ff
        runs them first and --sw goes on where it stopped."""
        project.stub({"descent": ("failed", "x"), "symbolic": ("failed", "x")})
        before = CHECKS.index("descent")
        result = project.run("-x", "specs")
        result.assert_outcomes(passed=before, failed=1)
        project.run("--maxfail=2", "specs").assert_outcomes(passed=ALL - 2, failed=2)
        everything = f"right default 0 {' '.join(c for c in STUB_ORDER)}"
        assert project.asked() == [everything, everything]
        project.run("--lf").assert_outcomes(failed=2)
        assert "right default 0 symbolic descent" in project.asked()
        result = project.run("--ff", "-v", "specs")
        order = [line.split()[0] for line in result.outlines if "::" in line and "[" in line]
        assert [x.rpartition("::")[2] for x in order[:2]] == ["descent", "symbolic"]
        project.run("--sw", "specs").assert_outcomes(passed=before, failed=1)
        left = project.run("--sw", "specs")
        left.assert_outcomes(failed=1, deselected=before)

    def test_other_orders_change_nothing(self, project):
        """Shuffled, as by pytest-randomly, and with durations each layer is verified once, and a
        check took what it took, however all of a layer are made together."""
        project.stub()
        project.layer("other")
        shuffle = "import random\n\n\ndef pytest_collection_modifyitems(items):\n    random.Random(1).shuffle(items)\n"
        project.write("conftest.py", shuffle)
        result = project.run("--durations=0", "-vv", "--junitxml=out.xml", "-W", "error", "specs")
        result.assert_outcomes(passed=2 * ALL)
        everything = f"default 0 {' '.join(STUB_ORDER)}"
        assert project.asked() == [f"other {everything}", f"right {everything}"]
        times = [float(case.get("time")) for case in project.junit().values()]
        assert sum(t >= 0.25 for t in times) == 2 * ALL
        assert sum(t < 0.3 for t in times) >= 2 * ALL - 2

    @pytest.mark.parametrize("dist", ["load", "loadscope"])
    def test_xdist(self, project, dist):
        """However items are spread over two processes, each layer is verified once; findings, the
        table and what was deselected are shown, and the ids are those without xdist."""
        pytest.importorskip("xdist")
        project.stub({"symbolic": ("failed", "x")}, 'Finding("symbolic", "q", "bad")')
        project.layer("other")
        result = project.run(
            "-p", "xdist", "-n", "2", "--dist", dist, "-k", "not buffers and not own", "-v",
        )  # fmt: skip
        result.assert_outcomes(passed=2 * ALL - 4, failed=2)
        result.stdout.fnmatch_lines([
            "FAILED right · symbolic",
            "layer*contract*symbolic*verdict",
            "right *ok *FAIL *FAILED",
            "not checked:",
            "  other, right · buffers: deselected",
            "2 layers: 2 failed; 2 errors",
        ])  # fmt: skip
        ran = {
            line.split()[-1] for line in result.outlines if line.startswith("[gw") and "%" in line
        }
        assert ran == {x for layer in ("other", "right") for x in node_ids(
            f"specs/{layer}.py", layer, [c for c in CHECKS if c != "buffers"])}  # fmt: skip
        everything = f"default 0 {' '.join(c for c in STUB_ORDER if c != 'buffers')}"
        assert project.asked() == [f"other {everything}", f"right {everything}"]

    def test_junit(self, project):
        """Each check is a test case of its layer in the XML, with its failure, its status and the
        number of its cases."""
        finding = 'Finding("symbolic", "q", "bad <&>", tensor="x", diagnosis="twice")'
        project.stub({"symbolic": ("failed", "x", 9)}, finding)
        project.run("--junitxml=out.xml", "specs")
        case = project.junit()["right", "symbolic"]
        assert case.get("classname") == "specs.right.right"
        assert case.find("failure").get("message").startswith("Failed: twice")
        assert "bad <&>" in case.find("failure").text
        told = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert told == {"layer": "right", "check": "symbolic", "status": "failed", "cases": "9"}

    def test_it_can_be_turned_off(self, project, monkeypatch):
        """`-p no:gradverify` leaves pytest as it is, with the settings in pyproject.toml."""
        if not entry_points(group="pytest11", name="gradverify"):
            pytest.skip("gradverify is run from its checkout, not installed")
        monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        result = project.pytester.runpytest_subprocess("-p", "no:gradverify", "-p", "no:xdist")
        result.assert_outcomes(passed=1)
        assert "gradverify" not in result.stdout.str().replace("specs", "")


STUB_ORDER = ("contract", "forward", "symbolic", "finite_difference", "exact", "forward_mode",
              "second_order", "kinks", "buffers",
              "descent")  # fmt: skip


def test_the_entry_point_is_the_plugin():
    """Installed, pytest finds the plugin by itself."""
    found = entry_points(group="pytest11", name="gradverify")
    if not found:
        pytest.skip("gradverify is run from its checkout, not installed")
    assert {point.value for point in found} == {"gradverify.pytest_plugin"}
