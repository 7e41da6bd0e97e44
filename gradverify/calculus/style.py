"""What a notation decides: the Printer walks an expression, a Style writes what it comes to."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sympy.printing.latex import greek_letters_set

ADDS = "(+= adds to the given value, or to 0)"
GREEK = (greek_letters_set - {"omicron"}) | {
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One equation in some notation, `left op right`, for `every` index that is to be named.

    Lines in a row with the same `loop` run together; `turns` is what stands above them.
    """

    target: str
    left: str
    op: str
    right: str
    reads: frozenset[str] = frozenset()
    every: tuple[str, ...] = ()
    loop: int | None = None
    turns: str = ""
    note: str = ""


def notes(lines: Sequence[Line]) -> list[str]:
    """Return what is said below equations, each remark once."""
    found = [e.note for e in lines if e.note] + [ADDS for e in lines if e.op == "+="]
    return list(dict.fromkeys(found))


def hatted(name: str) -> str | None:
    """Return what a name puts a hat on: x for xhat and x_hat."""
    hat = re.fullmatch("(.+?)_?hat", name)
    return hat[1] if hat else None


class Style(ABC):
    """Writes each kind of expression from its parts, which it has written before.

    A `flat` notation stands on one line, so that what another one raises, lowers or puts over
    a bar needs brackets. `constants` are pi, infinity and e, by their names in LaTeX.
    """

    flat: ClassVar[bool]
    constants: ClassVar[dict[str, str]]

    def number(self, digits: str) -> str:
        """Return a number that is not negative."""
        return digits

    @abstractmethod
    def name(self, name: str) -> str:
        """Return the name of an index, a size or a constant; a letter's number is lowered."""

    @abstractmethod
    def tensor(self, name: str) -> str:
        """Return the name of a tensor."""

    @abstractmethod
    def cotangent(self, tensor: str) -> str:
        """Return the name of the cotangent of a tensor."""

    @abstractmethod
    def element(self, tensor: str, subscripts: Sequence[str]) -> str:
        """Return an element of a tensor, which has at least one subscript."""

    @abstractmethod
    def fence(self, kind: str, inside: str) -> str:
        """Return what is inside in brackets; `kind` is "", Abs or Floor."""

    def total(self, terms: Sequence[tuple[int, str]], *, tight: bool = False) -> str:
        """Return the sum of terms with these signs; `tight` in a subscript."""
        (sign, first), *rest = terms
        between = ("+", "-") if tight else (" + ", " - ")
        return "-" * (sign < 0) + first + "".join(between[s < 0] + t for s, t in rest)

    @abstractmethod
    def product(self, factors: Sequence[str]) -> str:
        """Return factors, at least one, multiplied."""

    @abstractmethod
    def fraction(self, over: str, under: Sequence[str]) -> str:
        """Return a product divided by factors, at least one."""

    @abstractmethod
    def power(self, base: str, exponent: str) -> str:
        """Return a power."""

    @abstractmethod
    def root(self, inside: str) -> str:
        """Return a square root."""

    @abstractmethod
    def big(self, kind: str, indices: Sequence[str]) -> str:
        """Return the sign of a reduction (sum, prod or max) over indices or comparisons of them."""

    @abstractmethod
    def mean(self, size: str, indices: Sequence[str]) -> str:
        """Return the sign of a mean over indices whose ranges have so many values together."""

    def reduced(self, big: str, inside: str) -> str:
        """Return the sign of a reduction and what is reduced."""
        return f"{big} {inside}"

    @abstractmethod
    def compared(self, kind: str, sides: Sequence[str], *, tight: bool = False) -> str:
        """Return a comparison, Both or Either of two, or a Remainder; `tight` below a Σ or in a
        subscript."""

    @abstractmethod
    def function(self, word: str, arguments: Sequence[str]) -> str:
        """Return a function of its arguments; polygamma has its order, a number, for the first."""

    def choice(self, condition: str, a: str, b: str) -> str:
        """Return a where the condition holds, else b."""
        return self.function("where", (condition, a, b))

    @abstractmethod
    def words(self, words: str) -> str:
        """Return words in place of an expression."""

    @abstractmethod
    def turns(self, index: str, first: str, last: str) -> str:
        """Return what stands above the equations of a loop."""

    @abstractmethod
    def page(self, lines: Sequence[Line]) -> list[str]:
        """Return equations one below the other, aligned at the equals sign, with their notes."""

    @abstractmethod
    def document(self, name: str, parts: Sequence[tuple[str, Sequence[Line]]]) -> str:
        """Return lists of equations below each other, each with what it is, as a whole text."""
