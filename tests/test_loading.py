"""Spec files are found, loaded once under their real path, and name file and line when wrong."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from gradverify import SpecError, UsageError, catalog
from gradverify.loading import catalogue_folder, content_hash, execute, load
from gradverify.project import spec_files
from gradverify.spec import REGISTERED

RELU = """\
from gradverify import Input, Output, Spec

relu = Spec("relu", x=Input("N"), y=Output("N"), definition="y[n] = relu(x[n])")


@relu.register
def numpy_relu(x):
    return x * (x > 0), lambda dy: {"x": dy * (x > 0)}
"""


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Leave the registry and the import path as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


@pytest.fixture
def spec_file(tmp_path):
    def write(text, name="layer.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), "utf-8")
        return path

    return write


def message(error):
    return str(error.value)


# Files


def test_a_folder_means_the_python_files_in_it(spec_file, tmp_path):
    """Files are found in folders of folders, sorted, without hidden, cached or other files."""
    for name in ("b.py", "a.py", "deep/c.py", ".venv/no.py", "__pycache__/no.py", "__init__.py"):
        spec_file("", name)
    (tmp_path / "notes.txt").write_text("")
    found = spec_files([tmp_path])
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["a.py", "b.py", "deep/c.py"]


def test_files_can_be_named_one_by_one(spec_file, tmp_path):
    """A file that is named is taken, once even where its folder is named too."""
    first, second = spec_file("", "a.py"), spec_file("", "b.py")
    assert spec_files([str(second)]) == [second]
    assert spec_files([second, tmp_path, first]) == [first, second]


def test_only_folders_inside_the_given_one_are_hidden(spec_file, tmp_path, monkeypatch):
    """A folder is searched wherever it is: above the current one, or below a hidden one."""
    path = spec_file("", ".hidden/specs/a.py")
    assert spec_files([path.parent]) == [path]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert spec_files(["../.hidden/specs"]) == [Path("../.hidden/specs/a.py")]


def test_a_path_that_is_not_there_is_named_with_its_nearest_neighbour(spec_file, tmp_path):
    """A misspelt path is an error that names the file that was probably meant."""
    path = spec_file("", "batch_norm.py")
    with pytest.raises(UsageError) as error:
        spec_files([tmp_path / "bach_norm.py"])
    assert message(error) == f"{tmp_path / 'bach_norm.py'} does not exist; did you mean {path}?"
    with pytest.raises(UsageError) as error:
        spec_files([tmp_path / "nowhere" / "x.py"])
    assert message(error) == f"{tmp_path / 'nowhere' / 'x.py'} does not exist"


def test_a_file_that_is_no_python_is_refused(tmp_path):
    """A path to another kind of file is an error that says what to name instead."""
    path = tmp_path / "notes.txt"
    path.write_text("")
    with pytest.raises(UsageError) as error:
        spec_files([path])
    assert message(error) == (f"{path} is not a Python file: name a spec file or a folder of them")


def test_the_hash_follows_the_bytes_of_a_file(spec_file):
    """Two files of the same bytes have one hash; a changed one has another."""
    first, second = spec_file(RELU, "a.py"), spec_file(RELU, "b.py")
    before = content_hash(first)
    assert content_hash(second) == before
    first.write_text(RELU + "\n")
    assert content_hash(first) != before


# Layers


def test_a_file_is_loaded_into_its_layers(spec_file):
    """Each registered function is a layer of its spec, sorted by name, with file and line."""
    path = spec_file(RELU + "\n\nrelu.register(numpy_relu, name='another')\n")
    another, own = load(path)
    assert [another.name, own.name] == ["another", "numpy_relu"]
    assert own.spec.name == "relu"
    assert own.file == str(path.resolve())
    assert own.location == f"{path.resolve()}:6"


def test_a_file_loaded_twice_registers_once(spec_file, tmp_path, monkeypatch):
    """Loading a file again, by whatever path, replaces its layers and makes no duplicates."""
    path = spec_file(RELU)
    first = load(path)
    monkeypatch.chdir(tmp_path)
    again = load(Path("layer.py"))
    assert [layer.name for layer in first] == [layer.name for layer in again] == ["numpy_relu"]
    path.write_text(RELU.replace("numpy_relu", "renamed"))
    assert [layer.name for layer in load(path)] == ["renamed"]


def test_two_files_may_use_one_name(spec_file):
    """A layer's name belongs to its file: files do not take each other's layers."""
    first, second = spec_file(RELU, "a.py"), spec_file(RELU, "b.py")
    assert [layer.file for layer in load(first)] == [str(first.resolve())]
    assert [layer.file for layer in load(second)] == [str(second.resolve())]
    assert [layer.file for layer in load(first)] == [str(first.resolve())]


def test_two_layers_of_one_name_in_a_file_are_an_error(spec_file):
    """The second function of a name is refused, with its place and what to write instead."""
    path = spec_file(RELU + "\n\n@relu.register\ndef numpy_relu(x):\n    return x, None\n")
    with pytest.raises(SpecError) as error:
        load(path)
    assert message(error) == (
        f"{path}:11: two layers are called 'numpy_relu' in {path.resolve()}: rename one, or "
        'register it with a name of its own, @relu.register(name="...")'
    )


def test_two_layers_of_one_name_from_one_line_are_an_error(spec_file):
    """What a helper registers in a loop, under one name, is refused too: none is lost silently."""
    path = spec_file(
        RELU
        + "\n\nfor scale in (1, 2):\n"
        + '    relu.register(lambda x, scale=scale: (scale * x, None), name="scaled")\n'
    )
    with pytest.raises(SpecError, match="two layers are called 'scaled'"):
        load(path)


def test_a_spec_file_may_import_its_neighbours(spec_file):
    """A file registers layers for the spec of another file; each keeps its own layers."""
    base = spec_file(RELU, "base_spec.py")
    path = spec_file(
        """
        from base_spec import relu

        @relu.register
        def other_relu(x):
            return x, None
        """
    )
    try:
        assert [layer.name for layer in load(path)] == ["other_relu"]
        assert [layer.name for layer in load(base)] == ["numpy_relu"]
    finally:
        sys.modules.pop("base_spec", None)


def test_executing_a_file_leaves_the_import_path_alone(spec_file):
    """The module is returned with what it defines, and the import path is as it was before."""
    before = list(sys.path)
    module = execute(spec_file(RELU))
    assert module.relu.name == "relu"
    with pytest.raises(SpecError):
        execute(spec_file("1/0"))
    assert sys.path == before


# What is wrong with a file

BROKEN = {
    "a syntax error": ("x = 1\ny = (\n", ":2: does not import: SyntaxError: '(' was never closed"),
    "an error of its own": (
        "def f():\n    return 1/0\n\nf()\n",
        ":2: does not import: ZeroDivisionError: division by zero",
    ),
    "a module that is not there": (
        "import os\nimport no_such_module\n",
        ":2: needs the package no_such_module, which is not installed: pip install no_such_module "
        "(your own: pip install -e its project)",
    ),
    "a module that its package has not": (
        "import json.no_such_module\n",
        ":1: does not import: ModuleNotFoundError: No module named 'json.no_such_module' (the json "
        "that is installed here has none: is it another version?)",
    ),
    "a name that is not there": (
        "from gradverify import Imput\n",
        ":1: does not import: ImportError: cannot import name 'Imput' from 'gradverify'",
    ),
    "an exit": ("import sys\nsys.exit('bye')\n", ":2: does not import: SystemExit: bye"),
    "a spec without outputs": (
        'from gradverify import Input, Spec\n\nSpec("s", x=Input("N"))\n',
        """:3: spec 's': no output is declared: write e.g. y=Output("N C")""",
    ),
    "an undeclared tensor": (
        "from gradverify import Input, Output, Spec\n"
        'Spec("s", x=Input("N"), y=Output("N"), definition="y[n] = x[n] + q[n]")\n',
        ":2: spec 's': ",
    ),
    "a layer that is no function": (
        RELU + "\nrelu.register(3)\n",
        ":10: spec 'relu': 3 is not callable",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_told_with_file_and_line(spec_file, kind):
    """Whatever a file does wrong is a SpecError that begins with the file and the line."""
    text, told = BROKEN[kind]
    path = spec_file(text)
    with pytest.raises(SpecError) as error:
        load(path)
    assert message(error).startswith(f"{path}{told}")


def test_a_package_that_is_missing_is_told_by_the_name_to_install(spec_file, monkeypatch):
    """What everybody knows has another name to pip, and is nobody's own."""
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as where it is not installed
    path = spec_file("x = 1\nimport sklearn\n")
    with pytest.raises(SpecError) as error:
        load(path)
    assert message(error) == (
        f"{path}:2: needs the package sklearn, which is not installed: pip install scikit-learn"
    )


