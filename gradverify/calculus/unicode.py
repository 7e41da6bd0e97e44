"""Equations as plain text, in unicode."""

import re
from collections.abc import Sequence
from typing import ClassVar

from gradverify.calculus.style import Line, Style, notes

WIDTH = 98  # 100 with the indent

_COMPARED = {"Less": "<", "LessEqual": "≤", "Equal": "=", "Greater": ">", "GreaterEqual": "≥",
             "Unequal": "≠", "Both": "and", "Either": "or", "Remainder": "%"}  # fmt: skip
_BIG = {"sum": "Σ", "prod": "Π"}
_FUNCTIONS = {"gamma": "Γ"}
_FENCES = {"": "({})", "Abs": "|{}|", "Floor": "⌊{}⌋"}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _wrapped(line: str, hang: int, width: int) -> list[str]:
    """Break a line that is too long after a + or -, outside brackets where there is one; where
    there is none, after a factor or an argument."""
    depth, cuts = 0, []
    for k, character in enumerate(line[:width]):
        depth += (character in "([") - (character in ")]")
        sign = line[k - 1 : k + 2] in (" + ", " - ")
        if k > hang and (sign or character == "·" or line[k : k + 2] == ", "):
            cuts.append((not sign, depth, -k))
    if len(line) <= width or not cuts:
        return [line]
    cut = 1 - min(cuts)[2]
    return [line[:cut], *_wrapped(" " * hang + line[cut:].lstrip(), hang, width)]


class Unicode(Style):
    """x[n,c], Σ[n] and √ on one line each, broken where it is too long."""

    flat = True
    constants: ClassVar = {"pi": "π", "infty": "∞", "e": "e"}

    def __init__(self, width: int = WIDTH) -> None:
        self.width = width

    def name(self, name: str) -> str:
        return name.translate(_LOWERED) if re.fullmatch(r"[a-z]\d+", name) else name

    def tensor(self, name: str) -> str:
        return name

    def cotangent(self, tensor: str) -> str:
        return f"d{tensor}"

    def element(self, tensor: str, subscripts: Sequence[str]) -> str:
        return f"{tensor}[{','.join(subscripts)}]"

    def fence(self, kind: str, inside: str) -> str:
        return _FENCES[kind].format(inside)

    def product(self, factors: Sequence[str]) -> str:
        return "·".join(factors)

    def fraction(self, over: str, under: Sequence[str]) -> str:
        below = self.product(under)
        return f"{over}/{below}" if len(under) == 1 else f"{over}/({below})"

    def power(self, base: str, exponent: str) -> str:
        return base + (exponent.translate(_RAISED) if exponent.isdigit() else f"^{exponent}")

    def root(self, inside: str) -> str:
        return f"√{inside}"

    def big(self, kind: str, indices: Sequence[str]) -> str:
        return f"{_BIG.get(kind, kind)}[{','.join(indices)}]"

    def mean(self, size: str, indices: Sequence[str]) -> str:
        return self.big("mean", indices)

    def compared(self, kind: str, sides: Sequence[str], *, tight: bool = False) -> str:
        return (_COMPARED[kind] if tight else f" {_COMPARED[kind]} ").join(sides)

    def function(self, word: str, arguments: Sequence[str]) -> str:
        return f"{_FUNCTIONS.get(word, word)}({', '.join(arguments)})"

    def words(self, words: str) -> str:
        return words

    def turns(self, index: str, first: str, last: str) -> str:
        return f"for {index} = {first}, ..., {last}:"

    def page(self, lines: Sequence[Line]) -> list[str]:
        lefts = ["  " * (e.loop is not None) + e.left for e in lines]
        left, op = (max(map(len, x), default=0) for x in (lefts, [e.op for e in lines]))
        shown: list[str] = []
        loop = None
        for e, start in zip(lines, lefts, strict=True):
            if e.loop not in (None, loop):
                shown.append(e.turns)
            loop = e.loop
            tail = f"   for all {', '.join(e.every)}" if e.every else ""
            line = f"{start:<{left}} {e.op:>{op}} {e.right}{tail}"
            shown += _wrapped(line, left + op + 2, self.width)
        return shown + notes(lines)

    def document(self, name: str, parts: Sequence[tuple[str, Sequence[Line]]]) -> str:
        shown = ["\n  ".join([f"{name}: {head}", *self.page(lines)]) for head, lines in parts]
        return "\n\n".join(shown) + "\n"
