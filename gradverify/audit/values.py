"""Faults of values: gradients that are altered the same way at every call."""

from collections.abc import Callable, Iterator
from itertools import combinations
from math import prod

import numpy as np

from gradverify.audit.fault import Array, Asked, Change, Fault, Gradients, of_one, of_values
from gradverify.notation.tree import text
from gradverify.spec import Spec

# From gross to what is easily taken for rounding.
FACTORS = (2.0, 0.5, 1.001, 1 + 1e-6)


def value_faults(spec: Spec) -> Iterator[Fault]:
    """Yield the faults of values in the gradients of a layer of a spec."""
    for tensor in spec.differentiable:
        yield from _scaled(tensor)
        yield from _counted(spec, tensor)
        yield from _moved(spec, tensor)
        yield from _some(tensor)
        yield from _rounded(tensor)
    yield from _swapped(spec)
    yield from _of_cotangents(spec)


def _scaled(tensor: str) -> Iterator[Fault]:
    yield of_one("sign", tensor, "whole", "sign", f"the sign of d{tensor}", lambda g, _: -g)
    for factor in FACTORS:
        yield of_one("factor", tensor, f"{factor:.7g}", "factor", f"d{tensor} times {factor:.7g}",
                     _scaling(factor))  # fmt: skip
    yield of_one(
        "zeroed", tensor, "all", "missing path|factor", f"d{tensor} is zero", lambda g, _: 0 * g
    )


def _scaling(factor: float) -> Change:
    return lambda g, _: g * factor


def _times(amount: Callable[[Asked], float]) -> Change:
    return lambda g, point: g * amount(point)


def _counted(spec: Spec, tensor: str) -> Iterator[Fault]:
    """Yield sums for means and means for sums, over one dimension or two, and N-1 for N."""

    def count(names: tuple[str, ...]) -> Callable[[Asked], float]:
        return lambda point: float(prod(point.sizes.get(n, 1) for n in names))

    def unbiased(name: str) -> Callable[[Asked], float]:
        def ratio(point: Asked) -> float:
            n = point.sizes.get(name, 1)
            return n / (n - 1) if n > 1 else 1.0

        return ratio

    def inverse(amount: Callable[[Asked], float]) -> Callable[[Asked], float]:
        return lambda point: 1 / amount(point)

    for names in (*((d,) for d in spec.dims), *combinations(spec.dims, 2)):
        name = "*".join(names)
        amount = count(names)
        yield of_one("count", tensor, f"times-{name}", "count", f"d{tensor} times {name}",
                     _times(amount))  # fmt: skip
        yield of_one("count", tensor, f"by-{name}", "count", f"d{tensor} divided by {name}",
                     _times(inverse(amount)))  # fmt: skip
    for dim in spec.dims:
        what = f"d{tensor} with {dim}-1 where {dim} is derived"
        yield of_one("count", tensor, f"{dim}-1", "count", what, _times(unbiased(dim)))


def axes_of(spec: Spec, tensor: str) -> list[tuple[int, str]]:
    """Return the axes of a tensor, counted from the last, and their sizes as declared; none where
    a starred dimension could stand for nothing."""
    sizes = spec.shapes[tensor]
    return [(k - len(sizes), text(size)) for k, size in enumerate(sizes)
            if text(size) not in spec.stars]  # fmt: skip


def _moved(spec: Spec, tensor: str) -> Iterator[Fault]:
    def along(axis: int) -> Iterator[tuple[str, Change]]:
        yield "reversed", lambda g, _: np.flip(g, axis)
        yield "rolled", lambda g, _: np.roll(g, 1, axis)
        yield "summed", lambda g, _: np.broadcast_to(g.sum(axis=axis, keepdims=True), g.shape)

    def exchanged(a: int, b: int) -> Change:
        return lambda g, _: np.swapaxes(g, a, b).reshape(g.shape)

    axes = axes_of(spec, tensor)
    for axis, size in axes:
        for way, change in along(axis):
            yield of_one("axis", tensor, f"{way}[{axis}]", "axis", f"d{tensor} {way} along {size}",
                         change)  # fmt: skip
    for (a, first), (b, second) in combinations(axes, 2):
        yield of_one("transposed", tensor, f"[{a},{b}]", "transposed",
                     f"d{tensor} with {first} and {second} exchanged", exchanged(a, b))  # fmt: skip


