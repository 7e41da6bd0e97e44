"""A project of somebody else, from the wheel: pytest and the gate over a git history, as the README
tells it, and nothing of this repository in reach."""

import os
import site
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from repositories import ENVIRONMENT, Repository

ROOT = Path(__file__).parents[1]
PYPROJECT = """\
[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = ["--strict-markers", "--strict-config"]
filterwarnings = ["error"]

[tool.gradverify]
specs = ["specs"]
profile = "quick"

[tool.gradverify.gate]
paths = ["mylib"]
"""
SPEC = """\
from gradverify import Input, Output, Param, Spec
from mylib.ops import {function}

{name}_spec = Spec("{name}", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = {formula}")


@{name}_spec.register
def own_{name}(x, w):
    return {function}(x, w)
"""
OPS = """\
def product(x, w):
    return w * x, lambda dy: {"x": dy * w, "w": dy * x}


def total(x, w):
    return x + w, lambda dy: {"x": dy, "w": -dy}

"""
PAIR = """\
class Doubled:
    def forward(self, x, w):
        self.x, self.w = x, w
        return 2 * x * w

    def backward(self, dy):
        return {"x": 2 * dy * self.w, "w": 2 * dy * self.x}
"""


def run(*command, folder, **environment):
    """Run a command and return its exit code and all that it printed."""
    outside = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "GRADVERIFY"))
    }
    done = subprocess.run(
        command, cwd=folder, env={**outside, **ENVIRONMENT, "COLUMNS": "120", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def bin(tmp_path_factory):
    """The commands of an environment in which the wheel is installed, beside what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    # Where hatchling is here, building needs no network.
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    code, told = run(
        *pip,
        "wheel",
        "--quiet",
        "--no-deps",
        *isolation,
        "--wheel-dir",
        folder,
        ROOT,
        folder=folder,
    )
    assert code == 0, told
    (wheel,) = folder.glob("gradverify-*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    commands = environment / ("Scripts" if os.name == "nt" else "bin")
    python = commands / "python"
    code, told = run(
        *pip,
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        folder=folder,
    )
    assert code == 0, told
    # What it depends on comes from here; links to this repository among it are not followed.
    (packages,) = environment.rglob("site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    code, told = run(python, "-c", "import gradverify; print(gradverify.__file__)", folder=folder)
    assert Path(told.strip()).is_relative_to(environment), told
    # It brings the catalogue, and not the gallery, which needs packages that nobody has to have.
    catalogue = packages / "gradverify" / "_catalogue"
    assert {p.name for p in catalogue.iterdir() if p.is_dir()} <= {"__pycache__"}
    assert (catalogue / "batch_norm.py").is_file()
    return commands


def test_a_project_and_its_history(bin, tmp_path):
    """Plugin, `-n 2` and gate do what they promise, from the first layer on to a change of a helper
    that breaks it; a wrong layer and one that is left out are told, and a right one passes."""
    project = Repository(tmp_path / "project")
    path = project.path
    # What `pip install -e .` leaves of a project whose build needs no network.
    (packages,) = bin.parent.rglob("site-packages")
    (packages / "project.pth").write_text(f"{path}\n")
    (path / "tests").mkdir()
    (path / "tests/test_own.py").write_text("def test_own(): pass\n")
    (path / "pyproject.toml").write_text(PYPROJECT)
    (path / ".gitignore").write_text("__pycache__/\n")
    project.write(
        mylib__init="", mylib__ops=OPS, specs__product=SPEC.format(name="product", function="product", formula="w[n]*x[n]"),
    )  # fmt: skip

    def gate(*arguments):
        return run(bin / "gradverify", "gate", *arguments, folder=path)

    # The first layer: known to pytest and, once recorded, to the gate.
    code, told = run(
        bin / "python", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", folder=path
    )
    assert code == 0, told
    assert "7 passed, 4 skipped" in told
    code, told = gate("--write-record")
    assert code == 0, told
    assert "specs/product.py::own_product\n" in (path / "gradverify-layers.txt").read_text()
    project.commit()

    # A commit adds a wrong layer, and a class that looks like one and is registered nowhere.
    project.commit(
        specs__total=SPEC.format(name="total", function="total", formula="x[n] + w[n]"), mylib__pair=PAIR,
    )  # fmt: skip
    code, told = gate("--since", "HEAD~1")
    assert code == 1, told
    assert "FAILED own_total · symbolic · w" in told
    assert "\n    gradverify new mylib.pair:Doubled\n" in told
    assert "2 layers: 2 failed" in told

    # The next one takes the wrong layer back, and has a spec for the class.
    project.commit(
        specs__total=None,
        specs__doubled=SPEC.format(name="doubled", function="run", formula="2*w[n]*x[n]").replace(
            "from mylib.ops import run",
            "from mylib.pair import Doubled\n\n\ndef run(x, w):\n    layer = Doubled()\n    return layer.forward(x, w), layer.backward",
        ),
    )  # fmt: skip
    code, told = gate("--since", "HEAD~1", "--write-record")
    assert code == 0, told
    assert "1 layer: 1 verified" in told
    project.commit()

    # A helper changes, and breaks the layer that uses it and no other.
    project.commit(mylib__ops=OPS.replace('"w": dy * x', '"w": dy'))
    code, told = gate("--since", "HEAD~1")
    assert code == 1, told
    assert "1 of 2 spec files to judge\n  specs/product.py: reaches mylib/ops.py" in told
    assert "1 layer: 1 failed" in told

    project.git("revert", "--no-edit", "HEAD")
    code, told = gate("--since", "HEAD")
    assert (code, "nothing was verified: nothing changed since HEAD" in told) == (0, True), told
