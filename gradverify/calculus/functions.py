"""The scalar functions of the language as sympy sees them, each with a stable derivative."""

from collections.abc import Callable, Mapping
from typing import Any

import sympy
from sympy import Add, Mul
from sympy import Expr as Scalar

from gradverify.notation.tree import Call, Expr, Name, Number, Read, Reduce, text


class _Real(sympy.Function):  # type: ignore[misc]
    """A real function of real arguments; without this sympy brings in re() and im()."""

    def _eval_is_extended_real(self) -> bool:
        return True


class _Indicator(_Real):
    """A truth value as 0 or 1, or another step: constant wherever it has a derivative."""

    def _eval_derivative(self, s: Any) -> Scalar:
        return sympy.S.Zero


class Less(_Indicator):
    """a < b."""


class LessEqual(_Indicator):
    """a <= b."""


class Equal(_Indicator):
    """a == b."""


class Both(_Indicator):
    """a and b."""


class Either(_Indicator):
    """a or b."""


class Negation(_Indicator):
    """not a."""


class Floor(_Indicator):
    """The largest integer that is not above a; its derivative is 0 wherever it has one."""

    @classmethod
    def eval(cls, a: Scalar) -> Scalar | None:
        return sympy.floor(a) if a.is_number else None


class Remainder(_Real):
    """a - b*floor(a/b), of the sign of b."""

    @classmethod
    def eval(cls, a: Scalar, b: Scalar) -> Scalar | None:
        return a - b * Floor(a / b) if a.is_number and b.is_number else None

    def fdiff(self, argindex: int = 1) -> Scalar:
        a, b = self.args
        return sympy.S.One if argindex == 1 else -Floor(a / b)


class Select(_Real):
    """a where the condition holds, else b; the other branch contributes nothing at all."""

    @classmethod
    def eval(cls, condition: Scalar, a: Scalar, b: Scalar) -> Scalar | None:
        return a if a == b else None

    def _eval_derivative(self, s: Any) -> Scalar:
        condition, a, b = self.args
        # Not Select(c, 1, 0)*a' + ...: that is 0*inf where the other branch is singular.
        return Select(condition, a.diff(s), b.diff(s))


class StopGradient(_Real):
    """Its argument, taken as given."""

    def _eval_derivative(self, s: Any) -> Scalar:
        return sympy.S.Zero


class Sigmoid(_Real):
    """1/(1 + exp(-x))."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        # Not s*(1 - s): that is 0 where sigmoid rounds to 1.
        return Sigmoid(self.args[0]) * Sigmoid(-self.args[0])


class Softplus(_Real):
    """log(1 + exp(x))."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        return Sigmoid(self.args[0])


class Expm1(_Real):
    """exp(x) - 1."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        return sympy.exp(self.args[0])


class Log1p(_Real):
    """log(1 + x)."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        return 1 / (1 + self.args[0])


class Logaddexp(_Real):
    """log(exp(a) + exp(b))."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        a, b = self.args if argindex == 1 else self.args[::-1]
        return Sigmoid(a - b)


class Erfc(_Real):
    """1 - erf(x); sympy's own turns erfc(-x) into 2 - erfc(x), which cancels far out."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        return -2 * sympy.exp(-(self.args[0] ** 2)) / sympy.sqrt(sympy.pi)


