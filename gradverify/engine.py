"""Which checks on which cases; and from their observations to statuses and a verdict."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gradverify import __version__
from gradverify.attribution import odd_offered, odd_one_out
from gradverify.cases import Case, is_large, least_elements, parse_case
from gradverify.checks import CHECKS
from gradverify.checks.names import GOOD, NAMES, holds_up
from gradverify.checks.observation import Observation
from gradverify.checks.offered import KINDS
from gradverify.config import PROFILES, Profile, read_config
from gradverify.declare import checked_dtypes
from gradverify.diagnose import Diagnoses
from gradverify.diagnose.state import follows
from gradverify.environment import environment, project_root
from gradverify.errors import UsageError, nearest
from gradverify.evidence import Evidence
from gradverify.findings import finding_for
from gradverify.ground import Ground, ground_of, shortened, single
from gradverify.layer import Layer, registered
from gradverify.result import (
    IGNORED,
    CheckResult,
    Finding,
    LayerResult,
    Report,
    Status,
    Verdict,
)
from gradverify.shrink import Shrinker
from gradverify.spec import Spec
from gradverify.tally import (
    LARGE_POWERED,
    MIN_POWERED,
    Seen,
    applicable,
    check_result,
    least_powered,
)
from gradverify.trial import Known, Trial, make_oracle

# Checks that compare a gradient with another source.
SOURCES = ("symbolic", "finite_difference", "exact", "descent")
# And those that see the digits that a gradient loses, where it is compared with anything.
DIFFERENCES = ("finite_difference", "exact", "kinks", "descent")
# In so many cases do checks that call the layer many times look at one that is known to be wrong:
# of what is derived they can only say the same.
FEW = 2 * MIN_POWERED
# A layer whose tensors cannot be small is judged at so many rows of the covering set at most; at
# no more than are needed to tell right from wrong, of which one at least is of each precision.
LARGE_ROWS = 2 * LARGE_POWERED


def verify(
    layer: Layer | Callable[..., Any],
    *,
    profile: str | Profile = "default",
    checks: Sequence[str] | None = None,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    case: str | None = None,
    evidence: bool = False,
) -> Report:
    """Verify one layer in this process and return the Report; never raises for a wrong layer.

    `layer` is a Layer or a registered function; `profile` one that is built in, one by its name
    in the pyproject.toml that is here, or a Profile; `checks` names those to ask (default: all)
    and `sizes` fixes dimensions. `case` is one case, as a finding prints it, to judge the layer at
    instead of those of the profile; `evidence` keeps what an HTML report shows beside the findings:
    equations, curves and heat maps. Raises UsageError for a name that is not known, and for sizes
    that the spec does not allow.
    """
    found = layer if isinstance(layer, Layer) else registered(layer)
    names = checked_names(checks)
    if seed < 0:
        raise UsageError(f"seed={seed}: a seed is 0 or more")
    _check_sizes(found.spec, sizes or {})
    chosen = profile_of(profile)
    checked_dtypes(chosen.dtypes)
    one = None if case is None else parse_case(case, found.spec)
    result = verify_layer(found, chosen, names, seed, sizes=sizes, case=one, evidence=evidence)
    here = Path.cwd()
    return Report(__version__, chosen.name, seed, (result,), environment=environment(),
                  folder=str(here), root=str(project_root(here)))  # fmt: skip


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


def profile_of(profile: Profile | str) -> Profile:
    """Return a profile by its name, built in or the project's own that is here; UsageError names
    the nearest for a wrong one."""
    if isinstance(profile, Profile):
        return profile
    if profile in PROFILES:
        return PROFILES[profile]
    return read_config(Path.cwd()).profile_named(profile)


@np.errstate(all="ignore")  # what a wrong layer returns may overflow anywhere
def verify_layer(
    layer: Layer,
    profile: Profile,
    names: Sequence[str],
    seed: int,
    *,
    sizes: Mapping[str, int] | None = None,
    case: Case | None = None,
    ignored: Mapping[str, str] | None = None,
    evidence: bool = False,
) -> LayerResult:
    """Put the checks to a layer over the cases of a profile, or over one given case.

    Checks that are `ignored`, with the reason, are not required; one source of gradients is.
    """
    began = time.perf_counter()
    spec, oracle = layer.spec, make_oracle(layer.spec)
    profile = _of_size(profile, spec)
    ground = (
        single(layer, case) if case is not None
        else ground_of(layer, profile.covering, profile.drawn, seed, sizes,
                       tried=profile.dtypes, seconds=profile.seconds)
    )  # fmt: skip
    known = Known()
    seen, asked, why = _ask(layer, ground, names, profile, began, known)
    looked_at = shortened(ground, spec, asked, why, sizes)
    remarks = [*(_size_told(spec, asked) if case is None else ()), *looked_at.remarks]
    least = 0 if case is not None else least_powered(spec)
    told = (check_result(CHECKS[n], layer, seen.get(n), ground.zero, least) for n in NAMES)
    results = tuple(_with_reason(result, ignored or {}) for result in told)
    others = ground.cases[asked:]
    findings = tuple(_findings(layer, looked_at, seen, others, known, explore=case is None))
    compared = any(r.status in GOOD for r in results if r.check in SOURCES)
    if any(f.severity == "error" for f in findings):
        verdict = Verdict.FAILED
    elif case is None and compared and not any(holds_up(r, bare=oracle is None) for r in results):
        verdict = Verdict.VERIFIED
    else:
        verdict = Verdict.INCOMPLETE
    if oracle is None:
        remarks.append("verified without a definition" if verdict is Verdict.VERIFIED
                       else "without a definition")  # fmt: skip
    return LayerResult(
        spec.name,
        layer.name,
        layer.location,
        verdict,
        results,
        findings,
        tuple(remarks),
        looked_at.coverage,
        _evidence(layer, looked_at, seen) if evidence else None,
    )


def _evidence(layer: Layer, ground: Ground, seen: Mapping[str, Seen]) -> Evidence:
    from gradverify.gather import gather  # slow to import, and seldom wanted

    return gather(layer, ground, seen)


def _with_reason(result: CheckResult, ignored: Mapping[str, str]) -> CheckResult:
    """Return the result of a check with the reason, where it was not asked since it is ignored."""
    if result.status is Status.SKIPPED and result.check in ignored:
        return replace(result, reason=IGNORED + ignored[result.check])
    return result


def _of_size(profile: Profile, spec: Spec) -> Profile:
    """Return a profile with fewer cases for a layer of fixed sizes that are large."""
    if not is_large(spec):
        return profile
    covering = min(LARGE_ROWS, LARGE_ROWS if profile.covering is None else profile.covering)
    return replace(profile, covering=covering, drawn=0, sampled=min(1, profile.sampled))


def _size_told(spec: Spec, asked: int) -> list[str]:
    """Return the remark that a layer of large fixed sizes was judged at a few cases."""
    if not is_large(spec):
        return []
    return [
        f"judged at {asked} cases, what takes many calls at the plainest only, since a tensor has "
        f"{least_elements(spec):,} elements or more; with dimensions in place of fixed sizes, "
        "small ones are tried, in many more cases"
    ]


def _told(layer: Layer, ground: Ground, seen: Mapping[str, Seen], asked: int) -> bool:
    """Whether the first cases tell all that is asked of a layer of large fixed sizes."""
    dtypes = [case.dtype for case in ground.cases[:asked]]
    return (
        is_large(layer.spec)
        and {*dtypes} == {*ground.dtypes}
        and all(s.told({*CHECKS[n].tensors(layer.spec)} - ground.zero)
                or len(s.declined) == s.cases > 0 for n, s in seen.items())
    )  # fmt: skip


def _ask(
    layer: Layer,
    ground: Ground,
    names: Sequence[str],
    profile: Profile,
    began: float,
    known: Known,
    *,
    until_error: bool = False,
) -> tuple[dict[str, Seen], int, str]:
    """Return what the checks said, in how many cases they were asked, and why in no more: drawn
    ones are not needed where the covering set shows an error, and there may be no time for them."""
    seen = {
        n: Seen(least_powered(layer.spec)) for n in names if applicable(CHECKS[n], layer) is None
    }
    until = float("inf") if profile.seconds is None else began + profile.seconds
    spent = f"the {profile.seconds or 0:g} s of profile {profile.name} were spent"
    oracle, wrong = make_oracle(layer.spec), False
    for asked, case in enumerate(ground.cases):
        if asked >= ground.covering and wrong:
            return seen, asked, "the others show what is wrong"
        if asked >= ground.covering and time.perf_counter() > until:
            return seen, asked, spent
        if not wrong and _told(layer, ground, seen, asked):
            return seen, asked, ""
        trial = Trial(layer, case, oracle, ground.zero, known=known)
        few = wrong and oracle is not None
        said: list[tuple[str, Observation]] = []
        for name, so_far in seen.items():
            check = CHECKS[name]
            if not check.asks(trial):
                continue
            # Cases on kinks and ties are few, and what is asked of them costs little.
            wanted = set() if few else set(check.tensors(layer.spec)) - ground.zero
            special = trial.kinked or trial.tied
            if so_far.enough(check, wanted, case, FEW if few else profile.sampled) and not special:
                continue
            if check.loses(trial):
                so_far.lost += 1
                continue
            start = time.perf_counter()
            so_far.cases += 1
            said += [(name, observation) for observation in check.observe(trial)]
            so_far.seconds += time.perf_counter() - start
            trial.release(name)
        inaccurate = {o.tensor for name, o in said
                      if name == "symbolic" and o.question == "inaccurate"}  # fmt: skip
        for name, observation in said:
            failed = observation.outcome is Status.FAILED
            if failed and observation.tensor in inaccurate and _sees_digits(name, observation):
                continue
            seen[name].note(case, observation)
            wrong |= failed and observation.severity == "error"
        if until_error and wrong:
            break
    return seen, len(ground.cases), spent


def _sees_digits(name: str, observation: Observation) -> bool:
    """Whether a failure is one of the digits that are lost where `symbolic` has told so."""
    return name in DIFFERENCES or observation.question == "precision"


@np.errstate(all="ignore")
def first_error(
    layer: Layer, profile: Profile, names: Sequence[str] = NAMES, seed: int = 0
) -> Finding | None:
    """Return the first error that `verify_layer` meets, neither shrunk nor explained, or None.

    Checks that call the layer many times are asked after all others.
    """
    began = time.perf_counter()
    profile = _of_size(profile, layer.spec)
    ground = ground_of(layer, profile.covering, profile.drawn, seed,
                       tried=profile.dtypes, seconds=profile.seconds)  # fmt: skip
    for sampled in (False, True):
        asked = [n for n in names if CHECKS[n].sampled == sampled]
        seen, *_ = _ask(layer, ground, asked, profile, began, Known(), until_error=True)
        for name, so_far in seen.items():
            for case, told in (pair for pairs in so_far.failures.values() for pair in pairs):
                if told.severity == "error":
                    return Finding(name, told.question, told.message, tensor=told.tensor,
                                   case=str(case))  # fmt: skip
    return None


def _follows(question: str, tensor: str | None, seen: Mapping[str, Seen]) -> bool:
    """Whether a failure of `contract` only follows from another one."""
    symbolic = seen["symbolic"].failures if "symbolic" in seen else {}
    wrong_in = {case.layout for (_, t), told in symbolic.items() if t == tensor for case, _ in told}
    # A wrong formula may lose digits where the right one does not, or all of them: they are others
    # in every order of memory then.
    if (question == "precision" and wrong_in) or (question == "layout" and "C" in wrong_in):
        return True
    return follows(question, tensor, seen["contract"].failures)


def _findings(
    layer: Layer,
    ground: Ground,
    seen: Mapping[str, Seen],
    others: Sequence[Case],
    known: Known,
    *,
    explore: bool,
) -> Iterator[Finding]:
    """Yield a finding for each question and tensor that failed, with what is wrong.

    To `explore` is to look for a smaller case and at others, `others` too that no check was asked
    of; else it is of its case as it is.
    """
    told_of = set(seen["contract"].failures) if "contract" in seen else set()
    following = {(q, t) for q, t in told_of if _follows(q, t, seen)}
    tried = ground.cases if explore else ()
    diagnoses = Diagnoses(tried, others, told_of - following)
    shrinker = Shrinker()
    for name, so_far in seen.items():
        wrong = {t for (_, t), told in so_far.failures.items() if told[0][1].severity == "error"}
        for (question, tensor), told in so_far.failures.items():
            if told[0][1].severity == "warning" and tensor in wrong:
                continue  # what is wrong is not worth calling inaccurate as well
            if name == "contract" and (question, tensor) in following:
                continue
            if name in KINDS and follows(question, tensor, so_far.failures):
                continue
            case, observation = min(told, key=lambda t: t[0].weight)
            trial = Trial(layer, case, make_oracle(layer.spec), ground.zero, known=known)
            if explore:
                trial, observation = shrinker.shrunk(trial, CHECKS[name], observation)
            observation = CHECKS[name].located(trial, observation)
            failing = {at for at, _ in told}
            cause = diagnoses.of(trial, name, observation, failing)
            odd = None
            if name in SOURCES:
                odd = odd_one_out(trial, observation, shrinker.answers)
            elif name in KINDS:
                odd = odd_offered(trial, name, question, shrinker.answers)
            yield finding_for(trial, name, observation, len(failing), cause, odd)
