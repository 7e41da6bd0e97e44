"""One case as data: `str(case)` is one line, which `parse_case` reads back; and simpler ones."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from gradverify.calculus.point import Point
from gradverify.declare import DTYPES
from gradverify.errors import UsageError
from gradverify.spec import Spec
from gradverify.view import View, factored, forms

# How arrays lie in memory: "broadcast" repeats elements with a stride of 0 along the axes on
# which the values allow it, and in "mixed" every tensor has a layout of its own.
LAYOUTS = ("C", "F", "strided", "negative", "readonly", "broadcast", "mixed")
# What the values of the inputs look like. "large" saturates softmax and gates, "huge" overflows
# exp, at "tiny" an eps is all that is left of a denominator, "offset" shows cancellation, one
# sign shows formulas that are right on one side only.
VALUES = ("ordinary", "small", "large", "offset", "positive", "negative", "tiny", "huge", "ties",
          "constant")  # fmt: skip
# Of these, equal values, exact zeros and inputs that are constant along an axis, which show what is
# divided by or multiplied with 0. They may be on kinks: not every check can be asked there.
AT_KINKS = ("ties", "constant")
# And those of the parameters: formulas that divide by one, or that are right for small ones only.
# All elements are "equal" where a parameter starts as ones.
PARAMS = ("ordinary", "negative", "zeros", "large", "tiny", "equal")
COTANGENTS = ("signed", "sparse", "one-hot", "negative", "large", "tiny")


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
    params: str = "ordinary"

    def __str__(self) -> str:
        made = {k: f"({','.join(map(str, v))})" for k, v in self.leading if len(v) != 1}
        parts = [f"{k}={made.get(k, v)}" for k, v in (*self.sizes, *self.constants)]
        parts += [f"{k}={shape}" for k, shape in self.shapes]
        parts += [f"dtype={self.dtype}", f"layout={self.layout}", f"values={self.values}"]
        # Most are, and a line that does not say so is shorter.
        parts += [f"params={self.params}"] * (self.params != "ordinary")
        parts += [f"cotangent={self.cotangent}", f"seed={self.seed}"]
        return " ".join(parts)

    @property
    def at(self) -> dict[str, Any]:
        """Sizes and constants by name."""
        return {**dict(self.sizes), **dict(self.constants)}

    def other(self, k: int = 1) -> "Case":
        """Return the same case at other values: the k-th from here."""
        return replace(self, seed=(self.seed + k) % 2**32)

    def point(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Point:
        """Return where a definition is computed that is given these tensors."""
        return Point(tensors, dict(self.constants), dict(self.sizes))

    @property
    def ordinary(self) -> bool:
        """Whether values, parameters and cotangents are neither large nor small nor special."""
        return (self.values, self.params, self.cotangent) == ("ordinary", "ordinary", "signed")

    @property
    def special(self) -> bool:
        """Whether values or parameters are such as may be on kinks: equal ones, and zeros."""
        return self.values in AT_KINKS or self.params in ("zeros", "equal")

    @property
    def weight(self) -> tuple[int, int]:
        """How far the case is from the simplest one; a smaller case shows more."""
        plain = (self.dtype == "float64") + (self.layout == "C") + (self.values == "ordinary")
        plain += self.params == "ordinary"
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
    found.setdefault("params", "ordinary")
    shapes = forms(spec)
    known = {*spec.dims, *spec.constants, *shapes, "dtype", "layout", "values", "params",
             "cotangent", "seed"}  # fmt: skip
    if wrong := sorted(found.keys() ^ known):
        verb = "names nothing" if wrong[0] in found else "is missing"
        raise UsageError(f"case: {wrong[0]} {verb}; a case of {spec.name} gives {sorted(known)}")
    for key, allowed in (
        ("dtype", DTYPES),
        ("layout", LAYOUTS),
        ("values", VALUES),
        ("params", PARAMS),
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
        found["params"],
    )  # fmt: skip


def view_of(spec: Spec, case: Case) -> View:
    """Return how a layer sees the tensors of a definition in a case."""
    known = forms(spec)
    single = {k: known[k][shape] for k, shape in case.shapes}
    return View(spec, case.at, dict(case.leading), single)


def smaller(spec: Spec, case: Case) -> Iterator[Case]:
    """Yield cases that are simpler than `case`, simplest first, for shrinking a failure."""
    plain = {"layout": "C", "values": "ordinary", "params": "ordinary", "cotangent": "signed",
             "dtype": "float64"}  # fmt: skip
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
    # All together first: what needs equal sizes is lost when only one of them changes.
    trials = [{k: max(1, n // 2) for k, n in sizes.items()}] * (len(sizes) > 1)
    trials += [{k: max(1, n - 1) for k, n in sizes.items()}] * (len(sizes) > 1)
    for name, size in sizes.items():
        trials += [{**sizes, name: n} for n in sorted({1, 2, size // 2, size - 1}) if 1 <= n < size]
    for trial in trials:
        allowed = next(spec.sizes(dict(case.constants), trial), None)
        if allowed is not None and sum(allowed.values()) < sum(sizes.values()):
            made = tuple((k, factored(allowed[k], n)) for k, n in ranks.items())
            yield replace(case, sizes=tuple(allowed.items()), leading=made)
