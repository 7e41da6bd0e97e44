"""What the cases of a layer were like, and what could not be tried, with the reason."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from gradverify.cases import LARGE, Case, factors_of
from gradverify.notation.tree import free_names, text
from gradverify.result import Coverage
from gradverify.spec import Spec

SINGLE, EQUAL, UNEQUAL, PRIME, POWER, MANY = (
    "1", "equal", "unequal", "prime", "power of 2", f">={LARGE[0]}",
)  # fmt: skip


def coverage(
    spec: Spec,
    dtypes: Sequence[str],
    chosen: Sequence[Case],
    changed: Sequence[tuple[Case, Case | None]],
    sizes: Mapping[str, int],
) -> Coverage:
    """Return the coverage of the chosen cases.

    `changed` are cases at which the definition was nowhere finite and away from its kinks, with
    what came instead, and `sizes` dimensions that were given.
    """
    wanted = factors_of(spec, dtypes)
    factors = {
        name: dict.fromkeys(map(str, values), 0)
        | Counter(_values(case)[name] for case in chosen)
        for name, values in wanted.items()
    }  # fmt: skip
    kinds = {
        dim: {SINGLE: 0, EQUAL: 0, UNEQUAL: 0, PRIME: 0, POWER: 0, MANY: 0}
        | Counter(kind for case in chosen for kind in _kinds(case, dim))
        for dim in spec.dims
    }
    missing = (
        *_factors_missing(factors, [old for old, _ in changed]),
        *_sizes_missing(spec, kinds, sizes),
    )
    return Coverage(len(chosen), factors, kinds, missing)


def _values(case: Case) -> dict[str, str]:
    """Return the value of each factor in a case."""
    found = {k: str(v) for k, v in (*case.constants, *case.shapes)}
    found |= {k: str(len(made)) for k, made in case.leading}
    return found | {
        "dtype": case.dtype, "layout": case.layout, "values": case.values,
        "cotangent": case.cotangent, "params": case.params,
    }  # fmt: skip


def _kinds(case: Case, dim: str) -> Iterator[str]:
    """Yield what the size of a dimension is in a case."""
    n = dict(case.sizes)[dim]
    others = [m for name, m in case.sizes if name != dim]
    if n == 1:
        yield SINGLE
    if others:
        yield EQUAL if n in others else UNEQUAL
    if n > 1 and all(n % d for d in range(2, n)):
        yield PRIME
    if n > 1 and n & (n - 1) == 0:
        yield POWER
    if n >= LARGE[0]:
        yield MANY


def _factors_missing(
    factors: Mapping[str, Mapping[str, int]], refused: Sequence[Case]
) -> Iterator[str]:
    for name, values in factors.items():
        for value, times in values.items():
            if times:
                continue
            tried = sum(_values(case)[name] == value for case in refused)
            why = "not among the cases of this profile"
            if tried:
                why = (f"no values found in {tried} case(s) at which the definition is finite and "
                       "away from its kinks")  # fmt: skip
            yield f"{name}={value}: {why}"


def _sizes_missing(
    spec: Spec, kinds: Mapping[str, Mapping[str, int]], given: Mapping[str, int]
) -> Iterator[str]:
    for dim, times in kinds.items():
        for kind, least, told in ((SINGLE, 1, f"{dim}=1"), (MANY, LARGE[0], f"{dim}{MANY}")):
            if times[kind]:
                continue
            if dim in given:
                yield f"{told}: {dim}={given[dim]} is given"
                continue
            fixed = {**given, dim: least}
            if any(next(spec.sizes(c, {}, fixed), None) for c in spec.constant_choices):
                yield f"{told}: not among the cases of this profile"
            else:
                named = [text(w) for w in spec.where if dim in free_names(w)]
                yield f"{told}: not allowed by {' and '.join(named) or 'the shapes'}"
