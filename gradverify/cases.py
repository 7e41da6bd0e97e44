"""Concrete cases: a covering set first, Hypothesis after it; one line each, arrays from a seed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import prod
from typing import Any
from zlib import crc32

import numpy as np

from gradverify.declare import Tensor
from gradverify.errors import UsageError
from gradverify.notation.tree import Call, Name, Number, walk
from gradverify.spec import Spec
from gradverify.view import View, factored, forms

Array = np.ndarray[Any, Any]

LAYOUTS = ("C", "F", "strided", "negative", "readonly")
# What the values of the inputs look like. "large" saturates softmax and gates, "offset" shows
# cancellation, one sign shows formulas that are right on one side only.
VALUES = ("ordinary", "small", "large", "offset", "positive", "negative", "ties", "constant")
# Of these, equal values, exact zeros and inputs that are constant along an axis, which show what is
# divided by or multiplied with 0. They may be on kinks: not every check can be asked there.
AT_KINKS = ("ties", "constant")
COTANGENTS = ("signed", "sparse", "one-hot")

# A larger dimension exceeds the small constants of a formula (windows, heads) ...
LARGE = 19
# ... and at most this many elements are drawn, so that one case stays in milliseconds.
MAX_ELEMENTS = 20_000
# How many dimensions stand for a starred one. A short run sees the first ones only: mistakes show
# at 2 that are unequal, and at none.
RANKS = (1, 2, 0, 3)
# Combinations of constants that no pair demands are tried as well, up to so many.
MOST_COMBINATIONS = 24


@dataclass(frozen=True)
class Case:
    """One concrete draw; `str(case)` is one line and `parse_case` reads it back.

    `leading` is what stands for each starred dimension, whose size is its product, and `shapes`
    the shape that a tensor with axes that may be 1 is given in, such as "1,C".
    """

    sizes: tuple[tuple[str, int], ...]
    constants: tuple[tuple[str, Any], ...]
    dtype: str = "float64"
    layout: str = "C"
    values: str = "ordinary"
    cotangent: str = "signed"
    seed: int = 0
    leading: tuple[tuple[str, tuple[int, ...]], ...] = ()
    shapes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        made = {k: f"({','.join(map(str, v))})" for k, v in self.leading if len(v) != 1}
        parts = [f"{k}={made.get(k, v)}" for k, v in (*self.sizes, *self.constants)]
        parts += [f"{k}={shape}" for k, shape in self.shapes]
        parts += [f"dtype={self.dtype}", f"layout={self.layout}", f"values={self.values}",
                  f"cotangent={self.cotangent}", f"seed={self.seed}"]  # fmt: skip
        return " ".join(parts)

    @property
    def at(self) -> dict[str, Any]:
        """Sizes and constants by name."""
        return {**dict(self.sizes), **dict(self.constants)}

    @property
    def weight(self) -> tuple[int, int]:
        """How far the case is from the simplest one; a smaller case shows more."""
        plain = (self.dtype == "float64") + (self.layout == "C") + (self.values == "ordinary")
        plain += sum(len(made) == 1 for _, made in self.leading)
        plain -= sum("1" in shape.split(",") for _, shape in self.shapes)
        return sum(n for _, n in self.sizes), -plain - (self.cotangent == "signed")


def parse_case(text: str, spec: Spec) -> Case:
    """Return the case that a line describes; UsageError says what is wrong with it."""
    found: dict[str, str] = {}
    for part in text.split():
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"case: {part!r} is not of the form name=value")
        found[key] = value
    shapes = forms(spec)
    known = {*spec.dims, *spec.constants, *shapes, "dtype", "layout", "values", "cotangent", "seed"}
    if wrong := sorted(found.keys() ^ known):
        verb = "names nothing" if wrong[0] in found else "is missing"
        raise UsageError(f"case: {wrong[0]} {verb}; a case of {spec.name} gives {sorted(known)}")
    for key, allowed in (
        ("dtype", ("float64", "float32", "float16")),
        ("layout", LAYOUTS),
        ("values", VALUES),
        ("cotangent", COTANGENTS),
        *shapes.items(),
    ):
        if found[key] not in allowed:
            raise UsageError(f"case: {key}={found[key]} is not one of {', '.join(allowed)}")
    leading = {}
    for key in spec.stars:
        if made := re.fullmatch(r"\(((\d+,)*\d+)?\)", found[key]):
            leading[key] = tuple(map(int, (made[1] or "").split(","))) if made[1] else ()
            found[key] = str(prod(leading[key]))
    for key in (*spec.dims, "seed"):
        if not re.fullmatch(r"\d+", found[key]):
            raise UsageError(f"case: {key}={found[key]} is not a whole number")
        if key in spec.stars:
            leading.setdefault(key, (int(found[key]),))
    constants = {}
    for key, values in spec.constants.items():
        matching = [v for v in values if str(v) == found[key]]
        if not matching:
            raise UsageError(f"case: {key}={found[key]} is not one of {values}")
        constants[key] = matching[0]
    sizes = {k: int(found[k]) for k in spec.dims}
    if sizes not in [s for s, _ in zip(spec.sizes(constants, sizes), range(1), strict=False)]:
        raise UsageError(f"case: {spec.name} does not allow these sizes")
    return Case(
        tuple(sizes.items()), tuple(constants.items()), found["dtype"], found["layout"],
        found["values"], found["cotangent"], int(found["seed"]),
        tuple((k, leading[k]) for k in spec.stars), tuple((k, found[k]) for k in shapes),
    )  # fmt: skip


def view_of(spec: Spec, case: Case) -> View:
    """Return how a layer sees the tensors of a definition in a case."""
    known = forms(spec)
    single = {k: known[k][shape] for k, shape in case.shapes}
    return View(spec, case.at, dict(case.leading), single)


@dataclass(frozen=True)
class Arrays:
    """What a case is filled with: tensors by name, a cotangent per differentiable output."""

    tensors: dict[str, Array]
    cotangents: tuple[Array, ...]


def draw(spec: Spec, case: Case, *, start: bool = False) -> Arrays:
    """Fill a case: each array from [seed, crc32(name)], so that a new tensor changes no other.

    With `start`, parameters and buffers have their declared initial values.
    """
    tensors, cotangents = _drawn(spec, case, start)
    return Arrays(
        {name: with_layout(value, case.layout) for name, value in tensors.items()},
        tuple(with_layout(dy, case.layout) for dy in cotangents),
    )


@lru_cache(maxsize=8)  # a case is drawn several times while it is looked at
def _drawn(spec: Spec, case: Case, start: bool) -> tuple[dict[str, Array], list[Array]]:
    view = view_of(spec, case)
    tensors = {name: _fill(view, name, case, start) for name in spec.given}
    cotangents = []
    for name in spec.differentiable_outputs:
        rng = _generator(case, f"d{name}")
        value = rng.standard_normal(view.shape(name))
        if case.cotangent == "sparse":
            value = np.where(rng.random(value.shape) < 0.5, value, 0.0)
        elif case.cotangent == "one-hot" and value.size:
            hot = np.zeros(value.size)
            hot[rng.integers(value.size)] = -1.5
            value = hot.reshape(value.shape)
        cotangents.append(np.asarray(value, case.dtype))
    return tensors, cotangents


def _generator(case: Case, name: str) -> np.random.Generator:
    return np.random.default_rng([case.seed, crc32(name.encode())])


def _fill(view: View, name: str, case: Case, start: bool) -> Array:
    tensor, rng = view.spec.tensors[name], _generator(case, name)
    shape = view.shape(name)
    bounds = view.spec.bounds(name, view.sizes)
    if tensor.integer:
        low, high = bounds or (0, 1)
        return rng.integers(int(low), int(high) + 1, shape)
    if tensor.values is not None:
        return rng.choice(np.array(tensor.values, case.dtype), shape)
    value: Array = rng.standard_normal(shape)
    if start and tensor.start is not None:
        value = np.full(shape, tensor.start)
    elif case.values == "ties" and tensor.kind != "buffer":
        value = rng.choice(_tied(view.spec, case, bounds, rng), shape)
    elif bounds is not None:
        value = _evened(rng.uniform(bounds[0], bounds[1], shape), tensor, case, rng)
    elif tensor.kind == "input":
        match case.values:
            case "small":
                value = 1e-3 * value
            case "large":
                value = 30 * value
            case "offset":
                value = value + 8
            case "positive":
                value = np.abs(value) + 0.1
            case "negative":
                value = -np.abs(value) - 0.1
        value = _evened(value, tensor, case, rng)
    return np.asarray(value, case.dtype)


def _tied(
    spec: Spec, case: Case, bounds: tuple[float, float] | None, rng: np.random.Generator
) -> Array:
    """Return the few values of which a tensor with ties is made; 0 is every third."""
    marks = np.array(sorted({0.0, 1.0, -1.0, *_landmarks(spec, case)}))
    if bounds is not None:
        low, high = bounds
        marks = marks[(low <= marks) & (marks <= high)]
        # The ends of a range, and a zero in it, may be where a definition is not finite: sometimes
        # values inside.
        if len(marks) < 2 or rng.random() < 0.5:
            return low + (high - low) * np.array([0.25, 0.5, 0.75])
        return marks
    others = marks[marks != 0]
    zeros = 0 if rng.random() < 0.25 else max(len(others) // 2, 1)
    return np.concatenate([others, np.zeros(zeros)])


# Calls that switch where their arguments are equal, or 0.
_SWITCHING = {"max", "min", "abs", "relu", "<", "<=", ">", ">=", "==", "!="}
# Values that inputs have in other cases too; what is far smaller only keeps a division from 0.
_MARKS = 1e-3, 30.0


def _landmarks(spec: Spec, case: Case) -> Iterator[float]:
    """Yield the numbers, of either sign, that a definition compares something with."""
    bodies = [s.body for s in spec.program.statements] if spec.program else []
    known = dict(case.constants)
    for call in (e for body in bodies for e in walk(body)):
        if isinstance(call, Call) and call.function in _SWITCHING:
            for e in (part for arg in call.args for part in walk(arg)):
                value = known.get(e.id) if isinstance(e, Name) else None
                mark = float(e.value) if isinstance(e, Number) else float(value or 0)
                if _MARKS[0] <= abs(mark) <= _MARKS[1]:
                    yield from (mark, -mark)


def _evened(value: Array, tensor: Tensor, case: Case, rng: np.random.Generator) -> Array:
    """Return an input that is constant along one axis, or along all, if the case has such."""
    if case.values != "constant" or tensor.kind != "input" or not value.size:
        return value
    axis = int(rng.integers(value.ndim + 1))
    kept = [slice(1) if axis in (k, value.ndim) else slice(None) for k in range(value.ndim)]
    return np.broadcast_to(value[tuple(kept)], value.shape)


def with_layout(array: Array, layout: str) -> Array:
    """Return a copy of `array` laid out in memory as named, with equal values."""
    if layout == "F" or array.ndim == 0:
        return np.array(array, order="F")
    if layout == "strided":
        wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    elif layout == "negative":
        wide = np.zeros_like(array, order="C")
        view = wide[tuple(slice(None, None, -1) for _ in array.shape)]
    else:
        wide = view = np.zeros_like(array, order="C")
    view[...] = array
    if layout == "readonly":
        view.flags.writeable = False
    return view


def cases(
    spec: Spec,
    dtypes: Sequence[str],
    count: int,
    seed: int,
    sizes: Mapping[str, int] | None = None,
) -> Iterator[Case]:
    """Yield the covering set of a spec, then cases that Hypothesis draws, `count` more.

    `sizes` fixes some dimensions.

    The covering set holds every pair of values among constants, dtype, layout, values,
    cotangent, ranks of starred dimensions and shapes of tensors that may be 1, every combination
    of constants and every pattern of sizes at least once.
    """
    factors: dict[str, Sequence[Any]] = dict(spec.constants)
    factors |= dict.fromkeys(spec.stars, RANKS) | {k: tuple(v) for k, v in forms(spec).items()}
    factors |= {"dtype": dtypes, "layout": LAYOUTS, "values": VALUES, "cotangent": COTANGENTS}
    patterns = list(size_patterns(spec))
    rows = pairwise(factors, seed)
    met = [{k: row[k] for k in spec.constants} for row in rows]
    missing = [choice for choice in spec.constant_choices if choice not in met]
    rows += [rows[0] | choice for choice in missing[:MOST_COMBINATIONS]]
    while len(rows) < len(patterns):
        rows.append(rows[len(rows) % 7])
    for k, row in enumerate(rows):
        case = solved(spec, row, patterns[k % len(patterns)], _mix(seed, k), sizes)
        if case is not None:
            yield case
    yield from _hypothesis_cases(spec, factors, count, seed, sizes)


def _mix(seed: int, k: int) -> int:
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0])


def solved(
    spec: Spec,
    row: Mapping[str, Any],
    preferred: Mapping[str, int],
    seed: int,
    given: Mapping[str, int] | None = None,
) -> Case | None:
    """Return the case of a row whose sizes are the allowed ones nearest to `preferred`."""
    constants = {k: row[k] for k in spec.constants}
    starred = {k: _starred(row[k], preferred.get(k, 3)) for k in spec.stars}
    preferred = {**preferred, **starred}
    for sizes in spec.sizes(constants, preferred, given):
        total = max(int(np.prod(spec.shape(t, {**sizes, **constants}))) for t in spec.tensors)
        if given or total <= MAX_ELEMENTS:
            return Case(tuple(sizes.items()), tuple(constants.items()), row["dtype"],
                        row["layout"], row["values"], row["cotangent"], seed,
                        tuple((k, factored(sizes[k], row[k])) for k in spec.stars),
                        tuple((k, row[k]) for k in spec.ones))  # fmt: skip
    return None


def _starred(rank: int, size: int) -> int:
    """Return the size to prefer for a starred dimension of a rank: of two unequal dimensions."""
    return 1 if rank == 0 else size if rank == 1 else size * (size + 1)


def size_patterns(spec: Spec) -> Iterator[dict[str, int]]:
    """Yield preferred sizes that tell mistakes apart: unequal, mirrored, 1, equal, large."""
    dims = spec.dims
    primes = [2, 3, 5, 7, 4, 6, 8, 9]
    unequal = {d: primes[k % 8] for k, d in enumerate(dims)}
    yield unequal
    yield {d: primes[k % 8] for k, d in enumerate(reversed(dims))}
    yield dict.fromkeys(dims, 3)
    yield dict.fromkeys(dims, 1)
    small = {d: 2 + k % 2 for k, d in enumerate(dims)}
    for d in dims:
        yield unequal | {d: 1}
        yield small | {d: LARGE}


def pairwise(factors: Mapping[str, Sequence[Any]], seed: int) -> list[dict[str, Any]]:
    """Return rows that hold every pair of values of every two factors, greedily few.

    The first row has the first value of every factor (the plainest case).
    """
    rng = np.random.default_rng(seed)
    names = list(factors)
    choices = {n: range(len(factors[n])) for n in names}
    missing = {
        ((a, i), (b, j)) for a, b in combinations(names, 2) for i in choices[a] for j in choices[b]
    }
    rows: list[dict[str, int]] = []

    def gain(row: Mapping[str, int], name: str, value: int) -> int:
        pairs = (((n, row[n]), (name, value)) for n in row)
        return sum(p in missing or p[::-1] in missing for p in pairs)

    while missing or not rows:
        row = dict.fromkeys(names, 0) if not rows else dict(min(missing))
        for name in rng.permutation(names):
            if name not in row:
                row[str(name)] = max(choices[name], key=lambda v: gain(row, str(name), v))
        rows.append(row)
        missing -= {((a, row[a]), (b, row[b])) for a, b in combinations(names, 2)}
    return [{n: factors[n][row[n]] for n in names} for row in rows]


# Enough bits to choose among dozens of values nearly evenly.
BITS = 8


def _hypothesis_cases(
    spec: Spec,
    factors: Mapping[str, Sequence[Any]],
    count: int,
    seed: int,
    given: Mapping[str, int] | None,
) -> list[Case]:
    if count < 1:
        return []
    choices = [*factors.values(), *(range(1, 13) for _ in spec.dims)]
    found: list[Case] = []
    for numbers in _numbers(len(choices), count, seed):
        values = [c[n % len(c)] for c, n in zip(choices, numbers, strict=True)]
        row = dict(zip(factors, values, strict=False))
        preferred = dict(zip(spec.dims, values[len(factors) :], strict=True))
        # Sizes are solved from what was drawn, so that no draw is rejected.
        case = solved(spec, row, preferred, _mix(seed, 1_000_000 + len(found)), given)
        if case is not None:
            found.append(case)
    return found


@lru_cache(maxsize=64)  # they are the same for all specs with as many choices
def _numbers(choices: int, count: int, seed: int) -> list[list[int]]:
    """Return `count` draws by Hypothesis of a number of BITS bits for each choice."""
    import hypothesis
    from hypothesis import strategies as st

    found: list[list[int]] = []

    # Only booleans: into its draws of integers Hypothesis mixes constants from whatever modules
    # happen to be loaded, and the same seed would give other cases in another process.
    bits = st.lists(st.booleans(), min_size=BITS, max_size=BITS)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.tuples(*(bits for _ in range(choices))))
    def collect(drawn: tuple[list[bool], ...]) -> None:
        found.append([sum(bit << k for k, bit in enumerate(part)) for part in drawn])

    collect()
    return found


def smaller(spec: Spec, case: Case) -> Iterator[Case]:
    """Yield cases that are simpler than `case`, simplest first, for shrinking a failure."""
    plain = {"layout": "C", "values": "ordinary", "cotangent": "signed", "dtype": "float64"}
    for key, value in plain.items():
        if getattr(case, key) != value:
            yield replace(case, **{key: value})  # type: ignore[arg-type] # all are texts
    ranks = {k: len(made) for k, made in case.leading}
    for name in ranks:
        if ranks[name] != 1:
            one = tuple((k, (case.at[k],) if k == name else v) for k, v in case.leading)
            yield replace(case, leading=one)
    for name, shapes in forms(spec).items():
        full = next(iter(shapes))
        if (name, full) not in case.shapes:
            yield replace(case, shapes=tuple((k, full if k == name else v) for k, v in case.shapes))
    sizes = dict(case.sizes)
    for name in sizes:
        for n in sorted({1, 2, sizes[name] // 2, sizes[name] - 1}):
            if 1 <= n < sizes[name]:
                trial = {**sizes, name: n}
                allowed = next(spec.sizes(dict(case.constants), trial), None)
                if allowed is not None and sum(allowed.values()) < sum(sizes.values()):
                    made = tuple((k, factored(allowed[k], n)) for k, n in ranks.items())
                    yield replace(case, sizes=tuple(allowed.items()), leading=made)
