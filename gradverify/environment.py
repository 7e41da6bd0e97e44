"""When, where and with what a run was made."""

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

# What layers are written with, or what judges them; only what is installed is told.
PACKAGES = ("numpy", "sympy", "mpmath", "hypothesis", "scipy", "torch", "jax", "autograd")


def environment() -> dict[str, str]:
    """Return the date, the Python, the machine, and the versions of what was used."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, **_versions()}


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    found = {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": str(os.cpu_count() or 1),
    }
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def project_root(folder: Path) -> Path:
    """Return the nearest folder, from this one upwards, that is a repository, else this one."""
    found = next((f for f in (folder, *folder.parents) if (f / ".git").exists()), None)
    return found or folder
