"""A function of another framework, as one of NumPy arrays that returns outputs and a pullback."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gradverify.adapters.torch_functions import applied, contexts
from gradverify.scaffold.roles import Argument, arguments_of
from gradverify.scaffold.tensors import function_of, is_of_torch

Function = Callable[..., Any]


@dataclass(frozen=True)
class Foreign:
    """A function of arrays, its arguments, and the adapter that makes a layer of what it was.

    It is `certain` where it cannot be a layer of NumPy as well.
    """

    function: Function
    arguments: tuple[Argument, ...]
    adapter: str
    certain: bool = True


def foreign(found: Any) -> Foreign | None:
    """Return a function of another framework, None where it is none: an autograd.Function, a
    custom_vjp, or what uses a framework by name."""
    if is_of_torch(found, "torch.autograd.Function"):
        arguments = arguments_of(found.forward, skip=contexts(found))
        return Foreign(function_of(applied(found)), arguments, "torch_function")
    if type(found).__module__.startswith("jax") and "custom_vjp" in type(found).__name__:
        # It hands nothing to its rules that is given by name.
        positional = _of_jax(lambda **given: found(*given.values()))
        return Foreign(positional, arguments_of(found), "jax_function")
    if inspect.isclass(found):
        return None
    for framework, function in _PLAIN.items():
        if _uses(found, framework):
            return Foreign(function(found), arguments_of(found), f"{framework}_function", False)
    return None


def _uses(function: Any, framework: str) -> bool:
    """Whether a function is of a framework, or names anything of it."""
    plain = inspect.unwrap(function)
    names = getattr(getattr(plain, "__code__", None), "co_names", ())
    used = [plain.__globals__[name] for name in names if name in plain.__globals__]
    return any(of.partition(".")[0].startswith(framework)
               for value in (function, *used) for of in _modules(value))  # fmt: skip


def _modules(value: Any) -> list[str]:
    """Return where an object, its class and those that it derives from are written."""
    if isinstance(value, ModuleType):
        return [value.__name__]
    classes = value.__mro__ if inspect.isclass(value) else type(value).__mro__
    return [c.__module__ for c in classes] + [str(getattr(value, "__module__", ""))]


def _of_jax(function: Function) -> Function:
    import jax

    def called(**given: Any) -> Any:
        arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray)}

        def call(tensors: dict[str, Any]) -> Any:
            return function(**(given | tensors))

        with jax.enable_x64(True):
            outputs, vjp = jax.vjp(call, arrays)

        def pullback(*cotangents: Any) -> dict[str, Any]:
            with jax.enable_x64(True):
                (found,) = vjp(cotangents if isinstance(outputs, tuple) else cotangents[0])
            # The gradient of whole numbers is of a dtype of its own.
            return {k: np.asarray(g) for k, g in found.items() if g.dtype.kind == "f"}

        return jax.tree_util.tree_map(np.asarray, outputs), pullback

    return called


def _of_autograd(function: Function) -> Function:
    import autograd
    from autograd.builtins import isinstance as is_a
    from autograd.builtins import tuple as differentiable_tuple

    def called(**given: Any) -> Any:
        arrays = {
            k: v for k, v in given.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"
        }

        def call(tensors: dict[str, Any]) -> Any:
            found = function(**{k: tensors[k] if k in arrays else v for k, v in given.items()})
            return differentiable_tuple(found) if is_a(found, tuple) else found

        vjp, outputs = autograd.make_vjp(call)(arrays)
        several = isinstance(outputs, tuple)
        return outputs, lambda *cotangents: vjp(cotangents if several else cotangents[0])

    return called


_PLAIN: dict[str, Callable[[Function], Function]] = {
    "torch": function_of, "jax": _of_jax, "autograd": _of_autograd,
}  # fmt: skip
