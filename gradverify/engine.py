"""Which checks on which cases; and from their observations to statuses and a verdict."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gradverify import __version__
from gradverify.asking import Asking, of_size, size_told
from gradverify.attribution import odd_offered, odd_one_out
from gradverify.cases import Case, parse_case
from gradverify.checks import CHECKS
from gradverify.checks.names import NAMES
from gradverify.checks.offered import KINDS
from gradverify.config import PROFILES, Profile, read_config
from gradverify.declare import checked_dtypes
from gradverify.diagnose import Diagnoses
from gradverify.diagnose.state import follows
from gradverify.environment import environment, project_root
from gradverify.errors import UsageError, nearest
from gradverify.evidence import Evidence
from gradverify.findings import finding_for
from gradverify.ground import ground_of, looked_at, single
from gradverify.layer import Layer, registered
from gradverify.result import (
    GOOD,
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
from gradverify.tally import Seen, check_result, least_powered
from gradverify.trial import Trial, make_oracle

# Checks that compare a gradient with another source.
SOURCES = ("symbolic", "finite_difference", "exact", "descent")


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
    profile = of_size(profile, spec)
    ground = single(layer, case) if case is not None else ground_of(layer, profile, seed, sizes)
    asking = Asking(layer, ground, profile, names, began)
    asking.everywhere()
    if case is None:
        asking.beyond(seed, sizes)
    seen = asking.seen
    told_of_cases, coverage = looked_at(ground, spec, asking.asked, asking.left, sizes)
    remarks = [*(size_told(spec, len(asking.asked)) if case is None else ()), *told_of_cases]
    least = 0 if case is not None else least_powered(spec)
    findings = tuple(_findings(asking, explore=case is None))
    told = (check_result(CHECKS[n], layer, seen.get(n), ground.zero, least) for n in NAMES)
    results = tuple(_with_reason(result, ignored or {}) for result in told)
    compared = any(r.status in GOOD for r in results if r.check in SOURCES)
    if any(f.severity == "error" for f in findings):
        verdict = Verdict.FAILED
    elif case is None and compared and not any(r.blocks for r in results):
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
        coverage,
        _evidence(asking) if evidence else None,
    )


def _evidence(asking: Asking) -> Evidence:
    from gradverify.gather import gather  # slow to import, and seldom wanted

    return gather(asking.layer, replace(asking.ground, rows=tuple(asking.asked), drawn=None),
                  asking.seen)  # fmt: skip


def _with_reason(result: CheckResult, ignored: Mapping[str, str]) -> CheckResult:
    """Return the result of a check with the reason, where it was not asked since it is ignored."""
    if result.status is Status.SKIPPED and result.check in ignored:
        return replace(result, reason=IGNORED + ignored[result.check])
    return result


@np.errstate(all="ignore")
def first_error(
    layer: Layer, profile: Profile, names: Sequence[str] = NAMES, seed: int = 0
) -> Finding | None:
    """Return the first error that `verify_layer` meets, neither shrunk nor explained, or None.

    Checks that call the layer many times are asked after all others.
    """
    began = time.perf_counter()
    profile = of_size(profile, layer.spec)
    ground = ground_of(layer, profile, seed)
    for sampled in (False, True):
        asked = [n for n in names if CHECKS[n].sampled == sampled]
        asking = Asking(layer, ground, profile, asked, began)
        asking.everywhere(until_error=True)
        asking.beyond(seed, None)
        for name, so_far in asking.seen.items():
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


def _findings(asking: Asking, *, explore: bool) -> Iterator[Finding]:
    """Yield a finding for each question and tensor that failed, with what is wrong.

    To `explore` is to look for a smaller case and at others, those too that no check was asked in;
    else it is of its case as it is.
    """
    layer, seen, known, zero = asking.layer, asking.seen, asking.known, asking.ground.zero
    told_of = set(seen["contract"].failures) if "contract" in seen else set()
    following = {(q, t) for q, t in told_of if _follows(q, t, seen)}
    tried = asking.asked if explore else ()
    diagnoses = Diagnoses(tried, asking.unasked, told_of - following)
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
            trial = Trial(layer, case, make_oracle(layer.spec), zero, known=known)
            if explore:
                trial, observation = shrinker.shrunk(trial, CHECKS[name], observation)
                if observation.severity != told[0][1].severity:
                    so_far.note(trial.case, observation)  # what was only warned of is wrong
            observation = CHECKS[name].located(trial, observation)
            failing = {at for at, _ in told}
            cause = diagnoses.of(trial, name, observation, failing)
            odd = None
            if name in SOURCES:
                odd = odd_one_out(trial, observation, shrinker.answers)
            elif name in KINDS:
                odd = odd_offered(trial, name, question, shrinker.answers)
            yield finding_for(trial, name, observation, len(failing), cause, odd)
