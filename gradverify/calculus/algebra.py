"""Arithmetic of polynomials with sums: every result in normal form."""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import count, groupby, permutations, product
from typing import Any
from zlib import crc32

from sympy import QQ, Symbol
from sympy.polys.fields import FracElement, FracField

from gradverify.calculus.integers import (
    Integers,
    offset,
    opaque,
    oriented,
    placed,
    solution,
    tidied,
)
from gradverify.calculus.polynomial import (
    Atom,
    Bound,
    Coefficient,
    Factors,
    Polynomial,
    Term,
    TooLarge,
    natural_number,
    rational,
    shown,
)
from gradverify.notation.dims import negative, normal, plus
from gradverify.notation.tree import ONE, ZERO, Call, Expr, Name, text

# A definition that a person writes stays far below; multiplied out beyond this, none is readable
# and proving it would take minutes.
MAX_TERMS = 3_000
# Bound indices that nothing tells apart are tried in every order: up to 5! of them.
MAX_TIED = 5


class Algebra:
    """Polynomials over sizes, constants and other scalar `symbols`.

    `positive` are the symbols that are known to be above 0; `integers` knows the indices.
    """

    def __init__(self, symbols: Iterable[str], positive: Iterable[str], integers: Integers) -> None:
        # Symbols, not texts, which would be parsed; one too many, since a field needs one.
        self.field = FracField([Symbol(n) for n in dict.fromkeys([*symbols, "_"])], QQ)
        self.symbols = {str(g): g for g in self.field.gens}
        self.positive, self.integers = frozenset(positive), integers
        self.zero, self.one = Polynomial(()), self.constant(self.field.one)
        self.fresh = (f"_f{k}" for k in count())
        self.budget = 10**9  # how many products may be made yet

    # -- making

    def number(self, value: Any) -> Coefficient:
        """Return a rational number as a coefficient."""
        value = Fraction(int(value.p), int(value.q)) if hasattr(value, "p") else Fraction(value)
        return self.field.one * QQ(value.numerator, value.denominator)

    def constant(self, value: Coefficient) -> Polynomial:
        """Return a coefficient as a polynomial."""
        return Polynomial(((Term((), ()), value),) if value else ())

    def size(self, size: Expr) -> Coefficient:
        """Return a size as a coefficient; a quotient in it is a symbol of its own."""
        total = self.field.zero
        for monomial, c in normal(size):
            part = self.number(c)
            for name in monomial:
                part *= self.symbols[name]
            total += part
        return total

    def atom(self, atom: Atom, exponent: Coefficient | None = None) -> Polynomial:
        """Return one factor as a polynomial."""
        return self.term((), [(atom, self.field.one if exponent is None else exponent)])

    def element(self, tensor: str, subscripts: Iterable[Expr]) -> Polynomial:
        """Return an element of a tensor."""
        return self.atom(Atom("element", tensor, tuple(map(tidied, subscripts))))

    def index(self, value: Expr) -> Polynomial:
        """Return the value of an index."""
        return self.atom(Atom("index", "", (tidied(value),)))

    def natural(self, value: Expr) -> Polynomial:
        """Return 1 where an integer is at least 0, else 0."""
        value = tidied(value)
        if (ends := self.integers.bounds(value)) is not None:
            if self.integers.at_least(ends[0], 0):
                return self.one
            if self.integers.at_least(negative(ends[1]), 1):
                return self.zero
        # v >= 0 is not (-v - 1 >= 0): of the two, the one whose constant is not below 0.
        if offset(value) >= 0:
            return self.atom(Atom("natural", "", (value,)))
        other = tidied(plus(negative(value), negative(ONE)))
        return self.add(self.one, self.scale(self.atom(Atom("natural", "", (other,))), -1))

    def equal(self, a: Expr, b: Expr) -> Polynomial:
        """Return 1 where two integers are equal, else 0."""
        conditions = self.integers.conditions(a, b)
        if conditions is None:
            return self.zero
        return self.term((), [(Atom("zero", "", (c,)), self.field.one) for c in conditions])

    def term(
        self,
        bound: Iterable[tuple[str, Expr]],
        factors: Iterable[tuple[Atom, Coefficient]],
        coefficient: Coefficient | None = None,
    ) -> Polynomial:
        """Return a product, summed over `bound`, in normal form; TooLarge beyond the budget."""
        self.budget -= 1
        if self.budget < 0:
            raise TooLarge
        value = self.field.one if coefficient is None else coefficient
        powers: dict[Atom, Coefficient] = {}
        for atom, exponent in factors:
            powers[atom] = powers.get(atom, self.field.zero) + exponent
        powers = {a: self.field.one if a.flag else e for a, e in powers.items() if e}
        for atom in [a for a in powers if a.kind == "base" and not a.args[0].terms[0][0].factors]:
            # sqrt(K)*sqrt(K) is K: a constant base keeps an exponent in [0, 1).
            exponent, base = rational(powers[atom]), atom.args[0].terms
            if exponent is not None and len(base) == 1:
                whole, part = divmod(exponent, 1)
                value = value * base[0][1] ** int(whole)
                powers[atom] = self.number(part)
                if not part:
                    del powers[atom]
        sizes = dict(bound)
        self.integers.ranges |= sizes
        if (solved := self.solved(powers, sizes)) is not None:
            index, at, test = solved
            rest = [(a, e) for a, e in powers.items() if a is not test]
            left = [(i, n) for i, n in sizes.items() if i != index]
            return self.substituted_term(left, rest, value, {index: at})
        for index in [i for i in sizes if not any(i in a.free for a in powers)]:
            value = value * self.size(sizes.pop(index))
        if not value:
            return self.zero
        return Polynomial(((self.standard(sizes, powers), value),))

    def solved(
        self, powers: Mapping[Atom, Coefficient], sizes: Mapping[str, Expr]
    ) -> tuple[str, Expr, Atom] | None:
        """Return (bound index, its only value, the test that says so) where a test fixes one."""
        for atom in powers:
            for index in sizes if atom.kind == "zero" else ():
                at = solution(atom.subscripts[0], index)
                if at is not None and self.integers.inside(at, sizes[index]):
                    return index, at, atom
        return None

    def standard(self, sizes: Mapping[str, Expr], powers: Mapping[Atom, Coefficient]) -> Term:
        """Return the term with its bound indices renamed in the standard way.

        A name tells how high the term is, so that a bound index inside a function and one of a
        sum around it are never the same.
        """
        if not sizes:
            return Term((), _sorted(powers.items()))
        height = 1 + max((a.height for a in powers), default=0)
        marks = {i: text(n) for i, n in sizes.items()}
        for _ in range(2):
            # An index is known by what it stands in; then also by the company that it keeps.
            marks = {i: self.mark(i, marks, powers) for i in marks}
        by_mark = sorted(marks, key=marks.__getitem__)
        groups = [list(g) for _, g in groupby(by_mark, marks.__getitem__)]
        orders: Iterable[list[str]] = [by_mark]
        if sum(len(g) for g in groups if len(g) > 1) <= MAX_TIED:
            choices = product(*(permutations(g) for g in groups))
            orders = ([i for g in choice for i in g] for choice in choices)
        found = []
        for order in orders:
            names: dict[str, Expr] = {i: Name(f"_{height}_{k}") for k, i in enumerate(order)}
            factors = [(self.renamed(a, names), e) for a, e in powers.items()]
            bound = tuple((f"_{height}_{k}", sizes[i]) for k, i in enumerate(order))
            found.append(Term(bound, _sorted(factors)))
        return min(found, key=lambda t: t.key)

    def mark(self, index: str, marks: Mapping[str, str], powers: Mapping[Atom, Coefficient]) -> str:
        """Return what tells a bound index from others, whatever any index is called."""
        free = frozenset().union(*(a.free for a in powers)) - self.integers.least.keys()
        masked: dict[str, Expr] = dict.fromkeys(free, Name("_"))
        masked |= {i: Name("_1" if i == index else "_" + m) for i, m in marks.items()}
        found = sorted(
            f"{_masked(a, masked)}^{shown(e)}" for a, e in powers.items() if index in a.free
        )
        return f"{crc32('*'.join([marks[index], *found]).encode()):x}"

    # -- arithmetic

    def add(self, *polynomials: Polynomial) -> Polynomial:
        """Return the sum of polynomials."""
        total: dict[Term, Coefficient] = {}
        for p in polynomials:
            for t, c in p.terms:
                total[t] = total.get(t, self.field.zero) + c
        if len(total) > MAX_TERMS:
            raise TooLarge
        return Polynomial(
            tuple(sorted(((t, c) for t, c in total.items() if c), key=lambda p: p[0].key))
        )

    def scale(self, p: Polynomial, by: Any) -> Polynomial:
        """Return a polynomial times a coefficient or a number."""
        by = by if isinstance(by, FracElement) else self.number(by)
        return Polynomial(tuple((t, c * by) for t, c in p.terms) if by else ())

    def multiply(self, *polynomials: Polynomial) -> Polynomial:
        """Return the product of polynomials, multiplied out."""
        result = self.one
        for p in polynomials:
            if len(result.terms) * len(p.terms) > MAX_TERMS:
                raise TooLarge
            parts = []
            for (a, c), (b, d) in product(result.terms, p.terms):
                if not (a.bound or b.bound) and not (a.factors and b.factors):
                    parts.append(Polynomial(((a if a.factors else b, c * d),)))
                    continue
                (left, x), (right, y) = self.freed(a), self.freed(b)
                parts.append(self.term((*left, *right), [*x, *y], c * d))
            result = self.add(*parts)
        return result

    def freed(self, t: Term) -> tuple[Bound, Factors]:
        """Return a term with bound indices that no other term has."""
        if not t.bound:
            return (), t.factors
        names = {i: Name(next(self.fresh)) for i, _ in t.bound}
        self.integers.ranges |= {names[i].id: n for i, n in t.bound}
        bound = tuple((names[i].id, n) for i, n in t.bound)
        return bound, tuple((self.renamed(a, names), e) for a, e in t.factors)

    def renamed(self, atom: Atom, names: Mapping[str, Expr]) -> Atom:
        """Return an atom with other names for its indices; it stays one atom."""
        if not atom.free & names.keys():
            return atom
        subscripts = tuple(placed(s, names) for s in atom.subscripts)
        if atom.kind == "zero":
            subscripts = (oriented(subscripts[0]),)
        args = tuple(self.with_names(p, names) for p in atom.args)
        return Atom(atom.kind, atom.name, subscripts, args)

    def with_names(self, p: Polynomial, names: Mapping[str, Expr]) -> Polynomial:
        """Return a polynomial with other plain names for its free indices."""
        if not p.free & names.keys():
            return p
        parts = []
        for t, c in p.terms:
            bound, factors = self.freed(t)
            parts.append(self.term(bound, [(self.renamed(a, names), e) for a, e in factors], c))
        return self.add(*parts)

    def substituted(self, p: Polynomial, values: Mapping[str, Expr]) -> Polynomial:
        """Return a polynomial with index expressions for its free indices."""
        if not p.free & values.keys():
            return p
        parts = []
        for t, c in p.terms:
            bound, factors = self.freed(t)
            parts.append(self.substituted_term(bound, factors, c, values))
        return self.add(*parts)

    def substituted_term(
        self,
        bound: Iterable[tuple[str, Expr]],
        factors: Iterable[tuple[Atom, Coefficient]],
        coefficient: Coefficient,
        values: Mapping[str, Expr],
    ) -> Polynomial:
        """Return a term with index expressions for its free indices."""
        plain, changed = [], []
        for atom, exponent in factors:
            if not atom.free & values.keys():
                plain.append((atom, exponent))
            elif atom.kind == "natural":
                changed.append(self.natural(placed(atom.subscripts[0], values)))
            elif atom.kind == "zero":
                test = placed(atom.subscripts[0], values)
                gap = isinstance(test, Call) and test.function == "-" and opaque(test)
                sides = test.args if isinstance(test, Call) and gap else (test, ZERO)
                changed.append(self.equal(*sides))
            else:
                plain.append((self.renamed(atom, values), exponent))
        return self.over(bound, self.multiply(self.term((), plain, coefficient), *changed))

    def over(self, bound: Iterable[tuple[str, Expr]], p: Polynomial) -> Polynomial:
        """Return a polynomial summed over indices that are free in it."""
        more = tuple(bound)
        if not more:
            return p
        parts = []
        for t, c in p.terms:
            inner, factors = self.freed(t)
            parts.append(self.term((*more, *inner), factors, c))
        return self.add(*parts)

    def mapped(self, p: Polynomial, change: Callable[[Atom], Polynomial | None]) -> Polynomial:
        """Return a polynomial with polynomials for those factors that `change` knows.

        Only factors with exponents that are natural numbers are changed.
        """
        parts = []
        for t, c in p.terms:
            bound, factors = self.freed(t)
            kept, new = [], []
            for atom, exponent in factors:
                n = natural_number(exponent)
                other = change(atom) if n else None
                if other is None:
                    kept.append((atom, exponent))
                else:
                    new += [other] * (n or 0)
            if new:
                whole = self.multiply(self.term((), kept, c), *new)
                parts.append(self.over(bound, whole))
            else:
                parts.append(Polynomial(((t, c),)))
        return self.add(*parts)

    def at_flag(self, p: Polynomial, flag: Atom, value: int) -> Polynomial:
        """Return a polynomial where a test holds (1) or not (0)."""
        given = self.constant(self.number(value))
        return self.mapped(p, lambda a: given if a == flag else None)

    # -- contents

    def known_positive(self, c: Coefficient) -> bool:
        """Whether a coefficient is a product of powers of positive symbols and a number above 0."""
        for part in (c.numer, c.denom):
            if len(part.terms()) != 1 or part.LC < 0:
                return False
        names = [str(g) for g in self.field.gens]
        used = (n for part in (c.numer, c.denom) for m in part.monoms()
                for n, e in zip(names, m, strict=True) if e)  # fmt: skip
        return all(n in self.positive for n in used)

    def content(self, p: Polynomial) -> Coefficient:
        """Return the greatest common coefficient, with the sign of the first term."""
        ring = self.field.ring
        top, bottom = ring.zero, ring.one
        for _, c in p.terms:
            bottom = bottom.lcm(c.denom)
        for _, c in p.terms:
            top = top.gcd(c.numer * bottom.quo(c.denom))
        found = self.field.new(top, bottom)
        (_, first), *_ = p.terms
        return -found if (first / found).numer.LC < 0 else found


def _sorted(factors: Iterable[tuple[Atom, Coefficient]]) -> Factors:
    return tuple(sorted(factors, key=lambda p: (p[0].key, shown(p[1]))))


def _masked(atom: Atom, names: Mapping[str, Expr]) -> str:
    own = [text(placed(s, names)) for s in atom.subscripts]
    if atom.kind == "zero":
        own.sort()
    inner = sorted(
        f"{shown(c)}*" + "*".join(sorted(f"{_masked(a, names)}^{shown(e)}" for a, e in t.factors))
        for p in atom.args
        for t, c in p.terms
    )
    return f"{atom.kind[0]}:{atom.name}({','.join(own + inner)})"
