"""Dual numbers of 50 digits, a + b*eps with eps*eps = 0: values that carry one derivative.

Forward mode: Griewank and Walther (2008), Evaluating Derivatives, chapter 3. The digits are
Python's decimal ones, which are computed in C; functions that it lacks come from mpmath.
"""

import operator
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from functools import lru_cache
from math import isfinite, log2
from typing import Any
from zlib import crc32

import mpmath
import numpy as np

DIGITS = 50
UNIT = 2.0**-53
# mpmath's functions are right to a few units in the last place of its own precision.
GUARD = 10


class NotExact(TypeError):
    """Something takes no 50-digit numbers; the text names it."""


class OverBudget(Exception):
    """A replay would take more operations than it may."""


@dataclass
class Arithmetic:
    """How code is computed: `digits`, and with `moved` every rounded constant a little different.

    A rounded constant that is met is then moved by one to two units, the same value always alike;
    `moved` is the seed, and `unit` the rounding of the dtype that the code is written for.
    `budget` is how many operations may be spent.
    """

    digits: int = DIGITS
    moved: int | None = None
    budget: float = float("inf")
    unit: float = UNIT
    constants: dict[Any, "Dual"] = field(default_factory=dict)
    mp: Any = None

    def spend(self, operations: float) -> None:
        """Take operations off the budget; OverBudget when it is used up."""
        self.budget -= operations
        if self.budget < 0:
            raise OverBudget

    def constant(self, value: int | float) -> "Dual":
        """Return a number of the user's code."""
        exact = +Decimal(value)
        if self.moved is not None and isinstance(value, float) and _rounded(value, self.unit):
            bits = crc32(struct.pack("d", value), self.moved)
            size = self.unit * (1 + (bits >> 1) / 2.0**31)
            exact *= 1 + Decimal(size if bits & 1 else -size)
        return Dual(exact)


