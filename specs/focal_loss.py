"""The mean focal loss of binary labels t with logits x (Lin et al. 2017, arXiv:1708.02002, eq. 5).

With z the logit of the true label, sigmoid(z) is p_t of the paper and softplus(-z) is -log(p_t).
"""

import numpy as np

from gradverify import Constant, Input, Output, Spec

focal_loss = Spec(
    "focal_loss",
    x=Input("N"),
    t=Input("N", dtype=int, range="0..1"),
    gamma=Constant(2.0, 0.5),
    alpha=Constant(0.25, 0.6),
    loss=Output(""),
    definition="""
        z[n]      = where(t[n] == 1, x[n], -x[n])
        weight[n] = where(t[n] == 1, alpha, 1 - alpha)
        loss      = mean[n](weight[n]*sigmoid(-z[n])**gamma*softplus(-z[n]))
    """,
)


@focal_loss.register
def numpy_focal_loss(x, t, *, gamma, alpha):
    sign = np.where(t == 1, 1, -1).astype(x.dtype)
    z = sign * x
    e = np.exp(-np.abs(z))  # never overflows, unlike exp(-z)
    right, wrong = np.where(z >= 0, 1, e) / (1 + e), np.where(z >= 0, e, 1) / (1 + e)
    surprise = np.maximum(-z, 0) + np.log1p(e)
    weight = np.where(t == 1, alpha, 1 - alpha).astype(x.dtype) * wrong**gamma
    loss = (weight * surprise).mean()

    def pullback(dloss):
        return {"x": -dloss / x.size * sign * weight * (wrong + gamma * right * surprise)}

    return loss, pullback
