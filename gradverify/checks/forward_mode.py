"""forward_mode: the tangents that a layer's jvp gives are the derived ones.

Without a definition they are those of its pullback, <dy, J v> = <J^T dy, v>.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradverify.checks import adjoint
from gradverify.checks.conduct import conduct
from gradverify.checks.observation import Observation, failed, passed
from gradverify.checks.offered import Offered, Tangents
from gradverify.checks.precision import judged
from gradverify.layer import Layer
from gradverify.result import NOT_OFFERED
from gradverify.spec import Spec
from gradverify.trial import Trial


def absent(layer: Layer) -> str | None:
    """Return why there is nothing to ask, None where there is something."""
    return None if layer.jvp else f"{NOT_OFFERED}forward mode"


def tensors(spec: Spec) -> tuple[str, ...]:
    """Return the outputs, where there is anything to move them by."""
    return spec.differentiable_outputs if spec.differentiable else ()


def examine(trial: Trial) -> Iterator[Observation]:
    """Ask how the jvp behaves, then for its tangents."""
    one = Tangents(trial)
    wrong = list(conduct(one))
    yield from wrong
    if any(seen.tensor is None and seen.question != "extra" for seen in wrong):
        return
    told = {seen.tensor for seen in wrong}
    if trial.oracle is None:
        yield from (o for o in adjoint.examine(one) if o.tensor not in told)
    else:
        for output in (y for y in one.got if y not in told):
            yield from compared("tangent", one, output)


def compared(question: str, one: Offered, tensor: str) -> Iterator[Observation]:
    """Compare a value with the derived one."""
    got = one.got[tensor]
    if not (one.within_range(tensor) and np.all(np.isfinite(got))):
        return  # that is told where it is wrong
    if not one.zero(tensor):
        yield from judged(question, one, tensor)
    elif not np.any(got):
        yield passed(question, tensor)
    else:
        index = tuple(int(i) for i in np.argwhere(got)[0])
        yield replace(
            failed(question, tensor, "by derivation it is 0 everywhere"),
            index=index, expected=0.0, got=float(got[index]), allowed=0.0, why="it is exactly 0",
        )  # fmt: skip


def worst_element(trial: Trial, seen: Observation) -> Observation:
    """Return a failure beside the pullback with the element that is off the most."""
    if seen.question != "adjoint":
        return seen
    return adjoint.worst_element(Tangents(trial), seen)
