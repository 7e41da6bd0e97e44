"""The record of known layers: what is read, what is refused, and that nothing is ever lost."""

import multiprocessing
import os
import stat

import pytest

from gradverify.errors import UsageError
from gradverify.gate.record import check_writable, file_of, key, read, text_of, update

ENTRIES = frozenset({"specs/b.py::late", "specs/a.py::early", "specs/a.py::also"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gradverify-layers.txt"


def test_a_record_is_sorted_text_of_one_line_a_layer(path):
    """What a reviewer reads is a head that explains it, and the layers in order."""
    assert update(path, ENTRIES, frozenset())
    *head, one, two, three = path.read_text().splitlines()
    assert all(line.startswith("#") for line in head)
    assert head[0] == "# gradverify layers, format 1"
    assert [one, two, three] == ["specs/a.py::also", "specs/a.py::early", "specs/b.py::late"]
    assert read(path) == ENTRIES


def test_no_record_is_none(path):
    """That there is no record is something else than one without layers."""
    assert read(path) is None
    update(path, frozenset(), frozenset())
    assert read(path) == frozenset()


def test_entries_are_added_and_removed_and_the_rest_is_kept(path):
    """An update changes what it names, and says whether that changed anything."""
    update(path, ENTRIES, frozenset())
    assert update(path, {"c.py::new"}, {"specs/b.py::late", "never.py::there"})
    assert read(path) == ENTRIES - {"specs/b.py::late"} | {"c.py::new"}
    before = path.stat().st_mtime_ns
    assert not update(path, {"c.py::new"}, {"never.py::there"})
    assert path.stat().st_mtime_ns == before


def test_a_merge_of_two_branches_is_read(path):
    """Lines in any order, twice and between blank lines are what a merge by lines leaves."""
    update(path, ENTRIES, frozenset())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:]), "", lines[-1], ""]))
    assert read(path) == ENTRIES


@pytest.mark.parametrize(
    "layer",
    ["a\nb", "\\n", "\\u000a", "\x1b[31m", "a b ", "::", "a.py::b", "Σ\u2028", "\U0001f40d"],
)
def test_any_name_is_one_line(path, layer):
    """A name with line breaks, backslashes or control characters is one line, and comes back."""
    entry = key("#specs/a b.py", layer)
    update(path, {entry}, frozenset())
    assert len(path.read_text().splitlines()) == 4
    assert read(path) == {entry}
    assert file_of(entry) == "#specs/a b.py"


HEAD = "# gradverify layers, format 1\n"
CORRUPT = {
    "": "is no record of layers: it is empty",
    "specs/a.py::x\n": "it does not begin with '# gradverify layers, format 1'",
    "\x00\x01\x02": "it does not begin with",
    "# gradverify layers, format x\n": "it does not begin with",
    "# gradverify layers, format 2\nwhatever\n": "is of format 2, and this gradverify knows format 1",
    HEAD + "specs/a.py::x": "is truncated: its last line does not end",
    HEAD + "specs/a.py\n": ":2: 'specs/a.py' is not FILE.py::LAYER",
    HEAD + "a.py::x\n{}\n": ":3: '{}' is not FILE.py::LAYER",
    HEAD + "a.py::x\\q\n": ":2: 'a.py::x\\\\q' is not FILE.py::LAYER",
    HEAD + "<<<<<<< HEAD\na.py::x\n=======\n": ":2: an unresolved merge",
}


@pytest.mark.parametrize("text", CORRUPT)
def test_a_corrupt_record_is_told_and_left_as_it_is(path, text):
    """What cannot be read is one message with place and remedy, and is never overwritten."""
    path.write_text(text)
    with pytest.raises(UsageError) as told:
        read(path)
    assert CORRUPT[text] in str(told.value)
    assert "It was left as it is" in str(told.value)
    with pytest.raises(UsageError):
        update(path, ENTRIES, frozenset())
    assert path.read_text() == text
    assert os.listdir(path.parent) == [path.name]


def test_a_failure_to_write_leaves_the_old_record(path, monkeypatch):
    """A disk that is full when the new text is written loses nothing and leaves nothing."""
    update(path, ENTRIES, frozenset())

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot be written: No space left on device"):
        update(path, {"c.py::new"}, frozenset())
    assert read(path) == ENTRIES
    assert os.listdir(path.parent) == [path.name]


def test_an_unwritable_folder_is_known_before(path):
    """A record whose folder is not there is refused before anything is judged."""
    with pytest.raises(UsageError, match=r"no/such/record.txt cannot be written"):
        check_writable(path.parent / "no/such/record.txt")
    check_writable(path)


def test_the_rights_and_the_link_of_a_record_stay(path, tmp_path):
    """Replacing keeps who may read the file, and writes through a symbolic link."""
    real = tmp_path / "real.txt"
    update(real, ENTRIES, frozenset())
    assert stat.S_IMODE(real.stat().st_mode) == 0o666 & ~_umask()
    real.chmod(0o640)
    path.symlink_to(real)
    update(path, {"c.py::new"}, frozenset())
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "c.py::new" in read(real)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _add_many(path, start, who):
    start.wait()
    for k in range(20):
        update(path, {f"{who}.py::{k}"}, frozenset())


def test_two_runs_at_once_lose_nothing(path):
    """Two processes that write again and again at the same time keep all that either wrote."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    runs = [context.Process(target=_add_many, args=(path, start, who)) for who in "ab"]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert read(path) == {f"{who}.py::{k}" for who in "ab" for k in range(20)}
    assert os.listdir(path.parent) == [path.name]


def test_the_text_does_not_depend_on_the_order():
    """The same layers are the same bytes, so that a review shows what changed and no more."""
    assert text_of(ENTRIES) == text_of(frozenset(sorted(ENTRIES, reverse=True)))
