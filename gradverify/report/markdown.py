"""A report as Markdown for a code review: verdict, table, then what is wrong, worst first."""

import re
from collections.abc import Callable, Iterator

from gradverify.report import Page
from gradverify.report.finding import printable
from gradverify.report.table import WORDS, called, columns_of, labels
from gradverify.report.terminal import counts
from gradverify.report.worst import Told, brief, worst_first
from gradverify.result import LayerResult, Report, Status, Verdict

# GitHub refuses a comment that is longer.
COMMENT = 65_536
# A name that is longer than this is cut in a table.
NAME = 120
# A note that is longer than this, above it.
NOTE = 500

_SIGNS = {
    Status.PASSED: "✅", Status.FAILED: "❌", Status.ERROR: "❌", Status.VACUOUS: "⚠️",
    Status.UNAVAILABLE: "⚠️",
}  # fmt: skip
_VERDICT_SIGNS = {Verdict.VERIFIED: "✅", Verdict.FAILED: "❌", Verdict.INCOMPLETE: "⚠️"}


def render(report: Report, page: Page) -> str:
    """Return the report, shorter than a comment may be."""
    return limited(report, page, COMMENT)


def limited(report: Report, page: Page, most: int, *, bytes_count: bool = False) -> str:
    """Return the report in at most so many characters, or bytes; what is left out is counted.

    Rows of layers that are verified go first, then the findings that are least wrong.
    """

    def size(text: str) -> int:
        return len(text.encode("utf-8", "replace")) if bytes_count else len(text)

    told = worst_first(report, page)
    head = _head(report)
    foot = f"\n<sub>gradverify {code(report.version)}, profile {code(report.profile)}, " \
           f"seed {report.seed}</sub>\n"  # fmt: skip
    room = most - size(head) - size(foot) - 400
    table = _table(report, page, room // 2, size)
    room -= size(table)
    shown: list[str] = []
    for k, one in enumerate(told):
        block = _block(one, open_=k == 0)
        if size(block) > room:
            break
        room -= size(block)
        shown.append(block)
    if left := len(told) - len(shown):
        shown.append(f"\n{left} more of these are left out here: see the log or the JSON.\n")
    return head + table + "".join(shown) + foot


def _head(report: Report) -> str:
    word = "✅ verified" if report.ok else "❌ not verified"
    if report.idle:
        word = "⚪ nothing was verified"
    notes = "".join(f"- {escape(brief(note, NOTE))}\n" for note in report.notes)
    return f"### gradverify: {word}\n\n{escape(counts(report))}\n" + f"\n{notes}" * bool(notes)


def _table(report: Report, page: Page, room: int, size: Callable[[str], int]) -> str:
    if not report.layers:
        return ""
    checks = columns_of(report)
    names = labels(report, page)
    head = ["layer", *map(code, checks), "verdict"]
    lines = [_row(head), _row(["---"] * len(head))]
    pairs = sorted(
        zip(names, report.layers, strict=True),
        key=lambda pair: (
            pair[1].passes,
            pair[1].verdict is not Verdict.FAILED,
        ),
    )
    used, left = 0, 0
    for name, layer in pairs:
        row = _row([code(brief(name, NAME)), *_statuses(layer, checks), _verdict(layer)])
        used += size(row)
        if used > room:
            left += 1
        else:
            lines.append(row)
    table = "\n" + "".join(f"{line}\n" for line in lines)
    return table + (f"\n{left} more layers are left out of this table.\n" if left else "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _statuses(layer: LayerResult, checks: list[str]) -> Iterator[str]:
    found = {c.check: c.status for c in layer.checks}
    for check in checks:
        status = found.get(check)
        yield "" if status is None else f"{_SIGNS.get(status, '')} {WORDS[status][0]}".strip()


def _verdict(layer: LayerResult) -> str:
    sign = "⚠️" if layer.known else _VERDICT_SIGNS[layer.verdict]
    return f"{sign} **{called(layer)[0]}**"


def _block(told: Told, *, open_: bool) -> str:
    sign = "❌" if told.severity == "error" else "⚠️"
    at = f"{told.place.path}:{told.place.line}" if told.place.line else told.place.path
    where = f" ({code(brief(at, NAME))})" if at else ""
    title = escape(brief(printable(told.title), 300))
    return (
        f"\n<details{' open' * open_}><summary>{sign} {title}{where}</summary>\n\n"
        f"{fenced(told.text)}\n</details>\n"
    )


def fenced(text: str) -> str:
    """Return a text as a block of code, which nothing in it can end."""
    text = printable(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}\n"


def code(text: str) -> str:
    """Return a text as code within a line, where it names nobody and links nowhere."""
    return f"<code>{escape(text)}</code>"


def escape(text: str) -> str:
    """Return a text in which nothing is markup: Markdown, HTML, a mention or a reference."""
    flat = " ".join(printable(text).split())
    marks = r"[^\w\s.,;/()=+:-]|(?<![^\W_])_|_(?![^\W_])|:(?=\S)"
    shown = re.sub(marks, lambda m: f"&#{ord(m[0])};" if m[0].isascii() else m[0], flat)
    # A mention, or a number of an issue, is looked for in what is left of the markup.
    return re.sub(r"(&#64;|&#35;)(?=\w)", r"\1<!-- -->", shown)
