"""What a call does besides returning: to settings and random numbers of NumPy that all share."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradverify.checks.agreement import Answer, Refused
from gradverify.checks.observation import Observation, warned
from gradverify.checks.state import Fresh, as_drawn
from gradverify.trial import Trial

SETTINGS = "it leaves np.seterr changed for everybody: put `with np.errstate(...)` around the place"
DRAWN = (
    "it seeds or draws from np.random, which everybody shares: use a generator of its own, "
    "np.random.default_rng(...)"
)


def effects(trial: Trial, first: Answer, fresh: Fresh) -> Iterator[Observation]:
    """Ask whether the state of np.random and np.seterr are what they were before a call."""
    lent = as_drawn(trial)
    try:
        with np.errstate(all="ignore"):
            settings, drawn = np.geterr(), _random()
            _, pullback = trial.layer.forward(lent.tensors, trial.constants)
            trial.layer.gradients(pullback, lent.cotangents)
            changed = settings != np.geterr(), drawn != _random()
    except (Exception, SystemExit) as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    if changed[0]:
        yield warned("effects", None, SETTINGS)
    if changed[1]:
        yield warned("effects", None, DRAWN)


def _random() -> tuple[Any, ...]:
    kind, key, *rest = np.random.get_state()  # noqa: NPY002 # that others still use it is why
    return kind, np.asarray(key).tobytes(), *rest
