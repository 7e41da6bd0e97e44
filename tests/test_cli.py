"""The command line: what is judged, what is printed where, and every exit code."""

import json
import os
import shlex
import subprocess
import sys
from textwrap import dedent

import pytest
from inline import Inline

from gradverify import Status, Verdict, __version__
from gradverify.cases import Case
from gradverify.checks.names import NAMES
from gradverify.cli import main
from gradverify.result import CheckResult, LayerResult, report_from_json

HEADER = """\
from gradverify import Input, Output, Param, Spec

half = Spec("half", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")

"""


def layers(*names):
    """Return the text of a spec file with layers of these names."""
    return HEADER + "\n".join(
        f"@half.register(name={name!r})\n"
        "def layer(x, w):\n"
        '    return w * x, lambda dy: {"x": dy * w, "w": dy * x}\n'
        for name in names
    )


@pytest.fixture
def engine(monkeypatch):
    """An engine that judges layers by their names; returns the jobs that it was given."""
    seen = []
    verdicts = {"wrong": Verdict.FAILED, "unsure": Verdict.INCOMPLETE}

    def run(jobs, executor, on_result):
        seen.append((executor, *jobs))
        results = []
        for job in jobs:
            if job.layer == "boom":
                raise ZeroDivisionError("a defect")
            if job.layer == "slow":
                raise KeyboardInterrupt
            checks = tuple(CheckResult(name, Status.PASSED) for name in job.checks)
            verdict = verdicts.get(job.layer, Verdict.VERIFIED)
            results.append(LayerResult("half", job.layer, f"{job.file}:6", verdict, checks))
            on_result(job, results[-1])
        return tuple(results)

    monkeypatch.setattr("gradverify.jobs.run", run)
    monkeypatch.setattr("gradverify.workers.WorkerPool", Inline)
    return seen


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, and no terminal; returns what writes files into the folder."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(dedent(text), "utf-8")

    return write


def last(text):
    return text.splitlines()[-1]


# Nothing is imported that is not needed


def imported_by(code):
    """Return which heavy modules a fresh interpreter has imported after some code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"numpy", "sympy", "hypothesis", "rich", "mpmath", "scipy", "multiprocessing"}
    return heavy & set(last(done.stdout).split())


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    """Asking for help is answered at once: no numeric library is imported for it."""
    assert imported_by(f"from gradverify.cli import main; main({arguments})") == set()


def test_the_test_of_imports_can_fail():
    """The test above would see an import, also one made by another module."""
    assert imported_by("import gradverify.cli, rich.console") == {"rich"}
    assert "sympy" in imported_by("import sympy")


def test_help_names_the_commands_and_exit_codes(capsys):
    """`gradverify --help` lists what there is to do and what the exit code says."""
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for word in ("verify", "list", "derive", "replay", "0  every layer is verified"):
        assert word in out


def test_version(capsys):
    """`gradverify --version` is the version of the package."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gradverify {__version__}\n"


