"""Equations in MathML Core, as a fragment that can stand in an HTML page."""

import re
import unicodedata
from collections.abc import Sequence
from typing import ClassVar
from xml.sax.saxutils import escape

from gradverify.calculus.style import GREEK, Line, Style, hatted, notes

SPACE = "http://www.w3.org/1998/Math/MathML"

_COMPARED = {"Less": "&lt;", "LessEqual": "≤", "Equal": "=", "Greater": "&gt;",
             "GreaterEqual": "≥", "Unequal": "≠", "Both": "∧", "Either": "∨",
             "Remainder": "mod"}  # fmt: skip
_BIG = {"sum": "∑", "prod": "∏"}
_FUNCTIONS = {"atan": "arctan", "gamma": "Γ", "lgamma": "log Γ", "digamma": "ψ"}
_FENCES = {"": ("(", ")"), "Abs": ("|", "|"), "Floor": ("⌊", "⌋")}
# Nothing shows between factors but a thin space.
_TIMES = '<mo lspace="0" rspace="0.17em">\u2062</mo>'
_APPLIED = "<mo>\u2061</mo>"
# Chromium aligns what is in a cell of a formula only by these values of its own.
_ALIGN = "text-align: {0}; text-align: -webkit-{0}"
_LEFT, _RIGHT = _ALIGN.format("left"), _ALIGN.format("right")
_WIDE = ' columnspan="3"'
_LOOP = f"{_RIGHT}; border-left: thin solid"


