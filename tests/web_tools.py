"""What tests need that pip does not bring: packages of npm, and a browser."""

import json
import shutil
from pathlib import Path

import pytest

MODULES = Path(__file__).parent / "web" / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def from_npm(file):
    """Return a file of a package of npm; the test is skipped where it is not installed."""
    path = MODULES / file
    if not path.exists():
        pytest.skip(f"{file} is not there: npm install --prefix tests/web")
    return path


def sarif_schema():
    return json.loads(
        from_npm("@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json").read_text("utf-8")
    )


def browser():
    """Return the path of a browser; the test is skipped where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    return found
