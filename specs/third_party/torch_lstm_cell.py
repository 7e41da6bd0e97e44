"""LSTMCell of torch.nn, which has two biases where the catalogue's has one."""

from torch import nn

from gradverify import Input, Output, Param, Spec
from gradverify.adapters import torch_module

lstm_cell = Spec(
    "lstm_cell_of_two_biases",
    x=Input("N D"),
    h=Input("N H"),
    c=Input("N H"),
    weight_ih=Param("4*H D"),
    weight_hh=Param("4*H H"),
    bias_ih=Param("4*H", init="zeros"),
    bias_hh=Param("4*H", init="zeros"),
    h_next=Output("N H"),
    c_next=Output("N H"),
    ranges={"u": "H"},
    definition="""
        z[n,j]      = sum[d](x[n,d]*weight_ih[j,d]) + bias_ih[j]
                      + sum[m](h[n,m]*weight_hh[j,m]) + bias_hh[j]
        i[n,u]      = sigmoid(z[n,u])
        f[n,u]      = sigmoid(z[n,u+H])
        g[n,u]      = tanh(z[n,u+2*H])
        o[n,u]      = sigmoid(z[n,u+3*H])
        c_next[n,u] = f[n,u]*c[n,u] + i[n,u]*g[n,u]
        h_next[n,u] = o[n,u]*tanh(c_next[n,u])
    """,
)
lstm_cell.register(
    torch_module(lambda D, H: nn.LSTMCell(D, H), call=lambda cell, x, h, c: cell(x, (h, c))),
    name="torch_lstm_cell",
)