def _rounded(value: float, unit: float) -> bool:
    """Whether a float stands for a number that it is not: 0.1 is one, 0.5, 3 and 1e6 are none."""
    if not isfinite(value):
        return False
    odd = abs(value.as_integer_ratio()[0])
    # Of the numbers that are rounded hardly one has no more than half of the bits that there are.
    return (odd // (odd & -odd or 1)).bit_length() > -log2(unit) // 2


_CURRENT: ContextVar[Arithmetic] = ContextVar("arithmetic")


@lru_cache
def _mpmath(digits: int) -> Any:
    context = mpmath.mp.clone()
    context.dps = digits
    return context


@contextmanager
def computing(arithmetic: Arithmetic) -> Iterator[Arithmetic]:
    """Compute with dual numbers in an arithmetic; infinities and nan are values, as in NumPy."""
    arithmetic.mp = _mpmath(arithmetic.digits + GUARD)
    context = Context(prec=arithmetic.digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
    token = _CURRENT.set(arithmetic)
    try:
        with localcontext(context):
            yield arithmetic
    finally:
        _CURRENT.reset(token)


def current() -> Arithmetic | None:
    """Return the arithmetic that is computed in, None outside of `computing`."""
    return _CURRENT.get(None)


def lift(value: Any) -> Any:
    """Return a number as a Dual without a derivative; NotImplemented for what is no number."""
    if value.__class__ is Dual:
        return value
    arithmetic = _CURRENT.get(None)
    if arithmetic is None:
        raise NotExact("a number that was kept from an earlier call")
    try:
        return arithmetic.constants[value]
    except KeyError:
        pass
    except TypeError:  # an array: it does the operation itself, element by element
        return NotImplemented
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, int | float):
        return NotImplemented
    found = arithmetic.constants[value] = arithmetic.constant(value)
    return found


def number(value: Any) -> "Dual":
    """Return a number as a Dual without a derivative; NotExact for what is no number."""
    found = lift(value)
    if found is NotImplemented and isinstance(value, np.ndarray) and value.ndim == 0:
        found = lift(value.item())  # an element of an array of dual numbers
    if found is NotImplemented:
        raise NotExact(f"a {type(value).__name__} in an array")
    return found  # type: ignore[no-any-return]


def _compared(compare: Callable[[Decimal, Decimal], bool]) -> Callable[["Dual", Any], Any]:
    def method(a: "Dual", b: Any) -> Any:
        other = lift(b)
        return other if other is NotImplemented else compare(a.v, other.v)

    return method


class Dual:
    """The number v with the derivative t along one direction; None stands for a t of zero."""

    __slots__ = ("t", "v")

    def __init__(self, v: Decimal, t: Decimal | None = None) -> None:
        self.v = v
        self.t = t

    def __add__(self, other: Any) -> Any:
        b = lift(other)
        if b is NotImplemented:
            return b
        if self.t is None:
            return Dual(self.v + b.v, b.t)
        return Dual(self.v + b.v, self.t if b.t is None else self.t + b.t)

    __radd__ = __add__

    def __neg__(self) -> "Dual":
        return Dual(-self.v, None if self.t is None else -self.t)

    def __pos__(self) -> "Dual":
        return self

    def __sub__(self, other: Any) -> Any:
        b = lift(other)
        return b if b is NotImplemented else self + -b

    def __rsub__(self, other: Any) -> Any:
        b = lift(other)
        return b if b is NotImplemented else b + -self

    def __mul__(self, other: Any) -> Any:
        b = lift(other)
        if b is NotImplemented:
            return b
        if self.t is None:
            return Dual(self.v * b.v, None if b.t is None else self.v * b.t)
        t = self.t * b.v
        return Dual(self.v * b.v, t if b.t is None else t + self.v * b.t)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        b = lift(other)
        if b is NotImplemented:
            return b
        v = self.v / b.v
        if b.t is None:
            return Dual(v, None if self.t is None else self.t / b.v)
        return Dual(v, ((0 if self.t is None else self.t) - v * b.t) / b.v)

    def __rtruediv__(self, other: Any) -> Any:
        a = lift(other)
        return a if a is NotImplemented else a / self

    def __floordiv__(self, other: Any) -> Any:
        quotient = self / other
        return quotient if quotient is NotImplemented else Dual(_floor(quotient.v))

    def __rfloordiv__(self, other: Any) -> Any:
        a = lift(other)
        return a if a is NotImplemented else a // self

    def __mod__(self, other: Any) -> Any:
        quotient = self // other
        return quotient if quotient is NotImplemented else self - quotient * other

    def __rmod__(self, other: Any) -> Any:
        a = lift(other)
        return a if a is NotImplemented else a % self

    def __pow__(self, other: Any) -> Any:
        b = lift(other)
        if b is NotImplemented:
            return b
        v = _power(self.v, b.v)
        t = None if self.t is None else self.t * b.v * _power(self.v, b.v - 1)
        if b.t is not None:
            t = b.t * v * self.v.ln() + (t or 0)
        return Dual(v, t)

    def __rpow__(self, other: Any) -> Any:
        a = lift(other)
        return a if a is NotImplemented else a**self

    def __abs__(self) -> "Dual":
        return -self if self.v < 0 else self if self.v > 0 else Dual(abs(self.v))

    __lt__ = _compared(operator.lt)
    __le__ = _compared(operator.le)
    __gt__ = _compared(operator.gt)
    __ge__ = _compared(operator.ge)

    def __eq__(self, other: object) -> Any:
        b = lift(other)
        return b if b is NotImplemented else self.v == b.v

    def __hash__(self) -> int:
        return hash(self.v)

    def __bool__(self) -> bool:
        return bool(self.v)

    def __int__(self) -> int:
        if self.t is not None or not self.v.is_finite() or self.v != self.v.to_integral_value():
            raise NotExact("int")
        return int(self.v)

    def __float__(self) -> float:
        # So that no digits are lost unseen, in math.erf or in an array of float64.
        raise NotExact("float")

    def __copy__(self) -> "Dual":
        return self  # it never changes

    def __deepcopy__(self, memo: Any) -> "Dual":
        return self

    def conjugate(self) -> "Dual":
        """Return the number itself; NumPy's variance asks for it."""
        return self

    def __repr__(self) -> str:
        return f"Dual({self.v}, {self.t})"


def _floor(v: Decimal) -> Decimal:
    return v.to_integral_value("ROUND_FLOOR")


def _power(v: Decimal, n: Decimal) -> Decimal:
    if n == 0:
        return Decimal(1)
    if n == 2:
        return v * v
    if v == 0:
        return Decimal(0) if n > 0 else Decimal("inf")
    halves = 2 * n
    if halves == halves.to_integral_value() and halves % 2 and abs(halves) < 24:
        return v.sqrt() ** int(halves)  # exact where a logarithm would cost the most
    return v**n