def test_the_module_is_the_command():
    """`python -m gradverify` does what `gradverify` does, exit code included."""
    command = [sys.executable, "-m", "gradverify", "verify", "no/such/path"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gradverify: no/such/path does not exist\n"


# Usage

USAGE = {
    "": "the following arguments are required: COMMAND (see gradverify --help)",
    "verfy": "COMMAND: there is no 'verfy'; did you mean 'verify'? (see gradverify --help)",
    "verify . --select symblic": "--select: there is no check 'symblic'; did you mean 'symbolic'?",
    "verify . --select symbolic,": "--select: there is no check ''; known are " + ", ".join(NAMES),
    "verify . --ignore forwrd": "--ignore: there is no check 'forwrd'; did you mean 'forward'?",
    "verify . --select descent --ignore descent": "--ignore leaves no check of those selected",
    "verify . --profile quik": "--profile: there is no profile 'quik'; did you mean 'quick'?",
    "verify . --format jsn": "--format: there is no format 'jsn'; did you mean 'json'?",
    "verify . --format json:no/dir/x": (
        "--format: cannot write no/dir/x: No such file or directory"
    ),
    "verify . --layer riht": "--layer 'riht' matches nothing; did you mean 'right'?",
    "verify . --layer right --layer z*": (
        "--layer 'z*' matches nothing; known are right, unsure, wrong"
    ),
    "verify . -j 0": "-j: '0' is not a whole number from 1 (see gradverify verify --help)",
    "verify . -j two": "-j: 'two' is not a whole number from 1 (see gradverify verify --help)",
    "verify . --seed -1": (
        "--seed: '-1' is not a whole number from 0 (see gradverify verify --help)"
    ),
    "verify . --timeout 0": (
        "--timeout: '0' is not a number of seconds above 0 (see gradverify verify --help)"
    ),
    "verify . --timeout nan": (
        "--timeout: 'nan' is not a number of seconds above 0 (see gradverify verify --help)"
    ),
    "verify . --timeout inf": (
        "--timeout: 'inf' is not a number of seconds above 0 (see gradverify verify --help)"
    ),
    "verify . --sed 1": "unrecognized arguments: --sed 1 (see gradverify --help)",
    "verify specs.py": "specs.py does not exist; did you mean spec.py?",
    "verify spec.py::right": (
        "spec.py::right: PATH is a file or a folder; write spec.py --layer right"
    ),
    "verify empty.py": "nothing matched: no layer is registered in empty.py",
    "list empty.py": "nothing matched: no layer is registered in empty.py",
    "verify": (
        "nothing matched: name a PATH, such as `gradverify verify specs`, or write "
        '[tool.gradverify] specs = ["specs"] in pyproject.toml'
    ),
    "replay spec.py case": "spec.py: name the layer to replay: spec.py::LAYER[::CHECK]",
    "replay spec.py::riht case": "spec.py registers no layer 'riht'; did you mean 'right'?",
    "replay spec.py::right::symblic case": (
        "there is no check 'symblic'; did you mean 'symbolic'?"
    ),
    "derive batch_nrm": "the catalogue has no spec 'batch_nrm'; did you mean 'batch_norm'?",
    "derive half --emit latx": (
        "--emit: there is no 'latx'; did you mean 'latex'? (see gradverify derive --help)"
    ),
    "derive specs.py": "specs.py does not exist; did you mean spec.py?",
    "derive spec.py::riht": "spec.py has no spec or layer 'riht'; did you mean 'right'?",
    "derive empty.py": "empty.py declares no spec",
    "derive .": ". is a folder: name a file in it, or ./FILE.py::NAME",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_is_one_message(here, engine, capsys, arguments):
    """What cannot be done is one line that says what to write, exit code 2, and nothing run."""
    here(spec=layers("right", "wrong", "unsure"), empty="x = 1")
    assert main(arguments.split()) == 2
    assert capsys.readouterr() == ("", f"gradverify: {USAGE[arguments]}\n")
    assert engine == []


def test_an_empty_folder_is_not_green(here, engine, capsys):
    """Nothing to judge is an error, never a success."""
    assert main(["verify", "."]) == 2
    assert capsys.readouterr().err == "gradverify: nothing matched: there is no Python file in .\n"


# What is judged


def test_every_layer_gets_every_check(here, engine):
    """By default all layers of all files are judged, with all checks, from seed 0."""
    here(b=layers("two"), a=layers("one", "three"))
    assert main(["verify", "."]) == 0
    ((_, *jobs),) = engine
    assert [(os.path.basename(job.file), job.layer) for job in jobs] == [
        ("a.py", "one"), ("a.py", "three"), ("b.py", "two"),
    ]  # fmt: skip
    assert {job.checks for job in jobs} == {NAMES}
    assert {(job.profile.name, job.seed, job.case) for job in jobs} == {("default", 0, None)}


def test_options_reach_the_engine(here, engine):
    """Checks, profile, seed, processes and timeout are handed on; checks in their own order."""
    here(a=layers("one", "two"))
    asked = "--select descent,contract --select forward --ignore forward --profile quick --seed 5"
    assert main(["verify", ".", *asked.split(), "-j", "3", "--timeout", "1.5"]) == 0
    ((pool, *jobs),) = engine
    assert pool.asked == (3, 1.5)
    assert {(job.checks, job.profile.name, job.seed) for job in jobs} == {
        (("contract", "descent"), "quick", 5),
    }  # fmt: skip


def test_layers_are_chosen_by_globs(here, engine):
    """A layer is judged when any of the globs matches its name."""
    here(a=layers("batch_norm", "layer_norm", "linear"), b=layers("other_norm"))
    assert main(["verify", ".", "--layer", "*r_norm", "--layer", "lin???"]) == 0
    ((_, *jobs),) = engine
    assert [job.layer for job in jobs] == ["layer_norm", "linear", "other_norm"]


def test_a_file_is_judged_once(here, engine, tmp_path):
    """A file that is named twice, by whatever path, is judged once."""
    here(a=layers("one"))
    assert main(["verify", "a.py", ".", str(tmp_path), "./a.py"]) == 0
    assert [job.layer for job in engine[0][1:]] == ["one"]


def test_without_a_path_pyproject_names_the_files(here, engine, tmp_path, monkeypatch, capsys):
    """`[tool.gradverify] specs` of the nearest pyproject.toml is used from any folder below it."""
    (tmp_path / "mine").mkdir()
    here(**{"mine/a": layers("one"), "other": layers("two")})
    (tmp_path / "pyproject.toml").write_text('[tool.gradverify]\nspecs = ["mine"]\n')
    assert main(["verify"]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    assert main(["verify"]) == 0
    assert [[job.layer for job in jobs] for _, *jobs in engine] == [["one"], ["one"]]
    capsys.readouterr()
    assert main(["list"]) == 0
    assert "one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[tool.gradverify",
            "gradverify: pyproject.toml cannot be read: Expected ']' at the end of a table declaration",
        ),
        (
            "[tool.gradverify]\nspecs = 'specs'",
            """pyproject.toml: [tool.gradverify] specs = 'specs': it has to be a list, such as ["specs"]""",
        ),
        ("[tool.gradverify]\nspecs = []", "nothing matched: name a PATH"),
        (
            "[tool.gradverify]\nspecs = ['nowhere']",
            "[tool.gradverify] specs: nowhere does not exist",
        ),
        ("tool = 3", "nothing matched: name a PATH"),
    ],
)
def test_a_wrong_pyproject_is_told(here, engine, tmp_path, capsys, text, told):
    """What is wrong in pyproject.toml is said, and nothing else is judged in its place."""
    (tmp_path / "pyproject.toml").write_text(text)
    assert main(["verify"]) == 2
    assert told in capsys.readouterr().err


