"""Which checks on which cases; and from their observations to statuses and a verdict."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from gradverify import __version__
from gradverify.attribution import odd_one_out
from gradverify.calculus.compile import Oracle
from gradverify.cases import Case, cases
from gradverify.checks import CHECKS
from gradverify.checks.names import NAMES, NEED_DEFINITION
from gradverify.coverage import coverage
from gradverify.diagnose import Diagnoses
from gradverify.diagnose.state import follows
from gradverify.errors import UsageError, nearest
from gradverify.findings import finding_for
from gradverify.layer import Layer, from_registration
from gradverify.proof import vanishes
from gradverify.result import (
    Finding,
    LayerResult,
    Report,
    Status,
    Verdict,
)
from gradverify.shrink import shrunk
from gradverify.spec import REGISTERED, Spec
from gradverify.tally import MIN_POWERED, Seen, applicable, check_result
from gradverify.trial import Trial, make_oracle, settled


@dataclass(frozen=True)
class Profile:
    """How much to try: rows of the covering set (None: all), cases that Hypothesis draws after
    it, and how many cases the checks that call the layer many times look at."""

    covering: int | None
    drawn: int
    sampled: int


_PROFILES = {
    "quick": Profile(14, 0, 6),
    "default": Profile(None, 25, 24),
    "thorough": Profile(None, 400, 120),
}
PROFILES = tuple(_PROFILES)

# A sampled check looks at this many times as many cases where those did not tell right from wrong.
MORE = 3

PROVEN = "proven for all sizes"
# A tensor is derived zero where it is below this fraction of its own terms, in 50-digit
# arithmetic: 40 digits, with room for what cancels on the way.
ZERO, ZERO_CASES = 1e-40, 3
# In float64 such a tensor is this small beside its terms; only then is it looked at exactly.
NEARLY_ZERO = 1e-9
DIGITS = f"to 40 digits, in 50-digit arithmetic at {ZERO_CASES} cases; no proof was found"


def verify(
    layer: Layer | Callable[..., Any],
    *,
    profile: str = "default",
    checks: Sequence[str] | None = None,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
) -> Report:
    """Verify one layer in this process and return the Report; never raises for a wrong layer.

    `layer` is a Layer or a registered function; `checks` names those to ask (default: all) and
    `sizes` fixes dimensions. Raises UsageError for a name that is not known, and for sizes that
    the spec does not allow.
    """
    found = layer if isinstance(layer, Layer) else _registered(layer)
    names = checked_names(checks)
    if seed < 0:
        raise UsageError(f"seed={seed}: a seed is 0 or more")
    _check_sizes(found.spec, sizes or {})
    result = verify_layer(found, profile_of(profile), names, seed, sizes=sizes)
    return Report(__version__, profile, seed, (result,))


def checked_names(checks: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of checks in their order; UsageError names the nearest for a wrong one."""
    if checks is None:
        return NAMES
    for name in checks:
        if name not in NAMES:
            raise UsageError(f"there is no check {name!r}; {nearest(name, NAMES)}")
    return tuple(n for n in NAMES if n in checks)


def _check_sizes(spec: Spec, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if name not in spec.dims:
            raise UsageError(f"{spec.name} has no dimension {name!r}; {nearest(name, spec.dims)}")
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"sizes: {name}={size!r} is not a whole number from 1")
    if not any(next(spec.sizes(c, {}, sizes), None) for c in spec.constant_choices):
        told = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise UsageError(f"{spec.name} does not allow the sizes {told}")


def profile_of(name: str) -> Profile:
    """Return a profile by its name; UsageError names the nearest for a wrong one."""
    if name not in _PROFILES:
        raise UsageError(f"there is no profile {name!r}; {nearest(name, PROFILES)}")
    return _PROFILES[name]


def _registered(function: Callable[..., Any]) -> Layer:
    for entry in REGISTERED.values():
        if entry.function is function:
            return from_registration(entry)
    if isinstance(function, Spec):
        raise UsageError(
            f"verify({function!r}): it judges layers: give it a function that is registered with "
            "the spec, or Layer(spec, function)"
        )
    raise UsageError(
        f"{getattr(function, '__name__', function)!r} is registered with no spec: write "
        "@spec.register above it, or pass Layer(spec, function)"
    )


