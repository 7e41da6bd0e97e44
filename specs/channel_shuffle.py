"""Channels of G groups dealt out in turn (Zhang et al. 2018, arXiv:1707.01083, section 3.1)."""

from gradverify import Constant, Input, Output, Spec

channel_shuffle = Spec(
    "channel_shuffle",
    x=Input("N G*K H W"),
    G=Constant(1, 2, 3),
    y=Output("N G*K H W"),
    definition="""
        y[n,c,h,w] = x[n,c%G*K + c//G,h,w]
    """,
)


@channel_shuffle.register
def numpy_channel_shuffle(x, *, G):
    N, C, H, W = x.shape
    K = C // G
    y = x.reshape(N, G, K, H, W).swapaxes(1, 2).copy().reshape(x.shape)

    def pullback(dy):
        return {"x": dy.reshape(N, K, G, H, W).swapaxes(1, 2).copy().reshape(x.shape)}

    return y, pullback
