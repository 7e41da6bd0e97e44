"""Layers in other people's conventions, as layers of a spec: `spec.register(pair(f, b))`."""

from gradverify.adapters.autograd import autograd_function
from gradverify.adapters.jax import jax_function
from gradverify.adapters.object import stateful
from gradverify.adapters.pair import pair
from gradverify.adapters.torch import torch_function, torch_module
from gradverify.adapters.value_and_grad import value_and_grad

__all__ = [
    "autograd_function", "jax_function", "pair", "stateful", "torch_function", "torch_module",
    "value_and_grad",
]  # fmt: skip
