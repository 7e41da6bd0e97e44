"""The audit of a layer as plain data, for a process of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from pathlib import Path

from gradverify.audit.run import LayerAudit, audit
from gradverify.checks.names import NAMES
from gradverify.config import Profile
from gradverify.errors import GradverifyError
from gradverify.jobs import DEFECT
from gradverify.loading import content_hash, load
from gradverify.workers import WorkerDied, WorkerTimeout


@dataclass(frozen=True)
class AuditJob:
    """One layer to audit: a worker loads the file and checks the hash itself."""

    file: str
    digest: str
    layer: str
    profile: str | Profile
    kinds: tuple[str, ...]
    seed: int
    checks: tuple[str, ...] = NAMES


def run_audits(
    jobs: Sequence[AuditJob], executor: Executor, on_result: Callable[[LayerAudit], None]
) -> tuple[LayerAudit, ...]:
    """Run audits on an executor and return them in order; `on_result` is called as each ends.

    The problem of one over which gradverify itself failed starts with DEFECT.
    """
    futures = {executor.submit(run_audit, job): k for k, job in enumerate(jobs)}
    found: dict[int, LayerAudit] = {}
    for future in as_completed(futures):
        job = jobs[futures[future]]
        try:
            result = future.result()
        except (WorkerTimeout, WorkerDied, GradverifyError) as error:
            # A fault in the source may be one that never ends.
            result = LayerAudit(job.layer, job.file, {}, (), f"{job.layer}: {error}")
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            told = f"{DEFECT}: {what} in the audit of {job.layer}; please report it"
            result = LayerAudit(job.layer, job.file, {}, (), told)
        found[futures[future]] = result
        on_result(result)
    return tuple(found[k] for k in sorted(found))


def run_audit(job: AuditJob) -> LayerAudit:
    """Load a job's file, find its layer and audit it."""
    path = Path(job.file)
    if content_hash(path) != job.digest:
        raise GradverifyError(f"{job.file} changed while it was being audited: run again")
    (layer,) = (layer for layer in load(path) if layer.name == job.layer)
    return audit(layer, profile=job.profile, kinds=job.kinds, seed=job.seed, checks=job.checks)
