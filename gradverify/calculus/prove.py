"""Whether a claimed gradient is the derived one for all sizes and values."""

from collections.abc import Iterator, Mapping

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
