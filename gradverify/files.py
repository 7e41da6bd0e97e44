"""Files that are replaced whole: what is in one stays until all of the new text is on the disk."""

import contextlib
import os
import tempfile
from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise OSError where `write_whole` could not write a file, which it leaves as it is."""
    target = _target(path)
    if target.is_dir():
        raise IsADirectoryError(21, "it is a folder")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied")
    if _is_plain(target):
        file, name = _beside(target)
        os.close(file)
        os.unlink(name)


def write_whole(path: Path, text: str, *, errors: str = "backslashreplace") -> None:
    """Write a file in UTF-8 so that nobody ever finds half of it; OSError leaves it as it was.

    `errors` is what becomes of characters that UTF-8 does not have, as of `open`.
    """
    target = _target(path)
    if not _is_plain(target):  # a pipe or a device is written to, not replaced
        target.write_text(text, "utf-8", errors, "\n")
        return
    file, name = _beside(target)
    try:
        with open(file, "w", encoding="utf-8", errors=errors, newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(file)
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _target(path: Path) -> Path:
    """Return the file that is meant: a link keeps pointing where it does."""
    return Path(os.path.realpath(path))


def _is_plain(target: Path) -> bool:
    return target.is_file() or not target.exists()


def _beside(target: Path) -> tuple[int, str]:
    """Return a new file in the same folder, from where it can take the other's place."""
    return tempfile.mkstemp(prefix=f".{target.name[:32]}.", suffix=".part", dir=target.parent)


def _mode(target: Path) -> int:
    """Return the permissions of a file, or those that a new one would have."""
    with contextlib.suppress(OSError):
        return target.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
