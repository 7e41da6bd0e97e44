"""Where the arrays of a call lie in memory: layouts, and what their owner does to them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from gradverify.cases import Array, draw, layout_of, with_layout
from gradverify.trial import Trial

# How a layout is told in a message.
LAYOUTS = {
    "C": "in C order", "F": "in Fortran order", "strided": "every second element of an array",
    "negative": "of negative strides", "unaligned": "at an odd address",
    "broadcast": "broadcast (strides of 0)", "readonly": "read-only",
}  # fmt: skip


# Of more bytes than this a checksum is kept: another content has the same once in 4 billion times.
MOST_KEPT = 2**21
# The memory of an array, its shape and strides, and whether one can write to it.
Snapshot = tuple[bytes, tuple[int, ...], tuple[int, ...], bool]


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

    def snapshot(self) -> Snapshot:
        """Return all that a layer must leave as it is, what is between the elements too."""
        base = self.own if self.own.base is None else self.own.base
        array = self.array
        return content(np.asarray(base)), array.shape, array.strides, array.flags.writeable


def content(base: Array) -> bytes:
    """Return what is in the memory of an array; of very much, a checksum of it."""
    if base.nbytes <= MOST_KEPT:
        return base.tobytes()
    whole = np.ascontiguousarray(base.T if base.flags.f_contiguous else base)
    return crc32(whole.data).to_bytes(4)


def may_share(value: Any, other: Any) -> bool:
    """Whether to blank a value may change the other: not where both are arrays, apart in memory."""
    if type(value) is not np.ndarray:
        return False  # which is not blanked
    return not isinstance(other, np.ndarray) or bool(np.may_share_memory(value, other))


def held(values: Array, layout: str) -> Held:
    """Return a copy of an array laid out in memory as named."""
    if layout == "broadcast":
        part = _first(constant_axes(values), values.ndim)
        own = np.array(values[part])
        return Held(np.broadcast_to(own, values.shape), own, part)
    if layout == "unaligned":
        room = np.zeros(values.nbytes + 1, np.uint8)
        own = room[1:].view(values.dtype).reshape(values.shape)
        own[...] = values
    else:
        own = with_layout(values, "C" if layout == "readonly" else layout)
    # A view, so that what a layer does to its shape or flags is not done to the caller's.
    array = own.view()
    array.flags.writeable = layout != "readonly"
    return Held(array, own)


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
    """Return a layout for each array of a call: by the case one is odd, or all are mixed.

    On a kink rounding decides, which may be otherwise in another layout.
    """
    if trial.kinked:
        return drawn_layouts(trial)
    rng = np.random.default_rng([trial.case.seed, 11])
    mixed, alone = rng.random() < 0.5, rng.integers(len(values))
    found = {}
    for k, (name, value) in enumerate(values.items()):
        odd = odd_layouts(value)
        choices = ("C", *odd) if mixed else odd
        found[name] = str(rng.choice(choices)) if mixed or k == alone else "C"
    return found


@dataclass(frozen=True)
class Lent:
    """The arrays of a call, tensors by name and cotangents by output, and what they should hold."""

    trial: Trial
    layouts: Mapping[str, str]
    arrays: Mapping[str, Held]

    @property
    def tensors(self) -> dict[str, Array]:
        """What the forward is called with."""
        return {k: self.arrays[k].array for k in self.trial.spec.given}

    @property
    def cotangents(self) -> tuple[Array, ...]:
        """What the pullback is called with."""
        return tuple(self.arrays[k].array for k in self.trial.spec.differentiable_outputs)

    def write(self, values: Mapping[str, Array]) -> None:
        """Put other values into the same arrays."""
        for name, array in self.arrays.items():
            array.write(values[name])

    def snapshot(self) -> dict[str, Snapshot]:
        """Return the memory of each array."""
        return {k: array.snapshot() for k, array in self.arrays.items()}

    def sharing(self, value: Any) -> bool:
        """Whether to blank a value may change any of the arrays."""
        return any(
            may_share(value, x)
            for a in self.arrays.values()
            for x in (a.array, a.own if a.own.base is None else a.own.base)
        )

    def changed(self, before: Mapping[str, Snapshot]) -> list[str]:
        """Return the names of arrays whose memory is not what it was."""
        return [k for k, was in before.items() if self.arrays[k].snapshot() != was]


def values_of(trial: Trial, *, other: bool = False) -> dict[str, Array]:
    """Return the values of a call, tensors by name and cotangents by output."""
    arrays = trial.arrays
    if other:
        arrays = draw(trial.spec, trial.case.other())
    return arrays.tensors | dict(
        zip(trial.spec.differentiable_outputs, arrays.cotangents, strict=True)
    )


def lend(trial: Trial, layouts: Mapping[str, str]) -> Lent:
    """Return arrays with the case's values, laid out as named."""
    values = values_of(trial)
    return Lent(trial, layouts, {k: held(v, layouts[k]) for k, v in values.items()})


def as_drawn(trial: Trial) -> Lent:
    """Return arrays with the case's values in its own layout."""
    return lend(trial, drawn_layouts(trial))


def cotangents_of(trial: Trial) -> tuple[Array, ...]:
    """Return new arrays with the cotangents of the case in its own layout."""
    layouts = drawn_layouts(trial)
    pairs = zip(trial.spec.differentiable_outputs, trial.cotangents, strict=True)
    return tuple(held(dy, layouts[k]).array for k, dy in pairs)


def drawn_layouts(trial: Trial) -> dict[str, str]:
    """Return the layouts of the case, tensors by name and cotangents by output."""
    spec, case = trial.spec, trial.case
    found = {k: layout_of(case, k) for k in spec.given}
    return found | {k: layout_of(case, f"d{k}") for k in spec.differentiable_outputs}


def given(trial: Trial, name: str) -> str:
    """Return how an array of a call is called in a message."""
    return f"the cotangent of {name}" if name in trial.spec.outputs else name


@contextmanager
def blanked(
    values: Mapping[str, Any], old: Mapping[str, Array] | None = None
) -> Iterator[dict[str, Array]]:
    """Fill arrays with nan, as their owner may, and put back what they held, which is `old`.

    Those that nobody can write to are left out of what is yielded.
    """
    mine = {
        k: v
        for k, v in values.items()
        if type(v) is np.ndarray and v.flags.writeable and v.dtype.kind == "f"
    }
    old = old or {k: v.copy() for k, v in mine.items()}
    try:
        for value in mine.values():
            value[...] = np.nan
        yield mine
    finally:
        for name, value in mine.items():
            value[...] = old[name]
