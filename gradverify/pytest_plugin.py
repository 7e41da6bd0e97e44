"""The pytest plugin: one item per layer and check, for the specs that pyproject.toml names.

Nothing heavy is imported until a spec file is collected. Under xdist, `--dist loadscope` keeps
the checks of a layer in one process, where they are made together.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradverify.errors import GradverifyError, UsageError

if TYPE_CHECKING:
    from gradverify.config import Config
    from gradverify.layer import Layer
    from gradverify.result import CheckResult, Finding, LayerResult

_SETTINGS = pytest.StashKey["Config"]()
_FILES = pytest.StashKey[frozenset[Path]]()  # the real paths of all configured spec files
_RESULTS = pytest.StashKey[dict[str, "LayerResult"]]()  # by the node id of the layer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run, which mean what they mean to `gradverify verify`."""
    group = parser.getgroup("gradverify", "verification of hand-written gradients")
    group.addoption("--gradverify-profile", metavar="NAME",
                    help="how many cases: quick, default, thorough or one of "
                    "pyproject.toml")  # fmt: skip
    group.addoption("--gradverify-seed", metavar="N", type=_seed,
                    help="draw other cases (default: 0)")  # fmt: skip


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and see to it that the configured specs are collected."""
    config.addinivalue_line("markers", "gradverify: a check of a hand-written gradient")
    try:
        settings = _settings(config)
        if settings is None:
            return
        from gradverify.project import module_files, named_files

        config.stash[_FILES] = frozenset(file.resolve() for file in named_files(settings))
        roots = [Path(os.path.normpath(config.rootpath / spec)) for spec in settings.specs]
        roots += module_files(settings)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[_SETTINGS] = settings
    # Who names no path wants everything; who stands in a folder of the project wants that folder.
    here = config.invocation_params.dir
    if config.args_source is not pytest.Config.ArgsSource.ARGS and here == config.rootpath:
        given = [Path(here, arg).resolve() for arg in config.args]
        for root in roots:
            if not any(root.resolve().is_relative_to(path) for path in given):
                config.args.append(str(root))


def _settings(config: pytest.Config) -> "Config | None":
    """Return the settings of the project, below the options of this run; None where they name
    nothing to verify. UsageError for what is wrong in them."""
    file = config.rootpath / "pyproject.toml"
    # This is all that it costs to have gradverify installed and not to use it.
    if not file.is_file() or b"gradverify" not in file.read_bytes():
        return None
    from gradverify.config import read_config

    options = {key: f"--gradverify-{key}" for key in ("profile", "seed")}
    given = {key: (option, config.getoption(option)) for key, option in options.items()}
    settings = read_config(config.rootpath).given(**given)
    if not (settings.specs or settings.modules):
        return None
    settings.chosen  # noqa: B018 (an error here is better than one for each layer)
    return settings


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what it takes to see the same cases again."""
    if (settings := config.stash.get(_SETTINGS, None)) is None:
        return None
    return f"gradverify: profile {settings.profile}, seed {settings.seed}"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "SpecFile | None":
    """Collect a file that is one of the configured specs."""
    if file_path.resolve() in parent.config.stash.get(_FILES, frozenset()):
        return SpecFile.from_parent(parent, path=file_path)
    return None


class SpecFile(pytest.File):
    """A spec file; it is executed to learn which layers it registers."""

    def collect(self) -> Iterator["LayerNode"]:
        """Yield the layers by name; a file that does not import is an error of this file alone."""
        from gradverify.loading import load
        from gradverify.report import Page

        self.add_marker("gradverify")
        try:
            layers = load(self.path)
        except GradverifyError as error:
            raise self.CollectError(Page().short(str(error))) from None
        for layer in layers:
            yield LayerNode.from_parent(self, name=layer.name, layer=layer)


class LayerNode(pytest.Collector):
    """A layer; it is verified once, for all its checks that were selected."""

    def __init__(self, *, layer: "Layer", **node: Any) -> None:
        super().__init__(**node)
        self.layer = layer

    def collect(self) -> Iterator["CheckItem"]:
        """Yield the checks by name."""
        from gradverify.checks.names import NAMES

        for name in sorted(NAMES):
            yield CheckItem.from_parent(self, name=name, layer=self.layer)


class CheckItem(pytest.Item):
    """A check of a layer."""

    def __init__(self, *, layer: "Layer", **node: Any) -> None:
        super().__init__(**node)
        self.layer, self._layer_id = layer, node["parent"].nodeid

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the layer is written, and what pytest calls the check in a heading."""
        file, _, line = self.layer.location.rpartition(":")
        heading = f"{self.layer.name}::{self.name}"
        return (Path(file), int(line) - 1, heading) if file else (self.path, None, heading)

    def runtest(self) -> None:
        """Pass, skip or fail as the check came out."""
        own = self.config.stash[_SETTINGS].of_layer(self.layer.name)
        if self.name in own.ignored:
            pytest.skip(f"{self.layer.name}: ignored: {own.ignored[self.name]}")
        result = self._verified()
        (check,) = (c for c in result.checks if c.check == self.name)
        told: dict[str, list[Finding]] = {"error": [], "warning": []}
        for finding in result.findings:
            if finding.check == self.name:
                told[finding.severity].append(finding)
        if told["warning"]:
            self.add_report_section("call", "gradverify", self._shown(told["warning"]))
        if self._nothing_to_ask(check):
            pytest.skip(f"{self.layer.name}: {check.reason}")
        if check.status != "passed" or told["error"]:
            status = "wrong" if told["error"] else check.status
            headline = f"{status}: {check.reason}"  # which pytest repeats in its summary
            pytest.fail(f"{headline}\n\n{self._shown(told['error'])}".rstrip(), pytrace=False)

    def _verified(self) -> "LayerResult":
        """Return the result of the layer, for all its checks that this process may have to run."""
        key, results = self._layer_id, self.session.stash.setdefault(_RESULTS, {})
        if key in results:
            return results[key]
        from gradverify.engine import verify

        items = (item for item in self.session.items if isinstance(item, CheckItem))
        checks = [item.name for item in items if item._layer_id == key]
        settings = self.config.stash[_SETTINGS]
        own = settings.of_layer(self.layer.name)
        checks = [name for name in checks if name not in own.ignored]
        try:
            report = verify(self.layer, checks=checks, profile=own.profile, seed=settings.seed)
            (results[key],) = report.layers
        except Exception as error:
            if self.config.getoption("fulltrace"):
                raise
            what = f"internal error: {type(error).__name__}: {error} (a defect of gradverify: "
        if key not in results:  # not told above, where pytest would show both exceptions
            pytest.fail(f"{what}please report it, with what --full-trace shows)", pytrace=False)
        return results[key]

    def _nothing_to_ask(self, check: "CheckResult") -> bool:
        from gradverify.checks.names import MAY_BE_UNAVAILABLE, NEED_DEFINITION

        if check.status == "unavailable":  # for any other reason than these it was required
            bare = self.layer.spec.program is None and check.check in NEED_DEFINITION
            return bare or check.check in MAY_BE_UNAVAILABLE
        return check.status == "not applicable"

    def _shown(self, findings: Sequence["Finding"]) -> str:
        from gradverify.report import Page
        from gradverify.report.finding import show

        return "\n\n".join(show(self.layer.name, f, Page()).plain for f in findings)
