"""What a function takes and returns, observed by calling it: shapes, ranges and constraints."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from types import CodeType
from typing import Any

from gradverify.scaffold.calling import Answer, Called
from gradverify.scaffold.roles import USUAL, Argument
from gradverify.scaffold.search import Shape, first_accepted, sizes_for

# Shapes that are tried for one way to fill the arrays: for each a few, before many for any. How
# long that may take is limited as well, so that a slow function is told of after a minute.
SHARES, SECONDS = (300, 6_000, 20_000), 60.0
# Sizes that each dimension is tried at, one after the other.
PROBED = range(1, 13)
_NAMES = {1: "N", 2: "NC", 3: "BTD", 4: "NCHW"}
_OTHERS = "KRSMLPQGVEF"


@dataclass(frozen=True)
class Observed:
    """A function that has answered: the shapes of its tensors and the names of dimensions.

    `outputs` are the shapes of its outputs as text, None for an axis that nothing explains,
    `constants` the values that it accepts of each constant; `seen` are shapes as it was called.
    """

    called: Called
    shapes: Mapping[str, Shape]
    names: tuple[str, ...]
    answer: Answer
    outputs: tuple[tuple[str | None, ...], ...]
    where: tuple[str, ...]
    ranges: Mapping[str, str]
    constants: Mapping[str, tuple[Any, ...]]
    seen: Mapping[str, tuple[int, ...]]

    def text(self, name: str) -> str:
        """Return the shape of a tensor as a spec has it, such as "N 4*H"."""
        return " ".join(_written(self.names[s.dim], s.times) for s in self.shapes[name])


def _written(name: str, times: int) -> str:
    return name if times == 1 else f"{times}*{name}"


def numbers(shapes: Mapping[str, Shape], sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return shapes as numbers, given the size of each dimension."""
    return {k: tuple(s.times * sizes[s.dim] for s in shape) for k, shape in shapes.items()}


def observe(called: Called) -> Observed | None:
    """Call a function at many shapes and return what it accepts; None where nothing is found."""
    end = time.monotonic() + SECONDS
    for most, way, divisible in product(SHARES, _ways(called), (False, True)):
        shapes = first_accepted(way.tensors, partial(_accepts, way, divisible), most, end)
        if shapes is not None:
            real = replace(way, arguments=called.arguments)
            if _accepts(real, divisible, shapes):  # whole numbers pass for real ones
                way = real
            return described(way, shapes, _sizes(shapes, divisible))
    return None


def _sizes(shapes: Mapping[str, Shape], divisible: bool) -> tuple[int, ...]:
    return sizes_for(next(iter(shapes.values())), divisible=divisible)


def _accepts(way: Called, divisible: bool, shapes: dict[str, Shape]) -> bool:
    return way.ask(numbers(shapes, _sizes(shapes, divisible))) is not None


def _ways(called: Called) -> Iterator[Called]:
    """Yield the function with its tensors filled in one way after another."""
    choices = called.choices()
    names = [t.name for t in called.tensors]
    yield from choices[:2]
    yield replace(choices[0], positive=frozenset(names))
    for name in names:  # one may be of whole numbers
        yield replace(choices[0], arguments=tuple(
            replace(a, integer=True) if a.name == name else a for a in called.arguments
        ))  # fmt: skip
    yield from choices[2:]


def holds_elsewhere(called: Called, shapes: Mapping[str, Shape], sizes: Sequence[int]) -> bool:
    """Whether a function accepts the shapes at other sizes than these as well."""
    return called.ask(numbers(shapes, [n + 2 * k + 1 for k, n in enumerate(sizes)])) is not None


def described(called: Called, shapes: Mapping[str, Shape], sizes: Sequence[int]) -> Observed | None:
    """Return what can be told of a function that accepts arrays of these shapes."""
    called = _as_few_positive(called, shapes, sizes)
    answer = called.ask(numbers(shapes, sizes))
    if answer is None:
        return None
    used = sorted({s.dim for shape in shapes.values() for s in shape})
    names = _named(called.arguments, shapes)
    probed = {d: _probed(called, shapes, sizes, d) for d in used}
    where = [_constraint(called, shapes, sizes[: len(names)], names, d, set(probed[d]))
             for d in used]  # fmt: skip
    ranges = dict.fromkeys(sorted(called.positive), "0.1..3")
    for tensor in called.tensors:
        if tensor.integer:
            top = _top(called, shapes, sizes, tensor, used)
            ranges[tensor.name] = f"0..{names[top]}-1" if top is not None else "0..0"
    points = [(dict(zip(names, sizes, strict=False)), called.constants, answer)]
    points += [({**points[0][0], names[d]: n}, called.constants, found)
               for d, answers in probed.items() for n, found in answers.items()]  # fmt: skip
    tried = {a.name: a.values for a in called.arguments}
    accepted: dict[str, tuple[Any, ...]] = {k: (v,) for k, v in called.constants.items()}
    for name, value in called.constants.items():
        for other in USUAL.get(name.lower()) or tried[name]:
            changed = replace(called, constants={**called.constants, name: other})
            found = changed.ask(numbers(shapes, sizes)) if other != value else None
            if found is not None:
                accepted[name] += (other,)
                points.append((points[0][0], changed.constants, found))
    outputs = _outputs([names[d] for d in used], answer, points)
    return Observed(called, shapes, names, answer, outputs, tuple(w for w in where if w), ranges,
                    accepted, numbers(shapes, sizes))  # fmt: skip


