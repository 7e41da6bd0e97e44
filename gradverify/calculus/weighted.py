"""A derivation of which every term carries a weight: what a result is if one of them is changed.

A vjp is linear in each of its terms, so a wrong gradient shows which term it is wrong in by what
changing that term's weight does to the right one.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.compile import Oracle, Several
from gradverify.calculus.derive import (
    Derivation,
    Gradient,
    Order,
    Step,
    derive,
    fresh,
    in_order,
    read_symbol,
)
from gradverify.calculus.functions import Select
from gradverify.notation.schedule import Block
from gradverify.notation.tree import Name, Read, text


@dataclass(frozen=True)
class Term:
    """One weight, which is `plain` where the result is as derived.

    In a vjp `value` is part of what flows from the cotangent of `source` to that of `to`, in a
    definition (`source` is None) part of `to`; `whole` says that it is all of that. `instead` is
    what is read in its place where the weight is 1 and not 0.
    """

    weight: str
    to: str
    source: str | None
    value: Scalar
    whole: bool = False
    plain: float = 1.0
    instead: Scalar | None = None


@dataclass(frozen=True)
class Weighted:
    """An oracle that takes the weight of each of `terms` as a constant."""

    oracle: Oracle
    terms: tuple[Term, ...]

    @cached_property
    def several(self) -> Several:
        """The same several times at once, with other weights each time."""
        return Several.of(self.oracle.derivation, [t.weight for t in self.terms])

    @cached_property
    def plain(self) -> dict[str, float]:
        """The weights with which it is the derivation's own."""
        return {t.weight: t.plain for t in self.terms}


@dataclass
class _Weights:
    """Makes weights; `to` and `source` say what flows in the step being looked at."""

    taken: set[str]
    terms: list[Term] = field(default_factory=list)
    to: str = ""
    source: str | None = None

    def new(self, value: Scalar, *, instead: Scalar | None = None) -> Scalar:
        name = fresh(f"w{len(self.terms)}", self.taken)
        plain = 1.0 if instead is None else 0.0
        self.terms.append(Term(name, self.to, self.source, value, False, plain, instead))
        return sympy.Symbol(name, real=True)

    def summands(self, value: Scalar) -> Scalar:
        """Return a value with a weight on each summand and on the whole of it."""
        inside = self._summands(value)
        weight = self.new(value)
        self.terms[-1] = replace(self.terms[-1], whole=True)
        return weight * inside

    def _summands(self, value: Scalar) -> Scalar:
        if value.is_Add:
            return sympy.Add(*(self.new(a) * self._summands(a) for a in value.args))
        if isinstance(value, Select):
            condition, *branches = value.args
            parts = (b if b == 0 else self.new(b) * self._summands(b) for b in branches)
            return Select(condition, *parts)
        if value.is_Atom or not value.has(sympy.Add, Select):
            return value
        return value.func(*(a if a.is_Boolean else self._summands(a) for a in value.args))

    def factors(self, value: Scalar, kept: Collection[sympy.Symbol]) -> Scalar:
        """Return a value in which each factor but those `kept` can be turned into 1."""
        if isinstance(value, Select):
            condition, *branches = value.args
            return Select(condition, *(self.factors(b, kept) for b in branches))
        parts = []
        for f in sympy.Mul.make_args(value):
            if f.is_number or f in kept:
                parts.append(f)
            else:
                w = self.new(f)
                inside = self.factors(f, kept) if isinstance(f, Select) else f
                parts.append(1 - w + w * inside)
        return sympy.Mul(*parts)


def _weights(d: Derivation) -> _Weights:
    return _Weights({*d.shapes, *d.program.declared.sizes, *d.program.declared.constants})


def weighted_summands(d: Derivation) -> Weighted:
    """Return the oracle of a derivation with a weight on every summand of its vjp."""
    return _changed(d, lambda step, weights: replace(step, value=weights.summands(step.value)))


def weighted_factors(d: Derivation) -> Weighted:
    """Return the oracle of a derivation with a weight on every factor of its vjp."""
    cotangents = set(d.cotangents.values())

    def change(step: Step, weights: _Weights) -> Step:
        kept = {s for s, r in step.reads.items() if r.tensor in cotangents}
        return replace(step, value=weights.factors(step.value, kept))

    return _changed(d, change)


