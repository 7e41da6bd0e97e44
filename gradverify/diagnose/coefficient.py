"""From a factor measured in several cases to what it is: a number, or an expression in sizes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import floor, log10, prod
from typing import Any

# A fraction with a larger denominator is as likely a number that no one wrote.
DENOMINATOR = 12
# With these a fraction is written as a decimal: 1.1.
DECIMAL = (5, 10)

At = Mapping[str, Any]
Power = int | Fraction
HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Coefficient:
    """A factor: `powers` of sizes times a number, and for `less` a power of a size minus 1."""

    number: Fraction | float
    powers: tuple[tuple[str, Power], ...] = ()
    less: tuple[str, Power] | None = None

    def value(self, at: At) -> float:
        """Return the factor at sizes and constants by name, nan where it divides by 0."""
        found: float = float(self.number) * prod(float(at[d]) ** float(p) for d, p in self.powers)
        if self.less is not None:
            name, side = self.less
            if at[name] == 1 and side < 0:
                return float("nan")
            found *= (float(at[name]) - 1) ** float(side)
        return found

    @property
    def sized(self) -> bool:
        """Whether it depends on a size."""
        return bool(self.powers or self.less)

    def __str__(self) -> str:
        powers = [*self.powers]
        if self.less is not None:
            powers.append((f"({self.less[0]}-1)", self.less[1]))
        over = [part for d, p in powers if p > 0 for part in _written(d, p)]
        under = [part for d, p in powers if p < 0 for part in _written(d, -p)]
        number = Fraction(self.number) if isinstance(self.number, Fraction) else None
        front = []
        if number is None or number.denominator in DECIMAL:
            front, number = [f"{float(self.number):.12g}"], None
        elif number.numerator != 1 or not over:
            front = [str(number.numerator)]
        if number is not None and number.denominator != 1:
            under.insert(0, str(number.denominator))
        text = "*".join([*front, *over])
        if not under:
            return text
        return f"{text}/{under[0]}" if len(under) == 1 else f"{text}/({'*'.join(under)})"


def _written(size: str, power: Power) -> list[str]:
    """Return the factors of a positive power of a size, a half one as a root."""
    root = [f"sqrt{size}" if size.startswith("(") else f"sqrt({size})"]
    return [size] * int(power) + root * (power % 1 != 0)


@dataclass(frozen=True)
class Measured:
    """A factor measured at sizes and constants by name, and how far off it may be."""

    at: At
    factor: float
    slack: float

    def fits(self, factor: float) -> bool:
        """Whether the factor can be this."""
        return abs(factor - self.factor) <= self.slack


def coefficients(measured: Sequence[Measured], sizes: Sequence[str]) -> Iterator[Coefficient]:
    """Yield what factors measured in several cases can be, simplest first; 1 explains nothing."""
    best = min(measured, key=lambda m: m.slack)
    near = Fraction(best.factor).limit_denominator(DENOMINATOR)
    # A decimal that someone wrote is short: 1.001, not 1.0009999741.
    digits = -floor(log10(best.slack)) if 0 < best.slack < 1 else 1
    for number in (near, round(best.factor, digits)):
        if number != 1 and all(m.fits(float(number)) for m in measured):
            yield Coefficient(number)
            break
    yield from fitting(measured, sized(measured[0].at, sizes))


def fitting(measured: Sequence[Measured], found: Iterable[Coefficient]) -> Iterator[Coefficient]:
    """Yield those factors that can be what was measured in every case."""
    for candidate in found:
        try:
            if all(m.fits(candidate.value(m.at)) for m in measured):
                yield candidate
        except ZeroDivisionError:
            continue


def sized(at: At, sizes: Sequence[str]) -> Iterator[Coefficient]:
    """Yield factors that depend on sizes: N, 1/N, N/(N-1), H*W, 1/sqrt(D), with small numbers."""
    names = [d for d in sizes if isinstance(at.get(d), int) and not isinstance(at.get(d), bool)]
    numbers = [Fraction(1), Fraction(-1), Fraction(2), Fraction(1, 2)]
    for number in numbers:
        for d in names:
            for p in (-1, 1):
                yield Coefficient(number, ((d, p),))
                yield Coefficient(number, ((d, p),), (d, -p))
                yield Coefficient(number, (), (d, p))
        for a, b in combinations(names, 2):
            for p, q in ((-1, -1), (1, 1), (1, -1), (-1, 1)):
                yield Coefficient(number, ((a, p), (b, q)))
        for d in names:
            for p in (-2, 2):
                yield Coefficient(number, ((d, p),))
        for d in names:
            for half in (-HALF, HALF):  # as in the scale of attention
                yield Coefficient(number, ((d, half),))
                yield Coefficient(number, ((d, half),), (d, -half))
    for three in combinations(names, 3):
        for p in (-1, 1):
            yield Coefficient(Fraction(1), tuple((d, p) for d in three))
