"""Equations in LaTeX, for an align environment of amsmath."""

import re
from collections.abc import Sequence
from typing import ClassVar

from gradverify.calculus.style import GREEK, Line, Style, hatted, notes

_COMPARED = {"Less": "<", "LessEqual": r"\le", "Equal": "=", "Greater": ">",
             "GreaterEqual": r"\ge", "Unequal": r"\ne", "Both": r"\land",
             "Either": r"\lor", "Remainder": r"\bmod"}  # fmt: skip
_FENCES = {"": r"\left({}\right)", "Abs": r"\left|{}\right|",
           "Floor": r"\left\lfloor {}\right\rfloor"}  # fmt: skip
# Those that LaTeX has under their names, and those that it has under others.
_SAME = ("exp", "log", "tanh", "sin", "cos", "tan", "sinh", "cosh", "max", "min")
_FUNCTIONS = {word: rf"\{word}" for word in _SAME} | {
    "atan": r"\arctan", "gamma": r"\Gamma", "lgamma": r"\log\Gamma", "digamma": r"\psi"
}  # fmt: skip


class Latex(Style):
    """Greek letters, hats, fractions and limits as they are set in print."""

    flat = False
    constants: ClassVar = {"pi": r"\pi", "infty": r"\infty", "e": "e"}

    def name(self, name: str) -> str:
        if re.fullmatch(r"[a-z]\d+", name):
            return f"{name[0]}_{{{name[1:]}}}"
        return self.tensor("epsilon" if name == "eps" else name)

    def tensor(self, name: str) -> str:
        if len(name) == 1:
            return name
        if hat := hatted(name):
            return rf"\hat{{{self.tensor(hat)}}}"
        escaped = name.replace("_", r"\_")
        return f"\\{name}" if name in GREEK else rf"\mathrm{{{escaped}}}"

    def cotangent(self, tensor: str) -> str:
        return rf"\mathrm{{d}}{tensor}"

    def element(self, tensor: str, subscripts: Sequence[str]) -> str:
        return f"{tensor}_{{{','.join(subscripts)}}}"

    def fence(self, kind: str, inside: str) -> str:
        return _FENCES[kind].format(inside)

    def product(self, factors: Sequence[str]) -> str:
        return r" \, ".join(factors)

    def fraction(self, over: str, under: Sequence[str]) -> str:
        return rf"\frac{{{over}}}{{{self.product(under)}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def root(self, inside: str) -> str:
        return rf"\sqrt{{{inside}}}"

    def big(self, kind: str, indices: Sequence[str]) -> str:
        return rf"\{kind}_{{{','.join(indices)}}}"

    def mean(self, size: str, indices: Sequence[str]) -> str:
        return rf"\frac{{1}}{{{size}}} {self.big('sum', indices)}"

    def compared(self, kind: str, sides: Sequence[str], *, tight: bool = False) -> str:
        return f" {_COMPARED[kind]} ".join(sides)

    def function(self, word: str, arguments: Sequence[str]) -> str:
        if word == "polygamma":
            order, *arguments = arguments
            return rf"\psi^{{({order})}}" + self.fence("", ", ".join(arguments))
        escaped = word.replace("_", r"\_")
        shown = _FUNCTIONS.get(word, rf"\operatorname{{{escaped}}}")
        return shown + self.fence("", ", ".join(arguments))

    def words(self, words: str) -> str:
        return rf"\text{{{words}}}"

    def turns(self, index: str, first: str, last: str) -> str:
        return rf"& \text{{for ${index} = {first}, \ldots, {last}$:}}"

    def page(self, lines: Sequence[Line]) -> list[str]:
        shown: list[str] = []
        loop = None
        for e in lines:
            if e.loop not in (None, loop):
                shown.append(e.turns)
            loop = e.loop
            tail = rf" \quad \text{{for all ${', '.join(e.every)}$}}" if e.every else ""
            sign = r"\mathrel{+}=" if e.op == "+=" else "="
            middle = f"{e.left} &{sign}" if loop is None else rf"&\quad {e.left} {sign}"
            shown.append(f"{middle} {e.right}{tail}")
        return shown + [rf"& {self.words(note)}" for note in notes(lines)]

    def document(self, name: str, parts: Sequence[tuple[str, Sequence[Line]]]) -> str:
        pages = [self.page(lines) for _, lines in parts if lines]
        body = " \\\\[2ex]\n".join(" \\\\\n".join(page) for page in pages)
        return f"% {name}\n\\begin{{align*}}\n{body}\n\\end{{align*}}\n"
