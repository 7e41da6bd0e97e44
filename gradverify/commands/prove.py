"""`gradverify prove`: decide gradient equations for all sizes: proven, refuted or neither."""

import argparse
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from gradverify.commands.target import add_target, specs_of
from gradverify.errors import SpecError, UsageError
from gradverify.options import ALL_WELL, EXIT_CODES, Command

if TYPE_CHECKING:
    from gradverify.proof import Proof


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("prove", "decide gradient equations for all sizes: proven, refuted or neither",
                   EXIT_CODES.replace(ALL_WELL, "all are proven"))  # fmt: skip
    made.set_defaults(run=run)
    add_target(made)
    made.add_argument("--gradients", metavar="FILE",
                      help="equations such as dx[n,c] = dy[n,c]*w[c] (default: those that the "
                      "spec declares, else that gradients which vanish are 0)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print what is proven and return the exit code."""
    from gradverify.proof import prove
    from gradverify.report.deliver import write

    claims = None
    if options.gradients is not None:
        try:
            claims = Path(options.gradients).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"--gradients: {options.gradients} cannot be read ({error})") from None
    specs = specs_of(options.target)
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
