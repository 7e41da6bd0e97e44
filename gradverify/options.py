"""The parser of the command line, options that commands share, and what is said of wrong ones."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from gradverify import __version__
from gradverify.config import Config, read_config
from gradverify.errors import UsageError, nearest
from gradverify.tables import JOBS, SECONDS, SEED, Single

ALL_WELL = "every layer is verified (or a known failure)"
EXIT_CODES = f"""\
exit codes:
  0  {ALL_WELL}
  1  a finding, something that could not be judged to its end, or Ctrl-C
  2  wrong usage, or nothing to judge
  3  a defect of gradverify itself"""

FORMATS = "text, json, junit, markdown, github, sarif or html"

# Makes the parser of a command from its name, its help and what stands below its options.
Command = Callable[..., argparse.ArgumentParser]


class Module(Protocol):
    """A command: it adds its parser, whose default `run` returns the exit code."""

    def add(self, command: Command) -> None:
        """Add the command and its options."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one message, with the nearest match of a wrong choice."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            hint = nearest(str(value), action.choices)
            raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")


def reader(kind: Single) -> Callable[[str], Any]:
    """Return what reads the text of an option."""

    def read(text: str) -> Any:
        try:
            return kind.of_text(text)
        except ValueError as what:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None

    return read


def parser(commands: Iterable[Module]) -> argparse.ArgumentParser:
    """Return the parser of the command line; the chosen command puts what it does into `run`."""
    made = _Parser(
        prog="gradverify",
        description="Is every hand-written gradient right, for every shape, and does learning "
        "work for every parameter?",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"gradverify {__version__}")
    subparsers = made.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, help: str, epilog: str | None = None) -> argparse.ArgumentParser:
        return subparsers.add_parser(
            name,
            help=help,
            description=help,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    for module in commands:
        module.add(command)
    return made


def settled(options: argparse.Namespace) -> Config:
    """Return the settings of the project that is here, below what the command line says."""
    told = {"profile": "--profile", "seed": "--seed", "timeout": "--timeout", "jobs": "-j"}
    given = {
        key: (option, getattr(options, option.strip("-"), None)) for key, option in told.items()
    }
    return read_config(Path.cwd()).given(**given)


def paths(made: argparse.ArgumentParser) -> None:
    """Add the files whose layers are meant."""
    made.add_argument("paths", metavar="PATH", nargs="*",
                      help="spec files, or folders of them (default: those "
                      "that [tool.gradverify] in pyproject.toml names)")  # fmt: skip


def sampling(made: argparse.ArgumentParser) -> None:
    """Add which cases are tried, and in how many processes."""
    made.add_argument("--profile", metavar="NAME",
                      help="how many cases: quick, default, thorough or one of pyproject.toml "
                      "(default: default)")  # fmt: skip
    made.add_argument("--seed", type=reader(SEED), metavar="N",
                      help="draw other cases (default: 0)")  # fmt: skip
    made.add_argument("-j", type=reader(JOBS), metavar="N",
                      help="processes (default: one per processor)")  # fmt: skip


def timing(made: argparse.ArgumentParser, seconds: float = 300.0) -> None:
    """Add how long a layer may take."""
    made.add_argument("--timeout", type=reader(SECONDS), metavar="SECONDS",
                      help=f"for each layer (default: {seconds:.0f})")  # fmt: skip


def formats(made: argparse.ArgumentParser, known: str = FORMATS) -> None:
    """Add where the report goes, and as what."""
    made.add_argument("--format", default="text", metavar="FORMAT[:FILE],...",
                      help=f"{known}, to FILE or to standard output "
                      "(default: text)")  # fmt: skip


def verbosity(made: argparse.ArgumentParser) -> None:
    """Add whether the report shows every tensor."""
    made.add_argument("-v", "--verbose", action="store_true",
                      help="show every tensor of every check")  # fmt: skip
