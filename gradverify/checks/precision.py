"""Wrong or only inaccurate: whose fault it is when a result is off in a lower precision."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradverify.cases import Array, Arrays
from gradverify.checks.compared import Compared
from gradverify.checks.observation import Observation, compare
from gradverify.numerics.allowance import CAP, Allowance
from gradverify.replayed import Stopped
from gradverify.result import Status
from gradverify.trial import Trial

# An error of this fraction of the terms, or of so many times what may be allowed at all, is no
# rounding in any precision: with CAP allowed at most, a right formula stays below it by far.
GROSS, GROSS_CAPS = 10 * CAP, 4
# Up to this many times what is allowed nobody is accused before it is measured with more care.
DOUBT = 1000.0
# The rounding of float32 is 2**29 times that of float64, and that of one case as much as 32 times
# as lucky as that of another.
GROWTH = 2.0**24
# At so many other values is it asked whether an error is the same. With as many, errors of one
# element that have nothing to do with each other look the same once in 30,000 times.
MOVES = 8
# Values are changed by this fraction, which is very many units in the last place and leaves every
# formula nearly what it is, and by so many units of 1: what is added to a number near 1 keeps
# only such steps.
NEAR, STEPS = 2.0**-6, 16
# Errors of which so much is common are the same, 1 being all of it and 1/(MOVES + 1) chance.
SAME = 0.9

GROWS = (
    "less accurate than the order of operations explains; no wrong formula: the error grows with "
    "the rounding of a lower precision"
)
VANISHES = (
    "less accurate than the order of operations explains; no wrong formula: in 50-digit arithmetic "
    "it gives the derived gradient"
)


def judged(question: str, what: Compared, tensor: str) -> Iterator[Observation]:
    """Compare a result with what the definition gives.

    What is close to what is allowed, or seen in a lower precision, is not accused before it has
    been measured with more care: in 50-digit arithmetic, with more draws of rounding, in the widest
    precision. Where the tensor is wrong beyond doubt in another case, that is not worth the time,
    and nothing is said.
    """
    trial, key, allowance = what.trial, what.key(tensor), what.allowed[tensor]
    for seen in compare(question, tensor, what.right[tensor], what.got[tensor], allowance):
        failed = seen.outcome is Status.FAILED
        close, lower = (seen.worst or 0.0) < DOUBT, trial.case.dtype != trial.layer.widest
        known = trial.known.in_widest if lower else trial.known.wrong if close else ()
        if failed and key in known:
            yield replace(seen, outcome=Status.VACUOUS, powered=False)
        elif failed and close:
            yield _with_care(what, seen)
        elif not trial.case.ordinary and _vanishes_in_50_digits(what, seen, allowance):
            # At ordinary values a formula that loses so many digits is wrong as it is written.
            yield replace(seen, question="inaccurate", severity="warning", message=VANISHES)
        else:
            found = in_precision(what, seen, allowance)
            if failed and found.severity == "error":
                trial.known.wrong.add(key)
                if not lower:
                    trial.known.in_widest.add(key)
            yield found


def _with_care(what: Compared, seen: Observation) -> Observation:
    assert seen.tensor is not None
    trial, tensor, truth = what.trial, seen.tensor, what.right[seen.tensor]
    widest = trial.layer.widest
    if trial.case.dtype != widest and _wrong(what.at(trial.in_dtype(widest)), tensor, beyond=DOUBT):
        trial.known.in_widest.add(what.key(tensor))
        return seen
    exact = what.exact if what.trial.case.dtype == "float64" else None
    if exact is not None:
        truth = exact[tensor]
    allowance = what.careful[tensor]
    (found,) = compare(seen.question, tensor, truth, what.got[tensor], allowance)
    if found.outcome is Status.FAILED and _grows_as_rounding(what, tensor):
        return replace(found, question="inaccurate", severity="warning", message=GROWS)
    if _vanishes_in_50_digits(what, found, allowance):
        return replace(found, question="inaccurate", severity="warning", message=VANISHES)
    return in_precision(what, found, allowance)


def _vanishes_in_50_digits(what: Compared, seen: Observation, allowance: Allowance) -> bool:
    """Whether a failure is one of digits only: the layer's own formula, in 50-digit arithmetic,
    gives the derived result."""
    if seen.outcome is not Status.FAILED or what.trial.case.dtype != "float64":
        return False
    assert seen.got is not None
    assert seen.expected is not None
    assert seen.tensor is not None
    gross = not abs(seen.got - seen.expected) <= GROSS * allowance.terms
    key, formulas = what.key(seen.tensor), what.trial.known.formulas
    if gross or key in formulas:
        return False
    try:
        own = what.replayed(seen.tensor)
    except Stopped:
        return False
    off = np.abs(own - what.right[seen.tensor])
    if not np.all(off <= allowance.value):
        formulas.add(key)
        return False
    return True


def _grows_as_rounding(what: Compared, tensor: str) -> bool:
    """Whether a small error in float64 is as much larger in float32 as the rounding is.

    A wrong formula's error is not: it is the same in both, with the rounding of float32 added.
    """
    trial, accepted = what.trial, what.trial.layer.dtypes
    if trial.case.dtype != "float64" or (accepted is not None and "float32" not in accepted):
        return False
    here, there = what.error(tensor), what.at(trial.in_dtype("float32")).error(tensor)
    if here is None or there is None or not np.all(np.isfinite(there)):
        return False
    return float(np.max(np.abs(there))) >= GROWTH * float(np.max(np.abs(here)))


def in_precision(what: Compared, seen: Observation, allowance: Allowance) -> Observation:
    """Call a failure in a lower precision *inaccurate*, a warning, if it is that of rounding.

    Rounding errors scale with the unit roundoff and change erratically with the values; a wrong
    formula's error does neither. What is wrong in the widest precision at the same values is wrong,
    and so is what is grossly off, or off by the same error at other values nearby. In float16 both
    may come of a step that leaves its range, but not at ordinary values as well.
    """
    trial = what.trial
    if seen.outcome is not Status.FAILED or trial.case.dtype == "float64":
        return seen
    assert seen.got is not None
    assert seen.expected is not None
    assert seen.tensor is not None
    dtype, widest = trial.case.dtype, trial.layer.widest
    if dtype != widest and _wrong(what.at(trial.in_dtype(widest)), seen.tensor):
        return seen
    message = f"less accurate in {dtype} than the order of operations explains"
    gross = not abs(seen.got - seen.expected) <= (
        max(GROSS, GROSS_CAPS * allowance.cap) * allowance.terms
    )
    if dtype == "float16" != widest and _right_at_ordinary(what, seen.tensor):
        if gross:
            message += "; float16 ends at 65504, and a step on the way may exceed it"
    elif gross:
        return replace(seen, message=f"only seen in {dtype}")
    elif systematic(what, seen.tensor):
        return replace(
            seen,
            message=f"only seen in {dtype}; no rounding: the error is the same at other values "
            "nearby",
        )
    return replace(seen, question="inaccurate", severity="warning", message=message)


def _wrong(other: Compared, tensor: str, beyond: float = 1.0) -> bool:
    """Whether the layer is wrong in another trial, `beyond` so many times what is allowed."""
    # contract says so, in a case of its own
    if other.trial.failure is not None or (got := other.got.get(tensor)) is None:
        return False
    compared = compare("", tensor, other.right[tensor], got, other.allowed[tensor])
    return any(f.outcome is Status.FAILED and not (f.worst or 0.0) < beyond for f in compared)


def _right_at_ordinary(what: Compared, tensor: str) -> bool:
    """Whether the layer is right, or inaccurate, at values that are neither large nor special,
    which those of this case are."""
    trial = what.trial
    case = replace(trial.case, values="ordinary", params="ordinary", cotangent="signed")
    other = what.at(replace(trial, case=case, given=None))
    if case == trial.case or other.trial.failure or (got := other.got.get(tensor)) is None:
        return False
    allowance = other.allowed[tensor]
    found = compare("", tensor, other.right[tensor], got, allowance)
    judged = [in_precision(other, f, allowance) for f in found]
    return all(f.outcome is not Status.FAILED or f.severity == "warning" for f in judged)


def systematic(what: Compared, tensor: str) -> bool:
    """Whether a tensor has the same error where all values are changed a little."""
    rng = np.random.default_rng([what.trial.case.seed, 8])
    errors = [what.error(tensor)]
    errors += [what.at(_moved(what.trial, rng)).error(tensor) for _ in range(MOVES)]
    found = [e for e in errors if e is not None and np.all(np.isfinite(e))]
    if len(found) <= MOVES // 2:
        return False
    common = float(np.sum(np.mean(found, axis=0) ** 2))
    return common >= SAME * float(np.mean([np.sum(e**2) for e in found]))


def _moved(trial: Trial, rng: np.random.Generator) -> Trial:
    """Return the trial at other values nearby."""

    def near(value: Array) -> Array:
        relative, absolute = rng.standard_normal((2, *value.shape))
        return np.asarray(value * (1 + NEAR * relative) + STEPS * trial.unit * absolute)

    wide = trial.wide
    tensors = {k: near(v) if k in trial.spec.differentiable else v for k, v in wide.tensors.items()}
    tensors = trial.within(tensors)
    # A gradient is linear in its cotangent: that is changed in proportion only.
    cotangents = [dy * (1 + NEAR * rng.standard_normal(dy.shape)) for dy in wide.cotangents]
    given = Arrays(
        dict(zip(tensors, trial.narrowed(tensors.values()), strict=True)),
        tuple(trial.narrowed(cotangents)),
    )
    return replace(trial, given=given)
