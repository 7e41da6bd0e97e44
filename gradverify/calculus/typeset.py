"""Scalars to text in any style, in an order that people write."""

from collections.abc import Sequence

import sympy
from sympy import Add, Mul, S, Symbol
from sympy import Expr as Scalar

from gradverify.calculus.bounded import REVERSED
from gradverify.calculus.code import LARGEST_DENOMINATOR
from gradverify.calculus.derive import Derivation
from gradverify.calculus.functions import (
    Both,
    Equal,
    Less,
    LessEqual,
    Negation,
    Select,
    distributed,
    scalar,
)
from gradverify.calculus.style import Style
from gradverify.notation.tree import Expr, Name, Read, Reduce, free_names, rebuild, text

_CONSTANTS = {S.Pi: "pi", S.Infinity: "infty", S.Exp1: "e"}
_COMPARED = frozenset({"Less", "LessEqual", "Equal", "Greater", "GreaterEqual", "Unequal",
                       "Both", "Either"})  # fmt: skip
_WORDS = {"StopGradient": "stop_gradient", "Negation": "not"}
# How tightly what is printed binds; a Σ holds all factors to its right.
_TEST, _SUM, BIG, _PRODUCT, _POWER, _ATOM = range(6)


def _below(e: Scalar) -> bool:
    """Whether a factor stands below the fraction bar."""
    return bool(e.is_Pow and e.exp.is_number and e.exp.is_negative)


def _decimal(value: sympy.Rational) -> str:
    # What a product with a decimal adds in its last two digits is left out.
    exact, short = repr(float(value)), f"{float(value):.15g}"
    return short if len(short) < len(exact) - 1 else exact


def _one_choice(condition: Scalar, a: Scalar, b: Scalar) -> Scalar | None:
    """Return where(c = d, 0, where(e, 1, 0)) and where(c, where(e, 1, 0), 0) as one choice of
    numbers, None for others: maxima and the like are to be seen."""
    inner = a if isinstance(a, Select) else b
    if not isinstance(inner, Select) or not (inner.args[1].is_number and inner.args[2].is_number):
        return None
    if inner is a and inner.args[2] == b:
        return Select(Both(condition, inner.args[0]), *inner.args[1:])
    if isinstance(condition, Equal) and inner.args[2] == a:
        return Select(Both(Negation(condition), inner.args[0]), *inner.args[1:])
    return None


