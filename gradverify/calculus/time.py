"""Which index a cycle of statements runs along, in which direction, and in which order."""

from collections.abc import Sequence
from fractions import Fraction

from gradverify.calculus.derive import Step
from gradverify.errors import SpecError
from gradverify.notation.dims import affine, negative, plus, tidy
from gradverify.notation.tree import ONE, Expr, Name, Number, Read, walk


def ordered_index(steps: Sequence[Step]) -> tuple[str, bool, tuple[Step, ...]]:
    """Return (index, backwards, steps in the order to run them at one value of the index).

    The index is one that every step loops over, such that no step needs a value that a later
    turn writes; SpecError where there is none.
    """
    written = {s.target for s in steps}
    shared = [i for i, _ in steps[0].loops if all(i in dict(s.loops) for s in steps)]
    for index in shared:
        lags = _lags(steps, written, index)
        if lags is None:
            continue
        turns = {lag for _, _, lag in lags}
        if all(t <= 0 for t in turns) or all(t >= 0 for t in turns):
            ordered = _order(steps, lags)
            if ordered is not None:
                return index, any(t > 0 for t in turns), ordered
    names = ", ".join(sorted(written))
    raise SpecError(
        f"{names} depend on each other in a circle, and no index orders it; a recurrence reads "
        "its own past along one index, the same letter in all its equations: h[t,n] = f(h[t-1,n])"
    )


def _offset(subscripts: Sequence[Expr], index: str) -> tuple[int, Fraction] | None:
    """Return (axis, offset) of the subscript `index + offset`, if exactly one is of this form."""
    found = []
    for axis, subscript in enumerate(subscripts):
        split = affine(subscript, [index])
        if split is None or index not in split[0]:
            continue
        rest = tidy(plus(subscript, negative(Name(index))))
        if split[0][index] != ONE or not isinstance(rest, Number):
            return None
        found.append((axis, rest.value))
    return found[0] if len(found) == 1 else None


def _lags(
    steps: Sequence[Step], written: set[str], index: str
) -> list[tuple[int, int, Fraction]] | None:
    """Return (writer, reader, turns between them) of every dependency, or None if unclear."""
    lags = []
    for reader, step in enumerate(steps):
        nested = [e for s in step.subscripts for e in walk(s) if isinstance(e, Read)]
        for read in (*step.reads.values(), *nested):
            if read.tensor not in written:
                continue
            there = _offset(read.subscripts, index)
            for writer, other in enumerate(steps):
                if other.target != read.tensor:
                    continue
                here = _offset(other.subscripts, index)
                if there is None or here is None or there[0] != here[0]:
                    return None
                lags.append((writer, reader, there[1] - here[1]))
    return lags


def _order(
    steps: Sequence[Step], lags: Sequence[tuple[int, int, Fraction]]
) -> tuple[Step, ...] | None:
    """Return the steps so that within one turn everything is written before it is read."""
    before: dict[int, set[int]] = {k: set() for k in range(len(steps))}
    for writer, reader, lag in lags:
        if lag == 0:
            before[reader].add(writer)
    done: list[int] = []
    while len(done) < len(steps):
        ready = [k for k in before if k not in done and before[k] <= set(done)]
        if not ready:
            return None
        done.append(ready[0])
    return tuple(steps[k] for k in done)
