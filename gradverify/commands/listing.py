"""`gradverify list`: show the layers that files register."""

import argparse

from gradverify.errors import SpecError, UsageError, complain, few
from gradverify.options import Command, paths, settled
from gradverify.survey import Found, files_under, look


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("list", "show the layers that files register")
    made.set_defaults(run=run)
    paths(made)


def run(options: argparse.Namespace) -> int:
    """List the layers and return the exit code."""
    from gradverify.report import Page
    from gradverify.report.deliver import write

    found: list[Found] = []
    problems = []
    for file in (files := files_under(options.paths, settled(options))):
        try:
            found.extend(look(file))
        except (SpecError, UsageError) as error:
            problems.append(str(error))
    for problem in problems:
        complain(problem)
    if not found and not problems:
        raise UsageError(f"nothing matched: no layer is registered in {few(files, 3)}")
    page = Page()
    rows = [("layer", "spec", "source", "parameters")]
    rows += [(f.layer, f.spec, page.short(f.location), f.params or "none") for f in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows]
    write("".join(lines) if found else "")
    return (1 if found else 2) if problems else 0
