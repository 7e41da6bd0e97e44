"""`gradverify derive`: show the gradients that follow from a definition."""

import argparse

from gradverify.commands.target import add_target, specs_of
from gradverify.errors import UsageError
from gradverify.options import Command

STYLES = ("unicode", "latex", "mathml", "numpy", "steps")


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("derive", "show the gradients that follow from a definition")
    made.set_defaults(run=run)
    add_target(made)
    made.add_argument("--emit", choices=STYLES, default="unicode",
                      help="as equations, as NumPy source to paste, or told step by "
                      "step (default: unicode)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print the gradients and return the exit code."""
    from gradverify.report.deliver import write

    specs = specs_of(options.target)
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
