"""The expression tree that the parser yields and every later stage reads."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction


@dataclass(frozen=True)
class Number:
    """An exact number; a decimal stands for the float64 nearest to it."""

    value: Fraction
    at: tuple[int, ...] = field(default=(1, 0), compare=False)


@dataclass(frozen=True)
class Name:
    """An index, a dimension, a constant, `pi` or `inf`."""

    id: str
    at: tuple[int, ...] = field(default=(1, 0), compare=False)


@dataclass(frozen=True)
class Read:
    """An element of a tensor, `x[n,c]`; a scalar tensor has no subscripts."""

    tensor: str
    subscripts: "tuple[Expr, ...]"
    at: tuple[int, ...] = field(default=(1, 0), compare=False)


@dataclass(frozen=True)
class Call:
    """An operator (`+`, `<=`, `and`) or a function (`exp`, `where`) applied to arguments."""

    function: str
    args: "tuple[Expr, ...]"
    at: tuple[int, ...] = field(default=(1, 0), compare=False)


@dataclass(frozen=True)
class Reduce:
    """A reduction over indices, `sum[i,j](body)`.

    `bounds` are comparisons that begin with one of the indices, `sum[j<=i](body)`.
    """

    kind: str
    indices: tuple[str, ...]
    body: "Expr"
    at: tuple[int, ...] = field(default=(1, 0), compare=False)
    bounds: "tuple[Expr, ...]" = ()


Expr = Number | Name | Read | Call | Reduce

ZERO, ONE = Number(Fraction(0)), Number(Fraction(1))


def children(expr: Expr) -> tuple[Expr, ...]:
    """Return the direct subexpressions of `expr`, subscripts included."""
    match expr:
        case Read():
            return expr.subscripts
        case Call():
            return expr.args
        case Reduce():
            return (*expr.bounds, expr.body)
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield `expr` and everything below it."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def rebuild(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """Return `expr` with `change` applied to each of its direct subexpressions."""
    match expr:
        case Read():
            return replace(expr, subscripts=tuple(change(s) for s in expr.subscripts))
        case Call():
            return replace(expr, args=tuple(change(a) for a in expr.args))
        case Reduce():
            return replace(
                expr, body=change(expr.body), bounds=tuple(change(b) for b in expr.bounds)
            )
    return expr


def rename(expr: Expr, names: dict[str, str]) -> Expr:
    """Return `expr` with its free indices renamed; an index bound inside stays as it is."""
    match expr:
        case Name():
            return replace(expr, id=names.get(expr.id, expr.id))
        case Reduce():
            names = {old: new for old, new in names.items() if old not in expr.indices}
    return rebuild(expr, lambda e: rename(e, names))


def replaced(expr: Expr, names: Mapping[str, Expr]) -> Expr:
    """Return `expr` with other expressions for its names; it binds none of them."""
    if isinstance(expr, Name):
        return names.get(expr.id, expr)
    return rebuild(expr, lambda e: replaced(e, names))


def free_names(expr: Expr) -> tuple[str, ...]:
    """Return the names in `expr` that no reduction inside binds, in order of appearance."""
    found: dict[str, None] = {}

    def visit(e: Expr, bound: frozenset[str]) -> None:
        if isinstance(e, Name) and e.id not in bound:
            found[e.id] = None
        if isinstance(e, Reduce):
            bound = bound | set(e.indices)
        for child in children(e):
            visit(child, bound)

    visit(expr, frozenset())
    return tuple(found)


_PRECEDENCE = {
    "or": 1, "and": 2, "not": 3, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "neg": 7, "**": 8,
}  # fmt: skip


def number_text(value: Fraction) -> str:
    """Return the shortest text that stands for `value`: an integer or a decimal."""
    return str(value.numerator) if value.denominator == 1 else repr(float(value))


def text(expr: Expr, above: int = 0) -> str:
    """Return `expr` as it would be written in a definition; it is Python as well."""
    match expr:
        case Number(value):
            shown, mine = number_text(value), 9 if value >= 0 else 7
        case Name(id):
            return id
        case Read(tensor, subscripts):
            return f"{tensor}[{','.join(text(s) for s in subscripts)}]" if subscripts else tensor
        case Reduce(kind, indices, body, bounds=bounds):
            bounded = {free_names(b)[0]: text(b).replace(" ", "") for b in bounds}
            return f"{kind}[{','.join(bounded.get(i, i) for i in indices)}]({text(body)})"
        case Call(function, args) if function in _PRECEDENCE:
            mine = _PRECEDENCE[function]
            if function in ("neg", "not"):
                shown = ("-" if function == "neg" else "not ") + text(args[0], mine)
            elif function == "**":
                shown = f"{text(args[0], mine + 1)}**{text(args[1], mine)}"
            else:
                # The right operand is bracketed at equal precedence, a - (b - c); comparisons both.
                gap = " " if mine < 6 else ""
                left = text(args[0], mine + (mine == _PRECEDENCE["<"]))
                shown = f"{left}{gap}{function}{gap}{text(args[1], mine + 1)}"
        case Call(function, args):
            return f"{function}({', '.join(text(a) for a in args)})"
    return f"({shown})" if mine < above else shown
