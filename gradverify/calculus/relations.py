"""Relations between polynomials used as rewriting rules: one term is written by the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradverify.calculus.algebra import Algebra
from gradverify.calculus.polynomial import (
    Atom,
    Coefficient,
    Factors,
    Polynomial,
    Term,
    natural_number,
    rational,
)
from gradverify.notation.dims import same
from gradverify.notation.tree import Call, Expr, Name, free_names

# So many replacements in one polynomial; rules lead to simpler terms, this only bounds the worst.
MAX_ROUNDS = 400

Binding = dict[str, Expr]


@dataclass(frozen=True)
class Rule:
    """`lead`, wherever its factors occur and for all values of its free indices, is `value`."""

    lead: Term
    value: Polynomial

    @cached_property
    def heads(self) -> frozenset[tuple[str, str]]:
        """What kinds of factors a term must have."""
        return frozenset((a.kind, a.name) for a, _ in self.lead.factors)


def rule(algebra: Algebra, relation: Polynomial, avoid: Atom | None = None) -> Rule | None:
    """Return the rule that a polynomial which is 0 gives, None where no term can lead.

    A term leads if it has all free indices of the relation, powers that are natural numbers and
    a coefficient that is never 0; of these, the one with the most sums, then the most factors.
    `avoid` is a factor that the rule is to introduce, not to replace.
    """
    free = relation.free - algebra.integers.least.keys()
    best: tuple[tuple[int, ...], Term, Coefficient] | None = None
    for t, c in relation.terms:
        powers = [natural_number(e) for _, e in t.factors]
        if not powers or None in powers or (avoid and any(a == avoid for a, _ in t.factors)):
            continue
        if not (algebra.known_positive(c) or algebra.known_positive(-c)):
            continue
        names = {n for a, _ in t.factors for n in a.free} - {i for i, _ in t.bound}
        if not free <= names:
            continue
        functions = sum(a.kind == "function" for a, _ in t.factors)
        weight = (len(t.bound), sum(p or 0 for p in powers), functions)
        if best is None or weight > best[0]:
            best = weight, t, c
    if best is None:
        return None
    _, lead, c = best
    others = Polynomial(tuple((t, d) for t, d in relation.terms if t != lead))
    return Rule(lead, algebra.scale(others, -1 / c))


class Rules:
    """Rules that are applied together, until none applies."""

    def __init__(self, algebra: Algebra, rules: Sequence[Rule] = ()) -> None:
        self.algebra, self.rules = algebra, list(rules)

    def learn(self, relation: Polynomial, avoid: Atom | None = None) -> None:
        """Add the rule of a polynomial that is 0, if it gives one."""
        found = rule(self.algebra, self.apply(relation), avoid)
        if found is not None:
            self.rules.append(found)

    def apply(self, p: Polynomial) -> Polynomial:
        """Return a polynomial with all rules applied."""
        for _ in range(MAX_ROUNDS):
            changed = False
            parts = []
            for t, c in p.terms:
                other = self.rewritten(t)
                changed |= other is not None
                parts.append(Polynomial(((t, c),)) if other is None
                             else self.algebra.scale(other, c))  # fmt: skip
            if not changed:
                return p
            p = self.algebra.add(*parts)
        return p

    def rewritten(self, t: Term) -> Polynomial | None:
        """Return a term by the first rule that applies to it."""
        heads = {(a.kind, a.name) for a, _ in t.factors}
        usable = [r for r in self.rules if r.heads <= heads]
        if not usable:
            return None
        bound, factors = self.algebra.freed(t)
        for r in usable:
            for binding, rest in self.matches(r, dict(bound), factors):
                left = [(i, n) for i, n in bound if Name(i) not in
                        [binding[j] for j, _ in r.lead.bound]]  # fmt: skip
                value = self.algebra.substituted(r.value, binding)
                return self.algebra.over(
                    left, self.algebra.multiply(self.algebra.term((), rest), value)
                )
        return None

    def matches(
        self, r: Rule, bound: Mapping[str, Expr], factors: Factors
    ) -> Iterator[tuple[Binding, Factors]]:
        """Yield how the leading term's indices are called in a term, and the factors left."""
        own = dict(r.lead.bound)
        fixed = self.algebra.integers.least.keys()

        def search(
            wanted: Factors, left: Factors, binding: Binding
        ) -> Iterator[tuple[Binding, Factors]]:
            if not wanted:
                yield binding, left
                return
            (atom, exponent), *more = wanted
            for k, (other, power) in enumerate(left):
                rest = _divided(power, exponent)
                if rest is None or (atom.kind, atom.name) != (other.kind, other.name):
                    continue
                found = self.unified(atom, other, binding, fixed)
                if found is not None:
                    remaining = [(other, rest)] if rest else []
                    yield from search(tuple(more), (*left[:k], *remaining, *left[k + 1 :]), found)

        for binding, rest in search(r.lead.factors, factors, {}):
            names = [binding.get(i) for i in own]
            used = [n.id for n in names if isinstance(n, Name) and n.id in bound]
            if len(set(used)) < len(own):
                continue
            if not all(same(own[i], bound[n]) for i, n in zip(own, used, strict=True)):
                continue
            others = {n for a, _ in rest for n in a.free}
            values = {n for j, e in binding.items() if j not in own for n in free_names(e)}
            if not {*used} & (others | values):
                yield binding, rest

    def unified(
        self, pattern: Atom, other: Atom, binding: Binding, fixed: object
    ) -> Binding | None:
        """Return the binding of the pattern's indices with which it is the other atom."""
        if len(pattern.subscripts) != len(other.subscripts):
            return None
        found: Binding | None = dict(binding)
        for p, o in zip(pattern.subscripts, other.subscripts, strict=True):
            found = (
                _unified(p, o, found, self.algebra.integers.least) if found is not None else None
            )
        if not pattern.args or found is None:
            return found
        pairs = zip(_occurring(pattern), _occurring(other), strict=False)
        for index, called in pairs:
            if index in self.algebra.integers.least:
                continue
            if found.setdefault(index, Name(called)) != Name(called):
                return None
        known = {i: e for i, e in found.items() if i in pattern.free}
        return found if self.algebra.renamed(pattern, known) == other else None


def _divided(power: Coefficient, by: Coefficient) -> Coefficient | None:
    """Return what is left of a power when another is taken out, None where it is less."""
    if power == by:
        return power - by
    p, q = rational(power), rational(by)
    return power - by if p is not None and q is not None and p > q > 0 else None


def _unified(p: Expr, o: Expr, binding: Binding, fixed: Mapping[str, int]) -> Binding | None:
    if isinstance(p, Name) and p.id not in fixed:
        known = binding.get(p.id)
        if known is None:
            return {**binding, p.id: o}
        return binding if known == o else None
    if isinstance(p, Call) and isinstance(o, Call) and p.function == o.function:
        found: Binding | None = binding
        for x, y in zip(p.args, o.args, strict=True):
            found = None if found is None else _unified(x, y, found, fixed)
        return found
    return binding if p == o else None


def _occurring(atom: Atom) -> list[str]:
    """Return the free index names inside an atom, in the order in which they stand there."""
    names: dict[str, None] = {}
    for p in atom.args:
        for t, _ in p.terms:
            bound = {i for i, _ in t.bound}
            for a, _ in t.factors:
                inside = [n for s in a.subscripts for n in free_names(s)] + _occurring(a)
                names |= dict.fromkeys(n for n in inside if n not in bound)
    return list(names)
