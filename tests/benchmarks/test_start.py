"""What a person waits for: --help, an import, pytest with the plugin, and the whole catalogue."""

import json
import os
import subprocess
import sys
import time
from statistics import median

from gradverify.loading import catalogue_folder

RUNS = 15


def test_starting(show, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    pytest = ("-m", "pytest", "-q")
    commands = {
        "bare interpreter": (("-c", "pass"), 0),
        "import gradverify": (("-c", "import gradverify"), 0),
        "gradverify --help": (("-m", "gradverify", "--help"), 0),
        "empty pytest run": (pytest, 5),
        "the same with the plugin": ((*pytest, "-p", "gradverify.pytest_plugin"), 5),
    }
    found = {name: [] for name in commands}
    for _ in range(RUNS + 1):  # one after the other, so that a slow moment is slow for all
        for name, (command, code) in commands.items():
            found[name].append(run(tmp_path, command, code))
    baselines = {"import gradverify": "bare interpreter", "gradverify --help": "bare interpreter",
                 "the same with the plugin": "empty pytest run"}  # fmt: skip
    rows = []
    for name, times in found.items():
        base = found[baselines.get(name, name)]
        above = median(t - b for t, b in zip(times[1:], base[1:], strict=True))
        rows.append([name, f"{1e3 * median(times[1:]):.1f}",
                     f"{1e3 * above:+.1f}" if name in baselines else ""])  # fmt: skip
    show(
        f"Milliseconds from start to end of a process, and above its baseline; medians of {RUNS}:",
        [["command", "ms", "above"], *rows],
    )


def test_a_process_beside_pytest(show, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.gradverify]\nspecs = ["spec.py"]\n')
    spec = (catalogue_folder() / "relu.py").read_text("utf-8")
    (tmp_path / "spec.py").write_text(spec, "utf-8")
    pytest = ("-m", "pytest", "-q", "-p", "gradverify.pytest_plugin")
    one = (*pytest, "--gradverify-profile", "quick")
    commands = {
        "collected, in a process beside": (*pytest, "--collect-only"),
        "collected, in that of pytest": (*pytest, "--collect-only", "-s"),
        "verified, in a process beside": one,
        "verified, in that of pytest": (*one, "-s"),
    }
    found = {name: [] for name in commands}
    for _ in range(5):  # one after the other, so that a slow moment is slow for all
        for name, command in commands.items():
            found[name].append(run(tmp_path, command, 0))
    show(
        "What it costs that pytest verifies layers in a process of their own, which is kept: "
        "milliseconds of a run with one small layer, medians of 5:",
        [["run", "ms"], *([name, f"{1e3 * median(times):.0f}"] for name, times in found.items())],
    )


def run(folder, command, code):
    """Return the seconds of a Python process, which must end with that exit code."""
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip
    taken = time.perf_counter() - began
    assert done.returncode == code, done.stdout + done.stderr
    return taken


def test_the_catalogue(show, tmp_path):
    report = tmp_path / "report.json"
    files = map(str, catalogue_folder().glob("*.py"))
    command = ("-m", "gradverify", "verify", *files, "-j", "2", "--format", f"json:{report}")  # fmt: skip
    taken = run(tmp_path, command, 0)
    layers = json.loads(report.read_text("utf-8"))["layers"]
    assert {layer["verdict"] for layer in layers} == {"verified"}
    costs = {x["layer"].removeprefix("numpy_"): x["checks"] for x in layers}
    names = [check["check"] for check in layers[0]["checks"]]
    show(
        f"The catalogue at the default profile with -j 2: {taken:.1f} s from start to end, for "
        f"{len(layers)} layers; and the seconds in the checks of each:",
        [
            ["layer", "cases", *names],
            *([name, checks[0]["cases"], *(c["seconds"] for c in checks)]
              for name, checks in sorted(costs.items())),
            ["together", sum(checks[0]["cases"] for checks in costs.values()),
             *(sum(checks[k]["seconds"] for checks in costs.values())
               for k in range(len(names)))],
        ],
    )  # fmt: skip
