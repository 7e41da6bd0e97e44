"""What is not used is not imported: not by `import gradverify`, by --help, nor by pytest."""

import os
import subprocess
import sys

import pytest

HEAVY = {"hypothesis", "numpy", "sympy"}


def imported(folder, *command):
    """Return the top-level modules that Python imports when it runs a command in a folder."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=folder,
        # Other people's pytest plugins may import what they like.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [x for x in run.stderr.splitlines() if x.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    assert "encodings" in names, f"it could not be told what is imported:\n{run.stderr}"
    assert run.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED), run.stderr
    return {name.partition(".")[0] for name in names}


def test_importing_gradverify_imports_nothing_heavy(tmp_path):
    """`import gradverify` leaves NumPy, sympy, Hypothesis, pytest and rich alone."""
    found = imported(tmp_path, "-c", "import gradverify")
    assert "gradverify" in found
    assert found.isdisjoint({*HEAVY, "pytest", "rich"})


def test_this_test_can_fail_for_the_import(tmp_path):
    """What a use of gradverify imports is seen, so that the test above can fail."""
    used = "import gradverify; gradverify.verify; import pytest, rich"
    assert imported(tmp_path, "-c", used) >= {"numpy", "sympy", "pytest", "rich"}


def test_help_imports_nothing_heavy(tmp_path):
    """`gradverify --help` parses its arguments without what verifying needs."""
    found = imported(tmp_path, "-m", "gradverify", "--help")
    assert "argparse" in found
    assert found.isdisjoint({*HEAVY, "pytest", "rich"})


def test_this_test_can_fail_for_the_command_line(tmp_path):
    """What a command imports is seen, so that the test above can fail."""
    found = imported(tmp_path, "-m", "gradverify", "derive", "relu", "--emit", "numpy")
    assert found >= {"numpy", "sympy"}


# Without capture, or else what is imported later than the plugins would not be seen.
PLUGIN = ("-m", "pytest", "--capture=no", "-p", "gradverify.pytest_plugin")


def test_an_empty_run_of_pytest_imports_nothing_heavy(tmp_path):
    """With the plugin and nothing to verify, pytest pays for no import but gradverify's."""
    found = imported(tmp_path, *PLUGIN)
    assert "pytest" in found
    assert found.isdisjoint(HEAVY)


def test_a_project_that_has_other_settings_imports_nothing_heavy(tmp_path):
    """A pyproject.toml without a table of ours costs no import either."""
    (tmp_path / "pyproject.toml").write_text('[tool.other]\nspecs = ["specs"]\n')
    assert imported(tmp_path, *PLUGIN).isdisjoint({*HEAVY, "rich"})


@pytest.mark.parametrize("when", ["load", "collect"])
def test_this_test_can_fail_for_pytest(tmp_path, when):
    """What a plugin imports is seen, at its loading and at collection."""
    imports = "import hypothesis, numpy, sympy"
    texts = {"load": imports, "collect": f"def pytest_collection():\n    {imports}\n"}
    (tmp_path / "heavy.py").write_text(texts[when])
    assert imported(tmp_path, *PLUGIN, "-p", "heavy") >= HEAVY


def test_this_test_sees_what_a_configured_spec_imports(tmp_path):
    """A spec file that is configured is loaded, and what it imports is seen."""
    (tmp_path / "pyproject.toml").write_text('[tool.gradverify]\nspecs = ["spec.py"]\n')
    (tmp_path / "spec.py").write_text("import numpy\n")
    assert "numpy" in imported(tmp_path, *PLUGIN)


def test_the_plugin_reads_settings_only_where_there_are_some(tmp_path):
    """What reads the settings takes milliseconds to import, and is not imported without them."""
    names = "{'gradverify.config', 'gradverify.project'} & {*sys.modules}"
    (tmp_path / "seen.py").write_text(
        f"import sys\ndef pytest_sessionfinish():\n    print('seen', *sorted({names}))\n"
    )
    run = [sys.executable, *PLUGIN, "-p", "seen"]

    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}

    def seen():
        done = subprocess.run(
            run, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return [line for line in done.stdout.splitlines() if line.startswith("seen")]

    assert seen() == ["seen"]
    (tmp_path / "pyproject.toml").write_text('[tool.gradverify]\nspecs = ["spec.py"]\n')
    (tmp_path / "spec.py").write_text("")
    assert seen() == ["seen gradverify.config gradverify.project"]
