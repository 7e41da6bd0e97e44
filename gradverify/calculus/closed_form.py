"""A gradient on one line, as a textbook prints it, from its step-by-step derivation.

The cotangents in between are written out; what the definition names (xhat, sigma) stays. Then
bindings are inverted, x = sigma*xhat + mu, as long as that makes the line shorter, and what the
other equations say with that is used as facts: N*mu = sum[n](x[n]) becomes sum[n](xhat[n]) = 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from gradverify.calculus.derive import Derivation, Gradient, in_order
from gradverify.calculus.gradient import gradient_program, seed_names
from gradverify.calculus.integers import digits, factors
from gradverify.calculus.normal import normalizer
from gradverify.calculus.polynomial import (
    Atom,
    Polynomial,
    Term,
    TooLarge,
    natural_number,
    rational,
)
from gradverify.calculus.relations import Rule, Rules
from gradverify.calculus.standard import Unsupported
from gradverify.calculus.textbook import LETTERS, Writer
from gradverify.notation.parse import FUNCTIONS, Equation
from gradverify.notation.tree import ZERO, Call, Expr, Name, Read, replaced, text, walk

# A closed form is one line: so many characters. Batch norm's has 90,
# group norm's with its digits 190.
LONGEST = 200
# So many bindings are inverted together at most, and so many candidates are tried.
MOST_INVERTED, MOST_CANDIDATES = 3, 8
# So many steps are written out at most: batch norm's dx takes 11, attention's dq 9.
MOST_STEPS = 16
# So many products are made on the way to one closed form: at most a second or two.
BUDGET = 4_000
# A gradient of more terms than this is on no one line, however it is factored.
MOST_TERMS = 60


@dataclass(frozen=True)
class Closed:
    """`target[subscripts] = body`, in the notation, without any cotangent that is not given.

    `ranges` are those of all its indices.
    """

    target: str
    subscripts: tuple[Expr, ...]
    body: Expr
    ranges: Mapping[str, Expr]

    @property
    def equation(self) -> Equation:
        """The closed form as a definition has it."""
        return Equation(self.target, self.subscripts, self.body, False, (1, 0), self.ranges)

    def __str__(self) -> str:
        return str(self.equation)


@dataclass(frozen=True)
class _Relation:
    """`tensor[subscripts]` equals `value`."""

    tensor: str
    subscripts: tuple[Expr, ...]
    value: Polynomial


class ClosedForms:
    """Finds the closed forms of a derivation's gradients.

    `least` gives the smallest value of every size and constant; `program`, where it is given,
    is the derivation's gradient program with more steps.
    """

    def __init__(
        self,
        derivation: Derivation,
        least: Mapping[str, float],
        program: Gradient | None = None,
    ) -> None:
        self.program = derivation.program
        own, _ = gradient_program(derivation)
        self.wanted = dict(zip(derivation.wrt, own.declared.wanted, strict=True))
        gradient = program or own
        self.normal = normalizer(gradient, least)
        self.algebra = self.normal.algebra
        given = self.program.declared.given
        self.called = {c: name for name, c in seed_names(self.program, gradient).items()}
        self.visible = [t for t in self.program.shapes if t not in self.program.hoisted]
        self.normal.keep([*self.visible, *self.called])
        self.usual: dict[str, str] = {}
        for step in in_order(derivation.forward):
            for index, size in step.loops:
                self.usual.setdefault(text(size), index[0])
        self.rank = {t: k for k, t in enumerate([*given, *self.visible, *self.called])}
        constants = self.program.declared.constants
        self.taken = frozenset(t for t in (*self.visible, *constants) if len(t) == 1)
        self.known: dict[tuple[int, ...], Rules] = {}

    def find(self, cotangent: str) -> Closed | None:
        """Return the closed form of a cotangent, None where there is none."""
        if not self.normal.writable(cotangent) or self.depth(cotangent) > MOST_STEPS:
            return None
        shape = self.normal.shapes[cotangent]
        found = []
        for split in (False, True) if any(map(factors, shape)) else (False,):
            names, subscripts = self.place(shape, split)
            try:
                self.algebra.budget = BUDGET
                body, ranges = self.shortest(names, self.normal.element(cotangent, subscripts))
            except (TooLarge, Unsupported):
                continue
            if len(text(body)) <= LONGEST and self.sayable(body):
                found.append(Closed(cotangent, self.shown(names, subscripts), body, ranges))
        return min(found, key=lambda c: len(text(c.body)), default=None)

    def depth(self, cotangent: str) -> int:
        """Return how many steps a cotangent is written out by."""
        found = {cotangent}
        while new := {s for t in found for step in self.normal.steps.get(t, ())
                      for s in step.sources if s not in self.normal.kept} - found:  # fmt: skip
            found |= new
        return sum(len(self.normal.steps.get(t, ())) for t in found)

    def zero(self, cotangent: str) -> Closed:
        """Return the closed form of a cotangent that is 0."""
        names, subscripts = self.place(self.normal.shapes[cotangent], False)
        ranges = {x: self.algebra.integers.ranges[i] for i, x in names.items()}
        return Closed(cotangent, self.shown(names, subscripts), ZERO, ranges)

    def shown(self, names: Mapping[str, str], subscripts: Sequence[Expr]) -> tuple[Expr, ...]:
        """Return subscripts by the letters of their indices."""
        own: dict[str, Expr] = {i: Name(letter) for i, letter in names.items()}
        return tuple(replaced(s, own) for s in subscripts)

    def sayable(self, body: Expr) -> bool:
        """Whether all that is in an expression can be written in the notation."""
        calls = [e.function for e in walk(body) if isinstance(e, Call)]
        words = [c for c in calls if c.isidentifier() and c not in ("neg", "and", "or", "not")]
        known = {*self.visible, *self.called.values()}
        reads = {e.tensor for e in walk(body) if isinstance(e, Read)}
        return reads <= known and all(w in FUNCTIONS for w in words)

    def place(self, shape: Sequence[Expr], split: bool) -> tuple[dict[str, str], tuple[Expr, ...]]:
        """Return the letters of the left side's indices, and its subscripts.

        An index has the letter that the definition uses for its size.
        """
        sizes: dict[str, Expr] = {}
        subscripts: list[Expr] = []
        for size in shape:
            parts = (split and factors(size)) or (size,)
            own = [f"_l{len(sizes) + k}" for k in range(len(parts))]
            sizes |= dict(zip(own, parts, strict=True))
            subscripts.append(digits(own, parts))
        self.algebra.integers.ranges |= sizes
        names: dict[str, str] = {}
        for index, size in sizes.items():
            names[index] = self.free_letter(size, names.values())
        return names, tuple(subscripts)

    def shortest(self, names: Mapping[str, str], p: Polynomial) -> tuple[Expr, Mapping[str, Expr]]:
        """Return the shortest expression that inverting bindings leads to, and its ranges.

        Raises TooLarge where there are too many terms for any.
        """
        if len(p.terms) > MOST_TERMS:
            raise TooLarge
        found = []
        for chosen in self.choices(p):
            writer = self.writer(names)
            if chosen not in self.known:
                self.known[chosen] = self.rules([self.inverted[k] for k in chosen])
            found.append((writer.write(self.known[chosen].apply(p)), writer.ranges))
        return min(found, key=lambda pair: len(text(pair[0])))

    def writer(self, names: Mapping[str, str]) -> Writer:
        """Return what writes polynomials whose free indices have these letters."""
        return Writer(self.algebra, names, self.usual, self.rank, self.taken, self.called)

    def free_letter(self, size: Expr, used: Iterable[str]) -> str:
        """Return a letter for an index over a size that is not used."""
        order = self.usual.get(text(size), "i") + LETTERS
        return next(x for x in order if x not in {*used, *self.taken})

    # -- bindings

    @cached_property
    def relations(self) -> list[_Relation]:
        """Return what the definition says of the tensors that it names."""
        found = []
        for tensor in self.visible:
            if not self.normal.writable(tensor) or tensor in self.program.origins:
                continue
            try:
                names, value = self.normal.written(tensor)
                at = tuple(self.normal.place(tensor))
                value = self.algebra.substituted(value, dict(zip(names, at, strict=True)))
            except (TooLarge, Unsupported):
                continue
            if len(value.terms) <= MOST_TERMS:
                found.append(_Relation(tensor, at, value))
        return found

    @cached_property
    def names(self) -> list[Rule]:
        """Return the rules by which a function is what the definition calls it."""
        found = []
        for r in self.relations:
            if len(r.value.terms) != 1 or r.value.terms[0][0].bound:
                continue
            (t, c), *_ = r.value.terms
            if len(t.factors) == 1 and t.factors[0][0].kind == "function":
                own = self.algebra.element(r.tensor, r.subscripts)
                if natural_number(t.factors[0][1]) == 1 and own.free <= t.factors[0][0].free:
                    found.append(Rule(t, self.algebra.scale(own, 1 / c)))
        return found

    @cached_property
    def inverted(self) -> list[tuple[_Relation, Rule]]:
        """Return all bindings that can be inverted, each with the rule that it gives."""
        return [(r, rule) for r in self.relations for rule in self.inverses(r)]

    def choices(self, p: Polynomial) -> Iterator[tuple[int, ...]]:
        """Yield the sets of inverted bindings to try for a polynomial, the empty one first."""
        names, before = _tensors(p), 0
        while before < len(names):
            before = len(names)
            for _, rule in self.inverted:
                if _eliminated(rule) in names:
                    names |= _tensors(rule.value)
        usable = [k for k, (_, rule) in enumerate(self.inverted) if _eliminated(rule) in names]
        for count in range(MOST_INVERTED + 1):
            for chosen in combinations(usable[:MOST_CANDIDATES], count):
                pairs = [self.inverted[k] for k in chosen]
                if len({_eliminated(rule) for _, rule in pairs}) == count and (
                    len({r.tensor for r, _ in pairs}) == count
                ):
                    yield chosen

    def inverses(self, r: _Relation) -> Iterator[Rule]:
        """Yield the rules that eliminate an earlier tensor, root or exponential by a binding."""
        a, f = self.algebra, self.normal.functions
        own = a.element(r.tensor, r.subscripts)
        if len(r.value.terms) == 1:
            (t, c), *_ = r.value.terms
            if len(t.factors) == 1 and t.factors[0][0].kind == "base" and not t.bound:
                # sigma = sqrt(var + eps): var + eps is sigma**2
                (base, e), *_ = t.factors
                inside = base.args[0]
                square = f.power(a.scale(own, 1 / c), 1 / e)
                yield from self.solved(r, inside, square)
                return
        yield from self.solved(r, r.value, own)
        if any(x.function == "log" for t, _ in r.value.terms for x, _ in t.factors):
            # y = z - log(s): exp(z) is exp(y)*s
            yield from self.solved(r, f.exp(r.value), f.exp(own))

    def solved(self, r: _Relation, value: Polynomial, own: Polynomial) -> Iterator[Rule]:
        """Yield the solutions of value = own for elements at the same place."""
        a = self.algebra
        names = own.free - a.integers.least.keys()
        for t, c in value.terms:
            for atom, e in t.factors:
                fits = atom.kind == "element" or atom.function == "exp"
                here = atom.free - a.integers.least.keys() == names
                if not (fits and here) or e != a.field.one or t.bound:
                    continue
                others = [f for f in t.factors if f[0] != atom]
                if any(atom in _atoms(u) for u, _ in value.terms if u is not t) or any(
                    not self.nonzero(f) for f, _ in others
                ):
                    continue
                rest = Polynomial(tuple(x for x in value.terms if x[0] is not t))
                solved = a.add(own, a.scale(rest, -1))
                inverse = a.term((), [(f, -k) for f, k in others], 1 / c)
                yield Rule(Term((), ((atom, e),)), a.multiply(solved, inverse))

    def nonzero(self, atom: Atom) -> bool:
        """Whether a factor is known not to be 0: the definition divides by it."""
        if atom.function == "exp" or atom.kind == "base":
            return True
        return atom.kind == "element" and any(
            (f.kind, f.name) == (atom.kind, atom.name) and (rational(e) or 0) < 0
            for r in self.relations for t, _ in r.value.terms for f, e in t.factors
        )  # fmt: skip

    def rules(self, chosen: Sequence[tuple[_Relation, Rule]]) -> Rules:
        """Return the rules of inverted bindings, and the facts about sums that follow.

        What the definition calls i is i, not sigmoid(z) again.
        """
        a = self.algebra
        rules = Rules(a, [*(rule for _, rule in chosen), *self.names])
        inverted = {r.tensor for r, _ in chosen}
        for r in self.relations:
            if r.tensor in inverted:
                continue
            own = a.element(r.tensor, r.subscripts)
            fact = rules.apply(a.add(own, a.scale(r.value, -1)))
            self.learn(rules, fact)
        return rules

    def learn(self, rules: Rules, fact: Polynomial) -> None:
        """Add a fact about a sum, divided by the factors outside of the sum."""
        a = self.algebra
        sums = [t for t, _ in fact.terms if t.bound]
        if not sums:
            return
        lead = max(sums, key=lambda t: (len(t.bound), len(t.factors)))
        bound = {i for i, _ in lead.bound}
        outside = [(f, e) for f, e in lead.factors if not f.free & bound]
        if all(self.nonzero(f) for f, _ in outside):
            fact = a.multiply(fact, a.term((), [(f, -e) for f, e in outside]))
        rules.learn(fact)


def _eliminated(rule: Rule) -> str:
    """Return what the rule of an inverted binding replaces: a tensor, or exp."""
    return rule.lead.factors[0][0].name


def _tensors(p: Polynomial) -> set[str]:
    """Return the tensors that a polynomial reads outside of functions, and exp."""
    return {a.name for t, _ in p.terms for a, _ in t.factors if a.kind != "base"}


def _atoms(t: Term) -> set[Atom]:
    return {a for a, _ in t.factors}
