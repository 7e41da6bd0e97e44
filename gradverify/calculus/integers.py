"""What is known of index expressions for all sizes: bounds, equality, where they must differ."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from gradverify.notation.dims import affine, negative, normal, plus, tidy, times
from gradverify.notation.tree import (
    ONE,
    ZERO,
    Call,
    Expr,
    Name,
    Number,
    Read,
    free_names,
    replaced,
    walk,
)


def opaque(e: Expr) -> bool:
    """Whether an index expression reads a tensor or divides, so that it is no polynomial."""
    return any(
        isinstance(x, Read) or (isinstance(x, Call) and x.function in ("//", "%")) for x in walk(e)
    )


def tidied(e: Expr) -> Expr:
    """Return an index expression with its terms collected, where it is a polynomial."""
    return e if isinstance(e, Name) or opaque(e) else tidy(e)


def placed(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """Return an index expression with other expressions for its names."""
    return tidied(replaced(e, values))


class Integers:
    """Index expressions over indices with known `ranges` (index -> size).

    `least` gives the smallest value of a size or integer constant; a name that is not in it
    is only known to be an integer. `limits` are the smallest and the largest value that integer
    tensors hold.
    """

    def __init__(
        self, least: Mapping[str, int], limits: Mapping[str, tuple[Expr, Expr]] | None = None
    ) -> None:
        self.least, self.limits = dict(least), dict(limits or {})
        self.ranges: dict[str, Expr] = {}

    def at_least(self, e: Expr, bound: int) -> bool:
        """Whether an expression in sizes is known to be at least `bound`, whatever they are."""
        total: dict[tuple[str, ...], Fraction] = {(): Fraction(-bound)}
        for monomial, c in normal(e):
            parts: dict[tuple[str, ...], Fraction] = {(): c}
            for name in monomial:
                if name not in self.least:
                    return False
                # name = rest + least, and the rest is 0 or more
                low = self.least[name]
                grown: dict[tuple[str, ...], Fraction] = {}
                for m, d in parts.items():
                    grown[tuple(sorted((*m, name)))] = d
                    grown[m] = grown.get(m, Fraction(0)) + d * low
                parts = grown
            for m, d in parts.items():
                total[m] = total.get(m, Fraction(0)) + d
        return all(c >= 0 for c in total.values())

    def bounds(self, e: Expr) -> tuple[Expr, Expr] | None:
        """Return the smallest and the largest value, as sizes; None where they are not known."""
        if isinstance(e, Read):
            return self.limits.get(e.tensor)
        indices = [n for n in free_names(e) if n in self.ranges]
        split = affine(e, indices)
        if split is None or opaque(e):
            return None
        low = high = split[1]
        for i, c in split[0].items():
            reach = times(c, plus(self.ranges[i], negative(ONE)))
            if self.at_least(c, 0):
                high = plus(high, reach)
            elif self.at_least(negative(c), 0):
                low = plus(low, reach)
            else:
                return None
        return low, high

    def inside(self, e: Expr, size: Expr) -> bool:
        """Whether an index expression is known to lie in 0..size-1."""
        if (found := self.bounds(e)) is None:
            return False
        low, high = found
        return self.at_least(low, 0) and self.at_least(plus(size, negative(high)), 1)

    def conditions(self, a: Expr, b: Expr) -> list[Expr] | None:
        """Return expressions that are all 0 where a == b and only there; None where it never is.

        As digits of a number: g*K + k == h*K + l, with k and l below K, is k == l and g == h.
        """
        if opaque(a) or opaque(b):
            return [] if a == b else [difference(a, b)]
        return self._digits(tidied(plus(a, negative(b))))

    def _digits(self, e: Expr) -> list[Expr] | None:
        found = self.bounds(e)
        if found and (self.at_least(found[0], 1) or self.at_least(negative(found[1]), 1)):
            return None
        form = dict(normal(e))
        if not any(form):
            return [] if not form.get((), 0) else None
        for base in sorted({n for m in form for n in m if n in self.least}):
            units = {m: c for m, c in form.items() if base not in m}
            tens = {_without(m, base): c for m, c in form.items() if base in m}
            reach = self.bounds(_expression(units))
            if reach is None or not tens:
                continue
            room = [self.at_least(plus(Name(base), x), 1) for x in (reach[0], negative(reach[1]))]
            if all(room):
                low, high = self._digits(_expression(units)), self._digits(_expression(tens))
                return None if low is None or high is None else [*low, *high]
        return [oriented(e)]


def _without(monomial: tuple[str, ...], name: str) -> tuple[str, ...]:
    k = monomial.index(name)
    return monomial[:k] + monomial[k + 1 :]


def _expression(form: Mapping[tuple[str, ...], Fraction]) -> Expr:
    total: Expr = ZERO
    for monomial, c in sorted(form.items()):
        part: Expr = Number(c)
        for name in monomial:
            part = times(part, Name(name))
        total = plus(total, part)
    return tidy(total)


def difference(a: Expr, b: Expr) -> Expr:
    """Return a - b, with the side that is opaque on the right."""
    a, b = sorted((a, b), key=lambda e: (opaque(e), str(e)))
    return Call("-", (a, b))


def oriented(e: Expr) -> Expr:
    """Return an integer or its negative: the one whose first term, by name, is positive."""
    if opaque(e):
        gap = isinstance(e, Call) and e.function == "-"
        return difference(*e.args) if gap and isinstance(e, Call) else e
    terms = sorted((m, c) for m, c in normal(e) if m)
    return tidied(negative(e)) if terms and terms[0][1] < 0 else tidied(e)


def offset(e: Expr) -> Fraction:
    """Return what an integer is where all that it depends on is 0."""
    return Fraction(0) if opaque(e) else dict(normal(e)).get((), Fraction(0))


def solution(e: Expr, index: str) -> Expr | None:
    """Return what an index is where e = 0, if its coefficient in e is 1 or -1."""
    if opaque(e):
        sides = e.args if isinstance(e, Call) and e.function == "-" else ()
        for one, other in (sides, sides[::-1]) if sides else ():
            if one == Name(index) and index not in free_names(other):
                return other
        return None
    split = affine(e, [index])
    if split is None or index not in split[0]:
        return None
    c, rest = split[0][index], split[1]
    if c not in (ONE, negative(ONE)):
        return None
    return tidied(negative(rest) if c == ONE else rest)


def factors(size: Expr) -> tuple[Expr, ...]:
    """Return the factors of a size that is a product of dimensions, G*K; nothing for another."""
    if not isinstance(size, Call) or size.function != "*":
        return ()
    return size.args if all(isinstance(x, Name) for x in size.args) else ()


def digits(names: Sequence[str], sizes: Sequence[Expr]) -> Expr:
    """Return the place that indices have together, as digits of a number: g*K + k."""
    place: Expr = Name(names[0])
    for index, size in zip(names[1:], sizes[1:], strict=True):
        place = plus(times(place, size), Name(index))
    return place
