"""The functions of dual numbers: each by its name in NumPy or SciPy, value beside derivative."""

from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext
from typing import Any

import mpmath

from gradverify.numerics.dual import Dual, current, lift

Function = Callable[[Decimal], Decimal]
Pair = Callable[[Decimal, Decimal], Decimal]
ZERO, ONE, NAN = Decimal(0), Decimal(1), Decimal("nan")


def _mp(name: str, *first: int) -> Function:
    """Return a function of mpmath by its name; nan where it has no real value."""

    def function(v: Decimal) -> Decimal:
        arithmetic = current()
        assert arithmetic is not None
        mp = arithmetic.mp
        try:
            found = getattr(mp, name)(*first, mp.mpf(str(v)))
        except ValueError:  # a pole
            return NAN
        if isinstance(found, mp.mpc):
            # log(gamma) of a negative number is complex; NumPy's is that of the absolute value.
            if name != "loggamma":
                return NAN
            found = found.real
        return +Decimal(mpmath.libmp.to_str(found._mpf_, mp.dps))

    return function


def _near_zero(function: Function) -> Function:
    """Return a function that is about v near 0 without the loss of digits that its formula has
    there."""

    def careful(v: Decimal) -> Decimal:
        lost = -v.adjusted() if v.is_finite() and v else 0
        if lost > getcontext().prec:
            return v
        with localcontext() as context:
            context.prec += max(lost, 0)
            found = function(v)
        return +found

    return careful


_expm1 = _near_zero(lambda v: v.exp() - 1)
_log1p = _near_zero(lambda v: (1 + v).ln())
_psi, _trigamma = _mp("digamma"), _mp("psi", 1)


def _tanh(v: Decimal) -> Decimal:
    m = _expm1(-2 * abs(v))
    return (-m / (2 + m)).copy_sign(v)


def _sech2(v: Decimal) -> Decimal:
    e = (-2 * abs(v)).exp()
    return 4 * e / (1 + e) ** 2  # not 1 - tanh**2, which cancels


def _sinh(v: Decimal) -> Decimal:
    m = _expm1(abs(v))
    return ((m + m / (1 + m)) / 2).copy_sign(v)


def _cosh(v: Decimal) -> Decimal:
    return (v.exp() + (-v).exp()) / 2


def _sigmoid(v: Decimal) -> Decimal:
    e = (-abs(v)).exp()
    return (ONE if v >= 0 else e) / (1 + e)


def _sign(v: Decimal) -> Decimal:
    return ONE.copy_sign(v) if v else v


def _cbrt(v: Decimal) -> Decimal:
    return _mp("cbrt")(abs(v)).copy_sign(v)


def _root_of_pi() -> Decimal:
    arithmetic = current()
    assert arithmetic is not None
    return Decimal(mpmath.libmp.to_str((+arithmetic.mp.pi)._mpf_, arithmetic.mp.dps)).sqrt()


def _bell(v: Decimal) -> Decimal:
    """Return the density of the normal distribution."""
    return (-v * v / 2).exp() / Decimal(2).sqrt() / _root_of_pi()


def _ndtr(v: Decimal) -> Decimal:
    return _mp("erfc")(-v / Decimal(2).sqrt()) / 2


def _step(how: str) -> tuple[Function, Pair]:
    return lambda v: v.to_integral_value(how), lambda v, y: ZERO


# The value at v, and the derivative at v, where the value is y.
ONE_ARGUMENT: dict[str, tuple[Function, Pair]] = {
    "exp": (Decimal.exp, lambda v, y: y),
    "exp2": (lambda v: 2**v, lambda v, y: y * Decimal(2).ln()),
    "expm1": (_expm1, lambda v, y: v.exp()),
    "log": (Decimal.ln, lambda v, y: 1 / v),
    "log2": (lambda v: v.ln() / Decimal(2).ln(), lambda v, y: 1 / (v * Decimal(2).ln())),
    "log10": (Decimal.log10, lambda v, y: 1 / (v * Decimal(10).ln())),
    "log1p": (_log1p, lambda v, y: 1 / (1 + v)),
    "sqrt": (Decimal.sqrt, lambda v, y: 1 / (2 * y)),
    "cbrt": (_cbrt, lambda v, y: 1 / (3 * y * y)),
    "sin": (_mp("sin"), lambda v, y: _mp("cos")(v)),
    "cos": (_mp("cos"), lambda v, y: -_mp("sin")(v)),
    "tan": (_mp("tan"), lambda v, y: 1 + y * y),
    "arcsin": (_mp("asin"), lambda v, y: 1 / (1 - v * v).sqrt()),
    "arccos": (_mp("acos"), lambda v, y: -1 / (1 - v * v).sqrt()),
    "arctan": (_mp("atan"), lambda v, y: 1 / (1 + v * v)),
    "sinh": (_sinh, lambda v, y: _cosh(v)),
    "cosh": (_cosh, lambda v, y: _sinh(v)),
    "tanh": (_tanh, lambda v, y: _sech2(v)),
    "arcsinh": (_mp("asinh"), lambda v, y: 1 / (1 + v * v).sqrt()),
    "arccosh": (_mp("acosh"), lambda v, y: 1 / (v * v - 1).sqrt()),
    "arctanh": (_mp("atanh"), lambda v, y: 1 / (1 - v * v)),
    "fabs": (abs, lambda v, y: _sign(v)),
    "sign": (_sign, lambda v, y: ZERO),
    "floor": _step("ROUND_FLOOR"),
    "ceil": _step("ROUND_CEILING"),
    "trunc": _step("ROUND_DOWN"),
    "rint": _step("ROUND_HALF_EVEN"),
    "conjugate": (lambda v: v, lambda v, y: ONE),
    "erf": (_mp("erf"), lambda v, y: 2 * (-v * v).exp() / _root_of_pi()),
    "erfc": (_mp("erfc"), lambda v, y: -2 * (-v * v).exp() / _root_of_pi()),
    "erfinv": (_mp("erfinv"), lambda v, y: (y * y).exp() * _root_of_pi() / 2),
    "expit": (_sigmoid, lambda v, y: y * _sigmoid(-v)),
    "log_expit": (lambda v: min(v, ZERO) - _log1p((-abs(v)).exp()), lambda v, y: _sigmoid(-v)),
    "logit": (lambda v: v.ln() - _log1p(-v), lambda v, y: 1 / (v * (1 - v))),
    "ndtr": (_ndtr, lambda v, y: _bell(v)),
    "log_ndtr": (lambda v: _ndtr(v).ln(), lambda v, y: _bell(v) / _ndtr(v)),
    "gamma": (_mp("gamma"), lambda v, y: y * _psi(v)),
    "gammaln": (_mp("loggamma"), lambda v, y: _psi(v)),
    "psi": (_psi, lambda v, y: _trigamma(v)),
    "entr": (lambda v: -v * v.ln() if v else ZERO, lambda v, y: -v.ln() - 1),
}


