"""What is declared of a spec's parts: Input, Param, Buffer, Output and Constant."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradverify.errors import SpecError, nearest
from gradverify.notation.parse import Source, parse_expression
from gradverify.notation.tree import Expr

DTYPES = ("float64", "float32", "float16")
# The largest fraction of a gradient's terms that a spec can allow: with it a term that is left
# out, a factor or a sign is still seen.
MOST_ALLOWED = 0.05
_INITS = ("normal", "zeros", "ones")
_NUMBERS = {"zeros": 0.0, "ones": 1.0}


@dataclass(frozen=True)
class Tensor:
    """One declared tensor; made by Input, Param, Buffer or Output."""

    kind: Literal["input", "param", "buffer", "output"]
    shape: str
    integer: bool = False
    range: str | None = None
    values: tuple[float, ...] | None = None
    differentiable: bool = True
    outside: float | None = None
    init: str | float = "normal"
    update: str | None = None

    @property
    def start(self) -> float | None:
        """The value that every element starts with, None where they are drawn."""
        if isinstance(self.init, str):
            return _NUMBERS.get(self.init)
        return float(self.init)


@dataclass(frozen=True)
class Constant:
    """A number that is no tensor (eps, stride, heads); every listed value is tried."""

    values: tuple[Any, ...]

    def __init__(self, *values: float) -> None:
        if not values:
            raise SpecError("Constant() needs at least one value, such as Constant(1e-5)")
        for value in values:
            if not isinstance(value, bool | int | float) or not math.isfinite(value):
                raise SpecError(f"Constant({value!r}): a constant is a finite number")
        object.__setattr__(self, "values", values)

    @property
    def is_integer(self) -> bool:
        """Whether it can stand in shapes, ranges and subscripts."""
        return all(isinstance(v, int) and not isinstance(v, bool) for v in self.values)


def Input(
    shape: str,
    *,
    dtype: type = float,
    range: str | None = None,
    values: Sequence[float] | None = None,
    differentiable: bool = True,
    outside: float | None = None,
) -> Tensor:
    """Declare an input of a shape such as "N C"; `dtype=int` for labels and indices.

    `range="0..V-1"` bounds its values (both ends included), `values=(0, 1)` lists them, and
    `outside=0` is what reading beyond its edge gives (padding).
    """
    if dtype not in (int, float):
        raise SpecError(f"Input(dtype={dtype!r}): write dtype=int or dtype=float")
    listed = None
    if values is not None:
        listed = tuple(values) if isinstance(values, Sequence) else ()
        if not listed or not all(isinstance(v, int | float) for v in listed):
            raise SpecError(f"Input(values={values!r}): list numbers, such as values=(0, 1)")
    _check_bounds("Input", range, outside)
    return Tensor("input", shape, dtype is int, range, listed,
                  differentiable and dtype is float, outside)  # fmt: skip


def Param(
    shape: str,
    *,
    init: str | float = "normal",
    range: str | None = None,
    outside: float | None = None,
) -> Tensor:
    """Declare a parameter; `init` ("normal", "zeros", "ones" or a number) is where it starts."""
    _check_bounds("Param", range, outside)
    _check_init("Param", init)
    return Tensor("param", shape, range=range, outside=outside, init=init)


def Buffer(
    shape: str,
    *,
    update: str | None = None,
    init: str | float = "normal",
    range: str | None = None,
) -> Tensor:
    """Declare a buffer: state that the layer is given and that no gradient changes.

    `update` names the output that is its next value, None where it is only read. The layer
    returns that output among the others, in declared order, and its pullback takes no cotangent
    of it. `init` is where it starts and `range="0.1..3"` bounds its values.
    """
    _check_bounds("Buffer", range, None)
    _check_init("Buffer", init)
    if not isinstance(update, str | None):
        raise SpecError(f'Buffer(update={update!r}): name an output, such as update="new_mean"')
    return Tensor("buffer", shape, range=range, differentiable=False, init=init, update=update)


def _check_init(what: str, init: object) -> None:
    if not isinstance(init, int | float) and init not in _INITS:
        raise SpecError(f"{what}(init={init!r}): write one of {', '.join(_INITS)} or a number")


def _check_bounds(what: str, range: object, outside: object) -> None:
    if range is not None and not isinstance(range, str):
        raise SpecError(f'{what}(range={range!r}): a range is a text such as "0.1..3"')
    if outside is not None and not isinstance(outside, int | float):
        raise SpecError(f"{what}(outside={outside!r}): what lies outside is a number")


def Output(shape: str) -> Tensor:
    """Declare an output of a shape such as "N (H-K)//S+1"."""
    return Tensor("output", shape)


def checked_dtypes(dtypes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return `dtypes` once each, the widest first, in which most cases are; SpecError names one
    that is not known."""
    if dtypes is None:
        return None
    if not dtypes:
        raise SpecError(f"dtypes={dtypes!r}: name at least one of {', '.join(DTYPES)}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise SpecError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return tuple(d for d in DTYPES if d in dtypes)


def checked_allow(
    allow: Mapping[str, tuple[float, str]], names: Sequence[str]
) -> dict[str, tuple[float, str]]:
    """Return what a spec allows of each of `names`, outputs and gradients such as "dx": a fraction
    of its terms and the reason; SpecError says what is wrong with it."""
    shape = 'write allow={"dx": (1e-6, "interpolated from a table")}'
    if not isinstance(allow, Mapping):
        raise SpecError(f"allow={allow!r}: {shape}")
    for name, given in allow.items():
        if name not in names:
            raise SpecError(f"allow: there is no output or gradient {name!r}; "
                            f"{nearest(str(name), names)}")  # fmt: skip
        if not isinstance(given, tuple) or len(given) != 2:
            raise SpecError(f"allow: {name}={given!r} is no fraction with a reason: {shape}")
        fraction, reason = given
        if not isinstance(fraction, int | float) or not 0 < fraction <= MOST_ALLOWED:
            raise SpecError(
                f"allow: {name} may be off by {fraction!r} of its terms: the fraction is more than "
                f"0 and at most {MOST_ALLOWED}, beyond which right and wrong look alike"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise SpecError(f"allow: {name} needs a reason, which the report shows: {shape}")
    return {name: (float(fraction), reason) for name, (fraction, reason) in allow.items()}


def parse_range(declared: str, what: str) -> tuple[Expr, Expr]:
    """Return both ends of a range such as "0..V-1" or "0.1..3"."""
    match = re.fullmatch(r"\s*(.+?)\.\.(?!\.)(.+?)\s*", declared)
    if not match:
        raise SpecError(f'{what}: the range {declared!r} is not of the form "low..high"')
    low, high = (parse_expression(Source(part, f"range of {what}")) for part in match.groups())
    return low, high
