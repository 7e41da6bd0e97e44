"""Every finding that is printed carries a line that shows it again, and says what has changed."""

import shlex
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest
from inline import Inline
from replays import printed, run

import gradverify
from gradverify import Constant, Input, Layer, Output, Param, Spec, UsageError, jobs
from gradverify.again import changes, digest, replay_line
from gradverify.cli import main
from gradverify.jobs import Job
from gradverify.loading import load
from gradverify.workers import WorkerTimeout, last_words

WRONG = Path(__file__).parent / "wrong"

# One layer for what each kind of question needs to be seen again: several calls, another layout,
# another precision, an empty batch, a kink met on the way, a buffer, no definition.
KINDS = """
import numpy as np

from gradverify import Buffer, Constant, Input, Output, Param, Spec

scale = Spec("scale", x=Input("N C"), w=Param("C"), y=Output("N C"),
             definition="y[n,c] = w[c]*x[n,c]")
bare = Spec("bare", x=Input("N C"), w=Param("C"), y=Output("N C"))
relu = Spec("relu", x=Input("N"), y=Output("N"), definition="y[n] = relu(x[n])")
count = Spec("count", x=Input("N"), seen=Buffer("", update="now"), k=Constant(2, 3),
             y=Output("N"), now=Output(""),
             definition="y[n] = k*x[n]\\nnow = seen + mean[n](x[n])")


def right(x, w):
    return w * x, lambda dy: {"x": w * dy, "w": (x * dy).sum(axis=0)}


last = {}


@scale.register
def stale(x, w):
    last["x"] = x.copy()
    return w * x, lambda dy: {"x": w * dy, "w": (last["x"] * dy).sum(axis=0)}


@scale.register
def accumulates(x, w):
    dw = np.zeros_like(w)

    def pullback(dy):
        dw[...] += (x * dy).sum(axis=0)
        return {"x": w * dy, "w": dw}

    return w * x, pullback


@scale.register
def clips(x, w):
    y, pullback = right(x, w)
    return y, lambda dy: pullback(np.clip(dy, -1e3, 1e3))


@scale.register
def by_memory(x, w):
    y, pullback = right(x, w)

    def wrong(dy):
        return pullback(dy) | {"x": w * (dy if dy.flags.c_contiguous else dy[::-1])}

    return y, wrong


@scale.register
def no_empty(x, w):
    if not len(x):
        raise ValueError("nothing to scale")
    return right(x, w)


@scale.register
def raises(x, w):
    if len(x) == x.shape[1] > 1:
        raise ValueError("a square")
    return right(x, w)


@scale.register(dtypes=["float16"])
def half(x, w):
    y, pullback = right(x, w)
    return y, lambda dy: pullback(dy) | {"w": (x * dy).sum(axis=0) / x.dtype.type(2)}


@bare.register
def bare_twice(x, w):
    y, pullback = right(x, w)
    return y, lambda dy: pullback(dy) | {"w": 2 * (x * dy).sum(axis=0)}


@relu.register
def both_sides(x):
    return np.maximum(x, 0), lambda dy: {"x": np.where(x == 0, 5.0, x > 0) * dy}


@count.register
def twice(x, seen, *, k):
    now = np.asarray(seen + (2 if k == 3 else 1) * x.mean(), x.dtype)
    return (k * x, now), lambda dy: {"x": k * dy}


def inside():
    @scale.register
    def nowhere(x, w):
        return right(x, w)


inside()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, at a terminal as wide as a line, where layers run in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("gradverify.workers.WorkerPool", Inline)
    return tmp_path


def assert_replays(found, capsys):
    """Assert that the line of each finding shows that finding again."""
    assert found
    for finding in found:
        code, again = run(finding.replay, capsys)
        assert finding.same in [other.same for other in again], finding
        assert code == 1 or finding.headline.startswith("warning")


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_every_kind_of_question_is_seen_again(here, capsys):
    """What needs several calls, a layout, a precision, a kink or no batch shows in its one case."""
    (here / "kinds.py").write_text(KINDS, "utf-8")
    main(["verify", "kinds.py", "--profile", "quick"])
    found = printed(capsys.readouterr().out)
    assert {finding.question for finding in found} >= {
        "stale", "accumulates", "linear", "layout", "empty", "raises", "gradient", "slope",
        "subgradient", "update",
    }  # fmt: skip
    assert any("half" in f.headline for f in found)
    assert any("bare_twice" in f.headline for f in found)
    assert_replays(found, capsys)


@pytest.mark.parametrize("file", ["batch_norm.py", "broadcast.py", "linear.py"])
def test_wrong_layers_are_seen_to_be_wrong_again(here, monkeypatch, capsys, file):
    """Every finding in some layers of the collection: same check, tensor, question and value."""
    monkeypatch.chdir(WRONG)
    names = [layer.name for layer in load(Path(file))][::8]
    layers = [part for name in names for part in ("--layer", name)]
    main(["verify", file, "--profile", "quick", *layers])
    found = printed(capsys.readouterr().out)
    assert {f.headline.split(" ")[1] for f in found} == set(names)
    assert_replays(found, capsys)


SPEC = """
from gradverify import Input, Output, Param, Spec

