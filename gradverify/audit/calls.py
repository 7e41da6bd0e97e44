"""Whether two layers behave alike: what they return in any order of calls, and what they change."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradverify.audit.site import Site
from gradverify.cases import Array, draw, with_layout
from gradverify.layer import Layer
from gradverify.replayed import Unavailable, replay
from gradverify.trial import Trial, make_oracle

# Two 50-digit numbers that differ by more of what they are the sums of are different: 20 digits
# are for what rounds on the way.
DIFFERENT = 1e-30
# In float64 they differ by more than rounding, which is the same in both but for what is altered.
BY_ROUNDING = 1e-10

Behaviour = dict[tuple[str, str], Any]  # by stage and tensor


def told_apart(right: Layer, wrong: Layer, site: Site) -> str | None:
    """Return the tensor that tells two layers apart, "" for what is none, None where none does.

    Gradients that differ in float64 do so in 50 digits too, where the layers can be replayed.
    """
    one, other = behaviour(right, site), behaviour(wrong, site)
    if one is None or other is None:
        return None  # it raises: nothing that anyone has to be shown
    keys = [k for k in {**one, **other}
            if k not in one or k not in other or not _same(one[k], other[k])]  # fmt: skip
    if not keys:
        return None
    values = all(stage.endswith("gradient") for stage, _ in keys)
    if values and ("gradient", keys[0][1]) in keys and _same_exactly(right, wrong, site):
        return None
    return keys[0][1]


def _same_exactly(right: Layer, wrong: Layer, site: Site) -> bool:
    """Whether the pullbacks return the same in 50 digits; False where nobody can know."""
    if site.special or site.case.dtype != "float64":
        return False
    oracle = make_oracle(site.spec)
    one, other = (replay(Trial(layer, site.case, oracle)) for layer in (right, wrong))
    if isinstance(one, Unavailable) or isinstance(other, Unavailable) or one.keys() != other.keys():
        return False
    return all(
        a.shape == other[k].shape
        and _most(a - other[k]) <= DIFFERENT * max(_most(a), _most(other[k]))
        for k, a in one.items()
    )


def _most(array: Array) -> Any:
    return max((abs(x) for x in array.flat), default=0)


def behaviour(layer: Layer, site: Site) -> Behaviour | None:
    """Return what a layer does in calls one after the other, None where one raises."""
    case = site.case
    # Arrays of its own: a faulty layer may change them.
    given, fresh = (replace(site).arrays for _ in range(2))
    other = draw(site.spec, case.other())
    constants = dict(case.constants)
    found: Behaviour = {}

    def note(stage: str, values: Mapping[str, Any]) -> None:
        for k, v in values.items():
            array = None if v is None else np.array(v)
            found[stage, k] = array
            found[f"{stage}: dtype", k] = None if array is None else str(array.dtype)

    def cotangents() -> tuple[Array, ...]:
        return tuple(with_layout(np.array(dy), case.layout) for dy in fresh.cotangents)

    try:
        with np.errstate(all="ignore"):
            outputs, pullback = layer.forward(given.tensors, constants)
            named = dict(zip(site.spec.outputs, outputs, strict=True))
            note("output", named)
            first = layer.gradients(pullback, given.cotangents)
            note("gradient", first)
            note("second gradient", layer.gradients(pullback, cotangents()))
            note("given", given.tensors)
            note("cotangent", dict(zip(site.spec.differentiable_outputs, given.cotangents,
                                       strict=True)))  # fmt: skip
            _, another = layer.forward(other.tensors, constants)
            note("other gradient", layer.gradients(another, other.cotangents))
            note("kept output", named)
            note("kept gradient", first)
            note("late gradient", layer.gradients(pullback, cotangents()))
    except Exception:
        return None
    return found


def _same(a: Any, b: Any) -> bool:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray) and bool(a == b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fiub" or a.size == 0:
        return True
    x, y = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(all="ignore"):
        near = np.abs(x - y) <= BY_ROUNDING * np.max(np.abs(x), initial=0.0)
    return bool(np.all(near | (x == y) | (np.isnan(x) & np.isnan(y))))
