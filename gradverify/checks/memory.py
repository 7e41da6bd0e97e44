"""Where the arrays of a call lie in memory: layouts, and what their owner does to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradverify.cases import Array, with_layout
from gradverify.trial import Trial

# How a layout is told in a message.
LAYOUTS = {
    "C": "in C order", "F": "in Fortran order", "strided": "every second element of an array",
    "negative": "of negative strides", "unaligned": "at an odd address",
    "broadcast": "broadcast (strides of 0)", "readonly": "read-only",
}  # fmt: skip


@dataclass(frozen=True)
class Held:
    """An array that a layer is given, with what the caller keeps of it.

    `own` is where the caller writes: the same elements, or those of them of which the others are
    broadcast; `part` is where these stand in the full array.
    """

    array: Array
    own: Array
    part: tuple[Any, ...] = ()

    def write(self, values: Array) -> None:
        """Put other values in place."""
        self.own[...] = values[self.part]

    def snapshot(self) -> bytes:
        """Return the memory in which the array lies, what is between its elements too."""
        base = self.own if self.own.base is None else self.own.base
        return bytes(np.asarray(base).tobytes())


def held(values: Array, layout: str) -> Held:
    """Return a copy of an array laid out in memory as named."""
    if layout == "unaligned":
        room = np.zeros(values.nbytes + 1, np.uint8)
        own = room[1:].view(values.dtype).reshape(values.shape)
        own[...] = values
        return Held(own, own)
    if layout == "broadcast":
        part = _first(constant_axes(values), values.ndim)
        own = np.array(values[part])
        return Held(np.broadcast_to(own, values.shape), own, part)
    if layout == "readonly":
        own = with_layout(values, "C")
        array = own.view()
        array.flags.writeable = False
        return Held(array, own)
    own = with_layout(values, layout)
    return Held(own, own)


def _first(axes: Sequence[int], ndim: int) -> tuple[slice, ...]:
    return tuple(slice(1) if axis in axes else slice(None) for axis in range(ndim))


def constant_axes(values: Array) -> tuple[int, ...]:
    """Return the axes, of more than one element, along which an array is constant."""
    return tuple(
        axis
        for axis, size in enumerate(values.shape)
        if size > 1 and np.all(values == np.take(values, [0], axis))
    )


def odd_layouts(values: Array) -> tuple[str, ...]:
    """Return the layouts, other than C, that make a difference for an array."""
    if values.ndim == 0:
        return ("unaligned",)
    several = ("F",) if values.ndim > 1 else ()
    constant = ("broadcast",) if constant_axes(values) else ()
    return (*several, "strided", "negative", "unaligned", *constant)


def chosen_layouts(trial: Trial, values: Mapping[str, Array]) -> dict[str, str]:
    """Return a layout for each array of a call: by the case one is odd, or all are mixed."""
    rng = np.random.default_rng([trial.case.seed, 11])
    mixed, alone = rng.random() < 0.5, rng.integers(len(values))
    found = {}
    for k, (name, value) in enumerate(values.items()):
        odd = odd_layouts(value)
        choices = ("C", *odd) if mixed else odd
        found[name] = str(rng.choice(choices)) if mixed or k == alone else "C"
    return found


def scribbled(values: Mapping[str, Any]) -> Iterator[str]:
    """Overwrite arrays with nan, as their owner may, yielding the name of each that could be."""
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.flags.writeable and value.dtype.kind == "f":
            value[...] = np.nan
            yield name
