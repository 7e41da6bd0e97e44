"""Each pixel repeated S times both ways (Odena, Dumoulin & Olah 2016, Distill 1)."""

from gradverify import Constant, Input, Output, Spec

upsample_nearest = Spec(
    "upsample_nearest",
    x=Input("N C H W"),
    S=Constant(1, 2, 3),
    y=Output("N C S*H S*W"),
    definition="""
        y[n,c,i,j] = x[n,c,i//S,j//S]
    """,
)


@upsample_nearest.register
def numpy_upsample_nearest(x, *, S):
    N, C, H, W = x.shape
    y = x.repeat(S, axis=2).repeat(S, axis=3)

    def pullback(dy):
        return {"x": dy.reshape(N, C, H, S, W, S).sum(axis=(3, 5))}

    return y, pullback
