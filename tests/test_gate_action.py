"""The GitHub action and the pre-commit hook: what they run, and that no input becomes code."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gradverify.cli import main

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github/actions/gate"
BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="the action runs on bash")

# Shows what it is called with, a line an argument, NUL between calls.
SHOW = """#!/bin/sh
echo {name} >> "$CALLS"
for argument in "$@"; do printf '%s\\0' "$argument" >> "$CALLS"; done
"""
HOSTILE = [
    "main",
    "$(touch pwned)",
    "`touch pwned`",
    "x; touch pwned",
    "x && touch pwned #",
    "' ; touch pwned ; '",
    '" ; touch pwned ; "',
    "--write-record",
    "*",
    "a b\nc",
    "${IFS}",
    "\\",
]


@pytest.fixture
def act(tmp_path):
    """Returns what runs the action's script with inputs, and returns what it called."""
    commands, calls = tmp_path / "bin", tmp_path / "calls"
    commands.mkdir()
    for name in ("gradverify", "python"):
        (commands / name).write_text(SHOW.format(name=name))
        (commands / name).chmod(0o755)

    def run(since="", form="text", folder=".", installed=True):
        calls.write_text("")
        if not installed:
            (commands / "gradverify").unlink()
        work = tmp_path / "work"
        (work / "$(touch pwned) sub").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [BASH, str(ACTION / "gate.sh")],
            cwd=work,
            env={
                "PATH": f"{commands}{os.pathsep}{os.defpath}", "CALLS": str(calls),
                "GITHUB_ACTION_PATH": str(ACTION), "GATE_SINCE": since, "GATE_FORMAT": form,
                "GATE_FOLDER": folder,
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not list(tmp_path.rglob("pwned")), "an input was run"
        return done, calls.read_text()

    return run


@needs_bash
@pytest.mark.parametrize("text", HOSTILE)
def test_an_input_is_one_argument_whatever_it_holds(act, text):
    """What could be code in a shell reaches gradverify as it is, and nothing of it is run."""
    done, called = act(since=text, form=text, folder="$(touch pwned) sub")
    assert (done.returncode, done.stderr) == (0, "")
    assert called == f"gradverify\ngate\0--format={text}\0--since={text}\0"


@needs_bash
@pytest.mark.parametrize("since", ["", "0" * 40])
def test_without_a_base_all_layers_are_judged(act, since):
    """A push that has no commit before it, and an event without a base, narrow nothing."""
    assert act(since=since)[1] == "gradverify\ngate\0--format=text\0"


@needs_bash
def test_a_folder_that_is_not_there_fails(act):
    """A wrong folder ends the step before anything is judged."""
    done, called = act(folder="no/such")
    assert (done.returncode, called) == (1, "")


@needs_bash
def test_gradverify_comes_with_the_action_where_it_is_not_installed(act):
    """The checkout of the action is what is installed, so that both are of one version."""
    done, called = act(installed=False)
    assert done.returncode == 127  # what stands for python here installs nothing
    *command, folder, end = called.removeprefix("python\n").split("\0")
    assert (command, end) == (["-m", "pip", "install", "--quiet"], "")
    assert Path(folder).resolve() == ROOT


def test_no_expression_stands_in_a_script():
    """GitHub writes `${{ }}` into a script before the shell reads it: none may stand there."""
    text = (ACTION / "action.yml").read_text()
    (script,) = re.findall(r"^\s*- run: (.*)$", text, re.MULTILINE)
    assert script == """'"$GITHUB_ACTION_PATH/gate.sh"'"""
    assert "${{" not in (ACTION / "gate.sh").read_text()
    inputs = re.findall(r"^  ([a-z-]+):$", text.partition("runs:")[0], re.MULTILINE)
    passed = re.findall(r"^        GATE_[A-Z]+: \$\{\{ inputs\.([a-z-]+) \}\}$", text, re.MULTILINE)
    assert inputs == passed == ["since", "format", "working-directory"]
    assert set(re.findall(r"GATE_[A-Z]+", text)) == set(
        re.findall(r"GATE_[A-Z]+", (ACTION / "gate.sh").read_text())
    )
    assert os.access(ACTION / "gate.sh", os.X_OK)


def test_the_files_are_yaml():
    """Both files are what their readers take."""
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" for step in action["runs"]["steps"])
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language"} <= hook.keys()


def test_the_hook_calls_what_there_is(capsys):
    """The command of the pre-commit hook is one that gradverify has, with its options."""
    text = (ROOT / ".pre-commit-hooks.yaml").read_text()
    (entry,) = re.findall(r"^  entry: gradverify (.*)$", text, re.MULTILINE)
    command, option, _ = entry.split()
    assert main([command, "--help"]) == 0
    assert option in capsys.readouterr().out
