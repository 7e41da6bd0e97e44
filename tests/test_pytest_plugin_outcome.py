"""The pytest plugin in other projects: how a check ends, and what is told of it."""

import os
from textwrap import dedent

import plugin_project
import pytest
from plugin_project import ALL, RIGHT, WRONG

pytest_plugins = ["pytester"]
project = plugin_project.project  # a fixture

KNOWN = """\
[[tool.gradverify.known_failures]]
layer = "{}"
reason = "{}"
expires = {}
"""


class TestOutcome:
    """A check passes, fails with its finding, or is skipped with its reason."""

    def test_a_right_layer_passes_and_a_wrong_one_fails_with_the_finding(self, project):
        """The failure is the finding as the command line shows it, with no frame of ours; the
        summary shows the table, and with -q one line."""
        project.write("specs/wrong.py", WRONG)
        result = project.run("--gradverify-profile=quick", "-rf", "specs")
        # The product has neither kinks nor buffers, and offers neither of two more derivatives.
        result.assert_outcomes(passed=2 * ALL - 12, failed=4, skipped=8)
        lines = """\
            *_ twice::symbolic _*
            the gradient of x is 2 times what is derived

            FAILED twice · symbolic · x
              the gradient of x is not the derived one (in * cases; this is a small one)
              *
              element     x[[]0]
              expected    *
              got         *
              difference  * times what is allowed
              allowed     *
              at          specs/wrong.py:8
              replay      gradverify replay *specs/wrong.py::twice::symbolic* "N=1 *
            *= gradverify =*
            layer*contract*descent *verdict
            right *ok *verified
            twice *FAIL *FAILED
            2 layers: 1 verified, 1 failed; 4 errors
            * short test summary *
            FAILED specs/wrong.py::twice::descent - Failed: the gradient of x is 2 times what *
            FAILED specs/wrong.py::twice::exact - Failed: the gradient of x is 2 times what *
            FAILED specs/wrong.py::twice::finite_difference - Failed: the gradient of x is 2 *
            FAILED specs/wrong.py::twice::symbolic - Failed: the gradient of x is 2 times what *
        """
        result.stdout.fnmatch_lines(dedent(lines).splitlines())
        for ours in ("Traceback", "gradverify/plugin", "engine.py", "not checked"):
            assert ours not in result.stdout.str()

    def test_a_layer_without_a_definition_skips_what_needs_one(self, project):
        """Forward, symbolic and kinks are skipped with their reason and the layer's place; so are
        absent buffers, and what it does not offer. -q tells the verdict in one line."""
        project.write("specs/right.py", RIGHT.replace(', definition="y[n] = w[n]*x[n]"', ""))
        result = project.run("--gradverify-profile=quick", "-rs", "-q", "specs")
        result.assert_outcomes(passed=ALL - 6, skipped=6)
        result.stdout.fnmatch_lines([
            "gradverify: 1 layer: 1 verified",
            "SKIPPED [[]3] specs/right.py:6: right: the spec has no definition",
        ])  # fmt: skip
        assert "= gradverify =" not in result.stdout.str()

    def test_every_status_has_its_outcome(self, project):
        """Only passed passes and only not applicable is skipped; what was not judged fails, and is
        told again at the end. Warnings fail nothing, and are shown there."""
        project.stub({
            "contract": ("error", "the layer gave no result"),
            "descent": ("vacuous", "only 1 case(s)"),
            "finite_difference": ("not applicable", "no tensor takes a gradient"),
            "buffers": ("unavailable", "the engine is out of order"),
            "exact": ("unavailable", "compiled code takes no 50-digit numbers"),
        }, 'Finding("kinks", "aliases", "dy is returned twice", "warning")')  # fmt: skip
        result = project.run("-rsf", "-W", "error", "specs")
        result.assert_outcomes(passed=ALL - 5, skipped=2, failed=3)
        lines = """\
            right · contract: error: the layer gave no result
            right · exact: unavailable: compiled code takes no 50-digit numbers
            right · buffers: unavailable: the engine is out of order
            right · descent: vacuous: only 1 case(s)
            warning right · kinks
              dy is returned twice
            SKIPPED*: right: compiled code takes no 50-digit numbers
            SKIPPED*: right: no tensor takes a gradient
            FAILED specs/right.py::right::buffers - Failed: unavailable: the engine is out of order
            FAILED specs/right.py::right::contract - Failed: error: the layer gave no result
            FAILED specs/right.py::right::descent - Failed: vacuous: only 1 case(s)
        """
        told = [f"  {x}" if x.startswith("right") else x for x in dedent(lines).splitlines()]
        result.stdout.fnmatch_lines(told)

    def test_a_layer_that_gives_no_result_is_one_failed_item(self, project):
        """One that hangs, kills its process or meets a defect of ours fails one item, also where
        its contract is not asked, and the other layers are judged."""
        project.stub()
        for name in ("hangs", "dies", "defect"):
            project.layer(name)
        result = project.run("--gradverify-timeout=2", "-rsf", "specs")
        result.assert_outcomes(passed=ALL, failed=3, skipped=3 * (ALL - 1))
        result.stdout.fnmatch_lines([
            "a defect of gradverify: NameError: oops; please report it (--full-trace of pytest*",
            "the layer kills its process: its process died of SIGABRT*",
            "  at          specs/dies.py*",
            "the layer does not end: no result within 2 s: its process was killed*",
            "  hangs: the layer does not end: no result within 2 s: its process was killed",
            "SKIPPED*: hangs: not asked: see contract",
            "FAILED specs/hangs.py::hangs::contract - *",
        ])  # fmt: skip
        result = project.run("-k", "defect and (exact or symbolic)")
        result.assert_outcomes(failed=1, skipped=1, deselected=4 * ALL - 1)
        result = project.run("specs/defect.py::defect::exact", "--full-trace")
        result.stdout.fnmatch_lines(["E*NameError: oops"])

    def test_a_debugger_finds_the_layer_in_its_own_process(self, project):
        """With --pdb layers run where the debugger is, and it stops where the finding is known."""
        project.stub({"symbolic": ("failed", "x")}, 'Finding("symbolic", "q", "bad")')
        whose = "import os\n\nwith open('pid', 'a') as file:\n    print(os.getppid(), file=file)\n"
        project.write("specs/right.py", f"import stub\n{whose}{RIGHT}")
        seen = """\
            import pdb


            class Pdb(pdb.Pdb):
                def interaction(self, frame, trace):
                    while trace.tb_next:
                        trace = trace.tb_next
                    found = [f.f_locals["findings"] for f in frames(trace.tb_frame)
                             if "findings" in f.f_locals]
                    print("stopped at", found[0][0].message)


            def frames(frame):
                while frame:
                    yield frame
                    frame = frame.f_back
            """
        project.write("debugger.py", dedent(seen))
        one = "specs/right.py::right::symbolic"
        result = project.run("--pdb", "--pdbcls=debugger:Pdb", one)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["stopped at bad", "*= gradverify =*"])
        project.run(one)
        parents = list(map(int, (project.path / "pid").read_text().split()))
        here = parents.index(os.getpid(), 1)  # loaded once to be known and once to be verified
        assert os.getpid() not in parents[here + 1 :] != []

    def test_many_layers_are_told_in_few_lines(self, project):
        """Of many layers the table shows those that are not verified, and all with -v; what an -x
        cut off is told."""
        project.stub()
        layers = "".join(
            f"\n\n@product.register(name='layer{k:02}')\ndef _{k}(x, w):\n    return right(x, w)\n"
            for k in range(21)
        )
        project.write("specs/right.py", "import stub\n" + RIGHT + layers)
        project.run("-q").stdout.fnmatch_lines(["gradverify: 22 layers: 22 verified"])
        result = project.run()
        result.stdout.fnmatch_lines(["22 that are verified (-v shows all)"])
        result = project.run("-v")
        result.stdout.fnmatch_lines(["layer20 *ok *verified", "right *ok *verified"])
        assert "that are verified" not in result.stdout.str()
        project.write("tests/test_own.py", "def test_own(): assert 0\n")
        result = project.run("-x", "specs/right.py::layer00", OWN, "specs/right.py::right")
        result.stdout.fnmatch_lines(["  right: the run ended before"])