def test_an_equation_that_is_wrong_is_shown_with_a_caret(spec_file):
    """An undeclared tensor in a definition is shown in its equation, with a caret below it."""
    path = spec_file(BROKEN["an undeclared tensor"][0])
    with pytest.raises(SpecError) as error:
        load(path)
    *_, equation, caret = (x for x in message(error).splitlines() if x.startswith("    "))
    assert equation.strip() == "y[n] = x[n] + q[n]"
    assert equation[caret.index("^")] == "q"


def test_an_error_in_a_neighbour_names_the_line_that_imports_it(spec_file):
    """Where an imported module fails, the place is the line of the spec file that needs it."""
    spec_file("1/0", "broken_neighbour.py")
    path = spec_file("x = 1\n\nimport broken_neighbour\n")
    with pytest.raises(SpecError) as error:
        load(path)
    assert message(error) == f"{path}:3: does not import: ZeroDivisionError: division by zero"


# The catalogue


def test_the_catalogue_has_every_spec_by_name():
    """Each file is found by its name, and a second spec in a file by its own."""
    names = {path.stem for path in catalogue_folder().glob("*.py")}
    assert {"batch_norm", "linear", "conv2d", "lstm_cell"} <= names
    assert {name: catalog(name).name for name in names} == {name: name for name in names}
    causal = catalog("causal_attention")
    assert causal.name == "causal_attention"
    assert causal.inputs == ("q", "k", "v")


def test_an_unknown_name_is_told_with_the_nearest():
    """A name that the catalogue does not have is an error with the nearest, or with all."""
    with pytest.raises(UsageError) as error:
        catalog("batch_nrm")
    assert message(error) == ("the catalogue has no spec 'batch_nrm'; did you mean 'batch_norm'?")
    with pytest.raises(UsageError) as error:
        catalog("zzz")
    assert message(error).startswith(
        "the catalogue has no spec 'zzz'; known are attention, avg_pool2d, batch_norm,"
    )
