"""Memory that a layer's results share, told by what changes where their owner writes to them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradverify.checks.agreement import Answer, copies, equal, forward, told
from gradverify.checks.blame import repeated, same
from gradverify.checks.memory import Lent, as_drawn, blanked, given, may_share
from gradverify.checks.observation import Observation, failed, passed, warned
from gradverify.trial import Trial

SHARED = "{} shares memory with {}: who writes to one changes the other"
KEPT = "{} is what the layer goes on with: who writes to it changes the next one; return a copy"


def results(
    trial: Trial, lent: Lent, outputs: Mapping[str, Any], gradients: Mapping[str, Any]
) -> Iterator[Observation]:
    """Overwrite outputs and gradients in turn, and look what else has changed.

    An output is overwritten when its pullback is no longer needed: that a pullback reads the
    outputs is usual, and who writes to them before it is called is at fault.
    """
    near = any(map(lent.sharing, (*outputs.values(), *gradients.values())))
    memory = lent.snapshot() if near else {}
    for name in trial.spec.outputs:
        if not lent.sharing(outputs.get(name)):
            continue
        with blanked({name: outputs[name]}):
            for other in lent.changed(memory):
                yield warned("shares", name, SHARED.format(told(trial, name), given(trial, other)))
    seen: set[str] = set()
    for name, value in gradients.items():
        seen.add(name)
        rest = {k: g for k, g in gradients.items() if k not in seen and may_share(value, g)}
        lenders = lent.sharing(value)
        if not rest and not lenders:
            continue
        before = copies(rest)
        with blanked({name: value}):
            for other in lent.changed(memory) if lenders else ():
                message = SHARED.format(told(trial, name), given(trial, other))
                # A gradient may be the cotangent itself, as that of a sum is.
                tell = failed if other in trial.spec.given else warned
                yield tell("aliases" if tell is failed else "shares", name, message)
            for other, now in copies({k: rest[k] for k in before}).items():
                if not equal(before[other], now):
                    message = SHARED.format(told(trial, name), f"that of {other}")
                    yield warned("shares", name, message)


def outputs(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Overwrite outputs, and look whether the next call gives what was written."""
    returned, _ = forward(trial, as_drawn(trial).tensors)
    second = copies(returned)
    with blanked(returned) as blank:
        third = copies(forward(trial, as_drawn(trial).tensors)[0])
    for name, value in first.outputs.items():
        if not same(trial, first, second, name):
            yield failed("repeatable", name, repeated(trial, name))
        elif same(trial, first, third, name):
            yield passed("aliases", name)
        elif name in blank and np.any(np.isnan(third[name]) & ~np.isnan(value)):
            yield failed("aliases", name, KEPT.format(told(trial, name)))
        else:
            yield failed("repeatable", name, repeated(trial, name))
