"""The options of the command line, and what is said of wrong ones."""

import argparse
from collections.abc import Callable, Mapping
from typing import NoReturn

from gradverify import __version__
from gradverify.errors import UsageError, nearest

ALL_WELL = "every layer is verified"
EXIT_CODES = f"""\
exit codes:
  0  {ALL_WELL}
  1  a finding, something that could not be judged to its end, or Ctrl-C
  2  wrong usage, or nothing to judge
  3  a defect of gradverify itself"""
STYLES = ("unicode", "latex", "mathml", "numpy", "steps")

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one message, with the nearest match of a wrong choice."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            hint = nearest(str(value), action.choices)
            raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")


def _number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """Return a reader of numbers that are at least `least`, or more than 0 where kind is float."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(least) - 1
        if value >= least and (value > 0 or kind is int):
            return value
        what = f"a whole number from {least:g}" if kind is int else "a number of seconds above 0"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return read


def _share(text: str) -> float:
    """Read a share from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return value


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the command line; it puts the chosen one of `commands` into `run`."""
    made_parser = _Parser(
        prog="gradverify",
        description="Is every hand-written gradient right, for every shape, and does learning "
        "work for every parameter?",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made_parser.add_argument("--version", action="version", version=f"gradverify {__version__}")
    subparsers = made_parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, help: str, epilog: str | None = None) -> _Parser:
        made: _Parser = subparsers.add_parser(
            name,
            help=help,
            description=help,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=commands[name])
        return made

    verify = command("verify", "judge layers and say what is wrong with which gradient",
                     EXIT_CODES)  # fmt: skip
    listing = command("list", "show the layers that files register")
    derive = command("derive", "show the gradients that follow from a definition")
    prove = command("prove", "decide gradient equations for all sizes: proven, refuted or neither",
                    EXIT_CODES.replace(ALL_WELL, "all are proven"))  # fmt: skip
    replay = command("replay", "judge one layer in one case, such as a finding names",
                     EXIT_CODES.replace(ALL_WELL, "nothing is wrong in this case"))  # fmt: skip

    audit = command("audit", "plant faults in layers that are right: how many are caught?",
                    EXIT_CODES.replace(ALL_WELL, "enough of the faults are caught"))  # fmt: skip

    for made in (verify, listing):
        made.add_argument("paths", metavar="PATH", nargs="*",
                          help="spec files, or folders of them (default: those that "
                          "[tool.gradverify] specs in pyproject.toml names)")  # fmt: skip
    verify.add_argument("--select", metavar="CHECK[,CHECK]", action="append", default=[],
                        help="make only these checks (default: all)")  # fmt: skip
    verify.add_argument("--ignore", metavar="CHECK[,CHECK]", action="append", default=[],
                        help="make all checks but these")  # fmt: skip
    verify.add_argument("--layer", metavar="GLOB", action="append", default=[],
                        help="judge only layers of such a name; can be repeated")  # fmt: skip
    audit.add_argument("targets", metavar="LAYER", nargs="*",
                       help="path.py, path.py::name, a folder or a spec of the catalogue (default: "
                       "those that [tool.gradverify] specs in pyproject.toml names)")  # fmt: skip
    audit.add_argument("--kind", metavar="KIND[,KIND]", action="append", default=[],
                       help="plant only faults of these kinds (default: all)")  # fmt: skip
    audit.add_argument("--min-power", type=_share, metavar="SHARE", default=0.0,
                       help="exit with 1 if fewer of the faults are caught, e.g. 0.99")  # fmt: skip
    for made in (verify, audit):
        made.add_argument("--profile", metavar="NAME", default="default",
                          help="how many cases: quick, default or thorough")  # fmt: skip
        made.add_argument("--seed", type=_number(int, 0), default=0, metavar="N",
                          help="draw other cases (default: 0)")  # fmt: skip
        made.add_argument("-j", type=_number(int, 1), metavar="N",
                          help="processes (default: one per processor)")  # fmt: skip
    replay.add_argument("target", metavar="PATH::LAYER[::CHECK]",
                        help="the layer, and the check to make (default: all)")  # fmt: skip
    replay.add_argument("case", metavar="CASE", help="the case, as a finding prints it")
    for made, seconds in ((verify, 300.0), (replay, 300.0), (audit, 3600.0)):
        made.add_argument("--timeout", type=_number(float, 0), default=seconds, metavar="SECONDS",
                          help=f"for each layer (default: {seconds:.0f})")  # fmt: skip
        made.add_argument("--format", default="text", metavar="FORMAT[:FILE],...",
                          help="text or json, to FILE or to standard output "
                          "(default: text)")  # fmt: skip
    for made in (verify, replay):
        made.add_argument("-v", "--verbose", action="store_true",
                          help="show every tensor of every check")  # fmt: skip
    for made in (derive, prove):
        made.add_argument("target", metavar="LAYER_OR_SPEC",
                          help="a name of the catalogue, path.py or path.py::name")  # fmt: skip
    prove.add_argument("--gradients", metavar="FILE",
                       help="equations such as dx[n,c] = dy[n,c]*w[c] (default: those that the "
                       "spec declares, else that gradients which vanish are 0)")  # fmt: skip
    derive.add_argument("--emit", choices=STYLES, default="unicode",
                        help="as equations, as NumPy source to paste, or told step by "
                        "step (default: unicode)")  # fmt: skip
    return made_parser
