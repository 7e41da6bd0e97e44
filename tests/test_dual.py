"""Dual numbers of 50 digits, arrays of them, and NumPy's functions on these."""

import math
from decimal import Decimal

import mpmath
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from gradverify.numerics.dual import Arithmetic, Dual, NotExact, OverBudget, computing, number
from gradverify.numerics.dual_arrays import Duals, dual_array
from gradverify.numerics.dual_functions import ONE_ARGUMENT, TWO_ARGUMENTS, of_one, of_two
from gradverify.numerics.dual_modules import on_duals

special = pytest.importorskip("scipy.special")


@pytest.fixture
def mp():
    context = mpmath.mp.clone()
    context.dps = 60
    return context


def near(found, expected, digits=45):
    mp = expected.context
    return abs(mp.mpf(str(found)) - expected) <= mp.mpf(10) ** -digits * (1 + abs(expected))


# -- functions of numbers

# What mpmath calls otherwise, or has not got.
OTHERWISE = {
    "exp2": lambda m, v: m.mpf(2) ** v,
    "log2": lambda m, v: m.log(v, 2),
    "arcsin": lambda m, v: m.asin(v),
    "arccos": lambda m, v: m.acos(v),
    "arctan": lambda m, v: m.atan(v),
    "arcsinh": lambda m, v: m.asinh(v),
    "arccosh": lambda m, v: m.acosh(v),
    "arctanh": lambda m, v: m.atanh(v),
    "trunc": lambda m, v: m.sign(v) * m.floor(abs(v)),
    "rint": lambda m, v: m.nint(v),
    "conjugate": lambda m, v: v,
    "expit": lambda m, v: 1 / (1 + m.exp(-v)),
    "log_expit": lambda m, v: -m.log1p(m.exp(-v)),
    "logit": lambda m, v: m.log(v / (1 - v)),
    "ndtr": lambda m, v: m.ncdf(v),
    "log_ndtr": lambda m, v: m.log(m.ncdf(v)),
    "gammaln": lambda m, v: m.loggamma(v).real,
    "psi": lambda m, v: m.digamma(v),
    "entr": lambda m, v: -v * m.log(v),
    "logaddexp": lambda m, a, b: m.log(m.exp(a) + m.exp(b)),
    "copysign": lambda m, a, b: abs(a) * m.sign(b),
    "heaviside": lambda m, a, b: m.mpf(a > 0),
    "xlogy": lambda m, a, b: a * m.log(b),
    "rel_entr": lambda m, a, b: a * m.log(a / b) if a > 0 else m.nan,
    "xlog1py": lambda m, a, b: a * m.log1p(b),
}


def reference(name, context, *values):
    if name in OTHERWISE:
        return OTHERWISE[name](context, *values)
    return getattr(context, name)(*values)


