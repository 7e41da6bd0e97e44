"""Where something is wrong: what failing cases have in common, and what wrong elements have."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb
from operator import attrgetter
from typing import Any

import numpy as np

from gradverify.cases import Array, Case
from gradverify.diagnose.sample import Evidence, Sample
from gradverify.notation.tree import text

# Of the elements that a condition names, this fraction has to be wrong where it would show.
MOSTLY = 0.9
# Fewer passing cases than this fraction of the failing ones have by chance what those have.
BY_CHANCE = 0.3
# Where there are fewer ways to choose which of the cases are to fail, something separates them by
# chance: two of six have a layout each that the others have not.
BELIEVED = 50
# So many values of one factor can have something in common.
MOST_LISTED = 3


@dataclass(frozen=True)
class Condition:
    """When, or in which elements, something is wrong; `mask` for one of elements."""

    kind: str
    text: str
    mask: Callable[[Sample], Array | None] | None = None


def of_cases(failing: Sequence[Sample], passing: Sequence[Sample]) -> Condition | None:
    """Return what all failing cases have in common and no passing one has, None if nothing.

    A few passing ones may have it where nothing separates them all: what is wrong may agree with
    what is right by chance, a sum over one element with that element.
    """
    if comb(len(failing) + len(passing), len(passing)) < BELIEVED:
        return None
    best, fewest = None, 0.0
    for kind, told, holds in _case_conditions(failing, passing):
        if not all(map(holds, failing)):
            continue
        chance = sum(map(holds, passing))
        if chance == 0:
            return Condition(kind, f"where {told}")
        few = chance < BY_CHANCE * min(len(failing), len(passing))
        if few and (best is None or chance < fewest):
            best, fewest = Condition(kind, f"where {told}"), chance
    return best


_Holds = Callable[[Sample], bool]
_Told = tuple[str, str, _Holds]


def _case_conditions(failing: Sequence[Sample], passing: Sequence[Sample]) -> Iterator[_Told]:
    """Yield conditions on cases, the likeliest cause first."""
    first = failing[0].case
    spec = failing[0].trial.spec

    def listed(kind: str, name: str, read: Callable[[Case], Any]) -> Iterator[_Told]:
        yield from _listed(kind, name, lambda s: read(s.case), failing, passing)

    for name in ("layout", "dtype"):
        yield from listed(name, name, attrgetter(name))
    for name in spec.constants:
        yield from listed("constant", name, lambda c, n=name: c.at[n])  # type: ignore[misc]
    for name, _ in first.shapes:
        yield from listed("shape", name, lambda c, n=name: dict(c.shapes)[n])  # type: ignore[misc]
    for name in spec.stars:
        yield from listed(
            "size", f"the number of dimensions {name}",
            lambda c, n=name: len(dict(c.leading)[n]),  # type: ignore[misc]
        )  # fmt: skip
    tensors = [t for t in (failing[0].tensor, *spec.given) if t in failing[0].trial.wide.tensors]
    tensors = list(dict.fromkeys(tensors))
    yield from _of_sizes(spec.dims)
    for name in tensors:
        yield from _of_values(name)
    # What separates numbers at all is more often chance than what has a name.
    for name in spec.dims:
        yield from _beyond("size", name, lambda s, n=name: s.case.at[n], failing, passing)  # type: ignore[misc]
    for name in tensors:
        largest = f"the largest |{name}|"
        yield from _beyond("values", largest, partial(_largest, name), failing, passing)
    for kind, name in (("values", "values"), ("values", "params"), ("cotangent", "cotangent")):
        yield from listed(kind, name, attrgetter(name))


def _of_sizes(dims: Sequence[str]) -> Iterator[_Told]:
    def where(told: str, test: Callable[..., bool], *names: str) -> _Told:
        return "size", told, lambda s: test(*(s.case.at[n] for n in names))

    for d in dims:
        yield where(f"{d} = 1", lambda n: n == 1, d)
    for a, b in combinations(dims, 2):
        yield where(f"{a} = {b}", lambda n, m: n == m, a, b)
        yield where(f"{a} and {b} differ", lambda n, m: n != m, a, b)
    for d in dims:
        yield where(f"{d} is odd", lambda n: n % 2 == 1, d)
        yield where(f"{d} is odd and not 1", lambda n: n % 2 == 1 and n > 1, d)
        yield where(f"{d} is even", lambda n: n % 2 == 0, d)


def _of_values(name: str) -> Iterator[_Told]:
    """Yield conditions on all elements of a tensor together."""

    def where(told: str, test: Callable[[Array], Any]) -> _Told:
        return "values", told, lambda s: bool(test(s.trial.wide.tensors[name]))

    equal = f"all elements of {name} are equal"
    yield where(equal, lambda x: x.size > 1 and np.all(x == x.flat[0]))
    yield where(f"{equal}, or there is one", lambda x: np.all(x == x.flat[:1]))
    yield where(f"an element of {name} is 0", lambda x: np.any(x == 0))
    yield where(f"no element of {name} is negative", lambda x: np.all(x >= 0))
    yield where(f"no element of {name} is positive", lambda x: np.all(x <= 0))


def _largest(name: str, sample: Sample) -> float:
    return float(np.max(np.abs(sample.trial.wide.tensors[name]), initial=0.0))


def _beyond(
    kind: str,
    what: str,
    read: Callable[[Sample], float],
    failing: Sequence[Sample],
    passing: Sequence[Sample],
) -> Iterator[_Told]:
    """Yield that a number is larger in failing cases than in any passing one, or smaller."""
    wrong, right = [read(s) for s in failing], [read(s) for s in passing]
    low, high = min(right), max(right)
    if min(wrong) > high:
        told = f"{what} is {min(wrong):g} or more (right up to {high:g})"
        yield kind, told, lambda s: read(s) > high
    if max(wrong) < low:
        told = f"{what} is {max(wrong):g} or less (right from {low:g} on)"
        yield kind, told, lambda s: read(s) < low


def _listed(
    kind: str,
    name: str,
    read: Callable[[Sample], Any],
    failing: Sequence[Sample],
    passing: Sequence[Sample],
) -> Iterator[_Told]:
    """Yield that a factor has one of the values it has in failing cases, none in passing ones."""
    wrong, right = {read(s) for s in failing}, {read(s) for s in passing}
    right -= wrong
    if not right or min(len(wrong), len(right)) > MOST_LISTED:
        return  # what separates only many values from many says nothing
    if len(wrong) <= len(right):
        told = f"{name} = {' or '.join(sorted(map(str, wrong)))}"
    else:
        told = f"{name} is not {' or '.join(sorted(map(str, right)))}"
    yield kind, told, lambda s: read(s) in wrong


def of_elements(evidence: Evidence) -> Condition | None:
    """Return what the wrong elements have in common and no right one has, None if nothing.

    Nothing is said where all elements that would show it are wrong.
    """
    failing = evidence.failing
    if not failing or all(bool(np.all(s.wrong | ~s.visible)) for s in failing):
        return None
    for condition in _element_conditions(failing):
        if condition.mask is not None and _separates(condition.mask, evidence):
            return condition
    return None


def _separates(mask_of: Callable[[Sample], Array | None], evidence: Evidence) -> bool:
    excluded = False
    for sample in evidence.failing:
        mask = mask_of(sample)
        if mask is None or mask.shape != sample.wrong.shape or np.any(sample.wrong & ~mask):
            return False
        shown = mask & (sample.visible | sample.wrong)
        if np.count_nonzero(sample.wrong) < MOSTLY * np.count_nonzero(shown):
            return False
        excluded |= bool(np.any(sample.visible & ~mask))
    if not excluded:
        return False
    for sample in evidence.passing:
        mask = mask_of(sample)
        if mask is None or mask.shape != sample.wrong.shape:
            return False
        if np.count_nonzero(mask & sample.visible) > (1 - MOSTLY) * mask.size:
            return False
    return True


def _element_conditions(failing: Sequence[Sample]) -> Iterator[Condition]:
    first = failing[0]
    spec, tensor = first.trial.spec, first.tensor
    names = [tensor, *(t for t in spec.given if t != tensor)]
    for name in names:
        if name not in first.trial.wide.tensors:
            continue
        for told, test in (
            ("{} < 0", lambda x: x < 0), ("{} > 0", lambda x: x > 0), ("{} = 0", lambda x: x == 0),
            ("{} <= 0", lambda x: x <= 0), ("{} >= 0", lambda x: x >= 0),
        ):  # fmt: skip
            yield Condition("region", "where " + told.format(name), _of_tensor(name, test))
        yield from _beyond_value(failing, name)
    for k, output in enumerate(spec.differentiable_outputs):
        for told, test in (("{} < 0", lambda x: x < 0), ("{} > 0", lambda x: x > 0)):
            yield Condition(
                "cotangent", "where " + told.format(f"d{output}"), _of_cotangent(k, test)
            )
    for axis in range(first.expected.ndim):
        yield from _along(failing, axis)
    yield from _single(failing)


def _of_tensor(name: str, test: Callable[[Array], Array]) -> Callable[[Sample], Array | None]:
    def mask(sample: Sample) -> Array | None:
        return _like(test(sample.trial.wide.tensors[name]), name, sample)

    return mask


def _of_cotangent(k: int, test: Callable[[Array], Array]) -> Callable[[Sample], Array | None]:
    def mask(sample: Sample) -> Array | None:
        name = sample.trial.spec.differentiable_outputs[k]
        return _like(test(sample.trial.wide.cotangents[k]), name, sample)

    return mask


def _like(mask: Array, name: str, sample: Sample) -> Array | None:
    """Return a mask over one tensor as one over the sample's: of the same shape, or broadcast
    along the dimensions that only the sample has; None where it is neither."""
    if mask.shape == sample.expected.shape:
        return np.asarray(mask)
    shapes = sample.trial.spec.shapes
    own, wanted = (list(map(text, shapes[t])) for t in (name, sample.tensor))
    if sample.trial.view.changes or len(set(wanted)) < len(wanted) or not set(own) < set(wanted):
        return None
    if [d for d in wanted if d in own] != own:
        return None
    shape = [n if d in own else 1 for d, n in zip(wanted, sample.expected.shape, strict=True)]
    return np.broadcast_to(mask.reshape(shape), sample.expected.shape)


def _beyond_value(failing: Sequence[Sample], name: str) -> Iterator[Condition]:
    """Yield that only elements of large absolute value are wrong, or only small ones."""
    wrong, right = [], []
    for sample in failing:
        value = np.abs(np.asarray(sample.trial.wide.tensors[name], float))
        if value.shape != sample.wrong.shape:
            return
        wrong.append(value[sample.wrong])
        # What is exactly 0 is often told from what is next to it.
        right.append(value[~sample.wrong & sample.visible & (value > 0)])
    bad, good = np.concatenate(wrong), np.concatenate(right)
    if not good.size:
        return
    if (least := float(bad.min())) > (most := float(good.max())):
        yield Condition(
            "region", f"where |{name}| is {least:.3g} or more (right up to {most:.3g})",
            _of_tensor(name, lambda x: np.abs(x) >= least),
        )  # fmt: skip
    if 0 < float(bad.min()) <= (most := float(bad.max())) < (least := float(good.min())):
        yield Condition(
            "region", f"where |{name}| is {most:.3g} or less (right from {least:.3g} on)",
            _of_tensor(name, lambda x: (np.abs(x) > 0) & (np.abs(x) <= most)),
        )  # fmt: skip


def _along(failing: Sequence[Sample], axis: int) -> Iterator[Condition]:
    """Yield that only a part of the indices along an axis is wrong: from one on, one, the last."""
    places = []
    for sample in failing:
        others = tuple(k for k in range(sample.wrong.ndim) if k != axis)
        places.append(np.flatnonzero(np.any(sample.wrong, axis=others)))
    first = min(int(p[0]) for p in places if p.size)

    def indices(test: Callable[[Array, int], Array]) -> Callable[[Sample], Array | None]:
        def mask(sample: Sample) -> Array | None:
            if sample.expected.ndim <= axis:
                return None
            n = sample.expected.shape[axis]
            shape = [1] * sample.expected.ndim
            shape[axis] = n
            along = np.asarray(test(np.arange(n), n)).reshape(shape)
            return np.broadcast_to(along, sample.expected.shape)

        return mask

    if first > 0:
        yield Condition(
            "region", f"where the index along axis {axis} is {first} or more",
            indices(lambda i, n: i >= first),
        )  # fmt: skip
    yield Condition(
        "region", f"where the index along axis {axis} is {first}", indices(lambda i, n: i == first)
    )
    last = max(int(p[-1]) for p in places if p.size)
    yield Condition(
        "region", f"where the index along axis {axis} is {last} or less",
        indices(lambda i, n: i <= last),
    )  # fmt: skip
    yield Condition(
        "region", f"at the last index along axis {axis}", indices(lambda i, n: i == n - 1)
    )


def _single(failing: Sequence[Sample]) -> Iterator[Condition]:
    """Yield that one element alone is wrong, the first or the last or the same in all cases."""
    if any(np.count_nonzero(s.wrong) > 1 for s in failing):
        return
    yield Condition("region", "in one element", lambda s: s.wrong)
