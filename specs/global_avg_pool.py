"""The mean of each channel over the whole image (Lin, Chen & Yan 2013, arXiv:1312.4400)."""

import numpy as np

from gradverify import Input, Output, Spec

global_avg_pool = Spec(
    "global_avg_pool",
    x=Input("N C H W"),
    y=Output("N C"),
    definition="""
        y[n,c] = mean[h,w](x[n,c,h,w])
    """,
)


@global_avg_pool.register
def numpy_global_avg_pool(x):
    y = x.mean(axis=(2, 3))

    def pullback(dy):
        share = dy / (x.shape[2] * x.shape[3])
        return {"x": np.broadcast_to(share[:, :, None, None], x.shape).copy()}

    return y, pullback
