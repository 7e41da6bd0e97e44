"""Layers in other people's conventions, as layers of a spec: `spec.register(pair(f, b))`."""

from gradverify.adapters.object import stateful
from gradverify.adapters.pair import pair
from gradverify.adapters.torch import torch_function, torch_module
from gradverify.adapters.value_and_grad import value_and_grad

__all__ = ["pair", "stateful", "torch_function", "torch_module", "value_and_grad"]
