"""Which index runs over which range, in each equation; and the shapes that follow from it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from keyword import iskeyword

from gradverify.errors import SpecError
from gradverify.notation.dims import affine, evaluate, negative, plus, same, tidy, times
from gradverify.notation.parse import Equation, Source
from gradverify.notation.tree import (
    ONE,
    Call,
    Expr,
    Name,
    Number,
    Read,
    Reduce,
    children,
    free_names,
    rebuild,
    rename,
    text,
    walk,
)

INDEX = re.compile("[a-z]")
_SUBSCRIPT = frozenset({"+", "-", "*", "//", "%", "neg"})
_NUMBERS = frozenset({"pi", "inf"})


@dataclass(frozen=True)
class Declared:
    """What a definition may refer to: tensors with their shapes, dimensions and constants.

    A layer gets any number of dimensions for each of `stars`, and size 1 or the full size on the
    axes of `ones`; a definition knows neither. `limits` are the ends of the declared ranges of
    integer tensors, and `listed` the tensors that hold listed values only.
    """

    shapes: Mapping[str, tuple[Expr, ...]]
    given: tuple[str, ...]
    wanted: tuple[str, ...]
    integers: frozenset[str]
    sizes: frozenset[str]
    constants: tuple[str, ...]
    ranges: Mapping[str, Expr]
    outside: Mapping[str, float] = field(default_factory=dict)
    updates: frozenset[str] = frozenset()
    stars: tuple[str, ...] = ()
    ones: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    limits: Mapping[str, tuple[Expr, Expr]] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()

    @property
    def seeded(self) -> tuple[str, ...]:
        """The outputs that have a cotangent: those that are not a buffer's next value."""
        return tuple(y for y in self.wanted if y not in self.updates)


@dataclass
class Scope:
    """One equation with its indices: each bound index has a name of its own (`n`, `n1`, ...).

    `left` are the indices of the left side, `order` all indices as they appear, `sizes` their
    ranges as far as known, `letters` the letter that the user wrote for each.
    """

    equation: Equation
    left: tuple[str, ...]
    order: list[str]
    letters: dict[str, str]
    sizes: dict[str, Expr] = field(default_factory=dict)


Resolved = tuple[list[Scope], dict[str, tuple[Expr, ...]], dict[str, tuple[int, ...]]]


def resolve(equations: Sequence[Equation], source: Source, declared: Declared) -> Resolved:
    """Return each equation's scope, the shape of every tensor, and the origins of those that
    have initial values before index 0.

    A range follows from the tensors that an index subscripts plainly; a declared range wins. The
    shape of a tensor that no one declared follows from its left sides, or else from its uses.
    Raises SpecError, with the place, for names that mean nothing or two things, subscripts of
    the wrong number, and ranges that conflict or do not show.
    """
    scopes, shapes, origins = infer(equations, source, declared)
    check_ranges(scopes, source, declared.sizes)
    return scopes, shapes, origins


def check_ranges(scopes: Iterable[Scope], source: Source, sizes: Collection[str]) -> None:
    """Raise SpecError, with the place, for an index whose range does not show."""
    for scope in scopes:
        for index in scope.order:
            if index not in scope.sizes:
                letter = scope.letters[index]
                likely = letter.upper() if letter.upper() in sizes else "N"
                binding = (e.at for e in walk(scope.equation.body)
                           if isinstance(e, Reduce) and index in e.indices)  # fmt: skip
                raise source.error(
                    f"the range of index {letter} does not show: no tensor has a plain [{letter}] "
                    f'of known size here; declare it, ranges={{"{letter}": "{likely}"}}',
                    next(binding, scope.equation.at),
                )


def infer(
    equations: Sequence[Equation], source: Source, declared: Declared, *, by_uses: bool = True
) -> Resolved:
    """Return what `resolve` does as far as it shows: a range or a shape may be missing.

    Without `by_uses`, shapes follow from left sides only.
    """
    names = _Names(equations, source, declared)
    scopes = [names.scope(e) for e in equations]
    origins = _origins(scopes)
    shapes = dict(declared.shapes)
    # Shapes of intermediate tensors follow from ranges and ranges from shapes: to a fixed point.
    partly = False
    while True:
        before = sum(len(s.sizes) for s in scopes) + len(shapes)
        for scope in scopes:
            _infer(scope, shapes, source, declared)
            if partly:
                _infer_from_bounds(scope)
        _shapes(scopes, shapes, partly=partly)
        if sum(len(s.sizes) for s in scopes) + len(shapes) > before:
            partly = False
        elif not partly:
            partly = True
        elif not (by_uses and _infer_from_uses(scopes, shapes)):
            break
    return scopes, shapes, origins


