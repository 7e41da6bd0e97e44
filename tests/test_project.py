"""The files of a project: what specs and modules name, and modules that are imported by name."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from gradverify.config import read_config
from gradverify.errors import SpecError, UsageError
from gradverify.loading import load, loaded
from gradverify.project import module_files, module_of, named_files, spec_files, strays

LAYER = """\
from gradverify import Input, Output, Spec

same = Spec("same", x=Input("N"), y=Output("N"), definition="y[n] = x[n]")


@same.register
def {name}(x):
    return x.copy(), lambda dy: {{"x": dy.copy()}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return what writes files of a project, and leaves no module of it behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}

    def write(table, **files):
        (tmp_path / "pyproject.toml").write_text(f"[tool.gradverify]\n{table}\n")
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return read_config(tmp_path, {})

    yield write
    for name in {*sys.modules} - before:
        del sys.modules[name]


def names(paths, tmp_path):
    return [path.relative_to(tmp_path).as_posix() for path in paths]


def test_a_module_stands_for_its_file_and_a_package_for_all_of_its_modules(project, tmp_path):
    """They are found in src and in the root, src first; private modules belong, hidden files not."""
    (tmp_path / "src" / "lib" / "layers" / "inner").mkdir(parents=True)
    package = tmp_path / "src" / "lib" / "layers"
    for name in ("__init__.py", "a.py", "_b.py", "__main__.py", ".c.py", "inner/__init__.py"):
        (package / name).write_text("")
    config = project('modules = ["lib.layers", "plain"]', plain="", lib__layers__other="")
    assert names(module_files(config), tmp_path) == [
        "src/lib/layers/__init__.py", "src/lib/layers/_b.py", "src/lib/layers/a.py",
        "src/lib/layers/inner/__init__.py", "plain.py",
    ]  # fmt: skip
    assert module_of(package / "a.py") == ("lib.layers.a", tmp_path / "src")
    assert module_of(package / "inner" / "__init__.py") == ("lib.layers.inner", tmp_path / "src")
    assert module_of(tmp_path / "plain.py") == ("plain", tmp_path)
    assert module_of(tmp_path / "src" / "lib" / "layers2.py") is None


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('modules = ["lib.layer"]', "[tool.gradverify] modules: there is no module lib.layer in {}; did you mean 'lib.layers'?"),
        ('modules = ["nowhere.x"]', "there is no module nowhere.x in {}"),
        ('modules = ["lib/layers.py"]', "'lib/layers.py' is not the name of a module, such as mylib.layers"),
        ('specs = ["lip"]', "[tool.gradverify] specs: {}/lip does not exist; did you mean {}/lib?"),
        ('specs = ["empty"]', "[tool.gradverify] specs: there is no Python file in empty"),
    ],
)  # fmt: skip
def test_a_name_that_stands_for_nothing_is_told(project, tmp_path, table, told):
    """A module or a path that is not there is an error with the nearest name."""
    (tmp_path / "empty").mkdir()
    config = project(table, lib__layers="")
    with pytest.raises(UsageError) as caught:
        named_files(config)
    assert str(caught.value).endswith(told.replace("{}", str(tmp_path)))
    assert str(caught.value).startswith(str(tmp_path / "pyproject.toml"))


def test_a_link_out_of_the_project_is_loaded_only_where_it_is_named(project, tmp_path):
    """A folder is not searched beyond the project, but what is named counts."""
    outside = tmp_path.parent / f"{tmp_path.name}_outside.py"
    outside.write_text("")
    project("", specs__own="", lib__a="")
    link, inner = tmp_path / "specs" / "link.py", tmp_path / "specs" / "inner.py"
    link.symlink_to(outside)
    inner.symlink_to(tmp_path / "lib" / "a.py")
    own = tmp_path / "specs" / "own.py"
    assert spec_files([tmp_path / "specs"], tmp_path) == [inner, own]
    assert strays([tmp_path / "specs"], tmp_path) == [link]
    assert spec_files([tmp_path / "specs", link], tmp_path) == [inner, link, own]
    assert strays([tmp_path / "specs", link], tmp_path) == []
    assert spec_files([outside], tmp_path) == [outside]


def test_a_module_is_imported_by_its_name(project, tmp_path):
    """Its relative imports work, it is imported once, and its layers are registered once."""
    text = "from .inner import x\n" + LAYER.format(name="own")
    project('modules = ["gv_lib.layers"]', gv_lib__layers=text, gv_lib__inner="x = 1\n")
    path = tmp_path / "gv_lib" / "layers.py"
    (tmp_path / "gv_lib" / "__init__.py").write_text("")
    (first,) = load(path)
    (again,) = load(Path("gv_lib/layers.py"))
    import gv_lib.layers

    assert first.function is again.function is gv_lib.layers.own
    assert loaded(path) is gv_lib.layers
    assert (first.name, first.file) == ("own", str(path))


@pytest.mark.parametrize("place", ["gv_mine", "src__gv_mine"])
def test_a_spec_imports_the_project_that_it_is_in(project, tmp_path, place):
    """A project need not be installed, and stands behind what is, where specs are configured."""
    files = {f"{place}__layers": LAYER.format(name="own").partition("@")[0],
             "specs__own": "from gv_mine.layers import same\n"}  # fmt: skip
    project('specs = ["specs"]', **files)
    load(tmp_path / "specs" / "own.py")
    assert sys.path[-2:] == [str(tmp_path / "src"), str(tmp_path)]
    assert sys.path.index(str(tmp_path)) > sys.path.index(str(Path(pytest.__file__).parents[1]))


def test_a_module_that_is_executed_on_its_own_is_told_how_to_be_imported(project, tmp_path):
    """A relative import in a file that is not among the modules fails with the remedy."""
    project("", gv_lib__layers="from .inner import x\n")
    told = r"layers.py:1: does not import: ImportError: .* \(a module of a package is named in \["
    with pytest.raises(SpecError, match=told):
        load(tmp_path / "gv_lib" / "layers.py")


def test_what_goes_wrong_in_a_module_is_told_with_its_line(project, tmp_path):
    """An error, a module of the same name elsewhere, and a change after the import."""
    config = project(
        'modules = ["gv_bad", "gv_twin", "gv_new"]', gv_bad="x = 1\n1 / 0\n", gv_twin="", gv_new=""
    )
    bad, new, twin = sorted(module_files(config))
    with pytest.raises(SpecError, match=r"gv_bad.py:2: does not import: ZeroDivisionError"):
        load(bad)
    sys.modules["gv_twin"] = ModuleType("gv_twin")
    sys.modules["gv_twin"].__file__ = "/elsewhere/gv_twin.py"
    with pytest.raises(SpecError, match=r"is imported from /elsewhere/gv_twin.py instead"):
        load(twin)
    assert load(new) == ()
    new.write_text("x = 2\n")
    with pytest.raises(SpecError, match=r"gv_new.py changed after this process had imported it"):
        load(new)
