"""Declared shapes with their marks: `*B`, any number of dimensions, and `N|1`, which may be 1."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gradverify.errors import SpecError
from gradverify.notation.dims import DIMENSION, parse_shape
from gradverify.notation.tree import Expr, free_names, text


@dataclass(frozen=True)
class Shape:
    """The sizes of a declared shape, its starred dimension and the axes that may have size 1."""

    sizes: tuple[Expr, ...]
    star: str | None = None
    ones: tuple[int, ...] = ()


def parse_marked(shape: str, what: str) -> Shape:
    """Return a shape such as "*B D" or "N|1 C"; SpecError says which mark cannot stand there."""
    if not isinstance(shape, str) or not set(shape) & set("*|"):
        return Shape(parse_shape(shape, what))
    plain: list[str] = []
    stars: list[str] = []
    ones: list[int] = []
    for axis, part in enumerate(shape.split()):
        here = f"{what}: {part!r} in shape {shape!r}"
        size, bar, one = part.partition("|")
        if bar and (one != "1" or size in ("", "1")):
            full = next((n for n in (size, one) if n not in ("", "1")), "N")
            raise SpecError(
                f"{here}: a dimension may be its size or 1 and nothing else: write {full}|1"
            )
        if size.startswith("*"):
            size = size.removeprefix("*")
            if bar:
                raise SpecError(
                    f"{here}: a starred dimension cannot be 1 as a whole: write *{size}"
                )
            if not DIMENSION.fullmatch(size):
                raise SpecError(
                    f"{here}: a star stands before the name of a dimension, such as *B, which is "
                    "any number of dimensions"
                )
            stars.append(size)
        if bar:
            ones.append(axis)
        plain.append(size)
    if len(stars) > 1:
        raise SpecError(
            f"{what}: the shape {shape!r} has {len(stars)} starred dimensions, so nobody could "
            f"know where *{stars[0]} ends: star one"
        )
    star = stars[0] if stars else None
    return Shape(parse_shape(" ".join(plain), what), star, tuple(ones))


def check_marks(
    shapes: Mapping[str, Shape], given: Collection[str], constants: Collection[str]
) -> None:
    """Raise SpecError where a starred dimension is something else too, or where nothing tells
    the full size of a dimension that may be 1."""
    starred: dict[str, str] = {}
    for name, shape in shapes.items():
        if shape.star:
            starred.setdefault(shape.star, name)
    for dim, name in starred.items():
        if dim in constants:
            raise SpecError(
                f"{name}: {dim} is a constant, so *{dim} cannot be any number of dimensions: star "
                "another name"
            )
    full = {
        n for k in given for axis, size in enumerate(shapes[k].sizes)
        if axis not in shapes[k].ones for n in free_names(size)
    }  # fmt: skip
    for name, shape in shapes.items():
        for dim in starred:
            times = sum(dim in free_names(size) for size in shape.sizes)
            if shape.star == dim and times > 1:
                raise SpecError(
                    f"{dim} is starred in the shape of {name} and stands a second time there: a "
                    f"starred dimension stands once in a shape, so write *{dim} or another name"
                )
            if shape.star != dim and times:
                raise SpecError(
                    f"{dim} is starred in the shape of {starred[dim]} but not in that of {name}, "
                    f"and one name means one thing: write *{dim} in both, alone, or another name"
                )
        for axis in shape.ones:
            size = shape.sizes[axis]
            if name not in given:
                raise SpecError(
                    f"{name}: an output has one shape: write {text(size)} for {text(size)}|1"
                )
            unknown = [n for n in free_names(size) if n not in full and n not in constants]
            if unknown:
                raise SpecError(
                    f"{name}: where {text(size)}|1 is 1, nothing tells {unknown[0]}: declare an "
                    f"input or parameter that has {unknown[0]} in its shape and cannot be 1"
                )


def marked(sizes: Sequence[Expr], stars: Collection[str], ones: Collection[int]) -> tuple[str, ...]:
    """Return sizes as they are declared, with their marks: *B, N|1."""
    return tuple(
        ("*" if text(size) in stars else "") + text(size) + ("|1" if axis in ones else "")
        for axis, size in enumerate(sizes)
    )