def _some(tensor: str) -> Iterator[Fault]:
    """Yield what is wrong in one element only: dropped, or with the other sign."""

    def position(way: str, size: int) -> int:
        return {"first": 0, "last": size - 1, "middle": int(0.6 * size)}[way]

    def changed(way: str, factor: float) -> Change:
        def change(g: Array, _: Asked) -> Array:
            flat = g.reshape(-1).copy()
            flat[position(way, g.size)] *= factor
            return flat.reshape(g.shape)

        return change

    for way in ("first", "last", "middle"):
        yield of_one("dropped", tensor, way, "region", f"the {way} element of d{tensor} is 0",
                     changed(way, 0))  # fmt: skip
        yield of_one("sign", tensor, way, "region", f"the sign of the {way} element of d{tensor}",
                     changed(way, -1))  # fmt: skip


def _rounded(tensor: str) -> Iterator[Fault]:
    def through(dtype: str) -> Change:
        return lambda g, _: np.asarray(g, float).astype(dtype).astype(float)

    for dtype in ("float32", "float16"):
        yield of_one("precision", tensor, dtype, "precision", f"d{tensor} computed in {dtype}",
                     through(dtype))  # fmt: skip


def _swapped(spec: Spec) -> Iterator[Fault]:
    shapes = {t: tuple(map(text, spec.shapes[t])) for t in spec.differentiable}
    for a, b in combinations(spec.differentiable, 2):
        if shapes[a] != shapes[b] or spec.ones.get(a) != spec.ones.get(b):
            continue

        def swapped(point: Asked, a: str = a, b: str = b) -> Gradients:
            g = point.gradients
            if a not in g or b not in g or np.shape(g[a]) != np.shape(g[b]):
                return g  # one may be of size 1 where the other is of size N
            return g | {a: g[b], b: g[a]}

        yield of_values("swapped", f"swapped:{a}:{b}", "swapped", f"d{a} for d{b}", swapped)


def _of_cotangents(spec: Spec) -> Iterator[Fault]:
    """Yield gradients that are no linear function of the cotangent, or not of all of it."""
    ways: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
        ("absolute", "the absolute value of the cotangent is used", np.abs),
        ("clipped", "the cotangent is clipped to -1..1", lambda dy: np.clip(dy, -1, 1)),
        ("ignored", "the cotangent is ignored: as if it were 1", np.ones_like),
        ("positive", "negative elements of the cotangent are dropped",
         lambda dy: np.maximum(dy, 0)),
    )  # fmt: skip
    for way, what, change in ways:

        def altered(point: Asked, change: Callable[[Array], Array] = change) -> Gradients:
            return dict(point.pullback(*map(change, point.cotangents)))

        yield of_values("cotangent", f"cotangent:{way}", "cotangent", what, altered)
    outputs = spec.differentiable_outputs
    for k, output in enumerate(outputs if len(outputs) > 1 else ()):

        def without(point: Asked, k: int = k) -> Gradients:
            given = [0 * dy if j == k else dy for j, dy in enumerate(point.cotangents)]
            return dict(point.pullback(*given))

        yield of_values("missing path", f"missing path:from:{output}", "missing path",
                        f"the cotangent of {output} is ignored", without)  # fmt: skip

    def doubled(point: Asked) -> Gradients:
        wrong = sum(float(np.sum(dy)) for dy in point.cotangents) < 0
        return {k: 2 * g if wrong else g for k, g in point.gradients.items() if g is not None}

    what = "gradients are doubled where the cotangent adds up to less than 0"
    yield of_values("cotangent", "cotangent:negative", "cotangent", what, doubled)
