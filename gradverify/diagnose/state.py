"""Causes that show in the order of calls, in types and in shapes: what `contract` has found."""

from collections.abc import Collection

import numpy as np

from gradverify.cases import Array, draw
from gradverify.checks.observation import Observation
from gradverify.diagnose.cause import Cause
from gradverify.trial import Trial, real_array

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
    """Whether an answer of `contract` only follows from another that it has `told` already: what
    depends on the calls before is linear in nothing and looks like lost digits."""
    mistaken = any((q, t) in told for q in STATE for t in (tensor, None))
    return mistaken and question in (*LINEARITY, "precision", "layout")


def of_contract(trial: Trial, seen: Observation) -> Cause | None:
    """Return the cause of what `contract` says, None where it is told already."""
    found = KINDS.get(seen.question)
    if seen.tensor is None or trial.failure is not None:
        return found
    if seen.question == "shape":
        return _of_shape(trial, seen.tensor) or found
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

    def gradient(pullback: object) -> Array:
        found = layer.gradients(pullback, draw(trial.spec, trial.case).cotangents)  # type: ignore[arg-type]
        return np.array(real_array(found[tensor]), float)

    try:
        with np.errstate(all="ignore"):
            _, pullback = layer.forward(mine.tensors, constants)
            first, second = gradient(pullback), gradient(pullback)
            _, between = layer.forward(others, constants)
            late, other = gradient(pullback), gradient(between)
    except (Exception, SystemExit):  # a layer that fails here is told of already
        return None
    if np.allclose(second, 2 * first) and np.any(first):
        return Cause("accumulated", "called again, the pullback returns the sum of both calls")
    if np.allclose(late, first):
        return None
    if np.allclose(late, other):
        return Cause("stale", "it is the gradient at the values of another call, the last one")
    return None


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
