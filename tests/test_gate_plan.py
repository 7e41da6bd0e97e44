"""What a change reaches: read from git histories, and told with its reasons."""

import os

import pytest
from repositories import ENVIRONMENT, Repository

from gradverify.errors import UsageError
from gradverify.gate.changes import changes_since
from gradverify.gate.plan import narrowed
from gradverify.gate.sources import Project, python_files

RECORD = "gradverify-layers.txt"
SPECS = {
    "specs/alone.py": "from gradverify import Spec\n@s.register\ndef alone(x): ...\n",
    "specs/near.py": "from mylib.cells import step\n@s.register\ndef near(x): ...\n",
    "specs/far.py": "from mylib import outer\n@s.register\ndef far(x): ...\n",
}
KNOWN = frozenset({"specs/alone.py::alone", "specs/near.py::near", "specs/far.py::far"})
LIBRARY = {
    "mylib/__init__.py": "", "mylib/cells.py": "", "mylib/outer.py": "from . import cells\n",
    "tests/test_own.py": "", "README.md": "", RECORD: "", ".gitignore": "made.py\n*.log\n",
}  # fmt: skip
ALL = frozenset(SPECS)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    made = Repository(tmp_path / "project")
    put(made, **SPECS, **LIBRARY)
    made.commit()
    return made


def put(repository, **files):
    """Write or, with None, delete files."""
    for name, text in files.items():
        path = repository.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink() if text is None else path.write_text(text)


def plan(repository, since="HEAD", record=KNOWN):
    root = repository.path
    files = python_files(root, [root])
    project = Project(root, files, frozenset(f for f in files if f.startswith("specs/")))
    return narrowed(project, changes_since(root, since), {RECORD}, record)


CHANGES = {
    ("specs/alone.py", "changed"): {"specs/alone.py"},
    ("mylib/cells.py", "changed"): {"specs/near.py", "specs/far.py"},
    ("mylib/outer.py", "changed"): {"specs/far.py"},
    ("mylib/__init__.py", "changed"): {"specs/near.py", "specs/far.py"},
    ("mylib/cells.py", None): {"specs/near.py", "specs/far.py"},
    ("specs/alone.py", None): set(),
    ("tests/test_own.py", "changed"): set(),
    ("mylib/added.py", "new"): set(),
    ("specs/added.py", "new"): {"specs/added.py"},
    ("src/mylib/cells.py", "may stand before the other"): {"specs/near.py", "specs/far.py"},
    (RECORD, "changed"): set(),
    ("ignored.log", "changed"): set(),
    ("README.md", "changed"): ALL,
    ("data.npz", "new"): ALL,
    ("tests/conftest.py", "new"): ALL,
    ("setup.py", "new"): ALL,
}


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "dirty"])
@pytest.mark.parametrize(("file", "text"), CHANGES)
def test_what_a_change_reaches(repository, file, text, committed):
    """Changed, new and deleted files reach the spec files that import them, those that are not
    committed like the others; what cannot be traced reaches all."""
    put(repository, **{file: text and f"# {text}\n"})
    since = "HEAD"
    if committed:
        repository.commit()
        since = "HEAD~1"
    assert plan(repository, since).whole == CHANGES[file, text]


def test_nothing_changed(repository):
    """Without a change nothing is chosen, and the reason says that nothing changed."""
    made = plan(repository)
    assert (made.whole, made.new_only) == (frozenset(), frozenset())
    assert made.notes == ("nothing was verified: nothing changed since HEAD",)


def test_a_change_that_reaches_nothing_is_named(repository):
    """What changed and reaches no layer is told."""
    put(repository, **{"tests/test_own.py": "# changed"})
    assert plan(repository).notes == (
        "nothing was verified: no layer reaches what changed since HEAD (tests/test_own.py)",
    )


def test_the_reasons_are_told(repository):
    """Each spec file is told with the change that reaches it, and by which way."""
    put(repository, **{"mylib/cells.py": "# changed", "specs/alone.py": "# changed"})
    assert plan(repository).notes == (
        "2 files changed since HEAD: 3 of 3 spec files to judge",
        "  specs/alone.py: changed",
        "  specs/far.py: reaches mylib/cells.py through mylib/outer.py, which changed",
        "  specs/near.py: reaches mylib/cells.py, which changed",
    )
    put(repository, **{"README.md": "changed"})
    assert plan(repository).notes == (
        "3 files changed since HEAD: all 3 spec files to judge, since README.md changed, which is not "
        "Python",
    )


def test_many_reasons_are_summarised(repository):
    """A helper of many spec files is one line."""
    put(repository, **{f"specs/s{k:02}.py": "import mylib.cells" for k in range(12)})
    repository.commit()
    put(repository, **{"mylib/cells.py": "# changed"})
    head, *lines = plan(repository).notes
    assert head == "1 file changed since HEAD: 14 of 15 spec files to judge"
    assert lines == [
        "  13 spec files: reaches mylib/cells.py, which changed",
        "  1 spec file: reaches mylib/cells.py through mylib/outer.py, which changed",
    ]


def test_a_renamed_helper_reaches_under_both_names(repository):
    """Renaming a file changes the old name and the new one."""
    repository.git("mv", "mylib/cells.py", "mylib/renamed.py")
    assert plan(repository).whole == {"specs/near.py", "specs/far.py"}


