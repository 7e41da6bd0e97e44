"""What an adapter is: another convention of writing a layer, made into the pullback convention."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gradverify.spec import Spec

# What `gradverify.oracle` gives under these names, by tensor: jvp(tensors, tangents, constants)
# returns the tangents of the outputs, double_vjp(tensors, cotangents, seeds, constants) the
# gradients of <seeds, vjp> for the tensors and for the cotangents.
Derivative = Callable[..., Any]


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a layer in its own convention, which no call of it as a layer shows.

    `severity` is "error" or "warning".
    """

    question: str
    tensor: str | None
    message: str
    severity: str = "error"


class NotOffered(Exception):
    """Raised by a jvp or double_vjp of an adapter that only finds out when it is called that the
    layer has none; the text says what it has not, and why."""


class Adapter(ABC):
    """A layer that is written in another convention; `spec.register` and `Layer` take it.

    `written` are the functions that a person wrote, the forward first and the backward last (the
    same where there is one): findings name their lines, and exact arithmetic replays their
    modules. `jvp` and `double_vjp` take the spec before all else, and are None where the layer
    does not offer them. `words` say, by question of `contract`, what a finding means in the words
    of the convention.
    """

    jvp: Derivative | None = None
    double_vjp: Derivative | None = None
    words: Mapping[str, str] = MappingProxyType({})

    def __init__(self, written: tuple[Callable[..., Any], ...], name: str) -> None:
        self.written = written
        self.__name__ = name
        self.__wrapped__ = written[0]

    @abstractmethod
    def __call__(
        self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Callable[..., Any]]:
        """Return (outputs, pullback) at NumPy arrays, as a layer of `spec` does.

        Raises ConventionError where the layer does not keep to what its convention asks.
        """

    def renew(self) -> None:  # noqa: B027 - most keep nothing
        """Forget what earlier calls left, before a case is judged that has to replay alone."""

    def flaws(
        self,
        spec: Spec,
        tensors: Mapping[str, Any],
        constants: Mapping[str, Any],
        cotangents: Sequence[Any],
    ) -> Iterator[Flaw]:
        """Yield what is wrong in its own convention only, as where an object updates itself."""
        yield from ()

    def told(self, question: str, tensor: str | None) -> str:
        """Return what a finding means in the words of the convention, "" for nothing to add."""
        return self.words.get(question, "")
