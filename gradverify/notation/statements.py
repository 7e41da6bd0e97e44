"""Equations to statements of one form, `T[e(L)] +=_L f(X1[e1(L)], ...)`, and what they need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import count

from gradverify.notation.dims import plus, tidy
from gradverify.notation.parse import Equation, Source
from gradverify.notation.ranges import Declared, Scope, resolve
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
    rename,
    text,
    walk,
)

Loops = tuple[tuple[str, Expr], ...]


@dataclass(frozen=True)
class Statement:
    """`target[subscripts] += body` over all values of the loop indices.

    A statement of kind "max" or "prod" adds the largest value, or the product of all values, of
    the indices that do not stand on the left side.

    A loop is (index, size). Indices that do not stand on the left side are reduced. `guarded`
    says that only a branch of a `where` reads the target. `at` is the place of its equation.
    """

    target: str
    subscripts: tuple[Expr, ...]
    kind: str
    loops: Loops
    body: Expr
    guarded: bool = False
    at: tuple[int, ...] = (1, 0)

    @cached_property
    def sources(self) -> frozenset[str]:
        """The tensors that the statement reads, in its body and in subscripts."""
        exprs = (self.body, *self.subscripts)
        return frozenset(e.tensor for x in exprs for e in walk(x) if isinstance(e, Read))


@dataclass(frozen=True)
class Program:
    """A definition as statements, with the shape of every tensor.

    `origins` gives, for a tensor that has initial values before its range, how many elements
    each axis holds before index 0; subscripts in the statements count from the first element.
    `scattered` are the tensors that `+=` adds to wherever its left side points, `hoisted` those
    that no equation names: reductions inside of an expression.
    """

    statements: tuple[Statement, ...]
    shapes: Mapping[str, tuple[Expr, ...]]
    outside: Mapping[str, float]
    origins: Mapping[str, tuple[int, ...]]
    scattered: frozenset[str]
    hoisted: frozenset[str]
    declared: Declared


def lower(equations: Sequence[Equation], source: Source, declared: Declared) -> Program:
    """Return the program that the equations of a definition state; SpecError shows the place."""
    equations = [replace(e, body=_expand(e.body)) for e in equations]
    scopes, shapes, origins = resolve(equations, source, declared)
    taken = {*shapes, *declared.sizes, *declared.constants}
    lowering = _Lowering(taken)
    for scope in scopes:
        lowering.equation(scope)
    shapes = {**shapes, **lowering.shapes}
    statements, renamed = lowering.statements, {}
    for name, origin in origins.items():
        # An output holds its own range only; its path, initial values included, is another tensor.
        if name in declared.wanted:
            renamed[name] = path = f"{name}_path"
            while path in taken:
                renamed[name] = path = path + "_"
            shapes[renamed[name]] = shapes[name]
        path = renamed.get(name, name)
        shapes[path] = tuple(plus(n, Number(Fraction(k))) for n, k in
                             zip(shapes[path], origin, strict=True))  # fmt: skip
    statements = [_shift(s, origins, renamed) for s in statements]
    for name, path in renamed.items():
        letters = tuple(Name(f"{name}_{k}") for k in range(len(origins[name])))
        start = tuple(plus(i, Number(Fraction(k))) for i, k in
                      zip(letters, origins[name], strict=True))  # fmt: skip
        loops = tuple((i.id, n) for i, n in zip(letters, shapes[name], strict=True))
        statements.append(Statement(name, letters, "sum", loops, Read(path, start)))
    origins = {renamed.get(name, name): origin for name, origin in origins.items()}
    scattered = frozenset(e.target for e in equations if e.adds)
    return Program(
        tuple(statements), shapes, declared.outside, origins, scattered,
        frozenset(lowering.shapes), declared,
    )  # fmt: skip


def _fresh(stem: str, taken: set[str]) -> str:
    return next(name for k in count(1) if (name := f"{stem}{k}") not in taken)


def _expand(expr: Expr) -> Expr:
    """Write min, var and logsumexp by the reductions that are primitive: max, mean and sum."""
    expr = rebuild(expr, _expand)
    match expr:
        case Reduce("min", body=body, at=at):
            largest = replace(expr, kind="max", body=Call("neg", (body,), at))
            return Call("neg", (largest,), at)
        case Reduce("var", body=body, at=at):
            deviation = Call("-", (body, replace(expr, kind="mean")), at)
            return replace(expr, kind="mean", body=Call("**", (deviation, Number(Fraction(2))), at))
        case Reduce("logsumexp", body=body, at=at):
            # Shifting by the maximum changes neither the value nor the derivative.
            top = Call("stop_gradient", (replace(expr, kind="max"),), at)
            shifted = Call("exp", (Call("-", (body, top), at),), at)
            total = replace(expr, kind="sum", body=shifted)
            return Call("+", (top, Call("log", (total,), at)), at)
    return expr


# What changes nothing where it is reduced with other values.
_NEUTRAL: dict[str, Expr] = {"sum": ZERO, "prod": ONE, "max": Call("neg", (Name("inf"),))}


def _masked(expr: Expr) -> Expr:
    """Write bounds as choices: sum[j<=i](b) is sum[j](where(j <= i, b, 0))."""
    expr = rebuild(expr, _masked)
    if not (isinstance(expr, Reduce) and expr.bounds):
        return expr
    condition, *others = expr.bounds
    for other in others:
        condition = Call("and", (condition, other), expr.at)
    chosen = Call("where", (condition, expr.body, _NEUTRAL[expr.kind]), expr.at)
    return replace(expr, body=chosen, bounds=())


def _shift(
    statement: Statement, origins: Mapping[str, tuple[int, ...]], renamed: Mapping[str, str]
) -> Statement:
    def moved(tensor: str, subscripts: tuple[Expr, ...]) -> tuple[Expr, ...]:
        origin = origins.get(tensor, (0,) * len(subscripts))
        return tuple(
            tidy(plus(s, Number(Fraction(k)))) if k else s
            for s, k in zip(subscripts, origin, strict=True)
        )

    def visit(e: Expr) -> Expr:
        e = rebuild(e, visit)
        if isinstance(e, Read) and e.tensor in origins:
            e = Read(renamed.get(e.tensor, e.tensor), moved(e.tensor, e.subscripts), e.at)
        return e

    target = statement.target
    return replace(
        statement,
        target=renamed.get(target, target),
        subscripts=moved(target, statement.subscripts),
        body=visit(statement.body),
    )


def _terms(expr: Expr, sign: int = 1) -> list[tuple[int, Expr]]:
    match expr:
        case Call("+", (a, b)):
            return _terms(a, sign) + _terms(b, sign)
        case Call("-", (a, b)):
            return _terms(a, sign) + _terms(b, -sign)
        case Call("neg", (a,)):
            return _terms(a, -sign)
    return [(sign, expr)]


def _signed(sign: int, expr: Expr) -> Expr:
    return expr if sign > 0 else Call("neg", (expr,))


def _total(terms: Sequence[tuple[int, Expr]]) -> Expr:
    sign, first = terms[0]
    total = _signed(sign, first)
    for sign, term in terms[1:]:
        total = Call("+" if sign > 0 else "-", (total, term))
    return total


def _linear(term: Expr) -> tuple[Expr | None, Reduce] | None:
    """Split a term into (coefficient that reads nothing, sum or mean), where it is one."""
    match term:
        case Reduce("sum" | "mean"):
            return None, term
        case Call("*" | "/" as op, (Reduce("sum" | "mean") as total, c)) if _plain(c):
            return (c if op == "*" else Call("/", (ONE, c))), total
        case Call("*", (c, Reduce("sum" | "mean") as total)) if _plain(c):
            return c, total
    return None


def _plain(expr: Expr) -> bool:
    return not any(isinstance(e, Read | Reduce) for e in walk(expr))


class _Lowering:
    """Collects statements; reductions inside expressions become statements of their own."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.statements: list[Statement] = []
        self.shapes: dict[str, tuple[Expr, ...]] = {}
        self.known: dict[tuple[object, ...], Read] = {}

    def equation(self, scope: Scope) -> None:
        equation = scope.equation
        loops = tuple((i, scope.sizes[i]) for i in scope.left)
        body = _masked(equation.body)
        self.define(equation.target, equation.subscripts, loops, body, scope, False)

    def define(
        self,
        target: str,
        subscripts: tuple[Expr, ...],
        loops: Loops,
        body: Expr,
        scope: Scope,
        guarded: bool,
    ) -> None:
        """Append the statements for `target[subscripts] = body`."""

        def emit(kind: str, loops: Loops, body: Expr) -> None:
            at = scope.equation.at
            self.statements.append(Statement(target, subscripts, kind, loops, body, guarded, at))

        if isinstance(body, Reduce) and body.kind in ("max", "prod"):
            inner = self.hoist(body.body, scope, guarded)
            emit(body.kind, (*loops, *self.bound(body, scope)), inner)
            return
        rest = []
        for sign, term in _terms(body):
            split = _linear(term)
            if split is None:
                rest.append((sign, term))
                continue
            coefficient, total = split
            inner, extra = self.flat(total, scope)
            summand = self.hoist(_signed(sign, inner), scope, guarded)
            if coefficient is not None:
                summand = Call("*", (coefficient, summand))
            emit("sum", (*loops, *extra), summand)
        if rest:
            emit("sum", loops, self.hoist(_total(rest), scope, guarded))

    def bound(self, reduction: Reduce, scope: Scope) -> Loops:
        return tuple((i, scope.sizes[i]) for i in reduction.indices)

    def flat(self, total: Reduce, scope: Scope) -> tuple[Expr, Loops]:
        """Merge sums and means nested directly in each other; a mean divides by its sizes."""
        loops, body = self.bound(total, scope), total.body
        if isinstance(body, Reduce) and body.kind in ("sum", "mean"):
            body, inner = self.flat(body, scope)
            merged = (*loops, *inner)
        else:
            merged = loops
        if total.kind == "mean":
            for _, size in loops:
                body = Call("/", (body, size))
        return body, merged

    def hoist(self, expr: Expr, scope: Scope, guarded: bool) -> Expr:
        """Return `expr` with every reduction in it replaced by a tensor of its own."""
        if isinstance(expr, Call) and expr.function == "where":
            condition, *branches = expr.args
            return replace(
                expr,
                args=(
                    self.hoist(condition, scope, guarded),
                    *(self.hoist(b, scope, True) for b in branches),
                ),
            )
        if not isinstance(expr, Reduce):
            # Guarding is about what flows back, and here nothing does.
            guarded &= not (isinstance(expr, Call) and expr.function == "stop_gradient")
            return rebuild(expr, lambda e: self.hoist(e, scope, guarded))
        free = tuple(n for n in free_names(expr) if n in scope.sizes)
        free = tuple(sorted(free, key=scope.order.index))
        # The same reduction over other bound letters is the same tensor.
        places = {i: f"#{k}" for k, i in enumerate((*free, *expr.indices))}
        sizes = tuple(text(scope.sizes[i]) for i in (*free, *expr.indices))
        key = (expr.kind, text(rename(expr.body, places)), sizes, guarded)
        if key not in self.known:
            name = _fresh(expr.kind, self.taken)
            self.taken.add(name)
            self.shapes[name] = tuple(scope.sizes[i] for i in free)
            loops = tuple((i, scope.sizes[i]) for i in free)
            subscripts = tuple(Name(i) for i in free)
            self.define(name, subscripts, loops, expr, scope, guarded)
            self.known[key] = Read(name, ())
        return Read(self.known[key].tensor, tuple(Name(i) for i in free), expr.at)
