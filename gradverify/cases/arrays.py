"""What a case is filled with: every array from the case's seed and its own name."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np

from gradverify.calculus.noise import TABLE
from gradverify.cases.case import LAYOUTS, Case, view_of
from gradverify.cases.large import MAX_ELEMENTS, is_large
from gradverify.cases.tables import normal
from gradverify.cases.ties import evened, tied
from gradverify.spec import Spec
from gradverify.view import View

Array = np.ndarray[Any, Any]

# What normal draws are multiplied by. At "tiny", a square is far below any eps, and a product of
# four still a number of the dtype; at "large", a softmax is one of its elements, to a part in
# 1e5 or less; at "huge", exp overflows and the square of a square does not. float16 ends at
# 65504 and loses digits below 6e-5, so that its tiny and huge are nearer to 1.
_WIDE = {"small": 1e-3, "tiny": 1e-8, "large": 30.0, "huge": 1000.0}
SCALES = {
    "float64": _WIDE,
    "float32": _WIDE | {"tiny": 1e-6},
    "float16": {"small": 0.1, "tiny": 0.01, "large": 5.0, "huge": 16.0},
}


@dataclass(frozen=True, eq=False)  # arrays have no one truth value
class Arrays:
    """What a case is filled with: tensors by name, a cotangent per differentiable output."""

    tensors: dict[str, Array]
    cotangents: tuple[Array, ...]


def draw(spec: Spec, case: Case, *, start: bool = False) -> Arrays:
    """Fill a case: each array from [seed, crc32(name)], so that a new tensor changes no other.

    With `start`, parameters and buffers have their declared initial values.
    """
    if is_large(spec):
        # What fills much memory is drawn again where it is wanted again, and not copied.
        tensors, cotangents = _drawn.__wrapped__(spec, case, start)
        return Arrays(
            {k: _laid(tensors.pop(k), layout_of(case, k)) for k in spec.given},
            tuple(_laid(dy, layout_of(case, f"d{k}"))
                  for k, dy in zip(spec.differentiable_outputs, cotangents, strict=True)),
        )  # fmt: skip
    tensors, cotangents = _drawn(spec, case, start)
    return Arrays(
        {k: with_layout(value, layout_of(case, k)) for k, value in tensors.items()},
        tuple(with_layout(dy, layout_of(case, f"d{k}"))
              for k, dy in zip(spec.differentiable_outputs, cotangents, strict=True)),
    )  # fmt: skip


def draw_tangents(spec: Spec, case: Case) -> dict[str, Array]:
    """Return a direction for each differentiable tensor: the tangents of a forward mode, and the
    seeds of a double backward."""
    view = view_of(spec, case)
    return {
        k: normal(_generator(case, f"along {k}"), view.shape(k)).astype(case.dtype, copy=False)
        for k in spec.differentiable
    }


@lru_cache(maxsize=128)  # those of a run are drawn to settle them, to ask, and to diagnose
def _drawn(spec: Spec, case: Case, start: bool) -> tuple[dict[str, Array], list[Array]]:
    view = view_of(spec, case)
    tensors = {name: _fill(view, name, case, start) for name in spec.given}
    cotangents = []
    for name in spec.differentiable_outputs:
        rng = _generator(case, f"d{name}")
        value = rng.standard_normal(view.shape(name))
        if case.layout == "broadcast" and value.ndim and value.size:
            # As the derivative of a sum over one axis arrives in many a framework.
            axis = int(rng.integers(value.ndim))
            value = np.repeat(value.take([0], axis), value.shape[axis], axis)
        if case.cotangent == "one-hot" and value.size:
            hot = np.zeros(value.size)
            hot[rng.integers(value.size)] = -1.5
            value = hot.reshape(value.shape)
        else:
            value = _as(case.cotangent, value, case.dtype, rng)
        cotangents.append(np.asarray(value, case.dtype))
    return tensors, cotangents


def _generator(case: Case, name: str) -> np.random.Generator:
    return np.random.default_rng([case.seed, crc32(name.encode())])


def _fill(view: View, name: str, case: Case, start: bool) -> Array:
    tensor, rng = view.spec.tensors[name], _generator(case, name)
    shape = view.shape(name)
    bounds = view.spec.bounds(name, view.sizes)
    if tensor.integer:
        low, high = bounds or (0, 1)
        return rng.integers(int(low), int(high) + 1, shape)
    if tensor.values is not None:
        return rng.choice(np.array(tensor.values, case.dtype), shape)
    value = normal(rng, shape)
    if start and tensor.start is not None:
        value = np.full(shape, tensor.start)
    elif case.values == "ties" and tensor.kind != "buffer":
        value = rng.choice(tied(view.spec, case, bounds, rng), shape)
    elif bounds is not None:
        value = rng.uniform(bounds[0], bounds[1], shape)
    elif tensor.kind == "input":
        value = _as(case.values, value, case.dtype, rng)
    elif tensor.kind == "param" and not start:
        value = _as(case.params, value, case.dtype, rng)
        if value.size > MAX_ELEMENTS:
            # As wide layers are initialised: sums stay near 1.
            value = np.divide(value, value.size**0.25, out=value)
    if case.values == "constant" and tensor.kind == "input":
        value = evened(value, rng)
    return np.asarray(value, case.dtype)


def _as(how: str, value: Array, dtype: str, rng: np.random.Generator) -> Array:
    """Return normal draws as one of VALUES, PARAMS or COTANGENTS calls them."""
    match how:
        case "small" | "tiny" | "large" | "huge":
            return SCALES[dtype][how] * value
        case "offset":
            return value + 8
        case "positive":
            return np.abs(value) + 0.1
        case "negative":
            return -np.abs(value) - 0.1
        case "zeros" | "sparse":
            return np.where(rng.random(value.shape) < 0.5, value, 0.0)
        case "equal":
            return np.full_like(value, rng.standard_normal())
    return value


# What a tensor may have of its own where layouts are mixed.
_SINGLE = tuple(layout for layout in LAYOUTS if layout != "mixed")


def layout_of(case: Case, name: str) -> str:
    """Return the layout of one array of a case: of a tensor y, or of its cotangent dy."""
    if case.layout != "mixed":
        return case.layout
    return str(_generator(case, f"layout of {name}").choice(_SINGLE))


def with_layout(array: Array, layout: str) -> Array:
    """Return a copy of `array` laid out in memory as named, with equal values.

    An array alone is not mixed: it lies in C order then. Of one of very many elements only the rows
    are apart, so that it takes no more memory than it must.
    """
    if layout == "F" or array.ndim == 0:
        return np.array(array, order="F")
    if layout == "broadcast":
        return _repeated(array)
    if layout == "strided":
        if array.size > TABLE and array.ndim > 1:
            wide = np.zeros((*array.shape[:-1], array.shape[-1] + 1), array.dtype)
            view = wide[..., :-1]
        else:
            wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
            view = wide[(slice(None, None, 2),) * array.ndim]
    elif layout == "negative":
        wide = np.zeros_like(array, order="C")
        view = wide[tuple(slice(None, None, -1) for _ in array.shape)]
    else:
        wide = view = np.zeros_like(array, order="C")
    view[...] = array
    if layout == "readonly":
        view.flags.writeable = False
    return view


def _laid(array: Array, layout: str) -> Array:
    """Return an array that is nobody else's laid out as named, itself where it lies so."""
    if layout not in ("C", "readonly") or not array.flags.c_contiguous:
        return with_layout(array, layout)
    array.flags.writeable = layout == "C"
    return array


def _repeated(array: Array) -> Array:
    """Return a copy that keeps equal elements along an axis once; not to be written to."""
    small = array
    for axis in range(array.ndim):
        first = small[(slice(None),) * axis + (slice(0, 1),)]
        if np.array_equal(small, np.broadcast_to(first, small.shape)):
            small = first
    return np.broadcast_to(small.copy(), array.shape)