def _as_few_positive(called: Called, shapes: Mapping[str, Shape], sizes: Sequence[int]) -> Called:
    for name in sorted(called.positive):
        fewer = replace(called, positive=called.positive - {name})
        if fewer.ask(numbers(shapes, sizes)) is not None:
            called = fewer
    return called


def _named(arguments: Sequence[Argument], shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Return a name for each dimension by its number, none that is an argument's."""
    first = len(next(iter(shapes.values())))
    count = 1 + max((s.dim for shape in shapes.values() for s in shape), default=-1)
    usual = [*_NAMES.get(first, ""), *_OTHERS, *(f"D{k}" for k in range(1, count + 1))]
    taken = {a.name for a in arguments}
    return tuple([n for n in dict.fromkeys(usual) if n not in taken][:count])


def _probed(
    called: Called, shapes: Mapping[str, Shape], sizes: Sequence[int], dim: int
) -> dict[int, Answer]:
    """Return the answers at other sizes of a dimension, where it has one."""
    found = {}
    for size in PROBED:
        at = [size if d == dim else n for d, n in enumerate(sizes)]
        if (answer := called.ask(numbers(shapes, at))) is not None:
            found[size] = answer
    return found


def _constraint(
    called: Called, shapes: Mapping[str, Shape], sizes: Sequence[int], names: Sequence[str],
    dim: int, good: set[int],
) -> str | None:  # fmt: skip
    """Return the constraint that explains which sizes of a dimension are accepted."""
    if len(good) == len(PROBED) or not good:
        return None
    least, name = min(good), names[dim]
    if good == {n for n in PROBED if n >= least}:
        for other in (d for d, n in enumerate(sizes) if d != dim and n == least):
            # Of a larger kernel, the smallest image is larger too.
            at = [least if d == dim else n + (d == other) for d, n in enumerate(sizes)]
            if called.ask(numbers(shapes, at)) is None:
                return f"{name} >= {names[other]}"
        return f"{name} >= {least}"
    if good == {n for n in PROBED if n % least == 0}:
        return f"{name} % {least} == 0"
    return None  # another dimension is at least as large, which is told of that


def _top(
    called: Called, shapes: Mapping[str, Shape], sizes: Sequence[int], tensor: Argument,
    used: Sequence[int],
) -> int | None:  # fmt: skip
    """Return the dimension that whole numbers are indices into, None where there is none."""
    for dim in used:
        inside, outside = (
            replace(called, tops={**called.tops, tensor.name: sizes[dim] - 1 + k}) for k in (0, 1)
        )
        at = numbers(shapes, sizes)
        if inside.ask(at) is not None and outside.ask(at) is None:
            return dim
    return None


# Sizes of dimensions by name, constants, and what the function answers there.
Point = tuple[Mapping[str, int], Mapping[str, Any], Answer]


def _outputs(
    names: Sequence[str], answer: Answer, points: Sequence[Point]
) -> tuple[tuple[str | None, ...], ...]:
    """Return the shapes of outputs as text: what explains them at all sizes that were tried."""
    constants = [k for k, v in points[0][1].items() if type(v) is int]
    found = []
    for k, y in enumerate(answer.outputs):
        told = [(sizes, known, other.outputs[k]) for sizes, known, other in points
                if k < len(other.outputs) and other.outputs[k].ndim == y.ndim]  # fmt: skip
        axes = []
        for axis in range(y.ndim):
            wanted = [({**known, **sizes}, out.shape[axis]) for sizes, known, out in told]
            axes.append(_explained(wanted, names, constants))
        found.append(tuple(axes))
    return tuple(found)


def _explained(
    wanted: Sequence[tuple[Mapping[str, Any], int]], names: Sequence[str], constants: Sequence[str]
) -> str | None:
    """Return the first expression of dimensions that gives all sizes of an axis."""
    for text in _expressions(names, constants):
        code = compile(text, "size", "eval")
        if all(_value(code, at) == size for at, size in wanted):
            return text
    return None


def _value(code: CodeType, at: Mapping[str, Any]) -> int | None:
    try:
        value: int = eval(code, {}, dict(at))
    except ZeroDivisionError:
        return None
    return value


def _expressions(names: Sequence[str], constants: Sequence[str]) -> Iterator[str]:
    yield from names
    yield "1"
    for a in names:
        for text in ("2*{}", "3*{}", "4*{}", "{}//2", "{}-1", "{}+1"):
            yield text.format(a)
    for a, b in product(names, names):
        if a != b:
            yield from (f"{a}*{b}", f"{a}+{b}", f"{a}-{b}+1", f"{a}-{b}")
    for a, c in product(names, constants):
        yield from (f"{a}*{c}", f"{a}//{c}", *(f"({a}-{c})//{d}+1" for d in constants))
    for a, b in product(names, names):
        for c in constants if a != b else ():
            yield from (f"({a}-{b})//{c}+1", f"{a}+2*{c}-{b}+1")
            for d in constants:
                yield f"({a}+2*{d}-{b})//{c}+1"
