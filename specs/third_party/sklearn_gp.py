"""The evidence that scikit-learn's Gaussian processes maximise, by the kernel's hyperparameters.

Rasmussen & Williams 2006, "Gaussian processes for machine learning", sections 2.3 and 5.5. There
are no definitions: the notation has no inverse of a matrix, no minimiser and no Bessel functions.
"""

import numpy as np
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from gradverify import Constant, Input, Output, Param, Spec

# All of it is float64 whatever the data.
DTYPES = ["float64"]
LOG = Param("", init="zeros", range="-2..2")

gp_regression = Spec(
    "gp_regression",
    x=Input("N D", range="-3..3", differentiable=False),
    y=Input("N K", differentiable=False),
    value=LOG,
    length=LOG,
    noise=LOG,
    evidence=Output(""),
    where=["N >= 1"],  # no sample is refused
)


@gp_regression.register(dtypes=DTYPES)
def sklearn_gp_regression(x, y, value, length, noise):
    kernel = ConstantKernel() * RBF() + WhiteKernel()
    process = GaussianProcessRegressor(kernel, optimizer=None).fit(x, y)
    evidence, gradient = process.log_marginal_likelihood(
        np.array([value, length, noise]), eval_gradient=True
    )
    return evidence, lambda dy: dict(zip(("value", "length", "noise"), dy * gradient, strict=True))


gp_classification = Spec(
    "gp_classification",
    x=Input("N D", range="-3..3", differentiable=False),
    t=Input("N", dtype=int, range="0..1"),
    value=LOG,
    length=LOG,
    evidence=Output(""),
    where=["N >= 2"],
)


@gp_classification.register(dtypes=DTYPES)
def sklearn_gp_classification(x, t, value, length):
    t = np.append(t[:-2], [0, 1])  # of one class there is nothing to fit
    kernel = ConstantKernel() * RBF()
    process = GaussianProcessClassifier(kernel, optimizer=None, warm_start=True).fit(x, t)
    theta = np.array([value, length])
    # The mode is sought until the evidence rises by less than 1e-10, and the gradient presumes that
    # it was found: after one search it has nine digits. More searches, each from there, find it.
    for _ in range(3):
        process.log_marginal_likelihood(theta)
    evidence, gradient = process.log_marginal_likelihood(theta, eval_gradient=True)
    return evidence, lambda dy: dict(zip(("value", "length"), dy * gradient, strict=True))


# Beside the smoothness that has closed forms, the derivative is a forward difference at a step of
# 1e-10, which has five digits at best and few where the samples are near.
matern_general = Spec(
    "matern_general",
    x=Input("N D", differentiable=False),
    length=LOG,
    nu=Constant(1.0, 3.7),
    K=Output("N N"),
    where=["N >= 1"],
)


@matern_general.register(dtypes=DTYPES)
def sklearn_matern_general(x, length, *, nu):
    K, gradient = Matern(nu=nu).clone_with_theta(length[None])(x, eval_gradient=True)
    return K, lambda dK: {"length": (dK * gradient[..., 0]).sum()}
