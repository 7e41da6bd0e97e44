"""The mean triplet margin loss on euclidean distances (Balntas et al. 2016, BMVC).

a must be nearer to p than to q by the margin; eps keeps the distances from zero.
"""

import numpy as np

from gradverify import Constant, Input, Output, Spec

triplet = Spec(
    "triplet",
    a=Input("N D"),
    p=Input("N D"),
    q=Input("N D"),
    margin=Constant(1.0, 0.3),
    eps=Constant(1e-6, 1e-2),
    loss=Output(""),
    definition="""
        near[n] = sqrt(sum[d]((a[n,d] - p[n,d] + eps)**2))
        far[n]  = sqrt(sum[d]((a[n,d] - q[n,d] + eps)**2))
        loss    = mean[n](max(near[n] - far[n] + margin, 0))
    """,
)


@triplet.register
def numpy_triplet(a, p, q, *, margin, eps):
    to_p, to_q = a - p + eps, a - q + eps
    near = np.sqrt((to_p * to_p).sum(axis=1, keepdims=True))
    far = np.sqrt((to_q * to_q).sum(axis=1, keepdims=True))
    excess = np.maximum(near - far + margin, 0)
    loss = excess.mean()

    def pullback(dloss):
        share = (excess > 0) * (dloss / len(a))
        dp, dq = -share * to_p / near, share * to_q / far
        return {"a": -(dp + dq), "p": dp, "q": dq}

    return loss, pullback
