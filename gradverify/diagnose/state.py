"""Causes that show in the order of calls, in types and in shapes: what `contract` has found."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gradverify.cases import Array, Case, draw
from gradverify.checks.observation import Observation
from gradverify.diagnose.cause import Cause
from gradverify.layer import Pullback
from gradverify.trial import Trial, real_array

# As many calls show whether a layer gives the same each time, or every other time.
CALLS = 4
# What a question of `contract` is about, where no experiment can say it better.
KINDS = {
    "stale": Cause("stale", "what the forward keeps for its pullback does not belong to that call"),
    "accumulates": Cause("accumulated", "the pullback adds to, or uses up, what an earlier call "
                                        "left"),
    "identity": Cause("stale", "an earlier call's result is returned where an array is the same "
                               "object with other values"),
    "aliases": Cause("mutation", "what is returned is what the layer goes on with"),
    "overwritten": Cause("mutation", "an array that was returned is written to by a later call"),
    "mutates": Cause("mutation", "an array of the caller is written to"),
    "repeatable": Cause("nondeterministic", "the same call gives different results"),
    "dtype": Cause("dtype", "the result is of another dtype than what is given"),
    "dtypes": Cause("dtype", "a lower precision has a formula of its own"),
    "type": Cause("dtype", "the result is no array of real numbers"),
    "missing": Cause("missing", "no gradient is returned for a declared tensor"),
    "extra": Cause("missing", "a gradient is returned for what takes none"),
    "shape": Cause("shape", "the result has another shape than is declared"),
    "zero": Cause("cotangent", "the gradient does not vanish with the cotangent: a term without "
                               "the cotangent is added"),
    "linear": Cause("cotangent", "the gradient is not linear in the cotangent"),
    "layout": Cause("layout", "the result depends on how arrays lie in memory"),
    "precision": Cause("precision", "a step is computed in a lower precision"),
    "subgradient": Cause("kink", "only on kinks and ties: what is returned there is no mixture of "
                                 "the derivatives on their sides"),
    "untouched": Cause("mutation", "a buffer is written to"),
}  # fmt: skip
# These make a layer's numbers depend on what was called before: other checks see the same mistake.
STATE = ("stale", "accumulates", "repeatable", "overwritten", "mutates", "identity", "aliases")
LINEARITY = ("linear", "zero")
SHARED = (*STATE, *LINEARITY, "layout")


def follows(question: str, tensor: str | None, told: Collection[tuple[str, str | None]]) -> bool:
    """Whether an answer of a check only follows from another that it has `told` already: what
    depends on the calls before is linear in nothing and looks like lost digits."""
    if question == "symmetric":
        return any(q == "slope" for q, _ in told)
    if question == "stale" and {("repeatable", tensor), ("accumulates", tensor)} & set(told):
        return True  # what is another at every call is so after another one as well
    mistaken = any((q, t) in told for q in STATE for t in (tensor, None))
    return mistaken and question in (*LINEARITY, "precision", "layout")


def of_failure(failing: Collection[Case], cases: Iterable[Case]) -> Cause | None:
    """Return that a layer raises only where a size is 1, None where that is not why."""
    passing = [case for case in cases if case not in failing]
    for name, _ in next(iter(failing)).sizes if passing else ():
        if all(c.at[name] == 1 for c in failing) and all(c.at[name] > 1 for c in passing):
            return Cause(
                "size", f"only where {name} = 1: if at least 2 are needed, as for the variance of "
                f'a batch, declare where=["{name} >= 2"]',
            )  # fmt: skip
    return None


def of_contract(trial: Trial, seen: Observation, failing: Iterable[Case]) -> Cause | None:
    """Return the cause of what `contract` says, here and in other cases; None where it is told
    already."""
    found = KINDS.get(seen.question)
    if seen.tensor is None or trial.failure is not None:
        return found
    if seen.question == "shape":
        # In a case of many sizes of 1 every shape looks like every other.
        largest = max(failing, key=lambda c: c.weight, default=trial.case)
        for case in (largest, trial.case):
            at = replace(trial, case=case)
            if at.failure is None and (told := _of_shape(at, seen.tensor)):
                return told
        return found
    if seen.question == "repeatable" and (cause := unsteady(trial, seen.tensor)):
        return cause
    if seen.question in ("stale", "accumulates", "repeatable"):
        return _of_calls(trial, seen.tensor) or found
    return found


def _of_calls(trial: Trial, tensor: str) -> Cause | None:
    """Return what a gradient is where it depends on the calls before: another call's, or a sum."""
    if tensor not in trial.spec.differentiable:
        return None
    layer, constants = trial.layer, trial.constants
    mine = draw(trial.spec, trial.case)
    others = {k: np.array(v) for k, v in mine.tensors.items()}
    for k in trial.spec.differentiable:
        others[k] = np.asarray(0.5 * others[k] + 0.25, others[k].dtype)
    others = {k: np.asarray(v, mine.tensors[k].dtype) for k, v in trial.within(others).items()}
    try:
        with np.errstate(all="ignore"):
            _, pullback = layer.forward(mine.tensors, constants)
            first, second = (_gradient(trial, tensor, pullback) for _ in range(2))
            _, between = layer.forward(others, constants)
            late, other = (_gradient(trial, tensor, back) for back in (pullback, between))
    except (Exception, SystemExit):  # a layer that fails here is told of already
        return None
    if np.allclose(second, 2 * first) and np.any(first):
        return Cause("accumulated", "called again, the pullback returns the sum of both calls")
    if not np.allclose(late, first) and np.allclose(late, other):
        return Cause("stale", "it is the gradient at the values of another call, the last one")
    return unsteady(trial, tensor)


