"""What pytest collects: a spec file, its layers, and one item for each check of a layer."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradverify.checks.names import NAMES
from gradverify.errors import GradverifyError
from gradverify.outcome import Kind, outcome_of
from gradverify.survey import Found, died
from gradverify.workers import WorkerDied, WorkerTimeout

if TYPE_CHECKING:
    from gradverify.plugin.session import Verification
    from gradverify.result import Finding, LayerResult


class SpecFile(pytest.File):
    """A file that registers layers; it is executed to learn which."""

    def __init__(self, *, verification: "Verification", **node: Any) -> None:
        super().__init__(**node)
        self.verification = verification

    def collect(self) -> Iterator["LayerNode"]:
        """Yield the layers by name; a file that does not import is an error of this file alone."""
        self.add_marker("gradverify")
        page = self.verification.page
        try:
            found = self.verification.bench.look(self.path)
        except (GradverifyError, WorkerDied, WorkerTimeout) as error:
            told = str(error) if isinstance(error, GradverifyError) else died(self.path, error)
            raise self.CollectError(page.short(told)) from None
        if isinstance(found, str):
            pytest.skip(f"{page.short(str(self.path))}: {found}", allow_module_level=True)
        self.verification.seen[self.path.resolve()] = found
        for layer in found:
            yield LayerNode.from_parent(self, name=_printable(layer.layer), found=layer)


class LayerNode(pytest.Collector):
    """A layer; it is verified once, for all its checks that were selected."""

    parent: SpecFile

    def __init__(self, *, found: Found, **node: Any) -> None:
        super().__init__(**node)
        self.found = found

    def collect(self) -> Iterator["CheckItem"]:
        """Yield the checks by name."""
        for name in sorted(NAMES):
            yield CheckItem.from_parent(self, name=name)


class CheckItem(pytest.Item):
    """A check of a layer."""

    parent: LayerNode

    def __init__(self, **node: Any) -> None:
        super().__init__(**node)
        self.found, self.layer_id = self.parent.found, self.parent.nodeid
        self.verification = self.parent.parent.verification
        self.seconds = 0.0  # what the check itself took

    def listchain(self) -> list[Any]:
        """Return the collectors above it but packages, which have nothing to set up for it.

        To set one up is to import it, perhaps from another place than that of the file.
        """
        return [node for node in super().listchain() if not isinstance(node, pytest.Package)]

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the layer is written, and what pytest calls the check in a heading."""
        file, _, line = self.found.location.rpartition(":")
        known = bool(file) and line.isdigit()
        heading = f"{self.parent.name}::{self.name}"
        return Path(file) if known else self.path, int(line) - 1 if known else None, heading

    def runtest(self) -> None:
        """Pass, skip or fail as the check came out."""
        result = self._result()
        outcome = outcome_of(result, self.name)
        known = self.verification.known_of(self, result)
        warnings = [f for f in result.findings
                    if f.check == self.name and f.severity == "warning"]  # fmt: skip
        if warnings:
            self.add_report_section("call", "gradverify", self._shown(warnings))
        if known.reason:
            pytest.xfail(known.reason)
        if known.unmet or outcome.kind is Kind.FAILS:
            reason = known.unmet or outcome.reason
            findings = known.beside or outcome.findings
            if self.config.getoption("tbstyle") == "line":
                findings = ()
            pytest.fail(f"{reason}\n\n{self._shown(findings)}".rstrip(), pytrace=False)
        if outcome.kind is Kind.SKIPS:
            pytest.skip(f"{self.parent.name}: {outcome.reason}")

    def _result(self) -> "LayerResult":
        """Return the result of the layer, verified now unless a check of it has run before."""
        result, took = self.verification.result_of(self)
        checks = {c.check: c for c in result.checks}
        others = sum(c.seconds for c in result.checks if c.check != self.name)
        # What a layer takes besides its checks falls to the first: all add up to what it took.
        self.seconds = max(checks[self.name].seconds, took - others)
        self.user_properties += [
            ("layer", self.found.layer), ("check", self.name),
            ("status", str(checks[self.name].status)), ("cases", checks[self.name].cases),
        ]  # fmt: skip
        return result

    def _shown(self, findings: "Sequence[Finding]") -> str:
        from gradverify.report.finding import show  # rich is slow to import

        page = self.verification.page
        return "\n\n".join(show(self.found.layer, f, page).plain for f in findings)


class SettingsFile(pytest.File):
    """The file of the settings, collected where something in it cannot be right."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield nothing: what is wrong is known only when all else is collected."""
        yield from ()


class SettingsItem(pytest.Item):
    """An entry of the settings that cannot be right; it fails with the reason."""

    def __init__(self, *, wrong: str, **node: Any) -> None:
        super().__init__(**node)
        self.wrong = wrong
        self.add_marker("gradverify")

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the file, and what pytest calls the entry in a heading."""
        return self.path, None, self.nodeid

    def runtest(self) -> None:
        """Fail."""
        pytest.fail(self.wrong, pytrace=False)


def _printable(name: str) -> str:
    """Return a name on one line, without what could repaint a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def debugging(config: pytest.Config) -> bool:
    """Whether a person watches layers run, which they do in the process of pytest then."""
    return (
        any(config.getoption(option, False) for option in ("usepdb", "trace", "fulltrace"))
        or config.getoption("capture", None) == "no"
        or "pydevd" in sys.modules  # the debugger of an editor
    )