def _words(words: str) -> str:
    """Return text that XML can hold, whatever a user has written."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words))


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    letter = name.upper().replace("LAMBDA", "LAMDA")  # as unicode spells it
    return unicodedata.lookup(f"GREEK {case} LETTER {letter}")


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _cell(inside: str, style: str = _LEFT, attributes: str = "") -> str:
    return f'<mtd style="{style}"{attributes}>{inside}</mtd>'


class MathML(Style):
    """Real fractions, roots and limits; all that is written is exactly one element."""

    flat = False
    constants: ClassVar = {"pi": "<mi>π</mi>", "infty": "<mi>∞</mi>", "e": "<mi>e</mi>"}

    def number(self, digits: str) -> str:
        return f"<mn>{digits}</mn>"

    def name(self, name: str) -> str:
        if re.fullmatch(r"[a-z]\d+", name):
            return f"<msub><mi>{name[0]}</mi><mn>{name[1:]}</mn></msub>"
        return self.tensor("epsilon" if name == "eps" else name)

    def tensor(self, name: str) -> str:
        if len(name) > 1 and (hat := hatted(name)):
            return f'<mover accent="true">{self.tensor(hat)}<mo stretchy="false">^</mo></mover>'
        return f"<mi>{_greek(name) if name in GREEK else _words(name)}</mi>"

    def cotangent(self, tensor: str) -> str:
        return _row('<mi mathvariant="normal">d</mi>', tensor)

    def element(self, tensor: str, subscripts: Sequence[str]) -> str:
        return f"<msub>{tensor}{self.listed(subscripts)}</msub>"

    def listed(self, parts: Sequence[str]) -> str:
        """Return parts with commas between them."""
        return _row("<mo>,</mo>".join(parts))

    def fence(self, kind: str, inside: str) -> str:
        left, right = _FENCES[kind]
        return _row(f'<mo form="prefix">{left}</mo>', inside, f'<mo form="postfix">{right}</mo>')

    def total(self, terms: Sequence[tuple[int, str]], *, tight: bool = False) -> str:
        (sign, first), *rest = terms
        if sign > 0 and not rest:
            return first
        following = [f"<mo>{'−' if s < 0 else '+'}</mo>{t}" for s, t in rest]
        return _row("<mo>−</mo>" * (sign < 0), first, *following)

    def product(self, factors: Sequence[str]) -> str:
        return factors[0] if len(factors) == 1 else _row(_TIMES.join(factors))

    def fraction(self, over: str, under: Sequence[str]) -> str:
        return f"<mfrac>{over}{self.product(under)}</mfrac>"

    def power(self, base: str, exponent: str) -> str:
        if base.startswith("<msub>"):  # the exponent above the subscripts, not after them
            return f"{base.removesuffix('</msub>')}{exponent}</msub>".replace("msub>", "msubsup>")
        return f"<msup>{base}{exponent}</msup>"

    def root(self, inside: str) -> str:
        return f"<msqrt>{inside}</msqrt>"

    def big(self, kind: str, indices: Sequence[str]) -> str:
        if kind in _BIG:
            sign = f"<mo>{_BIG[kind]}</mo>"
        else:
            sign = f'<mo lspace="0" rspace="0.17em" movablelimits="true">{kind}</mo>'
        return f"<munder>{sign}{self.listed(indices)}</munder>"

    def mean(self, size: str, indices: Sequence[str]) -> str:
        return _row(self.fraction(self.number("1"), [size]), self.big("sum", indices))

    def reduced(self, big: str, inside: str) -> str:
        return _row(big, inside)

    def compared(self, kind: str, sides: Sequence[str], *, tight: bool = False) -> str:
        return _row(f"<mo>{_COMPARED[kind]}</mo>".join(sides))

    def function(self, word: str, arguments: Sequence[str]) -> str:
        shown = f"<mi>{_FUNCTIONS.get(word, word)}</mi>"
        if word == "polygamma":
            order, *arguments = arguments
            shown = f"<msup><mi>ψ</mi>{self.fence('', order)}</msup>"
        inside = self.listed(arguments) if len(arguments) > 1 else arguments[0]
        return _row(shown, _APPLIED, self.fence("", inside))

    def choice(self, condition: str, a: str, b: str) -> str:
        where, else_ = self.words("where "), self.words("otherwise")
        cases = (_cell(a) + _cell(_row(where, condition)), _cell(b) + _cell(else_))
        rows = "".join(f"<mtr>{case}</mtr>" for case in cases)
        return _row("<mo>{</mo>", f"<mtable>{rows}</mtable>", "<mo>}</mo>")

    def words(self, words: str) -> str:
        kept = _words(words).replace(" ", "\u00a0")  # XML drops blanks at either end
        return f"<mtext>{kept}</mtext>"

    def turns(self, index: str, first: str, last: str) -> str:
        dots = f"{first}<mo>,</mo><mo>…</mo><mo>,</mo>{last}"
        return _row(self.words("for "), index, "<mo>=</mo>", dots, "<mo>:</mo>")

    def page(self, lines: Sequence[Line]) -> list[str]:
        rows: list[str] = []
        loop = None
        for e in lines:
            if e.loop not in (None, loop):
                rows.append(_cell(e.turns, attributes=_WIDE))
            loop = e.loop
            every = [self.words("   for all "), self.listed(e.every)] if e.every else []
            left = _cell(e.left, _RIGHT if loop is None else _LOOP)
            rows.append(left + _cell(f"<mo>{e.op}</mo>", _RIGHT) + _cell(_row(e.right, *every)))
        rows += [_cell(self.words(note), attributes=_WIDE) for note in notes(lines)]
        return [f"<mtr>{row}</mtr>" for row in rows]

    def math(self, lines: Sequence[Line]) -> str:
        """Return equations as one element; "" where there are none."""
        if not lines:
            return ""
        rows = "\n".join(['<mtable displaystyle="true">', *self.page(lines), "</mtable>"])
        return f'<math xmlns="{SPACE}" display="block">\n{rows}\n</math>'

    def document(self, name: str, parts: Sequence[tuple[str, Sequence[Line]]]) -> str:
        shown = ['<div class="derivation">']
        for head, lines in parts:
            shown.append(f"<p>{_words(name)}: {_words(head)}</p>")
            shown += [self.math(lines)] if lines else []
        return "\n".join([*shown, "</div>"]) + "\n"
