"""Three fully connected layers with relu between them (Rumelhart et al. 1986, Nature 323)."""

import numpy as np

from gradverify import Input, Output, Part, Spec, catalog

linear, relu = catalog("linear"), catalog("relu")

mlp = Spec(
    "mlp",
    x=Input("N D"),
    fc1=Part(linear, K="H1"),
    fc2=Part(linear, K="H2"),
    fc3=Part(linear),
    act=Part(relu),
    y=Output("N K"),
    definition="""
        z1 = fc1(x)
        h1 = act(z1)
        z2 = fc2(h1)
        h2 = act(z2)
        y  = fc3(h2)
    """,
)


@mlp.register
def numpy_mlp(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    h1 = np.maximum(x @ fc1_w.T + fc1_b, 0)
    h2 = np.maximum(h1 @ fc2_w.T + fc2_b, 0)
    y = h2 @ fc3_w.T + fc3_b

    def pullback(dy):
        dz2 = (dy @ fc3_w) * (h2 > 0)
        dz1 = (dz2 @ fc2_w) * (h1 > 0)
        return {
            "x": dz1 @ fc1_w,
            "fc1_w": dz1.T @ x,
            "fc1_b": dz1.sum(axis=0),
            "fc2_w": dz2.T @ h1,
            "fc2_b": dz2.sum(axis=0),
            "fc3_w": dy.T @ h2,
            "fc3_b": dy.sum(axis=0),
        }

    return y, pullback
