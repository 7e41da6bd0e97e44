"""R*R channels woven into one of R times the size (Shi et al. 2016, arXiv:1609.05158, eq. 4)."""

from gradverify import Constant, Input, Output, Spec

pixel_shuffle = Spec(
    "pixel_shuffle",
    x=Input("N C*R*R H W"),
    R=Constant(1, 2, 3),
    y=Output("N C R*H R*W"),
    ranges={"r": "R", "t": "R"},
    definition="""
        y[n,c,R*h+r,R*w+t] = x[n,(c*R+r)*R+t,h,w]
    """,
)


@pixel_shuffle.register
def numpy_pixel_shuffle(x, *, R):
    N, CRR, H, W = x.shape
    C = CRR // (R * R)
    y = x.reshape(N, C, R, R, H, W).transpose(0, 1, 4, 2, 5, 3).copy()
    y = y.reshape(N, C, R * H, R * W)

    def pullback(dy):
        parts = dy.reshape(N, C, H, R, W, R).transpose(0, 1, 3, 5, 2, 4).copy()
        return {"x": parts.reshape(x.shape)}

    return y, pullback
