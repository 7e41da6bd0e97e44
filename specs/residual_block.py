"""A residual block with its normalization first (He et al. 2016, arXiv:1603.05027, fig. 1b).

Its branch is two fully connected layers, and its normalization layer normalization, where the
paper has convolutions and batch normalization.
"""

import numpy as np

from gradverify import Input, Output, Part, Spec, catalog

layer_norm, linear, relu = catalog("layer_norm"), catalog("linear"), catalog("relu")

residual_block = Spec(
    "residual_block",
    x=Input("N D"),
    norm=Part(layer_norm),
    fc1=Part(linear, K="H"),
    act=Part(relu),
    fc2=Part(linear, K="D"),
    y=Output("N D"),
    definition="""
        u = norm(x)
        z = fc1(u)
        h = act(z)
        r = fc2(h)
        y[n,d] = x[n,d] + r[n,d]
    """,
)


@residual_block.register
def numpy_residual_block(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
    xc = x - x.mean(axis=1, keepdims=True)
    sigma = np.sqrt((xc * xc).mean(axis=1, keepdims=True) + norm_eps)
    xhat = xc / sigma
    u = norm_gamma * xhat + norm_beta
    h = np.maximum(u @ fc1_w.T + fc1_b, 0)
    y = x + h @ fc2_w.T + fc2_b

    def pullback(dy):
        dz = (dy @ fc2_w) * (h > 0)
        du = dz @ fc1_w
        dxhat = du * norm_gamma
        along = dxhat.mean(axis=1, keepdims=True)
        along = along + xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
        return {
            "x": dy + (dxhat - along) / sigma,
            "norm_gamma": (du * xhat).sum(axis=0),
            "norm_beta": du.sum(axis=0),
            "fc1_w": dz.T @ u,
            "fc1_b": dz.sum(axis=0),
            "fc2_w": dy.T @ h,
            "fc2_b": dy.sum(axis=0),
        }

    return y, pullback
