"""A project of somebody else, for tests of the pytest plugin."""

import os
import xml.etree.ElementTree as ET

import pytest

from gradverify.checks.names import NAMES

CHECKS = sorted(NAMES)
ALL = len(CHECKS)

PYPROJECT = """\
[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = ["--strict-markers", "--strict-config"]
filterwarnings = ["error"]

[tool.gradverify]
specs = ["specs"]
"""

RIGHT = """\
from gradverify import Input, Output, Param, Spec

product = Spec("product", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")


@product.register
def right(x, w):
    return w * x, lambda dy: {"x": dy * w, "w": dy * x}
"""

WRONG = RIGHT.replace("def right", "def twice").replace("dy * w", "2 * dy * w")

# In place of the engine, so that a test does not wait for it; it writes down what it is asked.
STUB = """\
import os
import sys
import time
from contextvars import ContextVar
from types import ModuleType

from gradverify.result import CheckResult, Finding, LayerResult, Status, Verdict

OUTCOMES = {}
FINDINGS = []


def verify_layer(layer, profile, names, seed, **others):
    with open("asked.txt", "a") as file:
        print(layer.name, profile.name, seed, *names, file=file)
    if layer.name == "hangs":
        time.sleep(60)
    if layer.name == "dies":
        os.abort()
    if layer.name == "defect":
        raise NameError("oops")
    given = dict.fromkeys(names, (Status.PASSED, "", 7, 0.25)) | {
        c: o for c, o in OUTCOMES.items() if c in names
    }
    unasked = dict.fromkeys(CHECKS, (Status.SKIPPED, "not selected"))
    results = tuple(
        CheckResult(c, Status(s), *told) for c, (s, *told) in (unasked | given).items()
    )
    found = tuple(f for f in FINDINGS if f.check in names)
    failed = any(f.severity == "error" for f in found)
    verdict = Verdict.FAILED if failed else Verdict.VERIFIED if set(names) == set(CHECKS) else (
        Verdict.INCOMPLETE)
    return LayerResult("s", layer.name, f"{layer.file}:1", verdict, results, found)


CHECKS = ("contract", "forward", "symbolic", "finite_difference", "exact", "forward_mode",
          "second_order", "kinks", "buffers",
          "descent")
engine = ModuleType("gradverify.engine")
engine.verify_layer, engine.profile_of = verify_layer, lambda profile: profile
sys.modules["gradverify.engine"] = engine
trial = ModuleType("gradverify.trial")  # slow to import
trial.calling = ContextVar("calling")
sys.modules["gradverify.trial"] = trial
"""


def node_ids(file, layer, checks=CHECKS):
    """Return the ids of a layer's items, in order."""
    return [f"{file}::{layer}::{check}" for check in checks]


class Project:
    """A project of somebody else, in which pytest is run in a process of its own."""

    def __init__(self, pytester):
        self.pytester, self.path = pytester, pytester.path
        self.write("pyproject.toml", PYPROJECT)
        self.write("tests/test_own.py", "def test_own(): pass\n")
        self.write("specs/right.py", RIGHT)

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def configure(self, text):
        """Add lines to [tool.gradverify]."""
        self.write("pyproject.toml", PYPROJECT + text)

    def layer(self, name, file=None):
        """Add a spec file with a layer of that name, which a stub judges."""
        text = "import stub\n" + RIGHT.replace("def right", f"def {name}")
        self.write(file or f"specs/{name}.py", text)

    def stub(self, outcomes=None, *findings):
        """Let the engine find that, at once; the folder of a conftest can be imported from."""
        settings = f"OUTCOMES = {outcomes or {}}\nFINDINGS = [{', '.join(findings)}]"
        self.write("stub.py", STUB.replace("OUTCOMES = {}\nFINDINGS = []", settings))
        self.write("conftest.py", "")
        self.layer("right")

    def run(self, *args):
        return self.pytester.runpytest_subprocess("-p", "gradverify.pytest_plugin", *args)

    def ids(self, *args):
        result = self.run("--collect-only", "-q", *args)
        return [line for line in result.outlines if "::" in line and " " not in line]

    def asked(self):
        """Return what the stub was asked, in order of name."""
        file = self.path / "asked.txt"
        return sorted(file.read_text().splitlines()) if file.exists() else []

    def junit(self, file="out.xml"):
        """Return the test cases of a JUnit file by the last two parts of their names."""
        cases = ET.parse(self.path / file).getroot().iter("testcase")
        return {(c.get("classname").rpartition(".")[2], c.get("name")): c for c in cases}


@pytest.fixture
def project(pytester, monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("PYTEST_ADDOPTS", "PYTEST_XDIST", "GRADVERIFY_")):
            monkeypatch.delenv(name)
    # What else is installed does not matter; and the entry point may not be.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return Project(pytester)
