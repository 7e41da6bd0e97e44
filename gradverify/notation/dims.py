"""Sizes: shapes over named dimensions, constraints on them, and their solutions in integers."""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from gradverify.errors import SpecError
from gradverify.notation.parse import Source, parse_expression
from gradverify.notation.tree import ONE, ZERO, Call, Expr, Name, Number, Read, Reduce, free_names

DIMENSION = re.compile(r"[A-Z][A-Z0-9]*")

# The solver looks at sizes up to this one before it calls a constraint unsatisfiable ...
LARGEST = 64
# ... and at this many assignments: a spec has a handful of dimensions, so this is generous.
MAX_NODES = 50_000

_COMPARISONS = {"<", "<=", ">", ">=", "==", "!=", "and", "or", "not"}


_COMBINE: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b),
}


def parse_shape(shape: str, what: str) -> tuple[Expr, ...]:
    """Return the size expressions of a shape such as "B T NH*DH"; "" is a scalar."""
    if not isinstance(shape, str):
        raise SpecError(f'{what}: a shape is a text of dimensions such as "N C", not {shape!r}')
    if "," in shape:
        blanks = " ".join(shape.replace(",", " ").split())
        raise SpecError(f'{what}: blanks separate the sizes of a shape: write "{blanks}"')
    sizes = []
    for part in shape.split():
        size = parse_expression(Source(part, f"shape of {what}"))
        for name in free_names(size):
            if not DIMENSION.fullmatch(name):
                raise SpecError(
                    f"{what}: the size {part!r} in shape {shape!r} names {name!r}; a dimension is "
                    "capitals and digits, such as N or C2, and sizes are separated by blanks"
                )
        _only_integers(size, f"{what}: the size {part!r}", comparisons=False)
        if isinstance(size, Number) and size.value < 1:
            raise SpecError(f"{what}: the size {part!r} in shape {shape!r} is less than 1")
        sizes.append(size)
    return tuple(sizes)


def parse_constraint(constraint: str) -> Expr:
    """Return a constraint on sizes such as "N >= 2" or "C % G == 0"."""
    if not isinstance(constraint, str):
        raise SpecError(f'a constraint is a text such as "N >= 2", not {constraint!r}')
    tree = parse_expression(Source(constraint, "constraint"))
    if not (isinstance(tree, Call) and tree.function in _COMPARISONS):
        raise SpecError(f'the constraint {constraint!r} compares nothing: write e.g. "N >= 2"')
    _only_integers(tree, f"the constraint {constraint!r}", comparisons=True)
    return tree


def _only_integers(expr: Expr, what: str, *, comparisons: bool) -> None:
    allowed = {"+", "-", "*", "//", "%", "neg"} | (_COMPARISONS if comparisons else set())
    match expr:
        case Number(value) if value.denominator == 1:
            return
        case Name():
            return
        case Call(function, args) if function in allowed:
            for arg in args:
                _only_integers(arg, what, comparisons=comparisons)
            return
        case Call(function="/"):
            raise SpecError(f"{what} divides with /: sizes are integers, write //")
    raise SpecError(f"{what} may use integers, dimensions and + - * // % only")


def evaluate(expr: Expr, sizes: Mapping[str, int | float]) -> int:
    """Return the value of a size, subscript or constraint (0 or 1) at concrete sizes."""
    match expr:
        case Number(value):
            return int(value) if value.denominator == 1 else float(value)  # type: ignore[return-value]
        case Name(id):
            return sizes[id]  # type: ignore[return-value]
        case Call("neg", (a,)):
            return -evaluate(a, sizes)
        case Call("not", (a,)):
            return int(not evaluate(a, sizes))
        case Call(function, (left, right)):
            return int(_COMBINE[function](evaluate(left, sizes), evaluate(right, sizes)))
    raise TypeError(f"{expr} is not a size")


Monomial = tuple[str, ...]


def normal(expr: Expr) -> frozenset[tuple[Monomial, Fraction]]:
    """Return the polynomial normal form of a size; equal forms mean equal for all sizes."""
    return frozenset((m, c) for m, c in _polynomial(expr).items() if c)


@lru_cache(maxsize=4096)
def _polynomial(expr: Expr) -> dict[Monomial, Fraction]:
    match expr:
        case Number(value):
            return {(): value}
        case Name(id):
            return {(id,): Fraction(1)}
        case Call("neg", (a,)):
            return {m: -c for m, c in _polynomial(a).items()}
        case Call("+" | "-" as op, (a, b)):
            total = dict(_polynomial(a))
            for m, c in _polynomial(b).items():
                total[m] = total.get(m, Fraction(0)) + (c if op == "+" else -c)
            return total
        case Call("*", (a, b)):
            product: dict[Monomial, Fraction] = {}
            for m, c in _polynomial(a).items():
                for k, d in _polynomial(b).items():
                    key = tuple(sorted(m + k))
                    product[key] = product.get(key, Fraction(0)) + c * d
            return product
        case Call(function, (a, b)):
            # A quotient is one atom, named by its parts' normal forms.
            return {(f"{function}{sorted(normal(a))}{sorted(normal(b))}",): Fraction(1)}
    raise TypeError(f"{expr} is not a size")


def tidy(expr: Expr) -> Expr:
    """Return a size with its terms collected; one that has a quotient stays as it is."""
    terms = [(m, c) for m, c in _polynomial(expr).items() if c]
    if any(not name.isidentifier() for monomial, _ in terms for name in monomial):
        return expr
    total: Expr = ZERO
    for monomial, c in sorted(terms, key=lambda t: (-len(t[0]), t[1] < 0, t[0])):
        factor: Expr = Number(abs(c))
        for name in monomial:
            factor = times(factor, Name(name))
        total = plus(total, factor if c > 0 else negative(factor))
    return total