@np.errstate(all="ignore")  # what a wrong layer returns may overflow anywhere
def verify_layer(
    layer: Layer,
    profile: Profile,
    names: Sequence[str],
    seed: int,
    *,
    sizes: Mapping[str, int] | None = None,
    case: Case | None = None,
) -> LayerResult:
    """Put the checks to a layer over the cases of a profile, or over one given case."""
    spec, oracle = layer.spec, make_oracle(layer.spec)
    remarks, covered = [], None
    dtypes = _accepted(layer, oracle, seed)
    if layer.dtypes is None and len(dtypes) == 1 and not _integers_only(spec):
        remarks.append("float32 input is not accepted; verified in float64 only")
    if case is not None:
        chosen = [case]
        remarks.append("one case only: nothing is verified by it")
    else:
        listed = cases(spec, dtypes, profile.drawn, seed, sizes)
        wanted = islice(listed, profile.covering) if profile.covering else listed
        chosen, changed = _settled(layer, oracle, wanted)
        if given_up := [old for old, new in changed if new is None]:
            remarks.append(
                f"{len(given_up)} case(s) dropped: no values found at which the definition is "
                "finite and away from its kinks"
            )
        covered = coverage(spec, dtypes, chosen, changed, sizes or {})
    known = derived_zero(oracle, layer, chosen)
    zero = frozenset(known)
    for how in (PROVEN, DIGITS):
        if found := sorted(t for t in known if known[t] == how):
            verb = "is" if len(found) == 1 else "are"
            remarks.append(
                f"{', '.join(found)} {verb} redundant: the derived gradient is zero ({how})"
            )
    seen = _ask(layer, oracle, chosen, names, profile, zero)
    least = 0 if case is not None else MIN_POWERED
    results = tuple(check_result(CHECKS[n], layer, seen.get(n), zero, least) for n in NAMES)
    findings = tuple(_findings(layer, oracle, seen, zero, () if case is not None else chosen))
    needed = [r for r in results if oracle is not None or r.check not in NEED_DEFINITION]
    if any(f.severity == "error" for f in findings):
        verdict = Verdict.FAILED
    elif case is None and all(r.status in (Status.PASSED, Status.NOT_APPLICABLE) for r in needed):
        verdict = Verdict.VERIFIED
    else:
        verdict = Verdict.INCOMPLETE
    if oracle is None:
        remarks.append("verified without a definition" if verdict is Verdict.VERIFIED
                       else "without a definition")  # fmt: skip
    return LayerResult(
        spec.name, layer.name, layer.location, verdict, results, findings, tuple(remarks), covered
    )


def _integers_only(spec: Spec) -> bool:
    return all(spec.tensors[k].integer for k in spec.given)


def _accepted(layer: Layer, oracle: Oracle | None, seed: int) -> tuple[str, ...]:
    """Return the dtypes that a layer declares, or those it accepts when tried."""
    if layer.dtypes is not None:
        return layer.dtypes
    if _integers_only(layer.spec):
        return ("float64",)  # nothing tells the layer of another
    first = next(cases(layer.spec, ("float32",), 0, seed), None)
    if first is None or Trial(layer, first, oracle).failure is None:
        return ("float64", "float32")
    double = Trial(layer, replace(first, dtype="float64"), oracle)
    # A layer that raises in float64 too is broken, not particular.
    return ("float64",) if double.failure is None else ("float64", "float32")


def _settled(
    layer: Layer, oracle: Oracle | None, wanted: Iterable[Case]
) -> tuple[list[Case], list[tuple[Case, Case | None]]]:
    """Return cases at which the definition is finite and away from its kinks; and, for those that
    there was nothing such for, the case that came instead, None where none did."""
    found: list[Case] = []
    changed: list[tuple[Case, Case | None]] = []
    for case in wanted:
        calm = replace(case, values="ordinary")
        # What only these values make impossible is drawn at others: its sizes and layout count.
        for possible in dict.fromkeys((case, calm, replace(calm, params="ordinary"))):
            if (usable := settled(layer.spec, oracle, possible)) is not None:
                found.append(usable)
                if possible is not case:
                    changed.append((case, usable))
                break
        else:
            changed.append((case, None))
    return found, changed


def derived_zero(oracle: Oracle | None, layer: Layer, chosen: Sequence[Case]) -> dict[str, str]:
    """Return the tensors whose derived gradient is zero, and how that is known.

    Where it is zero at several cases it is proven for all sizes; if no proof is found, zero to 40
    digits at these cases is taken for it.
    """
    if oracle is None:
        return {}
    cotangents = oracle.derivation.cotangents
    zero = {t: PROVEN for t in layer.spec.differentiable if t not in cotangents}
    # Where values are ordinary, terms are not zero for their own sake.
    calm = sorted(chosen, key=lambda c: (c.values, c.params) != ("ordinary", "ordinary"))
    trials = [Trial(layer, c, oracle) for c in calm if c.dtype == layer.widest][:8]
    candidates = set(layer.spec.differentiable) - zero.keys()
    for trial in trials:
        if not candidates:
            break
        reference = trial.reference
        candidates = {
            t for t in candidates
            if np.max(np.abs(reference.gradients[t]), initial=0.0)
            <= NEARLY_ZERO * reference.allowed_gradients[t].terms
        }  # fmt: skip
    zero |= {t: PROVEN for t in sorted(candidates) if vanishes(layer.spec, t)}
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