half = Spec("half", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")
"""
LAYER = """

@half.register(name={name!r})
def layer(x, w):
    return w * x, lambda dy: {{"x": dy * w, "w": 2 * dy * x}}
"""
PLACES = {
    "plain.py": "plain",
    "a folder/with blanks.py": "two words",
    'it\'s "quoted".py': 'it\'s "quoted"',
    "größe/Ω.py": "schräg",
    "$HOME`x`.py": "$PATH\\n!",
    "a::b.py": "c::d",
    "-v.py": "-v",
    "globs.py": "[odd]*",
}


@pytest.mark.parametrize("file", PLACES)
def test_any_path_and_name_can_be_replayed(here, capsys, file):
    """Blanks, quotes, dollars, colons, dashes and other letters come back as they were."""
    path = here / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(SPEC + LAYER.format(name=PLACES[file]), "utf-8")
    main(["verify", ".", "--profile", "quick", "--select", "symbolic"])
    assert_replays(printed(capsys.readouterr().out), capsys)


def test_a_layer_in_a_module_can_be_replayed(here, monkeypatch, capsys):
    """A module with relative imports, which the settings name, is replayed as what it is."""
    package = here / "lib_to_replay"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "specs.py").write_text(SPEC)
    (package / "layers.py").write_text("from .specs import half\n" + LAYER.format(name="wrong"))
    (here / "pyproject.toml").write_text('[tool.gradverify]\nmodules = ["lib_to_replay.layers"]\n')
    monkeypatch.setattr(sys, "path", [*sys.path])
    main(["verify", "--profile", "quick", "--select", "symbolic"])
    found = printed(capsys.readouterr().out)
    assert 'replay "lib_to_replay/layers.py::wrong::symbolic"' in found[0].replay
    assert_replays(found, capsys)


def test_a_path_is_told_from_the_current_folder(here, monkeypatch, capsys):
    """Below it the path is relative, elsewhere whole: the line works where it was printed."""
    (here / "inside").mkdir()
    (here / "a.py").write_text(SPEC + LAYER.format(name="wrong"), "utf-8")
    for folder in (here, here / "inside"):
        monkeypatch.chdir(folder)
        main(["verify", str(here / "a.py"), "--profile", "quick", "--select", "symbolic"])
        found = printed(capsys.readouterr().out)
        path = "a.py" if folder == here else here / "a.py"
        assert f'replay "{path}::wrong::symbolic"' in found[0].replay
        assert_replays(found, capsys)


def test_a_spec_in_a_file_of_its_own_is_told_from_its_layer(here, capsys):
    """The replay says which of the two has changed since, or that both have, and still runs."""
    spec, layer = here / "spec_of_half.py", here / "layer.py"
    spec.write_text(SPEC, "utf-8")
    layer.write_text("from spec_of_half import half\n" + LAYER.format(name="wrong"), "utf-8")
    main(["verify", "layer.py", "--profile", "quick", "--select", "symbolic"])
    (found,) = printed(capsys.readouterr().out)

    def replayed():
        sys.modules.pop("spec_of_half", None)
        code = main(shlex.split(found.replay)[1:])
        out = " ".join(capsys.readouterr().out.split())
        of_spec = "the spec half has changed since this line was printed" in out
        of_layer = "the layer has changed since this line was printed: layer.py is another" in out
        return code, of_spec, of_layer

    assert replayed() == (1, False, False)
    spec.write_text("# a comment is no change\n" + SPEC.replace("[n]*x", "[n] * x"), "utf-8")
    assert replayed() == (1, False, False)
    layer.write_text(layer.read_text("utf-8").replace("2 * dy", "dy"), "utf-8")
    assert replayed() == (0, False, True)
    spec.write_text(SPEC.replace("w[n]*x[n]", "2*w[n]*x[n]"), "utf-8")
    assert replayed() == (1, True, True)


def test_a_case_that_is_none_any_more_says_why(here, capsys):
    """Where the spec has other sizes now, the message says that it has changed."""
    file = here / "a.py"
    file.write_text(SPEC + LAYER.format(name="wrong"), "utf-8")
    main(["verify", "a.py", "--profile", "quick", "--select", "symbolic"])
    (found,) = printed(capsys.readouterr().out)
    file.write_text(file.read_text("utf-8").replace('"N"', '"M"'), "utf-8")
    assert main(shlex.split(found.replay)[1:]) == 2
    err = capsys.readouterr().err
    assert "case: M is missing" in err
    assert "the spec half has changed since this line was printed" in err


def test_a_digest_that_is_none_is_wrong_usage(here, capsys):
    """A line that was cut off is told so."""
    assert main(["replay", "a.py::b", "N=1", "--digest", "0a1b"]) == 2
    assert "--digest: '0a1b' is not of the form 0a1b2c3d-4e5f6a7b" in capsys.readouterr().err


# From Python

double = Spec("double", x=Input("N"), w=Param("N"), k=Constant(1, 2), y=Output("N"),
              definition="y[n] = k*w[n]*x[n]")  # fmt: skip


def wrong(x, w, *, k):
    return k * w * x, lambda dy: {"x": k * dy * w, "w": 3 * dy * x}


def again(found, layer):
    """Return the findings of the line of Python that a finding carries."""
    report = eval(found.replay, {"gradverify": gradverify, "layer": layer})
    return [(f.check, f.question, f.tensor, f.got) for f in report.findings]


def test_a_layer_that_no_file_registers_is_replayed_from_python():
    """`Layer(spec, function)` stands in no file: the line is one of Python, with the layer."""
    layer = Layer(double, wrong)
    for found in gradverify.verify(layer, profile="quick").findings:
        assert found.replay.startswith("gradverify.verify(layer, checks=[")
        assert (found.check, found.question, found.tensor, found.got) in again(found, layer)


def test_a_layer_that_a_function_registers_is_replayed_from_python():
    """To execute this file registers nothing: a command that names it would find no layer."""
    mine = double.register(name="registered in a test")(wrong)
    found = gradverify.verify(mine, profile="quick", checks=["symbolic"]).findings
    assert found[0].replay.startswith("gradverify.verify(layer, checks=[")
    assert again(found[0], mine) == [("symbolic", "gradient", "w", found[0].got)]


def test_a_case_is_judged_alone_and_must_be_one():
    """`verify(case=...)` looks at that case only, and refuses what is none."""
    case = "N=2 k=1 dtype=float64 layout=C values=ordinary cotangent=signed seed=3"
    (result,) = gradverify.verify(Layer(double, wrong), checks=["symbolic"], case=case).layers
    assert [check.cases for check in result.checks if check.status == "failed"] == [1]
    with pytest.raises(UsageError, match="case: k=3 is not one of"):
        gradverify.verify(Layer(double, wrong), case=case.replace("k=1", "k=3"))


def test_what_a_file_gives_back_gets_a_command():
    """A layer of a file gets a command, loaded anew too; one changed in memory gets none."""
    (layer, *_) = load(WRONG / "linear.py")
    load(WRONG / "linear.py")  # as pytest and a spec may both load a file
    assert replay_line(layer, "exact", "N=1").startswith("gradverify replay ")
    other = Layer(layer.spec, lambda **_: None, name=layer.name, file=layer.file)
    assert replay_line(other, "exact", "N=1").startswith("gradverify.verify(")
    bare = Spec(layer.spec.name, **layer.spec.tensors)
    other = Layer(bare, layer.function, name=layer.name, file=layer.file)
    assert replay_line(other, None, "N=1") == 'gradverify.verify(layer, case="N=1")'


def test_a_digest_is_the_same_in_every_process():
    """It hangs on nothing but spec and files: no order of a set, no address."""
    (layer, *_) = load(WRONG / "linear.py")
    script = (
        "import sys; from pathlib import Path; from gradverify.again import digest; "
        "from gradverify.loading import load; print(digest(load(Path(sys.argv[1]))[0]))"
    )
    command = [sys.executable, "-c", script, str(WRONG / "linear.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(layer)
    assert changes(layer, digest(layer)) == ()


# Layers that give no result


DIES = """
import os


@half.register
def dies(x, w):
    if len(x) > 10:
        os._exit(3)
    return w * x, lambda dy: {"x": dy * w, "w": dy * x}
"""


def test_a_layer_that_dies_names_its_case(tmp_path, monkeypatch, capsys):
    """What it was called with when its process ended is known: the line calls it so again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("größe.py").write_text(SPEC + DIES, "utf-8")
    main(["verify", "größe.py", "--profile", "quick"])
    (dies,) = printed(capsys.readouterr().out)
    assert dies.question == "dies"
    assert 'replay "größe.py::dies" "N=1' in dies.replay  # nobody knows which check it was
    code, (again,) = run(dies.replay, capsys)
    assert (code, again.same, again.replay) == (1, dies.same, dies.replay)


class Late(Executor):
    """Gives every task up as one that took too long."""

    def __init__(self, noted):
        self.noted = noted

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_exception(WorkerTimeout(2.5, "", self.noted))
        return future


@pytest.mark.parametrize(
    ("noted", "replay"),
    [
        ('N=3\ngradverify replay "a.py::b" "N=3"',
         'gradverify replay "a.py::b" "N=3" --timeout 2.5'),
        ("", 'gradverify verify "a.py" --layer "[[]odd] \'one\'"'),
    ],
)  # fmt: skip
def test_a_layer_that_hangs_is_replayed_with_its_time_limit(noted, replay):
    """In its case where it came to one; else the layer of exactly that name is verified again."""
    job = Job("a.py", "", "[odd] 'one'", "quick", ("contract",), 0)
    (result,) = jobs.run([job], Late(noted), lambda job, result: None)
    assert [(f.question, f.case, f.replay) for f in result.findings] == [
        ("hangs", "N=3" if noted else None, replay)
    ]


def test_where_a_layer_hangs_is_known_in_a_file_of_any_name():
    """Python writes other letters in a traceback by their number."""
    path = Path("größe.py").resolve()
    shown = str(path).encode("ascii", "backslashreplace").decode()
    output = f'said\nTimeout (0:00:01)!\n  File "{shown}", line 7 in layer\n'
    assert last_words(output, "größe.py") == (7, "said")
