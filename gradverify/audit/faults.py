"""All faults of a layer, by kind."""

from collections.abc import Iterable

from gradverify.audit.behaviour import behaviour_faults
from gradverify.audit.conditions import conditional_faults
from gradverify.audit.derivation import derivation_faults
from gradverify.audit.fault import Fault, numbered
from gradverify.audit.source import source_faults
from gradverify.audit.values import value_faults
from gradverify.errors import UsageError, nearest
from gradverify.layer import Layer

KINDS = (
    "sign", "factor", "count", "axis", "transposed", "dropped", "zeroed", "swapped", "broadcast",
    "shape", "missing", "dtype", "precision", "stale", "accumulated", "mutated", "reused", "noise",
    "second call", "cotangent", "size", "region", "layout", "values", "constant", "float32",
    "missing path", "negated path", "scaled path", "miscounted path", "missing factor", "eps",
    "mistaken tensor", "source",
)  # fmt: skip


def faults(layer: Layer, kinds: Iterable[str] = KINDS) -> list[Fault]:
    """Return all faults of some kinds that can be planted in a layer, each with its own name."""
    spec = layer.spec
    found = [
        *value_faults(spec), *behaviour_faults(spec), *conditional_faults(spec),
        *derivation_faults(spec), *source_faults(layer),
    ]  # fmt: skip
    wanted = set(kinds)
    return [fault for fault in numbered(found) if fault.kind in wanted]


def fault(layer: Layer, name: str) -> Fault:
    """Return the fault of a layer by its name; UsageError where there is none."""
    known = {f.name: f for f in faults(layer, (name.partition(":")[0],))}
    if name not in known:
        raise UsageError(f"{layer.name} has no fault {name!r}; {nearest(name, known)}")
    return known[name]