# Where a function is defined: those of logarithms from 0, those of the inverse from -1 to 1.
POINTS = (0.37, 0.93, 1.7, 3e-3, -0.6, -2.25)
DOMAINS = {
    **dict.fromkeys(("log", "log2", "log10", "sqrt", "entr", "cbrt", "psi"), lambda v: v > 0),
    **dict.fromkeys(("arcsin", "arccos", "arctanh", "erfinv"), lambda v: abs(v) < 1),
    "log1p": lambda v: v > -1, "arccosh": lambda v: v > 1, "logit": lambda v: 0 < v < 1,
    "gammaln": lambda v: v > 0,
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_functions_and_their_derivatives_are_mpmaths(name, mp):
    """Value and derivative of each function have 45 digits and more."""
    points = [v for v in POINTS if DOMAINS.get(name, lambda v: True)(v)]
    assert points
    for v in points:
        with computing(Arithmetic()):
            found = of_one(name)(Dual(Decimal(v), Decimal(3)))
        assert near(found.v, reference(name, mp, mp.mpf(v)))
        slope = mp.diff(lambda x: reference(name, mp, x), mp.mpf(v))
        # mpmath's derivative is a difference at a higher precision; it is good to half of it.
        assert near(found.t / 3, slope, 25)


@pytest.mark.parametrize("name", TWO_ARGUMENTS)
@pytest.mark.parametrize(("a", "b"), [(0.7, 1.3), (-1.2, 0.4), (2.0, 3.5)])
def test_functions_of_two_arguments_too(name, a, b, mp):
    """Both partial derivatives are added up."""
    with computing(Arithmetic()):
        found = of_two(name)(Dual(Decimal(a), Decimal(2)), Dual(Decimal(b), Decimal(5)))
    if name == "rel_entr" and a < 0:
        assert found.v.is_nan()
        return
    assert near(found.v, reference(name, mp, mp.mpf(a), mp.mpf(b)))
    along = mp.diff(lambda h: reference(name, mp, a + 2 * h, b + 5 * h), 0)
    assert near(found.t, along, 25)


OPERATIONS = {
    "+": lambda x: 3 + x + 0.5 + x, "-": lambda x: 3 - x - 0.5, "*": lambda x: 3 * x * x * 0.5,
    "/": lambda x: x / 3 + 3 / x + x / (1 + x),     "%": lambda x: x % 0.25 + 7 % x, "**": lambda x: x**3 + x**-0.5 + 2**x + x**x + x**2 + x**0.1,
    "abs": lambda x: abs(x) + abs(-x), "-x": lambda x: -x + +x * 2, "**0": lambda x: x**0,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operators_differentiate(name, mp):
    """Operators with plain numbers on either side, and with other dual numbers."""
    operation = OPERATIONS[name]
    with computing(Arithmetic()):
        found = number(operation(Dual(Decimal.from_float(1.7), Decimal(1))))
    assert near(found.v, operation(mp.mpf(1.7)), 40)
    # The derivative to the digits of a difference: the function is smooth near 1.7.
    assert near(found.t or 0, mp.diff(operation, mp.mpf(1.7)), 25)


def test_whole_quotients_have_no_derivative():
    """They are steps, on either side of a plain number."""
    with computing(Arithmetic()):
        x = Dual(Decimal("1.7"), Decimal(1))
        assert [(q.v, q.t) for q in (x // 0.25, 7 // x, -x // 1)] == [
            (6, None),
            (4, None),
            (-2, None),
        ]


@pytest.mark.parametrize(
    ("function", "v", "expected"),
    [
        ("exp", "-inf", "0"), ("exp", "-1e308", "0"), ("tanh", "inf", "1"), ("tanh", "-1e9", "-1"),
        ("expit", "-1e308", "0"), ("log", "0", "-inf"), ("log", "-1", "nan"), ("sqrt", "-1", "nan"),
        ("expm1", "1e-40", "1e-40"), ("sign", "0", "0"), ("entr", "0", "0"), ("log1p", "0", "0"),
        ("arcsin", "2", "nan"), ("gammaln", "-2", "nan"),
    ],
)  # fmt: skip
def test_the_ends_of_functions_are_as_in_numpy(function, v, expected):
    """Infinities and nan are values, and nothing overflows."""
    with computing(Arithmetic()):
        found = of_one(function)(Dual(Decimal(v)))
    assert float(found.v) == float(expected) or (found.v.is_nan() and expected == "nan")


def test_digits_are_kept_near_zero():
    """expm1 and log1p of 1e-30 have all their digits, not 20."""
    with computing(Arithmetic()):
        small = Dual(Decimal("1e-30"))
        back = of_one("log1p")(of_one("expm1")(small))
    assert abs(back.v / small.v - 1) < Decimal("1e-48")


def test_a_dual_number_is_no_float():
    """What would lose digits raises; a whole number is an index."""
    with computing(Arithmetic()):
        for function in (float, math.exp, np.float64, np.sqrt(2).__add__, int):
            with pytest.raises((NotExact, TypeError)):
                float(function(Dual(Decimal("0.5"))))
        assert int(Dual(Decimal(3))) == 3
        with pytest.raises(NotExact):
            int(Dual(Decimal(3), Decimal(1)))
        with pytest.raises(TypeError):
            Dual(Decimal(1)) + "1"
        with pytest.raises(NotExact, match="a str in an array"):
            dual_array(["1"])


def test_rounded_constants_are_moved_and_others_are_not():
    """By one to two units of float64's rounding, the same value always alike."""
    with computing(Arithmetic(moved=1)) as one:
        moved = {v: float(number(v).v / Decimal(v) - 1) for v in (0.1, math.pi, 1 / 3, 1e-300)}
        assert number(0.1) is number(np.float64(0.1))
        kept = [number(v).v == +Decimal(v) for v in (0.5, 3, 2**80 + 1, 1e6, -0.75, 2.0**-1000)]
    assert one.moved == 1
    assert all(2.0**-53 <= abs(shift) <= 2.0**-51 for shift in moved.values())
    assert len(set(moved.values())) == 4
    assert all(kept)
    with computing(Arithmetic(moved=2)):
        assert number(0.1).v / Decimal.from_float(0.1) - 1 != moved[0.1]
    with computing(Arithmetic()):
        assert number(0.1).v == +Decimal.from_float(0.1)
        assert number(float("inf")).v == Decimal("inf")


# -- arrays

RNG = np.random.default_rng(0)
A, V = RNG.standard_normal((2, 3, 4))
B = RNG.standard_normal((4, 5))


def filled(x):
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = x[index] ** 2 + 1
    y += x
    return y


def scattered(x):
    y = np.zeros_like(x[:2])
    np.add.at(y, ([0, 1, 0], slice(None)), x)
    y[y > 0.5] = 0
    return y


def divided(x):
    y = np.ones_like(x)
    np.divide(x, 3, out=y, where=A > 0)
    return y


def put(x):
    y = np.zeros_like(x)
    np.put_along_axis(y, x.argmax(axis=1, keepdims=True), 1.5, axis=1)
    np.copyto(y, x, where=A > 1)
    return y * x


FUNCTIONS = {
    "reductions": lambda x: x.mean(axis=0) + x.var(axis=0, ddof=1) + np.std(x, axis=(0, 1)),
    "largest": lambda x: x.max(axis=1, keepdims=True) - np.amin(x, axis=(0, 1)) + np.ptp(x),
    "logaddexp": lambda x: np.logaddexp.reduce(x, axis=(0, 1)) + np.logaddexp(x, -np.inf),
    "norms": lambda x: np.linalg.norm(x) + np.linalg.norm(x, axis=1, ord=1, keepdims=True),
    "norms of matrices": lambda x: np.linalg.norm(np.stack([x, x * x]), "fro", axis=(1, 2)),
    "matmul": lambda x: x @ B + (B.T @ x.T).T + np.matmul(x, B) + x.dot(B),
    "batched matmul": lambda x: x[None] @ x.T[None] @ A,
    "einsum": lambda x: (
        np.einsum("nc,ck->nk", x, B, optimize=True) + np.einsum("nc,nc,ck->k", x, A, B)
    ),
    "tensordot": lambda x: np.tensordot(x, B, axes=(1, 0)).sum() + np.outer(x[0], x[1]),
    "vectors": lambda x: (
        np.outer(x[0], [x[0, 0]]) + x[0] @ x[1] + np.vdot(x, x) + np.inner(x[0], A[0])
    ),
    "where": lambda x: np.where(x > 0, x, 0.1 * x) + np.where(x > 0, 0, x**2),
    "clipped": lambda x: (
        np.maximum(x, 0) + np.clip(x, -0.5, 0.5) + np.clip(x, 0, None) + np.fmin(x, 1)
    ),
    "powers": lambda x: (x * x) ** -0.5 + x**3 + np.power(x * x + 1, 1 / 3) + np.square(x) + 1 / x,
    "padded": lambda x: np.pad(x, ((1, 1), (0, 2)))[1:] * 2,
    "windows": lambda x: sliding_window_view(x, 2, axis=1).sum(axis=-1),
    "strided": lambda x: np.exp(as_strided(x, (3, 3), x.strides)) * 2,
    "joined": lambda x: np.concatenate([x, 0 * x, np.ones((3, 1))], axis=1) * 2,
    "stacked": lambda x: np.stack([x[0], x[1]]) + np.split(x, 2, axis=1)[0][0, 0],
    "sums": lambda x: (
        np.cumsum(x, axis=1) + x.cumsum(axis=0) + x.prod(axis=1)[:, None] + np.diff(x)[:, :1]
    ),
    "sorted": lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1) + np.sort(x, axis=0),
    "made of elements": lambda x: np.array([[v * 2 for v in row] for row in x], dtype=x.dtype),
    "made of two": lambda x: np.array([x[0, 0], x[1, 1].item(), 3.0]),
    "cast": lambda x: x.astype(np.float64) * (x > 0).astype(x.dtype) + x.dtype.type(0.5),
    "filled": filled,
    "scattered": scattered,
    "where it holds": divided,
    "put": put,
    "full": lambda x: np.full((3, 4), 0.1, x.dtype) * x + np.full_like(x, 2) + np.full(4, 0.5),
    "triangles": lambda x: np.tril(x) + np.diag(x[0])[:3] + np.diag(x[:, :3])[:, None],
    "weighted": lambda x: (
        np.average(x, axis=0, weights=[1, 2, 3]) + np.bincount([0, 1, 1], weights=x[:, 0])[1]
    ),
    "repeated": lambda x: np.repeat(x, 2, axis=1) + np.tile(x, 2) + np.roll(np.tile(x, 2), 1),
    "steps": lambda x: (
        np.floor(x) + np.sign(x) * x + np.round(x, 1) + x // 0.3 + np.heaviside(x, 0.5)
    ),
    "truths": lambda x: np.where(np.isfinite(x) & ~np.isnan(x) & np.logical_or(x > 0, x < 0), x, 0),
    "segments": lambda x: (
        np.add.reduceat(x, [0, 2], axis=1) + np.subtract.outer(x[0], x[0])[:3, :2]
    ),
    "hyperbolic": lambda x: np.tanh(x) + np.sinh(x) + np.cosh(x) + np.arctan(x) + np.expm1(x),
    "of math": lambda x: np.array(
        [[math.tanh(v) + math.exp(v) for v in row] for row in x.tolist()]
    ),
    "fsum": lambda x: np.array([math.fsum(row.tolist()) for row in x]) + math.fsum([1, 2]),
    "of scipy": lambda x: special.erf(x) + special.expit(x) + special.softmax(x, axis=1),
    "logsumexp": lambda x: special.logsumexp(x, axis=1) + special.log_softmax(x, axis=0)[:, 0],
    "vectorized": lambda x: np.vectorize(lambda v: v * v + 1, otypes=[x.dtype])(x),
    "a number": lambda x: np.float64(2) * x[0, 0] + max(x[0]) + abs(x[1, 1]) + sum(x)[0],
    "python loops": lambda x: sum(v * w for row in x for v, w in zip(row, row[::-1], strict=True)),
}


def parts(result):
    """Return values and derivatives of a result as float64."""
    plain = np.asarray(result, object)
    cast = np.frompyfunc(lambda e: (float(number(e).v), float(number(e).t or 0)), 1, 2)
    return [np.asarray(part, float) for part in cast(plain)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_takes_dual_numbers(name):
    """Code written for float64 gives the same values, and the derivatives of differences."""
    function, h = FUNCTIONS[name], 1e-6
    expected = np.asarray(function(A))
    slope = (np.asarray(function(A + h * V)) - np.asarray(function(A - h * V))) / (2 * h)
    with on_duals(Arithmetic(), [globals()]):
        x = np.frompyfunc(lambda a, v: Dual(Decimal(a), Decimal(v)), 2, 1)(A, V).view(Duals)
        result = function(x)
        value, along = parts(result)
    assert value.shape == expected.shape
    assert np.allclose(value, expected, rtol=1e-14, atol=1e-14)
    assert np.allclose(along, slope, rtol=1e-7, atol=1e-7)


def test_an_array_says_that_it_is_float64():
    """Code that asks for dtype, precision or kind goes the way it goes in float64."""
    with on_duals(Arithmetic(), []):
        x = dual_array(A)
        assert x.dtype == np.float64
        assert np.finfo(x.dtype).eps == 2.0**-52
        assert np.result_type(x, A) == np.float64
        assert not np.iscomplexobj(x)
        assert np.issubdtype(x.dtype, np.floating)
        assert np.zeros_like(x, dtype=int).dtype == int
        assert x.astype(int).dtype == int
        assert (x > 0).dtype == bool
        assert isinstance(x[0, 0], Duals)
        assert repr(x[0, 0]).startswith("Duals(['Dual(0.1257")


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.astype(np.float32),
        lambda x: np.asarray(x, float),
        lambda x: np.linalg.inv(x[:3, :3]),
        lambda x: np.linalg.norm(x, ord=2 if x.ndim == 2 else None),
        lambda x: np.linalg.norm(x, 2, axis=(0, 1)),
        lambda x: np.linalg.norm(x, 1, axis=(0, 1)),
        lambda x: np.zeros(3).__setitem__(0, x[0, 0]),
        lambda x: np.zeros((3, 4)).__iadd__(x),
        lambda x: np.add.at(np.zeros((3, 4)), [0, 1, 2], x),
        lambda x: np.frexp(x),
        lambda x: np.add(x, x, dtype=np.float32),
        lambda x: x.ctypes,
        lambda x: x.__array_interface__,
        lambda x: np.copyto(np.zeros((3, 4)), x),
        lambda x: np.einsum(x, [0, 1], [0]),
    ],
)
def test_what_would_lose_digits_raises(operation):
    """Where the arrays are NumPy's own, nothing is rounded to them silently."""
    with on_duals(Arithmetic(), []), pytest.raises((NotExact, TypeError)):
        operation(dual_array(A))


def test_an_array_that_was_kept_is_told():
    """After the computation, arrays of dual numbers are of no use."""
    with on_duals(Arithmetic(), []):
        x = dual_array(A)
    with pytest.raises(NotExact, match="kept from an earlier call"):
        x + 1


@pytest.mark.parametrize(
    ("operation", "cost"),
    [
        (lambda x: x * x, 12), (lambda x: np.exp(x), 360), (lambda x: x @ B, 60),
        (lambda x: np.einsum("nc,ck->nk", x, B), 120), (lambda x: np.tensordot(x, B, 1), 60),
    ],
)  # fmt: skip
def test_operations_are_counted(operation, cost):
    """The budget is spent by the number of operations, functions being dear, and no more."""
    with on_duals(Arithmetic(budget=cost), []):
        operation(dual_array(A))
    with on_duals(Arithmetic(budget=cost - 1), []), pytest.raises(OverBudget):
        operation(dual_array(A))
