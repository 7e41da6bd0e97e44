"""`gradverify gate`: what a merge has to pass: no layer that is wrong, new and lightly judged, or
left out."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify.commands.audit import MANY
from gradverify.commands.judge import (
    Judged,
    Survey,
    exit_code,
    judged,
    report_of,
    require_layers,
)
from gradverify.config import Config, require_known, require_matches
from gradverify.errors import UsageError, complain, few
from gradverify.options import (
    ALL_WELL,
    EXIT_CODES,
    Command,
    formats,
    sampling,
    settled,
    timing,
    verbosity,
)
from gradverify.survey import files_under, job_for

if TYPE_CHECKING:
    from gradverify.gate.plan import Plan
    from gradverify.gate.sources import Project
    from gradverify.jobs import Job
    from gradverify.report.deliver import View
    from gradverify.result import LayerResult
    from gradverify.workers import WorkerPool

_THOROUGH = "thorough"  # the profile of new layers


def add(command: Command) -> None:
    """Add the command and its options."""
    good = f"{ALL_WELL}, or --since left nothing to judge"
    made = command("gate", "judge what a merge has to pass, new layers most thoroughly",
                   EXIT_CODES.replace(ALL_WELL, good))  # fmt: skip
    made.set_defaults(run=run)
    made.add_argument("--since", metavar="REF",
                      help="judge, besides new layers, only those that a change since this commit "
                      "or branch reaches (default: all)")  # fmt: skip
    made.add_argument("--write-record", action="store_true",
                      help="add the layers that pass to the record of those that are not new, and "
                      "take out those that are gone")  # fmt: skip
    sampling(made)
    timing(made)
    formats(made)
    verbosity(made)


@dataclass(frozen=True)
class _Scope:
    """All that the gate looks at: spec files by their names in the project, each with the path
    that it is loaded by, and the entries of the record, None where there is none."""

    config: Config
    project: "Project"
    files: dict[str, str]
    record: frozenset[str] | None

    def entry(self, path: str, layer: str) -> str:
        """Return what stands for a layer in the record."""
        from gradverify.gate.record import key
        from gradverify.gate.sources import relative

        return key(relative(Path(path), self.config.root), layer)

    def is_new(self, path: str, layer: str) -> bool:
        """Whether a layer is not in the record."""
        return self.record is None or self.entry(path, layer) not in self.record

    def is_whole(self, survey: Survey) -> bool:
        """Whether all spec files were loaded, so that all layers are known."""
        return survey.loaded == set(self.files.values())


def run(options: argparse.Namespace) -> int:
    """Judge what has to be judged, and return the exit code.

    What an earlier run found says nothing: a layer is judged now, or not spoken of.
    """
    from gradverify.gate.record import check_writable, update
    from gradverify.report.deliver import deliver, views

    config = settled(options)
    wanted = views(options.format)
    scope = _scope(config)
    record = config.root / config.gate.record
    if options.write_record:
        check_writable(record)
    outside, notes, problems = _unregistered(scope)
    plan = _plan(scope, options.since, wanted)
    done = _judged(scope, plan, wanted) if plan.whole or plan.new_only else Judged()
    done, unmatched = _under_policy(done, scope) if done.jobs else (done, [])
    problems += unmatched
    gone = _gone(scope, done.survey)
    if not options.write_record:
        problems += [
            f"{config.gate.record} lists {entry}, which is registered no more: if that is meant, "
            "run `gradverify gate --write-record`"
            for entry in sorted(gone)
        ]
    notes = [*plan.notes, *_told_of_new(done, scope), *notes]
    report = report_of(done, config, outside=outside, problems=problems, notes=notes)
    deliver(report, wanted, verbose=options.verbose)
    if options.write_record and not done.interrupted:
        passed = {
            scope.entry(job.file, job.layer)
            for job, layer in zip(done.jobs, done.results, strict=True)
            if layer.passes
        }
        told = "written" if update(record, passed, gone) else "left as it was"
        complain(f"note: {config.gate.record} was {told}")
    # A change that reaches no layer must not be held up; the report says that nothing was verified.
    nothing = options.since is not None and not (report.layers or report.problems)
    return 0 if nothing and not report.interrupted else exit_code(report)


def _scope(config: Config) -> _Scope:
    """Return what there is."""
    from gradverify.gate import record
    from gradverify.gate.sources import Project, python_files, relative

    files = {relative(Path(path), config.root): path for path in files_under([], config)}
    known = sorted({*python_files(config.root, [config.root]), *files})
    project = Project(config.root, tuple(known), frozenset(files))
    return _Scope(config, project, files, record.read(config.root / config.gate.record))


def _unregistered(scope: _Scope) -> tuple[list["LayerResult"], list[str], list[str]]:
    """Return what looks like a layer and is not registered, with notes and problems."""
    from gradverify.gate.unregistered import find, result_of, stale

    config = scope.config
    if not config.gate.paths:
        return [], ["unregistered layers were not looked for: [tool.gradverify.gate] paths names "
                    "no folder"], []  # fmt: skip
    found = find(scope.project, config.gate)
    ignored = {u.name: u.reason for u in config.gate.unregistered}
    excused = [f"{c.name} ({ignored[c.name]})" for c in found if c.name in ignored]
    notes = [f"left unregistered on purpose: {few(excused, 5)}"] if excused else []
    outside = [result_of(c, config.root) for c in found if c.name not in ignored]
    return outside, notes, stale(ignored, [c.name for c in found])


def _plan(scope: _Scope, since: str | None, wanted: "Sequence[View]") -> "Plan":
    """Return which spec files are judged; UsageError where none registers a layer."""
    from gradverify.gate.changes import changes_since
    from gradverify.gate.definitions import layer_names
    from gradverify.gate.plan import Plan, narrowed
    from gradverify.gate.sources import relative

    if since is None:
        return Plan(frozenset(scope.files))
    if all(layer_names(scope.project.source(file)) == frozenset() for file in scope.files):
        raise UsageError(
            f"nothing matched: no layer is registered in {few(sorted(scope.files), 3)}"
        )
    root = scope.config.root
    own = {relative(file.absolute(), root) for _, file in wanted if file is not None}
    exempt = {*own, relative(root / scope.config.gate.record, root)}
    return narrowed(scope.project, changes_since(root, since), exempt, scope.record)


def _judged(scope: _Scope, plan: "Plan", wanted: "Sequence[View]") -> Judged:
    """Return what became of the layers that are chosen."""
    from gradverify.checks.names import NAMES
    from gradverify.declare import DTYPES
    from gradverify.gate.sources import relative
    from gradverify.report.deliver import evidence

    config, shown = scope.config, evidence(wanted)
    require_known(config, NAMES, DTYPES)
    # As an option would, it goes before the profile of an override.
    strict = config.given(profile=("gate", _THOROUGH))

    def prepared(survey: Survey, pool: "WorkerPool") -> list["Job"]:
        if scope.is_whole(survey):
            require_layers(survey, sorted(scope.files))
            require_matches(config, [f.layer for f in survey.found])
        jobs = []
        for f in survey.found:
            if scope.is_new(f.path, f.layer):
                jobs.append(job_for(f, strict, NAMES, evidence=shown))
            elif relative(Path(f.path), config.root) in plan.whole:
                jobs.append(job_for(f, config, NAMES, evidence=shown))
        return jobs

    chosen = sorted(plan.whole | plan.new_only)
    return judged(config, [scope.files[file] for file in chosen], prepared)


def _under_policy(done: Judged, scope: _Scope) -> tuple[Judged, list[str]]:
    """Return the results as the project's policy has them, and what is wrong with the policy."""
    from gradverify.gate.policy import under_policy, unmatched

    config, today = scope.config, date.today()
    layers = [
        under_policy(layer, job.file, config, today)
        for job, layer in zip(done.jobs, done.results, strict=True)
    ]
    done = replace(done, results=tuple(layers))
    if config.gate.min_power is not None and not done.interrupted:
        done = _audited(done, scope, config.gate.min_power)
    names = [f.layer for f in done.survey.found]
    whole = scope.is_whole(done.survey)
    return done, unmatched(config.known_failures, names) if whole else []


