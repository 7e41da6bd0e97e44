"""Wrong or only inaccurate: whose fault it is when a result is off in a lower precision."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from gradverify.cases import Array, Arrays
from gradverify.checks.observation import Observation, compare
from gradverify.numerics.allowance import CAP, Allowance
from gradverify.replayed import Replay, Stopped
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

# What is looked at, of a trial and of its reference.
Kind = Literal["outputs", "gradients"]


def judged(trial: Trial, question: str, tensor: str, kind: Kind) -> Iterator[Observation]:
    """Compare an output or a gradient with what the definition gives.

    What is close to what is allowed, or seen in a lower precision, is not accused before it has
    been measured with more care: in 50-digit arithmetic, with more draws of rounding, in the widest
    precision. Where the tensor is wrong beyond doubt in another case, that is not worth the time,
    and nothing is said.
    """
    got, right = getattr(trial, kind)[tensor], trial.reference
    allowance = getattr(right, f"allowed_{kind}")[tensor]
    for seen in compare(question, tensor, getattr(right, kind)[tensor], got, allowance):
        failed = seen.outcome is Status.FAILED
        close, lower = (seen.worst or 0.0) < DOUBT, trial.case.dtype != trial.layer.widest
        if failed and (close or lower) and tensor in trial.known.wrong:
            yield replace(seen, outcome=Status.VACUOUS, powered=False)
        elif failed and close:
            yield _with_care(trial, seen, kind)
        elif not trial.case.ordinary and _vanishes_in_50_digits(trial, seen, allowance, kind):
            # At ordinary values a formula that loses so many digits is wrong as it is written.
            yield replace(seen, question="inaccurate", severity="warning", message=VANISHES)
        else:
            found = in_precision(trial, seen, allowance, kind)
            if failed and found.severity == "error":
                trial.known.wrong.add(tensor)
            yield found


def _with_care(trial: Trial, seen: Observation, kind: Kind) -> Observation:
    assert seen.tensor is not None
    tensor, got = seen.tensor, getattr(trial, kind)[seen.tensor]
    allowance = getattr(trial.careful, f"allowed_{kind}")[tensor]
    truth = getattr(trial.reference, kind)[tensor]
    exact = trial.exact if trial.case.dtype == "float64" else None
    if exact is not None and kind == "gradients":
        truth = exact.gradients[tensor].astype(float)
    elif exact is not None:
        truth = exact.outputs[trial.spec.outputs.index(tensor)].astype(float)
    (found,) = compare(seen.question, tensor, truth, got, allowance)
    if found.outcome is Status.FAILED and _grows_as_rounding(trial, tensor, kind):
        return replace(found, question="inaccurate", severity="warning", message=GROWS)
    if _vanishes_in_50_digits(trial, found, allowance, kind):
        return replace(found, question="inaccurate", severity="warning", message=VANISHES)
    return in_precision(trial, found, allowance, kind)


def _vanishes_in_50_digits(
    trial: Trial, seen: Observation, allowance: Allowance, kind: Kind
) -> bool:
    """Whether a failure is one of digits only: the layer's own formula, in 50-digit arithmetic,
    gives the derived gradient."""
    if seen.outcome is not Status.FAILED or trial.case.dtype != "float64" or kind != "gradients":
        return False
    assert seen.got is not None
    assert seen.expected is not None
    assert seen.tensor is not None
    gross = not abs(seen.got - seen.expected) <= GROSS * allowance.terms
    if gross or seen.tensor in trial.known.formulas:
        return False
    try:
        own = Replay(trial).gradients[seen.tensor].astype(float)
    except Stopped:
        return False
    off = np.abs(own - trial.reference.gradients[seen.tensor])
    if not np.all(off <= allowance.value):
        trial.known.formulas.add(seen.tensor)
        return False
    return True


def _grows_as_rounding(trial: Trial, tensor: str, kind: Kind) -> bool:
    """Whether a small error in float64 is as much larger in float32 as the rounding is.

    A wrong formula's error is not: it is the same in both, with the rounding of float32 added.
    """
    accepted = trial.layer.dtypes
    if trial.case.dtype != "float64" or (accepted is not None and "float32" not in accepted):
        return False
    single = trial.in_dtype("float32")
    here, there = _error(trial, tensor, kind), _error(single, tensor, kind)
    if here is None or there is None or not np.all(np.isfinite(there)):
        return False
    return float(np.max(np.abs(there))) >= GROWTH * float(np.max(np.abs(here)))


def in_precision(trial: Trial, seen: Observation, allowance: Allowance, kind: Kind) -> Observation:
    """Call a failure in a lower precision *inaccurate*, a warning, if it is that of rounding.

    Rounding errors scale with the unit roundoff and change erratically with the values; a wrong
    formula's error does neither. What is wrong in the widest precision at the same values is wrong,
    and so is what is grossly off, or off by the same error at other values nearby.
    """
    if seen.outcome is not Status.FAILED or trial.case.dtype == "float64":
        return seen
    assert seen.got is not None
    assert seen.expected is not None
    assert seen.tensor is not None
    dtype, widest = trial.case.dtype, trial.layer.widest
    if dtype != widest and _wrong_in(widest, trial, seen.tensor, kind):
        return seen
    bound = max(GROSS, GROSS_CAPS * allowance.cap) * allowance.terms
    if not abs(seen.got - seen.expected) <= bound:
        return replace(seen, message=f"only seen in {dtype}")
    if systematic(trial, seen.tensor, kind):
        return replace(
            seen,
            message=f"only seen in {dtype}; no rounding: the error is the same at other values "
            "nearby",
        )
    return replace(
        seen,
        question="inaccurate",
        severity="warning",
        message=f"less accurate in {dtype} than the order of operations explains",
    )


def _wrong_in(dtype: str, trial: Trial, tensor: str, kind: Kind) -> bool:
    """Whether the layer is wrong in another precision at the same values."""
    other = trial.in_dtype(dtype)
    if other.failure is not None:
        return False  # contract says so, in a case of its own
    got = getattr(other, kind).get(tensor)
    if got is None:
        return False
    expected = getattr(other.reference, kind)[tensor]
    allowance = getattr(other.reference, f"allowed_{kind}")[tensor]
    compared = compare("", tensor, expected, got, allowance)
    return any(found.outcome is Status.FAILED for found in compared)


def systematic(trial: Trial, tensor: str, kind: Kind) -> bool:
    """Whether a tensor has the same error where all values are changed a little."""
    rng = np.random.default_rng([trial.case.seed, 8])
    errors = [_error(trial, tensor, kind)]
    errors += [_error(_moved(trial, rng), tensor, kind) for _ in range(MOVES)]
    found = [e for e in errors if e is not None and np.all(np.isfinite(e))]
    if len(found) <= MOVES // 2:
        return False
    common = float(np.sum(np.mean(found, axis=0) ** 2))
    return common >= SAME * float(np.mean([np.sum(e**2) for e in found]))


def _error(trial: Trial, tensor: str, kind: Kind) -> Array | None:
    if trial.failure is not None:
        return None
    got = getattr(trial, kind).get(tensor)
    return None if got is None else got - getattr(trial.derived, kind)[tensor]


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
