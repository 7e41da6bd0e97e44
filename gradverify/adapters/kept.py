"""What a person has said of objects of a layer: where they keep what is declared, and how their
methods are called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradverify.adapters.place import Place
from gradverify.layer import ConventionError
from gradverify.notation.tree import Expr


@dataclass(frozen=True)
class Kept:
    """Places of parameters and buffers, of gradients and of constants, and the shapes in which
    tensors are stored, as far as they are said, and the names of the methods.

    `accumulates` is what stateful() says of it.
    """

    params: Mapping[str, Place]
    grads: Mapping[str, Place]
    constants: Mapping[str, Place]
    stored: Mapping[str, tuple[Expr, ...]]
    forward: str
    backward: str
    accumulates: bool | str

    def methods(self, kind: type[Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the forward and the backward of a class; ConventionError where it has none."""
        for name in (self.forward, self.backward):
            if not callable(getattr(kind, name, None)):
                raise ConventionError(
                    "convention", f"what the factory made is a {kind.__name__}, which has no "
                    f'method {name}: name its own with forward="..." or backward="..."',
                )  # fmt: skip
        return getattr(kind, self.forward), getattr(kind, self.backward)
