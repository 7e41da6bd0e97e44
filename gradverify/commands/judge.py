"""Layers judged and their report delivered: what `verify`, `replay` and `gate` share."""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify import __version__
from gradverify.config import Config, GatePolicy, require_known, require_matches
from gradverify.errors import SpecError, UsageError, complain, few
from gradverify.survey import Found, died, job_for, look, try_case

# Everything else is imported where it is needed: `gradverify --help` answers at once.
if TYPE_CHECKING:
    from gradverify.jobs import Job
    from gradverify.result import LayerResult, Report
    from gradverify.workers import WorkerPool


@dataclass(frozen=True)
class Survey:
    """What files register: those that `loaded`, and what is wrong with the others."""

    found: tuple[Found, ...] = ()
    loaded: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What became of a run: what the files register, and a result for each job."""

    survey: Survey = field(default_factory=Survey)
    jobs: tuple["Job", ...] = ()
    results: tuple["LayerResult", ...] = ()
    interrupted: bool = False


def judge(
    options: argparse.Namespace,
    config: Config,
    files: Sequence[str],
    choose: Callable[[Sequence[Found]], list[Found]],
    checks: tuple[str, ...],
    case: str | None = None,
    selected: Sequence[str] = (),
    since: str | None = None,
) -> int:
    """Judge the layers of the files, deliver the report and return the exit code.

    The checks that were `selected` by name are made even where the settings ignore them. `case` is
    the one case to judge layers at, of a line that was printed when they had the digest `since`;
    what fails there is told also where the settings know of it.
    """
    from gradverify.checks.names import NAMES
    from gradverify.declare import DTYPES
    from gradverify.report.deliver import deliver, evidence, views

    wanted = views(options.format)
    require_known(config, NAMES, DTYPES)

    def prepared(survey: Survey, pool: "WorkerPool") -> list["Job"]:
        require_layers(survey, files, options.paths)
        try:
            # Where nothing could be loaded, the problems say why nothing is chosen.
            chosen = choose(survey.found) if survey.found else []
        except UsageError as error:
            raise UsageError("\n".join([str(error), *survey.problems])) from None
        if not options.paths and not survey.problems:
            require_matches(config, [f.layer for f in survey.found])
        if case is not None:
            for f in chosen:
                pool.submit(try_case, f.path, f.layer, case, since).result()
        shown = evidence(wanted)
        return [job_for(f, config, checks, selected, case, since, evidence=shown) for f in chosen]

    run = judged(config, files, prepared)
    problems: list[str] = []
    if case is None:
        run, problems = with_known(run, config, whole=not options.paths)
    report = report_of(run, config, problems=problems)
    deliver(report, wanted, verbose=options.verbose)
    return 0 if case is not None and _clean(report) else exit_code(report)


def judged(
    config: Config,
    files: Sequence[str],
    prepared: Callable[[Survey, "WorkerPool"], list["Job"]],
) -> Judged:
    """Load the files, run the jobs that are `prepared` for what they register, and return the
    results; after a Ctrl-C, as far as it got."""
    from gradverify import jobs as work
    from gradverify.report.progress import progress
    from gradverify.workers import WorkerPool

    # No example database is kept, yet Hypothesis would leave a folder in the user's project.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir() + "/hypothesis")
    survey, known, jobs = Survey(), dict["Job", "LayerResult"](), list["Job"]()
    try:
        with WorkerPool(config.jobs or os.cpu_count() or 1, config.timeout) as pool:
            survey = look_into(files, pool)
            jobs = prepared(survey, pool)
            with progress(len(jobs)) as advance:

                def on_result(job: "Job", result: "LayerResult") -> None:
                    known[job] = result
                    advance(result)

                results = work.run(jobs, pool, on_result) if jobs else ()
    except KeyboardInterrupt:
        return Judged(survey, tuple(jobs), _as_far(jobs, known), interrupted=True)
    return Judged(survey, tuple(jobs), results)


def with_known(done: Judged, config: Config, *, whole: bool) -> tuple[Judged, list[str]]:
    """Return the results with the failures that the settings know of marked as such, and what is
    wrong with these settings; `whole` says that all layers were looked for."""
    from gradverify.gate.policy import under_policy, unmatched

    plain, today = replace(config, gate=GatePolicy()), date.today()
    results = tuple(
        under_policy(layer, job.file, plain, today)
        for job, layer in zip(done.jobs, done.results, strict=True)
    )
    names = [f.layer for f in done.survey.found]
    complete = whole and not done.survey.problems and bool(names)
    problems = unmatched(config.known_failures, names) if complete else []
    return replace(done, results=results), problems


def report_of(
    done: Judged,
    config: Config,
    *,
    outside: Sequence["LayerResult"] = (),
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> "Report":
    """Return the report of a run, and of what was found `outside` of it."""
    from gradverify.environment import environment, project_root
    from gradverify.result import Report

    here = Path.cwd()
    return Report(
        __version__, config.chosen.name, config.seed, (*done.results, *outside),
        (*done.survey.problems, *problems), done.interrupted, environment(), str(here),
        str(project_root(here)), tuple(notes),
    )  # fmt: skip


def exit_code(report: "Report") -> int:
    """Return the exit code that a report means."""
    from gradverify.jobs import DEFECT

    if any(remark.startswith(DEFECT) for r in report.layers for remark in r.remarks):
        return 3
    if report.ok:
        return 0
    return 1 if report.layers or report.interrupted else 2


def _clean(report: "Report") -> bool:
    """Whether nothing is wrong in the one case that is replayed, which verifies no layer."""
    from gradverify.result import Status, Verdict

    unsure = (Status.VACUOUS, Status.UNAVAILABLE, Status.ERROR)
    checks = [c for x in report.layers for c in x.checks]
    return (
        bool(report.layers)
        and not report.interrupted
        and all(x.verdict is not Verdict.FAILED for x in report.layers)
        and not any(c.status in unsure and not c.undefined for c in checks)
    )


def look_into(files: Sequence[str], pool: "WorkerPool") -> Survey:
    """Return the layers of the files, and what is wrong with files that cannot be loaded.

    Even to load a file is left to a worker, since it may hang, crash or print.
    """
    from gradverify.workers import WorkerDied, WorkerTimeout

    found: list[Found] = []
    loaded: set[str] = set()
    problems: list[str] = []
    for file, future in [(file, pool.submit(look, file)) for file in files]:
        try:
            found.extend(future.result())
        except (SpecError, UsageError) as error:
            problems.append(str(error))
        except (WorkerDied, WorkerTimeout) as error:
            problems.append(died(file, error))
        else:
            loaded.add(file)
    return Survey(tuple(found), frozenset(loaded), tuple(problems))


def require_layers(survey: Survey, files: Sequence[str], named: Sequence[str] = ()) -> None:
    """Raise UsageError where files that were loaded register no layer at all; note those that
    were `named` and register none."""
    if not survey.found and not survey.problems:
        raise UsageError(f"nothing matched: no layer is registered in {few(files, 3)}")
    bare = survey.loaded - {f.path for f in survey.found}
    for file in sorted(bare & {*map(os.path.normpath, named)}):
        complain(f"note: {file} registers no layer")


def _as_far(
    jobs: Sequence["Job"], known: Mapping["Job", "LayerResult"]
) -> tuple["LayerResult", ...]:
    """Return what is known of each job, in order, after a Ctrl-C."""
    from gradverify.result import CheckResult, LayerResult, Status, Verdict

    def skipped(job: "Job") -> LayerResult:
        checks = tuple(CheckResult(c, Status.SKIPPED, "interrupted") for c in job.checks)
        return LayerResult("", job.layer, job.file, Verdict.INCOMPLETE, checks)

    return tuple(known[job] if job in known else skipped(job) for job in jobs)
