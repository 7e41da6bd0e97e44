"""What the left side of a step covers: all of a tensor, a tile of it, or scattered elements."""

from collections.abc import Sequence

from gradverify.calculus.derive import Step
from gradverify.notation.dims import affine, plus, same, times
from gradverify.notation.tree import ONE, ZERO, Expr, Name, replaced, text, walk


def letters(step: Step) -> tuple[str, ...]:
    """Return the loop indices on the left side, in order."""
    loops = dict(step.loops)
    names = (e.id for s in step.subscripts for e in walk(s) if isinstance(e, Name))
    return tuple(dict.fromkeys(i for i in names if i in loops))


def form(step: Step) -> tuple[str, ...]:
    """Return what is the same for steps whose left sides differ in letters only."""
    own, sizes = letters(step), dict(step.loops)
    places = {i: Name(f"#{k}") for k, i in enumerate(own)}
    shown = (replaced(s, places) for s in step.subscripts)
    return *(text(sizes[i]) for i in own), *map(text, shown)


def bounds(step: Step) -> list[tuple[Expr, Expr]] | None:
    """Return (first, extent) of each subscript on a left side that is one to one, else None."""
    loops, seen = dict(step.loops), 0
    found: list[tuple[Expr, Expr]] = []
    for subscript in step.subscripts:
        split = affine(subscript, loops)
        if split is None:
            return None
        extent: Expr = ONE
        rest = split[0]
        seen += len(rest)
        # As digits of a number: one index counts units, the next steps over all its values.
        while rest:
            digit = next((i for i, c in rest.items() if same(c, extent)), None)
            if digit is None:
                return None
            rest = {i: c for i, c in rest.items() if i != digit}
            extent = times(extent, loops[digit])
        found.append((split[1], extent))
    return found if seen == len(letters(step)) else None


def covers(steps: Sequence[Step], shape: Sequence[Expr]) -> bool:
    """Whether left sides are proved to cover a tensor exactly once: whole, or as tiles in a row."""
    spans = [b for s in steps if (b := bounds(s)) is not None]
    if len(spans) < len(steps):
        return False
    split = [
        k for k, size in enumerate(shape)
        if not all(same(b[k][0], ZERO) and same(b[k][1], size) for b in spans)
    ]  # fmt: skip
    if len(split) != 1:
        return not split and len(steps) == 1
    end: Expr = ZERO
    tiles = [b[split[0]] for b in spans]
    while tile := next((t for t in tiles if same(t[0], end)), None):
        tiles.remove(tile)
        end = plus(end, tile[1])
    return not tiles and same(end, shape[split[0]])
