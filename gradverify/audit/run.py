"""From a layer to its audit: which planted faults the checks catch, and why others survive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradverify.audit.fault import Fault, few
from gradverify.audit.faults import KINDS, faults
from gradverify.audit.site import Site, more_sites, sites_of
from gradverify.audit.survival import reason_and_remedy
from gradverify.audit.witness import Witness, witness
from gradverify.checks.names import NAMES
from gradverify.config import Profile
from gradverify.engine import first_error, profile_of
from gradverify.errors import UsageError, nearest
from gradverify.ground import ground_of
from gradverify.layer import Layer

# Of each kind at most so many are planted: with the thirty kinds that is some minutes at most.
EACH = 12


@dataclass(frozen=True)
class Survivor:
    """A planted fault that no check caught: why, and what would catch it."""

    fault: str
    kind: str
    what: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class LayerAudit:
    """What became of the faults planted in one layer, by kind: (planted, caught).

    `problem` says why none was planted.
    """

    layer: str
    source: str
    kinds: dict[str, tuple[int, int]]
    survivors: tuple[Survivor, ...] = ()
    problem: str = ""

    @property
    def planted(self) -> int:
        """How many faults were planted."""
        return sum(planted for planted, _ in self.kinds.values())

    @property
    def caught(self) -> int:
        """How many of them a check caught."""
        return sum(caught for _, caught in self.kinds.values())


def power(audits: Sequence[LayerAudit]) -> float | None:
    """Return the share of planted faults that were caught; None where nothing was planted."""
    planted = sum(a.planted for a in audits)
    return sum(a.caught for a in audits) / planted if planted else None


def checked_kinds(asked: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of faults that are asked for, all where none is; UsageError for others."""
    for kind in asked:
        if kind not in KINDS:
            raise UsageError(f"--kind: there is no kind of fault {kind!r}; {nearest(kind, KINDS)}")
    return tuple(k for k in KINDS if not asked or k in asked)


@np.errstate(all="ignore")  # what is planted may overflow anywhere
def audit(
    layer: Layer,
    *,
    profile: str | Profile = "default",
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    each: int = EACH,
    checks: Sequence[str] = NAMES,
) -> LayerAudit:
    """Plant faults in the gradients of a layer and ask the `checks`; `each` of a kind at most.

    A fault that changes nothing, in any case the spec allows that was looked at, is left out.
    """
    chosen = profile_of(profile)
    if (own := first_error(layer, chosen, checks, seed)) is not None:
        where = f" (of {own.tensor})" if own.tensor else ""
        return LayerAudit(
            layer.name, layer.location, {}, (),
            f"{layer.name} is failed by {own.check}: {own.question}{where}, before any fault is "
            "planted, so that nothing could be told of one: verify it first",
        )  # fmt: skip
    places = sites_of(layer.spec, ground_of(layer, chosen, seed).cases)
    counts: dict[str, tuple[int, int]] = {}
    survivors = []
    for fault in few(faults(layer, kinds), each, seed):
        shown = shows(fault, layer, places)
        if shown is None:
            continue
        planted, caught = counts.get(fault.kind, (0, 0))
        found = first_error(fault.layer(layer), chosen, checks, seed)
        counts[fault.kind] = planted + 1, caught + (found is not None)
        if found is None:
            told = reason_and_remedy(fault, layer, shown, places)
            survivors.append(Survivor(fault.name, fault.kind, fault.what, *told))
    return LayerAudit(layer.name, layer.location, counts, tuple(survivors))


def shows(fault: Fault, layer: Layer, places: Sequence[Site]) -> Witness | None:
    """Return where a fault shows: at one of the places if it can be, or at others."""
    return witness(fault, layer, places) or witness(fault, layer, more_sites(layer.spec))