def weighted_reads(d: Derivation) -> Weighted:
    """Return the oracle of a derivation in whose vjp other tensors of the same shape, a square
    matrix with its subscripts exchanged, or what is given as the cotangent of an output, can be
    read in place of each tensor."""
    derived = {*d.cotangents.values(), *d.tangents.values()}
    given = [d.cotangents[y] for y in d.program.declared.seeded if y in d.cotangents]
    integers = d.program.declared.integers
    tensors = [t for t in d.shapes if t not in derived and t not in integers]

    def shape(tensor: str) -> list[str]:
        return [text(n) for n in d.shapes[tensor]]

    def change(step: Step, weights: _Weights) -> Step:
        value, reads = step.value, dict(step.reads)
        for symbol, read in step.reads.items():
            others = given if read.tensor in derived else tensors
            mixed, own = symbol, shape(read.tensor)
            alike = [t for t in others if t != read.tensor and shape(t) == own]
            found = [Read(t, read.subscripts) for t in alike]
            plain = all(isinstance(s, Name) for s in read.subscripts)
            if plain and len(own) == 2 and own[0] == own[1]:
                found.append(Read(read.tensor, read.subscripts[::-1]))
            for instead in found:
                reads[read_symbol(instead)] = instead
                w = weights.new(symbol, instead=read_symbol(instead))
                mixed += w * (read_symbol(instead) - symbol)
            value = value.xreplace({symbol: mixed})
        return replace(step, value=value, reads=reads)

    return _changed(d, change)


def _changed(d: Derivation, change: Callable[[Step, _Weights], Step]) -> Weighted:
    """Return the oracle of a derivation of which every step of the vjp is changed."""
    weights, names = _weights(d), {c: t for t, c in d.cotangents.items()}

    def changed(step: Step) -> Step:
        sources = (names[r.tensor] for r in step.reads.values() if r.tensor in names)
        weights.to, weights.source = names.get(step.target, ""), next(sources, None)
        return change(step, weights) if weights.to and weights.source else step

    vjp: Order = tuple(
        replace(entry, steps=tuple(map(changed, entry.steps)))
        if isinstance(entry, Block)
        else changed(entry)
        for entry in d.vjp
    )
    declared = d.program.declared
    constants = (*declared.constants, *(t.weight for t in weights.terms))
    program = replace(d.program, declared=replace(declared, constants=constants))
    return Weighted(Oracle.of(replace(d, program=program, vjp=vjp)), tuple(weights.terms))


def weighted_definition(d: Derivation) -> Weighted:
    """Return an oracle with a weight on every summand of the definition, outputs and gradients."""
    weights = _weights(d)

    def changed(step: Step) -> Step:
        weights.to = step.target
        return replace(step, value=weights.summands(step.value))

    steps = tuple(map(changed, in_order(d.forward)))
    program, declared = d.program, d.program.declared
    derived = {*d.cotangents.values(), *d.tangents.values()}
    own = replace(declared, constants=(*declared.constants, *(t.weight for t in weights.terms)))
    made = Gradient(
        (), {t: s for t, s in d.shapes.items() if t not in derived}, program.outside,
        program.origins, program.scattered, program.hoisted, own, steps, d.kinds,
    )  # fmt: skip
    return Weighted(Oracle.of(derive(made, d.wrt)), tuple(weights.terms))


def unsummed(d: Derivation, tensor: str) -> Iterator[tuple[Step, Oracle]]:
    """Yield each step of the vjp that adds to a tensor's cotangent, with an oracle whose only
    gradient, called as the tensor, is that step's terms, an axis for each of its loops."""
    target = d.cotangents.get(tensor)
    taken = {*d.shapes, *d.program.declared.sizes, *d.program.declared.constants}
    rest = tuple(e for e in d.vjp if target not in {s.target for s in in_order((e,))})
    for step in in_order(d.vjp):
        if step.target != target:
            continue
        full = fresh(f"{target}_terms", taken)
        own = replace(step, target=full, subscripts=tuple(Name(i) for i, _ in step.loops))
        changed = replace(
            d,
            wrt=(tensor,),
            vjp=(*rest, own),
            cotangents={**d.cotangents, tensor: full},
            shapes={**d.shapes, full: tuple(n for _, n in step.loops)},
        )
        yield step, Oracle.of(changed)