# What comes out


@pytest.mark.parametrize(
    ("names", "code", "counts"),
    [
        (["right"], 0, "1 layer: 1 verified"),
        (["right", "wrong"], 1, "2 layers: 1 verified, 1 failed"),
        (["right", "unsure"], 1, "2 layers: 1 verified, 1 incomplete"),
    ],
)
def test_the_exit_code_follows_the_verdicts(here, engine, capsys, names, code, counts):
    """0 says that every layer is verified; a failed or an incomplete one makes it 1."""
    here(a=layers(*names))
    assert main(["verify", "."]) == code
    out, err = capsys.readouterr()
    assert last(out) == counts
    assert [line.split()[-1] for line in err.splitlines()] == names


BROKEN = "import no_such_module"
NEEDS = (
    "needs the package no_such_module, which is not installed: pip install no_such_module "
    "(your own: pip install -e its project)"
)


def test_a_file_that_does_not_import_is_a_problem_of_its_own(here, engine, capsys):
    """The other files are judged, and the report is not green: exit code 1."""
    here(a=BROKEN, b=layers("right"))
    assert main(["verify", ".", "--format", "json"]) == 1
    report = report_from_json(capsys.readouterr().out)
    assert report.problems == (f"a.py:1: {NEEDS}",)
    assert [layer.verdict for layer in report.layers] == [Verdict.VERIFIED]
    assert not report.ok


