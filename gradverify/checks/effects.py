"""What a call does besides returning: to settings and random numbers of NumPy that all share."""
# ruff: noqa: NPY002 # np.random's own state is what is looked at

from collections.abc import Iterator

import numpy as np

from gradverify.checks.agreement import Answer, refusing
from gradverify.checks.memory import as_drawn
from gradverify.checks.observation import Observation, warned
from gradverify.trial import Trial

SETTINGS = "it leaves np.seterr changed for everybody: put `with np.errstate(...)` around the place"
DRAWN = (
    "it seeds or draws from np.random, which everybody shares: use a generator of its own, "
    "np.random.default_rng(...)"
)


def effects(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask whether np.seterr and the state of np.random are what they were before a call."""
    lent, before = as_drawn(trial), np.random.get_state()
    # A layer that seeds has done so in earlier calls: only from another state does it show.
    np.random.random_sample()
    try:
        with refusing(trial.layer):
            shared = np.geterr(), _random()
            _, pullback = trial.layer.forward(lent.tensors, trial.constants)
            trial.layer.gradients(pullback, lent.cotangents)
            now = np.geterr(), _random()
    finally:
        np.random.set_state(before)
    for was, found, message in zip(shared, now, (SETTINGS, DRAWN), strict=True):
        if was != found:
            yield warned("effects", None, message)


def _random() -> str:
    """Return the state of np.random: 624 numbers, where in them the next is, and what is left."""
    return "".join(map(str, (np.asarray(part).tolist() for part in np.random.get_state())))
