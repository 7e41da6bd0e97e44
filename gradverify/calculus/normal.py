"""Steps to polynomials: intermediate tensors written out, functions in one standard form."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import count

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.derive import Gradient, Step
from gradverify.calculus.integers import Integers, digits, factors, tidied
from gradverify.calculus.polynomial import (
    Algebra,
    Atom,
    Coefficient,
    Polynomial,
    natural_number,
    rational,
)
from gradverify.notation.dims import negative, normal, plus, same
from gradverify.notation.ranges import Declared
from gradverify.notation.schedule import components
from gradverify.notation.tree import ONE, Call, Expr, Name, Number, Read, rebuild

_ODD = frozenset({"tanh", "erf", "sin", "atan", "asin", "sinh", "tan", "sign"})
_EVEN = frozenset({"cos", "cosh", "Abs"})
# What is nowhere constant, unless its argument is.
_SMOOTH = frozenset({"exp", "log", "Expm1", "Log1p", "Sigmoid", "Softplus", "tanh", "erf"})


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


class Normalizer:
    """Writes tensors out by the steps that define them.

    `kept` are tensors that stay as they are: what is given, and what the caller wants to see.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        shapes: Mapping[str, tuple[Expr, ...]],
        least: Mapping[str, int],
        symbols: Iterable[str],
        positive: Iterable[str],
        declared: Declared,
        *,
        elementary: bool,
    ) -> None:
        self.steps: dict[str, list[Step]] = {}
        for step in steps:
            self.steps.setdefault(step.target, []).append(step)
        self.shapes, self.integers = shapes, declared.integers
        self.algebra = Algebra(symbols, positive, Integers(least, declared.limits))
        self.functions = Functions(self.algebra, elementary=elementary)
        reads = {t: {r for s in group for r in s.sources if r in self.steps}
                 for t, group in self.steps.items()}  # fmt: skip
        # What depends on itself through time cannot be written out.
        self.cyclic = {t for part in components(self.steps, reads) for t in part
                       if len(part) > 1 or t in reads[t]}  # fmt: skip
        self.discrete = declared.integers | declared.listed
        self.reals: dict[str, bool] = {}
        self.kept: set[str] = set()
        self.definitions: dict[str, tuple[tuple[str, ...], Polynomial]] = {}
        self.numbers = count()

    def keep(self, tensors: Iterable[str]) -> None:
        """Set which tensors stay; what was written out before is forgotten."""
        self.kept = set(tensors)
        self.definitions = {}

    def formals(self, tensor: str) -> tuple[str, ...]:
        """Return fresh names for the axes of a tensor."""
        names = tuple(f"_a{next(self.numbers)}" for _ in self.shapes[tensor])
        self.algebra.integers.ranges |= dict(zip(names, self.shapes[tensor], strict=True))
        return names

    def place(self, tensor: str) -> list[Expr]:
        """Return fresh subscripts of a tensor: digits, g*K+k, along an axis of G*K elements."""
        subscripts: list[Expr] = []
        for size in self.shapes[tensor]:
            parts = factors(size) or (size,)
            names = [f"_a{next(self.numbers)}" for _ in parts]
            self.algebra.integers.ranges |= dict(zip(names, parts, strict=True))
            subscripts.append(digits(names, parts))
        return subscripts

    def element(self, tensor: str, subscripts: Iterable[Expr]) -> Polynomial:
        """Return an element of a tensor, written out unless it is kept."""
        if tensor in self.kept or not self.writable(tensor):
            return self.algebra.element(tensor, subscripts)
        names, p = self.definition(tensor)
        return self.algebra.substituted(p, dict(zip(names, subscripts, strict=True)))

    def writable(self, tensor: str) -> bool:
        """Whether a tensor is a sum of what its steps say, and no recurrence."""
        plain = all(s.kind == "sum" for s in self.steps.get(tensor, ()))
        return plain and tensor in self.steps and tensor not in self.cyclic

    def definition(self, tensor: str) -> tuple[tuple[str, ...], Polynomial]:
        """Return names for the axes of a tensor, and its elements written out by them."""
        if tensor not in self.definitions:
            self.definitions[tensor] = self.written(tensor)
        return self.definitions[tensor]

    def written(self, tensor: str) -> tuple[tuple[str, ...], Polynomial]:
        """Return the same of any tensor, even one that is kept."""
        names = self.formals(tensor)
        parts = [self.contribution(s, names) for s in self.steps[tensor]]
        return names, self.algebra.add(*parts)

    def contribution(self, step: Step, names: tuple[str, ...]) -> Polynomial:
        """Return what one step adds to the element at `names`."""
        a, shape = self.algebra, self.shapes[step.target]
        loops, env = dict(step.loops), {}
        for name, subscript, size in zip(names, step.subscripts, shape, strict=True):
            index = subscript.id if isinstance(subscript, Name) else None
            if index in loops and index not in env and same(loops[index], size):
                env[index] = name
        for index in loops:
            env.setdefault(index, f"_b{next(self.numbers)}")
        at: dict[str, Expr] = {i: Name(n) for i, n in env.items()}
        bound = [(env[i], n) for i, n in step.loops if env[i] not in names]
        a.integers.ranges |= dict(bound)
        tests = []
        for name, subscript in zip(names, step.subscripts, strict=True):
            placed = _replaced(subscript, at)
            if placed != Name(name):
                tests.append(a.equal(Name(name), placed))
        value = self.value(step.value, step.reads, at)
        return a.over(bound, a.multiply(*tests, value))

    def value(
        self, e: Scalar, reads: Mapping[sympy.Symbol, Read], at: Mapping[str, Expr]
    ) -> Polynomial:
        """Return a step's value as a polynomial, its loop indices called as `at` says."""
        a, f = self.algebra, self.functions

        def visit(e: Scalar) -> Polynomial:
            if e.is_Symbol:
                if e in reads:
                    read = reads[e]
                    return self.element(read.tensor, (_replaced(s, at) for s in read.subscripts))
                if e.name in at:
                    return a.index(at[e.name])
                return a.constant(a.symbols[e.name])
            if e.is_Rational:
                return a.constant(a.number(e))
            if e is sympy.S.Pi:
                return a.constant(a.symbols["pi"])
            if e in (sympy.S.Infinity, sympy.S.NegativeInfinity):
                return a.scale(a.atom(Atom("function", "inf")), 1 if e.is_positive else -1)
            if e is sympy.S.Exp1:
                return f.exp(a.one)
            if e.is_Add:
                return a.add(*map(visit, e.args))
            if e.is_Mul:
                return a.multiply(*map(visit, e.args))
            if e.is_Pow:
                return raised(visit(e.base), visit(e.exp))
            name = type(e).__name__
            if name in ("Less", "LessEqual", "Equal"):
                return compared(name, *e.args)
            if e.is_Function or name == "exp":
                return f.call(name, *map(visit, e.args))
            raise Unsupported(str(e))

        def raised(base: Polynomial, exponent: Polynomial) -> Polynomial:
            if not exponent.terms:
                return a.one
            (t, c), *more = exponent.terms
            if more or t.factors:
                return f.exp(a.multiply(exponent, f.log(base)))
            return f.power(base, c)

        def compared(name: str, left: Scalar, right: Scalar) -> Polynomial:
            ints = [self.integer(x, reads, at) for x in (left, right)]
            if ints[0] is not None and ints[1] is not None:
                gap = plus(ints[1], negative(ints[0]))
                if name == "Equal":
                    return a.equal(ints[0], ints[1])
                return a.natural(gap if name == "LessEqual" else plus(gap, negative(ONE)))
            gap_real = a.add(visit(right), f.negated(visit(left)))
            if name == "Equal":
                return f.equal(gap_real)
            rarely_zero = self.rarely_zero(gap_real)
            if name == "Less":
                return f.positive(gap_real, rarely_zero=rarely_zero)
            beyond = f.positive(f.negated(gap_real), rarely_zero=rarely_zero)
            return a.add(a.one, f.negated(beyond))

        return visit(e)

    def rarely_zero(self, p: Polynomial) -> bool:
        """Whether a polynomial is 0 at hardly any real values of what is given.

        Such are x and 1 - m*x, whatever m is, but not m*x, where m may be 0, nor max(x, 0).
        """
        a = self.algebra
        rest = [t for t, _ in p.terms if t.factors]
        every = all(self.varies(f) for t in rest for f, _ in t.factors)
        some = all(any(self.varies(f) for f, _ in t.factors) for t in rest)
        sure = [c for t, c in p.terms if every or not t.factors]
        return bool(rest) and some and any(a.known_positive(c) or a.known_positive(-c)
                                           for c in sure)  # fmt: skip

    def varies(self, atom: Atom) -> bool:
        """Whether a factor is constant at hardly any real values of what is given."""
        if atom.kind == "element":
            return self.continuous(atom.name)
        inside = all(self.rarely_zero(p) for p in atom.args)
        return inside and (atom.kind == "base" or atom.function in _SMOOTH)

    def continuous(self, tensor: str) -> bool:
        """Whether a tensor is given as real numbers, or made of such by smooth functions."""
        if tensor not in self.reals:
            self.reals[tensor] = False  # of a recurrence, until more is known
            self.reals[tensor] = tensor not in self.discrete and all(
                s.kind == "sum"
                and {type(f).__name__ for f in s.value.atoms(sympy.Function)} <= _SMOOTH
                and s.sources
                and all(map(self.continuous, s.sources))
                for s in self.steps.get(tensor, ())
            )
        return self.reals[tensor]

    def integer(
        self, e: Scalar, reads: Mapping[sympy.Symbol, Read], at: Mapping[str, Expr]
    ) -> Expr | None:
        """Return an expression in indices, sizes and integer tensors, None for any other."""
        if e.is_Integer:
            return Number(Fraction(int(e)))
        if e.is_Symbol:
            if e in reads:
                read = reads[e]
                placed = tuple(_replaced(s, at) for s in read.subscripts)
                return Read(read.tensor, placed) if read.tensor in self.integers else None
            return at.get(e.name) or (
                Name(e.name) if e.name in self.algebra.integers.least else None
            )
        if not (e.is_Add or e.is_Mul) or not e.args:
            return None
        total: Expr | None = None
        for x in e.args:
            part = self.integer(x, reads, at)
            if part is None:
                return None
            total = part if total is None else Call("+" if e.is_Add else "*", (total, part))
        return None if total is None else tidied(total)


def normalizer(
    g: Gradient,
    least: Mapping[str, float],
    steps: Iterable[Step] = (),
    shapes: Mapping[str, tuple[Expr, ...]] | None = None,
    *,
    elementary: bool = False,
) -> Normalizer:
    """Return what writes out the tensors and cotangents of a program, and those of more `steps`.

    `least` gives the smallest value of every size and constant.
    """
    declared, every = g.declared, [*g.steps, *steps]
    known = {**g.shapes, **(shapes or {})}
    sizes = [n for s in every for _, n in s.loops] + [n for shape in known.values() for n in shape]
    symbols = {name for size in sizes for m, _ in normal(size) for name in m}
    return Normalizer(
        every,
        known,
        {n: int(least[n]) for n in declared.sizes},
        sorted(symbols | set(declared.sizes) | set(declared.constants) | {"pi"}),
        [*(n for n, low in least.items() if low > 0), "pi"],
        declared,
        elementary=elementary,
    )


def _replaced(e: Expr, values: Mapping[str, Expr]) -> Expr:
    def visit(e: Expr) -> Expr:
        return values.get(e.id, e) if isinstance(e, Name) else rebuild(e, visit)

    return tidied(visit(e))
