"""sympy expressions to Python code: NumPy over arrays, or any namespace over scalars."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import sympy
from sympy import Expr as Scalar
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from gradverify.calculus.functions import Floor, cleared, distributed

# A fraction up to this denominator is printed as one, 1/2; another as a decimal.
LARGEST_DENOMINATOR = 64


def _from_scipy(call: str, function: str, fallback: str, imports: str = "") -> str:
    """Return a helper that is scipy's function, or else a scalar one applied element by element."""
    name = call.partition("(")[0]
    imported = name if name == function else f"{function} as {name}"
    return f"""try:
    from scipy.special import {imported}
except ImportError:{imports}
    def {call}:
        def at(v):
            try:
                return {fallback}
            except (ArithmeticError, ValueError):  # a pole, or beyond the largest number
                return math.inf
        return np.vectorize(at, otypes=[getattr(x, "dtype", float)])(x)"""


# A tensor may well be called gamma: the function goes by a name that no tensor has.
HELPERS = {
    "sigmoid": '''def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))''',
    "softplus": '''def softplus(x):
    return np.logaddexp(0, x)''',
    "erf": """try:
    from scipy.special import erf
except ImportError:
    def erf(x):
        return np.vectorize(math.erf, otypes=[getattr(x, "dtype", float)])(x)""",
    "erfc": """try:
    from scipy.special import erfc
except ImportError:
    def erfc(x):
        return np.vectorize(math.erfc, otypes=[getattr(x, "dtype", float)])(x)""",
    "gamma_function": _from_scipy("gamma_function(x)", "gamma", "math.gamma(v)"),
    "lgamma": _from_scipy("lgamma(x)", "gammaln", "math.lgamma(v)"),
    "digamma": _from_scipy("digamma(x)", "digamma", "float(mpmath.psi(0, v))",
                           "\n    import mpmath\n"),
    "polygamma": '''def polygamma(k, x):
    """The derivative of order k + 1 of log(gamma(x))."""
    dtype = getattr(x, "dtype", float)
    try:
        from scipy.special import polygamma
        return polygamma(k, x).astype(dtype)
    except ImportError:
        import mpmath
    def at(v):
        try:
            return float(mpmath.psi(k, v))
        except ValueError:  # a pole
            return math.inf
    return np.vectorize(at, otypes=[dtype])(x)''',
    "sum_to": '''def sum_to(a, shape):
    """`a` summed over the axes that have size 1 in `shape`."""
    axes = tuple(k for k, n in enumerate(shape) if n == 1)
    return a.sum(axis=axes, keepdims=True)''',
    "first_max": '''def first_max(a, axes):
    """1 at the first largest element over the last `axes` axes, 0 elsewhere."""
    flat = a.reshape(*a.shape[: a.ndim - axes], -1)
    pick = np.zeros_like(flat)
    np.put_along_axis(pick, flat.argmax(axis=-1)[..., None], 1, axis=-1)
    return pick.reshape(a.shape)''',
}  # fmt: skip


_NUMPY = {"atan": "arctan"}  # other names than the language's