OWN = "tests/test_own.py::test_own"


class TestKnownFailures:
    """What pyproject.toml declares as known is expected to fail, strictly."""

    def test_known_failures_are_strict(self, project):
        """A known failure is an xfail with its reason; one that does not fail, in a check, a tensor
        or anywhere, is an error; what fails besides it fails. --runxfail runs them as usual."""
        project.stub(
            {"symbolic": ("failed", "x"), "exact": ("failed", "x, w"), "kinks": ("vacuous", "why")},
            'Finding("symbolic", "q", "bad x", tensor="x")',
            'Finding("exact", "q", "bad x", tensor="x")',
            'Finding("exact", "q", "bad w", tensor="w")',
        )
        entry = KNOWN.format("right", "paper is wrong", "2999-01-31")
        project.configure(entry + 'tensor = "x"\n')
        result = project.run("-rxf", "specs")
        result.assert_outcomes(passed=ALL - 3, xfailed=1, failed=2)
        result.stdout.fnmatch_lines([
            "*_ right::exact _*",
            "bad x (and 1 more)",
            "FAILED right · exact · w",
            "XFAIL specs/right.py::right::symbolic - paper is wrong",
            "FAILED specs/right.py::right::kinks - Failed: vacuous: why",
        ])  # fmt: skip
        assert "FAILED right · exact · x" not in result.stdout.str()
        project.configure(entry)
        project.run("specs").assert_outcomes(passed=ALL - 3, xfailed=3)
        result = project.run("--runxfail", "--tb=line", "specs")
        result.assert_outcomes(passed=ALL - 3, failed=3)
        result.stdout.fnmatch_lines(["specs/right.py:7: Failed: bad x (and 1 more)"])
        assert "FAILED right ·" not in result.stdout.str()
        project.configure(entry + 'check = "buffers"\n')
        result = project.run("-k", "buffers")
        result.assert_outcomes(failed=1, deselected=ALL)
        result.stdout.fnmatch_lines([
            "[[]XPASS(strict)] paper is wrong",
            "[[][[]tool.gradverify.known_failures]] no. 1 in pyproject.toml says that buffers fails, "
            "and it does not: *",
        ])  # fmt: skip

    def test_entries_that_cannot_be_right_are_errors(self, project):
        """One of no check that nothing fails of, one that has expired, and one of a layer that there
        is not: each fails one item, under xdist too; a part of the layers proves nothing."""
        project.stub()
        project.layer("other")
        project.configure(
            KNOWN.format("right", "a", "2999-01-31")
            + KNOWN.format("ri*", "b", "2020-01-31")
            + KNOWN.format("othr", "c", "2999-01-31")
            + '[[tool.gradverify.overrides]]\nlayer = "zzz"\nprofile = "quick"\nreason = "d"\n'
        )
        lines = [
            "[[]XPASS(strict)] a",
            "[[][[]tool.gradverify.known_failures]] no. 2 in pyproject.toml: the failure of ri[*] "
            "has been known until 2020-01-31, and counts as one again (b): *",
            "[[][[]tool.gradverify.known_failures]] no. 3 in pyproject.toml: layer = 'othr' matches "
            "no layer; did you mean 'other'?",
            "[[][[]tool.gradverify.overrides]] no. 1 in pyproject.toml: layer = 'zzz' matches no *",
            "FAILED pyproject.toml::known_failures[[]2] - *",
        ]
        result = project.run()
        result.assert_outcomes(passed=2 * ALL, failed=4)
        result.stdout.fnmatch_lines(lines)
        pytest.importorskip("xdist")
        result = project.run("-p", "xdist", "-n", "2")
        result.assert_outcomes(passed=2 * ALL, failed=4)
        project.run("specs/other.py").assert_outcomes(passed=ALL)

    def test_overrides_are_told_with_their_reason(self, project):
        """Checks that are ignored for a layer are skipped with the reason, and its profile counts."""
        project.stub()
        override = (
            '[[tool.gradverify.overrides]]\nlayer = "r*"\nprofile = "quick"\nreason = "slow"\n'
        )
        project.configure(override + 'ignore = ["exact"]\n')
        result = project.run("-rs", "specs")
        result.assert_outcomes(passed=ALL - 1, skipped=1)
        assert project.asked()[0].startswith("right quick 0 contract")
        assert "exact" not in project.asked()[0]
