"""One finding in full: what is wrong, where, by how much, who says so, and how to see it again."""

import re
import textwrap
from collections.abc import Iterable, Sequence

from rich.text import Text

from gradverify.report import Page
from gradverify.result import Finding

_INDENT = 2
_LABEL = 12  # columns of a label, "difference" being the longest
HEADLINES = {"error": ("FAILED", "bold red"), "warning": ("warning", "bold yellow")}


# Control characters, halves of surrogate pairs, and what changes the direction of a text.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def printable(text: str) -> str:
    """Return `text` with what could repaint the terminal, or hide in it, shown by its number."""
    return _UNSEEN.sub(
        lambda m: f"\\x{ord(m[0]):02x}" if m[0] < "\u0100" else f"\\u{ord(m[0]):04x}", text
    )


def wrapped(text: str, page: Page, indent: int, hang: int = 0) -> str:
    """Return `text` filled to the page, its own line breaks kept, every line indented.

    What continues a line hangs by `hang` more columns.
    """
    lines = printable(text).expandtabs().splitlines() or [""]
    margin = " " * indent
    return "\n".join(
        textwrap.fill(
            line,
            max(page.width, indent + 20),
            initial_indent=margin,
            # What a message indents, such as an equation and its caret, stays aligned.
            subsequent_indent=margin + " " * (len(line) - len(line.lstrip()) + hang),
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def show(layer: str, finding: Finding, page: Page, others: Sequence[Finding] = ()) -> Text:
    """Return a finding of a layer as lines of text, with `others` that say the same."""
    word, style = HEADLINES.get(finding.severity, (finding.severity, "bold"))
    parts = [layer, finding.check, *([finding.tensor] if finding.tensor else [])]
    shown = Text.assemble((f"{word} ", style))
    shown.append(printable(" · ".join(parts)), "bold")
    shown.append("\n" + wrapped(finding.message, page, _INDENT))
    rows = fields(finding, page)
    if others:
        at = [label for label, *_ in rows].index("question") + 1
        rows.insert(at, ("also in", ", ".join(f"{f.check} ({f.question})" for f in others), True))
    for label, value, filled in rows:
        body = printable(value)
        if filled:
            body = wrapped(value, page, _INDENT + _LABEL).lstrip()
        # Lines to paste, and equations, are never broken; a terminal wraps them itself.
        body = body.replace("\n", "\n" + " " * (0 if filled else _INDENT + _LABEL))
        shown.append(f"\n{' ' * _INDENT}{label:<{_LABEL}}", "dim")
        shown.append(body, "cyan" if label == "replay" else "")
    return shown


def alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return findings together that say the same of one tensor: what is wrong with a formula fails
    several checks."""
    groups: dict[object, list[Finding]] = {}
    for k, f in enumerate(findings):
        same = (f.tensor, f.location, f.severity, f.diagnosis)
        groups.setdefault(same if f.diagnosis and f.tensor else k, []).append(f)
    return list(groups.values())


def fields(finding: Finding, page: Page) -> list[tuple[str, str, bool]]:
    """Return the rows of a finding: label, text, and whether the text may be filled."""
    rows: list[tuple[str, str | None, bool]] = [
        ("diagnosis", finding.diagnosis, True),
        ("odd one", finding.odd_one_out, True),
        ("question", finding.question, True),
        ("case", finding.case, False),
        ("element", element(finding), False),
        *((label, value, False) for label, value in values(finding)),
        ("allowed", _allowed(finding), True),
        ("derived", finding.derived, False),
        ("at", finding.location and page.short(finding.location), False),
        ("replay", finding.replay and page.short(finding.replay), False),
    ]
    return [(label, value, filled) for label, value, filled in rows if value]


def element(finding: Finding) -> str | None:
    """Return the element in question, such as gamma[2]; None where there is none."""
    if finding.tensor is None or not finding.index:
        return None
    return f"{finding.tensor}[{', '.join(map(str, finding.index))}]"


def values(finding: Finding) -> list[tuple[str, str]]:
    """Return expected, got and their difference, with enough digits to tell the two apart."""
    expected, got, allowed = finding.expected, finding.got, finding.allowed
    known = [x for x in (expected, got) if x is not None]
    sign = " " if any(x < 0 for x in known) else ""
    digits = next((d for d in range(6, 16) if len({f"{x:.{d}g}" for x in known}) > 1), 15)
    rows = [
        (label, f"{value:{sign}.{digits + 2}g}" if digits < 15 else f"{value!r:>{len(sign)}}")
        for label, value in (("expected", expected), ("got", got))
        if value is not None
    ]
    if expected is not None and got is not None:
        difference = abs(got - expected)
        shown = f"{sign}{difference:.3g}"
        if allowed is not None and allowed > 0 and difference > allowed:
            shown += f", {difference / allowed:.3g} times what is allowed"
        rows.append(("difference", shown))
    return rows


def _allowed(finding: Finding) -> str | None:
    if finding.allowed is None:
        return finding.why
    shown = f"{finding.allowed:.3g}"
    return f"{shown}: {finding.why}" if finding.why else shown
