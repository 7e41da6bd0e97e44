"""A function of JAX as one of NumPy arrays that returns outputs and a pullback."""

from collections.abc import Callable
from typing import Any

import numpy as np


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return it with the pullback of `jax.vjp`, in float64."""
    import jax

    def called(**given: Any) -> Any:
        arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray)}
        others = {k: v for k, v in given.items() if k not in arrays}

        def call(tensors: dict[str, Any]) -> Any:
            # By position: a custom_vjp hands nothing else to its rules.
            return function(*({**tensors, **others}[k] for k in given))

        with jax.enable_x64(True):
            outputs, vjp = jax.vjp(call, arrays)

        def pullback(*cotangents: Any) -> dict[str, Any]:
            with jax.enable_x64(True):
                (found,) = vjp(cotangents if isinstance(outputs, tuple) else cotangents[0])
            # The gradient of whole numbers is of a dtype of its own.
            return {k: np.asarray(g) for k, g in found.items() if g.dtype.kind == "f"}

        arrays_of = jax.tree_util.tree_map(np.asarray, outputs)
        return arrays_of, pullback

    return called
