"""What a call does besides returning: to settings and random numbers of NumPy that all share."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradverify.checks.agreement import Answer, Refused
from gradverify.checks.observation import Observation, warned
from gradverify.checks.state import as_drawn
from gradverify.trial import Trial

SETTINGS = "it leaves np.seterr changed for everybody: put `with np.errstate(...)` around the place"
DRAWN = (
    "it seeds or draws from np.random, which everybody shares: use a generator of its own, "
    "np.random.default_rng(...)"
)


def effects(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask whether np.seterr and the state of np.random are what they were before a call."""
    lent, shared = as_drawn(trial), np.random.mtrand._rand
    before = shared.get_state()
    # A layer that seeds has done so in earlier calls: only from another state does it show.
    shared.random_sample()
    drawn = _listed(shared.get_state())
    try:
        with np.errstate(all="ignore"):
            settings = np.geterr()
            _, pullback = trial.layer.forward(lent.tensors, trial.constants)
            trial.layer.gradients(pullback, lent.cotangents)
            changed = np.geterr() != settings
        seeded = _listed(shared.get_state()) != drawn
    except (Exception, SystemExit) as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    finally:
        shared.set_state(before)
    if changed:
        yield warned("effects", None, SETTINGS)
    if seeded:
        yield warned("effects", None, DRAWN)


def _listed(state: tuple[Any, ...]) -> list[Any]:
    return [part.tolist() if isinstance(part, np.ndarray) else part for part in state]
