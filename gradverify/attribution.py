"""Which of implementation, definition and differencing is the odd one out, where they disagree."""

from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np

from gradverify.checks.finite_difference import slope
from gradverify.checks.observation import Observation
from gradverify.checks.offered import KINDS
from gradverify.result import Status
from gradverify.trial import LayerRaised, Trial

# Questions about a jvp or a double backward that compare it with something.
MEASURED = ("tangent", "second", "adjoint", "slope", "symmetric")


class _Answer(Enum):
    RIGHT, WRONG, NONE = range(3)


# What a check says of a trial, by its name.
Answers = Callable[[Trial, str], Sequence[Observation]]


def odd_one_out(trial: Trial, seen: Observation, answers: Answers) -> str | None:
    """Return who is the odd one out over an element of a gradient, None where that is no question.

    The definition's derivative, differences of the layer's own forward and exact arithmetic each
    say what they think of the layer's gradient, and `forward` compares the two forwards.
    """
    tensor = seen.tensor
    if trial.failure is not None or tensor not in trial.gradients or trial.case.dtype != "float64":
        return None
    derived = _answer(answers(trial, "symbolic"), tensor)
    exact = _answer(answers(trial, "exact"), tensor)
    differences = _differences(trial, tensor, seen.index)
    forward = [_answer(answers(trial, "forward"), y) for y in trial.spec.outputs]
    own = (exact, differences)
    if derived is _Answer.WRONG and _Answer.WRONG in own:
        return "the implementation: its gradient is not the derived one, nor its forward's slope"
    if derived is _Answer.WRONG and _Answer.RIGHT in own:
        if _Answer.WRONG in forward:
            return ("the forward, or the definition: the gradient is that of the layer's own "
                    "forward, and that is not the definition's")  # fmt: skip
        return ("the definition: the forward is the definition's, and the gradient is the slope "
                "of the forward (a stop_gradient?)")  # fmt: skip
    if _Answer.WRONG in own and _Answer.RIGHT in own:
        if differences is _Answer.WRONG:
            return "differencing: in exact arithmetic the gradient is that of the forward"
        return "exact arithmetic: differences and gradient agree; a constant with too few digits?"
    if derived is _Answer.RIGHT and _Answer.WRONG in own:
        if _Answer.WRONG in forward:
            return "the forward: the gradient is the derived one, the forward not the definition's"
        return "differencing, or the forward beside the case: the gradient is the derived one"
    if derived is _Answer.NONE and _Answer.WRONG in own:
        return ("the implementation: its gradient is not the slope of its own forward (that a part "
                "is held fixed on purpose, stop_gradient in a definition says)")  # fmt: skip
    return None


def odd_offered(trial: Trial, check: str, question: str, answers: Answers) -> str | None:
    """Return who is the odd one out where a jvp or a double backward is not as it should be: it,
    or the pullback, of which the definition or else the layer's own forward says whether it is
    right."""
    one = KINDS[check](trial)
    if question not in MEASURED:
        return None
    source = "finite_difference" if trial.oracle is None else "symbolic"
    found = {_answer(answers(trial, source), t) for t in trial.spec.differentiable}
    if _Answer.WRONG in found:
        return f"the pullback: it is wrong as well, see {source}"
    if found <= {_Answer.NONE}:
        return None
    return f"{one.who}: the pullback is right"


def _differences(trial: Trial, tensor: str, index: tuple[int, ...] | None) -> _Answer:
    """Return what differences say of one element: nothing where they are not sharp enough to
    tell what was got from what is derived."""
    gradient = trial.gradients[tensor]
    if index is None or not trial.shaped:
        return _Answer.NONE
    unit = np.zeros(gradient.shape)
    unit[index] = 1.0
    try:
        found = slope(trial, tensor, unit)
    except LayerRaised:
        return _Answer.NONE
    if found is None or not np.isfinite(found.value):
        return _Answer.NONE
    fits = abs(found.value - gradient[index]) <= found.allowed
    if trial.oracle is not None:
        derived = trial.reference.gradients[tensor][index]
        if fits and abs(found.value - derived) <= found.allowed:
            return _Answer.NONE
    return _Answer.RIGHT if fits else _Answer.WRONG


def _answer(seen: Sequence[Observation], tensor: str) -> _Answer:
    """Return what a check says of a tensor in this case, NONE where it cannot tell."""
    told = [o for o in seen if o.tensor == tensor]
    if any(o.outcome is Status.FAILED and o.severity == "error" for o in told):
        return _Answer.WRONG
    if any(o.outcome is Status.PASSED and o.powered for o in told):
        return _Answer.RIGHT
    return _Answer.NONE
