"""Whether a fault changes anything at all, and where: a fault that never shows is none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from gradverify.audit.calls import DIFFERENT, told_apart
from gradverify.audit.fault import Fault, Gradients
from gradverify.audit.site import Site
from gradverify.errors import SpecError
from gradverify.layer import Layer

# 50-digit evaluation takes some hundred microseconds a term: half a second for one gradient.
MOST_TERMS = 5_000
# Where float64 shows a difference it is looked at in 50 digits; that many times it may be wrong: in
# the cheapest cases, of sizes of 1, many a gradient is 0 but for rounding.
TRIES = 10


@dataclass(frozen=True)
class Witness:
    """Where a fault shows: the site, and by how much of the tensor's largest gradient."""

    site: Site
    tensor: str | None
    difference: float


def witness(fault: Fault, layer: Layer, where: Iterable[Site]) -> Witness | None:
    """Return where a fault shows, None where no site shows it: it may be none at all."""
    if fault.alter is None or layer.spec.program is None:
        for site in where:
            if site.smooth and (tensor := told_apart(layer, fault.layer(layer), site)) is not None:
                return Witness(site, tensor, float("inf"))
        return None
    try:
        return _exact_witness(fault, where)
    except (ArithmeticError, SpecError):  # what a changed definition says is no number anywhere
        return None


def _exact_witness(fault: Fault, where: Iterable[Site]) -> Witness | None:
    assert fault.alter is not None
    tries = 0
    for site in where:
        if not site.smooth:
            continue
        rough = _difference(site.derived.gradients, fault.alter(site.derived))
        if rough is None or rough[1] < 1e-12 or site.terms > MOST_TERMS:
            continue
        exact = site.exact.gradients
        if fault.derivation is None:
            altered = fault.alter(site.exact)
        else:
            altered = site.gradients_of(fault.derivation())
        found = _difference(exact, altered, site.magnitudes)
        if found is not None and found[1] > DIFFERENT:
            return Witness(site, found[0], float(found[1]))
        tries += 1
        if tries == TRIES:
            return None
    return None


def _difference(
    right: Gradients, wrong: Gradients, terms: Mapping[str, float] | None = None
) -> tuple[str, float] | None:
    """Return the tensor that differs most, and by how much of its terms or largest element."""
    found: list[tuple[float, str]] = []
    for tensor, g in right.items():
        other = wrong.get(tensor)
        if other is None or np.shape(other) != np.shape(g):
            return tensor, float("inf")
        a, b = np.asarray(g), np.asarray(other)
        if a.size == 0:
            continue
        with np.errstate(all="ignore"):
            most = terms[tensor] if terms else max(abs(x) for x in a.flat)
            off = max((abs(x - y) if x == x and y == y else float("inf"))
                      for x, y in zip(a.flat, b.flat, strict=True))  # fmt: skip
        if off:
            found.append((float(off / most) if most else float("inf"), tensor))
    return (max(found)[1], max(found)[0]) if found else None
