"""Which cases: a covering set of pairs and patterns of sizes, then cases that Hypothesis draws."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Any

import numpy as np

from gradverify.cases.case import COTANGENTS, LAYOUTS, PARAMS, VALUES, Case
from gradverify.cases.draws import numbers
from gradverify.cases.large import MAX_ELEMENTS, elements, is_large, least_elements
from gradverify.spec import Spec
from gradverify.view import factored, forms

# Larger than the small constants of a formula (windows, heads), and than the blocks of 32, 64 and
# 128 that code is written in, with a rest in each.
LARGE = (19, 67, 131)
# How many dimensions stand for a starred one. A short run sees the first ones only: mistakes show
# at 2 that are unequal, and at none.
RANKS = (1, 2, 0, 3)
# Combinations of constants that no pair demands are tried as well, up to so many.
MOST_COMBINATIONS = 24


def factors_of(spec: Spec, dtypes: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return what varies from case to case besides sizes, each with its values, plainest first.

    Of a constant only the declared values: a layer need not know what to do with others.
    """
    found: dict[str, Sequence[Any]] = dict(spec.constants)
    found |= dict.fromkeys(spec.stars, RANKS) | {k: tuple(v) for k, v in forms(spec).items()}
    free = any(spec.tensors[k].range is None for k in spec.params) and not is_large(spec)
    # A few cases of a large layer are to say as much as they can: none of them is saturated.
    values = VALUES[:1] if is_large(spec) else VALUES
    found |= {"dtype": dtypes, "layout": LAYOUTS, "values": values, "cotangent": COTANGENTS,
              "params": PARAMS if free else PARAMS[:1]}  # fmt: skip
    return found


def cases(
    spec: Spec,
    dtypes: Sequence[str],
    count: int,
    seed: int,
    sizes: Mapping[str, int] | None = None,
) -> Iterator[Case]:
    """Yield the covering set of a spec, then cases that Hypothesis draws, `count` more.

    `sizes` fixes some dimensions.
    """
    yield from covering_set(spec, dtypes, seed, sizes)
    yield from drawn_cases(spec, dtypes, count, seed, sizes)


def covering_set(
    spec: Spec, dtypes: Sequence[str], seed: int, sizes: Mapping[str, int] | None = None
) -> Iterator[Case]:
    """Yield the covering set of a spec.

    The covering set holds every pair of values among constants, dtype, layout, values of inputs
    and of parameters, cotangent, ranks of starred dimensions and shapes of tensors that may be 1,
    every combination of constants and every pattern of sizes at least once. The plainest case
    comes first, and every single value in as few cases after it as can be.
    """
    factors = factors_of(spec, dtypes)
    patterns = list(size_patterns(spec))
    rows = pairwise(factors, seed)
    met = [{k: row[k] for k in spec.constants} for row in rows]
    missing = [choice for choice in spec.constant_choices if choice not in met]
    rows += [rows[0] | choice for choice in missing[:MOST_COMBINATIONS]]
    while len(rows) < len(patterns):
        rows.append(rows[len(rows) % 7])
    rows = revealing_first(rows)
    for k, (row, pattern) in enumerate(zip(rows, spread(rows, len(patterns)), strict=True)):
        case = solved(spec, row, patterns[pattern], _mix(seed, k), sizes)
        if case is not None:
            yield case


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
    found = _allowed(spec, constants, preferred, given)
    for dim in spec.dims:
        # A dimension that is to be large is, if another that it is tied to is too (a window and
        # its image).
        if found is not None and found[dim] < preferred.get(dim, 0) >= LARGE[0]:
            for other in spec.dims:
                more = {**preferred, other: max(preferred.get(other, 0), 2 * preferred[dim] + 1)}
                larger = _allowed(spec, constants, more, given, 1)
                if larger is not None and larger[dim] == preferred[dim]:
                    found = larger
                    break
    if found is None:
        return None
    return Case(
        tuple(found.items()), tuple(constants.items()), row["dtype"], row["layout"],
        row["values"], row["cotangent"], seed,
        tuple((k, factored(found[k], row[k])) for k in spec.stars),
        tuple((k, row[k]) for k in spec.ones), row["params"],
    )  # fmt: skip


