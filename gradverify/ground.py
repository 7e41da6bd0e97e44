"""What layers of a spec are judged at: cases, what is covered, what is derived zero; each once."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np

from gradverify.cases import Case, cases, covering_set, drawn_cases, is_large
from gradverify.coverage import coverage
from gradverify.declare import DTYPES
from gradverify.layer import Layer
from gradverify.proof import vanishes
from gradverify.regular import settled
from gradverify.result import Coverage
from gradverify.spec import Spec
from gradverify.trial import Trial, make_oracle

PROVEN = "proven for all sizes"
# A tensor is derived zero where it is below this fraction of its own terms, in 50-digit
# arithmetic: 40 digits, with room for what cancels on the way.
ZERO, ZERO_CASES = 1e-40, 3
# In float64 such a tensor is this small beside its terms; only then is it looked at exactly.
NEARLY_ZERO = 1e-9
# Cases that are drawn at once where time is short, and how far the seeds of such parts are apart.
DRAWN_AT_ONCE, APART = 25, 1_000_003
DIGITS = f"to 40 digits, in 50-digit arithmetic at {ZERO_CASES} cases; no proof was found"


@dataclass(frozen=True)
class Ground:
    """The cases of a run, the tensors whose derived gradient is zero, and what to say of both.

    The first `covering` of the cases are those of the covering set; `undrawn` more were to be drawn
    when there was no time left for it. `changed` are cases at which the definition was not finite
    or not away from its kinks, each with what came instead.
    """

    dtypes: tuple[str, ...]
    cases: tuple[Case, ...]
    zero: frozenset[str]
    remarks: tuple[str, ...]
    coverage: Coverage | None = None
    covering: int = 0
    undrawn: int = 0
    changed: tuple[tuple[Case, Case | None], ...] = ()


def ground_of(
    layer: Layer,
    covering: int | None,
    drawn: int,
    seed: int,
    sizes: Mapping[str, int] | None = None,
    *,
    tried: Sequence[str] | None = None,
    seconds: float | None = None,
) -> Ground:
    """Return where a layer is judged: rows of the covering set (None: all) and cases drawn, in
    those dtypes that it accepts and that are `tried` (None: all).

    No more cases are drawn after half of the `seconds` that there are to judge it.
    """
    accepted = _accepted(layer, seed)
    dtypes = tuple(d for d in accepted if tried is None or d in tried)
    remarks = []
    if layer.dtypes is None and accepted == ("float64",) and takes_floats(layer.spec):
        remarks.append("float32 input is not accepted; verified in float64 only")
    if left_out := [d for d in accepted if d not in dtypes]:
        remarks.append(
            f"{', '.join(left_out)} not tried: the profile names {', '.join(tried or ())} only"
        )
    if not dtypes:
        return Ground((), (), frozenset(), tuple(remarks))
    fixed = tuple(sorted((sizes or {}).items()))
    ground = _ground(layer.spec, dtypes, covering, drawn, seed, fixed, seconds)
    return replace(ground, remarks=(*remarks, *ground.remarks))


def shortened(
    ground: Ground, spec: Spec, asked: Sequence[Case], why: str, sizes: Mapping[str, int] | None
) -> Ground:
    """Return the ground of the cases that checks were asked in, with a remark why no more of those
    drawn were."""
    chosen, remarks = tuple(asked), ground.remarks
    drawn = len(ground.cases) - ground.covering + ground.undrawn
    left = len(ground.cases) + ground.undrawn - len(chosen)
    if chosen == ground.cases and not left:
        return ground
    if drawn and left > 0:
        told = f"the {drawn}" if left == drawn else f"{left} of {drawn}"
        remarks = (*remarks, f"{told} drawn cases were left out: {why}")
    covered = coverage(spec, ground.dtypes, chosen, ground.changed, sizes or {})
    return replace(ground, cases=chosen, coverage=covered, remarks=remarks)


def rows_of(
    ground: Ground, spec: Spec, seed: int, sizes: Mapping[str, int] | None, start: int, stop: int
) -> Iterator[Case]:
    """Yield the cases that rows of the covering set become, each when it is wanted."""
    for row in islice(covering_set(spec, ground.dtypes, seed, dict(sizes or {})), start, stop):
        yield from _settled(spec, [row])[0]


def single(layer: Layer, case: Case) -> Ground:
    """Return one given case to judge a layer at."""
    known = derived_zero(layer.spec, case.dtype, [case])
    told = ("one case only: nothing is verified by it", *_redundant(known))
    return Ground((case.dtype,), (case,), frozenset(known), told, covering=1)


@lru_cache(maxsize=8)  # it is the same for all layers of a spec
def _ground(
    spec: Spec,
    dtypes: tuple[str, ...],
    covering: int | None,
    drawn: int,
    seed: int,
    sizes: tuple[tuple[str, int], ...],
    seconds: float | None = None,
) -> Ground:
    until = float("inf") if seconds is None else time.perf_counter() + seconds / 2
    rows = islice(covering_set(spec, dtypes, seed, dict(sizes)), covering)
    chosen, changed = _settled(spec, rows)
    covered = len(chosen)
    undrawn = drawn
    while undrawn and time.perf_counter() < until:
        # In one go, or in parts where time may run out.
        count = undrawn if seconds is None else min(undrawn, DRAWN_AT_ONCE)
        listed = drawn_cases(spec, dtypes, count, seed + (drawn - undrawn) * APART, dict(sizes))
        more, changed_more = _settled(spec, listed)
        chosen, changed, undrawn = chosen + more, changed + changed_more, undrawn - count
    remarks = []
    if given_up := [old for old, new in changed if new is None]:
        remarks.append(
            f"{len(given_up)} case(s) dropped: no values found at which the definition is "
            "finite and away from its kinks"
        )
    known = derived_zero(spec, next(d for d in DTYPES if d in dtypes), chosen)
    remarks += _redundant(known)
    return Ground(
        dtypes, tuple(chosen), frozenset(known), tuple(remarks),
        coverage(spec, dtypes, chosen, changed, dict(sizes)), covered, undrawn, tuple(changed),
    )  # fmt: skip


def _redundant(known: Mapping[str, str]) -> list[str]:
    remarks = []
    for how in (PROVEN, DIGITS):
        if found := sorted(t for t in known if known[t] == how):
            verb = "is" if len(found) == 1 else "are"
            remarks.append(
                f"{', '.join(found)} {verb} redundant: the derived gradient is zero ({how})"
            )
    return remarks


def takes_floats(spec: Spec) -> bool:
    """Whether anything tells a layer of a precision."""
    return not all(spec.tensors[k].integer for k in spec.given)


def _accepted(layer: Layer, seed: int) -> tuple[str, ...]:
    """Return the dtypes that a layer declares, or those it accepts when tried."""
    if layer.dtypes is not None:
        return layer.dtypes
    if not takes_floats(layer.spec):
        return ("float64",)  # nothing tells the layer of another
    oracle = make_oracle(layer.spec)
    first = next(cases(layer.spec, ("float32",), 0, seed), None)
    if first is None or Trial(layer, first, oracle).failure is None:
        return ("float64", "float32")
    double = Trial(layer, replace(first, dtype="float64"), oracle)
    # A layer that raises in float64 too is broken, not particular.
    return ("float64",) if double.failure is None else ("float64", "float32")


def _settled(
    spec: Spec, wanted: Iterable[Case]
) -> tuple[list[Case], list[tuple[Case, Case | None]]]:
    """Return cases at which the definition is finite and away from its kinks; and, for those that
    there was nothing such for, the case that came instead, None where none did."""
    oracle, found = make_oracle(spec), list[Case]()
    changed: list[tuple[Case, Case | None]] = []
    for case in wanted:
        calm = replace(case, values="ordinary")
        # What only these values make impossible is drawn at others: its sizes and layout count.
        for possible in dict.fromkeys((case, calm, replace(calm, params="ordinary"))):
            if (usable := settled(spec, oracle, possible)) is not None:
                found.append(usable)
                if possible is not case:
                    changed.append((case, usable))
                break
        else:
            changed.append((case, None))
    return found, changed


def derived_zero(spec: Spec, dtype: str, chosen: Sequence[Case]) -> dict[str, str]:
    """Return the tensors whose derived gradient is zero in cases of a dtype, and how it is known.

    Where it is zero at several cases it is proven for all sizes; if no proof is found, zero to 40
    digits at these cases is taken for it.
    """
    oracle = make_oracle(spec)
    if oracle is None:
        return {}
    # No layer is called to know what is derived.
    layer = Layer(spec, derived_zero, name="", file="")
    cotangents = oracle.derivation.cotangents
    zero = {t: PROVEN for t in spec.differentiable if t not in cotangents}
    # Where values are ordinary, terms are not zero for their own sake.
    calm = sorted(chosen, key=lambda c: (c.values, c.params) != ("ordinary", "ordinary"))
    trials = [Trial(layer, c, oracle) for c in calm if c.dtype == dtype][:8]
    candidates = set(spec.differentiable) - zero.keys()
    for trial in trials:
        if not candidates:
            break
        reference = trial.unmeasured if is_large(spec) else trial.reference
        candidates = {
            t for t in candidates
            if np.max(np.abs(reference.gradients[t]), initial=0.0)
            <= NEARLY_ZERO * reference.allowed_gradients[t].terms
        }  # fmt: skip
    zero |= {t: PROVEN for t in sorted(candidates) if vanishes(spec, t)}
    candidates -= zero.keys()
    if not candidates:
        return zero
    exact = list(islice((e for t in trials if (e := t.exact) is not None), ZERO_CASES))
    if len(exact) < ZERO_CASES:
        return zero
    for tensor in sorted(candidates):
        tops = [max(e.magnitudes[tensor].flat, default=0) for e in exact]
        sizes = [max((abs(g) for g in e.gradients[tensor].flat), default=0) for e in exact]
        # Terms that are zero themselves are a matter of values: nothing cancels in the derivation.
        pairs = zip(tops, sizes, strict=True)
        if all(top > 0 and size <= ZERO * top for top, size in pairs):
            zero[tensor] = DIGITS
    return zero
