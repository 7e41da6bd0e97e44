"""A gradient on one line, as a textbook prints it, from its step-by-step derivation.

The cotangents in between are written out; what the definition names (xhat, sigma) stays. Then
bindings are inverted, x = sigma*xhat + mu, as long as that makes the line shorter, and what the
other equations say with that is used as facts: N*mu = sum[n](x[n]) becomes sum[n](xhat[n]) = 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_lowercase

from gradverify.calculus.derive import Derivation, flat
from gradverify.calculus.normal import Normalizer, Unsupported, normalizer
from gradverify.calculus.polynomial import Algebra, Atom, Polynomial, Term, TooLarge, rational
from gradverify.calculus.relations import Rule, Rules
from gradverify.calculus.textbook import Writer
from gradverify.notation.parse import FUNCTIONS
from gradverify.notation.tree import Call, Expr, Name, Read, Reduce, text, walk

# A closed form is one line: so many characters. Batch norm's has 80.
LONGEST = 120
# So many bindings are inverted together at most, and so many candidates are tried.
MOST_INVERTED, MOST_CANDIDATES = 3, 8
# A gradient of more terms than this is on no one line, however it is factored.
MOST_TERMS = 60


@dataclass(frozen=True)
class Closed:
    """`target[subscripts] = body`, in the notation, without any cotangent that is not given."""

    target: str
    subscripts: tuple[Expr, ...]
    body: Expr

    def __str__(self) -> str:
        return f"{text(Read(self.target, self.subscripts))} = {text(self.body)}"


@dataclass(frozen=True)
class _Relation:
    """`tensor[names]` equals `value`."""

    tensor: str
    names: tuple[str, ...]
    value: Polynomial


class ClosedForms:
    """Finds the closed forms of a derivation's gradients.

    `least` gives the smallest value of every size and constant.
    """

    def __init__(self, derivation: Derivation, least: Mapping[str, float]) -> None:
        self.d, program = derivation, derivation.program
        self.normal = normalizer(derivation, least)
        self.algebra = self.normal.algebra
        seeds = [c for y in program.declared.wanted if (c := derivation.cotangents.get(y))]
        self.visible = [t for t in program.shapes if t not in program.hoisted]
        self.normal.keep([*self.visible, *seeds])
        self.usual: dict[str, str] = {}
        for step in flat(derivation.forward):
            for index, size in step.loops:
                self.usual.setdefault(text(size), index[0])
        self.rank = {t: k for k, t in enumerate([*program.declared.given, *self.visible, *seeds])}
        self.taken = frozenset(t for t in (*self.visible, *program.declared.constants)
                               if len(t) == 1)  # fmt: skip

    def find(self, tensor: str) -> Closed | None:
        """Return the closed form of one tensor's gradient, None where there is none."""
        cotangent = self.d.cotangents.get(tensor)
        if cotangent is None or not self.normal.writable(cotangent):
            return None
        try:
            names, p = self.normal.definition(cotangent)
            if len(p.terms) > MOST_TERMS:
                return None
            body, letters = self.shortest(tensor, names, p)
        except (TooLarge, Unsupported):
            return None
        if len(text(body)) > LONGEST or not _sayable(body):
            return None
        return Closed(cotangent, tuple(Name(letters[n]) for n in names), body)

    def shortest(
        self, tensor: str, names: Sequence[str], p: Polynomial
    ) -> tuple[Expr, dict[str, str]]:
        """Return the shortest expression that inverting bindings leads to."""
        letters = self.letters(tensor, names)
        writer = Writer(self.algebra, letters, self.usual, self.rank, self.taken)
        best: tuple[int, Expr] | None = None
        for chosen in self.choices(p):
            rules = self.rules(chosen)
            body = writer.write(rules.apply(p))
            if best is None or len(text(body)) < best[0]:
                best = len(text(body)), body
        assert best is not None
        return best[1], letters

    def letters(self, tensor: str, names: Sequence[str]) -> dict[str, str]:
        """Return the letters of the left side: those that the definition uses for the sizes."""
        found: dict[str, str] = {}
        for name, size in zip(names, self.d.program.shapes[tensor], strict=True):
            start = self.usual.get(text(size), "i")
            order = ascii_lowercase[ascii_lowercase.index(start) :] + ascii_lowercase
            used = {*found.values(), *self.taken}
            found[name] = next(x for x in order if x not in used)
        return found

    # -- bindings

    def relations(self) -> list[_Relation]:
        """Return what the definition says of the tensors that it names."""
        found = []
        for tensor in self.visible:
            if not self.normal.writable(tensor) or tensor in self.d.program.origins:
                continue
            try:
                names, value = self.normal.written(tensor)
            except (TooLarge, Unsupported):
                continue
            if len(value.terms) <= MOST_TERMS:
                found.append(_Relation(tensor, names, value))
        return found

    def choices(self, p: Polynomial) -> Iterator[tuple[tuple[_Relation, Rule], ...]]:
        """Yield the sets of inverted bindings to try, the empty one first."""
        candidates = [(r, rule) for r in self.relations() for rule in self.inverses(r)]
        candidates = candidates[:MOST_CANDIDATES]
        for count in range(MOST_INVERTED + 1):
            for chosen in combinations(candidates, count):
                gone = {next(iter(rule.lead.factors))[0].name for _, rule in chosen}
                if len(gone) == count == len({r.tensor for r, _ in chosen}):
                    yield chosen

    def inverses(self, r: _Relation) -> Iterator[Rule]:
        """Yield the rules that eliminate an earlier tensor, or root, by a binding."""
        a = self.algebra
        own = a.element(r.tensor, map(Name, r.names))
        if len(r.value.terms) == 1:
            (t, c), *_ = r.value.terms
            if len(t.factors) == 1 and t.factors[0][0].kind == "base" and not t.bound:
                # sigma = sqrt(var + eps): var + eps is sigma**2
                (base, e), *_ = t.factors
                inside = base.args[0]
                square = self.normal.functions.power(a.scale(own, 1 / c), 1 / e)
                yield from self.solved(r, inside, square)
                return
        yield from self.solved(r, r.value, own)

    def solved(self, r: _Relation, value: Polynomial, own: Polynomial) -> Iterator[Rule]:
        """Yield the solutions of value = own for elements at the same place."""
        a = self.algebra
        for t, c in value.terms:
            for atom, e in t.factors:
                fits = atom.kind == "element" and e == a.field.one and not t.bound
                place = sorted(s.id for s in atom.subscripts if isinstance(s, Name))
                if not fits or len(place) < len(atom.subscripts) or place != sorted(r.names):
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
        if atom.name == "exp":
            return True
        return atom.kind == "element" and any(
            f.name == atom.name and (rational(e) or 0) < 0
            for r in self.relations_once for t, _ in r.value.terms for f, e in t.factors
        )  # fmt: skip

    @property
    def relations_once(self) -> list[_Relation]:
        """The relations, found once."""
        if not hasattr(self, "_relations"):
            self._relations = self.relations()
        return self._relations

    def rules(self, chosen: Sequence[tuple[_Relation, Rule]]) -> Rules:
        """Return the rules of inverted bindings, and the facts about sums that follow."""
        a = self.algebra
        rules = Rules(a, [rule for _, rule in chosen])
        inverted = {r.tensor for r, _ in chosen}
        for r in self.relations_once:
            if r.tensor in inverted:
                continue
            own = a.element(r.tensor, map(Name, r.names))
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


def _atoms(t: Term) -> set[Atom]:
    return {a for a, _ in t.factors}


def _sayable(body: Expr) -> bool:
    """Whether all that is in an expression can be written in a definition."""
    return all(
        e.function in FUNCTIONS or not e.function.isalpha() or e.function in ("neg", "and", "or")
        for e in walk(body)
        if isinstance(e, Call)
    )