class _Names:
    """Checks every name of every equation and gives each bound index a name of its own."""

    def __init__(self, equations: Sequence[Equation], source: Source, declared: Declared) -> None:
        self.source, self.declared = source, declared
        self.ranks = {name: len(shape) for name, shape in declared.shapes.items()}
        for name in (*declared.shapes, *declared.constants):
            if iskeyword(name) or (name in _NUMBERS and name in declared.constants):
                has = "a meaning in Python" if iskeyword(name) else "a value of its own"
                raise SpecError(f"{name} has {has}: a tensor or constant needs another name")
        for letter in declared.ranges:
            if not self.is_index(letter):
                raise SpecError(
                    f"ranges={{{letter!r}: ...}}: an index is a single small letter that names no "
                    "tensor or constant"
                )
        for e in equations:
            if e.target in declared.given:
                raise source.error(
                    f"{e.target} is given to the layer; an equation cannot define it", e.at
                )
            if e.target in declared.sizes | set(declared.constants):
                raise source.error(
                    f"{e.target} is a dimension or constant; a tensor needs a name of its own", e.at
                )
            rank = self.ranks.setdefault(e.target, len(e.subscripts))
            if rank != len(e.subscripts):
                letters = ",".join("ncijk"[:rank])
                hint = f": write them, {e.target}[{letters}] = ..." if not e.subscripts else ""
                raise source.error(
                    f"{e.target} has {rank} dimension(s) but {len(e.subscripts)} subscript(s) here"
                    + hint,
                    e.at,
                )
        defined = {e.target for e in equations}
        for name in declared.wanted:
            if name not in defined:
                raise SpecError(
                    f"no equation of the {source.what} defines the output {name}: "
                    f"write `{name}[...] = ...`"
                )

    def scope(self, equation: Equation) -> Scope:
        left: dict[str, None] = {}
        for subscript in equation.subscripts:
            for e in walk(subscript):
                if isinstance(e, Name) and self.is_index(e.id):
                    left[e.id] = None
        self.letters = {i: i for i in left}
        self.order = list(left)
        body = self.visit(equation.body, frozenset(left), inside=False)
        subscripts = tuple(self.visit(s, frozenset(left), inside=True) for s in equation.subscripts)
        changed = replace(equation, body=body, subscripts=subscripts)
        return Scope(changed, tuple(left), self.order, self.letters)

    def is_index(self, name: str) -> bool:
        return bool(INDEX.fullmatch(name)) and name not in self.known()

    def known(self) -> set[str]:
        return {*self.ranks, *self.declared.sizes, *self.declared.constants}

    def visit(self, e: Expr, bound: frozenset[str], *, inside: bool) -> Expr:
        match e:
            case Name():
                return self.name(e, bound, inside=inside)
            case Read(tensor, subscripts, at):
                if tensor not in self.ranks:
                    raise self.unknown(tensor, at)
                if inside and tensor not in self.declared.integers:
                    raise self.source.error(
                        f"{tensor} is used as a subscript or bound but does not hold integers: "
                        f"declare it Input(..., dtype=int)",
                        at,
                    )
                if self.ranks[tensor] != len(subscripts):
                    raise self.source.error(
                        f"{tensor} has {self.ranks[tensor]} dimension(s), not {len(subscripts)}", at
                    )
                return rebuild(e, lambda s: self.visit(s, bound, inside=True))
            case Reduce(kind, indices, body, at, bounds):
                if inside:
                    raise self.source.error("a reduction cannot stand in a subscript", at)
                fresh = {}
                for index in indices:
                    if not self.is_index(index):
                        raise self.source.error(
                            f"{index} is a tensor or constant of this spec and cannot be an index",
                            at,
                        )
                    name, k = index, 1
                    while name in self.letters or name in self.ranks:
                        name, k = f"{index}{k}", k + 1
                    fresh[index] = name
                    self.letters[name] = index
                    self.order.append(name)
                bound |= set(fresh.values())
                inner = self.visit(rename(body, fresh), bound, inside=False)
                compared = tuple(
                    rebuild(rename(b, fresh), lambda s: self.visit(s, bound, inside=True))
                    for b in bounds
                )
                return Reduce(kind, tuple(fresh.values()), inner, at, compared)
            case Call(function, _, at) if inside and function not in _SUBSCRIPT:
                raise self.source.error(
                    "a subscript or bound is an integer: use indices, sizes and + - * // %", at
                )
            case Number(value, at) if inside and value.denominator != 1:
                raise self.source.error("a subscript is an integer", at)
        return rebuild(e, lambda c: self.visit(c, bound, inside=inside))

    def name(self, e: Name, bound: frozenset[str], *, inside: bool) -> Expr:
        if e.id in bound:
            return e
        if e.id in self.ranks:
            if inside and e.id not in self.declared.integers:
                raise self.source.error(
                    f"{e.id} is a tensor of this spec: use another letter as index", e.at
                )
            if self.ranks[e.id]:
                letters = "ncijk"[: self.ranks[e.id]]
                raise self.source.error(
                    f"{e.id} has {self.ranks[e.id]} dimension(s): "
                    f"write its subscripts, {e.id}[{','.join(letters)}]",
                    e.at,
                )
            return Read(e.id, (), e.at)
        if e.id in self.declared.sizes:
            return e
        if e.id in self.declared.constants or e.id in _NUMBERS:
            if inside:
                raise self.source.error(
                    f"{e.id} stands in a subscript but is not an integer constant", e.at
                )
            return e
        if self.is_index(e.id):
            raise self.source.error(
                f"index {e.id} is neither on the left side nor reduced: "
                f"write e.g. sum[{e.id}](...), or put {e.id} on the left side",
                e.at,
            )
        raise self.unknown(e.id, e.at)

    def unknown(self, name: str, at: tuple[int, ...]) -> SpecError:
        known = sorted(self.known())
        if name in known or name in _NUMBERS:
            return self.source.error(f"{name} is one number: write it without subscripts", at)
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return self.source.error(
            f"{name} is declared nowhere and no equation defines it; {hint}", at
        )


