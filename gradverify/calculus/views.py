"""Subscripts one by one: as slices, digits of a reshaped axis, or windows of a strided view."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradverify.notation.dims import affine, negative, plus, same, tidy, times
from gradverify.notation.tree import ONE, ZERO, Expr, Name, Number, text, walk

Ranges = Mapping[str, Expr]


def size_code(size: Expr) -> str:
    """Return the code of a size, shortened where terms cancel."""
    return text(tidy(size))


def shape_code(sizes: Sequence[Expr]) -> str:
    """Return the code of a shape, a tuple."""
    inside = ", ".join(size_code(s) for s in sizes)
    return f"({inside},)" if len(sizes) == 1 else f"({inside})"


def is_negative(c: Expr) -> bool:
    """Whether a coefficient is written as a negative one; sizes and strides are positive."""
    return c.value.numerator < 0 if isinstance(c, Number) else text(c).startswith("-")


@dataclass(frozen=True)
class Axis:
    """One subscript: coefficients and offset where it is affine, else only the expression."""

    subscript: Expr
    size: Expr
    coefficients: dict[str, Expr] | None
    offset: Expr


def linear(index: str, coefficient: Expr, offset: Expr, size: Expr) -> Axis:
    """Return the axis of the subscript `coefficient*index + offset`."""
    subscript = plus(times(coefficient, Name(index)), offset)
    return Axis(subscript, size, {index: coefficient}, offset)


def sliced(axis: Axis, ranges: Ranges) -> str | None:
    """Return the index of a subscript that a slice can say, if it is one."""
    if axis.coefficients is None or len(axis.coefficients) != 1:
        return None
    ((index, c),) = axis.coefficients.items()
    return index if not is_negative(c) or _reversed(axis, c, ranges[index]) else None


def _reversed(axis: Axis, step: Expr, count: Expr) -> bool:
    """Whether a subscript of negative step goes from the last element to the first."""
    last = plus(axis.offset, times(step, plus(count, negative(ONE))))
    return same(axis.offset, plus(axis.size, negative(ONE))) and same(last, ZERO)


def split_axes(subscripts: Sequence[Expr], shape: Sequence[Expr], ranges: Ranges) -> list[Axis]:
    """Return the subscripts of a read or a write, one for each axis of that shape."""
    found = []
    for subscript, size in zip(subscripts, shape, strict=True):
        split = affine(subscript, ranges)
        found.append(
            Axis(subscript, size, None, ZERO)
            if split is None
            else Axis(subscript, size, split[0], split[1])
        )
    return found


def slice_code(axis: Axis, index: str, ranges: Ranges) -> str:
    """Return the slice for a subscript of which `sliced` says that there is one."""
    assert axis.coefficients is not None
    step, start, count = axis.coefficients[index], axis.offset, ranges[index]
    if is_negative(step):
        return f"::{size_code(step)}"
    if start == ZERO and step == ONE and same(count, axis.size):
        return ":"
    first = "" if same(start, ZERO) else size_code(start)
    stop = plus(start, times(step, count))  # may lie beyond the end, where a slice ends by itself
    if step == ONE:
        return f"{first}:{size_code(stop)}"
    last = plus(start, times(step, plus(count, negative(ONE))), ONE)
    whole = same(last, axis.size) or same(stop, axis.size)
    return f"{first}:{'' if whole else size_code(stop)}:{size_code(step)}"


def unshared(axes: Sequence[Axis], ranges: Ranges) -> set[str]:
    """Return the indices that stand in one subscript only."""
    places = Counter(i for a in axes for i in set(used_indices(a.subscript, ranges)))
    return {i for i, n in places.items() if n == 1}


def _digits(axis: Axis, ranges: Ranges) -> list[str] | None:
    """Return the indices of a subscript such as `g*K + k`, k < K, that counts the axis through
    once, the slowest first."""
    if axis.coefficients is None or len(axis.coefficients) < 2 or axis.offset != ZERO:
        return None
    found: list[str] = []
    product: Expr = ONE
    while len(found) < len(axis.coefficients):
        digit = [i for i, c in axis.coefficients.items() if i not in found and same(c, product)]
        if not digit:
            return None
        found = [digit[0], *found]
        product = times(product, ranges[digit[0]])
    return found if same(product, axis.size) else None


def unfolded(name: str, axes: Sequence[Axis], ranges: Ranges) -> tuple[str, list[Axis]]:
    """Give each index of a subscript like `g*K + k` an axis of its own, by reshaping."""
    found: list[Axis] = []
    for axis in axes:
        digits = _digits(axis, ranges)
        if digits and unshared(axes, ranges).issuperset(digits):
            found += [linear(i, ONE, ZERO, ranges[i]) for i in digits]
        else:
            found.append(axis)
    if len(found) > len(axes):
        name = f"{name}.reshape{shape_code([a.size for a in found])}"
    return name, found


def windowed(name: str, axes: Sequence[Axis], ranges: Ranges) -> tuple[str, list[Axis], bool]:
    """Give each further index of a subscript like `S*p + D*r` an axis of its own, at the end: the
    elements of the window that starts at S*p; and say whether there is any."""
    found, inner = list(axes), []
    extents, places = [], []
    for k, axis in enumerate(axes):
        first, *others = outer_first(axis) or [""]
        if not others or not unshared(axes, ranges).issuperset([first, *others]):
            continue
        assert axis.coefficients is not None
        start, size = axis.offset, axis.size
        for i in others:
            c = axis.coefficients[i]
            reach = times(c, plus(ranges[i], negative(ONE)))
            if is_negative(c):
                start, reach = plus(start, reach), tidy(negative(reach))
            size = plus(size, negative(reach))
            extents.append(plus(reach, ONE))
            places.append(str(k))
            inner.append(linear(i, c, reach if is_negative(c) else ZERO, extents[-1]))
        found[k] = linear(first, axis.coefficients[first], start, size)
    if not inner:
        return name, found, False
    if len(inner) == 1:
        window = f"{size_code(extents[0])}, axis={places[0]}"
    else:
        window = f"{shape_code(extents)}, axis=({', '.join(places)})"
    return f"sliding_window_view({name}, {window})", found + inner, True


def outer_first(axis: Axis) -> list[str]:
    """Return the indices of an affine subscript, one that a slice can step through before the
    others; none at all where there is no such index."""
    indices = axis.coefficients or {}
    first = next((i for i, c in indices.items() if not is_negative(c)), None)
    return [] if first is None else [first, *(i for i in indices if i != first)]


def used_indices(subscript: Expr, ranges: Ranges) -> list[str]:
    """Return the loop indices in a subscript, as often as they appear."""
    return [e.id for e in walk(subscript) if isinstance(e, Name) and e.id in ranges]
