"""Feature-wise linear modulation (Perez et al. 2018, arXiv:1709.07871, eq. 2).

One scale and one shift a channel, for each sample or the same for all samples.
"""

from gradverify import Input, Output, Spec

film = Spec(
    "film",
    x=Input("N C H W"),
    gamma=Input("N|1 C"),
    beta=Input("N|1 C"),
    y=Output("N C H W"),
    definition="""
        y[n,c,h,w] = gamma[n,c]*x[n,c,h,w] + beta[n,c]
    """,
)


@film.register
def numpy_film(x, gamma, beta):
    y = gamma[:, :, None, None] * x + beta[:, :, None, None]

    def as_given(gradient, shape):
        return gradient if shape == gradient.shape else gradient.sum(axis=0, keepdims=True)

    def pullback(dy):
        return {
            "x": gamma[:, :, None, None] * dy,
            "gamma": as_given((dy * x).sum(axis=(2, 3)), gamma.shape),
            "beta": as_given(dy.sum(axis=(2, 3)), beta.shape),
        }

    return y, pullback
