"""Polynomials in tensor elements with sums over indices, in a normal form.

`sum[n](x[n,c]*dy[n,c])*gamma[c]/N - eps` is a polynomial of two terms. A term is a coefficient (a
rational function of sizes and constants), factors with exponents, and bound indices that it is
summed over. Terms are kept multiplied out, with bound indices renamed in one standard way, so
that equal normal forms mean equality for all sizes and all values; the reverse need not hold.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from gradverify.notation.tree import Expr, free_names, text

Coefficient = Any  # a FracElement; sympy has no types
Factors = tuple[tuple["Atom", Coefficient], ...]
Bound = tuple[tuple[str, Expr], ...]


@lru_cache(maxsize=65_536)
def shown(c: Coefficient) -> str:
    """Return a coefficient as text; to print one takes longer than to use it."""
    return str(c)


class TooLarge(Exception):
    """A polynomial has more terms than can be handled."""


@dataclass(frozen=True, eq=False)
class Atom:
    """A factor: an element of a tensor, a function of polynomials, or a test of an index.

    kind "element": `name` is the tensor and `subscripts` its place; "index": the value of the
    index expression in `subscripts`; "natural" and "zero": 1 where the integer in `subscripts`
    is >= 0, or 0, else 0; "function": `name` of `args`; "base": the polynomial `args[0]`, which
    stands under a fraction bar or a root.
    """

    kind: str
    name: str
    subscripts: tuple[Expr, ...] = ()
    args: "tuple[Polynomial, ...]" = ()

    @cached_property
    def key(self) -> str:
        """What the atom is, as text."""
        inside = [text(s) for s in self.subscripts] + [a.key for a in self.args]
        return f"{self.kind[0]}:{self.name}({','.join(inside)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def free(self) -> frozenset[str]:
        """The names of indices, and of sizes in subscripts, that the atom depends on."""
        names = {n for s in self.subscripts for n in free_names(s)}
        return frozenset(names).union(*(a.free for a in self.args))

    @cached_property
    def height(self) -> int:
        """How deep sums are nested inside functions."""
        return max((a.height for a in self.args), default=0)

    @property
    def function(self) -> str:
        """The name of a function; nothing for a tensor, which may have the same name."""
        return self.name if self.kind == "function" else ""

    @property
    def flag(self) -> bool:
        """Whether the value is 0 or 1 only, so that every power of it is itself."""
        return self.kind in ("natural", "zero") or self.function in ("positive", "equal")


@dataclass(frozen=True, eq=False)
class Term:
    """Factors with exponents, summed over the bound indices."""

    bound: Bound
    factors: Factors

    @cached_property
    def key(self) -> str:
        """What the term is, as text."""
        sums = ",".join(f"{i}:{text(n)}" for i, n in self.bound)
        return f"[{sums}]" + "*".join(f"{a.key}^{shown(e)}" for a, e in self.factors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def height(self) -> int:
        """One more than the height of the highest factor."""
        return 1 + max((a.height for a, _ in self.factors), default=0)


@dataclass(frozen=True, eq=False)
class Polynomial:
    """Terms with their coefficients, none 0, in the order of their keys."""

    terms: tuple[tuple[Term, Coefficient], ...]

    @cached_property
    def key(self) -> str:
        """What the polynomial is, as text."""
        return " + ".join(f"{shown(c)}*{t.key}" for t, c in self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def free(self) -> frozenset[str]:
        """The names that the polynomial depends on, bound indices left out."""
        return frozenset(
            n for t, _ in self.terms for a, _ in t.factors for n in a.free - {i for i, _ in t.bound}
        )

    @cached_property
    def height(self) -> int:
        """The height of the highest term."""
        return max((t.height for t, _ in self.terms), default=0)


def natural_number(e: Coefficient) -> int | None:
    """Return an exponent as an integer above 0, None where it is none."""
    value = rational(e)
    return int(value) if value is not None and value > 0 and value.denominator == 1 else None


def rational(e: Coefficient) -> Fraction | None:
    """Return a coefficient as a number, None where it depends on a size or constant."""
    if not (e.numer.is_ground and e.denom.is_ground):
        return None
    a, b = e.numer.coeff(1), e.denom.coeff(1)
    return Fraction(int(a.numerator), int(a.denominator)) / Fraction(
        int(b.numerator), int(b.denominator)
    )
