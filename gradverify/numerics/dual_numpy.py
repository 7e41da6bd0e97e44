"""NumPy's functions that arrays of dual numbers need done in another way, on arrays of objects."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from math import prod, sqrt
from typing import Any

import numpy as np

from gradverify.numerics.dual import Dual, NotExact, current, number

Array = np.ndarray[Any, Any]


def spend(operations: float) -> None:
    """Take operations off the budget of the arithmetic that is computed in."""
    arithmetic = current()
    if arithmetic is None:
        raise NotExact("an array that was kept from an earlier call")
    arithmetic.spend(operations)


def full(shape: Any, value: float) -> Array:
    """Return an array of one dual number."""
    made = np.empty(shape, object)
    made.fill(number(value))
    return made


_VALUE = np.frompyfunc(lambda e: number(e).v, 1, 1)
_SLOPE = np.frompyfunc(lambda e: number(e).t, 1, 1)
_BOTH = np.frompyfunc(lambda v, t: Dual(Decimal(v), t), 2, 1)  # an empty sum is the number 0
_NONE_IS_ZERO = np.frompyfunc(lambda t: t or 0, 1, 1)


def multilinear(function: Callable[..., Any], factors: Sequence[Any], *rest: Any, **kw: Any) -> Any:
    """Return a function that is linear in each of its factors, by the rule for products.

    It is done on values and derivatives apart, which takes a third of the time.
    """
    factors = [np.asarray(factor, object) for factor in factors]
    values = [np.asarray(_VALUE(factor), object) for factor in factors]
    slopes = [np.asarray(_SLOPE(factor), object) for factor in factors]
    value = np.asarray(function(*values, *rest, **kw), object)
    # That many products a matrix product has: N K M, of arrays of N K, K M and N M elements.
    spend(sqrt(value.size * prod(factor.size for factor in factors)))
    slope = None
    for k, t in enumerate(slopes):
        if any(element is not None for element in t.flat):
            moved = [*values[:k], np.asarray(_NONE_IS_ZERO(t), object), *values[k + 1 :]]
            more = function(*moved, *rest, **kw)
            slope = more if slope is None else slope + more
    return _BOTH(value, slope)


def _bilinear(function: Callable[..., Any], a: Any, b: Any, *rest: Any, **kwargs: Any) -> Any:
    return multilinear(function, (a, b), *rest, **kwargs)


def _einsum(subscripts: Any, *factors: Any, **kwargs: Any) -> Any:
    if not isinstance(subscripts, str) or kwargs.pop("out", None) is not None:
        raise NotExact("np.einsum with out= or without a text of subscripts")
    terms = subscripts.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, factor in zip(terms, factors, strict=False):
        sizes |= dict(zip(term, np.shape(factor), strict=False))
    if not kwargs.get("optimize"):
        spend(prod(sizes.values()))  # what it loops over, however many factors there are
    return multilinear(partial(np.einsum, subscripts, **kwargs), factors)


def _like(value: Any) -> Callable[..., Any]:
    def make(model: Any, dtype: Any = None, order: str = "K", subok: bool = True,
             shape: Any = None, **_: Any) -> Any:  # fmt: skip
        shape = np.shape(model) if shape is None else shape
        if dtype is not None and np.dtype(dtype).kind != "f":
            return np.full(shape, value, dtype)
        return full(shape, value)

    return make


def _full_like(model: Any, fill_value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    made = _like(0)(model, dtype, **kwargs)
    made[...] = np.frompyfunc(number, 1, 1)(np.asarray(fill_value, object))
    return made


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    matrix = np.ndim(x) > 1 if axis is None else np.size(axis) > 1
    if matrix and ord not in (None, "fro"):  # a norm of singular values, or of sums
        raise NotExact(f"np.linalg.norm of a matrix with ord={ord!r}")
    if ord in (None, 2, "fro"):
        return np.sqrt((x * x).sum(axis=axis, keepdims=keepdims))
    if ord == 1 or ord == np.inf:
        size = np.abs(x)
        reduce = size.sum if ord == 1 else size.max
        return reduce(axis=axis, keepdims=keepdims)
    raise NotExact(f"np.linalg.norm with ord={ord!r}")


def _bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    total = full(max(minlength, int(np.max(x, initial=-1)) + 1), 0)
    np.add.at(total, x, np.asarray(weights))
    return total


def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if dst.__class__ is np.ndarray:
        raise NotExact("an array of float64 that is copied to")
    chosen = np.broadcast_to(where, dst.shape)
    dst[chosen] = np.broadcast_to(src, dst.shape)[chosen]


def _diag(v: Any, k: int = 0) -> Any:
    if np.ndim(v) == 2:
        return np.diagonal(v, k)
    made = full((len(v) + abs(k),) * 2, 0)
    rows = np.arange(len(v))
    made[rows + max(-k, 0), rows + max(k, 0)] = np.asarray(v)
    return made


def _result_type(*values: Any) -> Any:
    return np.dtype(np.float64)


OWN: dict[Any, Callable[..., Any]] = {
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
    **{
        function: partial(_bilinear, function)
        for function in (np.dot, np.tensordot, np.inner, np.vdot, np.outer, np.kron)
    },
}
