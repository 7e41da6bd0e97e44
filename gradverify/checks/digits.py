"""What a lower precision does, seen without a definition: a forward that rounds to it what it is
given, and a layer that has another formula for it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradverify.cases import Array
from gradverify.checks.agreement import Answer, agree, copies, forward, told
from gradverify.checks.observation import Observation, failed, passed
from gradverify.trial import Trial

# Values at which a right formula keeps its digits, and parameters at which it may lose them: what
# cancels looks rounded.
VALUES, LOSING = ("ordinary", "small", "positive", "negative"), ("large", "tiny")
# A step that float32 can tell, within some percent, and one far below what it can.
STEP, BELOW = 2.0**-20, 2.0**-30
# Outputs that change by less than this fraction of themselves may do so by rounding in float64:
# 2**-53, relative to the smaller step, with room for what is added up inside.
SEEN = 2.0**-26


def examine(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask for all digits in float64, and in float32 for the results of float64.

    Away from saturation and from kinks, and only without a definition, which tells more.
    """
    case = trial.case
    if trial.oracle is not None or case.values not in VALUES or case.params in LOSING:
        return
    if case.dtype == "float64":
        yield from _all_digits(trial)
    elif case.dtype == "float32" and trial.layer.widest == "float64":
        yield from _as_in_float64(trial)


def _as_in_float64(trial: Trial) -> Iterator[Observation]:
    """Compare the results with those in float64 at the same values."""
    wrong = _others(trial)
    if wrong:
        # What is another at these values by chance is not at others.
        wrong &= _others(replace(trial, case=replace(trial.case, seed=trial.case.seed ^ 1)))
    for name in (*trial.spec.outputs, *trial.spec.differentiable):
        if name in wrong:
            yield failed("dtypes", name, f"{told(trial, name)} in float32 is another than in "
                         "float64 at the same values")  # fmt: skip
        else:
            yield passed("dtypes", name)


def _others(trial: Trial) -> set[str]:
    """Return those results that are others than in float64, by more than what digits are lost."""
    wide = trial.in_dtype("float64")
    if trial.failure is not None or wide.failure is not None:
        return set()
    own, known = trial.outputs | trial.gradients, wide.outputs | wide.gradients
    return {k for k in own.keys() & known.keys() if not agree(trial, k, known[k], own[k])}


def _all_digits(trial: Trial) -> Iterator[Observation]:
    """Ask whether a thousandth of a change in a tensor changes the outputs by a thousandth."""
    names = [k for k in trial.spec.differentiable if trial.arrays.tensors[k].size]
    name = names[(trial.case.seed >> 3) % len(names)]
    # Where a kink lies between, the changes differ; not so twice.
    if all(_rounded(trial, name, seed) for seed in (13, 14)):
        yield failed("precision", name, f"the outputs do not follow changes of {name} that float64 "
                     f"can tell: it is rounded to a lower precision inside")  # fmt: skip
    else:
        yield passed("precision", name)


def _rounded(trial: Trial, name: str, seed: int) -> bool:
    """Whether the change of the outputs with a tensor is another for a far smaller step."""
    value = trial.arrays.tensors[name].astype(np.float32).astype(float)
    signs = np.random.default_rng([trial.case.seed, seed]).choice([-1.0, 1.0], value.shape)
    base, size = _loss(trial, name, value)
    step = _loss(trial, name, value * (1 + STEP * signs))[0] - base
    small = _loss(trial, name, value * (1 + BELOW * signs))[0] - base
    return abs(step) >= SEEN * size and abs(small * (STEP / BELOW) - step) > abs(step) / 2


def _loss(trial: Trial, name: str, value: Array) -> tuple[float, float]:
    """Return the sum of the cotangents times the outputs, and of its terms' sizes."""
    given = trial.arrays.tensors | trial.within({name: value})
    outputs = copies(forward(trial, {k: np.array(v) for k, v in given.items()})[0])
    pairs = zip(trial.spec.differentiable_outputs, trial.cotangents, strict=True)
    terms = [dy * outputs[k] for k, dy in pairs if k in outputs and outputs[k].shape == dy.shape]
    return sum(float(np.sum(t)) for t in terms), sum(float(np.sum(np.abs(t))) for t in terms)
