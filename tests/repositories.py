"""Projects with a git history, made by tests."""

import os
import subprocess
from pathlib import Path
from textwrap import dedent

# Independent of the settings of whoever runs the tests.
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
}  # fmt: skip


class Repository:
    """A git repository in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**os.environ, **ENVIRONMENT},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def write(self, **files: str | None) -> None:
        """Write files, named with __ for a slash; None deletes one."""
        for name, text in files.items():
            path = self.path / name.replace("__", "/").replace("/init", "/__init__")
            path = path if path.suffix else path.with_suffix(".py")
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(dedent(text), "utf-8")

    def commit(self, **files: str | None) -> str:
        """Write files, commit all that has changed, and return the name of the commit."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        return self.git("rev-parse", "HEAD").strip()
