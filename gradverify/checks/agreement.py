"""Answers of a layer as they were when it gave them, and when two of them agree."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from gradverify.cases import AT_KINKS, Array, is_large
from gradverify.checks.observation import Observation, failed
from gradverify.layer import Layer, Pullback
from gradverify.numerics.allowance import Allowance
from gradverify.trial import Trial, place_of, real_array

# What underflows on the way to a gradient may have been multiplied by this much after it.
UNDERFLOW = 2.0**16
# Without a definition nobody knows what is added up inside. Terms this much larger than all that
# a layer is given and gives back do not occur; in float32 that would be everything, so that no
# more than a part of it is allowed there.
HIDDEN, MOST_HIDDEN = 2.0**20, 2.0**-4
# What is off by no more than this fraction has lost digits; another formula is off by more.
DIGITS = 2.0**-10
# In a lower precision what is off by less than this fraction of the terms is inaccurate at worst.
ROUGH = 1e-2
_NONE: Mapping[str, Array] = MappingProxyType({})


class Refused(Exception):
    """A layer that had answered raised when it was asked again; the text says what."""


@contextmanager
def refusing(layer: Layer) -> Iterator[None]:
    """Call a layer that has answered before; Refused, with its line, where it raises."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (Exception, SystemExit) as error:
        place = place_of(error, layer.files)
        raise Refused(f"{type(error).__name__}: {error}{place}") from error


@dataclass(frozen=True)
class Answer:
    """Copies of a layer's outputs and gradients; what is no array of real numbers is left out."""

    outputs: dict[str, Array]
    gradients: dict[str, Array]

    @property
    def results(self) -> dict[str, Array]:
        """Outputs and gradients by tensor."""
        return self.outputs | self.gradients


def real_arrays(values: Mapping[str, Any]) -> dict[str, Array]:
    """Return those values that are arrays of real numbers."""
    arrays = {name: real_array(value) for name, value in values.items()}
    return {name: a for name, a in arrays.items() if a is not None}


def copies(values: Mapping[str, Any], made: Mapping[str, Array] = _NONE) -> dict[str, Array]:
    """Return copies of those values that are arrays of real numbers; in float64 they may be `made`
    already."""
    return {
        name: made[name] if name in made and made[name].dtype == a.dtype else np.array(a)
        for name, a in real_arrays(values).items()
    }


def taken(trial: Trial, values: Mapping[str, Any]) -> dict[str, Array]:
    """Return what is to be compared before anything else is called: copies, but of a large layer,
    for which memory has no room."""
    return real_arrays(values) if is_large(trial.spec) else copies(values)


def named(trial: Trial, outputs: Sequence[Any]) -> dict[str, Any]:
    """Return outputs by name."""
    return dict(zip(trial.spec.outputs, outputs, strict=True))


def due(trial: Trial, gradients: Mapping[str, Any]) -> dict[str, Any]:
    """Return those gradients that the spec asks for."""
    return {k: v for k, v in gradients.items() if k in trial.spec.differentiable}


def forward(trial: Trial, tensors: Mapping[str, Array]) -> tuple[dict[str, Any], Pullback]:
    """Call the layer again and return its outputs by name and its pullback."""
    with refusing(trial.layer):
        outputs, pullback = trial.layer.forward(tensors, trial.constants)
    return named(trial, outputs), pullback


def pulled(trial: Trial, pullback: Pullback, cotangents: Sequence[Array]) -> dict[str, Any]:
    """Call a pullback and return the gradients, as they are."""
    with refusing(trial.layer):
        return due(trial, trial.layer.gradients(pullback, cotangents))


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays are the same to the bit."""
    if a.shape != b.shape:
        return False
    # nan is seldom, and takes several times as long to look for.
    return bool(np.array_equal(a, b)) or (
        a.dtype.kind == "f" and bool(np.array_equal(a, b, equal_nan=True))
    )


def agree(trial: Trial, name: str, a: Array, b: Array, scale: float = 1.0) -> bool:
    """Whether two results of the same computation agree.

    To the bit, but for two things: where a library sums in another order (by alignment and layout
    in memory, by thread) the terms round otherwise, and tiny numbers underflow. `scale` is how
    many times larger than the case's own the cotangents are from which they were computed.
    """
    if a.shape != b.shape or a.size == 0:
        return bool(a.shape == b.shape)
    a, b = np.asarray(a, float), np.asarray(b, float)
    return equal(a, b) or near(a, b, allowed(trial, name, a, scale))


def near(a: Array, b: Array, most: float) -> bool:
    """Whether no elements of two arrays of one shape are further apart than that."""
    with np.errstate(all="ignore"):
        off = np.subtract(a, b)
        close = np.abs(off, out=off if off.ndim else None) <= most
        if np.all(close):
            return True
        return bool(np.all(close | (np.isnan(a) & np.isnan(b)) | (a == b)))


def imprecise(
    trial: Trial, name: str, a: Array, b: Array, scale: float, when: str
) -> Observation | None:
    """Return that two results which do not agree have only lost digits, None if there is more."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if trial.case.dtype != "float64" or a.shape != b.shape:
        return None
    with np.errstate(all="ignore"):
        off = float(np.max(np.abs(a - b)))
    if not off <= DIGITS * largest([a]):
        return None
    return failed("precision", name, f"{told(trial, name)} is the same to {off:.1g} only {when}, "
                  f"where {allowed(trial, name, a, scale):.1g} is rounding: something inside is "
                  "computed in a lower precision than float64")  # fmt: skip


def told(trial: Trial, name: str) -> str:
    """Return how a result is called in a message."""
    return f"output {name}" if name in trial.spec.outputs else f"the gradient of {name}"


def allowed(trial: Trial, name: str, value: Array, scale: float = 1.0) -> float:
    """Return how far two results of the same computation may be from each other."""
    if trial.oracle is not None:
        known = trial.reference.allowed_gradients | trial.reference.allowed_outputs
        return slack(trial, value, known[name], scale)
    if trial.case.dtype == "float16" and trial.case.values in AT_KINKS:
        # The rounding of equal values is all their variance, and not far below an eps.
        return np.inf
    return slack(trial, value, _surroundings(trial, name), scale)


def slack(trial: Trial, value: Array, inside: Allowance | float, scale: float = 1.0) -> float:
    """Return how far a result may be from the same one, computed again: by what is `inside`, which
    is what rounding does to it or, without a definition, the largest number around."""
    info = np.finfo(trial.case.dtype)
    unit = float(info.eps)
    found = 64 * unit * largest([value])
    found += UNDERFLOW * float(info.smallest_subnormal) * max(scale, 1.0)
    if isinstance(inside, float):
        terms = inside
        found += min(HIDDEN * unit, MOST_HIDDEN) * terms * scale
    else:
        terms = inside.terms
        found = max(found, 2 * inside.value * scale)
    if trial.case.dtype != "float64":
        found = max(found, ROUGH * terms * scale)
    return found


def _surroundings(trial: Trial, name: str) -> float:
    """Return the largest number that a layer takes or returns where it computes a tensor."""
    arrays = trial.arrays
    if name in trial.spec.outputs:
        return largest([*arrays.tensors.values(), *trial.outputs.values()])
    return largest([*arrays.cotangents, *trial.gradients.values()])


def largest(arrays: Iterable[Array]) -> float:
    """Return the largest finite absolute value in arrays, 0 where there is none."""
    tops = (np.max(np.abs(a), initial=0.0, where=np.isfinite(a)) for a in arrays)
    return float(max(tops, default=0.0))
