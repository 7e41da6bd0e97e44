"""`gradverify audit`: plant faults in layers that are right: how many are caught?"""

import argparse
import os
import sys
import tempfile

from gradverify.commands.judge import look_into, require_layers
from gradverify.config import require_known, require_matches
from gradverify.errors import complain
from gradverify.options import (
    ALL_WELL,
    EXIT_CODES,
    Command,
    formats,
    reader,
    sampling,
    settled,
    timing,
)
from gradverify.survey import meant
from gradverify.tables import SHARE

# An audit verifies a layer again for each fault: it may take this many times as long.
MANY = 12


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("audit", "plant faults in layers that are right: how many are caught?",
                   EXIT_CODES.replace(ALL_WELL, "enough of the faults are caught"))  # fmt: skip
    made.set_defaults(run=run)
    made.add_argument("targets", metavar="LAYER", nargs="*",
                      help="path.py, path.py::name, a folder or a spec of the catalogue (default: "
                      "those that [tool.gradverify] in pyproject.toml names)")  # fmt: skip
    made.add_argument("--kind", metavar="KIND[,KIND]", action="append", default=[],
                      help="plant only faults of these kinds (default: all)")  # fmt: skip
    made.add_argument("--min-power", type=reader(SHARE), metavar="SHARE", default=0.0,
                      help="exit with 1 if fewer of the faults are caught, e.g. 0.99")  # fmt: skip
    sampling(made)
    timing(made, 300.0 * MANY)
    formats(made, "text or json")


def run(options: argparse.Namespace) -> int:
    """Audit the layers and return the exit code."""
    config = settled(options)
    files, choose = meant(options.targets, config)
    from gradverify.audit.job import AuditJob, run_audits
    from gradverify.audit.run import LayerAudit, checked_kinds, power
    from gradverify.audit.show import as_json, as_text
    from gradverify.checks.names import NAMES
    from gradverify.declare import DTYPES
    from gradverify.jobs import DEFECT
    from gradverify.report.deliver import views, write_views
    from gradverify.workers import WorkerPool

    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir() + "/hypothesis")
    wanted = views(options.format, ("text", "json"))
    require_known(config, NAMES, DTYPES)
    seconds = config.timeout * (1 if config.origin["timeout"] == "--timeout" else MANY)
    profile = config.chosen
    kinds = checked_kinds([k.strip() for part in options.kind for k in part.split(",")])

    def told(audit: LayerAudit) -> None:
        print(
            f"{audit.caught}/{audit.planted} caught in {audit.layer}", file=sys.stderr, flush=True
        )

    with WorkerPool(config.jobs or os.cpu_count() or 1, seconds) as pool:
        survey = look_into(files, pool)
        require_layers(survey, files)
        problems = list(survey.problems)
        if not options.targets and not problems:
            require_matches(config, [f.layer for f in survey.found])
        jobs = []
        for f in choose(survey.found) if survey.found else []:
            own = config.of_layer(f.layer)
            checks = tuple(name for name in NAMES if name not in own.ignored)
            jobs.append(
                AuditJob(f.path, f.digest, f.layer, own.profile, kinds, config.seed, checks)
            )
        audits = run_audits(jobs, pool, told)
    write_views(
        lambda name, page: as_json(audits, profile.name, config.seed) if name == "json"
        else as_text(audits, page.width, page.short),
        wanted,
    )  # fmt: skip
    if ("text", None) not in wanted:  # which tells of them
        problems += [a.problem for a in audits if a.problem]
    for problem in problems:
        complain(problem)
    if any(a.problem.startswith(DEFECT) for a in audits):
        return 3
    caught = power(audits)
    if caught is None:
        return 2
    return 1 if problems or any(a.problem for a in audits) or caught < options.min_power else 0
