"""MultiheadAttention of torch.nn, self-attention: its projections are stacked in one matrix."""

from torch import nn

from gradverify import Constant, Input, Output, Param, Part, Spec, catalog
from gradverify.adapters import torch_module

attention = catalog("attention")


def stacked(name, x):
    return Spec(
        name,
        x=x,
        w=Param("3*G*E G*E"),
        b=Param("3*G*E", init="zeros"),
        out_w=Param("G*E G*E"),
        out_b=Param("G*E", init="zeros"),
        attend=Part(attention),
        G=Constant(1, 2),
        y=Output("B T G*E"),
        ranges={"g": "G", "e": "E", "j": "G*E"},
        definition="""
            p[n,t,i]     = sum[d](x[n,t,d]*w[i,d]) + b[i]
            q[n,g,t,e]   = p[n,t,g*E+e]
            k[n,g,t,e]   = p[n,t,G*E+g*E+e]
            v[n,g,t,e]   = p[n,t,2*G*E+g*E+e]
            heads[n]     = attend(q[n], k[n], v[n])
            z[n,t,g*E+e] = heads[n,g,t,e]
            y[n,t,d]     = sum[j](z[n,t,j]*out_w[d,j]) + out_b[d]
        """,
    )


def attending(need_weights):
    return torch_module(
        lambda G, E: nn.MultiheadAttention(G * E, G, batch_first=True),
        call=lambda module, x: module(x, x, x, need_weights=need_weights)[0],
        params={
            "w": "in_proj_weight",
            "b": "in_proj_bias",
            "out_w": "out_proj.weight",
            "out_b": "out_proj.bias",
        },
    )


multi_head_attention = stacked("multi_head_attention", Input("B T G*E"))
multi_head_attention.register(attending(True), name="torch_multihead_attention_with_weights")

# Without the weights it is scaled_dot_product_attention, whose backward on the CPU takes the scores
# anew: in float32 it loses digits as they grow, and gives nan where they are beyond 1e9.
of_bounded_inputs = stacked("multi_head_attention_bounded", Input("B T G*E", range="-10..10"))
of_bounded_inputs.register(attending(False), name="torch_multihead_attention")
