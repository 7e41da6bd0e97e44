"""Whether a claimed gradient is the derived one for all sizes and values."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from gradverify.calculus.claims import Claims
from gradverify.calculus.closed_form import ClosedForms
from gradverify.calculus.normal import Normalizer, Unsupported, normalizer
from gradverify.calculus.polynomial import Atom, Coefficient, Term, TooLarge, rational
from gradverify.calculus.relations import Rules
from gradverify.notation.tree import Read, text


@dataclass(frozen=True)
class Decision:
    """Whether a claim is proven, and what the proof assumes, as conditions in the notation."""

    proven: bool
    assumed: tuple[str, ...] = ()


def decide(claims: Claims, target: str, least: Mapping[str, float]) -> Decision:
    """Return whether the claim about a cotangent is the derived equation, for all sizes.

    Two polynomials with equal normal forms are equal: that is the proof. First all that the
    definition names stays as it is; then everything is written out down to what is given; then
    sigmoid and tanh are written by exp as well. `least` gives the smallest value of every size
    and constant.
    """
    for normal in _attempts(claims, least):
        a = normal.algebra
        at = normal.place(target)
        try:
            claimed = normal.element(claims.names[target], at)
            derived = normal.element(claims.judged[target], at)
            difference = a.add(claimed, a.scale(derived, -1))
            if difference.terms:
                difference = folded(normal).apply(difference)
        except (TooLarge, Unsupported):
            continue
        if not difference.terms:
            return Decision(True, conditions(claims, target, least))
    return Decision(False)


def residual(claims: Claims, target: str, least: Mapping[str, float]) -> str | None:
    """Return what is claimed minus what is derived, None where that is too long to be read."""
    forms = ClosedForms(claims.derivation, least, claims.program)
    normal, a = forms.normal, forms.algebra
    found = []
    for split in (False, True):
        names, subscripts = forms.place(normal.shapes[target], split)
        try:
            claimed = normal.element(claims.names[target], subscripts)
            derived = normal.element(claims.judged[target], subscripts)
            body, _ = forms.shortest(names, a.add(claimed, a.scale(derived, -1)))
        except (TooLarge, Unsupported):
            continue
        place = text(Read(target, forms.shown(names, subscripts)))
        found.append(f"{place}, claimed - derived = {text(body)}")
    short = min(found, key=len, default=None)
    return short if short is not None and len(short) <= LONGEST else None


# So many products are made in each attempt at a proof: ten seconds at the worst.
BUDGET = 10_000
# A residual is to be read: a longer one says less than the numbers of a witness.
LONGEST = 500


def folded(normal: Normalizer) -> Rules:
    """Return the rules that write what stands under roots and fraction bars by these."""
    a = normal.algebra
    rules = Rules(a)
    for base, inside in list(normal.functions.bases.items()):
        rules.learn(a.add(inside, a.scale(a.atom(base), -1)), base)
    return rules


def _attempts(claims: Claims, least: Mapping[str, float]) -> Iterator[Normalizer]:
    program = claims.derivation.program
    given = claims.program.declared.given
    visible = [t for t in program.shapes if t not in program.hoisted]
    for keep, elementary in (([*visible, *given], False), (given, False), (given, True)):
        normal = normalizer(claims.program, least, elementary=elementary)
        normal.keep(keep)
        normal.algebra.budget = BUDGET
        yield normal


def conditions(claims: Claims, target: str, least: Mapping[str, float]) -> tuple[str, ...]:
    """Return what the definition and the claim divide by, take roots of or decide choices by."""
    forms = ClosedForms(claims.derivation, least, claims.program)
    normal = forms.normal
    values = [r.value for r in forms.relations]
    with suppress(TooLarge, Unsupported):
        at = normal.place(target)
        values += [normal.element(t, at) for t in (claims.names[target], claims.judged[target])]
    found = (_condition(forms, t, atom, e) for p in values for t, _ in p.terms
             for atom, e in t.factors)  # fmt: skip
    shown = dict.fromkeys(c for c in found if c is not None)
    return tuple(c for c in shown if c.replace(" >= ", " > ") not in shown or " >= " not in c)


def _condition(forms: ClosedForms, t: Term, atom: Atom, exponent: Coefficient) -> str | None:
    power = rational(exponent)
    below = power is None or power < 0
    if atom.kind == "base" and atom.free:
        sign = "!=" if power is not None and power.denominator == 1 else ">" if below else ">="
    elif atom.name == "positive" or (atom.kind == "element" and below):
        sign = "!="
    else:
        return None
    sizes = {**forms.algebra.integers.ranges, **dict(t.bound)}
    names: dict[str, str] = {}
    for index in sorted(atom.free & sizes.keys()):
        names[index] = forms.free_letter(sizes[index], names.values())
    inside = atom.args[0] if atom.args else forms.algebra.atom(atom)
    return f"{text(forms.writer(names).write(inside))} {sign} 0"
