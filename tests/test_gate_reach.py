"""What a spec file reaches: imports of every kind are followed, or said not to be traceable."""

from textwrap import dedent

import pytest

from gradverify.gate.reach import reach
from gradverify.gate.sources import Project, python_files, relative
from gradverify.loading import catalogue_folder


@pytest.fixture
def project(tmp_path):
    """Returns what makes a project of files, of which those in specs/ are spec files."""

    def make(**files):
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), "utf-8")
        found = python_files(tmp_path, [tmp_path])
        return Project(tmp_path, found, frozenset(f for f in found if f.startswith("specs/")))

    return make


IMPORTS = {
    "import mylib.cells": {"mylib/__init__.py", "mylib/cells.py", "mylib/low.py"},
    "import mylib.cells as c": {"mylib/__init__.py", "mylib/cells.py", "mylib/low.py"},
    "from mylib import cells": {"mylib/__init__.py", "mylib/cells.py", "mylib/low.py"},
    "from mylib.cells import step": {"mylib/__init__.py", "mylib/cells.py", "mylib/low.py"},
    "import mylib": {"mylib/__init__.py"},
    "from mylib import *": {"mylib/__init__.py", "mylib/cells.py", "mylib/low.py", "mylib/math.py", "mylib/other.py"},
    "def f():\n    from mylib import low": {"mylib/__init__.py", "mylib/low.py"},
    "try:\n    import mylib.low\nexcept ImportError:\n    pass": {"mylib/__init__.py", "mylib/low.py"},
    "import importlib\nimportlib.import_module('mylib.low')": {"mylib/__init__.py", "mylib/low.py"},
    "from importlib import import_module as im\nim('mylib.low')": {"mylib/__init__.py", "mylib/low.py"},
    "__import__('mylib.low')": {"mylib/__init__.py", "mylib/low.py"},
    "import packed": {"src/packed/__init__.py", "src/packed/deep/__init__.py", "src/packed/deep/end.py", "src/packed/side.py"},
    "import neighbour": {"specs/neighbour.py"},
    "from tools.run import go": {"tools/run.py"},
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mylib.low\nelse:\n    import neighbour": {"specs/neighbour.py"},
    "import math, numpy as np": set(),
    "from gradverify import Spec": set(),
}  # fmt: skip


@pytest.mark.parametrize("text", IMPORTS)
def test_imports_are_followed(project, text):
    """Each way to import a module reaches its file, its packages, and what these import."""
    made = project(
        specs__a=text,
        specs__neighbour="",
        mylib__init="",
        mylib__cells="from . import low\nfrom .low import LOW",
        mylib__low="import numpy",
        mylib__other="",
        mylib__math="",  # is in a package, so that `import math` is not it
        src__packed__init="from .deep import end",
        src__packed__deep__init="",
        src__packed__deep__end="from ..side import x\nfrom importlib import import_module\nimport_module('..side', __package__)",
        src__packed__side="",
        tools__run="",
        gradverify__init="import mylib.low",
    )
    found = reach(made, "specs/a.py")
    assert found.files.keys() == {"specs/a.py"} | IMPORTS[text]
    assert found.untraced == ""


def test_a_circle_of_imports_ends(project):
    """Modules that import each other are all reached, once."""
    made = project(specs__a="import one", one="import two", two="import one")
    found = reach(made, "specs/a.py")
    assert found.files == {"specs/a.py": "specs/a.py", "one.py": "specs/a.py", "two.py": "one.py"}
    assert found.way("two.py") == ["two.py", "one.py", "specs/a.py"]


UNTRACED = {
    "import importlib\nfor m in names:\n    importlib.import_module(m)": "helper.py:3 imports by importlib.import_module",
    "from importlib import import_module\nmodules = map(import_module, names)": "helper.py:2 imports by importlib.import_module",
    "from importlib import import_module\nimport_module('.low', 'mylib')": "helper.py:2 imports by importlib.import_module",
    "import runpy\nrunpy.run_path('x.py')": "helper.py:2 imports by runpy.run_path",
    "exec(open('x.py').read())": "helper.py:1 imports by exec",
    "from importlib.util import spec_from_file_location as load\nload('x', path)": "helper.py:2 imports by importlib.util.spec_from_file_location",
    "def broken(:\n": "helper.py:1 cannot be parsed",
}  # fmt: skip


@pytest.mark.parametrize("text", UNTRACED)
def test_what_cannot_be_traced_is_told(project, text):
    """An import that no text names is told with its place, in whatever file it stands."""
    made = project(specs__a="import helper", helper=text)
    assert reach(made, "specs/a.py").untraced == UNTRACED[text]


def test_a_module_that_is_not_there_is_known_by_its_name(project):
    """A file that was deleted, or comes to stand before another one, is one of the names."""
    made = project(specs__a="import mylib.gone\nimport numpy", mylib__init="")
    names = reach(made, "specs/a.py").names
    for file, reached in {
        "mylib/gone.py": True, "src/mylib/gone.py": True, "mylib/gone/__init__.py": True,
        "numpy.py": True, "specs/numpy.py": True, "mylib/numpy.py": False, "gone.py": False,
    }.items():  # fmt: skip
        assert (not names.isdisjoint(made.names(file))) is reached, file


def test_a_file_that_changes_the_path_may_import_from_any_folder(project):
    """Where `sys.path` is mentioned, a module inside a package may be imported by its bare name."""
    made = project(specs__a="import sys\nsys.path.insert(0, 'mylib')\nimport low", mylib__init="")
    found = reach(made, "specs/a.py")
    assert found.anywhere
    assert "low" in found.names & set(made.names("mylib/low.py", anywhere=True))


def test_the_catalogue_is_reached_by_name_where_it_is_in_the_project():
    """In a project that holds the catalogue itself, `catalog("...")` reaches a spec's file."""
    folder = catalogue_folder()
    root = folder.parent
    files = python_files(root, [folder])
    made = Project(root, files, frozenset(files))
    found = reach(made, relative(folder / "multi_head_attention.py", root)).files
    assert {f.rpartition("/")[2] for f in found} == {
        "multi_head_attention.py", "attention.py", "linear.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("mylib/layers/norm.py", "mylib.layers.norm"),
        ("mylib/__init__.py", "mylib"),
        ("src/packed/deep/end.py", "packed.deep.end"),
        ("src/bare.py", "bare"),
        ("python/inner/__init__.py", "inner"),
        ("plain/file.py", "plain.file"),
        ("top.py", "top"),
    ],
)
def test_a_file_is_named_as_it_is_imported(project, file, module):
    """Messages name `module:name`, whatever the layout of the project."""
    made = project(
        mylib__init="", mylib__layers__init="", mylib__layers__norm="", src__packed__init="",
        src__packed__deep__init="", src__packed__deep__end="", src__bare="",
        python__inner__init="", plain__file="", top="",
    )  # fmt: skip
    assert made.module(file) == module


def test_environments_and_hidden_folders_are_no_part_of_a_project(tmp_path):
    """A virtual environment in the project's folder is not searched, whatever its name."""
    for file in ("env/lib/x.py", ".tox/y.py", "node_modules/z.py", "own/a.py", "b.py",
                 "build/lib/own/a.py", "own/build/c.py"):  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "env/pyvenv.cfg").touch()
    assert python_files(tmp_path, [tmp_path]) == ("b.py", "own/a.py", "own/build/c.py")
    assert python_files(tmp_path, [tmp_path / "b.py"]) == ("b.py",)
