"""Fault: one way in which the gradients of a layer are made wrong, and what can be known of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, update_wrapper
from typing import Any

import numpy as np

from gradverify.calculus.derive import Derivation
from gradverify.layer import Layer
from gradverify.notation.tree import Name
from gradverify.spec import Spec

Array = np.ndarray[Any, Any]
Gradients = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """Where a pullback is asked: the arrays as the layer is given them, and the pullback.

    The pullback may be the layer's own, or the derived one in 50-digit numbers (object arrays):
    what alters gradients is written once for both.
    """

    spec: Spec
    tensors: Mapping[str, Array]
    constants: Mapping[str, Any]
    cotangents: tuple[Array, ...]
    pullback: Callable[..., Gradients]

    @cached_property
    def gradients(self) -> Gradients:
        """The unaltered gradients, by tensor."""
        return dict(self.pullback(*self.cotangents))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The dimensions that the shapes of the tensors show plainly, by name."""
        found: dict[str, int] = {}
        for tensor, array in self.tensors.items():
            sizes = self.spec.shapes[tensor]
            ones = self.spec.ones.get(tensor, ())
            extra = np.ndim(array) - len(sizes)  # what stands for a starred dimension
            shape = list(np.shape(array))
            for axis, size in enumerate(sizes):
                starred = isinstance(size, Name) and size.id in self.spec.stars
                own = [shape.pop(0) for _ in range(1 + extra if starred else 1)]
                if isinstance(size, Name) and axis not in ones:
                    found.setdefault(size.id, int(np.prod(own, dtype=int)))
        return found | {k: v for k, v in self.constants.items() if isinstance(v, int)}

    @property
    def precision(self) -> str:
        """The dtype of the cotangents."""
        return str(self.cotangents[0].dtype)


Alter = Callable[[Asked], Gradients]
Change = Callable[[Array, Asked], Any]  # of one gradient
Plant = Callable[[Layer], Callable[..., Any]]


@dataclass(frozen=True)
class Fault:
    """A wrong way to compute gradients; `name` is its own among the faults of a layer.

    `kind` is what it is counted as, `told` the kind that a diagnosis should name, or one of several
    with | between (None: nobody could), and `what` says in words what is wrong. `plant` returns
    the wrong function of a layer; `alter`, where the fault is one of values, what it makes of
    gradients in any arithmetic, and `derivation` what its gradients are derived from where that
    is no function of the right ones.
    """

    kind: str
    name: str
    told: str | None
    what: str
    plant: Plant
    alter: Alter | None = None
    derivation: Callable[[], Derivation] | None = None

    def layer(self, right: Layer) -> Layer:
        """Return the faulty layer."""
        function = self.plant(right)
        if function.__module__.startswith(f"{__package__}."):
            # What is put around a layer is no code of a user: to all who ask, the layer's own is.
            function = update_wrapper(function, right.function)
        return Layer(
            right.spec, function, name=f"{right.name} with {self.name}",
            dtypes=right.dtypes, file=right.file,
        )  # fmt: skip


def split(
    layer: Layer, given: Mapping[str, Any]
) -> tuple[tuple[Array, ...], Mapping[str, Any], Callable[..., Gradients], dict[str, Any]]:
    """Call a layer with what its function is given; return its outputs, constants, a pullback
    that returns gradients by name, and the tensors."""
    tensors = {k: given[k] for k in layer.spec.given}
    constants = {k: given[k] for k in layer.spec.constants}
    outputs, own = layer.forward(tensors, constants)

    def pullback(*cotangents: Array) -> Gradients:
        return layer.gradients(own, cotangents)

    return outputs, constants, pullback, tensors


def of_values(kind: str, name: str, told: str | None, what: str, alter: Alter) -> Fault:
    """Return the fault that returns altered gradients."""

    def plant(layer: Layer) -> Callable[..., Any]:
        def function(**given: Any) -> Any:
            outputs, constants, pullback, tensors = split(layer, given)

            def wrong(*cotangents: Array) -> Gradients:
                point = Asked(layer.spec, tensors, constants, cotangents, pullback)
                own = point.gradients
                return {k: _like(own.get(k), v) for k, v in alter(point).items()}

            return outputs, wrong

        return function

    return Fault(kind, name, told, what, plant, alter)


def of_one(
    kind: str, tensor: str, way: str, told: str | None, what: str,
    change: Change,
) -> Fault:  # fmt: skip
    """Return the fault that changes the gradient of one tensor."""

    def alter(point: Asked) -> Gradients:
        gradients = point.gradients
        if gradients.get(tensor) is None:
            return gradients
        return gradients | {tensor: change(np.asanyarray(gradients[tensor]), point)}

    return of_values(kind, ":".join(filter(None, (kind, way, tensor))), told, what, alter)


def _like(own: Any, value: Any) -> Any:
    """Return an altered gradient in the dtype of the unaltered one."""
    if own is None or value is None:
        return value
    return np.asanyarray(value).astype(np.asanyarray(own).dtype, copy=False)


def few(faults: Sequence[Fault], most: int, seed: int) -> list[Fault]:
    """Return at most so many of each kind, chosen by a seed, in order."""
    rng = np.random.default_rng(seed)
    kept: list[int] = []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        mine = [k for k, fault in enumerate(faults) if fault.kind == kind]
        kept += [mine[i] for i in rng.permutation(len(mine))[:most]]
    return [faults[k] for k in sorted(kept)]


def numbered(faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults with a number after a name that occurred before."""
    seen: dict[str, int] = {}
    found = []
    for fault in faults:
        seen[fault.name] = times = seen.get(fault.name, 0) + 1
        found.append(replace(fault, name=f"{fault.name}#{times}") if times > 1 else fault)
    return found
