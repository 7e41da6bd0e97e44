"""How one read of a tensor, or one write to it, is said in NumPy: views, index grids, scatter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradverify.calculus.views import (
    Axis,
    Ranges,
    is_negative,
    linear,
    outer_first,
    shape_code,
    size_code,
    slice_code,
    sliced,
    split_axes,
    unfolded,
    unshared,
    used_indices,
    windowed,
)
from gradverify.notation.dims import negative, plus, same, tidy, times
from gradverify.notation.tree import ONE, ZERO, Expr, Name, Read, rebuild, text


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


def padding(
    subscripts: Sequence[Expr], shape: Sequence[Expr], ranges: Ranges
) -> list[tuple[str, str] | None]:
    """Return, per axis, how far subscripts reach below 0 and beyond the end; None if not at all."""
    pads: list[tuple[str, str] | None] = []
    for axis in split_axes(subscripts, shape, ranges):
        if axis.coefficients is None:
            pads.append(None)
            continue
        low = high = axis.offset
        for index, c in axis.coefficients.items():
            reach = times(c, plus(ranges[index], negative(ONE)))
            if is_negative(c):
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
    axes = split_axes(subscripts, shape, ranges)
    name, axes = unfolded(name, axes, ranges)
    name, axes, windows = windowed(name, axes, ranges)
    simple = [sliced(a, ranges) if a.coefficients else ("" if a.coefficients == {} else None)
              for a in axes]  # fmt: skip
    indices = [i for i in simple if i]
    if None not in simple and len(set(indices)) == len(indices):
        parts = [
            slice_code(a, i, ranges) if i else size_code(a.offset)
            for a, i in zip(axes, simple, strict=True)
        ]
        while parts and parts[-1] == ":":
            parts.pop()
        code = f"{name}[{', '.join(parts)}]" if parts else name
        return Operand(code, tuple(indices), windows=windows)
    # Axes that a slice can say stay slices where the others are neighbours, so that NumPy puts
    # the axes of the index grid in between them.
    used = [used_indices(a.subscript, ranges) for a in axes]
    grid = [k for k, i in enumerate(simple) if not i or sum(i in u for u in used) > 1]
    if grid != list(range(grid[0], grid[-1] + 1)):
        grid = list(range(len(axes)))
    letters = list(dict.fromkeys(i for k in grid for i in used[k]))
    parts = [
        grid_code(axes[k].subscript, letters, ranges, nested)
        if k in grid
        else slice_code(axes[k], simple[k] or "", ranges)
        for k in range(len(axes))
    ]
    before = [simple[k] or "" for k in range(grid[0])]
    after = [simple[k] or "" for k in range(grid[-1] + 1, len(axes))]
    code = f"{name}[{', '.join(parts)}]"
    return Operand(code, (*before, *letters, *after), windows=windows)


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
    axes = split_axes(subscripts, shape, ranges)
    letters = list(dict.fromkeys(i for a in axes for i in used_indices(a.subscript, ranges)))
    if unshared(axes, ranges).issuperset(letters):
        _, digits = unfolded("", axes, ranges)
        indices = [
            i for a in digits if (i := sliced(a, ranges)) and slice_code(a, i, ranges) == ":"
        ]
        if len(axes) < len(digits) == len(indices):
            return Target("", tuple(indices), whole=True, folded=shape_code(shape))
        strided = _strided(axes, ranges)
        if strided is not None:
            return strided
    parts = [grid_code(a.subscript, letters, ranges, nested) for a in axes]
    tail = "," if len(parts) == 1 else ""
    return Target(f"({', '.join(parts)}{tail})", tuple(letters), scattered=True)


def _strided(axes: Sequence[Axis], ranges: Ranges) -> Target | None:
    """Say a write by slices: one index of each subscript is a slice, the others (the taps of a
    window) are loops around it; None where a subscript is not of that kind."""
    parts, stepped, looped = [], [], []
    for axis in axes:
        if axis.coefficients is None:
            return None
        if not axis.coefficients:
            parts.append(size_code(axis.offset))
            continue
        order = [i] if (i := sliced(axis, ranges)) else outer_first(axis)
        if not order:
            return None
        first, *others = order
        offset = axis.offset
        for i in others:
            offset = plus(times(axis.coefficients[i], Name(i)), offset)
        moved = linear(first, axis.coefficients[first], offset, axis.size)
        parts.append(slice_code(moved, first, ranges))
        stepped.append(first)
        looped += others
    whole = all(p == ":" for p in parts)
    return Target(", ".join(parts), tuple(stepped), tuple(looped), whole)
