"""Whether a claimed gradient is the derived one for all sizes and values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gradverify.calculus.claims import Claims
from gradverify.calculus.closed_form import ClosedForms
from gradverify.calculus.normal import Normalizer, Unsupported, normalizer
from gradverify.calculus.polynomial import Polynomial, TooLarge
from gradverify.calculus.relations import Rules


@dataclass(frozen=True)
class Decision:
    """Whether a claim is proven, and if not, what is claimed minus what is derived, as text."""

    proven: bool
    residual: str | None = None
    assumed: tuple[str, ...] = ()


def decide(claims: Claims, target: str, least: Mapping[str, float]) -> Decision:
    """Return whether the claim about a cotangent is the derived equation, for all sizes.

    Two polynomials with equal normal forms are equal: that is the proof. First all that the
    definition names stays as it is; then everything is written out down to what is given; then
    sigmoid and tanh are written by exp as well.
    """
    for normal in _attempts(claims, least):
        try:
            difference = _difference(normal, claims, target)
        except (TooLarge, Unsupported):
            continue
        if not difference.terms:
            return Decision(True)
    return Decision(False)


def _attempts(claims: Claims, least: Mapping[str, float]) -> Iterator[Normalizer]:
    program = claims.derivation.program
    given = claims.gradient.declared.given
    visible = [t for t in program.shapes if t not in program.hoisted]
    for keep, elementary in (([*visible, *given], False), (given, False), (given, True)):
        normal = normalizer(
            claims.gradient, least, claims.steps, claims.shapes, elementary=elementary
        )
        normal.keep(keep)
        yield normal


def _difference(normal: Normalizer, claims: Claims, target: str) -> Polynomial:
    """Return what is claimed minus what is derived."""
    a = normal.algebra
    at = normal.place(claims.names[target])
    claimed = normal.element(claims.names[target], at)
    derived = claims.judged[target]
    other = a.zero if derived is None else normal.element(derived, at)
    difference = a.add(claimed, a.scale(other, -1))
    return folded(normal).apply(difference) if difference.terms else difference


def folded(normal: Normalizer) -> Rules:
    """Return the rules that write what stands under roots and fraction bars by these."""
    a = normal.algebra
    rules = Rules(a)
    for base, inside in list(normal.functions.bases.items()):
        rules.learn(a.add(inside, a.scale(a.atom(base), -1)), base)
    return rules


def zero(d: Claims, least: Mapping[str, float]) -> None:
    raise NotImplementedError


__all__ = ["ClosedForms", "Decision", "decide", "folded"]