class Code(StrPrinter):  # type: ignore[misc]
    """Prints a sympy expression as code.

    `symbols` gives the code of each symbol, `arrays` those that are arrays, `data` those that are
    read from tensors, `prefix` what stands before the functions of the namespace ("np." or ""),
    `total` what is called on the terms of a sum (None: they are added) and `switch` what is called
    on a condition or a floor (None: nothing); `shifted` are the x whose expm1(x) is at hand, so
    that exp(x) may be had as expm1(x) + 1.
    """

    def __init__(
        self,
        symbols: Callable[[sympy.Symbol], str],
        *,
        arrays: Collection[sympy.Symbol] = (),
        data: Collection[sympy.Symbol] = (),
        prefix: str = "np.",
        total: str | None = None,
        switch: Callable[[Scalar], str] | None = None,
        shifted: Collection[Scalar] = (),
    ) -> None:
        super().__init__({"order": "none"})
        self.symbols, self.prefix, self.total, self.switch = symbols, prefix, total, switch
        self.arrays, self.data = frozenset(arrays), frozenset(data)
        self.shifted = frozenset(shifted)
        self.helpers: set[str] = set()

    def code(self, expr: Scalar) -> str:
        """Return the code of an expression."""
        return str(self.doprint(self.decimals(expr)))

    def decimals(self, expr: Scalar) -> Scalar:
        """Replace rationals that are no simple fractions by symbols that print as decimals."""
        expr = expr.replace(cleared, distributed)
        odd = [r for r in expr.atoms(sympy.Rational) if r.q > LARGEST_DENOMINATOR]
        return expr.xreplace({r: sympy.Symbol(self.decimal(r), real=True) for r in odd})

    def decimal(self, value: sympy.Rational) -> str:
        """Return the code of a rational: here the nearest float64."""
        return repr(float(value))

    def _function(self, name: str, arg: Scalar) -> str:
        # A NumPy scalar would raise the precision of a float32 array; a Python float does not.
        scalar = self._scalar(arg)
        if self.prefix == "np." and not scalar:
            name = _NUMPY.get(name, name)
        factor, rest = arg.as_coeff_Mul()
        whole = arg.is_Add or (rest.is_Symbol and abs(factor) == 1)
        if self.total is not None and not scalar and not whole:
            # A product is rounded before sin or log sees it, which may be worth all its digits.
            return f"{self.prefix}{name}(noise.round({self._print(arg)}))"
        return self._call(("math." if scalar else self.prefix) + name, arg)

    def _scalar(self, *args: Scalar) -> bool:
        """Whether these are Python numbers in code that is about arrays."""
        return self.prefix == "np." and not any(a.free_symbols & self.arrays for a in args)

    def _call(self, function: str, *args: Scalar) -> str:
        return f"{function}({', '.join(self._print(a) for a in args)})"

    def _print_Symbol(self, expr: sympy.Symbol) -> str:
        return self.symbols(expr)

    def _print_Add(self, expr: Scalar, order: Any = None) -> str:
        if self.total is None:
            return str(super()._print_Add(expr, order="none"))
        return self._call(self.total, *expr.args)

    def parenthesize(self, item: Scalar, level: int, strict: bool = False) -> str:
        """As sympy's, but what prints as a call needs no brackets."""
        if item.is_Add and self.total is not None:
            return str(self._print(item))
        return str(super().parenthesize(item, level, strict))

    def _print_Pow(self, expr: Scalar, rational: bool = False) -> str:
        if self.total is not None and expr.exp == 2 and expr.base.is_Add:
            return self._call("noise.square", *expr.base.args)
        if expr.exp == sympy.S.Half:
            return self._function("sqrt", expr.base)
        if expr.exp == -sympy.S.Half:
            return "1/" + self._function("sqrt", expr.base)
        return str(super()._print_Pow(expr, rational=rational))

    def _print_Function(self, expr: Scalar) -> str:
        return self._function(type(expr).__name__.lower(), expr.args[0])

    def _beside_one(self, expr: Scalar) -> str:
        said = self._function(type(expr).__name__.lower(), expr.args[0])
        return said if self.total is None else f"noise.unit({said})"

    # As below: exp(x) - 1, log(1 + x), 2/(1 + exp(-2*x)) - 1.
    _print_Expm1 = _print_Log1p = _print_tanh = _beside_one

    def _print_exp(self, expr: Scalar) -> str:
        return (self._beside_one if expr.args[0] in self.shifted else self._print_Function)(expr)

    def _print_StopGradient(self, expr: Scalar) -> str:
        switch, self.switch = self.switch, None
        shown = f"({self._print(expr.args[0])})" if expr.args[0].args else self._print(expr.args[0])
        self.switch = switch
        return shown

    def _helper(self, expr: Scalar) -> str:
        name = type(expr).__name__.lower()
        name = "gamma_function" if name == "gamma" else name
        return self._unit(name, name, *expr.args)

    def _unit(self, helper: str, function: str, *args: Scalar) -> str:
        """Call a function that has a rounding of 1, however small its value is."""
        if helper:
            self.helpers.add(helper)
        said = self._call(function, *args)
        said = f"float({said})" if self._scalar(*args) else said
        return said if self.total is None else f"noise.unit({said})"

    # Usual ways of writing these (s*(1 - s), (1 + tanh(x/2))/2, log(1 + exp(x)), 1 - erf(x),
    # a gamma function from that of x + 1) keep an absolute error of a rounding of 1.
    _print_Sigmoid = _print_Softplus = _print_erf = _print_Erfc = _helper
    _print_Gamma = _print_Lgamma = _helper

    def _print_Polygamma(self, expr: Scalar) -> str:
        if expr.args[0] == 0:
            return self._unit("digamma", "digamma", expr.args[1])
        return self._unit("polygamma", "polygamma", *expr.args)

    def _print_Logaddexp(self, expr: Scalar) -> str:
        return self._unit("", f"{self.prefix}logaddexp", *expr.args)

    def _print_sign(self, expr: Scalar) -> str:
        return self._call(f"{self.prefix}sign", *expr.args)

    def _print_Abs(self, expr: Scalar) -> str:
        return self._call(f"{self.prefix}abs", *expr.args)

    def _print_Pi(self, expr: Scalar) -> str:
        return f"{self.prefix}pi"

    def _print_Exp1(self, expr: Scalar) -> str:
        return self._function("exp", sympy.S.One)

    def _print_Infinity(self, expr: Scalar) -> str:
        return f"{self.prefix}inf"

    def _print_NegativeInfinity(self, expr: Scalar) -> str:
        return f"-{self.prefix}inf"

    def _compare(self, op: str, expr: Scalar) -> str:
        a, b = (self._print(x) for x in expr.args)
        return f"({a} {op} {b})"

    def _print_Less(self, expr: Scalar) -> str:
        a, b = expr.args
        # 0 < x reads better as x > 0.
        return f"({self._print(b)} > {self._print(a)})" if a.is_number else self._compare("<", expr)

    def _print_LessEqual(self, expr: Scalar) -> str:
        a, b = expr.args
        if a.is_number:
            return f"({self._print(b)} >= {self._print(a)})"
        return self._compare("<=", expr)

    def _print_Equal(self, expr: Scalar) -> str:
        return self._compare("==", expr)

    def _print_Both(self, expr: Scalar) -> str:
        return self._compare("&", expr)

    def _print_Either(self, expr: Scalar) -> str:
        return self._compare("|", expr)

    def _print_Negation(self, expr: Scalar) -> str:
        inner = expr.args[0]
        if type(inner).__name__ == "Equal":
            return self._compare("!=", inner)
        # A Python bool is no array: ~True is -2.
        return f"({'~' if inner.free_symbols & self.arrays else 'not '}{self._print(inner)})"

    def _print_Floor(self, expr: Scalar) -> str:
        noted = self.switch(expr) if self.switch is not None else ""
        return noted or self._print_Function(expr)

    def _print_Remainder(self, expr: Scalar) -> str:
        a, b = expr.args
        # As a difference, a rounding of a is seen, and on which side of a jump it is.
        if self.total is not None or self.switch is not None:
            difference = self._print_Add(a - b * Floor(a / b))
            return difference if self.total is not None else f"({difference})"
        left, right = (self.parenthesize(x, PRECEDENCE["Pow"]) for x in (a, b))
        return f"({left} % {right})"

    def _print_Select(self, expr: Scalar) -> str:
        condition, a, b = expr.args
        said = self._print(condition)
        noted = self.switch(condition) if self.switch is not None else ""
        said = noted or said
        if (a, b) == (1, 0) and self.total is None:
            scalar = not condition.free_symbols & self.arrays
            return f"float({said})" if scalar else f"{said}.astype(dtype)"
        # A choice by indices alone is a mask: nobody writes it as a correction.
        if self.total is not None and condition.free_symbols & self.data:
            return f"noise.select({said}, {self._print(a)}, {self._print(b)})"
        if said.startswith("(") and said.endswith(")") and said.count("(") == 1:
            said = said[1:-1]
        where = "switches.select" if noted else f"{self.prefix}where"
        if not (a.free_symbols | b.free_symbols) & self.arrays:
            return f"{where}({said}, dtype.type({self._print(a)}), dtype.type({self._print(b)}))"
        return f"{where}({said}, {self._print(a)}, {self._print(b)})"