def _origins(scopes: Sequence[Scope]) -> dict[str, tuple[int, ...]]:
    origins: dict[str, tuple[int, ...]] = {}
    for scope in scopes:
        equation = scope.equation
        before = [
            max(0, -int(s.value)) if isinstance(s, Number) else 0 for s in equation.subscripts
        ]
        if any(before):
            old = origins.get(equation.target, (0,) * len(before))
            origins[equation.target] = tuple(map(max, before, old))
    return origins


def _infer(
    scope: Scope,
    shapes: Mapping[str, tuple[Expr, ...]],
    source: Source,
    declared: Declared,
) -> None:
    equation = scope.equation
    ranges = declared.ranges if equation.ranges is None else equation.ranges
    found: dict[str, tuple[Expr, str]] = {}
    reads = [Read(equation.target, equation.subscripts, equation.at)]
    reads += [e for e in walk(equation.body) if isinstance(e, Read)]
    reads += [r for s in equation.subscripts for r in walk(s) if isinstance(r, Read)]
    for read in reads:
        places = [
            place
            for subscript, size in zip(read.subscripts, shapes.get(read.tensor, ()), strict=False)
            for place in _digits(subscript, size)
        ]
        for subscript, size in places:
            if not isinstance(subscript, Name) or subscript.id not in scope.letters:
                continue
            index = subscript.id
            letter = scope.letters[index]
            if letter in ranges:
                continue
            here = text(rename(read, scope.letters))
            if index in found and not same(found[index][0], size):
                raise source.error(
                    f"index {letter} runs over {text(found[index][0])} in {found[index][1]} and "
                    f"over {text(size)} in {here}; if both are meant, declare the smaller: "
                    f'ranges={{"{letter}": "{text(size)}"}}',
                    read.at,
                )
            found.setdefault(index, (size, here))
    for index, letter in scope.letters.items():
        if letter in ranges:
            scope.sizes[index] = ranges[letter]
        elif index in found:
            scope.sizes[index] = found[index][0]


def _digits(subscript: Expr, size: Expr) -> Iterator[tuple[Expr, Expr]]:
    """Yield the indices of a subscript with their sizes: g*K+k over G*K is g over G, k over K."""
    match subscript, size:
        case (
            Call("+", (Call("*", (Name() as high, base)), Name() as low)),
            Call("*", (count, other)),
        ) if same(base, other):
            yield from ((high, count), (low, other))
        case (
            Call("+", (Call("*", (base, Name() as high)), Name() as low)),
            Call("*", (count, other)),
        ) if same(base, other):  # K*g + k
            yield from ((high, count), (low, other))
        case _:
            yield subscript, size