def _allowed(
    spec: Spec,
    constants: Mapping[str, Any],
    preferred: Mapping[str, int],
    given: Mapping[str, int] | None,
    tries: int | None = None,
) -> dict[str, int] | None:
    """Return the allowed sizes nearest to those preferred, of `tries`, that are not too many."""
    most = max(MAX_ELEMENTS, least_elements(spec))
    for sizes in islice(spec.sizes(constants, preferred, given), tries):
        if given or elements(spec, {**sizes, **constants}) <= most:
            return sizes
    return None


def _starred(rank: int, size: int) -> int:
    """Return the size to prefer for a starred dimension of a rank: of two unequal dimensions."""
    return 1 if rank == 0 else size if rank == 1 else size * (size + 1)


def size_patterns(spec: Spec) -> Iterator[dict[str, int]]:
    """Yield preferred sizes that tell mistakes apart: unequal, mirrored, equal, 1, larger than
    constants, powers of two, larger than blocks of code."""
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
        yield small | {d: LARGE[0]}
    yield dict.fromkeys(dims, 4)
    yield {d: (8, 4, 2, 16)[k % 4] for k, d in enumerate(dims)}
    for d in dims:
        for large in LARGE[1:]:
            yield small | {d: large}


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


def revealing_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in another order: after the first, those that bring the most values not met."""
    ordered, rest = [rows[0]], list(rows[1:])
    met = set(rows[0].items())
    while rest:
        best = max(rest, key=lambda row: len(row.items() - met))
        if best.items() <= met:
            break
        rest.remove(best)
        ordered.append(best)
        met |= best.items()
    return ordered + rest


def spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Return which of `count` patterns of sizes goes with each row: all equally often, and each
    with as many different values as can be."""
    times, met = Counter(dict.fromkeys(range(count), 0)), set()
    chosen = []
    for row in rows:
        least = min(times.values())
        best = max(
            (k for k in range(count) if times[k] == least),
            key=lambda k: sum((k, *item) not in met for item in row.items()),
        )
        chosen.append(best)
        times[best] += 1
        met |= {(best, *item) for item in row.items()}
    return chosen


def _affordable(spec: Spec, row: Mapping[str, Any], preferred: Mapping[str, int]) -> dict[str, int]:
    """Return sizes of which the largest are halved until every tensor can be drawn.

    To look for allowed sizes that are small enough from sizes that are not takes long.
    """
    sizes = dict(preferred)
    while max(sizes.values(), default=1) > 1:
        at = {**sizes, **{k: row[k] for k in spec.constants}}
        if elements(spec, at) <= MAX_ELEMENTS:
            break
        largest = max(sizes, key=lambda d: sizes[d])
        sizes[largest] //= 2
    return sizes


def drawn_cases(
    spec: Spec,
    dtypes: Sequence[str],
    count: int,
    seed: int,
    sizes: Mapping[str, int] | None = None,
) -> list[Case]:
    """Return cases that Hypothesis draws."""
    if count < 1:
        return []
    factors = factors_of(spec, dtypes)
    choices = [*factors.values(), *(range(1, 13) for _ in spec.dims)]
    found: list[Case] = []
    for drawn in numbers(len(choices), count, seed):
        values = [c[n % len(c)] for c, n in zip(choices, drawn, strict=True)]
        row = dict(zip(factors, values, strict=False))
        preferred = dict(zip(spec.dims, values[len(factors) :], strict=True))
        preferred = _affordable(spec, row, preferred)
        # Sizes are solved from what was drawn, so that no draw is rejected.
        case = solved(spec, row, preferred, _mix(seed, 1_000_000 + len(found)), sizes)
        if case is not None:
            found.append(case)
    return found
