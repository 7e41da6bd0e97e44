"""Whether a program stays inside its tensors and covers each target once, at concrete sizes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from gradverify.errors import SpecError
from gradverify.notation.dims import affine, evaluate
from gradverify.notation.parse import Source
from gradverify.notation.statements import Program, Statement
from gradverify.notation.tree import Expr, Name, Read, free_names, text, walk

# Enumerating a target's elements is for small sizes; beyond this many it is left to the others.
MAX_ELEMENTS = 5_000


def check_program(program: Program, source: Source, sizes: Iterable[Mapping[str, Any]]) -> None:
    """Raise SpecError, with a witness, where a subscript leaves its tensor or a target is
    covered not at all or twice, at any of the given sizes."""
    for at in sizes:
        for statement in program.statements:
            try:
                _check_subscripts(program, statement, source, at)
            except ZeroDivisionError:
                where = _sizes_text(program, at)
                raise source.error(
                    f"a range or subscript of this equation divides by zero at {where}",
                    statement.at,
                ) from None
        _check_coverage(program, source, at)


def _check_subscripts(
    program: Program, statement: Statement, source: Source, sizes: Mapping[str, Any]
) -> None:
    ranges = {index: evaluate(size, sizes) for index, size in statement.loops}
    if min(ranges.values(), default=1) < 1:
        return
    reads = [Read(statement.target, statement.subscripts, statement.at)]
    reads += [e for e in walk(statement.body) if isinstance(e, Read)]
    for read in reads:
        if read.tensor in program.outside:
            continue
        shape = program.shapes[read.tensor]
        for subscript, size in zip(read.subscripts, shape, strict=True):
            extent = evaluate(size, sizes)
            for value in _extremes(program, subscript, ranges, sizes):
                if not 0 <= value < extent:
                    raise _outside(program, read, subscript, value, size, source, sizes)


def _extremes(
    program: Program, subscript: Expr, ranges: Mapping[str, int], sizes: Mapping[str, Any]
) -> Iterator[int]:
    """Yield the smallest and the largest value of a subscript, or all where it is not affine."""
    if isinstance(subscript, Read):
        yield from (
            evaluate(end, sizes) for end in program.declared.limits.get(subscript.tensor, ())
        )
        return
    split = affine(subscript, ranges)
    if split is not None:
        coefficients, offset = split
        reach = [evaluate(c, sizes) * (ranges[i] - 1) for i, c in coefficients.items()]
        start = evaluate(offset, sizes)
        yield start + sum(min(r, 0) for r in reach)
        yield start + sum(max(r, 0) for r in reach)
    elif not any(isinstance(e, Read) for e in walk(subscript)):
        used = [e.id for e in walk(subscript) if isinstance(e, Name) and e.id in ranges]
        for values in product(*(range(ranges[i]) for i in used)):
            yield evaluate(subscript, {**sizes, **dict(zip(used, values, strict=True))})


def _outside(
    program: Program,
    read: Read,
    subscript: Expr,
    value: int,
    size: Expr,
    source: Source,
    sizes: Mapping[str, Any],
) -> SpecError:
    used = {*_names(read), *free_names(size)}
    where = _sizes_text(program, {n: v for n, v in sizes.items() if n in used} or sizes)
    if isinstance(subscript, Read):
        remedy = f'declare what it holds, {subscript.tensor}=Input(..., range="0..{text(size)}-1")'
        return source.error(
            f"{text(subscript)} may be {value} at {where}, but there {read.tensor} has "
            f"{text(size)} = {evaluate(size, sizes)} element(s) (counted from 0); {remedy}",
            read.at,
        )
    remedy = (
        "an equation must stay inside its tensor"
        if read.tensor not in program.declared.given
        else f"declare what lies beyond, {read.tensor}=Input(..., outside=0), or correct it"
    )
    return source.error(
        f"subscript {text(subscript)} of {read.tensor} reaches {value} at {where}, but there "
        f"{read.tensor} has {text(size)} = {evaluate(size, sizes)} element(s) (counted from 0); "
        + remedy,
        read.at,
    )


def _names(read: Read) -> set[str]:
    return {e.id for s in read.subscripts for e in walk(s) if isinstance(e, Name)}


def _sizes_text(program: Program, sizes: Mapping[str, Any]) -> str:
    return ", ".join(f"{n}={v}" for n, v in sizes.items() if n in program.declared.sizes)


def _check_coverage(program: Program, source: Source, sizes: Mapping[str, Any]) -> None:
    writers: dict[str, list[Statement]] = {}
    for statement in program.statements:
        writers.setdefault(statement.target, []).append(statement)
    for target, group in writers.items():
        shape = [evaluate(n, sizes) for n in program.shapes[target]]
        equations = {statement.at: statement for statement in group}
        if target in program.scattered or prod(shape) > MAX_ELEMENTS:
            continue
        if len(equations) == 1 and _plain_cover(group[0], shape, sizes):
            continue
        cells: Counter[tuple[int, ...]] = Counter()
        for equation in equations.values():
            cells.update(_cells(equation, sizes))
        for cell in product(*map(range, shape)):
            if cells[cell] != 1:
                origin = program.origins.get(target, (0,) * len(cell))
                shown = ",".join(str(c - k) for c, k in zip(cell, origin, strict=True))
                where = _sizes_text(program, sizes)
                how = "no equation" if cells[cell] == 0 else "more than one equation"
                raise source.error(
                    f"{how} defines {target}[{shown}] at {where}; the equations of a tensor "
                    "must cover it exactly once",
                    group[0].at,
                )


def _plain_cover(statement: Statement, shape: list[int], sizes: Mapping[str, Any]) -> bool:
    ranges = {index: evaluate(size, sizes) for index, size in statement.loops}
    names = [s.id for s in statement.subscripts if isinstance(s, Name)]
    return len(set(names)) == len(names) and [ranges.get(n) for n in names] == shape


def _cells(statement: Statement, sizes: Mapping[str, Any]) -> Iterator[tuple[int, ...]]:
    used = {e.id for s in statement.subscripts for e in walk(s) if isinstance(e, Name)}
    loops = [(i, evaluate(n, sizes)) for i, n in statement.loops if i in used]
    for values in product(*(range(n) for _, n in loops)):
        at = {**sizes, **{i: v for (i, _), v in zip(loops, values, strict=True)}}
        yield tuple(evaluate(s, at) for s in statement.subscripts)