class ScalarCode(Code):
    """Prints for a namespace of scalar functions; rationals stay exact, as `Q(p, q)`."""

    def __init__(self, symbols: Mapping[sympy.Symbol, str]) -> None:
        super().__init__(lambda s: symbols.get(s, s.name), prefix="")

    def decimal(self, value: sympy.Rational) -> str:
        """Return the exact value, for a namespace that has Q."""
        return f"Q({value.p}, {value.q})"

    def decimals(self, expr: Scalar) -> Scalar:
        """Replace every rational that is no integer: the namespace has its own division."""
        odd = [r for r in expr.atoms(sympy.Rational) if r.q != 1]
        odd = [r for r in odd if abs(r) != sympy.S.Half or not expr.has(sympy.Pow)]
        return expr.xreplace({r: sympy.Symbol(self.decimal(r), real=True) for r in odd})

    def _print_Both(self, expr: Scalar) -> str:
        return self._compare("and", expr)

    def _print_Either(self, expr: Scalar) -> str:
        return self._compare("or", expr)

    def _print_Negation(self, expr: Scalar) -> str:
        return f"(not {self._print(expr.args[0])})"

    def _print_Select(self, expr: Scalar) -> str:
        condition, a, b = (self._print(x) for x in expr.args)
        return f"(({a}) if {condition} else ({b}))"
