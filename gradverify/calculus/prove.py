"""Whether a claimed gradient is the derived one for all sizes and values."""

from collections.abc import Iterator, Mapping, Set

from gradverify.calculus.claims import Claims
from gradverify.calculus.closed_form import ClosedForms
from gradverify.calculus.normal import Normalizer, normalizer
from gradverify.calculus.polynomial import TooLarge
from gradverify.calculus.relations import Rules
from gradverify.calculus.standard import Unsupported
from gradverify.notation.tree import Read, text


def proven(claims: Claims, target: str, least: Mapping[str, float]) -> bool:
    """Return whether the claim about a cotangent is the derived equation, for all sizes.

    Two polynomials with equal normal forms are equal: that is the proof. First all that the
    definition names stays as it is, and so do cotangents that are far away: what holds whatever
    they are needs no more of a deep network; then cotangents are written out; then everything is,
    down to what is given; then sigmoid and tanh are written by exp as well. `least` gives the
    smallest value of every size and constant.
    """
    for normal in _attempts(claims, target, least):
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
            return True
    return False


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
# Cotangents so many steps away are written out first: from a bias back through a softmax.
NEAR = 6
# A residual is to be read: a longer one says less than the numbers of a witness.
LONGEST = 500


def folded(normal: Normalizer) -> Rules:
    """Return the rules that write what stands under roots and fraction bars by these."""
    a = normal.algebra
    rules = Rules(a)
    for base, inside in list(normal.functions.bases.items()):
        rules.learn(a.add(inside, a.scale(a.atom(base), -1)), base)
    return rules


def _attempts(claims: Claims, target: str, least: Mapping[str, float]) -> Iterator[Normalizer]:
    program = claims.derivation.program
    given = claims.program.declared.given
    visible = [t for t in program.shapes if t not in program.hoisted]
    named = {*visible, *given}
    ends = {claims.names[target], claims.judged[target]}
    far = _far(normalizer(claims.program, least), ends, named)
    tries = [(named | far, False), (named, False), (set(given), False), (set(given), True)]
    for keep, elementary in tries if far else tries[1:]:
        normal = normalizer(claims.program, least, elementary=elementary)
        normal.keep(keep)
        normal.algebra.budget = BUDGET
        yield normal


def _far(normal: Normalizer, ends: Set[str], named: Set[str]) -> set[str]:
    """Return the tensors that are not `named` and more than NEAR steps from both ends."""
    near = reached = set(ends)
    for _ in range(NEAR):
        reached = {r for t in reached for s in normal.steps.get(t, ()) for r in s.sources} - named
        near = near | reached
    return normal.steps.keys() - near - named