def _infer_from_bounds(scope: Scope) -> None:
    """Give two indices that a bound compares, sum[j<=i](x[j]), one range where only one shows."""
    for e in walk(scope.equation.body):
        for bound in e.bounds if isinstance(e, Reduce) else ():
            pair = [s.id for s in children(bound) if isinstance(s, Name) and s.id in scope.letters]
            known = [i for i in pair if i in scope.sizes]
            if len(pair) == 2 and len(known) == 1:
                scope.sizes |= dict.fromkeys(pair, scope.sizes[known[0]])


def _infer_from_uses(scopes: Sequence[Scope], shapes: Mapping[str, tuple[Expr, ...]]) -> bool:
    """Give indices on the left side of tensors without a shape the range over which all others
    read that axis, as in s[c] = 2*c beside x[c]*s[c]; return whether there is such an index."""
    uses: dict[tuple[str, int], list[tuple[Expr, Scope]]] = {}
    for scope in scopes:
        for read in (e for e in walk(scope.equation.body) if isinstance(e, Read)):
            for axis, subscript in enumerate(read.subscripts):
                uses.setdefault((read.tensor, axis), []).append((subscript, scope))
    found = False
    for scope in scopes:
        target = scope.equation.target
        for axis, left in enumerate(scope.equation.subscripts):
            if target in shapes or not isinstance(left, Name) or left.id not in scope.left:
                continue
            reads = uses.get((target, axis), [])
            if left.id in scope.sizes or any(_sliced(s, other) for s, other in reads):
                continue
            sizes = [other.sizes[s.id] for s, other in reads
                     if isinstance(s, Name) and s.id in other.sizes]  # fmt: skip
            if sizes and all(same(sizes[0], n) for n in sizes):
                scope.sizes[left.id] = sizes[0]
                found = True
    return found


def _sliced(subscript: Expr, scope: Scope) -> bool:
    """Whether a subscript is more than an index, a number beside it, or no index at all: then
    the index may run over a part of the axis only, as that of z[u+H]."""
    if isinstance(subscript, Call) and subscript.function in ("+", "-"):
        index, offset = subscript.args
        if isinstance(index, Name) and isinstance(offset, Number):
            return False
    indices = [n for n in free_names(subscript) if n in scope.letters]
    return bool(indices) and not isinstance(subscript, Name)


def _shapes(scopes: Sequence[Scope], shapes: dict[str, tuple[Expr, ...]], *, partly: bool) -> None:
    """Add the shapes of tensors that no one declared, from the ranges on their left sides.

    With `partly`, a plain subscript whose range does not show (`h[-1,n] = 0`) takes the size of
    that axis from the tensor's other equations.
    """
    writers: dict[str, list[Scope]] = {}
    for scope in scopes:
        if scope.equation.target not in shapes:
            writers.setdefault(scope.equation.target, []).append(scope)
    for target, group in writers.items():
        found = []
        for axis in zip(*(scope.equation.subscripts for scope in group), strict=True):
            extents = [_extent(s, scope) for s, scope in zip(axis, group, strict=True)]
            known = [e for e in extents if e is not None]
            pending = [s for s, e in zip(axis, extents, strict=True) if e is None]
            if pending:
                # A constant subscript alone, such as -1, is no range for the others.
                ranged = any(e is not None and not isinstance(s, Number)
                             for s, e in zip(axis, extents, strict=True))  # fmt: skip
                if not (partly and ranged and all(isinstance(s, Name) for s in pending)):
                    break
            found.append(max(known, key=_magnitude))
        else:
            shapes[target] = tuple(found)


def _extent(subscript: Expr, scope: Scope) -> Expr | None:
    """Return one more than the largest value of a subscript on a left side, if that is known."""
    if any(i in scope.left and i not in scope.sizes for i in free_names(subscript)):
        return None
    split = affine(subscript, scope.sizes)
    if split is None:
        return ONE
    coefficients, offset = split
    last = [times(c, plus(scope.sizes[i], negative(ONE))) for i, c in coefficients.items()]
    return tidy(plus(offset, *last, ONE))


def _magnitude(size: Expr) -> Fraction:
    # Which of two sizes is larger shows at any assignment; coverage is checked at many later.
    return Fraction(evaluate(size, dict.fromkeys(free_names(size), 97)))
