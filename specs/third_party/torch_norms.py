"""Normalizations of torch.nn."""

from torch import nn

from gradverify import catalog
from gradverify.adapters import torch_module

names = {"gamma": "weight", "beta": "bias"}

batch_norm = catalog("batch_norm")
batch_norm.register(
    torch_module(
        lambda C, eps: nn.BatchNorm1d(C, eps=eps, track_running_stats=False), params=names
    ),
    name="torch_batch_norm_1d",
)

batch_norm_running = catalog("batch_norm_running")
batch_norm_running.register(
    torch_module(
        lambda C, eps, momentum: nn.BatchNorm1d(C, eps=eps, momentum=momentum), params=names
    ),
    name="torch_batch_norm_1d_running",
)

batch_norm_2d = catalog("batch_norm_2d")
batch_norm_2d.register(
    torch_module(
        lambda C, eps: nn.BatchNorm2d(C, eps=eps, track_running_stats=False), params=names
    ),
    name="torch_batch_norm_2d",
)

layer_norm = catalog("layer_norm")
layer_norm.register(
    torch_module(lambda D, eps: nn.LayerNorm(D, eps=eps), params=names), name="torch_layer_norm"
)

group_norm = catalog("group_norm")
group_norm.register(
    torch_module(lambda G, K, eps: nn.GroupNorm(G, G * K, eps=eps), params=names),
    name="torch_group_norm",
)
