"""Forward mode and the double backward of torch, at tensors."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradverify.adapter import NotOffered
from gradverify.adapters.torch_functions import nodes

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]


def jvp(run: Callable[[Tensors], Tensors], tensors: Tensors, along: Tensors) -> "dict[str, Tensor]":
    """Return the derivatives of all that `run` returns along directions of some tensors, by name.

    Raises NotOffered where an operation, or an autograd.Function, has no forward mode.
    """
    import torch
    from torch.autograd import forward_ad

    mode: Any = forward_ad  # of no types
    with _offering("forward mode"), mode.dual_level():
        with warnings.catch_warnings():  # of what the first one imports
            warnings.simplefilter("ignore", DeprecationWarning)
            duals = {k: mode.make_dual(t, along[k]) if k in along else t
                     for k, t in tensors.items()}  # fmt: skip
        found = {k: (y, mode.unpack_dual(y).tangent) for k, y in run(duals).items()}
    return {k: torch.zeros_like(y) if dy is None else dy for k, (y, dy) in found.items()}


def double_vjp(
    outputs: "Sequence[Tensor]",
    wrt: "Sequence[Tensor]",
    cotangents: "Sequence[Tensor]",
    seeds: "Sequence[Tensor]",
) -> "list[Tensor]":
    """Return the gradients of <seeds, gradients of <cotangents, outputs>> for the tensors `wrt`,
    then for the cotangents, which ask for gradients as well.

    Raises NotOffered where an operation, or an autograd.Function, cannot be differentiated twice.
    """
    import torch

    at = [*wrt, *cotangents]
    with _offering("double backward"):
        flowing = [(y, dy) for y, dy in zip(outputs, cotangents, strict=True) if y.requires_grad]
        ys, dys = [y for y, _ in flowing], [dy for _, dy in flowing]
        first = torch.autograd.grad(ys, wrt, dys, create_graph=True, allow_unused=True)
        # What a backward computes outside of the graph has no derivative to autograd: it is 0.
        again = [(g, seed) for g, seed in zip(first, seeds, strict=True)
                 if g is not None and g.requires_grad]  # fmt: skip
        if not again:
            return [torch.zeros_like(t) for t in at]
        if any(node.name().endswith("::Error") for node in nodes(g for g, _ in again)):
            raise NotOffered("double backward: it is marked once_differentiable")
        gs, along = [g for g, _ in again], [seed for _, seed in again]
        found = torch.autograd.grad(gs, at, along, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, at, strict=True)]


# What torch says where an operation or a Function does not have what is asked of it.
_LACKING = (
    "does not support it because it has not been implemented",
    "must implement the jvp function",
    "is not implemented",
)


@contextmanager
def _offering(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        told = str(error).partition("\n")[0]
        if any(words in told for words in _LACKING):
            raise NotOffered(f"{what}: {told}") from error
        raise
