"""Values at which a claim about a gradient is wrong, looked for at small sizes first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Any

import mpmath
import numpy as np

from gradverify.calculus.claims import Claims
from gradverify.calculus.derive import Derivation, derive
from gradverify.calculus.exact import evaluate_exactly
from gradverify.calculus.point import Point
from gradverify.spec import Spec

Array = np.ndarray[Any, Any]

# So many random points are looked at before a claim that cannot be proven is left undecided.
POINTS = 12
# 50 digits leave at least 30 where terms of a common size cancel.
EQUAL = mpmath.mpf(10) ** -30
# So far values are moved to see whether a claim is right but on a kink: less than what the
# two decimals of small values can tell.
NEAR = 1e-3
# All combinations of 1 and 2 are tried of so many dimensions: 16 at most.
MOST_COMBINED = 4


@dataclass(frozen=True)
class Witness:
    """Values at which a claim is wrong: by name, with the element, what is claimed and derived."""

    sizes: Mapping[str, Any]
    tensors: Mapping[str, Array]
    index: tuple[int, ...]
    claimed: float
    derived: float

    def __str__(self) -> str:
        tensors = {k: np.asarray(v).tolist() for k, v in self.tensors.items()}
        values = ", ".join(f"{k}={v}" for k, v in {**self.sizes, **tensors}.items())
        return f"at {values}"


def witnesses(spec: Spec, claims: Claims, target: str) -> Iterator[Witness | None]:
    """Yield a witness, or None where claim and derivation agree, at points that grow.

    Values at which the claim is wrong are a witness only if it is wrong close to them too: they
    may lie on a kink.
    """
    derivation = derive(claims.program, ())
    for k, sizes in enumerate(growing(spec)):
        rng = np.random.default_rng([k, 1])
        # At small sizes values that can be read and typed in.
        decimals = 2 if max((sizes[d] for d in spec.dims), default=1) <= 2 else 15
        tensors = draw(spec, sizes, rng, decimals)
        for y, seed in zip(spec.differentiable_outputs, claims.seeds, strict=True):
            value = rng.standard_normal(spec.shape(y, sizes))
            tensors[seed] = np.asarray(np.round(value, decimals))
        found = _compared(claims, derivation, target, sizes, tensors)
        if found is not None:
            near = _near(spec, sizes, tensors, rng)
            found = found if _compared(claims, derivation, target, sizes, near) else None
        yield found


def _near(
    spec: Spec, sizes: Mapping[str, Any], tensors: Mapping[str, Array], rng: np.random.Generator
) -> dict[str, Array]:
    """Return tensors moved a little, within their bounds, but for those that hold few values."""
    moved = dict(tensors)
    for name, value in tensors.items():
        declared = spec.tensors.get(name)
        if declared is None or not (declared.integer or declared.values):
            bounds = spec.bounds(name, sizes) if declared else None
            other = value + NEAR * rng.standard_normal(value.shape)
            moved[name] = np.asarray(np.clip(other, *bounds) if bounds else other)
    return moved


def _compared(
    claims: Claims,
    derivation: Derivation,
    target: str,
    sizes: Mapping[str, Any],
    tensors: Mapping[str, Array],
) -> Witness | None:
    """Return the element in which a claim is wrong at given values, None where it is right."""
    constants = {c: sizes[c] for c in claims.program.declared.constants}
    given = {claims.seeds.get(name, name): value for name, value in tensors.items()}
    exact = evaluate_exactly(derivation, Point(given, constants, sizes), ())
    at = derivation.program.declared.wanted.index(claims.names[target])
    claimed, derived = exact.outputs[at : at + 2]
    for index in np.ndindex(claimed.shape):
        a, b = claimed[index], derived[index]
        # Where one of them is no number neither is the other: x/x is 1 but at 0.
        if mpmath.isfinite(a) and mpmath.isfinite(b) and abs(a - b) > EQUAL * max(1, abs(b)):
            return Witness(sizes, tensors, index, float(a), float(b))
    return None


def growing(spec: Spec) -> Iterator[dict[str, Any]]:
    """Yield sizes with constants, small ones first; some more than once, up to POINTS in all."""
    few = len(spec.dims) <= MOST_COMBINED
    patterns = sorted(product((1, 2), repeat=len(spec.dims)), key=sum) if few else []
    patterns += [tuple(size + k % 2 for k in range(len(spec.dims))) for size in (1, 2, 3)]
    seen: list[dict[str, Any]] = []
    for pattern in patterns:
        for constants in spec.constant_choices[:POINTS]:
            at = next(spec.sizes(constants, dict(zip(spec.dims, pattern, strict=True))), None)
            if at is not None and {**constants, **at} not in seen:
                seen.append({**constants, **at})
    yield from islice(cycle(seen), max(POINTS, len(seen)))


def draw(
    spec: Spec, sizes: Mapping[str, Any], rng: np.random.Generator, decimals: int
) -> dict[str, Array]:
    """Return random values of unit size for the tensors that a spec is given, rounded."""
    tensors: dict[str, Array] = {}
    for name in spec.given:
        tensor, shape = spec.tensors[name], spec.shape(name, sizes)
        bounds = spec.bounds(name, sizes)
        if tensor.integer:
            low, high = bounds or (0, 0)
            tensors[name] = np.asarray(rng.integers(int(low), int(high) + 1, shape))
        elif tensor.values is not None:
            tensors[name] = np.asarray(rng.choice(np.array(tensor.values, float), shape))
        elif bounds is not None:
            tensors[name] = np.round(rng.uniform(*bounds, shape), decimals)
        else:
            tensors[name] = np.round(rng.standard_normal(shape), decimals) + 0.0
    return {k: np.asarray(v) for k, v in tensors.items()}
