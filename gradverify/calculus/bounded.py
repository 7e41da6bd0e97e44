"""Reductions over part of a range: a choice by an index is the bound of a Σ."""

from collections.abc import Sequence

from sympy import Expr as Scalar
from sympy import Mul, S

from gradverify.calculus.functions import Both, Equal, Less, LessEqual, Negation, Select

REVERSED = {"Less": "Greater", "LessEqual": "GreaterEqual"}  # x > 0 for 0 < x

# What a masked term is, by the kind of its reduction.
_NEUTRAL = {"sum": S.Zero, "prod": S.One, "max": S.NegativeInfinity}

Bounds = dict[str, tuple[str, Sequence[Scalar]]]  # the comparison that an index begins


def bounded(kind: str, value: Scalar, indices: Sequence[str]) -> tuple[Scalar, Bounds]:
    """Split a choice by indices off what is reduced: b and j <= i for where(j <= i, b, 0) in a
    sum over j."""
    neutral = _NEUTRAL[kind]
    factors = Mul.make_args(value) if kind == "sum" else (value,)
    for k, factor in enumerate(factors):
        if not isinstance(factor, Select) or neutral not in factor.args[1:]:
            continue
        condition, chosen, other = factor.args
        if other != neutral:
            condition, chosen = Negation(condition), other
        if bounds := _bounds(condition, indices):
            return Mul(*factors[:k], chosen, *factors[k + 1 :]), bounds
    return value, {}


def _bounds(condition: Scalar, indices: Sequence[str]) -> Bounds:
    """Return comparisons that each begin or end with an index of its own, else none."""
    found: Bounds = {}
    parts = [condition]
    while parts:
        part = parts.pop(0)
        if isinstance(part, Both):
            parts[:0] = part.args
            continue
        unequal = isinstance(part, Negation) and isinstance(part.args[0], Equal)
        pair = part.args[0].args if unequal else part.args
        if not (unequal or isinstance(part, Less | LessEqual | Equal)):
            return {}
        own = [e.name if e.is_Symbol and e.name in indices else "" for e in pair]
        index = own[0] or own[1]
        if not index or index in found:
            return {}
        kind = "Unequal" if unequal else type(part).__name__
        if not own[0]:
            kind, pair = REVERSED.get(kind, kind), pair[::-1]
        found[index] = kind, pair
    return found
