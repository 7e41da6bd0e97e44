"""The losses of scikit-learn's stochastic gradient descent (compiled), each with its slope."""

import numpy as np
from sklearn.linear_model import _sgd_fast as losses

from gradverify import Constant, Input, Output, Spec

SIGN = Input("N", values=(-1, 1), differentiable=False)
REAL = Input("N", differentiable=False)


def pointwise(name, loss, *, y, **constants):
    return Spec(name, p=Input("N"), y=y, loss=Output("N"),
                definition=f"loss[n] = {loss}", **constants)  # fmt: skip


def register(spec, loss):
    def layer(p, y, **constants):
        at = loss(**constants)  # takes one number at a time, as the descent does
        value, slope = (np.vectorize(f, otypes="d")(p, y) for f in (at.py_loss, at.py_dloss))
        return value, lambda dloss: {"p": dloss * slope}

    # Numbers in C are doubles here, whatever the data.
    spec.register(layer, name=f"sklearn_sgd_{spec.name}", dtypes=["float64"])


hinge = pointwise("hinge", "max(threshold - p[n]*y[n], 0)", y=SIGN, threshold=Constant(1.0, 0.0))
register(hinge, losses.Hinge)

squared_hinge = pointwise(
    "squared_hinge", "max(threshold - p[n]*y[n], 0)**2", y=SIGN, threshold=Constant(1.0, 0.3)
)
register(squared_hinge, losses.SquaredHinge)

modified_huber = pointwise(
    "modified_huber", "where(p[n]*y[n] < -1, -4*p[n]*y[n], max(1 - p[n]*y[n], 0)**2)", y=SIGN
)
register(modified_huber, losses.ModifiedHuber)

epsilon_insensitive = pointwise(
    "epsilon_insensitive", "max(abs(y[n] - p[n]) - epsilon, 0)", y=REAL, epsilon=Constant(0.1, 1.0)
)
register(epsilon_insensitive, losses.EpsilonInsensitive)

squared_epsilon_insensitive = pointwise(
    "squared_epsilon_insensitive", "max(abs(y[n] - p[n]) - epsilon, 0)**2",
    y=REAL, epsilon=Constant(0.1, 1.0),
)  # fmt: skip
register(squared_epsilon_insensitive, losses.SquaredEpsilonInsensitive)
