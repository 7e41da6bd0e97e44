"""A derivation of which every term carries a weight: what a gradient is if one of them is changed.

A vjp is linear in each of its terms, so a wrong gradient shows which term it is wrong in by what
changing that term's weight does to the right one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.compile import Oracle
from gradverify.calculus.derive import Derivation, Order, Step, fresh, in_order
from gradverify.calculus.functions import Select
from gradverify.notation.schedule import Block
from gradverify.notation.tree import Name


@dataclass(frozen=True)
class Term:
    """One weight: 1 is the derived gradient, 0 leaves `value` out of it.

    The value is a summand of what flows from the cotangent of `source` to that of `to`, or, for
    `factor`, a factor of it. `whole` says that it is all of that step.
    """

    weight: str
    to: str
    source: str
    value: Scalar
    whole: bool = False
    factor: bool = False


@dataclass(frozen=True)
class Weighted:
    """An oracle that takes the weight of each of `terms` as a constant."""

    oracle: Oracle
    terms: tuple[Term, ...]

    @property
    def ones(self) -> dict[str, float]:
        """The weights with which it is the derivation's own."""
        return dict.fromkeys((t.weight for t in self.terms), 1.0)


def weighted(d: Derivation, *, factors: bool = False) -> Weighted:
    """Return the oracle of a derivation with a weight on every summand, or on every factor."""
    taken = {*d.shapes, *d.program.declared.sizes, *d.program.declared.constants}
    names = {c: t for t, c in d.cotangents.items()}
    found: list[Term] = []

    def changed(step: Step) -> Step:
        sources = (names[r.tensor] for r in step.reads.values() if r.tensor in names)
        to, source = names.get(step.target), next(sources, None)
        if to is None or source is None:
            return step

        def weight(value: Scalar, **kind: bool) -> Scalar:
            name = fresh(f"w{len(found)}", taken)
            found.append(Term(name, to, source, value, **kind))
            return sympy.Symbol(name, real=True)

        if factors:
            cotangents = {s for s, r in step.reads.items() if r.tensor in names}
            return replace(step, value=_without_factors(step.value, cotangents, weight))
        before = len(found)
        value = _summands(step.value, weight)
        if len(found) == before + 1:
            found[-1] = replace(found[-1], whole=True)
        else:
            value = weight(step.value, whole=True) * value
        return replace(step, value=value)

    vjp = _mapped(d.vjp, changed)
    return Weighted(Oracle.of(_with_constants(replace(d, vjp=vjp), found)), tuple(found))


def _mapped(order: Order, change: Callable[[Step], Step]) -> Order:
    return tuple(
        replace(entry, steps=tuple(map(change, entry.steps)))
        if isinstance(entry, Block)
        else change(entry)
        for entry in order
    )


def _with_constants(d: Derivation, terms: list[Term]) -> Derivation:
    declared = d.program.declared
    constants = (*declared.constants, *(t.weight for t in terms))
    return replace(d, program=replace(d.program, declared=replace(declared, constants=constants)))


def _summands(value: Scalar, weight: Callable[..., Scalar]) -> Scalar:
    """Return a value with a weight on each summand, inside of products and branches too."""
    if value.is_Add:
        return sympy.Add(*(weight(a) * a for a in value.args))
    if isinstance(value, Select):
        condition, *branches = value.args
        return Select(condition, *(b if b == 0 else weight(b) * b for b in branches))
    if value.is_Mul and any(f.is_Add or isinstance(f, Select) for f in value.args):
        return sympy.Mul(*(
            _summands(f, weight) if f.is_Add or isinstance(f, Select) else f for f in value.args
        ))  # fmt: skip
    return weight(value) * value


def _without_factors(
    value: Scalar, cotangents: set[sympy.Symbol], weight: Callable[..., Scalar]
) -> Scalar:
    """Return a value in which each factor but the cotangent can be turned into 1."""
    if isinstance(value, Select):
        condition, *branches = value.args
        return Select(condition, *(_without_factors(b, cotangents, weight) for b in branches))
    parts = []
    for f in sympy.Mul.make_args(value):
        if f.is_number or f in cotangents:
            parts.append(f)
        else:
            w = weight(f, factor=True)
            parts.append(1 - w + w * f)
    return sympy.Mul(*parts)


def unsummed(d: Derivation, step: Step) -> Oracle:
    """Return an oracle whose only gradient, called as `step`'s target, is the terms of the step
    before they are summed: an axis for each of its loops."""
    names = {c: t for t, c in d.cotangents.items()}
    tensor = names[step.target]
    taken = {*d.shapes, *d.program.declared.sizes, *d.program.declared.constants}
    full = fresh(f"{step.target}_terms", taken)
    own = replace(step, target=full, subscripts=tuple(Name(i) for i, _ in step.loops))
    vjp = (*(e for e in d.vjp if step.target not in {s.target for s in in_order((e,))}), own)
    return Oracle.of(
        replace(
            d,
            wrt=(tensor,),
            vjp=vjp,
            cotangents={**d.cotangents, tensor: full},
            shapes={**d.shapes, full: tuple(n for _, n in step.loops)},
        )
    )