def _audited(done: Judged, scope: _Scope, least: float) -> Judged:
    """Return the results, those of new layers with what an audit says of them.

    It asks with the profile by which the layer will be judged from now on.
    """
    from gradverify.audit.faults import KINDS
    from gradverify.audit.job import AuditJob, run_audits
    from gradverify.audit.run import LayerAudit
    from gradverify.gate.policy import with_power
    from gradverify.result import Verdict
    from gradverify.workers import WorkerPool

    config, layers = scope.config, list(done.results)
    new = {
        k: AuditJob(job.file, job.digest, job.layer, config.of_layer(job.layer).profile, KINDS,
                    job.seed, job.checks)
        for k, job in enumerate(done.jobs)
        if scope.is_new(job.file, job.layer) and layers[k].verdict is Verdict.VERIFIED
    }  # fmt: skip

    def told(audit: LayerAudit) -> None:
        print(f"audited  {audit.layer}", file=sys.stderr, flush=True)

    try:
        with WorkerPool(config.jobs or os.cpu_count() or 1, config.timeout * MANY) as pool:
            audits = run_audits(list(new.values()), pool, told)
    except KeyboardInterrupt:
        return replace(done, interrupted=True)
    for k, audit in zip(new, audits, strict=True):
        layers[k] = with_power(layers[k], done.jobs[k].file, audit, least)
    return replace(done, results=tuple(layers))


def _gone(scope: _Scope, survey: Survey) -> set[str]:
    """Return the entries of the record whose layers are registered no more."""
    from gradverify.gate.record import file_of

    registered = {scope.entry(f.path, f.layer) for f in survey.found}
    return {
        entry for entry in scope.record or ()
        if (path := scope.files.get(file_of(entry))) is None
        or (path in survey.loaded and entry not in registered)
    }  # fmt: skip


def _told_of_new(done: Judged, scope: _Scope) -> list[str]:
    """Return what a reader should know of new layers."""
    record = scope.config.gate.record
    new = [job.layer for job in done.jobs if scope.is_new(job.file, job.layer)]
    if not done.jobs and done.survey.loaded:
        return ["nothing was verified: none of these registers a layer that is new"]
    if not new:
        return []
    why = f"not in {record}" if scope.record is not None else (
        f"there is no {record}, which `gradverify gate --write-record` writes"
    )  # fmt: skip
    are = "1 layer is" if len(new) == 1 else f"{len(new)} layers are"
    return [f"{are} new ({why}) and judged with the {_THOROUGH} profile: {few(new, 10)}"]
