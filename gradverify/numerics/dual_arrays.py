"""Arrays of dual numbers that code written for NumPy's float64 takes without being edited.

To the code they have dtype float64, and in it `numpy.zeros` and its like make arrays of dual
numbers where float64 is asked for: there, float64 means 50 digits. What would lose digits (LAPACK,
a cast to float32, math.erf) and what reaches for the memory (compiled code) raises NotExact.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from math import prod, sqrt
from types import ModuleType
from typing import Any

import numpy as np

from gradverify.numerics.dual import Arithmetic, Dual, NotExact, computing, current, lift
from gradverify.numerics.dual_functions import (
    ONE_ARGUMENT,
    TRUTHS,
    TWO_ARGUMENTS,
    of_one,
    of_two,
    truth,
)

Array = np.ndarray[Any, Any]

# NumPy's own loops over objects do these by the operators of Dual.
_OPERATORS = {
    "add", "subtract", "multiply", "divide", "negative", "positive", "power", "floor_divide",
    "remainder", "absolute", "square", "reciprocal", "less", "less_equal",
    "greater", "greater_equal", "equal", "not_equal",
}  # fmt: skip
# These may return an operand as it is, which must then be a dual number.
_CHOICES = {"maximum", "minimum", "fmax", "fmin", "clip"}
_FUNCTIONS: dict[str, Any] = {
    **{name: np.frompyfunc(of_one(name), 1, 1) for name in ONE_ARGUMENT},
    **{name: np.frompyfunc(of_two(name), 2, 1) for name in TWO_ARGUMENTS},
    **{
        name: np.frompyfunc(truth(name), 2 if name in ("logical_and", "logical_or", "logical_xor")
                            else 1, 1) for name in TRUTHS
    },
}  # fmt: skip
# Linear in each of their arrays: they are done on values and derivatives apart, which saves most
# of the time.
_PRODUCTS = {"matmul", "vecdot", "matvec", "vecmat"}
# So many times as long as a multiplication takes a function.
_COST = 30
_LIFT = np.frompyfunc(lift, 1, 1)
_UNPACK = np.frompyfunc(lambda e: e.item() if isinstance(e, Duals) and e.ndim == 0 else e, 1, 1)
_FLOAT = np.dtype(np.float64)


def dual_array(values: Any) -> "Duals":
    """Return a new array of dual numbers with the values of an array, list or number."""
    return _seen(_LIFT(np.asarray(values, object)))


def _seen(values: Any) -> "Duals":
    if not isinstance(values, np.ndarray):
        whole = np.empty((), object)
        whole[()] = values
        values = whole
    return values.view(Duals)  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Duals) else value


def _is_float64(dtype: Any) -> bool:
    """Whether a dtype that the code names means dual numbers."""
    return dtype is None or (np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize >= 8)


def _kept(dtype: Any) -> bool:
    """Whether dual numbers stay what they are in a dtype; NotExact where digits are lost."""
    if not _is_float64(dtype) and np.dtype(dtype).kind in "fc":
        raise NotExact(f"a cast to {np.dtype(dtype)}")
    return _is_float64(dtype) or np.dtype(dtype).kind == "O"


class Duals(np.ndarray[Any, Any]):
    """An array of dual numbers; single elements of it are arrays too, as np.float64 nearly is."""

    @property
    def dtype(self) -> Any:
        """What the code is told: float64."""
        return _FLOAT

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        """Take what NumPy's strided views set: the dtype of the array that they look at."""
        if dtype != _FLOAT:
            raise NotExact(f"a view as {dtype}")

    def __repr__(self) -> str:
        return f"Duals({[repr(element) for element in self.view(np.ndarray).flat]})"

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _seen(found) if found.__class__ is Dual else found

    def __setitem__(self, index: Any, value: Any) -> None:
        new = _plain(value) if isinstance(value, Duals) else _LIFT(np.asarray(value, object))
        if isinstance(new, np.ndarray) and new.ndim == 0:
            new = new.item()
        super().__setitem__(index, new)

    @property
    def ctypes(self) -> Any:
        """Nothing: what is at the address is no float64."""
        raise NotExact("compiled code")

    data = __array_interface__ = __array_struct__ = ctypes

    def fill(self, value: Any) -> None:
        """Set all elements to one number."""
        self[...] = value

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a copy; as whole numbers or truth values where these are asked for."""
        if _kept(dtype):
            return self if kwargs.get("copy") is False else self.copy()
        plain = self.view(np.ndarray)
        if np.dtype(dtype).kind == "b":
            return plain.astype(bool)
        # The fraction is cut off, which has no derivative.
        whole = _FUNCTIONS["trunc"](plain)
        values = np.frompyfunc(lambda number: int(number.v), 1, 1)(whole)
        return np.asarray(values, object).astype(dtype)

    def round(self, decimals: int = 0, out: Any = None) -> Any:
        """Return the nearest numbers of so many decimals, which have no derivative."""
        return np.rint(self * 10**decimals) / 10**decimals

    def dot(self, other: Any, out: Any = None) -> Any:
        """Return the matrix product, as np.dot does."""
        return _into((out,), np.dot(self, other))

    def argmax(self, *args: Any, **kwargs: Any) -> Any:
        """Return where the largest elements are, as whole numbers."""
        return self.view(np.ndarray).argmax(*args, **kwargs)

    def argmin(self, *args: Any, **kwargs: Any) -> Any:
        """Return where the smallest elements are."""
        return self.view(np.ndarray).argmin(*args, **kwargs)

    def argsort(self, *args: Any, **kwargs: Any) -> Any:
        """Return where the elements are in their order."""
        return self.view(np.ndarray).argsort(*args, **kwargs)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any
    ) -> Any:
        name = ufunc.__name__
        if any(o is not None and not isinstance(o, Duals) and o.dtype.kind == "f" for o in out):
            raise NotExact("an array of float64 that is written to")
        if method == "at" and not isinstance(inputs[0], Duals):
            raise NotExact("an array of float64 that is added to")
        if not _kept(kwargs.pop("dtype", None)) or kwargs.pop("signature", None) is not None:
            raise NotExact(f"np.{name} in a dtype of its own")
        if name in _PRODUCTS:
            return _into(out, _multilinear(getattr(ufunc, method), inputs, **kwargs))
        _charge(name, inputs)
        if name in _CHOICES and method == "__call__":
            inputs = tuple(_LIFT(_plain(value)) for value in inputs)
        inputs = tuple(_plain(value) for value in inputs)
        own = all(set(kind) <= set("O->") for kind in ufunc.types)  # of np.vectorize
        if name in _OPERATORS or name in _CHOICES or own:
            result = getattr(ufunc, method)(*inputs, **kwargs)
        elif name not in _FUNCTIONS:
            raise NotExact(name)
        elif method == "reduce":
            result = _reduced(_FUNCTIONS[name], *inputs, **kwargs)
        else:
            kwargs.pop("casting", None)
            result = getattr(_FUNCTIONS[name], method)(*inputs, **kwargs)
        if method == "at":
            return None
        if name in TRUTHS:
            result = np.asarray(result, bool)[()]
        elif not isinstance(result, np.ndarray | bool | np.bool_) or result.dtype == object:
            result = dual_array(result) if method == "reduce" else _seen(result)
        return _into(out, result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _OWN:
            return _OWN[func](*args, **kwargs)
        if func.__module__ == "numpy.linalg":
            raise NotExact(f"np.linalg.{func.__name__}")
        if kwargs.get("dtype") is not None and _kept(kwargs["dtype"]):
            kwargs = {key: value for key, value in kwargs.items() if key != "dtype"}
        if func in _BILINEAR:
            return _multilinear(func, args[:2], *args[2:], **kwargs)
        return _all_seen(super().__array_function__(func, types, args, kwargs))


def _all_seen(result: Any) -> Any:
    """Return what a function of NumPy gave with all arrays of objects as arrays of duals."""
    if isinstance(result, tuple | list):
        return type(result)(map(_all_seen, result))
    if result.__class__ is Dual:
        return _seen(result)
    if not isinstance(result, np.ndarray) or _plain(result).dtype != object:
        return result
    # Zeros that NumPy filled in, as in np.pad and np.where, become dual numbers in place: the
    # result may be a view.
    flat = _plain(result).flat
    for k in [k for k, element in enumerate(flat) if element.__class__ is not Dual]:
        flat[k] = lift(float("nan") if flat[k] is None else flat[k])
    return _seen(result)


def _into(out: tuple[Any, ...], result: Any) -> Any:
    if not out or out[0] is None:
        return result
    out[0][...] = result
    return out[0]


def _spend(operations: float) -> None:
    arithmetic = current()
    if arithmetic is None:
        raise NotExact("an array that was kept from an earlier call")
    arithmetic.spend(operations)


def _charge(name: str, inputs: Sequence[Any]) -> None:
    count = max((np.size(value) for value in inputs), default=1)
    _spend(count * (1 if name in _OPERATORS else _COST))


_VALUE = np.frompyfunc(lambda number: lift(number).v, 1, 1)
_SLOPE = np.frompyfunc(lambda number: lift(number).t, 1, 1)
_BOTH = np.frompyfunc(lambda v, t: Dual(Decimal(v), t), 2, 1)  # an empty sum is the number 0
_NONE_IS_ZERO = np.frompyfunc(lambda t: t or 0, 1, 1)


def _multilinear(function: Callable[..., Any], factors: Sequence[Any], *rest: Any, **kw: Any) -> Any:
    """Return a function that is linear in each of its factors, by the rule for products."""
    factors = [np.asarray(_plain(factor), object) for factor in factors]
    values = [np.asarray(_VALUE(factor), object) for factor in factors]
    slopes = [np.asarray(_SLOPE(factor), object) for factor in factors]
    value = np.asarray(function(*values, *rest, **kw), object)
    # That many products a matrix product has: N K M, of arrays of N K, K M and N M elements.
    _spend(sqrt(value.size * prod(factor.size for factor in factors)))
    slope = None
    for k, t in enumerate(slopes):
        if any(element is not None for element in t.flat):
            moved = [*values[:k], np.asarray(_NONE_IS_ZERO(t), object), *values[k + 1 :]]
            more = function(*moved, *rest, **kw)
            slope = more if slope is None else slope + more
    return _seen(_BOTH(value, slope))


def _einsum(subscripts: Any, *factors: Any, **kwargs: Any) -> Any:
    if not isinstance(subscripts, str):
        raise NotExact("np.einsum without a text of subscripts")
    terms = subscripts.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, factor in zip(terms, factors, strict=False):
        sizes |= dict(zip(term, np.shape(factor), strict=False))
    if not kwargs.get("optimize"):
        _spend(prod(sizes.values()))
    out = kwargs.pop("out", None)

    def function(*values: Any) -> Any:
        return np.einsum(subscripts, *values, **kwargs)

    return _into((out,), _multilinear(function, factors))


def _reduced(function: Any, array: Array, axis: Any = 0, keepdims: bool = False) -> Any:
    """Reduce along several axes, one after the other: NumPy does so only for its own."""
    axes = range(array.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    for one in axes:
        array = function.reduce(array, axis=one, keepdims=True)
    return array if keepdims else np.squeeze(array, tuple(axes))


# -- functions of NumPy that are done in another way


def _like(value: Any) -> Callable[..., Any]:
    def make(model: Any, dtype: Any = None, order: str = "K", subok: bool = True,
             shape: Any = None, **_: Any) -> Any:  # fmt: skip
        shape = np.shape(model) if shape is None else shape
        if not _is_float64(dtype):
            return np.full(shape, value, dtype)
        return _full(shape, value)

    return make


def _full(shape: Any, value: float) -> "Duals":
    made = np.empty(shape, object)
    made.fill(lift(value))
    return _seen(made)


def _full_like(model: Any, fill_value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    made = _like(0)(model, dtype, **kwargs)
    made[...] = fill_value
    return made


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002
    if axis is None and np.ndim(x) > 1:
        if ord not in (None, "fro"):
            raise NotExact(f"np.linalg.norm with ord={ord!r}")
        ord = None  # noqa: A001
    if ord in (None, 2, "fro"):
        return np.sqrt((x * x).sum(axis=axis, keepdims=keepdims))
    if ord == 1 or ord == np.inf:
        size = np.abs(x)
        reduce = size.sum if ord == 1 else size.max
        return reduce(axis=axis, keepdims=keepdims)
    raise NotExact(f"np.linalg.norm with ord={ord!r}")


def _bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    total = _full(max(minlength, int(np.max(x, initial=-1)) + 1), 0)
    np.add.at(total, x, weights)
    return total


def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not isinstance(dst, Duals):
        raise NotExact("an array of float64 that is copied to")
    chosen = np.broadcast_to(where, dst.shape)
    dst[chosen] = np.broadcast_to(src, dst.shape)[chosen]


def _diag(v: Any, k: int = 0) -> Any:
    if np.ndim(v) == 2:
        return np.diagonal(v, k)
    made = _full((len(v) + abs(k),) * 2, 0)
    rows = np.arange(len(v))
    made[rows + max(-k, 0), rows + max(k, 0)] = v
    return made


def _result_type(*values: Any) -> Any:
    return _FLOAT


_OWN: dict[Any, Callable[..., Any]] = {
    np.zeros_like: _like(0),
    np.ones_like: _like(1),
    np.empty_like: _like(float("nan")),
    np.full_like: _full_like,
    np.linalg.norm: _norm,
    np.bincount: _bincount,
    np.copyto: _copyto,
    np.diag: _diag,
    np.einsum: _einsum,
    np.result_type: _result_type,
    np.iscomplexobj: lambda x: False,
}

def _maker(original: Callable[..., Any], value: Any) -> Callable[..., Any]:
    def make(shape: Any, dtype: Any = None, order: str = "C", **kwargs: Any) -> Any:
        if current() is None or not _is_float64(dtype):
            return original(shape, float if dtype is None else dtype, order, **kwargs)
        return _full(shape, value)

    return make


def _full_maker(original: Callable[..., Any]) -> Callable[..., Any]:
    def make(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **kw: Any) -> Any:
        inexact = isinstance(fill_value, float | np.floating | Dual | Duals)
        if current() is None or not (inexact if dtype is None else _is_float64(dtype)):
            return original(shape, fill_value, dtype, order, **kw)
        made = _full(shape, 0)
        made[...] = fill_value
        return made

    return make


def _converter(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return np.array, np.asarray or their like for arrays and lists with dual numbers in them."""

    def convert(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if current() is None or not _is_float64(dtype):
            return original(value, dtype, *args, **kwargs)
        if isinstance(value, Duals):
            found = original(_plain(value), None, *args, **kwargs)
        else:
            found = original(value, None, *args, **kwargs)
            if found.dtype == object:
                found = np.asarray(_UNPACK(found), object)
            if found.dtype != object or not any(e.__class__ is Dual for e in found.flat):
                return original(value, dtype, *args, **kwargs)
        return _all_seen(found)

    return convert


_BILINEAR = {np.dot, np.tensordot, np.inner, np.vdot, np.outer, np.kron}
_CONVERTERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
_REPLACED: dict[str, Callable[..., Any]] = {
    "zeros": _maker(np.zeros, 0),
    "ones": _maker(np.ones, 1),
    "empty": _maker(np.empty, float("nan")),
    "full": _full_maker(np.full),
    **{name: _converter(getattr(np, name)) for name in _CONVERTERS},
}


class _NumPy(ModuleType):
    """What stands for the module numpy in code that runs on dual numbers.

    The module itself stays as it is: compiled code, such as NumPy's own random generators, takes
    arrays from it and writes float64 into their memory.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


_NUMPY = _NumPy("numpy")
vars(_NUMPY).update(_REPLACED)
_STAND_INS: dict[int, Any] = {id(np): _NUMPY} | {
    id(getattr(np, name)): function for name, function in _REPLACED.items()
}
_LOCK = threading.RLock()


@contextmanager
def on_duals(arithmetic: Arithmetic, namespaces: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Compute with dual numbers; in `namespaces`, the globals of the code that is run, NumPy's
    functions that make arrays of float64 make arrays of them, in this thread."""
    with _LOCK:
        found = [
            (space, name, value)
            for space in namespaces
            for name, value in space.items()
            if id(value) in _STAND_INS
        ]
        try:
            for space, name, value in found:
                space[name] = _STAND_INS[id(value)]
            with computing(arithmetic):
                yield
        finally:
            for space, name, value in found:
                space[name] = value
