"""Linear, Conv2d and Embedding of torch.nn."""

from torch import nn

from gradverify import catalog
from gradverify.adapters import torch_module

names = {"w": "weight", "b": "bias"}

linear_any = catalog("linear_any")
linear_any.register(torch_module(lambda D, K: nn.Linear(D, K), params=names), name="torch_linear")

conv2d = catalog("conv2d")
conv2d.register(
    torch_module(
        lambda C, K, R, T, S, P, D: nn.Conv2d(C, K, (R, T), stride=S, padding=P, dilation=D),
        params=names,
    ),
    name="torch_conv2d",
)

embedding = catalog("embedding")
embedding.register(
    torch_module(lambda V, D: nn.Embedding(V, D), params={"w": "weight"}), name="torch_embedding"
)
