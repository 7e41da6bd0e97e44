"""`gradverify verify`: judge layers and say what is wrong with which gradient."""

import argparse

from gradverify.commands.judge import judge
from gradverify.errors import UsageError, nearest
from gradverify.options import (
    EXIT_CODES,
    Command,
    formats,
    paths,
    sampling,
    settled,
    timing,
    verbosity,
)
from gradverify.survey import by_glob, files_under


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("verify", "judge layers and say what is wrong with which gradient", EXIT_CODES)
    made.set_defaults(run=run)
    paths(made)
    made.add_argument("--select", metavar="CHECK[,CHECK]", action="append", default=[],
                      help="make only these checks (default: all)")  # fmt: skip
    made.add_argument("--ignore", metavar="CHECK[,CHECK]", action="append", default=[],
                      help="make all checks but these")  # fmt: skip
    made.add_argument("--layer", metavar="GLOB", action="append", default=[],
                      help="judge only layers of such a name; can be repeated")  # fmt: skip
    sampling(made)
    timing(made)
    formats(made)
    verbosity(made)


def run(options: argparse.Namespace) -> int:
    """Judge the layers and return the exit code."""
    config = settled(options)
    files = files_under(options.paths, config)  # before what is slow to import
    from gradverify.checks.names import NAMES

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
    return judge(options, config, files, by_glob(options.layer), checks,
                 selected=listed["--select"])  # fmt: skip
