"""PReLU and GELU of torch.nn, and its softmax cross entropy."""

from torch import nn

from gradverify import Input, Output, Spec, catalog
from gradverify.adapters import torch_module

prelu = catalog("prelu")
prelu.register(torch_module(lambda C: nn.PReLU(C), params={"a": "weight"}), name="torch_prelu")

gelu = catalog("gelu")
gelu.register(torch_module(nn.GELU(approximate="tanh")), name="torch_gelu_tanh")

gelu_erf = Spec(
    "gelu_erf",
    x=Input("N C"),
    y=Output("N C"),
    definition="""
        y[n,c] = x[n,c]*(1 + erf(x[n,c]/sqrt(2)))/2
    """,
)
gelu_erf.register(torch_module(nn.GELU()), name="torch_gelu")

softmax_cross_entropy = catalog("softmax_cross_entropy")
softmax_cross_entropy.register(torch_module(nn.CrossEntropyLoss()), name="torch_cross_entropy_loss")
