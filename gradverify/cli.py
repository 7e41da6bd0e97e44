"""The command line: `gradverify verify | list | derive | prove | replay | audit`; codes 0 to 3."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from gradverify import __version__
from gradverify.errors import GradverifyError, SpecError, UsageError, few, nearest
from gradverify.options import Command, parser
from gradverify.survey import Found, by_glob, by_name, files_under, look, meant, try_case

# Everything else is imported where it is needed: `gradverify --help` answers at once.
if TYPE_CHECKING:
    from gradverify.jobs import Job
    from gradverify.proof import Proof
    from gradverify.result import LayerResult, Report
    from gradverify.spec import Spec
    from gradverify.workers import WorkerDied, WorkerPool, WorkerTimeout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for what a user did."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a Greek letter shows its number instead of a traceback.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")
    try:
        commands = {"verify": _verify, "list": _list, "derive": _derive, "prove": _prove,
                    "replay": _replay, "audit": _audit}  # fmt: skip
        options = parser(commands).parse_args(argv)
        run: Command = options.run
        return run(options)
    except SystemExit as stop:  # argparse has shown a help text
        return stop.code if isinstance(stop.code, int) else 2
    except GradverifyError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return 1
    except Exception as error:
        if os.environ.get("GRADVERIFY_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        _complain(
            f"internal error: {what} (a defect of gradverify: please report it, with the "
            "traceback that GRADVERIFY_DEBUG=1 shows)"
        )
        return 3


def _complain(message: str) -> None:
    print(f"gradverify: {message}", file=sys.stderr)


def _verify(options: argparse.Namespace) -> int:
    files = files_under(options.paths)  # before what is slow to import
    from gradverify.checks.names import NAMES
    from gradverify.engine import PROFILES

    if options.profile not in PROFILES:
        raise UsageError(
            f"--profile: there is no profile {options.profile!r}; "
            f"{nearest(options.profile, PROFILES)}"
        )
    listed = {
        option: [name.strip() for part in asked for name in part.split(",")]
        for option, asked in (("--select", options.select), ("--ignore", options.ignore))
    }
    for option, names in listed.items():
        for name in names:
            if name not in NAMES:
                raise UsageError(f"{option}: there is no check {name!r}; {nearest(name, NAMES)}")
    selected = listed["--select"] or NAMES
    checks = tuple(n for n in NAMES if n in selected and n not in listed["--ignore"])
    if not checks:
        raise UsageError("--ignore leaves no check of those selected")
    return _judge(options, files, by_glob(options.layer), checks)


def _replay(options: argparse.Namespace) -> int:
    from gradverify.checks.names import NAMES

    path, _, rest = options.target.partition("::")
    layer, _, check = rest.partition("::")
    if not layer:
        raise UsageError(f"{options.target}: name the layer to replay: {path}::LAYER[::CHECK]")
    if check and check not in NAMES:
        raise UsageError(f"there is no check {check!r}; {nearest(check, NAMES)}")
    options.profile, options.seed, options.j, options.paths = "default", 0, 1, []
    checks = (check,) if check else tuple(NAMES)
    return _judge(options, files_under([path]), by_name(layer), checks, options.case)


def _audit(options: argparse.Namespace) -> int:
    files, choose = meant(options.targets)
    from gradverify.audit.job import AuditJob, run_audits
    from gradverify.audit.run import LayerAudit, checked_kinds, power
    from gradverify.audit.show import as_json, as_text
    from gradverify.engine import profile_of
    from gradverify.report.deliver import views, write_views
    from gradverify.workers import WorkerPool

    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir() + "/hypothesis")
    wanted = views(options.format)
    profile_of(options.profile)
    kinds = checked_kinds([k.strip() for part in options.kind for k in part.split(",")])

    def told(audit: LayerAudit) -> None:
        print(
            f"{audit.caught}/{audit.planted} caught in {audit.layer}", file=sys.stderr, flush=True
        )

    with WorkerPool(options.j or os.cpu_count() or 1, options.timeout) as pool:
        found, problems = _load(files, [], pool)
        jobs = [AuditJob(f.path, f.digest, f.layer, options.profile, kinds, options.seed)
                for f in (choose(found) if found else [])]  # fmt: skip
        audits = run_audits(jobs, pool, told)
    write_views(
        lambda name, page: as_json(audits, options.profile, options.seed) if name == "json"
        else as_text(audits, page.width, page.short),
        wanted,
    )  # fmt: skip
    problems += [a.problem for a in audits if a.problem and "json" in options.format]
    for problem in problems:
        _complain(problem)
    share = power(audits)
    if share is None:
        return 2
    return 1 if problems or any(a.problem for a in audits) or share < options.min_power else 0


def _judge(
    options: argparse.Namespace,
    files: Sequence[str],
    choose: Callable[[Sequence[Found]], list[Found]],
    checks: tuple[str, ...],
    case: str | None = None,
) -> int:
    """Judge the layers of the files, deliver the report and return the exit code."""
    from gradverify import jobs as work
    from gradverify.report.deliver import deliver, views
    from gradverify.report.progress import progress
    from gradverify.result import LayerResult, Report
    from gradverify.workers import WorkerPool

    # No example database is kept, yet Hypothesis would leave a folder in the user's project.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir() + "/hypothesis")
    wanted = views(options.format)
    problems: list[str] = []
    known: list[LayerResult] = []
    jobs: list[Job] = []
    interrupted = False
    try:
        with WorkerPool(options.j or os.cpu_count() or 1, options.timeout) as pool:
            found, problems = _load(files, options.paths, pool)
            try:
                # Where nothing could be loaded, the problems say why nothing is chosen.
                chosen = choose(found) if found else []
            except UsageError as error:
                raise UsageError("\n".join([str(error), *problems])) from None
            if case is not None:
                for f in chosen:
                    pool.submit(try_case, f.path, f.layer, case).result()
            jobs = [
                work.Job(f.path, f.digest, f.layer, options.profile, checks, options.seed, case)
                for f in chosen
            ]
            with progress(len(jobs)) as advance:

                def on_result(result: LayerResult) -> None:
                    known.append(result)
                    advance(result)

                results = work.run(jobs, pool, on_result) if jobs else ()
    except KeyboardInterrupt:
        interrupted = True
        results = _as_far(jobs, known)
    report = Report(__version__, options.profile, options.seed, results, tuple(problems),
                    interrupted)  # fmt: skip
    deliver(report, wanted, verbose=options.verbose)
    if any(remark.startswith(work.DEFECT) for r in report.layers for remark in r.remarks):
        return 3
    if report.ok or (case is not None and _clean(report)):
        return 0
    return 1 if report.layers or interrupted else 2


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


def _load(
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
            problems.append(_died(file, error))
        else:
            found.extend(layers)
            bare.extend([] if layers else [file])
    if not found and not problems:
        raise UsageError(f"nothing matched: no layer is registered in {few(files, 3)}")
    for file in sorted({*bare} & {*map(os.path.normpath, named)}):
        _complain(f"note: {file} registers no layer")
    return found, problems


def _died(file: str, error: "WorkerDied | WorkerTimeout") -> str:
    """Return what is known of the end of a process that only loaded a file."""
    from gradverify.workers import last_words

    line, said = last_words(error.output, file)
    place = f"{file}:{line}" if line else file
    printed = "; it printed:\n" + indent(said, "    ") if said else ""
    return f"{place}: does not import: {error}{printed}"


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


def _list(options: argparse.Namespace) -> int:
    from gradverify.report import Page
    from gradverify.report.deliver import write

    found: list[Found] = []
    problems = []
    for file in (files := files_under(options.paths)):
        try:
            found.extend(look(file))
        except SpecError as error:
            problems.append(str(error))
    for problem in problems:
        _complain(problem)
    if not found and not problems:
        raise UsageError(f"nothing matched: no layer is registered in {few(files, 3)}")
    page = Page()
    rows = [("layer", "spec", "source", "parameters")]
    rows += [(f.layer, f.spec, page.short(f.location), f.params or "none") for f in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows]
    write("".join(lines) if found else "")
    return (1 if found else 2) if problems else 0


def _derive(options: argparse.Namespace) -> int:
    from gradverify.report.deliver import write

    specs = _specs(options.target)
    defined = [spec for spec in specs if spec.program is not None]
    if not defined:
        raise UsageError(
            f"spec {specs[0].name!r} has no definition, so there is nothing to derive; "
            "write definition=... in it"
        )
    from gradverify.calculus.show import emit
    from gradverify.proof import closed_forms
    from gradverify.trial import make_oracle

    for k, spec in enumerate(defined):
        oracle = make_oracle(spec)
        assert oracle is not None
        forms = {} if options.emit == "numpy" else closed_forms(spec)
        shown = emit(oracle, options.emit, spec.name, spec.params, forms)
        write("\n" * (k > 0) + shown.rstrip("\n") + "\n")
    return 0


def _prove(options: argparse.Namespace) -> int:
    from gradverify.proof import prove
    from gradverify.report.deliver import write

    claims = None
    if options.gradients is not None:
        try:
            claims = Path(options.gradients).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"--gradients: {options.gradients} cannot be read ({error})") from None
    specs = _specs(options.target)
    claimed = [x for x in specs if x.gradients is not None]
    proofs: list[Proof] = []
    for spec in claimed if claims is None and claimed else specs:
        try:
            found = prove(spec, claims)
        except SpecError as error:
            place = options.gradients or options.target
            raise SpecError(f"{place}: {error}") from None
        proofs += found
        write("\n".join([spec.name, *(indent(str(p), "  ") for p in found)]) + "\n")
    return 0 if all(p.status == "proven" for p in proofs) else 1


def _specs(target: str) -> list["Spec"]:
    """Return the specs that `derive` is asked for; UsageError where there are none."""
    from gradverify.layer import from_registration
    from gradverify.loading import catalog, execute
    from gradverify.spec import REGISTERED, Spec

    path, _, name = target.partition("::")
    if not name and not path.endswith(".py") and not os.path.exists(path):
        return [catalog(path)]
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name a file in it, or {path}/FILE.py::NAME")
    (file,) = files_under([path])
    real = str(Path(file).resolve())
    found = [x for x in vars(execute(Path(file))).values() if isinstance(x, Spec)]
    # Specs that are parts of others stand in files of their own.
    own = [x for x in found if x.location.rpartition(":")[0] == real]
    named = {x.name: x for x in own or found}
    layers = {key: from_registration(e).spec for (where, key), e in REGISTERED.items()
              if where == real}  # fmt: skip
    if name:
        known = layers | named
        if name not in known:
            raise UsageError(f"{path} has no spec or layer {name!r}; {nearest(name, known)}")
        return [known[name]]
    if not named:
        raise UsageError(f"{path} declares no spec")
    return list(named.values())
