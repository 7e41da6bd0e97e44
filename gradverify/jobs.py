"""Layers as plain data, judged on any executor: processes here, other machines elsewhere."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify.again import beside, changes, quoted, replay_line
from gradverify.config import Profile
from gradverify.errors import GradverifyError
from gradverify.loading import content_hash, load
from gradverify.result import CheckResult, Finding, LayerResult, Status, Verdict
from gradverify.workers import WorkerDied, WorkerTimeout, last_words, note

if TYPE_CHECKING:
    from gradverify.cases import Case

# The questions of findings about layers whose process gave no result.
BROKEN = ("hangs", "dies", "changed")
# How the remark of a layer starts over which gradverify itself failed.
DEFECT = "a defect of gradverify"


@dataclass(frozen=True)
class Job:
    """One layer to verify, as plain data: a worker loads the file and checks the hash itself.

    A file that is a module of its project is imported there by its name. `ignored` are checks that
    the settings leave out, each with the reason, and `remarks` what they have to say of the layer;
    `evidence` asks for what reports show besides what is wrong.
    """

    file: str
    digest: str
    layer: str
    profile: str | Profile
    checks: tuple[str, ...]
    seed: int
    case: str | None = None
    ignored: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    since: str | None = None  # the digest of the layer for which a line to replay was printed
    evidence: bool = False


def run(
    jobs: Sequence[Job], executor: Executor, on_result: Callable[[Job, LayerResult], None]
) -> tuple[LayerResult, ...]:
    """Run jobs on an executor and return their results in the order of the jobs.

    `on_result` is called as each ends. A layer that hangs or kills its process is a finding.
    """
    futures = {executor.submit(run_job, job): k for k, job in enumerate(jobs)}
    results: dict[int, LayerResult] = {}
    for future in as_completed(futures):
        job = jobs[futures[future]]
        try:
            result = future.result()
        except WorkerTimeout as error:
            result = _broken(job, "hangs", error)
        except WorkerDied as error:
            result = _broken(job, "dies", error)
        except GradverifyError as error:
            result = _broken(job, "changed", error)
        except Exception as error:
            result = _defect(job, error)
        results[futures[future]] = result
        on_result(job, result)
    return tuple(results[k] for k in sorted(results))


def _broken(job: Job, question: str, error: Exception) -> LayerResult:
    """Return the result of a layer whose process gave none."""
    line, printed = last_words(getattr(error, "output", ""), job.file)
    what = {"hangs": "the layer does not end: ", "dies": "the layer kills its process: "}
    told = what.get(question, "") + str(error) + (f"; it printed:\n{printed}" if printed else "")
    case, _, replay = getattr(error, "noted", "").partition("\n")
    if replay and isinstance(error, WorkerTimeout):
        replay += f" --timeout {error.seconds:g}"
    finding = Finding(
        "contract", question, told, case=case or None,
        location=f"{job.file}:{line}" if line else job.file,
        replay=replay or _verify_line(job),
    )  # fmt: skip
    checks = tuple(
        CheckResult(n, Status.FAILED if n == "contract" else Status.ERROR, str(error))
        for n in job.checks
    )
    return LayerResult("", job.layer, job.file, Verdict.FAILED, checks, (finding,), job.remarks)


def _verify_line(job: Job) -> str:
    """Return what verifies a layer again that came to no case to replay."""
    return f"gradverify verify {quoted(beside(job.file))} --layer {quoted(escape(job.layer))}"


def _defect(job: Job, error: Exception) -> LayerResult:
    """Return the result of a layer over which gradverify itself failed."""
    what = " ".join(f"{type(error).__name__}: {error}".split())
    checks = tuple(CheckResult(n, Status.ERROR, what) for n in job.checks)
    return LayerResult("", job.layer, job.file, Verdict.INCOMPLETE, checks, (),
                       (*job.remarks, f"{DEFECT}: {what}; please report it"))  # fmt: skip


def run_job(job: Job) -> LayerResult:
    """Load a job's file, find its layer and verify it."""
    path = Path(job.file)
    if content_hash(path) != job.digest:
        raise GradverifyError(f"{job.file} changed while it was being verified: run again")
    layers = [layer for layer in load(path) if layer.name == job.layer]
    if not layers:
        raise GradverifyError(f"{job.file} registers no layer {job.layer!r}")
    (layer,) = layers
    # Slow to import: only the process that verifies needs them.
    from gradverify.engine import profile_of, verify_layer
    from gradverify.trial import calling

    case = None
    if job.case is not None:
        from gradverify.cases import parse_case

        case = parse_case(job.case, layer.spec)

    def calls(at: "Case") -> None:
        note(f"{at}\n{replay_line(layer, None, at)}")

    told = calling.set(calls)
    try:
        result = verify_layer(layer, profile_of(job.profile), job.checks, job.seed, case=case,
                              ignored=dict(job.ignored), evidence=job.evidence)  # fmt: skip
    finally:
        calling.reset(told)
    changed = () if job.since is None else changes(layer, job.since)
    return replace(result, remarks=(*changed, *job.remarks, *result.remarks))