def _ask(
    layer: Layer,
    oracle: Oracle | None,
    chosen: Sequence[Case],
    names: Sequence[str],
    profile: Profile,
    zero: frozenset[str],
    *,
    until_error: bool = False,
) -> dict[str, Seen]:
    seen = {n: Seen() for n in names if applicable(CHECKS[n], layer) is None}
    for case in chosen:
        trial = Trial(layer, case, oracle, zero)
        for name, so_far in seen.items():
            check = CHECKS[name]
            if not check.wants(trial) or (trial.kinked and not check.at_kinks):
                continue
            # Cases on kinks are few, and what is asked of them costs little.
            if check.sampled and so_far.asked >= profile.sampled and not trial.kinked:
                known = {t for t, n in so_far.powered.items() if n >= MIN_POWERED} | zero
                enough = known.issuperset(check.tensors(layer.spec))
                if enough or so_far.asked >= MORE * profile.sampled:
                    continue
            if trial.failure is not None and name != "contract":
                so_far.lost += 1
                continue
            began = time.perf_counter()
            so_far.cases += 1
            for observation in check.observe(trial):
                so_far.note(case, observation)
                failed = observation.outcome is Status.FAILED
                if until_error and failed and observation.severity == "error":
                    return seen
            so_far.seconds += time.perf_counter() - began
    return seen


@np.errstate(all="ignore")
def first_error(
    layer: Layer, profile: Profile, names: Sequence[str] = NAMES, seed: int = 0
) -> Finding | None:
    """Return the first error that `verify_layer` meets, neither shrunk nor explained, or None.

    Checks that call the layer many times are asked after all others.
    """
    oracle, dtypes = make_oracle(layer.spec), _accepted(layer, make_oracle(layer.spec), seed)
    chosen, zero = _ground(layer.spec, dtypes, profile, seed)
    for sampled in (False, True):
        asked = [n for n in names if CHECKS[n].sampled == sampled]
        seen = _ask(layer, oracle, chosen, asked, profile, zero, until_error=True)
        for name, so_far in seen.items():
            for case, told in (pair for pairs in so_far.failures.values() for pair in pairs):
                if told.severity == "error":
                    return Finding(name, told.question, told.message, tensor=told.tensor,
                                   case=str(case))  # fmt: skip
    return None


def cases_of(layer: Layer, profile: Profile, seed: int) -> tuple[Case, ...]:
    """Return the cases at which a layer is verified."""
    dtypes = _accepted(layer, make_oracle(layer.spec), seed)
    return _ground(layer.spec, dtypes, profile, seed)[0]


@lru_cache(maxsize=8)  # it is the same for all layers of a spec
def _ground(
    spec: Spec, dtypes: tuple[str, ...], profile: Profile, seed: int
) -> tuple[tuple[Case, ...], frozenset[str]]:
    """Return the cases of a profile and the tensors whose derived gradient is zero."""
    # No layer is called for this.
    layer, oracle = Layer(spec, _ground, name="", file=""), make_oracle(spec)
    listed = cases(spec, dtypes, profile.drawn, seed)
    wanted = islice(listed, profile.covering) if profile.covering else listed
    chosen, _ = _settled(layer, oracle, wanted)
    return tuple(chosen), frozenset(derived_zero(oracle, layer, chosen))


def _follows(question: str, tensor: str | None, seen: Mapping[str, Seen]) -> bool:
    """Whether a failure of `contract` only follows from another one."""
    if question == "precision" and "symbolic" in seen:
        # A wrong formula may lose digits where the right one does not.
        if any(t == tensor for _, t in seen["symbolic"].failures):
            return True
    return follows(question, tensor, seen["contract"].failures)


def _findings(
    layer: Layer,
    oracle: Oracle | None,
    seen: Mapping[str, Seen],
    zero: frozenset[str],
    chosen: Sequence[Case],
) -> Iterator[Finding]:
    """Yield a finding for each question and tensor that failed: shrunk, with what is wrong.

    Without `chosen`, the cases that were tried, a finding is of its case as it is.
    """
    shared = seen["contract"].failures if "contract" in seen else ()
    diagnoses = Diagnoses(chosen, shared)
    for name, so_far in seen.items():
        wrong = {t for (_, t), told in so_far.failures.items() if told[0][1].severity == "error"}
        for (question, tensor), told in so_far.failures.items():
            if told[0][1].severity == "warning" and tensor in wrong:
                continue  # what is wrong is not worth calling inaccurate as well
            if name == "contract" and _follows(question, tensor, seen):
                continue
            case, observation = min(told, key=lambda t: t[0].weight)
            trial = Trial(layer, case, oracle, zero)
            if chosen:
                trial, observation = shrunk(trial, CHECKS[name], observation)
            observation = CHECKS[name].located(trial, observation)
            failing = {at for at, _ in told}
            cause = diagnoses.of(trial, name, observation, failing)
            odd = odd_one_out(trial, observation) if name != "contract" else None
            yield finding_for(trial, name, observation, len(failing), cause, odd)