def test_where_nothing_imports_nothing_was_judged(here, engine, capsys):
    """With problems only, the report says so and the exit code is 2."""
    here(a=BROKEN, b="from gradverify import Spec\nSpec('empty')")
    assert main(["verify", "."]) == 2
    out, err = capsys.readouterr()
    assert "PROBLEM a.py:1: needs the package no_such_module" in out
    assert "PROBLEM b.py:2: spec 'empty': no output is declared" in out
    assert last(out) == "nothing was judged; 2 problems"
    assert err == ""


def test_a_duplicate_name_is_a_problem(here, engine, capsys):
    """Two layers of one name in a file are refused with file, line and remedy."""
    here(a=layers("same", "same"), b=layers("right"))
    assert main(["verify", "."]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM a.py:9: two layers are called 'same' in a.py: rename one" in out
    assert last(out) == "1 layer: 1 verified; 1 problem"


def test_a_glob_that_matches_nothing_tells_the_problems_too(here, engine, capsys):
    """The layer that was asked for may be in the file that did not import."""
    here(a=BROKEN, b=layers("right"))
    assert main(["verify", ".", "--layer", "other"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "gradverify: --layer 'other' matches nothing; known are right",
        f"a.py:1: {NEEDS}",
    ]


def test_a_named_file_without_layers_is_noted(here, engine, capsys):
    """A file that was named and registers nothing is pointed out: a register may be missing."""
    here(a=layers("right"), b="x = 1")
    assert main(["verify", "a.py", "./b.py"]) == 0
    assert "gradverify: note: b.py registers no layer\n" in capsys.readouterr().err
    assert main(["verify", "."]) == 0
    assert "note" not in capsys.readouterr().err


def test_views_go_where_they_should(here, engine, capsys, tmp_path):
    """One view on standard output, others in files; progress is on stderr alone."""
    here(a=layers("right"))
    assert main(["verify", ".", "--format", "json,text:report.txt", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["seed"] == 3
    assert err == "1/1  verified    right\n"
    assert last((tmp_path / "report.txt").read_text("utf-8")) == "1 layer: 1 verified"


def test_ctrl_c_prints_what_is_known(here, engine, capsys):
    """An interrupted run reports the layers that are done, marks the rest, and exits with 1."""
    here(a=layers("a_right", "slow", "wrong"))
    assert main(["verify", ".", "--select", "descent", "--format", "text,json:out.json"]) == 1
    out = capsys.readouterr().out
    assert last(out) == "interrupted: 3 layers: 1 verified, 2 incomplete"
    with open("out.json", encoding="utf-8") as file:
        report = report_from_json(file.read())
    assert report.interrupted
    assert [(layer.layer, layer.verdict, layer.checks[0].reason) for layer in report.layers] == [
        ("a_right", Verdict.VERIFIED, ""),
        ("slow", Verdict.INCOMPLETE, "interrupted"),
        ("wrong", Verdict.INCOMPLETE, "interrupted"),
    ]


def test_ctrl_c_takes_no_layer_for_another_of_its_name(here, engine, capsys, monkeypatch):
    """Of two layers of one name the one that was judged, though it is the last, is told as such."""

    def run(jobs, executor, on_result):
        done = LayerResult("half", jobs[-1].layer, jobs[-1].file, Verdict.VERIFIED)
        on_result(jobs[-1], done)
        raise KeyboardInterrupt

    monkeypatch.setattr("gradverify.jobs.run", run)
    here(a=layers("right"), b=layers("right"))
    assert main(["verify", ".", "--format", "json"]) == 1
    report = report_from_json(capsys.readouterr().out)
    told = {layer.source: str(layer.verdict) for layer in report.layers}
    assert told == {"a.py": "incomplete", "b.py": "verified"}


def test_a_defect_of_ours_is_one_line(here, engine, capsys, monkeypatch):
    """An internal error asks for a report, with exit code 3 and a traceback only on request."""
    here(a=layers("boom"))
    told = (
        "gradverify: internal error: ZeroDivisionError: a defect (a defect of gradverify: please "
        "report it, with the traceback that GRADVERIFY_DEBUG=1 shows)\n"
    )
    monkeypatch.delenv("GRADVERIFY_DEBUG", raising=False)
    assert main(["verify", "."]) == 3
    assert capsys.readouterr() == ("", told)
    monkeypatch.setenv("GRADVERIFY_DEBUG", "1")
    assert main(["verify", "."]) == 3
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.endswith(told)


def test_a_terminal_that_knows_no_greek_gets_its_number(here, engine, tmp_path):
    """Output that cannot be encoded is escaped, never a traceback."""
    here(a=layers("right"))
    code = "from gradverify.cli import main; raise SystemExit(main(['derive', 'batch_norm']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u" in done.stdout


# list


def test_list_shows_layers_with_their_place_and_parameters(here, capsys):
    """Each layer has its spec, its line and its parameters with their shapes."""
    here(
        a=layers("right"),
        b="""
        from gradverify import Input, Output, Spec

        relu = Spec("relu", x=Input("N"), y=Output("N"))

        @relu.register
        def numpy_relu(x):
            pass
        """,
    )
    assert main(["list", "."]) == 0
    assert capsys.readouterr() == (
        "layer       spec  source  parameters\n"
        "right       half  a.py:5  w (N)\n"
        "numpy_relu  relu  b.py:6  none\n",
        "",
    )


def test_list_tells_what_does_not_import(here, capsys):
    """Problems go to stderr, and the exit code says that the list is not all."""
    here(a=layers("right"), b=BROKEN)
    assert main(["list", "."]) == 1
    out, err = capsys.readouterr()
    assert last(out).split()[0] == "right"
    assert err == f"gradverify: b.py:1: {NEEDS}\n"
    assert main(["list", "b.py"]) == 2
    here(b='from gradverify import catalog\n\ncatalog("batch_nrm")\n')
    assert main(["list", "."]) == 1
    out, err = capsys.readouterr()
    assert last(out).split()[0] == "right"
    assert "did you mean 'batch_norm'?" in err


# replay


CASE = str(Case((("N", 3),), (), seed=7))


def test_replay_runs_one_layer_in_one_case(here, engine):
    """The case is handed to the engine as it stands, for that layer and that check alone."""
    here(a=layers("right", "wrong", "[odd]*"))
    assert main(["replay", "a.py::wrong::descent", CASE]) == 1
    assert main(["replay", "a.py::[odd]*", CASE]) == 0
    ((_, first), (_, second)) = engine
    assert (first.layer, first.checks, first.case) == ("wrong", ("descent",), CASE)
    assert (second.layer, second.checks, second.case) == ("[odd]*", NAMES, CASE)


def test_a_case_that_cannot_be_is_wrong_usage(here, engine, capsys):
    """A line that is no case of the spec is refused before anything runs."""
    here(a=layers("right"))
    assert main(["replay", "a.py::right", CASE.replace("N=3", "Q=3")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gradverify: case: N is missing; a case of half gives ")
    assert engine == []


# derive


def test_derive_knows_the_catalogue(here, capsys):
    """A name of the catalogue is derived; batch norm has gradients of x, gamma and beta."""
    assert main(["derive", "batch_norm"]) == 0
    out = capsys.readouterr().out
    for name in ("dx", "dgamma", "dbeta"):
        assert name in out


@pytest.mark.parametrize("target", ["a.py", "a.py::half", "a.py::right"])
def test_derive_takes_files_specs_and_layers(here, capsys, target):
    """A spec is found by its file, by its name in it, or by one of its layers."""
    here(a=layers("right"))
    assert main(["derive", target]) == 0
    out = capsys.readouterr().out
    assert "dw" in out
    assert "dx" in out


def test_derive_emits_source_that_runs(here, capsys):
    """`--emit numpy` is a module that Python can compile; `latex` is something else."""
    assert main(["derive", "softmax", "--emit", "numpy"]) == 0
    source = capsys.readouterr().out
    compile(source, "softmax", "exec")
    assert main(["derive", "softmax", "--emit", "latex"]) == 0
    assert "\\sum" in capsys.readouterr().out


def test_derive_tells_the_steps_and_sets_them_for_a_page(here, capsys):
    """`--emit steps` knows which tensors are parameters; `mathml` is one fragment of HTML."""
    assert main(["derive", "linear", "--emit", "steps"]) == 0
    told = capsys.readouterr().out
    assert "    w is a parameter: a step of gradient descent subtracts dw times the" in told
    assert "    x is an input: dx is handed to the layer before.\n" in told
    assert main(["derive", "linear", "--emit", "mathml"]) == 0
    page = capsys.readouterr().out
    assert page.startswith('<div class="derivation">\n<p>linear: definition</p>\n<math ')
    assert page.endswith("</math>\n</div>\n")


def test_derive_needs_a_definition(here, capsys):
    """A spec without a definition has nothing to derive, which is said."""
    here(a='from gradverify import *\nSpec("s", x=Input("N"), y=Output("N"))\n')
    here(b='from gradverify import *\nbare = Spec("bare", x=Input("N"), y=Output("N"))\n')
    assert main(["derive", "b.py"]) == 2
    assert capsys.readouterr().err == (
        "gradverify: spec 'bare' has no definition, so there is nothing to derive; write "
        "definition=... in it\n"
    )


# The whole, with the engine and its processes

WRONG = HEADER + (
    "@half.register\n"
    "def right(x, w):\n"
    '    return w * x, lambda dy: {"x": dy * w, "w": dy * x}\n\n\n'
    "@half.register\n"
    "def wrong(x, w):\n"
    '    return w * x, lambda dy: {"x": dy * w, "w": 0.5 * dy * x}\n'
)


def test_a_wrong_gradient_is_found_named_and_replayed(here, capsys):
    """A halved gradient fails its layer alone; the finding's own line shows it again."""
    here(a="print('a spec file may print')\n" + WRONG)
    arguments = ["verify", "a.py", "--profile", "quick", "-j", "2"]
    assert main([*arguments, "--format", "json"]) == 1
    report = report_from_json(capsys.readouterr().out)
    assert [(layer.layer, layer.verdict) for layer in report.layers] == [
        ("right", Verdict.VERIFIED),
        ("wrong", Verdict.FAILED),
    ]
    finding = next(f for f in report.findings if f.check == "symbolic")
    assert finding.tensor == "w"
    assert finding.expected == pytest.approx(2 * finding.got)
    program, command, target, case, *digest = shlex.split(finding.replay)
    assert (program, command) == ("gradverify", "replay")
    assert main([command, target, case, *digest]) == 1
    out = capsys.readouterr().out
    assert "FAILED wrong · symbolic · w\n" in out
    assert f"  case        {case}\n" in out
    assert last(out).startswith("1 layer: 1 failed; ")
    assert main([command, target.replace("wrong", "right"), case]) == 0


def test_a_file_that_hangs_or_dies_is_a_problem(here, capsys):
    """Files are loaded in processes of their own: the others are judged all the same."""
    here(
        dies='import os\nos.write(1, b"no licence")\nos._exit(7)\n',
        hangs="while True:\n    pass\n",
        right=WRONG,
    )
    options = "--layer right --profile quick --select contract --timeout 20 --format json"
    assert main(["verify", "dies.py", "right.py", *options.split()]) == 1
    report = report_from_json(capsys.readouterr().out)
    assert report.problems == (
        "dies.py: does not import: its process exited with code 7; it printed:\n    no licence",
    )
    assert [layer.layer for layer in report.layers] == ["right"]
    assert main(["verify", "hangs.py", "--timeout", "1"]) == 2
    out = capsys.readouterr().out
    assert "PROBLEM hangs.py:" in out
    assert "does not import: no result within 1 s: its process was killed" in out
