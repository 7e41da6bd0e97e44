"""What is compared with the definition at a case: what was got, what is right, what is allowed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from gradverify.cases import Array, is_large
from gradverify.numerics.allowance import Allowance
from gradverify.replayed import Replay, Stopped
from gradverify.trial import LayerRaised, Trial


@dataclass(frozen=True)
class Compared(ABC):
    """Results of one kind of a trial, by tensor, beside those of the definition."""

    trial: Trial

    def at(self, trial: Trial) -> Self:
        """Return the same of another trial."""
        return replace(self, trial=trial)

    def key(self, tensor: str) -> str:
        """Return how one of them is called among all that a layer returns."""
        return tensor

    @property
    @abstractmethod
    def got(self) -> Mapping[str, Array]:
        """What the layer returned, in float64; what is of a wrong shape is left out."""

    @property
    @abstractmethod
    def right(self) -> Mapping[str, Array]:
        """What the definition gives."""

    @property
    @abstractmethod
    def allowed(self) -> Mapping[str, Allowance]:
        """How far the two may be from each other."""

    @property
    @abstractmethod
    def careful(self) -> Mapping[str, Allowance]:
        """The same, measured by many more draws."""

    @property
    @abstractmethod
    def exact(self) -> Mapping[str, Array] | None:
        """What the definition gives to 50 digits, in float64; None where that takes too long."""

    @property
    @abstractmethod
    def derived(self) -> Mapping[str, Array]:
        """What the definition gives, where nothing is measured."""

    def replayed(self, tensor: str) -> Array:
        """Return what the layer's own formula gives in 50-digit arithmetic, in float64; raises
        Stopped where it cannot be told."""
        raise Stopped(f"{self.key(tensor)} is not replayed")

    def error(self, tensor: str) -> Array | None:
        """Return by how much a result is off, None where there is none."""
        if self.trial.failure is not None:
            return None
        try:
            got = self.got.get(tensor)
        except LayerRaised:
            return None
        return None if got is None else got - self.derived[tensor]


class Outputs(Compared):
    """The outputs of a forward."""

    @property
    def got(self) -> Mapping[str, Array]:
        """The layer's."""
        return self.trial.outputs

    @cached_property
    def right(self) -> Mapping[str, Array]:
        """The definition's."""
        return self.derived if is_large(self.trial.spec) else self.trial.reference.outputs

    @property
    def allowed(self) -> Mapping[str, Allowance]:
        """How far they may be off."""
        return self.trial.reference.allowed_outputs

    @property
    def careful(self) -> Mapping[str, Allowance]:
        """The same with more draws."""
        return self.trial.careful.allowed_outputs

    @property
    def exact(self) -> Mapping[str, Array] | None:
        """The definition's to 50 digits."""
        found = self.trial.exact
        if found is None:
            return None
        pairs = zip(self.trial.spec.outputs, found.outputs, strict=True)
        return {y: value.astype(float) for y, value in pairs}

    @property
    def derived(self) -> Mapping[str, Array]:
        """The definition's, unmeasured."""
        return self.trial.derived.outputs


class Gradients(Compared):
    """The gradients of a pullback."""

    @property
    def got(self) -> Mapping[str, Array]:
        """The layer's."""
        return self.trial.gradients

    @cached_property
    def right(self) -> Mapping[str, Array]:
        """The derived ones."""
        return self.derived if is_large(self.trial.spec) else self.trial.reference.gradients

    @property
    def allowed(self) -> Mapping[str, Allowance]:
        """How far they may be off."""
        return self.trial.reference.allowed_gradients

    @property
    def careful(self) -> Mapping[str, Allowance]:
        """The same with more draws."""
        return self.trial.careful.allowed_gradients

    @property
    def exact(self) -> Mapping[str, Array] | None:
        """The derived ones to 50 digits."""
        found = self.trial.exact
        return None if found is None else {
            k: np.asarray(g.astype(float)) for k, g in found.gradients.items()
        }  # fmt: skip

    @property
    def derived(self) -> Mapping[str, Array]:
        """The derived ones, unmeasured."""
        return self.trial.derived.gradients

    def replayed(self, tensor: str) -> Array:
        """Return a gradient of the layer's own code."""
        if isinstance(self._replayed, Stopped):
            raise self._replayed
        return self._replayed[tensor].astype(float)

    @cached_property
    def _replayed(self) -> Mapping[str, Array] | Stopped:
        try:
            return Replay(self.trial).gradients
        except Stopped as stopped:
            return stopped
