"""A run of pytest in a project that uses gradverify: the hooks that collect, verify and tell."""

import os
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gradverify.checks.names import NAMES
from gradverify.config import DEFAULT, require_known
from gradverify.declare import DTYPES
from gradverify.errors import UsageError
from gradverify.plugin.bench import Bench, Shared
from gradverify.plugin.known import Known, impossible, known_of
from gradverify.plugin.nodes import CheckItem, SettingsFile, SettingsItem, SpecFile, debugging
from gradverify.plugin.settings import checks_of, settings_of
from gradverify.project import module_files, named_files
from gradverify.report import Page
from gradverify.result import LayerResult
from gradverify.survey import Found, job_for

# What a worker of xdist is told by its controller, and under which key the plan of a run is kept.
_FOLDER, _PLAN = "gradverify_folder", "plan"


@dataclass
class Plan:
    """Which checks of which layers, by node id, are asked in a run, and which were deselected."""

    asked: dict[str, list[str]] = field(default_factory=dict)
    deselected: dict[str, list[str]] = field(default_factory=dict)


class Verification:
    """The hooks of a run; registered only where a project uses gradverify.

    Raises UsageError where the settings cannot be meant.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.settings = config, settings_of(config)
        require_known(self.settings, NAMES, DTYPES)
        self.selected = checks_of(config, "--gradverify-select")
        ignored = checks_of(config, "--gradverify-ignore")
        self.checks = [n for n in self.selected or NAMES if n not in ignored]
        if not self.checks:
            raise UsageError("--gradverify-ignore leaves no check of those selected")
        width = min(shutil.get_terminal_size().columns, 100)
        self.page = Page(folder=str(config.invocation_params.dir), width=width)
        self.plan = Plan()
        self.seen: dict[Path, tuple[Found, ...]] = {}  # by the real path of the file
        self.files: dict[Path, Path] = {}  # real path -> the path under which it is collected
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        given = getattr(config, "workerinput", {}).get(_FOLDER)
        self.shared = Shared(Path(given)) if given and Path(given).is_dir() else None
        self.bench = Bench(
            here=debugging(config), timeout=self.settings.timeout, shared=self.shared
        )
        self._configure_files()

    def _configure_files(self) -> None:
        """Find the files that are configured, and have pytest collect them where no path is given.

        Who stands in a folder of the project wants that folder, as ever.
        """
        settings, config = self.settings, self.config
        # Free of links, while node ids are relative to rootdir as pytest has it.
        root = settings.root if config.rootpath.resolve() != settings.root else config.rootpath
        for file in named_files(settings):
            shown = Path(os.path.normpath(root / os.path.relpath(file, settings.root)))
            self.files.setdefault(file.resolve(), shown)
        named = config.args_source is pytest.Config.ArgsSource.ARGS
        if named or config.invocation_params.dir.resolve() != settings.root:
            return
        here = config.invocation_params.dir
        given = [Path(here, arg).resolve() for arg in config.args]
        ignored = [Path(here, path).resolve() for path in config.getoption("ignore") or ()]
        specs = [Path(os.path.normpath(root / spec)) for spec in settings.specs]
        for path in (*specs, *(self.files[file.resolve()] for file in module_files(settings))):
            if not any(path.resolve().is_relative_to(where) for where in (*given, *ignored)):
                config.args.append(str(path))

    # Collection

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SpecFile | None:
        """Collect a file that is configured; once, where several paths lead to it."""
        path = self.files.get(file_path.resolve())
        if path is None or (path != file_path and not parent.session.isinitpath(file_path)):
            return None
        return SpecFile.from_parent(parent, path=file_path, verification=self)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_pycollect_makemodule(self, module_path: Path) -> Generator[None, Any, None]:
        """Leave a spec file that is named alone where it does not look like a test module.

        pytest takes every file that is named for one, and would import it a second time.
        """
        outcome = yield
        patterns = self.config.getini("python_files")
        if module_path.resolve() in self.files and not any(map(module_path.match, patterns)):
            outcome.force_result(None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Leave out the checks that are not wanted, and add what is wrong with the settings."""
        left = [i for i in items if isinstance(i, CheckItem) and i.name not in self.checks]
        if left:
            self.config.hook.pytest_deselected(items=left)
            dropped = set(left)
            items[:] = [item for item in items if item not in dropped]
        layers = {f.layer for found in self.seen.values() for f in found}
        complete = self.seen.keys() >= self.files.keys()
        wrong = list(impossible(self.settings, layers, date.today(), complete=complete))
        if wrong and layers and self.settings.file is not None:
            file = SettingsFile.from_parent(session, path=self.settings.file)
            items += [SettingsItem.from_parent(file, name=name, wrong=what) for name, what in wrong]

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note which checks are not made, to say so."""
        for item in items:
            if isinstance(item, CheckItem):
                self.plan.deselected.setdefault(item.layer_id, []).append(item.name)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which checks are made: those of a layer are made together."""
        for item in session.items:
            if isinstance(item, CheckItem):
                self.plan.asked.setdefault(item.layer_id, []).append(item.name)
        if self.shared:
            self.shared.once(_PLAN, lambda: self.plan)

    # Verification

    def result_of(self, item: CheckItem) -> tuple[LayerResult, float]:
        """Return the result of an item's layer, and the seconds that it took here and now."""
        asked = [name for name in NAMES if name in self.plan.asked[item.layer_id]]
        job = job_for(item.found, self.settings, asked, self.selected)
        return self.bench.verified(item.layer_id, job)

    def known_of(self, item: CheckItem, result: LayerResult) -> Known:
        """Return what the settings know of a failure of an item."""
        if self.config.getoption("runxfail"):
            return Known()
        asked = self.plan.asked[item.layer_id]
        return known_of(self.settings, item.found.layer, result, item.name, asked, date.today())

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, None]:
        """Report what a check took, though all of a layer are made at once, and where it is."""
        outcome = yield
        if not isinstance(item, CheckItem) or call.when != "call":
            return
        report = outcome.get_result()
        report.duration = item.seconds
        path, line, _ = item.reportinfo()
        place = self.page.short(str(path)), (line or 0) + 1
        if report.skipped and isinstance(report.longrepr, tuple):
            report.longrepr = (str(path), place[1], report.longrepr[2])
        elif (crash := getattr(report.longrepr, "reprcrash", None)) is not None:
            crash.path, crash.lineno = place  # it is not here that anything went wrong

    # The processes of xdist

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give the workers a folder in which one leaves what another need not find out again."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="gradverify-")
            self.shared = Shared(Path(self._folder.name))
        node.workerinput[_FOLDER] = self._folder.name

    def pytest_unconfigure(self) -> None:
        """End what is still at work."""
        self.bench.close()
        if self._folder is not None:
            with suppress(OSError):  # a worker that was killed may still hold a file
                self._folder.cleanup()

    # What is told

    def pytest_report_header(self) -> str | None:
        """Say what it takes to see the same cases again."""
        if not self.files:
            return None
        told = []
        for key in ("profile", "seed"):
            origin = self.settings.origin.get(key, DEFAULT)
            where = "" if origin == DEFAULT else f" ({origin})"
            told.append(f"{key} {getattr(self.settings, key)}{where}")
        return f"gradverify: {', '.join(told)}"

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Show the table of layers and checks, and what was not checked."""
        results, plan = dict(self.bench.results), self.plan
        if self.shared:
            kept = dict(self.shared.kept())
            plan = kept.pop(_PLAN, plan)
            results |= kept
        if results:
            from gradverify.plugin.summary import summarize  # rich is slow to import

            summarize(terminalreporter, results, plan, self.settings, self.page)
