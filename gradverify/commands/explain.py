"""`gradverify explain`: what a check asks, what its findings mean, and how to fix what it finds."""

import argparse
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gradverify.errors import UsageError, nearest
from gradverify.gate import CHECK as GATE
from gradverify.options import Command

if TYPE_CHECKING:
    from rich.console import RenderableType

# In columns: longer lines are hard to read, and in shorter ones no table has room.
_WIDEST, _NARROWEST, _INDENT, _WORD = 80, 40, 2, 12


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("explain", "say what a check asks, what its findings mean and how to fix them")
    made.set_defaults(run=run)
    made.add_argument("name", metavar="NAME", nargs="*",
                      help="a check, the question of a finding, a status or a verdict "
                      "(default: list the checks)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print the explanation and return the exit code."""
    from gradverify.report.deliver import write

    known, name = explanations(), " ".join(options.name)
    write(_typeset(_explained(known, name) if name else _listed(known)))
    return 0


def explanations() -> dict[str, Any]:
    """Return all texts, as they stand beside the checks."""
    text = files("gradverify").joinpath("checks", "explained.toml").read_text("utf-8")
    return tomllib.loads(text)


def questions_of(known: Mapping[str, Any], check: str) -> dict[str, Any]:
    """Return what a check can find, by question: its own, and what every check can."""
    own: dict[str, Any] = known["checks"][check]["questions"]
    if check == GATE:  # which calls no layer itself
        return own
    every = known["checks"]["every"]["questions"]
    return {**own, **{k: v for k, v in every.items() if k not in own}}


def _checks(known: Mapping[str, Any]) -> list[str]:
    return [name for name in known["checks"] if name != "every"]


def _listed(known: Mapping[str, Any]) -> Iterator["RenderableType"]:
    """Yield what each check asks, and what else can be explained."""
    yield _rows((check, known["checks"][check]["asks"]) for check in _checks(known))
    yield ""
    yield (
        "`gradverify explain CHECK` says how a check decides, what its findings mean and how to "
        "fix what they find; a question that a finding names can be asked for by itself, and so "
        f"can a status or verdict: {', '.join(known['statuses'])}."
    )


def _explained(known: Mapping[str, Any], name: str) -> Iterator["RenderableType"]:
    """Yield what is known of a name; UsageError where it is none."""
    asked = [c for c, told in known["checks"].items() if name in told["questions"]]
    words = {w.lower(): k for k, told in known["statuses"].items() for w in (k, told["shown"])}
    if name in _checks(known):
        yield from _check(name, known["checks"][name], questions_of(known, name))
    elif asked:
        for k, check in enumerate(asked):
            yield from [""] * (k > 0)
            yield _heading("every other check" if check == "every" else check)
            yield _question(name, known["checks"][check]["questions"][name])
    elif name.lower() in words:
        status = words[name.lower()]
        yield _heading(status)
        yield _indented(known["statuses"][status]["means"])
    else:
        every = {q for c in _checks(known) for q in questions_of(known, c)}
        hint = nearest(name, [*_checks(known), *words, *sorted(every)])
        raise UsageError(f"there is nothing to explain called {name!r}; {hint}")


def _check(
    name: str, told: Mapping[str, str], questions: Mapping[str, Mapping[str, str]]
) -> Iterator["RenderableType"]:
    yield _heading(name)
    yield _indented(told["asks"])
    yield ""
    yield _heading("How it decides")
    yield _indented(told["decides"])
    yield ""
    yield _heading("What its findings mean, by their question")
    for k, (question, found) in enumerate(questions.items()):
        yield from [""] * (k > 0)
        yield _question(question, found)


def _question(name: str, told: Mapping[str, str]) -> "RenderableType":
    return _rows([(name, told["means"]), ("", f"Fix: {told['fix']}")])


def _heading(text: str) -> "RenderableType":
    from rich.text import Text

    return Text(text, "bold")


def _indented(text: str) -> "RenderableType":
    from rich.padding import Padding

    return Padding(text.strip(), (0, 0, 0, _INDENT))


def _rows(rows: Iterable[tuple[str, str]]) -> "RenderableType":
    """Return words, each with its text beside it."""
    from rich.padding import Padding
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True, min_width=_WORD)
    table.add_column()
    for word, text in rows:
        table.add_row(word, text.strip())
    return Padding(table, (0, 0, 0, _INDENT))


def _typeset(parts: Iterable["RenderableType"]) -> str:
    """Return the parts as text of the terminal's width, in its colours."""
    from rich.console import Console

    width = shutil.get_terminal_size((_WIDEST, 24)).columns
    console = Console(width=min(_WIDEST, max(width, _NARROWEST)), markup=False, emoji=False,
                      highlight=False)  # fmt: skip
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
