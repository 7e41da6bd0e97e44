"""Faults that show only under a condition: at some sizes, values, layouts, constants, precisions.

What is wrong where the condition holds is always the same: the gradient is twice what it should.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from gradverify.audit.fault import Array, Asked, Change, Fault, of_one
from gradverify.audit.values import axes_of
from gradverify.spec import Spec

Condition = Callable[[Array, Asked], bool | Array]  # of the tensor and the point

# Blocks of vectorised code are as long; what comes after the last whole one is easily forgotten.
BEYOND = (16, 64)


def conditional_faults(spec: Spec) -> Iterator[Fault]:
    """Yield the faults that show only under a condition."""
    for tensor in spec.differentiable:
        yield from _by_size(spec, tensor)
        yield from _by_index(spec, tensor)
        yield from _by_value(tensor)
        yield from _by_layout(tensor)
        yield from _by_constant(spec, tensor)
        yield of_one("float32", tensor, "", "dtype|precision",
                     f"d{tensor} is doubled in float32 only",
                     _doubled_where(tensor, lambda _, p: p.precision == "float32"))  # fmt: skip


def _doubled_where(tensor: str, condition: Condition) -> Change:
    def change(g: Array, point: Asked) -> Array:
        return np.where(condition(point.tensors[tensor], point), 2 * g, g)

    return change


def _by_size(spec: Spec, tensor: str) -> Iterator[Fault]:
    def only(way: str, what: str, condition: Callable[[Asked], bool]) -> Fault:
        return of_one("size", tensor, way, "size", f"d{tensor} is doubled only where {what}",
                      _doubled_where(tensor, lambda _, p: condition(p)))  # fmt: skip

    def is_one(dim: str) -> Callable[[Asked], bool]:
        return lambda p: p.sizes.get(dim) == 1

    def is_odd(dim: str) -> Callable[[Asked], bool]:
        return lambda p: p.sizes.get(dim, 0) % 2 == 1 and p.sizes[dim] > 1

    def are_equal(a: str, b: str) -> Callable[[Asked], bool]:
        return lambda p: p.sizes.get(a, 0) == p.sizes.get(b, -1)

    for dim in spec.dims:
        yield only(f"{dim}=1", f"{dim} is 1", is_one(dim))
        yield only(f"{dim}=odd", f"{dim} is odd and not 1", is_odd(dim))
    for a, b in combinations(spec.dims, 2):
        yield only(f"{a}={b}", f"{a} and {b} are equal", are_equal(a, b))


def _by_index(spec: Spec, tensor: str) -> Iterator[Fault]:
    def beyond(axis: int, start: int) -> Change:
        def change(g: Array, _: Asked) -> Array:
            place = np.arange(g.shape[axis]).reshape((-1, *[1] * (-axis - 1)))
            return np.where(place >= start, 2 * g, g)

        return change

    for axis, size in axes_of(spec, tensor):
        for start in BEYOND:
            what = f"d{tensor} is doubled only from index {start} of {size} on"
            yield of_one("region", tensor, f"{start}[{axis}]", "region", what, beyond(axis, start))


def _by_value(tensor: str) -> Iterator[Fault]:
    def only(kind: str, way: str, told: str, what: str, condition: Condition) -> Fault:
        return of_one(kind, tensor, way, told, f"d{tensor} is doubled only where {what}",
                      _doubled_where(tensor, condition))  # fmt: skip

    yield only("region", "negative", "region", f"{tensor} < 0", lambda x, _: x < 0)
    yield only("region", "positive", "region", f"{tensor} > 0", lambda x, _: x > 0)
    yield only("values", "large", "values|region", f"|{tensor}| > 20", lambda x, _: abs(x) > 20)
    yield only("values", "tiny", "values|region", f"0 < |{tensor}| < 1e-4",
               lambda x, _: (abs(x) < 1e-4) & (x != 0))  # fmt: skip
    yield only("values", "zero", "values|region", f"{tensor} is exactly 0", lambda x, _: x == 0)
    yield only("values", "all-equal", "values", f"all elements of {tensor} are equal",
               lambda x, _: x.size > 1 and bool(np.all(x == x.flat[0])))  # fmt: skip

    def divided(g: Array, point: Asked) -> Array:
        return np.where(point.tensors[tensor] == 0, np.nan, g)

    yield of_one("values", tensor, "nan", "values|region", f"d{tensor} is nan where {tensor} is 0",
                 divided)  # fmt: skip


def _by_layout(tensor: str) -> Iterator[Fault]:
    ways: dict[str, tuple[str, Callable[[Array], bool]]] = {
        "strided": ("is not contiguous",
                    lambda x: not (x.flags.c_contiguous or x.flags.f_contiguous)),
        "fortran": ("is in Fortran order",
                    lambda x: x.flags.f_contiguous and not x.flags.c_contiguous),
        "read-only": ("is read-only", lambda x: not x.flags.writeable),
    }  # fmt: skip

    def of_array(condition: Callable[[Array], bool]) -> Condition:
        return lambda x, _: condition(x)

    for way, (what, condition) in ways.items():
        yield of_one("layout", tensor, way, "layout",
                     f"d{tensor} is doubled only where {tensor} {what}",
                     _doubled_where(tensor, of_array(condition)))  # fmt: skip


def _by_constant(spec: Spec, tensor: str) -> Iterator[Fault]:
    def matches(name: str, value: object) -> Condition:
        return lambda _, point: bool(point.constants[name] == value)

    for name, values in spec.constants.items():
        for value in values if len(values) > 1 else ():
            yield of_one("constant", tensor, f"{name}={value}", "constant",
                         f"d{tensor} is doubled only at {name}={value}",
                         _doubled_where(tensor, matches(name, value)))  # fmt: skip
