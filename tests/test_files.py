"""Files are replaced whole: a failure, however late, leaves what was there."""

import errno
import os
import resource
import stat
import threading
from contextlib import contextmanager

import pytest

from gradverify.files import check_writable, write_whole


@contextmanager
def full_disk(at):
    """No file of this process grows beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    """The new text takes the place of the old, in UTF-8, with lines as they are."""
    file = tmp_path / "r.json"
    for text in ("old", "new Σ\nhalf \ud800\n"):
        check_writable(file)
        write_whole(file, text)
    assert file.read_bytes() == "new Σ\nhalf \\ud800\n".encode()
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_full_disk_loses_no_earlier_file(tmp_path):
    """Where there is no room for the new text the old one is still there, and nothing else."""
    file = tmp_path / "r.json"
    write_whole(file, "old")
    with full_disk(64_000), pytest.raises(OSError, match="large") as error:
        write_whole(file, "x" * 1_000_000)
    assert error.value.errno == errno.EFBIG
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.json"]


def test_who_reads_meanwhile_never_finds_half(tmp_path):
    """A reader sees the old text or the new one, never a part."""
    file = tmp_path / "r.json"
    texts = ["a" * 300_000, "b" * 200_000]
    write_whole(file, texts[0])
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for k in range(30):
        write_whole(file, texts[k % 2])
    stop.set()
    reader.join()
    assert seen <= set(texts)


def test_permissions_and_links_stay(tmp_path):
    """A replaced file keeps its permissions, a new one gets those of any other, and a link keeps
    pointing where it does."""
    new, file, link = tmp_path / "new", tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    write_whole(link, "through")
    write_whole(new, "new")
    (tmp_path / "usual").touch()
    assert link.is_symlink()
    assert file.read_text() == "through"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert new.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_is_no_file_is_written_to():
    """A device stays one."""
    check_writable("/dev/null")
    write_whole("/dev/null", "gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_what_cannot_be_written_is_known_before(tmp_path):
    """A folder, and a file in a folder that is not there, are refused without a trace."""
    with pytest.raises(OSError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        check_writable(tmp_path / "no" / "r.json")
    (tmp_path / "old").write_text("old")
    check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    assert os.listdir(tmp_path) == ["old"]