def test_a_spec_that_cannot_be_traced_is_judged_after_any_change(repository):
    """A dynamic import may reach whatever changed, so that any change of Python reaches it; where
    nothing changed it is not judged."""
    put(repository, **{"mylib/cells.py": "import importlib\nimportlib.import_module(name)\n"})
    repository.commit()
    assert plan(repository).whole == frozenset()
    put(repository, **{"tests/test_own.py": "# changed"})
    made = plan(repository)
    assert made.whole == {"specs/near.py", "specs/far.py"}
    assert made.notes[1] == (
        "  specs/far.py: may reach any file: mylib/cells.py:2 imports by importlib.import_module"
    )


def test_a_file_that_git_ignores_may_have_changed(repository):
    """Nobody knows whether a generated file changed, so that what imports it is judged."""
    put(repository, **{"mylib/made.py": "", "mylib/outer.py": "from . import made\n"})
    put(repository, **{".gitignore": "made.py\n_version.py\n", "mylib/_version.py": ""})
    put(repository, **{"mylib/cells.py": "from ._version import version\n"})
    repository.commit()
    made = plan(repository)
    assert made.whole == {"specs/far.py"}
    assert made.notes[1] == (
        "  specs/far.py: reaches mylib/made.py, of which git does not tell whether it changed"
    )


def test_a_layer_that_is_not_in_the_record_is_chosen_without_a_change(repository):
    """What is new is judged whatever changed; the file need not be run to know its layers."""
    made = plan(repository, record=KNOWN - {"specs/far.py::far"})
    assert (made.whole, made.new_only) == (frozenset(), {"specs/far.py"})
    assert made.notes[1] == "  specs/far.py: may register a layer that is not in the record"
    assert plan(repository, record=None).new_only == frozenset()


def test_only_what_the_branch_changed_counts(repository):
    """What the other branch changed meanwhile is not a change of this one."""
    repository.git("branch", "other")
    put(repository, **{"specs/alone.py": "# changed"})
    repository.commit()
    repository.git("checkout", "--quiet", "other")
    put(repository, **{"specs/near.py": "# changed"})
    repository.commit()
    assert plan(repository, "main").whole == {"specs/near.py"}


def test_a_project_below_the_top_of_its_repository(tmp_path, repository, monkeypatch):
    """In a repository of several projects, paths are those of the project, and what changes
    beside it may be installed from there: it cannot be traced."""
    top = Repository(tmp_path / "top")
    (top.path / "inner").mkdir()
    for name in os.listdir(repository.path):
        if name != ".git":
            os.rename(repository.path / name, top.path / "inner" / name)
    top.commit(beside="")
    inner = Repository.__new__(Repository)
    inner.path = top.path / "inner"
    put(inner, **{"specs/alone.py": "# changed"})
    assert plan(inner).whole == {"specs/alone.py"}
    monkeypatch.setenv("GIT_DIR", str(top.path / ".git"))  # as a hook may have it
    assert plan(inner).whole == {"specs/alone.py"}
    monkeypatch.delenv("GIT_DIR")
    top.write(beside="# changed")
    assert plan(inner).notes[0].endswith("../beside.py changed, which is outside the project")


def test_a_base_that_cannot_be_resolved(repository, tmp_path, monkeypatch):
    """Without the base nothing is compared: what is missing is told, with what to do."""

    def told(root, since):
        with pytest.raises(UsageError) as error:
            changes_since(root, since)
        return str(error.value)

    assert told(repository.path, "mian") == (
        "--since mian: it names no commit here; did you mean 'main'?"
    )
    for hostile in ("--output=x", "", "HEAD:README.md", "a b", "\n"):
        assert "it names no commit here" in told(repository.path, hostile), hostile
    repository.git("checkout", "--quiet", "--orphan", "unrelated")
    put(repository, **{"README.md": "another"})
    repository.commit()
    assert "it and HEAD have no commit in common" in told(repository.path, "main")

    put(repository, **{"README.md": "more"})
    repository.commit()
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", repository.path.as_uri(), str(clone))
    assert told(clone, "HEAD~1") == (
        "--since HEAD~1: it names no commit here, in a shallow clone; fetch the whole history: "
        "`fetch-depth: 0` for actions/checkout, or `git fetch --unshallow`"
    )
    changes_since(clone, "HEAD")  # which is there

    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "not a git repository" in told(outside, "HEAD")
    assert "leave --since out to verify every layer" in told(outside, "HEAD")
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in told(repository.path, "HEAD")


def test_a_shallow_clone_in_which_the_branches_do_not_meet(repository, tmp_path):
    """Both ends may be there and the commit where they part not: that is told as shallow too."""
    repository.git("branch", "other")
    put(repository, **{"specs/alone.py": "# changed"})
    repository.commit()
    repository.git("checkout", "--quiet", "other")
    put(repository, **{"specs/near.py": "# changed"})
    repository.commit()
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", "--no-single-branch",
                   repository.path.as_uri(), str(clone))  # fmt: skip
    with pytest.raises(UsageError, match="have in common, in a shallow clone; fetch the whole"):
        changes_since(clone, "origin/main")
