"""What the tests of adapters share: small specs, and what is found in layers of them."""

import inspect

import numpy as np

from gradverify import Constant, Input, Layer, Output, Param, Spec, verify
from gradverify.adapters import stateful

linear = Spec(
    "linear", x=Input("N D"), w=Param("D M"), b=Param("M"), y=Output("N M"),
    definition="y[n,m] = sum[d](x[n,d]*w[d,m]) + b[m]",
)  # fmt: skip
softened = Spec(
    "softened", x=Input("N"), t=Input("N", differentiable=False), a=Constant(0.5, 2.0),
    loss=Output(""), definition="loss = a*mean[n]((x[n] - t[n])**2)",
)  # fmt: skip


def judged(spec, adapter, *, dtypes=None, **options):
    """Return the result of a layer, by default of all checks that a quick run has."""
    layer = Layer(spec, adapter, dtypes=dtypes)
    (result,) = verify(layer, **{"profile": "quick", **options}).layers
    return result


def errors(spec, adapter, **options):
    """Return the errors of a layer by check, question and tensor."""
    result = judged(spec, adapter, **options)
    return {(f.check, f.question, f.tensor): f for f in result.errors}


def contract(spec, adapter):
    """Return what contract finds, warnings too, by question and tensor."""
    result = judged(spec, adapter, checks=["contract"])
    return {(f.question, f.tensor): f for f in result.findings}


def told(finding):
    """Return a finding's message without the number of its cases."""
    return finding.message.split(" (in ")[0]


def line_of(function):
    """Return where a function is written, as file:line."""
    return f"{inspect.getsourcefile(function)}:{inspect.getsourcelines(function)[1]}"


class Linear:
    """As people write a layer as an object, with a step of its own."""

    def __init__(self, n_in, n_out):
        self.W, self.b = np.zeros((n_in, n_out)), np.zeros(n_out)
        self.cache = None

    def forward(self, x):
        self.cache = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.cache.T @ dy, dy.sum(axis=0)
        return dy @ self.W.T

    def update(self, lr):
        self.W -= lr * self.dW
        self.b -= lr * self.db


def made(kind, **options):
    """Return the adapter of objects that are made of the sizes of `linear`."""
    return stateful(lambda D, M: kind(D, M), **options)
