"""Functions of polynomials, in forms that are the same for equal functions."""

from fractions import Fraction

from gradverify.calculus.algebra import Algebra
from gradverify.calculus.polynomial import (
    Atom,
    Coefficient,
    Polynomial,
    natural_number,
    rational,
)

_ODD = frozenset({"tanh", "erf", "sin", "atan", "asin", "sinh", "tan", "sign"})
_EVEN = frozenset({"cos", "cosh", "Abs"})


class Unsupported(Exception):
    """Something that has no polynomial form, such as infinity."""


class Functions:
    """Functions of polynomials, in forms that are the same for equal functions.

    exp is split over sums; a denominator or root is one factor, whatever multiplies it; with
    `elementary`, sigmoid and tanh are written by exp.
    """

    def __init__(self, algebra: Algebra, *, elementary: bool) -> None:
        self.algebra, self.elementary = algebra, elementary
        self.bases: dict[Atom, Polynomial] = {}

    def negated(self, p: Polynomial) -> Polynomial:
        """Return -p."""
        return self.algebra.scale(p, -1)

    def power(self, p: Polynomial, exponent: Coefficient) -> Polynomial:
        """Return a polynomial to a constant power."""
        a = self.algebra
        whole = rational(exponent)
        if (n := natural_number(exponent)) is not None and n <= 8:
            return a.multiply(*[p] * n)
        if (found := self.cases(p)) is not None:
            test, yes, no = found
            return self.either(test, self.power(yes, exponent), self.power(no, exponent))
        if not p.terms:
            raise Unsupported("a power of 0")
        content = a.content(p)
        integer = whole is not None and whole.denominator == 1
        if not integer and not a.known_positive(content):
            content = a.field.one
        rest = a.scale(p, 1 / content)
        common = self.common(rest, roots=not integer)
        if common:
            rest = a.multiply(rest, a.term((), [(f, -e) for f, e in common]))
        factors = [(f, e * exponent) for f, e in common]
        result = a.multiply(self.constant_power(content, exponent), a.term((), factors))
        if len(rest.terms) == 1 and not rest.terms[0][0].factors:
            return a.multiply(result, self.constant_power(rest.terms[0][1], exponent))
        for part in self.components(rest) if integer else [rest]:
            base = Atom("base", "", (), (part,))
            self.bases.setdefault(base, part)
            result = a.multiply(result, a.atom(base, exponent))
        return result

    def common(self, p: Polynomial, *, roots: bool) -> list[tuple[Atom, Coefficient]]:
        """Return the factors that all terms have, to their least power, bound ones left out.

        Under a root only what is never negative may be taken out: exp.
        """
        shared: dict[Atom, Coefficient] | None = None
        for t, _ in p.terms:
            bound = {i for i, _ in t.bound}
            mine = {a: e for a, e in t.factors if not a.free & bound
                    and (not roots or a.function == "exp") and rational(e) is not None}  # fmt: skip
            if shared is None:
                shared = mine
                continue
            both = shared.keys() | mine.keys()
            zero = self.algebra.field.zero
            # exp may be divided by where a term lacks it; of others all terms must have some.
            lows = {a: min((shared.get(a, zero), mine.get(a, zero)), key=_value) for a in both
                    if a.function == "exp" or (a in shared and a in mine)}  # fmt: skip
            shared = {a: e for a, e in lows.items() if e}
        return list((shared or {}).items())

    def components(self, p: Polynomial) -> list[Polynomial]:
        """Split a single term into sums that have no index in common."""
        if len(p.terms) != 1:
            return [p]
        (t, c), *_ = p.terms
        bound, factors = self.algebra.freed(t)
        groups: list[tuple[set[str], list[tuple[Atom, Coefficient]]]] = []
        for atom, e in factors:
            mine = set(atom.free & {i for i, _ in bound})
            joined = [g for g in groups if g[0] & mine]
            groups = [g for g in groups if g not in joined]
            groups.append((mine.union(*(g[0] for g in joined)),
                           [(atom, e), *(f for g in joined for f in g[1])]))  # fmt: skip
        sizes = dict(bound)
        parts = [self.algebra.term([(i, sizes[i]) for i in own], fs) for own, fs in groups]
        parts[0] = self.algebra.scale(parts[0], c)
        return parts

    def constant_power(self, c: Coefficient, exponent: Coefficient) -> Polynomial:
        """Return a coefficient to a power; of a root, each symbol has one of its own."""
        a = self.algebra
        value = rational(exponent)
        if value is None or not a.known_positive(c):
            if value is not None and value.denominator == 1:
                return a.constant(c ** int(value))
            return a.one if c == 1 else a.atom(Atom("base", "", (), (a.constant(c),)), exponent)
        if value.denominator == 1:
            return a.constant(c ** int(value))
        parts = [(a.field.one * c.numer.LC, 1), (a.field.one * c.denom.LC, -1)]
        for part, sign in ((c.numer, 1), (c.denom, -1)):
            (powers, _), *_ = part.terms()
            parts += [(g, sign * k) for g, k in zip(a.field.gens, powers, strict=True) if k]
        result = a.one
        for base, k in parts:
            if base == 1:
                continue
            exact, left = divmod(value * k, 1)
            result = a.scale(result, base ** int(exact))
            if left:
                root = Atom("base", "", (), (a.constant(base),))
                result = a.multiply(result, a.atom(root, a.number(left)))
        return result

    def cases(self, p: Polynomial) -> tuple[Polynomial, Polynomial, Polynomial] | None:
        """Return (a test outside of all sums, p where it holds, p elsewhere), if p has one."""
        flags = [f for t, _ in p.terms for f, _ in t.factors
                 if f.flag and not f.free & {i for i, _ in t.bound}]  # fmt: skip
        if not flags:
            return None
        where, elsewhere = (self.algebra.at_flag(p, flags[0], value) for value in (1, 0))
        return self.algebra.atom(flags[0]), where, elsewhere

    def either(self, test: Polynomial, yes: Polynomial, no: Polynomial) -> Polynomial:
        """Return `yes` where a test holds, else `no`."""
        a = self.algebra
        other = a.add(a.one, self.negated(test))
        return a.add(a.multiply(test, yes), a.multiply(other, no))

    def exp(self, p: Polynomial) -> Polynomial:
        """Return exp of a polynomial: a product over its terms, and a choice where that chooses."""
        a = self.algebra
        if (found := self.cases(p)) is not None:
            test, yes, no = found
            return self.either(test, self.exp(yes), self.exp(no))
        endless = [(t, c) for t, c in p.terms if any(f.function == "inf" for f, _ in t.factors)]
        if endless:
            (t, c), *more = endless
            if more or len(t.factors) > 1 or t.bound or not a.known_positive(-c):
                raise Unsupported("infinity")
            return a.zero
        result = a.one
        for t, c in p.terms:
            if len(t.factors) == 1 and t.factors[0][0].function == "log" and not t.bound:
                result = a.multiply(result, self.power(t.factors[0][0].args[0], c))
                continue
            atom = Atom("function", "exp", (), (Polynomial(((t, a.field.one),)),))
            result = a.multiply(result, a.atom(atom, c))
        return result

    def log(self, p: Polynomial) -> Polynomial:
        """Return log of a polynomial; a factor exp(...) of all of it comes out."""
        a = self.algebra
        out = a.zero
        common = [(f, e) for f, e in self.common(p, roots=True) if f.function == "exp"]
        if p.terms and common:
            p = a.multiply(p, a.term((), [(f, -e) for f, e in common]))
            out = a.add(*(a.scale(f.args[0], e) for f, e in common))
        if p == a.one:
            return out
        return a.add(out, a.atom(Atom("function", "log", (), (p,))))

    def call(self, name: str, *args: Polynomial) -> Polynomial:
        """Return a function of polynomials."""
        a = self.algebra
        (p, *_) = args
        match name:
            case "exp":
                return self.exp(p)
            case "log":
                return self.log(p)
            case "Expm1":
                return a.add(self.exp(p), self.negated(a.one))
            case "Log1p":
                return self.log(a.add(a.one, p))
            case "StopGradient":
                return p
            case "Sigmoid" if self.elementary:
                e = self.exp(p)
                return a.multiply(e, self.power(a.add(a.one, e), -a.field.one))
            case "tanh" if self.elementary:
                e = self.exp(a.scale(p, 2))
                rest = self.power(a.add(a.one, e), -a.field.one)
                return a.add(a.one, a.scale(rest, -2))
            case "Softplus" if self.elementary:
                return self.log(a.add(a.one, self.exp(p)))
            case "Select":
                return self.either(*args)
            case "Both":
                return a.multiply(*args)
            case "Negation":
                return a.add(a.one, self.negated(p))
            case "Either":
                return a.add(*args, self.negated(a.multiply(*args)))
        turned = len(args) == 1 and bool(p.terms) and _leads_down(a, p)
        if turned and name in _ODD | _EVEN:
            p = self.negated(p)
        if turned and name == "Sigmoid":
            other = a.atom(Atom("function", name, (), (self.negated(p),)))
            return a.add(a.one, self.negated(other))
        result = a.atom(Atom("function", name, (), (p, *args[1:])))
        return self.negated(result) if turned and name in _ODD else result

    def positive(self, p: Polynomial, *, rarely_zero: bool) -> Polynomial:
        """Return 1 where a real number is above 0, else 0; where it is rarely 0, nobody asks."""
        a = self.algebra
        if not p.terms:
            return a.zero
        content = a.content(p)
        below = a.known_positive(-content)
        size = -content if below else content if a.known_positive(content) else a.field.one
        shown = a.scale(p, 1 / size)
        if shown == a.one or self.negated(shown) == a.one:
            return a.zero if below else a.one
        turned = below and rarely_zero
        if turned:
            shown = self.negated(shown)
        found = a.atom(Atom("function", "positive", (), (shown,)))
        return a.add(a.one, self.negated(found)) if turned else found

    def equal(self, p: Polynomial) -> Polynomial:
        """Return 1 where a real number is 0, else 0."""
        a = self.algebra
        if not p.terms:
            return a.one
        content = a.content(p)
        known = a.known_positive(content) or a.known_positive(-content)
        return a.atom(Atom("function", "equal", (), (a.scale(p, 1 / content) if known else p,)))


def _value(e: Coefficient) -> Fraction:
    found = rational(e)
    assert found is not None
    return found


def _leads_down(a: Algebra, p: Polynomial) -> bool:
    return bool(a.content(p).numer.LC < 0)