# Own classes, since sympy's rewrite what they know: loggamma(N) as log(gamma(N)), which
# overflows, polygamma(0, 1) by Euler's constant.
class Gamma(_Real):
    """The gamma function."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        return self * Polygamma(0, self.args[0])


class Lgamma(_Real):
    """log(abs(gamma(x)))."""

    def fdiff(self, argindex: int = 1) -> Scalar:
        return Polygamma(0, self.args[0])


class Polygamma(_Real):
    """The derivative of order k + 1 of log(gamma(x)); k is a whole number."""

    def fdiff(self, argindex: int = 2) -> Scalar:
        return Polygamma(self.args[0] + 1, self.args[1])


def _power(a: Scalar, b: Scalar) -> Scalar:
    return a**b


_OPERATIONS: Mapping[str, Callable[..., Scalar]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: Floor(a / b),
    "%": Remainder,
    "**": _power,
    "neg": lambda a: -a,
    "exp": sympy.exp,
    "log": sympy.log,
    "expm1": Expm1,
    "log1p": Log1p,
    "sqrt": sympy.sqrt,
    "tanh": sympy.tanh,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "atan": sympy.atan,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "erf": sympy.erf,
    "erfc": Erfc,
    "gamma": Gamma,
    "lgamma": Lgamma,
    "digamma": lambda a: Polygamma(0, a),
    "polygamma": Polygamma,
    "logaddexp": Logaddexp,
    "sigmoid": Sigmoid,
    "softplus": Softplus,
    "stop_gradient": StopGradient,
    # One primitive for every kink: which side a value is on is then a Select, and nothing else.
    "relu": lambda a: Select(Less(0, a), a, 0),
    "silu": lambda a: a * Sigmoid(a),
    # Hendrycks and Gimpel (2016), x*Phi(x); by erfc it keeps its digits for x far below 0.
    "gelu": lambda a: a * Erfc(-a / sympy.sqrt(2)) / 2,
    "abs": lambda a: Select(Less(0, a), a, -a),
    "max": lambda a, b: Select(LessEqual(b, a), a, b),
    "min": lambda a, b: Select(LessEqual(a, b), a, b),
}

_TRUTHS: Mapping[str, Callable[..., Scalar]] = {
    "<": Less,
    "<=": LessEqual,
    ">": lambda a, b: Less(b, a),
    ">=": lambda a, b: LessEqual(b, a),
    "==": Equal,
    "!=": lambda a, b: Negation(Equal(a, b)),
    "and": Both,
    "or": Either,
    "not": Negation,
}

_NAMES = {"pi": sympy.pi, "inf": sympy.oo}


def scalar(expr: Expr, reads: dict[sympy.Symbol, Read], positive: frozenset[str]) -> Scalar:
    """Return a statement's body as a sympy expression in one symbol per distinct read.

    A symbol is called as the read is written, `x[n,c]`, and `reads` gets symbol -> read; names
    in `positive` are sizes. Decimals become the exact value of the nearest float64.
    """
    match expr:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Name(id):
            if id in _NAMES:
                return _NAMES[id]
            if id in positive:
                return sympy.Symbol(id, positive=True, integer=True)
            return sympy.Symbol(id, real=True)
        case Read():
            symbol = sympy.Symbol(text(expr) if expr.subscripts else expr.tensor, real=True)
            reads[symbol] = expr
            return symbol
        case Call("where", (condition, a, b)):
            branches = (scalar(e, reads, positive) for e in (a, b))
            return Select(_truth(condition, reads, positive), *branches)
        case Call(function) if function in _TRUTHS:
            # A truth value used as a number.
            return Select(_truth(expr, reads, positive), 1, 0)
        case Call(function, args):
            return _OPERATIONS[function](*(scalar(a, reads, positive) for a in args))
        case Reduce():
            raise TypeError("reductions are statements of their own")
    raise TypeError(expr)


def _truth(expr: Expr, reads: dict[sympy.Symbol, Read], positive: frozenset[str]) -> Scalar:
    match expr:
        case Call("and" | "or" | "not" as function, args):
            return _TRUTHS[function](*(_truth(a, reads, positive) for a in args))
        case Call(function, args) if function in _TRUTHS:
            return _TRUTHS[function](*(scalar(a, reads, positive) for a in args))
    return Negation(Equal(scalar(expr, reads, positive), 0))


# No definition has such whole numbers; what sympy makes of decimals has.
_LARGE = 10**9


def cleared(e: Scalar) -> bool:
    """Whether a product holds a sum of decimals of which sympy has cleared the denominators."""
    return e.is_Mul and any(map(_of_large, e.args))


def distributed(e: Scalar) -> Scalar:
    """Return a product as it was before: each term of such a sum with the number that stands
    before all of it."""
    coefficient, rest = e.as_coeff_Mul()
    for f in Mul.make_args(rest):
        if _of_large(f):
            return Mul(Add(*(coefficient * a for a in f.args)), rest / f)
    return e


def _of_large(e: Scalar) -> bool:
    return e.is_Add and any(abs(r.p) > _LARGE for r in e.atoms(sympy.Rational))
