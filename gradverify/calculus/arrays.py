"""How one read of a tensor, or one write to it, is said in NumPy: views, index grids, scatter."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gradverify.notation.dims import affine, negative, plus, same, tidy, times
from gradverify.notation.tree import ONE, ZERO, Expr, Name, Number, Read, rebuild, text, walk

Ranges = Mapping[str, Expr]


@dataclass(frozen=True)
class Operand:
    """NumPy code of an array and the loop index along each of its axes.

    `computed` says that the code is an expression, whose value nothing else refers to; else it
    is a name or a view. `windows` says that it is a view in which elements repeat.
    """

    code: str
    axes: tuple[str, ...]
    computed: bool = False
    windows: bool = False


def size_code(size: Expr) -> str:
    """Return the code of a size, shortened where terms cancel."""
    return text(tidy(size))


def shape_code(sizes: Sequence[Expr]) -> str:
    """Return the code of a shape, a tuple."""
    inside = ", ".join(size_code(s) for s in sizes)
    return f"({inside},)" if len(sizes) == 1 else f"({inside})"


def align(operand: Operand, axes: Sequence[str]) -> str:
    """Return the code of `operand` transposed and expanded so that it broadcasts over `axes`."""
    order = [a for a in axes if a in operand.axes]
    code = operand.code
    inside = list(axes)[list(axes).index(order[0]) :] if order else []
    if operand.computed and (list(operand.axes) != order or len(inside) != len(order)):
        code = f"({code})"
    if list(operand.axes) != order:
        if len(order) == 2:
            code += ".T"
        else:
            code += f".transpose({', '.join(str(operand.axes.index(a)) for a in order)})"
    if len(inside) == len(order):
        return code
    return f"{code}[{', '.join(':' if a in order else 'None' for a in inside)}]"


def _is_negative(c: Expr) -> bool:
    return (isinstance(c, Number) and c.value < 0) or text(c).startswith("-")


@dataclass(frozen=True)
class _Axis:
    """One subscript: coefficients and offset where it is affine, else only the expression."""

    subscript: Expr
    size: Expr
    coefficients: dict[str, Expr] | None
    offset: Expr


def _linear(index: str, coefficient: Expr, offset: Expr, size: Expr) -> _Axis:
    """Return the axis of the subscript `coefficient*index + offset`."""
    subscript = plus(times(coefficient, Name(index)), offset)
    return _Axis(subscript, size, {index: coefficient}, offset)


def _sliced(axis: _Axis, ranges: Ranges) -> str | None:
    """Return the index of a subscript that a slice can say, if it is one."""
    if axis.coefficients is None or len(axis.coefficients) != 1:
        return None
    ((index, c),) = axis.coefficients.items()
    return index if not _is_negative(c) or _reversed(axis, c, ranges[index]) else None


def _reversed(axis: _Axis, step: Expr, count: Expr) -> bool:
    """Whether a subscript of negative step goes from the last element to the first."""
    last = plus(axis.offset, times(step, plus(count, negative(ONE))))
    return same(axis.offset, plus(axis.size, negative(ONE))) and same(last, ZERO)


def _axes(subscripts: Sequence[Expr], shape: Sequence[Expr], ranges: Ranges) -> list[_Axis]:
    found = []
    for subscript, size in zip(subscripts, shape, strict=True):
        split = affine(subscript, ranges)
        found.append(
            _Axis(subscript, size, None, ZERO)
            if split is None
            else _Axis(subscript, size, split[0], split[1])
        )
    return found


def _slice(axis: _Axis, index: str, ranges: Ranges) -> str:
    assert axis.coefficients is not None
    step, start, count = axis.coefficients[index], axis.offset, ranges[index]
    if _is_negative(step):
        return f"::{size_code(step)}"
    if start == ZERO and step == ONE and same(count, axis.size):
        return ":"
    first = "" if start == ZERO else size_code(start)
    stop = plus(start, times(step, count))  # may lie beyond the end, where a slice ends by itself
    if step == ONE:
        return f"{first}:{size_code(stop)}"
    last = plus(start, times(step, plus(count, negative(ONE))), ONE)
    whole = same(last, axis.size) or same(stop, axis.size)
    return f"{first}:{'' if whole else size_code(stop)}:{size_code(step)}"


def padding(
    subscripts: Sequence[Expr], shape: Sequence[Expr], ranges: Ranges
) -> list[tuple[str, str] | None]:
    """Return, per axis, how far subscripts reach below 0 and beyond the end; None if not at all."""
    pads: list[tuple[str, str] | None] = []
    for axis in _axes(subscripts, shape, ranges):
        if axis.coefficients is None:
            pads.append(None)
            continue
        low = high = axis.offset
        for index, c in axis.coefficients.items():
            reach = times(c, plus(ranges[index], negative(ONE)))
            if _is_negative(c):
                low = plus(low, reach)
            else:
                high = plus(high, reach)
        if low == ZERO and any(
            axis.coefficients == {i: ONE} and same(n, axis.size) for i, n in ranges.items()
        ):
            pads.append(None)
        else:
            over = tidy(plus(high, ONE, negative(axis.size)))
            pads.append((f"max(0, {text(tidy(negative(low)))})", f"max(0, {text(over)})"))
    return pads


def gather(
    name: str,
    subscripts: Sequence[Expr],
    shape: Sequence[Expr],
    ranges: Ranges,
    nested: Callable[[Read], Operand],
) -> Operand:
    """Return the operand that reads `name[subscripts]` for all indices in `ranges`.

    A view where every index stands in one subscript that is affine, else a grid of indices.
    `nested` gives the operand of a tensor inside a subscript.
    """
    axes = _axes(subscripts, shape, ranges)
    name, axes = _unfolded(name, axes, ranges)
    name, axes, windows = _windowed(name, axes, ranges)
    simple = [_sliced(a, ranges) if a.coefficients else ("" if a.coefficients == {} else None)
              for a in axes]  # fmt: skip
    indices = [i for i in simple if i]
    if None not in simple and len(set(indices)) == len(indices):
        parts = [
            _slice(a, i, ranges) if i else size_code(a.offset)
            for a, i in zip(axes, simple, strict=True)
        ]
        while parts and parts[-1] == ":":
            parts.pop()
        code = f"{name}[{', '.join(parts)}]" if parts else name
        return Operand(code, tuple(indices), windows=windows)
    # Axes that a slice can say stay slices where the others are neighbours, so that NumPy puts
    # the axes of the index grid in between them.
    used = [_used(a.subscript, ranges) for a in axes]
    grid = [k for k, i in enumerate(simple) if not i or sum(i in u for u in used) > 1]
    if grid != list(range(grid[0], grid[-1] + 1)):
        grid = list(range(len(axes)))
    letters = list(dict.fromkeys(i for k in grid for i in used[k]))
    parts = [
        grid_code(axes[k].subscript, letters, ranges, nested)
        if k in grid
        else _slice(axes[k], simple[k] or "", ranges)
        for k in range(len(axes))
    ]
    before = [simple[k] or "" for k in range(grid[0])]
    after = [simple[k] or "" for k in range(grid[-1] + 1, len(axes))]
    code = f"{name}[{', '.join(parts)}]"
    return Operand(code, (*before, *letters, *after), windows=windows)


def _alone(axes: Sequence[_Axis], ranges: Ranges) -> set[str]:
    """Return the indices that stand in one subscript only."""
    places = Counter(i for a in axes for i in set(_used(a.subscript, ranges)))
    return {i for i, n in places.items() if n == 1}


def _digits(axis: _Axis, ranges: Ranges) -> list[str] | None:
    """Return the indices of a subscript such as `g*K + k`, k < K, that counts the axis through
    once, the slowest first."""
    if axis.coefficients is None or len(axis.coefficients) < 2 or axis.offset != ZERO:
        return None
    found: list[str] = []
    product = ONE
    while len(found) < len(axis.coefficients):
        digit = [i for i, c in axis.coefficients.items() if i not in found and same(c, product)]
        if not digit:
            return None
        found = [digit[0], *found]
        product = times(product, ranges[digit[0]])
    return found if same(product, axis.size) else None


def _unfolded(name: str, axes: Sequence[_Axis], ranges: Ranges) -> tuple[str, list[_Axis]]:
    """Give each index of a subscript like `g*K + k` an axis of its own, by reshaping."""
    alone = _alone(axes, ranges)
    found: list[_Axis] = []
    for axis in axes:
        digits = _digits(axis, ranges) or []
        if digits and alone.issuperset(digits):
            found += [_linear(i, ONE, ZERO, ranges[i]) for i in digits]
        else:
            found.append(axis)
    if len(found) > len(axes):
        name = f"{name}.reshape{shape_code([a.size for a in found])}"
    return name, found


def _windowed(
    name: str, axes: Sequence[_Axis], ranges: Ranges
) -> tuple[str, list[_Axis], bool]:
    """Give each further index of a subscript like `S*p + D*r` an axis of its own, at the end: the
    elements of the window that starts at S*p; and say whether there is any."""
    alone = _alone(axes, ranges)
    found, inner = list(axes), []
    extents, places = [], []
    for k, axis in enumerate(axes):
        first, *others = _outer_first(axis)
        if first is None or not others or not alone.issuperset([first, *others]):
            continue
        assert axis.coefficients is not None
        start, size = axis.offset, axis.size
        for i in others:
            c = axis.coefficients[i]
            reach = times(c, plus(ranges[i], negative(ONE)))
            if _is_negative(c):
                start, reach = plus(start, reach), tidy(negative(reach))
            size = plus(size, negative(reach))
            extents.append(plus(reach, ONE))
            places.append(str(k))
            inner.append(_linear(i, c, reach if _is_negative(c) else ZERO, extents[-1]))
        found[k] = _linear(first, axis.coefficients[first], start, size)
    if not inner:
        return name, found, False
    if len(inner) == 1:
        window = f"{size_code(extents[0])}, axis={places[0]}"
    else:
        window = f"{shape_code(extents)}, axis=({', '.join(places)})"
    return f"sliding_window_view({name}, {window})", found + inner, True


def _outer_first(axis: _Axis) -> list[str | None]:
    """Return the indices of an affine subscript, one that a slice can step through before the
    others; [None] where there is none."""
    indices = axis.coefficients or {}
    forwards = [i for i, c in indices.items() if not _is_negative(c)]
    if not forwards:
        return [None]
    return [forwards[0], *(i for i in indices if i != forwards[0])]


def _used(subscript: Expr, ranges: Ranges) -> list[str]:
    return [e.id for e in walk(subscript) if isinstance(e, Name) and e.id in ranges]


def grid_code(
    subscript: Expr, letters: Sequence[str], ranges: Ranges, nested: Callable[[Read], Operand]
) -> str:
    """Return the code of a subscript as an integer array that broadcasts over `letters`."""
    names: dict[str, str] = {}

    def visit(e: Expr) -> Expr:
        if isinstance(e, Name) and e.id in ranges:
            code = f"np.arange({size_code(ranges[e.id])})"
            names[code] = align(Operand(code, (e.id,)), letters)
            return Name(names[code])
        if isinstance(e, Read):
            return Name(align(nested(e), letters))
        return rebuild(e, visit)

    return text(visit(subscript))


@dataclass(frozen=True)
class Target:
    """How a write is said: `code` takes an array over `axes`, inside loops over `looped`.

    `whole` says that it covers the tensor, by an array that is reshaped to `folded` if that is
    given; `scattered` that elements may repeat, so that np.add.at has to add them up.
    """

    code: str
    axes: tuple[str, ...]
    looped: tuple[str, ...] = ()
    whole: bool = False
    folded: str = ""
    scattered: bool = False


def scatter(
    subscripts: Sequence[Expr],
    shape: Sequence[Expr],
    ranges: Ranges,
    nested: Callable[[Read], Operand],
) -> Target:
    """Return how `target[subscripts] += array` is said for all indices in `ranges`."""
    axes = _axes(subscripts, shape, ranges)
    letters = list(dict.fromkeys(i for a in axes for i in _used(a.subscript, ranges)))
    if _alone(axes, ranges).issuperset(letters):
        _, unfolded = _unfolded("", axes, ranges)
        slices = [_slice(a, i, ranges) if (i := _sliced(a, ranges)) else "" for a in unfolded]
        if len(unfolded) > len(axes) and all(s == ":" for s in slices):
            indices = tuple(i for a in unfolded for i in a.coefficients or ())
            return Target("", indices, whole=True, folded=shape_code(shape))
        strided = _strided(axes, ranges)
        if strided is not None:
            return strided
    parts = [grid_code(a.subscript, letters, ranges, nested) for a in axes]
    tail = "," if len(parts) == 1 else ""
    return Target(f"({', '.join(parts)}{tail})", tuple(letters), scattered=True)


def _strided(axes: Sequence[_Axis], ranges: Ranges) -> Target | None:
    """Say a write by slices: one index of each subscript is a slice, the others (the taps of a
    window) are loops around it; None where a subscript is not of that kind."""
    parts, sliced, looped = [], [], []
    for axis in axes:
        if axis.coefficients is None:
            return None
        if not axis.coefficients:
            parts.append(size_code(axis.offset))
            continue
        first, *others = [_sliced(axis, ranges)]
        if first is None:
            first, *others = _outer_first(axis)
        if first is None:
            return None
        offset = axis.offset
        for i in others:
            offset = plus(times(axis.coefficients[i], Name(i)), offset)
        moved = _linear(first, axis.coefficients[first], offset, axis.size)
        parts.append(_slice(moved, first, ranges))
        sliced.append(first)
        looped += others
    whole = all(p == ":" for p in parts)
    return Target(", ".join(parts), tuple(sliced), tuple(looped), whole)