def _logaddexp(a: Decimal, b: Decimal) -> Decimal:
    top = max(a, b)
    return top if top.is_infinite() else top + _log1p((-abs(a - b)).exp())


def _share(a: Decimal, b: Decimal) -> Decimal:
    return ONE if b.is_infinite() and b < 0 else _sigmoid(a - b)


def _copysign(a: Decimal, b: Decimal) -> Decimal:
    return a.copy_sign(b)


def _xlogy(a: Decimal, b: Decimal) -> Decimal:
    return a * b.ln() if a else ZERO


# The value at (a, b), and both derivatives there, where the value is y.
_Slope = Callable[[Decimal, Decimal, Decimal], Decimal]
TWO_ARGUMENTS: dict[str, tuple[Pair, _Slope, _Slope]] = {
    "logaddexp": (_logaddexp, lambda a, b, y: _share(a, b), lambda a, b, y: _share(b, a)),
    "hypot": (lambda a, b: (a * a + b * b).sqrt(), lambda a, b, y: a / y, lambda a, b, y: b / y),
    "copysign": (_copysign, lambda a, b, y: _sign(a) * _sign(b), lambda a, b, y: ZERO),
    "heaviside": (lambda a, b: ONE if a > 0 else ZERO if a < 0 else b,
                  lambda a, b, y: ZERO, lambda a, b, y: ZERO if a else ONE),
    "xlogy": (_xlogy, lambda a, b, y: b.ln(), lambda a, b, y: a / b),
    "rel_entr": (lambda a, b: a * (a / b).ln() if a else ZERO,
                 lambda a, b, y: (a / b).ln() + 1, lambda a, b, y: -a / b),
    "xlog1py": (lambda a, b: a * _log1p(b) if a else ZERO,
                lambda a, b, y: _log1p(b), lambda a, b, y: a / (1 + b)),
}  # fmt: skip

# What is asked of a number and answered by a truth value.
TRUTHS: dict[str, Callable[..., bool]] = {
    "isfinite": Decimal.is_finite,
    "isnan": Decimal.is_nan,
    "isinf": Decimal.is_infinite,
    "signbit": Decimal.is_signed,
    "logical_not": lambda v: not v,
    "logical_and": lambda a, b: bool(a and b),
    "logical_or": lambda a, b: bool(a or b),
    "logical_xor": lambda a, b: bool(a) != bool(b),
}


def of_one(name: str) -> Callable[[Any], Dual]:
    """Return the function of a number that ONE_ARGUMENT has under a name."""
    value, slope = ONE_ARGUMENT[name]

    def function(number: Any) -> Dual:
        a = lift(number)
        y = value(a.v)
        return Dual(y, None if a.t is None else slope(a.v, y) * a.t)

    return function


def of_two(name: str) -> Callable[[Any, Any], Dual]:
    """Return the function of two numbers that TWO_ARGUMENTS has under a name."""
    value, left, right = TWO_ARGUMENTS[name]

    def function(first: Any, second: Any) -> Dual:
        a, b = lift(first), lift(second)
        y = value(a.v, b.v)
        t = None if a.t is None else left(a.v, b.v, y) * a.t
        if b.t is not None:
            t = right(a.v, b.v, y) * b.t + (t or 0)
        return Dual(y, t)

    return function


def truth(name: str) -> Callable[..., bool]:
    """Return the question of TRUTHS under a name, put to the values of numbers."""
    return lambda *numbers: TRUTHS[name](*(lift(number).v for number in numbers))
