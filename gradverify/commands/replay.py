"""`gradverify replay`: judge one layer in one case, such as a finding names."""

import argparse
from dataclasses import replace

from gradverify.commands.judge import judge
from gradverify.errors import UsageError, nearest
from gradverify.options import ALL_WELL, EXIT_CODES, Command, formats, settled, timing, verbosity
from gradverify.survey import by_name, files_under


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("replay", "judge one layer in one case, such as a finding names",
                   EXIT_CODES.replace(ALL_WELL, "nothing is wrong in this case"))  # fmt: skip
    made.set_defaults(run=run)
    made.add_argument("target", metavar="PATH::LAYER[::CHECK]",
                      help="the layer, and the check to make (default: all)")  # fmt: skip
    made.add_argument("case", metavar="CASE", help="the case, as a finding prints it")
    timing(made)
    formats(made)
    verbosity(made)


def run(options: argparse.Namespace) -> int:
    """Judge the layer in the case and return the exit code."""
    from gradverify.checks.names import NAMES

    path, _, rest = options.target.partition("::")
    layer, _, check = rest.partition("::")
    if not layer:
        raise UsageError(f"{options.target}: name the layer to replay: {path}::LAYER[::CHECK]")
    if check and check not in NAMES:
        raise UsageError(f"there is no check {check!r}; {nearest(check, NAMES)}")
    # In one case nothing is drawn, and what is overridden is asked all the same.
    config = replace(settled(options), profile="default", seed=0, jobs=1, overrides=(), origin={})
    options.paths = [path]
    checks = (check,) if check else tuple(NAMES)
    return judge(options, config, files_under([path], config), by_name(layer), checks, options.case)