def unsteady(trial: Trial, tensor: str) -> Cause | None:
    """Return that a gradient is another at every call, or at every other, None where it is not."""
    if tensor not in trial.spec.differentiable:
        return None
    found = []
    try:
        with np.errstate(all="ignore"):
            for _ in range(CALLS):
                arrays = draw(trial.spec, trial.case)
                _, pullback = trial.layer.forward(arrays.tensors, trial.constants)
                found.append(_gradient(trial, tensor, pullback))
    except (Exception, SystemExit):
        return None
    steps = [later - before for before, later in pairwise(found)]
    if all(np.allclose(found[0], g, equal_nan=True) for g in found):
        return None
    if all(np.allclose(steps[0], step) for step in steps):
        return Cause("accumulated", "it grows by as much with every call")
    return KINDS["repeatable"]


def _gradient(trial: Trial, tensor: str, pullback: Pullback) -> Array:
    found = trial.layer.gradients(pullback, draw(trial.spec, trial.case).cotangents)
    return np.array(real_array(found[tensor]), float)


def _of_shape(trial: Trial, tensor: str) -> Cause | None:
    """Return what a shape that is not the declared one says."""
    gradients, outputs = trial.called.gradients, trial.called.outputs
    value = gradients.get(tensor)
    if value is None:
        value = dict(zip(trial.spec.outputs, outputs, strict=True)).get(tensor)
    array, shape = real_array(value), trial.view.shape(tensor)
    if array is None:
        return None
    got = array.shape
    if tuple(n for n in got if n != 1) == tuple(n for n in shape if n != 1):
        return Cause("shape", f"it is of shape {got} for {shape}: axes of size 1 are kept, or lost")
    if sorted(got) == sorted(shape):
        return Cause("transposed", f"it is of shape {got} for {shape}: transposed")
    if len(got) > len(shape) or array.size > np.prod(shape):
        return Cause("broadcast", f"it is of shape {got} for {shape}: it is not summed over what "
                                  f"{tensor} is broadcast along")  # fmt: skip
    if array.size < np.prod(shape):
        return Cause("axis", f"it is of shape {got} for {shape}: it is summed over too much")
    return None
