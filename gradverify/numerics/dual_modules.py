"""What stands for NumPy, math and scipy.special in code that runs on dual numbers.

The modules themselves stay as they are: compiled code, such as NumPy's own random generators, takes
arrays from NumPy and writes float64 into their memory.
"""

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from gradverify.numerics.dual import Arithmetic, Dual, computing, current
from gradverify.numerics.dual_arrays import FUNCTIONS, UNPACK, Duals, is_float64, seen, unpacked
from gradverify.numerics.dual_numpy import full


def _maker(original: Callable[..., Any], value: Any) -> Callable[..., Any]:
    def make(shape: Any, dtype: Any = None, order: str = "C", **kwargs: Any) -> Any:
        if current() is None or not is_float64(dtype):
            return original(shape, float if dtype is None else dtype, order, **kwargs)
        return seen(full(shape, value))

    return make


def _full_maker(original: Callable[..., Any]) -> Callable[..., Any]:
    def make(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **kw: Any) -> Any:
        inexact = isinstance(fill_value, float | np.floating | Dual | Duals)
        if current() is None or not (inexact if dtype is None else is_float64(dtype)):
            return original(shape, fill_value, dtype, order, **kw)
        made = seen(full(shape, 0))
        made[...] = fill_value
        return made

    return make


def _converter(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return np.array, np.asarray or their like for arrays and lists with dual numbers in them."""

    def convert(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if current() is None or not is_float64(dtype):
            return original(value, dtype, *args, **kwargs)
        if isinstance(value, Duals):
            found = original(value.view(np.ndarray), None, *args, **kwargs)
        else:
            found = original(value, None, *args, **kwargs)
            if found.dtype == object:
                found = np.asarray(UNPACK(found), object)
            if found.dtype != object or not any(e.__class__ is Dual for e in found.flat):
                return original(value, dtype, *args, **kwargs)
        return seen(found)

    return convert


def _vectorize(function: Callable[..., Any], otypes: Any = None, **kwargs: Any) -> Any:
    if current() is None or isinstance(otypes, str):
        return np.vectorize(function, otypes, **kwargs)
    kinds = otypes and [object if is_float64(kind) else kind for kind in otypes]
    applied = np.vectorize(function, kinds, **kwargs)
    return lambda *args, **named: seen(applied(*args, **named))


def _as_strided(x: Any, *args: Any, **kwargs: Any) -> Any:
    view = np.lib.stride_tricks.as_strided(x, *args, **kwargs)
    return seen(view) if isinstance(x, Duals) else view


_CONVERTERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
_REPLACED: dict[str, Callable[..., Any]] = {
    "zeros": _maker(np.zeros, 0),
    "ones": _maker(np.ones, 1),
    "empty": _maker(np.empty, float("nan")),
    "full": _full_maker(np.full),
    "vectorize": _vectorize,
    **{name: _converter(getattr(np, name)) for name in _CONVERTERS},
}


def _of_math(name: str, own: str) -> Callable[..., Any]:
    """Return a function of math that takes dual numbers as well; NumPy or SciPy call it `own`."""
    original = getattr(math, name)

    def function(*numbers: Any) -> Any:
        dual = current() is not None and any(isinstance(n, Dual | Duals) for n in numbers)
        if not dual or len(numbers) != FUNCTIONS[own].nin:  # such as hypot of three
            return original(*numbers)
        return seen(FUNCTIONS[own](*map(unpacked, numbers)))

    return function


def _fsum(numbers: Any) -> Any:
    terms = list(numbers)
    dual = current() is not None and any(isinstance(n, Dual | Duals) for n in terms)
    return sum(terms) if dual else math.fsum(terms)


_MATH = {
    "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "log2": "log2",
    "log10": "log10", "sqrt": "sqrt", "sin": "sin", "cos": "cos", "tan": "tan", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "atan": "arctan", "erf": "erf", "erfc": "erfc",
    "gamma": "gamma", "lgamma": "gammaln", "fabs": "fabs", "hypot": "hypot",
    "copysign": "copysign", "isfinite": "isfinite", "isnan": "isnan", "isinf": "isinf",
}  # fmt: skip


def _logsumexp(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    top = a.max(axis=axis, keepdims=True)
    total = np.log(np.exp(a - top).sum(axis=axis, keepdims=True)) + top
    return total if keepdims else total.reshape(a.sum(axis=axis).shape)


def _log_softmax(x: Any, axis: Any = None) -> Any:
    return x - _logsumexp(x, axis, keepdims=True)


def _softmax(x: Any, axis: Any = None) -> Any:
    return np.exp(_log_softmax(x, axis))


def _of_scipy(original: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    def function(x: Any, *args: Any, **kwargs: Any) -> Any:
        return (own if isinstance(x, Duals) else original)(x, *args, **kwargs)

    return function


_SPECIAL: dict[str, Callable[..., Any]] = {
    "logsumexp": _logsumexp,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}


class _Module(ModuleType):
    """A module with some functions replaced."""

    def __init__(self, original: ModuleType, replaced: Mapping[str, Any]) -> None:
        super().__init__(original.__name__)
        vars(self).update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _stand_ins() -> dict[int, Any]:
    """Return what stands for a module or a function, by the identity of that."""
    replaced: list[tuple[ModuleType, Mapping[str, Any]]] = [
        (np, _REPLACED),
        (np.lib.stride_tricks, {"as_strided": _as_strided}),
        (math, {name: _of_math(name, own) for name, own in _MATH.items()} | {"fsum": _fsum}),
    ]
    special = sys.modules.get("scipy.special")
    if special is not None:
        found = {k: _of_scipy(getattr(special, k), own) for k, own in _SPECIAL.items()}
        replaced.append((special, found))
        replaced.append((sys.modules["scipy"], {"special": _Module(special, found)}))
    return {
        id(original): stand_in
        for module, functions in replaced
        for original, stand_in in (
            (module, _Module(module, functions)),
            *((getattr(module, name), function) for name, function in functions.items()),
        )
    }


_LOCK = threading.RLock()


@contextmanager
def on_duals(arithmetic: Arithmetic, namespaces: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Compute with dual numbers, with the stand-ins in `namespaces`, the globals of the code that
    is run; another thread that runs it meanwhile gets what it would get without."""
    with _LOCK:
        stand_ins = _stand_ins()
        found = [
            (space, name, value)
            for space in namespaces
            for name, value in space.items()
            if id(value) in stand_ins
        ]
        try:
            for space, name, value in found:
                space[name] = stand_ins[id(value)]
            with computing(arithmetic):
                yield
        finally:
            for space, name, value in found:
                space[name] = value
