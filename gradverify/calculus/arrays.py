"""How one read of a tensor, or one write to it, is said in NumPy: views, index grids, scatter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gradverify.notation.dims import affine, negative, plus, same, tidy, times
from gradverify.notation.tree import ONE, ZERO, Expr, Name, Number, Read, rebuild, text, walk

Ranges = Mapping[str, Expr]


@dataclass(frozen=True)
class Operand:
    """NumPy code of an array and the loop index along each of its axes.

    `computed` says that the code is an expression, whose value nothing else refers to; else it
    is a name or a view.
    """

    code: str
    axes: tuple[str, ...]
    computed: bool = False


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

    @property
    def plain(self) -> str | None:
        """The index of a subscript that a slice can say, if it is one."""
        if self.coefficients is None or len(self.coefficients) != 1:
            return None
        ((index, c),) = self.coefficients.items()
        return None if _is_negative(c) else index


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
    step, start = axis.coefficients[index], axis.offset
    if start == ZERO and step == ONE and same(ranges[index], axis.size):
        return ":"
    if step == ONE:
        stop = tidy(plus(start, ranges[index]))
        return f"{'' if start == ZERO else size_code(start)}:{text(stop)}"
    stop = tidy(plus(start, times(step, plus(ranges[index], negative(ONE))), ONE))
    return f"{size_code(start)}:{text(stop)}:{size_code(step)}"


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
        inside = low == ZERO and len(axis.coefficients) == 1 and (
            axis.plain is not None and same(ranges[axis.plain], axis.size)
            and axis.coefficients[axis.plain] == ONE
        )  # fmt: skip
        if inside:
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

    Slices where every index subscripts one axis, else a grid of indices. `nested` gives the
    operand of a tensor inside a subscript.
    """
    axes = _axes(subscripts, shape, ranges)
    simple = [a.plain if a.coefficients else ("" if a.coefficients == {} else None) for a in axes]
    indices = [i for i in simple if i]
    if None not in simple and len(set(indices)) == len(indices):
        parts = [
            _slice(a, i, ranges) if i else size_code(a.offset)
            for a, i in zip(axes, simple, strict=True)
        ]
        if all(p == ":" for p in parts):
            return Operand(name, tuple(indices))
        return Operand(f"{name}[{', '.join(parts)}]", tuple(indices))
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
    return Operand(f"{name}[{', '.join(parts)}]", (*before, *letters, *after))


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

    `whole` says that it covers the tensor; `scattered` that elements may repeat, so that
    np.add.at has to add them up.
    """

    code: str
    axes: tuple[str, ...]
    looped: tuple[str, ...] = ()
    whole: bool = False
    scattered: bool = False


def scatter(
    subscripts: Sequence[Expr],
    shape: Sequence[Expr],
    ranges: Ranges,
    nested: Callable[[Read], Operand],
) -> Target:
    """Return how `target[subscripts] += array` is said for all indices in `ranges`."""
    axes = _axes(subscripts, shape, ranges)
    used = [_used(a.subscript, ranges) for a in axes]
    flat = [i for u in used for i in u]
    affine_only = all(
        a.coefficients is not None and not any(map(_is_negative, a.coefficients.values()))
        for a in axes
    )
    if affine_only and len(set(flat)) == len(flat):
        # One index of each subscript becomes a slice, the others (the taps of a window) a loop.
        parts, sliced, looped = [], [], []
        for axis, letters in zip(axes, used, strict=True):
            if not letters:
                parts.append(size_code(axis.offset))
                continue
            first, *others = letters
            assert axis.coefficients is not None
            offset = axis.offset
            for i in others:
                offset = plus(times(axis.coefficients[i], Name(i)), offset)
            moved = _Axis(axis.subscript, axis.size, {first: axis.coefficients[first]}, offset)
            parts.append(_slice(moved, first, ranges))
            sliced.append(first)
            looped += others
        whole = all(p == ":" for p in parts)
        return Target(", ".join(parts), tuple(sliced), tuple(looped), whole)
    letters = list(dict.fromkeys(flat))
    parts = [grid_code(a.subscript, letters, ranges, nested) for a in axes]
    tail = "," if len(parts) == 1 else ""
    return Target(f"({', '.join(parts)}{tail})", tuple(letters), scattered=True)
