"""What layers of a spec are judged at: cases, what is covered, what is derived zero; each once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np

from gradverify.cases import Case, cases, covering_set, drawn_cases, is_large
from gradverify.config import Profile
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
# So many cases are asked whether it may be zero.
TRIED = 8
# In float64 such a tensor is this small beside its terms; only then is it looked at exactly.
NEARLY_ZERO = 1e-9
# Cases that are drawn at once, and how far the seeds of such parts are apart.
DRAWN_AT_ONCE, APART = 25, 1_000_003
DIGITS = f"to 40 digits, in 50-digit arithmetic at {ZERO_CASES} cases; no proof was found"


class Drawn:
    """Cases drawn after the covering set's, a part of them at a time and each part once, when it is
    wanted: where something is wrong, or time is short, they are not.

    `left` are still to be drawn; `changed` is that of a Ground.
    """

    def __init__(
        self, spec: Spec, dtypes: Sequence[str], count: int, seed: int, sizes: Mapping[str, int]
    ) -> None:
        self.left, self.changed = count, list[tuple[Case, Case | None]]()
        self._cases = list[Case]()
        self._spec, self._dtypes, self._seed, self._sizes = spec, dtypes, seed, sizes

    def __iter__(self) -> Iterator[Case]:
        k = 0
        while k < len(self._cases) or self.left:
            if k == len(self._cases):
                self._draw()
            else:
                yield self._cases[k]
                k += 1

    @property
    def most(self) -> int:
        """How many there are, or may be."""
        return len(self._cases) + self.left

    def _draw(self) -> None:
        count = min(self.left, DRAWN_AT_ONCE)
        listed = drawn_cases(self._spec, self._dtypes, count, self._seed, self._sizes)
        found, changed = _settled(self._spec, listed)
        self._cases += found
        self.changed += changed
        self.left -= count
        self._seed += APART


@dataclass(frozen=True)
class Ground:
    """The cases of a run, the tensors whose derived gradient is zero, and what to say of both.

    `rows` are the cases of the covering set, `drawn` those after them, None where there is one
    given case. `changed` are rows at which the definition was not finite or not away from its
    kinks, each with what came instead.
    """

    dtypes: tuple[str, ...]
    rows: tuple[Case, ...]
    zero: frozenset[str]
    remarks: tuple[str, ...]
    drawn: Drawn | None = None
    changed: tuple[tuple[Case, Case | None], ...] = ()

    @property
    def cases(self) -> Iterator[Case]:
        """All cases; what is drawn is so when it is come to."""
        yield from self.rows
        yield from self.drawn or ()


def ground_of(
    layer: Layer, profile: Profile, seed: int, sizes: Mapping[str, int] | None = None
) -> Ground:
    """Return where a layer is judged: in rows of the covering set and cases drawn, as many as a
    profile has, in those dtypes that the layer accepts and the profile tries."""
    accepted, tried = _accepted(layer, seed), profile.dtypes
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
    ground = _ground(layer.spec, dtypes, profile.covering, profile.drawn, seed, fixed)
    return replace(ground, remarks=(*remarks, *ground.remarks))


def looked_at(
    ground: Ground, spec: Spec, asked: Sequence[Case], why: str, sizes: Mapping[str, int] | None
) -> tuple[tuple[str, ...], Coverage | None]:
    """Return what to say of the cases that checks were asked in, and what they cover: how many
    there were none for, and `why` no more of those drawn were asked."""
    if ground.drawn is None:
        return ground.remarks, None
    remarks, changed = [*ground.remarks], [*ground.changed, *ground.drawn.changed]
    if given_up := [old for old, new in changed if new is None]:
        remarks.append(
            f"{len(given_up)} case(s) dropped: no values found at which the definition is "
            "finite and away from its kinks"
        )
    drawn = ground.drawn.most
    left = len(ground.rows) + drawn - len(asked)
    if drawn and left > 0:
        told = f"the {drawn}" if left == drawn else f"{left} of {drawn}"
        remarks.append(f"{told} drawn cases were left out: {why}")
    return tuple(remarks), coverage(spec, ground.dtypes, asked, changed, sizes or {})


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
    return Ground((case.dtype,), (case,), frozenset(known), told)


@lru_cache(maxsize=8)  # it is the same for all layers of a spec
def _ground(
    spec: Spec,
    dtypes: tuple[str, ...],
    covering: int | None,
    drawn: int,
    seed: int,
    sizes: tuple[tuple[str, int], ...],
) -> Ground:
    rows, changed = _settled(spec, islice(covering_set(spec, dtypes, seed, dict(sizes)), covering))
    more, dtype = (
        Drawn(spec, dtypes, drawn, seed, dict(sizes)),
        next(d for d in DTYPES if d in dtypes),
    )
    few = sum(case.dtype == dtype for case in rows) < TRIED
    known = derived_zero(spec, dtype, [*rows, *islice(more, TRIED)] if few else rows)
    told = tuple(_redundant(known))
    return Ground(dtypes, tuple(rows), frozenset(known), told, more, tuple(changed))


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
    trials = [Trial(layer, c, oracle) for c in calm if c.dtype == dtype][:TRIED]
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
