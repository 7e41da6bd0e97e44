"""Layers judged and their report delivered: what `verify` and `replay` have in common."""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify import __version__
from gradverify.config import Config, require_known, require_matches
from gradverify.errors import SpecError, UsageError, complain, few
from gradverify.survey import Found, died, look, try_case

# Everything else is imported where it is needed: `gradverify --help` answers at once.
if TYPE_CHECKING:
    from gradverify.jobs import Job
    from gradverify.result import LayerResult, Report
    from gradverify.workers import WorkerPool


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
    the one case to judge layers at, of a line that was printed when they had the digest `since`.
    """
    from gradverify import jobs as work
    from gradverify.checks.names import NAMES
    from gradverify.declare import DTYPES
    from gradverify.environment import environment, project_root
    from gradverify.report import EVIDENT
    from gradverify.report.deliver import deliver, views
    from gradverify.report.progress import progress
    from gradverify.result import LayerResult, Report
    from gradverify.workers import WorkerPool

    # No example database is kept, yet Hypothesis would leave a folder in the user's project.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir() + "/hypothesis")
    wanted = views(options.format)
    require_known(config, NAMES, DTYPES)
    profile = config.chosen
    evidence = any(name in EVIDENT for name, _ in wanted)
    problems: list[str] = []
    known: list[LayerResult] = []
    jobs: list[Job] = []
    interrupted = False
    try:
        with WorkerPool(config.jobs or os.cpu_count() or 1, config.timeout) as pool:
            found, problems = load(files, options.paths, pool)
            try:
                # Where nothing could be loaded, the problems say why nothing is chosen.
                chosen = choose(found) if found else []
            except UsageError as error:
                raise UsageError("\n".join([str(error), *problems])) from None
            if not options.paths and not problems:
                require_matches(config, [f.layer for f in found])
            if case is not None:
                for f in chosen:
                    pool.submit(try_case, f.path, f.layer, case, since).result()
            jobs = [_job(f, config, checks, selected, case, since, evidence) for f in chosen]
            with progress(len(jobs)) as advance:

                def on_result(result: LayerResult) -> None:
                    known.append(result)
                    advance(result)

                results = work.run(jobs, pool, on_result) if jobs else ()
    except KeyboardInterrupt:
        interrupted = True
        results = _as_far(jobs, known)
    here = Path.cwd()
    report = Report(
        __version__, profile.name, config.seed, results, tuple(problems), interrupted,
        environment(), str(here), str(project_root(here)),
    )  # fmt: skip
    deliver(report, wanted, verbose=options.verbose)
    if any(remark.startswith(work.DEFECT) for r in report.layers for remark in r.remarks):
        return 3
    if report.ok or (case is not None and _clean(report)):
        return 0
    return 1 if report.layers or interrupted else 2


def _job(
    found: Found, config: Config, checks: Sequence[str], selected: Sequence[str],
    case: str | None, since: str | None, evidence: bool,
) -> "Job":  # fmt: skip
    """Return the work of judging a layer, as the settings have it."""
    from gradverify.jobs import Job

    own = config.of_layer(found.layer, selected)
    asked = tuple(c for c in checks if c not in own.ignored)
    return Job(found.path, found.digest, found.layer, own.profile, asked, config.seed, case,
               tuple(own.ignored.items()), own.remarks, since, evidence)  # fmt: skip


def _clean(report: "Report") -> bool:
    """Whether nothing is wrong in the one case that is replayed, which verifies no layer."""
    from gradverify.result import Status, Verdict

    unsure = (Status.VACUOUS, Status.UNAVAILABLE, Status.ERROR)
    return (
        bool(report.layers)
        and not report.interrupted
        and all(x.verdict is not Verdict.FAILED for x in report.layers)
        and not any(c.status in unsure for x in report.layers for c in x.checks)
    )


def load(
    files: Sequence[str], named: Sequence[str], pool: "WorkerPool"
) -> tuple[list[Found], list[str]]:
    """Return the layers of the files, and what is wrong with files that cannot be loaded.

    Even to load a file is left to a worker, since it may hang, crash or print.
    """
    from gradverify.workers import WorkerDied, WorkerTimeout

    found: list[Found] = []
    bare: list[str] = []
    problems: list[str] = []
    for file, future in [(file, pool.submit(look, file)) for file in files]:
        try:
            layers = future.result()
        except (SpecError, UsageError) as error:
            problems.append(str(error))
        except (WorkerDied, WorkerTimeout) as error:
            problems.append(died(file, error))
        else:
            found.extend(layers)
            bare.extend([] if layers else [file])
    if not found and not problems:
        raise UsageError(f"nothing matched: no layer is registered in {few(files, 3)}")
    for file in sorted({*bare} & {*map(os.path.normpath, named)}):
        complain(f"note: {file} registers no layer")
    return found, problems


def _as_far(jobs: Sequence["Job"], known: Sequence["LayerResult"]) -> tuple["LayerResult", ...]:
    """Return what is known of each job, in order, after a Ctrl-C."""
    from gradverify.result import CheckResult, LayerResult, Status, Verdict

    left = list(known)
    results = []
    for job in jobs:
        mine = next((r for r in left if r.layer == job.layer), None)
        if mine is None:
            skipped = tuple(CheckResult(c, Status.SKIPPED, "interrupted") for c in job.checks)
            mine = LayerResult("", job.layer, job.file, Verdict.INCOMPLETE, skipped)
        else:
            left.remove(mine)
        results.append(mine)
    return tuple(results)
