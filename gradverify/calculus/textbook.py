"""Polynomials back to expressions of the notation, factored as a person would write them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, permutations

from sympy.polys.rings import PolyElement

from gradverify.calculus.algebra import Algebra
from gradverify.calculus.integers import opaque
from gradverify.calculus.polynomial import (
    Atom,
    Coefficient,
    Polynomial,
    Term,
    TooLarge,
    rational,
)
from gradverify.notation.dims import negative, normal, plus, same, tidy, times
from gradverify.notation.tree import (
    ONE,
    ZERO,
    Call,
    Expr,
    Name,
    Number,
    Read,
    Reduce,
    free_names,
    rebuild,
    text,
)

# The letters that people take for one more index, first choice first.
LETTERS = "mkjilpqrsuvwabdefghtoxyzcn"
# So many orders are tried in which the bound indices of two sums match: those of 5 indices.
MOST_ORDERS = 120

_WORDS = {"Abs": "abs", "Sigmoid": "sigmoid", "Softplus": "softplus"}


@dataclass
class Writer:
    """Writes polynomials as expressions.

    `letters` are what free indices are called, `usual` the letter that the definition uses for a
    size, `rank` the order in which tensors are named, `taken` the letters that mean something else
    and `called` the tensors that go by another name.
    """

    algebra: Algebra
    letters: Mapping[str, str]
    usual: Mapping[str, str] = field(default_factory=dict)
    rank: Mapping[str, int] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    called: Mapping[str, str] = field(default_factory=dict)
    ranges: dict[str, Expr] = field(default_factory=dict, init=False)

    def write(self, p: Polynomial) -> Expr:
        """Return a polynomial as an expression; `ranges` are then those of its indices."""
        known = self.algebra.integers.ranges
        self.ranges = {x: known[i] for i, x in self.letters.items() if i in known}
        return self.sum(p, dict(self.letters))

    def sum(self, p: Polynomial, names: Mapping[str, str]) -> Expr:
        """Return a sum of terms: a choice where a test decides, else factored."""
        if not p.terms:
            return ZERO
        found = [self.plain(p, names)]
        if (flag := self.flag(p)) is not None:
            yes, no = (self.algebra.at_flag(p, flag, value) for value in (1, 0))
            found.append(Call("where", (self.condition(flag, names), self.sum(yes, names),
                                        self.sum(no, names))))  # fmt: skip
        if (merged := self.merged(p, names)) is not None:
            found.append(merged)
        return min(found, key=lambda e: len(text(e)))

    def merged(self, p: Polynomial, names: Mapping[str, str]) -> Expr | None:
        """Return sums over the same sizes as one sum, where all terms are such sums."""
        sizes = {tuple(sorted(text(n) for _, n in t.bound)) for t, _ in p.terms}
        if len(p.terms) < 2 or len(sizes) > 1 or sizes == {()}:
            return None
        a, chosen, parts = self.algebra, dict(names), []
        indices: dict[int, str] = {}
        (first, _), *_ = p.terms
        names_of = [i for i, _ in first.bound]
        for i in sorted(names_of, key=lambda i: self.first(i, first.factors)):
            k = names_of.index(i)
            indices[k] = next(a.fresh)
            a.integers.ranges[indices[k]] = first.bound[k][1]
            chosen[indices[k]] = self.letter(first.bound[k][1], chosen.values())
        model = {a.renamed(f, {i: Name(indices[k]) for k, i in enumerate(names_of)})
                 for f, _ in first.factors}  # fmt: skip
        for t, c in p.terms:
            own = self.aligned(t, [(indices[k], n) for k, (_, n) in enumerate(first.bound)], model)
            parts.append(a.term((), [(a.renamed(f, own), e) for f, e in t.factors], c))
        inner = self.sum(a.add(*parts), chosen)
        return Reduce("sum", tuple(chosen[i] for i in indices.values()), inner)

    def aligned(
        self, t: Term, places: Sequence[tuple[str, Expr]], model: Collection[Atom]
    ) -> dict[str, Expr]:
        """Return names for a term's bound indices, by which it shares most factors with `model`."""
        best: tuple[int, dict[str, Expr]] = (-1, {})
        for order in islice(permutations(places), MOST_ORDERS):
            if all(same(n, size) for (_, n), (_, size) in zip(t.bound, order, strict=True)):
                own: dict[str, Expr] = {
                    i: Name(j) for (i, _), (j, _) in zip(t.bound, order, strict=True)
                }
                shared = sum(self.algebra.renamed(f, own) in model for f, _ in t.factors)
                best = max(best, (shared, own), key=lambda pair: pair[0])
        return best[1]

    def plain(self, p: Polynomial, names: Mapping[str, str]) -> Expr:
        """Return a sum of terms with their common factors in front."""
        a = self.algebra
        if len(p.terms) == 1:
            return self.product(*p.terms[0], names)
        content, common = a.content(p), self.common(p)
        rest = a.scale(p, 1 / content)
        rest = a.multiply(rest, a.term((), [(f, -e) for f, e in common]))
        signs = {c.numer.LC < 0 for _, c in rest.terms}
        if signs == {True} or (signs == {True, False} and content.numer.LC < 0):
            content, rest = -content, a.scale(rest, -1)
        total: Expr = ZERO
        for t, c in sorted(rest.terms, key=lambda x: self.place(*x)):
            if c.numer.LC < 0 and total != ZERO:
                total = Call("-", (total, self.product(t, -c, names)))
            else:
                part = self.product(t, c, names)
                total = part if total == ZERO else Call("+", (total, part))
        return self.factors(content, common, [total], names)

    def flag(self, p: Polynomial) -> Atom | None:
        """Return a test outside of all sums, if there is one."""
        found = [a for t, _ in p.terms for a, _ in t.factors
                 if a.flag and not a.free & {i for i, _ in t.bound}]  # fmt: skip
        return min(found, key=lambda a: a.key) if found else None

    def common(self, p: Polynomial) -> list[tuple[Atom, Coefficient]]:
        """Return the factors of all terms, to the power nearest to 0."""
        shared: dict[Atom, Coefficient] | None = None
        for t, _ in p.terms:
            bound = {i for i, _ in t.bound}
            mine = {a: e for a, e in t.factors if not a.free & bound}
            if shared is None:
                shared = mine
                continue
            both = {a: [shared[a], mine[a]] for a in shared if a in mine}
            shared = {}
            for a, exponents in both.items():
                values = [rational(e) for e in exponents]
                if None not in values and len({v > 0 for v in values if v is not None}) == 1:
                    shared[a] = min(exponents, key=lambda e: abs(rational(e) or Fraction(0)))
        return list((shared or {}).items())

    def place(self, t: Term, c: Coefficient) -> tuple[object, ...]:
        """Return the place of a term in a sum: subtracted ones and sums last."""
        ranks = sorted(self.rank.get(a.name, 99) for a, _ in t.factors)
        return c.numer.LC < 0, len(t.bound) > 0, len(t.factors), ranks, t.key

    def product(self, t: Term, c: Coefficient, names: Mapping[str, str]) -> Expr:
        """Return a term: factors, and sums of those that share bound indices."""
        outside = [(a, e) for a, e in t.factors if not a.free & {i for i, _ in t.bound}]
        groups: list[tuple[set[str], list[tuple[Atom, Coefficient]]]] = []
        for a, e in t.factors:
            mine = a.free & {i for i, _ in t.bound}
            if not mine:
                continue
            joined = [g for g in groups if g[0] & mine]
            groups = [g for g in groups if g not in joined]
            groups.append((set(mine).union(*(g[0] for g in joined)),
                           [*(f for g in joined for f in g[1]), (a, e)]))  # fmt: skip
        sizes = dict(t.bound)
        sums = []
        for indices, factors in groups:
            chosen = dict(names)
            own = sorted(indices, key=lambda i: self.first(i, factors))
            for i in own:
                chosen[i] = self.letter(sizes[i], chosen.values())
            inner = self.flagged(self.algebra.field.one, factors, chosen)
            sums.append(Reduce("sum", tuple(chosen[i] for i in own), inner))
        sums.sort(key=text)
        return self.flagged(c, outside, names, sums)

    def first(self, index: str, factors: Sequence[tuple[Atom, Coefficient]]) -> tuple[object, ...]:
        """Return where an index stands first: by the rank of tensors and the axis."""
        found = [(self.rank.get(a.name, 99), k, a.key, index) for a, _ in factors
                 for k, s in enumerate(a.subscripts) if index in free_names(s)]  # fmt: skip
        return min(found, default=(99, 99, "", index))

    def letter(self, size: Expr, used: Iterable[str]) -> str:
        """Return a letter for an index over a size, the usual one where it is free.

        A letter has one range in all of an expression.
        """
        busy = {*used, *self.taken, *(x for x, n in self.ranges.items() if not same(n, size))}
        letters = [x for x in (self.usual.get(text(size), "i"), *LETTERS) if x not in busy]
        if not letters:
            raise TooLarge
        others = {*self.usual.values()} - {letters[0]}
        found = next((x for x in letters if x not in others), str(letters[0]))
        self.ranges[found] = size
        return found

    def flagged(
        self,
        c: Coefficient,
        factors: Sequence[tuple[Atom, Coefficient]],
        names: Mapping[str, str],
        sums: Sequence[Expr] = (),
    ) -> Expr:
        """Return a product, chosen by its tests."""
        flags = [a for a, _ in factors if a.flag]
        value = self.factors(c, [f for f in factors if not f[0].flag], sums, names)
        if not flags:
            return value
        condition = self.condition(flags[0], names)
        for flag in flags[1:]:
            condition = Call("and", (condition, self.condition(flag, names)))
        return Call("where", (condition, value, ZERO))

    def factors(
        self,
        c: Coefficient,
        factors: Sequence[tuple[Atom, Coefficient]],
        last: Sequence[Expr],
        names: Mapping[str, str],
    ) -> Expr:
        """Return a product as a fraction: coefficient, factors by rank, then `last`."""
        c, factors = self.roots_below(c, factors)
        turned = c.denom.coeff(1) < 0  # 1 - p, not p - 1
        over, under = (self.coefficient(-x if turned else x) for x in (c.numer, c.denom))
        minus = isinstance(over, Number) and over.value < 0
        top: list[Expr] = [negative(over) if minus else over]
        bottom: list[Expr] = [under]
        exponent = self.algebra.zero
        for atom, e in sorted(factors, key=lambda f: (self.rank.get(f[0].name, 99), f[0].key)):
            if atom.function == "exp":
                exponent = self.algebra.add(exponent, self.algebra.scale(atom.args[0], e))
                continue
            value = rational(e)
            below = value is not None and value < 0
            power = self.power(self.atom(atom, names), -e if below else e)
            (bottom if below else top).append(power)
        if exponent.terms:
            top.append(Call("exp", (self.sum(exponent, names),)))
        shown = _times([*top, *last])
        if (divisor := _times(bottom)) != ONE:
            shown = Call("/", (shown, divisor))
        return Call("neg", (shown,)) if minus else shown

    def roots_below(
        self, c: Coefficient, factors: Sequence[tuple[Atom, Coefficient]]
    ) -> tuple[Coefficient, list[tuple[Atom, Coefficient]]]:
        """Write sqrt(D)/D as 1/sqrt(D)."""
        found = []
        for atom, e in factors:
            if atom.kind == "base" and not atom.free and rational(e) == Fraction(1, 2):
                inside = atom.args[0].terms[0][1] if len(atom.args[0].terms) == 1 else None
                if inside is not None and (c.denom.rem(inside.numer) == 0) and inside.numer != 1:
                    c, e = c * inside, e - self.algebra.field.one
            found.append((atom, e))
        return c, found

    def power(self, base: Expr, e: Coefficient) -> Expr:
        """Return a power, a square root as sqrt."""
        value = rational(e)
        if value == 1:
            return base
        if value is None:
            return Call("**", (base, self.factors(e, (), (), {})))
        if value.denominator == 2:
            root = Call("sqrt", (base,))
            if value == Fraction(1, 2):
                return root
            whole = self.power(base, self.algebra.number(value - Fraction(1, 2)))
            return Call("*", (whole, root))
        return Call("**", (base, Number(value)))

    def coefficient(self, p: PolyElement) -> Expr:
        """Return a polynomial in sizes and constants."""
        symbols = [Name(str(g)) for g in self.algebra.field.gens]
        total: Expr = ZERO
        # What is subtracted comes last: 1 - p.
        for powers, c in sorted(p.terms(), key=lambda x: x[1] < 0):
            part: Expr = Number(abs(Fraction(int(c.numerator), int(c.denominator))))
            for symbol, k in zip(symbols, powers, strict=True):
                if k:
                    power = symbol if k == 1 else Call("**", (symbol, Number(Fraction(k))))
                    part = times(part, power)
            total = plus(total, part if c > 0 else negative(part))
        return total

    def atom(self, atom: Atom, names: Mapping[str, str]) -> Expr:
        """Return one factor, to the power 1."""
        match atom.kind:
            case "element":
                name = self.called.get(atom.name, atom.name)
                return Read(name, tuple(_renamed(s, names) for s in atom.subscripts))
            case "index":
                return _renamed(atom.subscripts[0], names)
            case "base":
                return self.sum(atom.args[0], names)
        if atom.flag:
            return Call("where", (self.condition(atom, names), ONE, ZERO))
        word = _WORDS.get(atom.name, atom.name)
        return Call(word, tuple(self.sum(p, names) for p in atom.args))

    def condition(self, flag: Atom, names: Mapping[str, str]) -> Expr:
        """Return a test as a comparison."""
        if flag.kind in ("natural", "zero"):
            sign = ">=" if flag.kind == "natural" else "=="
            value = _renamed(flag.subscripts[0], names)
            if opaque(value):
                pair = value.args if isinstance(value, Call) else ()
                return _compared(sign, *(pair if len(pair) == 2 else (value, ZERO)))
            left, right = _sides(value)
            if sign == ">=" and left == ZERO:
                return Call("<=", (right, left))
            return _compared(sign, left, right)
        a = self.algebra
        (p,) = flag.args
        up = Polynomial(tuple((t, c) for t, c in p.terms if c.numer.LC > 0))
        down = a.scale(Polynomial(tuple((t, c) for t, c in p.terms if c.numer.LC < 0)), -1)
        sign = ">" if flag.name == "positive" else "=="
        return _compared(sign, self.sum(up, names), self.sum(down, names))


def _compared(sign: str, left: Expr, right: Expr) -> Expr:
    """Return a comparison with a number on its right side."""
    if isinstance(left, Number):
        left, right, sign = right, left, {">": "<", ">=": "<="}.get(sign, sign)
    return Call(sign, (left, right))


def _times(factors: Sequence[Expr]) -> Expr:
    total: Expr = ONE
    for f in factors:
        total = f if total == ONE else total if f == ONE else Call("*", (total, f))
    return total


def _renamed(e: Expr, names: Mapping[str, str]) -> Expr:
    if isinstance(e, Name):
        return Name(names.get(e.id, e.id))
    return rebuild(e, lambda c: _renamed(c, names))


def _sides(value: Expr) -> tuple[Expr, Expr]:
    """Return a and b of a - b, each without subtraction."""
    up: Expr = ZERO
    down: Expr = ZERO
    for monomial, c in sorted(normal(value), key=lambda x: x[0]):
        part: Expr = Number(abs(c))
        for name in monomial:
            part = times(part, Name(name))
        if c > 0:
            up = plus(up, part)
        else:
            down = plus(down, part)
    return tidy(up), tidy(down)
