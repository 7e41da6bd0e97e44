"""autograd.Functions: called by the names of their arguments, and found in a recorded graph."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from gradverify.adapters.torch_arrays import outputs_of
from gradverify.adapters.torch_shared import frozen
from gradverify.adapters.torch_words import told
from gradverify.layer import ConventionError
from gradverify.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

RETURNS = "return a tensor, or a tuple of tensors in declared order"


@dataclass(frozen=True)
class Function:
    """A function of tensors and constants by name."""

    call: Callable[..., Any]
    name: str
    seed: int | None
    forward: None = None  # it is known from the start

    def run(
        self, spec: Spec, tensors: "Mapping[str, Tensor]", constants: Mapping[str, Any]
    ) -> "dict[str, Tensor]":
        """Call the function and return its outputs by name."""
        with frozen(self.seed), told(spec):
            result = self.call(**tensors, **constants)
            return outputs_of(result, spec.outputs, self.name, RETURNS)

    def makes(self, kind: str) -> bool:
        """Whether tensors of a kind are its own: none is."""
        return False

    def forget(self) -> None:
        """Keep nothing, as always."""


def applied(function: Any) -> Callable[..., Any]:
    """Return an autograd.Function as a function of arguments by name."""
    names = [*inspect.signature(function.forward).parameters][contexts(function) :]

    @wraps(function.forward)
    def call(**given: Any) -> Any:
        if {*names} != {*given}:
            shown, name = ", ".join(given), function.__name__
            raise ConventionError(
                "convention",
                f"{name}.forward takes {', '.join(names)}, and the spec has {shown}; say which is "
                f"which: torch_function(lambda {shown}: {name}.apply({shown}))",
            )
        return function.apply(*(given[k] for k in names))

    return call


def contexts(function: Any) -> int:
    """Return how many arguments of an autograd.Function's forward are its context: 1, or 0 where
    setup_context gets it."""
    from torch.autograd import Function

    return int(function.setup_context is Function.setup_context)


def backward_of(function: Any) -> Callable[..., Any]:
    """Return the backward of an autograd.Function, under whichever of its names it is written."""
    from torch.autograd import Function

    written: Callable[..., Any] = (
        function.vjp if function.backward is Function.backward else function.backward
    )
    return written


def written_functions(outputs: "Iterable[Tensor]") -> set[Any]:
    """Return the autograd.Functions that a person wrote, of all that made some outputs."""
    called = (getattr(node, "_forward_cls", None) for node in nodes(outputs))
    return {f for f in called if f is not None and not is_of_torch(f)}


def is_of_torch(written: Any) -> bool:
    """Whether a class is one of torch's own."""
    return str(written.__module__).partition(".")[0] == "torch"


def nodes(outputs: "Iterable[Tensor]") -> Iterator[Any]:
    """Yield what autograd recorded of how some outputs were made."""
    todo: list[Any] = [y.grad_fn for y in outputs]
    seen = set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo += [after for after, _ in node.next_functions]
