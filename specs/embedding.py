"""A table of learnt vectors, one for each word id (Bengio et al. 2003, JMLR 3, section 2)."""

import numpy as np

from gradverify import Input, Output, Param, Spec

embedding = Spec(
    "embedding",
    ids=Input("N", dtype=int, range="0..V-1"),
    w=Param("V D"),
    y=Output("N D"),
    definition="""
        y[n,d] = w[ids[n],d]
    """,
)


@embedding.register
def numpy_embedding(ids, w):
    y = w[ids]

    def pullback(dy):
        dw = np.zeros_like(w)
        np.add.at(dw, ids, dy)
        return {"w": dw}

    return y, pullback
