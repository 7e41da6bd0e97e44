"""The backpropagation of scikit-learn's multilayer perceptrons, with one hidden layer.

Each loss is written with another activation, so that all of both are here. The gradient of the
data is not offered.

Probabilities are clipped to [eps, 1 - eps] in the loss and not in the gradient, and the loss of
counts divides by a prediction that may be 0. So both are the functions that they are meant to be
only where the outputs z stay small, which is what `NEAR` declares.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from gradverify import Constant, Input, Output, Param, Spec

NEAR = "-1..1"


def perceptron(name, activation, loss, *, y, where=(), range=None):
    """Return the spec of a loss of the outputs z, of which the weighted mean is minimised."""
    small = ["D <= 5", "H <= 5"] if range else []
    return Spec(
        name, x=Input("N D", range=range, differentiable=False), y=y,
        weight=Input("N", range="0.1..3", differentiable=False),
        w1=Param("D H", range=range), b1=Param("H", range=range),
        w2=Param("H K", range=range), b2=Param("K", range=range),
        alpha=Constant(1e-4, 0.3), loss=Output(""),
        definition=f"""
            total   = sum[n](weight[n])
            a[n,h]  = sum[d](x[n,d]*w1[d,h]) + b1[h]
            z[n,k]  = sum[h]({activation}*w2[h,k]) + b2[k]
            squares = sum[d,h](w1[d,h]**2) + sum[h,k](w2[h,k]**2)
            loss    = sum[n](weight[n]*{loss})/total + alpha*squares/2/total
        """, where=[*where, *small],
    )  # fmt: skip


def register(spec, network, output, targets=lambda y, K: y):
    def layer(x, y, weight, w1, b1, w2, b2, *, alpha):
        network.alpha = alpha
        # What `fit` prepares before it calls the backpropagation.
        network.n_layers_, network.out_activation_ = 3, output
        network.coefs_, network.intercepts_ = [w1, w2], [b1, b2]
        value, (dw1, dw2), (db1, db2) = network._backprop(
            x, targets(y, w2.shape[1]), weight, [x, None, None],
            [None] * 2, [None] * 2, [None] * 2,
        )  # fmt: skip

        def pullback(dloss):
            gradients = {"w1": dw1, "b1": db1, "w2": dw2, "b2": db2}
            return {k: dloss * gradient for k, gradient in gradients.items()}

        # With labels that are bools, as here and in `fit`, the loss is float64 whatever the data.
        return np.asarray(value, x.dtype), pullback

    spec.register(layer, name=f"sklearn_{spec.name}")


REAL = Input("N K", differentiable=False)
COUNT = Input("N K", range="0..9", differentiable=False)
LABEL = Input("N K", values=(0, 1), differentiable=False)

# With several outputs the loss is their mean, and the gradient that of their sum.
for name, outputs in {"mlp_squared": "K == 1", "mlp_squared_outputs": "K >= 2"}.items():
    mlp_squared = perceptron(
        name, "sigmoid(a[n,h])", "mean[k]((z[n,k] - y[n,k])**2)/2", y=REAL, where=[outputs]
    )
    register(mlp_squared, MLPRegressor("squared_error", activation="logistic"), "identity")

mlp_poisson = perceptron(
    "mlp_poisson", "a[n,h]",
    "sum[k](where(y[n,k] == 0, 0, y[n,k]*(log(y[n,k]) - z[n,k])) - y[n,k] + exp(z[n,k]))",
    y=COUNT, range=NEAR,
)  # fmt: skip
register(mlp_poisson, MLPRegressor("poisson", activation="identity"), "exp")

mlp_logistic = perceptron(
    "mlp_logistic", "tanh(a[n,h])", "sum[k](softplus(z[n,k]) - y[n,k]*z[n,k])", y=LABEL, range=NEAR
)
register(mlp_logistic, MLPClassifier(activation="tanh"), "logistic", lambda y, K: y.astype(bool))

mlp_softmax = perceptron(
    "mlp_softmax", "relu(a[n,h])", "(logsumexp[k](z[n,k]) - z[n,y[n]])",
    y=Input("N", dtype=int, range="0..K-1"), where=["K >= 2"], range=NEAR,
)  # fmt: skip
register(mlp_softmax, MLPClassifier(activation="relu"), "softmax",
         lambda y, K: np.eye(K, dtype=bool)[y])  # fmt: skip
