"""Steps to polynomials: intermediate tensors written out."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import count

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.algebra import Algebra
from gradverify.calculus.derive import Gradient, Step
from gradverify.calculus.integers import Integers, digits, factors, placed, tidied
from gradverify.calculus.polynomial import Atom, Polynomial
from gradverify.calculus.standard import Functions, Unsupported
from gradverify.notation.dims import negative, normal, plus, same
from gradverify.notation.ranges import Declared
from gradverify.notation.schedule import components
from gradverify.notation.tree import ONE, Call, Expr, Name, Number, Read

# What is nowhere constant, unless its argument is.
_SMOOTH = frozenset({"exp", "log", "Expm1", "Log1p", "Sigmoid", "Softplus", "tanh", "erf"})


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
            there = placed(subscript, at)
            if there != Name(name):
                tests.append(a.equal(Name(name), there))
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
                    return self.element(read.tensor, (placed(s, at) for s in read.subscripts))
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
                own = tuple(placed(s, at) for s in read.subscripts)
                return Read(read.tensor, own) if read.tensor in self.integers else None
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