class Printer:
    """Prints sympy expressions with the reads in them, in an order that people write."""

    def __init__(self, d: Derivation, style: Style) -> None:
        self.style, self.sizes = style, d.program.declared.sizes
        self.constants = frozenset(d.program.declared.constants)
        self.reads: dict[Symbol, Read] = {}
        self.reductions: dict[Symbol, tuple[tuple[str, ...], Scalar]] = {}
        self.rank: dict[str, int] = {}
        self.inside = 0  # how deep in subscripts
        self.primals = {c: t for t, c in d.cotangents.items() if c == f"d{t}"}

    def tensor(self, name: str) -> str:
        """Return the name of a tensor, of a cotangent by that of its tensor."""
        if name in self.primals:
            return self.style.cotangent(self.tensor(self.primals[name]))
        return self.style.tensor(name)

    def tight(self, e: Expr) -> str:
        """Return a subscript or a bound, in which numbers come last."""
        self.inside += 1
        shown = self.text(scalar(e, self.reads, self.sizes))
        self.inside -= 1
        return shown

    def element(self, read: Expr) -> str:
        """Return a tensor with its subscripts."""
        assert isinstance(read, Read)
        shown, name = [self.tight(s) for s in read.subscripts], self.tensor(read.tensor)
        return self.style.element(name, shown) if shown else name

    def text(self, e: Scalar, above: int = 0) -> str:
        """Return an expression, in brackets where it binds less tightly than `above`."""
        shown, level = self.show(e)
        return shown if level >= above else self.style.fence("", shown)

    def show(self, e: Scalar) -> tuple[str, int]:
        """Return an expression and how tightly it binds."""
        if e in self.reductions:
            return self.reduction(*self.reductions[e])
        if e.is_Symbol:
            read = self.reads.get(e)
            return (self.style.name(e.name) if read is None else self.element(read)), _ATOM
        if e in _CONSTANTS:
            return self.style.constants[_CONSTANTS[e]], _ATOM
        if e.is_Add:
            return self.joined(self.terms(e)), _SUM
        if e.is_Pow and not _below(e):
            return self.power(*e.args), _POWER
        if e.is_Mul or e.is_Pow or e.is_Number:
            sign, shown = self.term(e)
            return (shown, _PRODUCT) if sign > 0 else (self.joined([(sign, shown)]), _SUM)
        return self.call(type(e).__name__, e.args)

    def scalar(self, e: Expr) -> Scalar:
        """Return an expression with sums in it, each as a symbol of its own."""

        def visit(e: Expr) -> Expr:
            e = rebuild(e, visit)
            if not isinstance(e, Reduce):
                return e
            symbol = Symbol(text(e), real=True)
            self.reductions[symbol] = e.indices, scalar(e.body, self.reads, self.sizes)
            return Read(symbol.name, ())

        return scalar(visit(e), self.reads, self.sizes)

    def reduction(self, indices: Sequence[str], body: Scalar) -> tuple[str, int]:
        """Return a Σ, which holds all factors to its right."""
        names = [self.style.name(i) for i in indices]
        big = self.style.big("sum", names)
        if body.is_Add:
            return self.style.reduced(big, self.text(body, BIG)), BIG
        sign, shown = self.term(body, names, big)
        return (shown, BIG) if sign > 0 else (self.joined([(sign, shown)]), _SUM)

    def order(self, e: Scalar) -> tuple[object, ...]:
        """Return the place by what an expression reads: as the definition first names it."""
        names = {self.reads[s].tensor if s in self.reads else s.name for s in e.free_symbols}
        ranks = sorted(self.rank.get(n, len(self.rank)) for n in names)
        return ranks, sympy.count_ops(e), str(e)

    def terms(self, e: Scalar) -> list[tuple[int, str]]:
        """Return the terms of a sum: subtracted ones last, numbers first (last in subscripts)."""

        def place(a: Scalar) -> tuple[object, ...]:
            subtracted = bool(a.as_coeff_Mul()[0] < 0)
            # Of sums, Σ dy before xhat Σ dy·xhat.
            summed = len(a.args) if a.free_symbols & self.reductions.keys() else 0
            return subtracted, a.is_Number == bool(self.inside), summed, self.order(a)

        return [self.term(a) for a in sorted(Add.make_args(e), key=place)]

    def joined(self, terms: Sequence[tuple[int, str]]) -> str:
        """Return a sum of terms with their signs."""
        return self.style.total(terms, tight=self.inside > 0)

    def term(self, e: Scalar, indices: Sequence[str] = (), big: str = "") -> tuple[int, str]:
        """Return the sign and the text of a product: numbers, constants, tensors, functions, sums.

        `big` is a Σ over `indices`; it comes after the factors that do not have them.
        """

        def place(f: Scalar) -> tuple[object, ...]:
            base = f.base if f.is_Pow else f
            kinds = base in self.reads, base.is_Function, base.is_Add
            return max(k * bool(v) for k, v in enumerate(kinds, 1)), self.order(f)

        coefficient, rest = distributed(e).as_coeff_Mul()
        number = abs(coefficient)
        factors = sorted((f for f in Mul.make_args(rest) if f != 1), key=place)
        roots = [f for f in factors if f.is_Pow and f.base.is_number and abs(f.exp) == S.Half]
        over = [f for f in factors if not _below(f) and f not in roots]
        under = [1 / f for f in factors if _below(f) and f not in roots]
        top, bottom = self.numbers(number)
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
        flat = self.style.flat
        level = _PRODUCT if not alone or (bar and flat) else BIG if not bar else 0
        top += [self.text(f, level) for f in over]
        level = 0 if not flat and len(bottom) + len(under) == 1 else _POWER
        bottom += [self.text(f, level) for f in under]
        shown = self.fraction(top, bottom)
        shown = self.style.product([*front, self.style.reduced(big, shown)]) if big else shown
        return -1 if coefficient < 0 else 1, shown

    def numbers(self, number: Scalar) -> tuple[list[str], list[str]]:
        """Return the factors that a number which is not negative puts over and under the bar."""
        if number.is_infinite:
            return [self.style.constants["infty"]], []
        p, q = (number.p, number.q) if number.q <= LARGEST_DENOMINATOR else (_decimal(number), 1)
        over, under = ([self.style.number(str(n))] * (n != 1) for n in (p, q))
        return over, under

    def fraction(self, over: Sequence[str], under: Sequence[str]) -> str:
        """Return factors divided by factors."""
        shown = self.style.product(over) if over else self.style.number("1")
        return self.style.fraction(shown, under) if under else shown

    def power(self, base: Scalar, exponent: Scalar) -> str:
        """Return a power, whose exponent is raised where there are signs for that."""
        if exponent == S.Half:
            return self.root(base)
        raised = exponent.is_Integer or not self.style.flat
        return self.style.power(self.text(base, _ATOM), self.text(exponent, 0 if raised else _ATOM))

    def root(self, e: Scalar) -> str:
        """Return a square root."""
        bare = e.is_Integer or (e.is_Symbol and e not in self.reads) or not self.style.flat
        return self.style.root(self.text(e) if bare else self.style.fence("", self.text(e)))

    def compared(self, kind: str, args: Sequence[Scalar], *, tight: bool = False) -> str:
        """Return a comparison of two terms, or two conditions joined."""
        return self.style.compared(kind, [self.text(a, _SUM) for a in args], tight=tight)

    def switch(self, e: Scalar) -> bool:
        """Whether a condition says that a constant is 0, such as one that is True or False."""
        return isinstance(e, Equal) and e.args[1] == 0 and str(e.args[0]) in self.constants

    def call(self, kind: str, args: Sequence[Scalar]) -> tuple[str, int]:
        """Return a function; choices and comparisons as the definition writes them."""
        if kind == "Select":
            pair = args[0].args if isinstance(args[0], Less | LessEqual) else ()
            if pair in (args[:0:-1], args[1:]):
                kind, args = "min" if pair == args[1:] else "max", args[1:]
            elif pair == (0, args[1]) and args[2] == -args[1]:
                kind, args = "Abs", args[1:2]
            elif one := _one_choice(*args):
                return self.show(one)
            elif isinstance(args[0], Negation) and self.switch(args[0].args[0]):
                args = (args[0].args[0].args[0], *args[1:])  # where(train, ...), for train != 0
        elif kind == "Negation" and isinstance(args[0], Equal):
            kind, args = "Unequal", args[0].args
        elif kind in REVERSED and args[0].is_number:
            kind, args = REVERSED[kind], args[::-1]
        if kind in _COMPARED:
            return self.compared(kind, args), _TEST
        if kind == "Remainder":
            sides = [self.text(a, _POWER) for a in args]
            return self.style.compared(kind, sides, tight=self.inside > 0), _SUM
        if kind == "Polygamma" and args[0] == 0:
            kind, args = "digamma", args[1:]
        inside = [self.text(a) for a in args]
        if kind == "Select":
            return self.style.choice(*inside), _ATOM
        if kind in ("Abs", "Floor"):
            return self.style.fence(kind, *inside), _ATOM
        return self.style.function(_WORDS.get(kind, kind.lower()), inside), _ATOM
