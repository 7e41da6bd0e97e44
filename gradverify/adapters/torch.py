"""nn.Modules, functions of tensors and autograd.Functions of torch, as layers of a spec."""

import dis
from collections.abc import Callable, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gradverify.adapter import Adapter
from gradverify.adapters.framework import framework
from gradverify.adapters.torch_adapter import TorchAdapter
from gradverify.adapters.torch_declared import Declared
from gradverify.adapters.torch_functions import Function, applied, backward_of
from gradverify.adapters.torch_modules import Module
from gradverify.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_NONE: Mapping[str, str] = MappingProxyType({})


def torch_module(
    module: "nn.Module | Callable[..., nn.Module]",
    /,
    *,
    call: Callable[..., Any] | None = None,
    params: Mapping[str, str] = _NONE,
    buffers: Mapping[str, str] = _NONE,
    left_out: Mapping[str, str] = _NONE,
    seed: int | None = None,
) -> Adapter:
    """Return an nn.Module as a layer: `spec.register(torch_module(lambda C: nn.PReLU(C)))`.

    `module` makes one of sizes and constants, which it takes by name; or it is one, of fixed sizes.
    It is called with the inputs in declared order, or as `call=lambda module, x, h: module(x, h)`
    says, which takes inputs and constants by name. Declared parameters and buffers are those of the
    module that have the same name, or the dotted name that `params={"gamma": "norm.weight"}` and
    `buffers` give; the next value of a buffer is what it holds after the call. What the module has
    besides is a finding, unless `left_out={"mask": "is constant"}` says why. A constant `train` of
    True and False is the mode. `seed` is that of torch's generator in each forward.

    Raises UsageError where torch is missing or `module` is neither.
    """
    torch = framework("torch", "torch", "torch_module")
    declared = Declared(params, buffers, left_out)
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            "torch_module: the parameters of a scripted module cannot be replaced "
            "(torch.func.functional_call): give the module that it was made from"
        )
    if isinstance(module, torch.nn.Module):
        forward = type(module).forward
        made = Module(module, call, declared, seed)
        return TorchAdapter(made, (forward, forward), type(module).__name__)
    if not callable(module) or _is_class(module, torch.autograd.Function):
        raise UsageError(
            f"torch_module({module!r}): give it an nn.Module or what makes one of sizes and "
            "constants: torch_module(lambda C, eps: nn.BatchNorm1d(C, eps=eps))"
        )
    made = Module(module, call, declared, seed)
    own: Any = module
    written = own.forward if _is_class(module, torch.nn.Module) else own
    return TorchAdapter(made, (written, written), _label(module))


def torch_function(function: Any, /, *, seed: int | None = None) -> Adapter:
    """Return a function of tensors, or an autograd.Function, as a layer.

    A function takes tensors and constants by name and returns the outputs in declared order. The
    `forward` of an autograd.Function takes them under the names that the spec has. `seed` is that
    of torch's generator in each forward.

    Raises UsageError where torch is missing or `function` is neither.
    """
    torch = framework("torch", "torch", "torch_function")
    if _is_class(function, torch.autograd.Function):
        name = function.__name__
        written = (function.forward, backward_of(function))
        return TorchAdapter(Function(applied(function), name, seed), written, name)
    if isinstance(function, torch.nn.Module) or _is_class(function, torch.nn.Module):
        raise UsageError("torch_function: an nn.Module has parameters: give it to torch_module")
    if not callable(function):
        raise UsageError(
            f"torch_function({function!r}): give it a function of tensors or an autograd.Function"
        )
    label = _label(function)
    return TorchAdapter(Function(function, label, seed), (function, function), label)


def _is_class(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _label(function: Callable[..., Any]) -> str:
    """Return the name of a function, of a lambda that of what it calls."""
    name = str(getattr(function, "__name__", type(function).__name__))
    if name != "<lambda>":
        return name
    named = [step for step in dis.get_instructions(function) if step.opname.startswith("LOAD_")]
    path = takewhile(lambda step: step.opname in _NAMED, named)
    return [name, *(str(step.argval) for step in path if step.argval != "apply")][-1]


# How Python reads `nn.functional.gelu` in front of its arguments.
_NAMED = ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_ATTR", "LOAD_METHOD")
