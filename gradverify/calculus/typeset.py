"""Scalars and equations to text, in unicode or in LaTeX, in an order that people write."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy
from sympy import Add, Mul, S, Symbol
from sympy import Expr as Scalar
from sympy.printing.latex import greek_letters_set

from gradverify.calculus.code import LARGEST_DENOMINATOR
from gradverify.calculus.derive import Derivation
from gradverify.calculus.functions import Equal, Less, LessEqual, Negation, scalar
from gradverify.notation.dims import negative, plus
from gradverify.notation.tree import ONE, Expr, Name, Read, free_names

WIDTH = 98  # 100 with the indent
ADDS = "(+= adds to the given value, or to 0)"

Loop = tuple[int, str, bool, Expr]  # place in the order, index, whether backwards, size

_GREEK = (greek_letters_set - {"omicron"}) | {
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"
}  # fmt: skip
_CONSTANTS = {S.Pi: ("π", r"\pi"), S.Infinity: ("∞", r"\infty"),
              S.NegativeInfinity: ("-∞", r"-\infty"), S.Exp1: ("e", "e")}  # fmt: skip
_COMPARED = {"Less": ("<", "<"), "LessEqual": ("≤", r"\le"), "Equal": ("=", "="),
             "Greater": (">", ">"), "GreaterEqual": ("≥", r"\ge"), "Unequal": ("≠", r"\ne"),
             "Both": ("and", r"\land"), "Either": ("or", r"\lor")}  # fmt: skip
REVERSED = {"Less": "Greater", "LessEqual": "GreaterEqual"}  # x > 0 for 0 < x
_WORDS = {"Select": "where", "StopGradient": "stop_gradient", "Negation": "not"}
_GAMMAS = {"Gamma": ("Γ", r"\Gamma"), "Lgamma": ("lgamma", r"\log\Gamma"),
           "Polygamma": ("digamma", r"\psi")}  # fmt: skip
# that LaTeX has
_OPERATORS = frozenset({"exp", "log", "tanh", "sin", "cos", "tan", "arctan", "sinh", "cosh",
                        "max", "min"})  # fmt: skip
_FENCES = {"": ("({})", r"\left({}\right)"), "Abs": ("|{}|", r"\left|{}\right|"),
           "Floor": ("⌊{}⌋", r"\left\lfloor {}\right\rfloor")}  # fmt: skip
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
# How tightly what is printed binds; a Σ holds all factors to its right.
_TEST, _SUM, BIG, _PRODUCT, _POWER, _ATOM = range(6)


@dataclass(frozen=True)
class Line:
    """One equation as text, `left op right`, for `every` index that is to be named."""

    target: str
    left: str
    op: str
    right: str
    reads: frozenset[str] = frozenset()
    every: tuple[str, ...] = ()
    loop: Loop | None = None
    note: str = ""


def _below(e: Scalar) -> bool:
    """Whether a factor stands below the fraction bar."""
    return bool(e.is_Pow and e.exp.is_number and e.exp.is_negative)


def _decimal(value: sympy.Rational) -> str:
    # What a product with a decimal adds in its last two digits is left out.
    exact, short = repr(float(value)), f"{float(value):.15g}"
    return short if len(short) < len(exact) - 1 else exact


def _distributed(e: Scalar) -> Scalar:
    """Undo that sympy clears denominators, where they are those of decimals."""
    coefficient, rest = e.as_coeff_Mul()
    for f in Mul.make_args(rest):
        if f.is_Add and any(abs(r.p) > 10**9 for r in f.atoms(sympy.Rational)):
            return Mul(Add(*(coefficient * a for a in f.args)), rest / f)
    return e


def _wrapped(line: str, hang: int) -> list[str]:
    """Break a line that is too long after a + or -, outside brackets where there is one."""
    depth, cuts = 0, []
    for k, character in enumerate(line[:WIDTH]):
        depth += (character in "([") - (character in ")]")
        if k > hang and line[k - 1 : k + 2] in (" + ", " - "):
            cuts.append((depth, -k))
    if len(line) <= WIDTH or not cuts:
        return [line]
    cut = 1 - min(cuts)[1]
    return [line[:cut], *_wrapped(" " * hang + line[cut + 1 :], hang)]


class Printer:
    """Prints sympy expressions with the reads in them, in an order that people write."""

    def __init__(self, d: Derivation, *, latex: bool = False) -> None:
        self.latex, self.sizes = latex, d.program.declared.sizes
        self.constants = frozenset(d.program.declared.constants)
        self.reads: dict[Symbol, Read] = {}
        self.rank: dict[str, int] = {}
        self.inside = 0  # how deep in subscripts
        self.primals = {c: t for t, c in d.cotangents.items() if c == f"d{t}"}

    def tensor(self, name: str) -> str:
        """Return the name of a tensor: greek letters, hats and cotangents in LaTeX."""
        if not self.latex or len(name) == 1:
            return name
        if name in self.primals:
            return rf"\mathrm{{d}}{self.tensor(self.primals[name])}"
        if hat := re.fullmatch("(.+?)_?hat", name):
            return rf"\hat{{{self.tensor(hat[1])}}}"
        escaped = name.replace("_", r"\_")
        return f"\\{name}" if name in _GREEK else rf"\mathrm{{{escaped}}}"

    def name(self, name: str) -> str:
        """Return the name of an index, a size or a constant."""
        if re.fullmatch(r"[a-z]\d+", name):
            return f"{name[0]}_{{{name[1:]}}}" if self.latex else name.translate(_LOWERED)
        return self.tensor("epsilon" if name == "eps" and self.latex else name)

    def element(self, read: Expr) -> str:
        """Return a tensor with its subscripts."""
        assert isinstance(read, Read)
        self.inside += 1
        shown = ",".join(self.text(scalar(s, self.reads, self.sizes)) for s in read.subscripts)
        self.inside -= 1
        form = ("_{{{}}}" if self.latex else "[{}]") if read.subscripts else ""
        return self.tensor(read.tensor) + form.format(shown)

    def text(self, e: Scalar, above: int = 0) -> str:
        """Return an expression, in brackets where it binds less tightly than `above`."""
        shown, level = self.show(e)
        return shown if level >= above else _FENCES[""][self.latex].format(shown)

    def show(self, e: Scalar) -> tuple[str, int]:
        """Return an expression and how tightly it binds."""
        if e.is_Symbol:
            return (self.element(self.reads[e]) if e in self.reads else self.name(e.name)), _ATOM
        if e in _CONSTANTS:
            return _CONSTANTS[e][self.latex], _ATOM if e.is_positive else _SUM
        if e.is_Add:
            return self.joined(self.terms(e)), _SUM
        if e.is_Pow and not _below(e):
            return self.power(*e.args), _POWER
        if e.is_Mul or e.is_Pow or e.is_Number:
            sign, shown = self.term(e)
            return (shown, _PRODUCT) if sign > 0 else (f"-{shown}", _SUM)
        return self.call(type(e).__name__, e.args)

    def order(self, e: Scalar) -> tuple[object, ...]:
        """Return the place by what an expression reads: as the definition first names it."""
        names = {self.reads[s].tensor if s in self.reads else s.name for s in e.free_symbols}
        ranks = sorted(self.rank.get(n, len(self.rank)) for n in names)
        return ranks, sympy.count_ops(e), str(e)

    def terms(self, e: Scalar) -> list[tuple[int, str]]:
        """Return the terms of a sum: subtracted ones last, numbers first (last in subscripts)."""

        def place(a: Scalar) -> tuple[object, ...]:
            subtracted = bool(a.as_coeff_Mul()[0] < 0)
            return subtracted, a.is_Number == bool(self.inside), self.order(a)

        return [self.term(a) for a in sorted(Add.make_args(e), key=place)]

    def joined(self, terms: Sequence[tuple[int, str]]) -> str:
        """Return a sum of terms with their signs."""
        (sign, first), *rest = terms
        between = ("+", "-") if self.inside else (" + ", " - ")
        return "-" * (sign < 0) + first + "".join(between[s < 0] + t for s, t in rest)

    def term(self, e: Scalar, indices: Sequence[str] = (), big: str = "") -> tuple[int, str]:
        """Return the sign and the text of a product: numbers, constants, tensors, functions, sums.

        `big` is a Σ over `indices`; it comes after the factors that do not have them.
        """

        def place(f: Scalar) -> tuple[object, ...]:
            base = f.base if f.is_Pow else f
            kinds = base in self.reads, base.is_Function, base.is_Add
            return max(k * bool(v) for k, v in enumerate(kinds, 1)), self.order(f)

        coefficient, rest = _distributed(e).as_coeff_Mul()
        number = abs(coefficient)
        factors = sorted((f for f in Mul.make_args(rest) if f != 1), key=place)
        roots = [f for f in factors if f.is_Pow and f.base.is_number and abs(f.exp) == S.Half]
        over = [f for f in factors if not _below(f) and f not in roots]
        under = [1 / f for f in factors if _below(f) and f not in roots]
        p, q = (number.p, number.q) if number.q <= LARGEST_DENOMINATOR else (_decimal(number), 1)
        top, bottom = [str(p)] * (p != 1), [str(q)] * (q != 1)
        if roots:
            n, d = Mul(*(f**2 for f in roots)).as_numer_denom()
            (bottom if n == 1 else top).append(self.root(d if n == 1 else n / d))
        front: list[str] = []
        if big:
            inside = ((s, free_names(self.reads.get(s, Name(s.name)))) for s in e.free_symbols)
            bound = {s for s, names in inside if {*names} & {*indices}}
            free = [f for f in over if not f.free_symbols & bound]
            free = free if len(free) < len(over) else []
            front, top = [*top, *(self.text(f, _PRODUCT) for f in free)], []
            over = [f for f in over if f not in free]
        # A factor that stands alone needs fewer brackets, none where a fraction bar holds it.
        alone, bar = len(top) + len(over) == 1, bool(bottom or under)
        level = _PRODUCT if not alone or (bar and not self.latex) else BIG if not bar else 0
        top += [self.text(f, level) for f in over]
        level = 0 if self.latex and len(bottom) + len(under) == 1 else _POWER
        bottom += [self.text(f, level) for f in under]
        shown = self.fraction(top, bottom)
        shown = self.product([*front, f"{big} {shown}"]) if big else shown
        return -1 if coefficient < 0 else 1, shown

    def product(self, factors: Sequence[str]) -> str:
        """Return factors multiplied."""
        return (r" \, " if self.latex else "·").join(factors)

    def fraction(self, top: Sequence[str], bottom: Sequence[str]) -> str:
        """Return factors divided by factors."""
        over, under = self.product(top) or "1", self.product(bottom)
        if not bottom:
            return over
        if self.latex:
            return rf"\frac{{{over}}}{{{under}}}"
        return f"{over}/{under}" if len(bottom) == 1 else f"{over}/({under})"

    def power(self, base: Scalar, exponent: Scalar) -> str:
        """Return a power, whose exponent is raised where there are signs for that."""
        if exponent == S.Half:
            return self.root(base)
        shown = self.text(base, _ATOM)
        if self.latex:
            return f"{shown}^{{{self.text(exponent)}}}"
        if exponent.is_Integer:
            return shown + str(exponent).translate(_RAISED)
        return f"{shown}^{self.text(exponent, _ATOM)}"

    def root(self, e: Scalar) -> str:
        """Return a square root."""
        if self.latex:
            return rf"\sqrt{{{self.text(e)}}}"
        bare = e.is_Integer or (e.is_Symbol and e not in self.reads)
        return f"√{self.text(e)}" if bare else f"√({self.text(e)})"

    def big(
        self, kind: str, indices: Sequence[str], bounds: Mapping[str, str] | None = None
    ) -> str:
        """Return the Σ, Π, mean or max that stands before what is reduced; `bounds` gives the text
        for an index that has a bound, j≤i."""
        inside = ",".join((bounds or {}).get(i) or self.name(i) for i in indices)
        word = {"sum": "Σ", "prod": "Π"}.get(kind, kind)
        return rf"\{kind}_{{{inside}}}" if self.latex else f"{word}[{inside}]"

    def switch(self, e: Scalar) -> bool:
        """Whether a condition says that a constant is 0, such as one that is True or False."""
        return isinstance(e, Equal) and e.args[1] == 0 and str(e.args[0]) in self.constants

    def compared(self, kind: str, args: Sequence[Scalar], gap: str = " ") -> str:
        """Return a comparison of two terms, or two conditions joined."""
        sign = f"{gap}{_COMPARED[kind][self.latex]}{gap}"
        return sign.join(self.text(a, _SUM) for a in args)

    def call(self, kind: str, args: Sequence[Scalar]) -> tuple[str, int]:
        """Return a function; choices and comparisons as the definition writes them."""
        if kind == "Select":
            pair = args[0].args if isinstance(args[0], Less | LessEqual) else ()
            if pair in (args[:0:-1], args[1:]):
                kind, args = "min" if pair == args[1:] else "max", args[1:]
            elif pair == (0, args[1]) and args[2] == -args[1]:
                kind, args = "Abs", args[1:2]
            elif isinstance(args[0], Negation) and self.switch(args[0].args[0]):
                args = (args[0].args[0].args[0], *args[1:])  # where(train, ...), for train != 0
        elif kind == "Negation" and isinstance(args[0], Equal):
            kind, args = "Unequal", args[0].args
        elif kind in REVERSED and args[0].is_number:
            kind, args = REVERSED[kind], args[::-1]
        if kind in _COMPARED:
            return self.compared(kind, args), _TEST
        if kind == "atan" and self.latex:
            kind = "arctan"
        if kind in _GAMMAS:
            word = _GAMMAS[kind][self.latex]
            if kind == "Polygamma" and args[0] != 0:
                if not self.latex:
                    return f"polygamma({args[0]}, {self.text(args[1])})", _ATOM
                word += rf"^{{({args[0]})}}"
            return word + _FENCES[""][self.latex].format(self.text(args[-1])), _ATOM
        inside = ", ".join(map(self.text, args))
        if kind in _FENCES:
            return _FENCES[kind][self.latex].format(inside), _ATOM
        word = _WORDS.get(kind, kind.lower())
        if self.latex:
            escaped = word.replace("_", r"\_")
            word = f"\\{word}" if word in _OPERATORS else rf"\operatorname{{{escaped}}}"
        return word + _FENCES[""][self.latex].format(inside), _ATOM

    def page(self, lines: Sequence[Line]) -> list[str]:
        """Return equations as lines of text, aligned at the equals sign, with their notes."""
        lefts = ["  " * bool(e.loop) + e.left for e in lines]
        left, op = (max(map(len, x), default=0) for x in (lefts, [e.op for e in lines]))
        shown: list[str] = []
        loop = None
        for e, start in zip(lines, lefts, strict=True):
            if e.loop and e.loop != loop:
                shown.append(self.turns(e.loop))
            loop = e.loop
            every = ", ".join(map(self.name, e.every))
            if self.latex:
                tail = rf" \quad \text{{for all ${every}$}}" if every else ""
                sign = r"\mathrel{+}=" if e.op == "+=" else "="
                middle = rf"&\quad {e.left} {sign}" if loop else f"{e.left} &{sign}"
                shown.append(f"{middle} {e.right}{tail}")
            else:
                tail = f"   for all {every}" if every else ""
                line = f"{start:<{left}} {e.op:>{op}} {e.right}{tail}"
                shown += _wrapped(line, left + op + 2)
        notes = [e.note for e in lines if e.note] + [ADDS for e in lines if e.op == "+="]
        return shown + [rf"& \text{{{n}}}" if self.latex else n for n in dict.fromkeys(notes)]

    def turns(self, loop: Loop) -> str:
        """Return the line above the equations of a loop."""
        _, index, backwards, size = loop
        last = self.text(scalar(plus(size, negative(ONE)), {}, self.sizes)).replace(" ", "")
        ends = (last, "0") if backwards else ("0", last)
        dots = r", \ldots, " if self.latex else ", ..., "
        span = f"{self.name(index)} = {dots.join(ends)}"
        return rf"& \text{{for ${span}$:}}" if self.latex else f"for {span}:"
