"""What a gate judges and why: the spec files that a change reaches, and those with new layers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gradverify.errors import few
from gradverify.gate.changes import Changes
from gradverify.gate.definitions import layer_names
from gradverify.gate.reach import reach
from gradverify.gate.record import key
from gradverify.gate.sources import Project

# Python files that act without being imported by name.
_ACTING = {"conftest.py", "setup.py", "sitecustomize.py", "usercustomize.py"}
# Written at every build by setuptools-scm or hatch-vcs, and ignored by git: it holds no formula.
_STAMP = "_version.py"
_SHOWN = 10  # spec files that are told one by one


@dataclass(frozen=True)
class Plan:
    """The spec files to judge: `whole` ones, and those of which only new layers are judged.

    `notes` say what was chosen and why, or why nothing was.
    """

    whole: frozenset[str]
    new_only: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def narrowed(
    project: Project,
    changes: Changes,
    exempt: AbstractSet[str],
    record: AbstractSet[str] | None,
) -> Plan:
    """Return the plan to judge what changes reach, and layers that are not in the record.

    `exempt` are files that say nothing about layers: the record, and what the run itself writes.
    """
    specs = sorted(project.specs)
    changed = [file for file in changes.files if file not in exempt]
    files = _many(len(changed), "file") if changed else "nothing"
    told = f"{files} changed since {changes.since}"
    everything = next(filter(None, (_concerns_all(project, file) for file in changed)), "")
    if everything:
        note = f"{told}: all {_many(len(specs), 'spec file')} to judge, since {everything}"
        return Plan(frozenset(specs), notes=(note,))
    why = {spec: _reason(project, spec, changes, changed) for spec in specs}
    whole = frozenset(spec for spec in specs if why[spec])
    new_only = frozenset(
        spec for spec in specs
        if spec not in whole and record is not None and _may_be_new(project, spec, record)
    )  # fmt: skip
    why |= dict.fromkeys(new_only, "may register a layer that is not in the record")
    if not whole and not new_only:
        reason = told if not changed else (
            f"no layer reaches what changed since {changes.since} ({few(changed, 3)})"
        )  # fmt: skip
        return Plan(whole, new_only, (f"nothing was verified: {reason}",))
    chosen = {spec: reason for spec, reason in why.items() if reason}
    note = f"{told}: {len(chosen)} of {_many(len(specs), 'spec file')} to judge"
    return Plan(whole, new_only, (note, *_listed(chosen)))


def _concerns_all(project: Project, file: str) -> str:
    """Return why a change of a file concerns all layers, "" where it need not."""
    name = PurePosixPath(file).name
    if file.startswith("../"):
        return f"{file} changed, which is outside the project"
    if not file.endswith(".py"):
        return f"{file} changed, which is not Python"
    if name in _ACTING:
        return f"{file} changed, which acts without being imported"
    if (project.root / file).resolve().is_relative_to(Path(__file__).resolve().parents[1]):
        return f"{file} changed, which is gradverify itself"
    return ""


def _reason(project: Project, spec: str, changes: Changes, changed: Sequence[str]) -> str:
    """Return why a spec file has to be judged, "" where nothing it executes has changed."""
    if spec in changed:
        return "changed"
    reached = reach(project, spec)
    for file in changed:
        names = project.names(file, anywhere=reached.anywhere)
        if file in reached.files or not reached.names.isdisjoint(names):
            way = reached.way(file)[1:-1] if file in reached.files else []
            through = f" through {few(way[::-1], 3)}" if way else ""
            return f"reaches {file}{through}, which changed"
    if changed and reached.untraced:
        return f"may reach any file: {reached.untraced}"
    for file in sorted(reached.files):
        if file not in changes.seen and PurePosixPath(file).name != _STAMP:
            return f"reaches {file}, of which git does not tell whether it changed"
    return ""


def _may_be_new(project: Project, spec: str, record: AbstractSet[str]) -> bool:
    names = layer_names(project.source(spec))
    return names is None or any(key(spec, name) not in record for name in names)


def _listed(reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each spec file, or for each reason where that would be many."""
    if len(reasons) <= _SHOWN:
        return [f"  {spec}: {reason}" for spec, reason in reasons.items()]
    counts = Counter(reasons.values()).most_common()
    lines = [f"  {_many(count, 'spec file')}: {reason}" for reason, count in counts]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"  and {_many(more, 'reason')} more"] if more > 0 else [])


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
