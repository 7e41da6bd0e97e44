"""The command line: finds the command, and turns how it ends into an exit code from 0 to 3."""

import os
import sys
from collections.abc import Sequence

from gradverify.commands import COMMANDS
from gradverify.errors import GradverifyError, complain
from gradverify.options import parser
from gradverify.report import Page


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for what a user did."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a Greek letter shows its number instead of a traceback.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")
    try:
        options = parser(COMMANDS).parse_args(argv)
        code: int = options.run(options)
        return code
    except SystemExit as stop:  # argparse has shown a help text
        return stop.code if isinstance(stop.code, int) else 2
    except GradverifyError as error:
        complain(Page().short(str(error)))
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 1
    except Exception as error:
        if os.environ.get("GRADVERIFY_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        complain(
            f"internal error: {what} (a defect of gradverify: please report it, with the "
            "traceback that GRADVERIFY_DEBUG=1 shows)"
        )
        return 3
