"""`gradverify replay`: judge one layer in one case, such as a finding names."""

import argparse
import os
import re
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
    made.add_argument("--digest", metavar="DIGEST", type=_digest,
                      help="what the layer was when the line was printed, to be told what has "
                      "changed since")  # fmt: skip
    timing(made)
    formats(made)
    verbosity(made)


def run(options: argparse.Namespace) -> int:
    """Judge the layer in the case and return the exit code."""
    from gradverify.checks.names import NAMES

    path, layer, check = _parts(options.target)
    # In one case nothing is drawn, and what is overridden is asked all the same.
    config = replace(settled(options), profile="default", seed=0, jobs=1, overrides=(), origin={})
    options.paths = [path]
    checks = (check,) if check else tuple(NAMES)
    files = files_under([path], config)
    return judge(options, config, files, by_name(layer), checks, options.case,
                 since=options.digest)  # fmt: skip


def _parts(target: str) -> tuple[str, str, str]:
    """Return path, layer and check, "" where none is named; any of them but the last may hold ::"""
    from gradverify.checks.names import NAMES

    marks = [m.start() for m in re.finditer("::", target)] or [len(target)]
    end = next((k for k in marks if os.path.isfile(target[:k])), marks[0])
    path, layer = target[:end], target[end + 2 :]
    if not layer:
        raise UsageError(f"{target}: name the layer to replay: {path}::LAYER[::CHECK]")
    name, _, check = layer.rpartition("::")
    if name and check not in NAMES:
        raise UsageError(f"there is no check {check!r}; {nearest(check, NAMES)}")
    return (path, name, check) if name else (path, layer, "")


def _digest(text: str) -> str:
    from gradverify.again import DIGEST

    if not re.fullmatch(DIGEST, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 0a1b2c3d-4e5f6a7b")
    return text