def same(a: Expr, b: Expr) -> bool:
    """Whether two sizes are equal whatever the dimensions are."""
    return a == b or normal(a) == normal(b)


def _sum(a: Expr, b: Expr) -> Expr:
    match a, b:
        case Number(x), Number(y):
            return Number(x + y)
        case Number(Fraction(numerator=0)), _:
            return b
        case _, Number(Fraction(numerator=0)):
            return a
        case _, Number(x) if x < 0:
            return Call("-", (a, Number(-x)))
        case _, Call("neg", (c,)):
            return Call("-", (a, c))
    return Call("+", (a, b))


def _product(a: Expr, b: Expr) -> Expr:
    match a, b:
        case Number(x), Number(y):
            return Number(x * y)
        case (Number(Fraction(numerator=0)), _) | (_, Number(Fraction(numerator=0))):
            return ZERO
        case _ if a == ONE:
            return b
        case _ if b == ONE:
            return a
    return Call("*", (a, b))


def plus(*terms: Expr) -> Expr:
    """Return the sum of sizes, with zeros dropped and numbers added up."""
    total: Expr = ZERO
    for term in terms:
        total = _sum(total, term)
    return total


def times(a: Expr, b: Expr) -> Expr:
    """Return the product of two sizes."""
    return _product(a, b)


def negative(a: Expr) -> Expr:
    """Return -a."""
    return Number(-a.value) if isinstance(a, Number) else Call("neg", (a,))


def affine(expr: Expr, indices: Iterable[str]) -> tuple[dict[str, Expr], Expr] | None:
    """Return (coefficient of each index, offset) of a subscript; None where it is not affine.

    A coefficient and the offset hold no index; `S*p + D*r - P` over p, r gives
    ({p: S, r: D}, -P). A gather `ids[n]`, a quotient or a product of indices is not affine.
    """
    wanted = frozenset(indices)

    def split(e: Expr) -> tuple[dict[str, Expr], Expr] | None:
        match e:
            case Name(id) if id in wanted:
                return {id: ONE}, ZERO
            case Call("neg", (a,)) if (s := split(a)) is not None:
                return {i: negative(c) for i, c in s[0].items()}, negative(s[1])
            case Call("+" | "-" as op, (a, b)):
                s, t = split(a), split(b)
                if s is None or t is None:
                    return None
                if op == "-":
                    t = {i: negative(c) for i, c in t[0].items()}, negative(t[1])
                merged = dict(s[0])
                for i, c in t[0].items():
                    merged[i] = plus(merged[i], c) if i in merged else c
                return merged, plus(s[1], t[1])
            case Call("*", (a, b)):
                s, t = split(a), split(b)
                if s is None or t is None or (s[0] and t[0]):
                    return None
                coefficients, factor = (s[0], t[1]) if s[0] else (t[0], s[1])
                scaled = {i: times(factor, c) for i, c in coefficients.items()}
                return scaled, times(s[1], t[1])
            case Read() | Reduce():
                return None
        if any(n in wanted for n in free_names(e)):
            return None
        return {}, e

    result = split(expr)
    if result is None:
        return None
    return {i: c for i, c in result[0].items() if c != ZERO}, result[1]


def _literals(expr: Expr) -> Iterator[int]:
    match expr:
        case Number(value):
            yield int(value)
        case Call(args=args):
            for arg in args:
                yield from _literals(arg)


def solutions(
    names: Sequence[str],
    constraints: Sequence[Expr],
    fixed: Mapping[str, int | float],
    preferred: Mapping[str, int],
) -> Iterator[dict[str, int]]:
    """Yield sizes of at least 1 for `names` that satisfy all constraints, nearest first.

    Each size is tried outwards from its preferred value, by backtracking: a constraint is
    looked at as soon as all its names have values, so that nothing is drawn and thrown away.
    `fixed` gives the names that already have a value. Gives up after MAX_NODES assignments.
    """
    literals = {v for c in constraints for v in _literals(c)}
    extra = {v + d for v in literals for d in (-1, 0, 1)}
    pool = {v for v in {*range(1, 17), *extra, LARGEST} if v >= 1}
    # Constrained names first, those that share a constraint next to each other.
    order = sorted(names, key=lambda n: not any(n in free_names(c) for c in constraints))
    ready: list[list[Expr]] = [[] for _ in range(len(order) + 1)]
    for constraint in constraints:
        unknown = [order.index(n) for n in free_names(constraint) if n in order]
        ready[max(unknown, default=-1) + 1].append(constraint)
    nodes = 0

    def satisfied(level: int, sizes: Mapping[str, int | float]) -> bool:
        try:
            return all(evaluate(c, sizes) for c in ready[level])
        except ZeroDivisionError:
            return False

    def search(level: int, sizes: dict[str, int | float]) -> Iterator[dict[str, int]]:
        nonlocal nodes
        if level == len(order):
            yield {n: int(sizes[n]) for n in names}
            return
        name = order[level]
        start = preferred.get(name, 3)
        for value in sorted({*pool, start}, key=lambda v: (abs(v - start), v)):
            nodes += 1
            if nodes > MAX_NODES:
                return
            sizes[name] = value
            if satisfied(level + 1, sizes):
                yield from search(level + 1, sizes)
        del sizes[name]

    if satisfied(0, fixed):
        yield from search(0, dict(fixed))
