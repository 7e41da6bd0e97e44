"""`gradverify report`: show a run again, in any format, from the JSON that it wrote."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify.errors import UsageError
from gradverify.options import Command, formats, verbosity

if TYPE_CHECKING:
    from gradverify.result import Report

EXIT_CODES = """\
exit codes:
  0  the views were made, whatever the report says
  2  wrong usage, or a file that is no report"""


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("report", "show a run again, in any format, from its JSON", EXIT_CODES)
    made.set_defaults(run=run)
    made.add_argument("file", metavar="FILE", help="what `--format json:FILE` wrote")
    formats(made)
    verbosity(made)


def run(options: argparse.Namespace) -> int:
    """Deliver the views of a report that was kept, and return the exit code."""
    from gradverify.report.deliver import deliver, views

    wanted = views(options.format)
    deliver(_kept(options.file), wanted, verbose=options.verbose)
    return 0


def _kept(file: str) -> "Report":
    from gradverify.result import report_from_json

    try:
        return report_from_json(Path(file).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: cannot be read as a report: it is no text in UTF-8") from None
    except ValueError as error:
        raise UsageError(f"{file}: cannot be read as a report: {error}") from None
