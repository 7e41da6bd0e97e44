"""Between NumPy's arrays and torch's tensors, both ways, and what torch cannot hand over."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradverify.layer import ConventionError

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]


def to_tensor(array: Any) -> "Tensor":
    """Return an array as a tensor, of the same memory where torch can use that."""
    import torch

    array = np.asarray(array)
    if array.dtype == object:
        raise TypeError("a torch.Tensor holds float64 at most")
    flags = array.flags
    if not (flags.writeable and flags.aligned) or any(s < 0 for s in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def apart(arrays: Sequence[Array | None], taken: Sequence[Any]) -> list[Array | None]:
    """Return arrays of which none shares memory with another, nor with what is taken.

    autograd may give a cotangent back as a gradient, and one tensor as several.
    """
    held, found = [*taken], list[Array | None]()
    for array in arrays:
        if array is not None and any(np.may_share_memory(array, other) for other in held):
            array = array.copy()
        held.append(array)
        found.append(array)
    return found


def to_array(value: "Tensor", what: str) -> Array:
    """Return a tensor as an array, of the same memory; `what` says which it is in an error.

    Raises ConventionError where it is on another device than the CPU or of a dtype that NumPy has
    not.
    """
    import torch

    if value.device.type != "cpu":
        raise ConventionError(
            "device",
            f"{what} is on the device {value.device}, what was given is on cpu: make new tensors "
            "with device=x.device, or x.new_zeros(...) and torch.zeros_like(x)",
        )
    if value.dtype is torch.bfloat16:
        raise ConventionError(
            "dtype",
            f"{what} is torch.bfloat16, which it was not given: make new tensors with "
            "dtype=x.dtype, and cast back what .bfloat16() has cast",
        )
    dense = value.to_dense() if value.layout is not torch.strided else value
    array: Array = dense.detach().resolve_conj().resolve_neg().numpy()
    return array


def outputs_of(result: Any, names: tuple[str, ...], what: str, remedy: str) -> "dict[str, Tensor]":
    """Return what a forward returned, by the names that are declared for it.

    Raises ConventionError, with a remedy, where that is no tensor or not as many as are declared.
    """
    import torch

    values = (result,) if isinstance(result, torch.Tensor) else result
    kinds = ", ".join(names)
    if not isinstance(values, tuple | list):
        kind = type(result).__name__
        raise ConventionError(
            "convention", f"{what} returned a {kind} where {kinds} is declared: {remedy}"
        )
    if len(values) != len(names):
        raise ConventionError(
            "convention",
            f"{what} returned {len(values)} values where {kinds} is declared: {remedy}",
        )
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise ConventionError("type", f"output {name} is a {kind}, not a torch.Tensor")
    return dict(zip(names, values, strict=True))
