"""Which files of a project have changed since a commit, as git tells it."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gradverify.errors import UsageError, nearest
from gradverify.gate.sources import relative


@dataclass(frozen=True)
class Changes:
    """The files that differ from a commit in the working tree: committed since, not yet committed,
    not yet added, and deleted; relative to the project. A renamed file is two.

    `seen` are the files whose changes git sees, which it does not of those that it ignores.
    """

    since: str
    files: tuple[str, ...]
    seen: frozenset[str]


def changes_since(root: Path, ref: str) -> Changes:
    """Return what has changed since the newest commit that `ref` and HEAD have in common.

    UsageError, with the remedy, where there is no git, no repository or no such commit.
    """
    git = _Git(root, ref)
    top = Path(os.fsdecode(git.ask("rev-parse", "--show-toplevel").removesuffix(b"\n")))
    commit = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}",
                     failing=git.unresolved)  # fmt: skip
    base = git.ask("merge-base", _line(commit), "HEAD", failing=git.unrelated)
    # Without renames, both names are told; --ignore-submodules=none: the user's settings might.
    diff = git.ask("diff", "--name-only", "--no-renames", "--no-ext-diff", "-z",
                   "--ignore-submodules=none", _line(base), "--")  # fmt: skip
    # Seen from the top, since git lists what is not tracked below the current folder only.
    others = git.ask("ls-files", "--others", "--exclude-standard", "-z", folder=top)
    tracked = git.ask("ls-files", "-z", folder=top)
    changed, seen = (
        {relative(top / os.fsdecode(name), root) for name in listed.split(b"\0") if name}
        for listed in (diff + others, tracked + others)
    )
    return Changes(ref, tuple(sorted(changed)), frozenset(seen | changed))


@dataclass(frozen=True)
class _Git:
    root: Path
    ref: str

    def ask(self, *arguments: str, folder: Path | None = None, failing: object = None) -> bytes:
        """Return what git prints; where it fails, call `failing` or tell what it complains of."""
        command = ["git", "-C", str(folder or self.root), *arguments]
        environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
        if "GIT_WORK_TREE" not in environment:
            # Hooks in a linked worktree have it, and then each folder passes for the top.
            environment.pop("GIT_DIR", None)
        try:
            done = subprocess.run(command, capture_output=True, check=False, env=environment)
        except FileNotFoundError:
            self.fail("git is not installed")
        if done.returncode == 0:
            return done.stdout
        if callable(failing):
            failing()
        self.fail(" ".join(os.fsdecode(done.stderr).split()) or f"git {arguments[0]} failed")

    def fail(self, what: str, remedy: str = "leave --since out to verify every layer") -> NoReturn:
        raise UsageError(f"--since {self.ref}: {what}; {remedy}")

    def unresolved(self) -> NoReturn:
        """Tell that there is no such commit, and what to do."""
        self.shallow("it names no commit here")
        listed = self.ask("for-each-ref", "--format=%(refname:short)")
        self.fail("it names no commit here", nearest(self.ref, ["HEAD", *_lines(listed)]))

    def unrelated(self) -> NoReturn:
        """Tell that nothing can be compared with."""
        self.shallow("no commit is known that it and HEAD have in common")
        self.fail("it and HEAD have no commit in common")

    def shallow(self, what: str) -> None:
        """Fail with the remedy where history is missing."""
        if _line(self.ask("rev-parse", "--is-shallow-repository")) == "true":
            self.fail(f"{what}, in a shallow clone",
                      "fetch the whole history: `fetch-depth: 0` for actions/checkout, or "
                      "`git fetch --unshallow`")  # fmt: skip


def _line(output: bytes) -> str:
    return os.fsdecode(output).strip()


def _lines(output: bytes) -> Sequence[str]:
    return os.fsdecode(output).splitlines()
