"""A module or a function of torch: what is observed of it, and the adapter's call."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradverify.scaffold.calling import Array, quietly
from gradverify.scaffold.example import Example
from gradverify.scaffold.objects import (
    Made,
    arguments_to_make,
    made_at,
    maker,
    observed_of,
    shape_in,
)
from gradverify.scaffold.roles import Argument, arguments_of
from gradverify.scaffold.search import Shape
from gradverify.scaffold.write import registration

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class _Module:
    """A class of modules, as `objects.Known` has it; `paths` are the dotted names, by name, of its
    parameters and buffers."""

    made: type["nn.Module"]
    given: Mapping[str, Any]
    dims: tuple[str, ...]
    inputs: tuple[Argument, ...]
    params: Mapping[str, Shape]
    buffers: tuple[str, ...]
    paths: Mapping[str, str]

    def run(self, shapes: Mapping[str, Shape], given: Mapping[str, Array]) -> Any:
        """Return outputs and pullback as a layer does."""
        from torch.func import functional_call

        module = self.made(**made_at(self, shapes, given)).double()

        def call(tensors: Mapping[str, "Tensor"]) -> Any:
            state = {path: tensors[k] for k, path in self.paths.items()}
            # A buffer is written to, and is then its next value.
            state |= {self.paths[k]: tensors[k].clone() for k in self.buffers}
            inputs = [tensors[a.name] for a in self.inputs]
            found = functional_call(module, state, tuple(inputs))
            outputs = found if isinstance(found, tuple) else (found,)
            return (*outputs, *(state[self.paths[k]] for k in self.buffers))

        return pulled(call, given, self.buffers)


def is_of_torch(found: object, kind: str) -> bool:
    """Whether an object is a class that derives from one of torch, such as "torch.nn.Module"."""
    classes = found.__mro__ if inspect.isclass(found) else ()
    module, _, name = kind.rpartition(".")
    return any(c.__name__ == name and c.__module__.startswith(module) for c in classes)


def of_module(made: type["nn.Module"], example: Example | None) -> Made | None:
    """Return a class of modules as a layer, None where it cannot be made or called."""
    given = arguments_to_make(made, example)
    module = quietly(lambda: made(**given))
    if module is None:
        return None
    dims = tuple(k for k, v in given.items() if type(v) is int)
    buffers = {k: b for k, b in module.named_buffers() if b.is_floating_point()}
    state = {**dict(module.named_parameters()), **buffers}
    paths = {path.replace(".", "_"): path for path in state}
    params = {}
    for name, path in paths.items():
        shape = shape_in(state[path].shape, [given[d] for d in dims])
        if shape is None:
            return None
        params[name] = shape
    inputs = arguments_of(made.forward, skip=1)
    kept = tuple(name for name, path in paths.items() if path in buffers)
    known = _Module(made, given, dims, inputs, params, kept, paths)
    found = observed_of(known, example)
    return None if found is None else Made(found[0], _body(known, *found))


def _body(known: _Module, observed: Any, order: Any) -> str:
    parts = [maker(known, known.made.__qualname__, observed, order)]
    for what, names in (
        ("params", [k for k in known.params if k not in known.buffers]),
        ("buffers", known.buffers),
    ):
        told = {k: known.paths[k] for k in names if known.paths[k] != k}
        if told:
            parts.append(f"{what}={told!r}".replace("'", '"'))
    return "\n".join(["", registration("torch_module", parts)])


def function_of(found: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors as one of arrays that returns outputs and a pullback."""

    def function(**given: Any) -> Any:
        arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray)}
        return pulled(lambda tensors: found(**(given | dict(tensors))), arrays)

    return function


def pulled(
    call: Callable[[Mapping[str, "Tensor"]], Any],
    given: Mapping[str, Array],
    fixed: Collection[str] = (),
) -> Any:
    """Return what a function of tensors gives, as arrays, and its pullback by autograd; those that
    are `fixed` take no gradient."""
    import torch

    tensors = {k: torch.from_numpy(np.array(v)) for k, v in given.items()}
    taking = [k for k, t in tensors.items() if t.is_floating_point() and k not in fixed]
    for name in taking:
        tensors[name].requires_grad_()
    found = call(tensors)
    outputs = found if isinstance(found, tuple) else (found,)

    def pullback(*cotangents: Array) -> dict[str, Any]:
        pairs = [(y, torch.from_numpy(dy)) for y, dy in zip(outputs, cotangents, strict=False)
                 if y.requires_grad]  # fmt: skip
        of, wrt = [y for y, _ in pairs], [tensors[k] for k in taking]
        grads = torch.autograd.grad(of, wrt, [dy for _, dy in pairs], allow_unused=True)
        return {k: None if g is None else g.numpy() for k, g in zip(taking, grads, strict=True)}

    arrays = tuple(y.detach().numpy() for y in outputs)
    return arrays if len(arrays) > 1 else arrays[0], pullback
