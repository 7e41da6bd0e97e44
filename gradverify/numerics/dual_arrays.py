"""Arrays of dual numbers that code written for NumPy's float64 takes without being edited.

To the code they have dtype float64. What would lose digits (LAPACK, a cast to float32, float()) and
what reaches for the memory (compiled code) raises NotExact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradverify.numerics.dual import Dual, NotExact, number
from gradverify.numerics.dual_functions import (
    ONE_ARGUMENT,
    TRUTHS,
    TWO_ARGUMENTS,
    of_one,
    of_two,
    truth,
)
from gradverify.numerics.dual_numpy import OWN, multilinear, spend

Array = np.ndarray[Any, Any]

# NumPy's own loops over objects do these by the operators of Dual.
_OPERATORS = {
    "add", "subtract", "multiply", "divide", "negative", "positive", "power", "floor_divide",
    "remainder", "absolute", "square", "reciprocal", "less", "less_equal",
    "greater", "greater_equal", "equal", "not_equal",
}  # fmt: skip
# These may return an operand as it is, which must then be a dual number.
_CHOICES = {"maximum", "minimum", "fmax", "fmin", "clip"}
FUNCTIONS: dict[str, Any] = {
    **{name: np.frompyfunc(of_one(name), 1, 1) for name in ONE_ARGUMENT},
    **{name: np.frompyfunc(of_two(name), 2, 1) for name in TWO_ARGUMENTS},
    **{
        name: np.frompyfunc(truth(name), 2 if name in ("logical_and", "logical_or", "logical_xor")
                            else 1, 1) for name in TRUTHS
    },
}  # fmt: skip
_PRODUCTS = {"matmul", "vecdot", "matvec", "vecmat"}
# So many times as long as a multiplication takes a function.
_COST = 30
_LIFT = np.frompyfunc(number, 1, 1)
_FLOAT, _TRUTH = np.dtype(np.float64), np.dtype(bool)


def unpacked(value: Any) -> Any:
    """Return the number in an array without dimensions, anything else as it is."""
    return value.item() if isinstance(value, Duals) and value.ndim == 0 else value


UNPACK = np.frompyfunc(unpacked, 1, 1)


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


def is_float64(dtype: Any) -> bool:
    """Whether a dtype that the code names means dual numbers."""
    return dtype is None or (np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize >= 8)


def _kept(dtype: Any) -> bool:
    """Whether dual numbers stay what they are in a dtype; NotExact where digits are lost."""
    if not is_float64(dtype) and np.dtype(dtype).kind in "fc":
        raise NotExact(f"a cast to {np.dtype(dtype)}")
    return is_float64(dtype) or np.dtype(dtype).kind == "O"


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
        new = _plain(value)
        if new is value:
            new = _LIFT(np.asarray(value, object))
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
        whole = FUNCTIONS["trunc"](plain)
        values = np.frompyfunc(lambda number: int(number.v), 1, 1)(whole)
        return np.asarray(values, object).astype(dtype)

    def round(self, decimals: int = 0, out: Any = None) -> Any:  # type: ignore[override]
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
        where = kwargs.get("where", True)
        if name in _PRODUCTS:
            return _into(out, seen(multilinear(getattr(ufunc, method), inputs, **kwargs)), where)
        _charge(name, [inputs[0]] if method == "at" else inputs)
        if name in _CHOICES and method == "__call__":
            inputs = tuple(_LIFT(_plain(value)) for value in inputs)
        inputs = tuple(_plain(value) for value in inputs)
        if where is not True and method == "__call__":
            kwargs["out"] = None  # told that it is on purpose, NumPy leaves the rest empty
        own = all(set(kind) <= set("O->") for kind in ufunc.types)  # of np.vectorize
        if name in _OPERATORS or name in _CHOICES or own:
            result = getattr(ufunc, method)(*inputs, **kwargs)
        elif name not in FUNCTIONS:
            raise NotExact(name)
        elif method == "reduce":
            result = _reduced(FUNCTIONS[name], *inputs, **kwargs)
        else:
            kwargs.pop("casting", None)
            result = getattr(FUNCTIONS[name], method)(*inputs, **kwargs)
        if method == "at":
            return None
        if name in TRUTHS:
            result = np.asarray(result, bool)[()]
        elif not isinstance(result, np.bool_) and getattr(result, "dtype", None) != _TRUTH:
            result = seen(result) if own or method == "reduce" else _seen(result)
        return _into(out, result, where if method == "__call__" else True)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in OWN:
            return seen(OWN[func](*args, **kwargs))
        if func.__module__ == "numpy.linalg":
            raise NotExact(f"np.linalg.{func.__name__}")
        if kwargs.get("dtype") is not None and _kept(kwargs["dtype"]):
            kwargs = {key: value for key, value in kwargs.items() if key != "dtype"}
        return seen(super().__array_function__(func, types, args, kwargs))


def seen(result: Any) -> Any:
    """Return what a function of NumPy gave with all arrays of objects as arrays of duals."""
    if isinstance(result, tuple | list):
        return type(result)(map(seen, result))
    if result.__class__ is Dual:
        return _seen(result)
    if not isinstance(result, np.ndarray) or _plain(result).dtype != object:
        return result
    # Zeros that NumPy filled in, as in np.pad and np.where, become dual numbers in place: the
    # result may be a view.
    flat = _plain(result).flat
    for k in [k for k, element in enumerate(flat) if element.__class__ is not Dual]:
        flat[k] = number(float("nan") if flat[k] is None else flat[k])
    return _seen(result)


def _into(out: tuple[Any, ...], result: Any, where: Any = True) -> Any:
    if not out or out[0] is None:
        return result
    if where is True:
        out[0][...] = result
    else:
        chosen = np.broadcast_to(where, out[0].shape)
        out[0][chosen] = np.broadcast_to(np.asarray(result), out[0].shape)[chosen]
    return out[0]


def _charge(name: str, inputs: Sequence[Any]) -> None:
    count = max((np.size(value) for value in inputs), default=1)
    spend(count * (1 if name in _OPERATORS else _COST))


def _reduced(function: Any, array: Array, axis: Any = 0, keepdims: bool = False) -> Any:
    """Reduce along several axes, one after the other: NumPy does so only for its own."""
    axes = range(array.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    for one in axes:
        array = function.reduce(array, axis=one, keepdims=True)
    return array if keepdims else np.squeeze(array, tuple(axes))
