"""The objectives of scikit-learn's linear models, with respect to their coefficients.

`LinearModelLoss` is what LogisticRegression, PoissonRegressor and the others of their kind
minimise, and `_huber_loss_and_gradient` what HuberRegressor does (Owen 2007, "A robust hybrid of
lasso and ridge regression"). The product with the Hessian is a double backward.
"""

import numpy as np
from sklearn._loss import loss as losses
from sklearn.linear_model._huber import _huber_loss_and_gradient
from sklearn.linear_model._linear_loss import LinearModelLoss

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.adapters import value_and_grad

DATA = Input("N D", differentiable=False)
REAL = Input("N", differentiable=False)
COUNT = Input("N", range="0..9", differentiable=False)
SHARE = Input("N", range="0..1", differentiable=False)
WEIGHT = Input("N", range="0.1..3", differentiable=False)


def linear(name, loss, *, y):
    """Return the spec of a pointwise loss of raw = x w + b, averaged, with a penalty on w."""
    return Spec(
        name, x=DATA, y=y, weight=WEIGHT, w=Param("D"), b=Param("", init="zeros"),
        penalty=Constant(0.0, 0.7), loss=Output(""),
        definition=f"""
            raw[n] = sum[d](x[n,d]*w[d]) + b
            loss   = sum[n](weight[n]*({loss})) / sum[n](weight[n]) + penalty*sum[d](w[d]**2)/2
        """,
    )  # fmt: skip


def register(spec, loss):
    model = LinearModelLoss(loss(), fit_intercept=True)

    def arguments(x, y, weight, w, b):
        y, weight = np.ascontiguousarray(y), np.ascontiguousarray(weight)
        return {"coef": np.append(w, b), "X": x, "y": y, "sample_weight": weight}

    def layer(x, y, weight, w, b, *, penalty):
        at = arguments(x, y, weight, w, b)
        value, gradient = model.loss_gradient(**at, l2_reg_strength=penalty)
        # A Python float, which is a float64 that the caller may round.
        return np.asarray(value, w.dtype), lambda dloss: {
            "w": dloss * gradient[:-1],
            "b": dloss * gradient[-1],
        }

    def double_vjp(tensors, cotangents, seeds, constants):
        gradient, product = model.gradient_hessian_product(
            **arguments(**tensors), l2_reg_strength=constants["penalty"]
        )
        along = np.append(seeds["w"], seeds["b"])
        found = cotangents["loss"] * product(along)
        return {"w": found[:-1], "b": found[-1]}, {"loss": gradient @ along}

    spec.register(layer, name=f"sklearn_{spec.name}", double_vjp=double_vjp)


linear_squared = linear("linear_squared", "(raw[n] - y[n])**2 / 2", y=REAL)
register(linear_squared, losses.HalfSquaredError)

linear_logistic = linear("linear_logistic", "softplus(raw[n]) - y[n]*raw[n]", y=SHARE)
register(linear_logistic, losses.HalfBinomialLoss)

linear_poisson = linear("linear_poisson", "exp(raw[n]) - y[n]*raw[n]", y=COUNT)
register(linear_poisson, losses.HalfPoissonLoss)


linear_multinomial = Spec(
    "linear_multinomial",
    x=DATA,
    y=Input("N", dtype=int, range="0..C-1"),
    weight=WEIGHT,
    w=Param("C D"),
    b=Param("C", init="zeros"),
    penalty=Constant(0.0, 0.7),
    loss=Output(""),
    where=["C >= 2"],  # one class is refused by the compiled code
    definition="""
        raw[n,c] = sum[d](x[n,d]*w[c,d]) + b[c]
        cross[n] = weight[n]*(logsumexp[c](raw[n,c]) - raw[n,y[n]])
        loss     = sum[n](cross[n]) / sum[n](weight[n]) + penalty*sum[c,d](w[c,d]**2)/2
    """,
)


def multinomial(x, y, weight, w, b):
    model = LinearModelLoss(losses.HalfMultinomialLoss(n_classes=len(w)), fit_intercept=True)
    return model, {
        "coef": np.column_stack([w, b]),
        "X": x,
        "y": y.astype(x.dtype),
        "sample_weight": np.ascontiguousarray(weight),
    }


def multinomial_double_vjp(tensors, cotangents, seeds, constants):
    model, at = multinomial(**tensors)
    gradient, product = model.gradient_hessian_product(**at, l2_reg_strength=constants["penalty"])
    along = np.column_stack([seeds["w"], seeds["b"]])
    found = cotangents["loss"] * product(along)
    return {"w": found[:, :-1], "b": found[:, -1]}, {"loss": np.vdot(gradient, along)}


@linear_multinomial.register(double_vjp=multinomial_double_vjp)
def sklearn_linear_multinomial(x, y, weight, w, b, *, penalty):
    model, at = multinomial(x, y, weight, w, b)
    value, gradient = model.loss_gradient(**at, l2_reg_strength=penalty)
    return np.asarray(value, w.dtype), lambda dloss: {
        "w": dloss * gradient[:, :-1],
        "b": dloss * gradient[:, -1],
    }


linear_huber = Spec(
    "linear_huber",
    x=DATA,
    y=REAL,
    weight=WEIGHT,
    w=Param("D"),
    b=Param("", init="zeros"),
    sigma=Param("", init="ones", range="0.1..3"),
    epsilon=Constant(1.35, 1.0),
    alpha=Constant(0.0, 0.3),
    loss=Output(""),
    definition="""
        r[n] = y[n] - sum[d](x[n,d]*w[d]) - b
        h[n] = where(abs(r[n]) > epsilon*sigma, 2*epsilon*abs(r[n]) - sigma*epsilon**2,
                     r[n]**2/sigma)
        loss = sum[n](weight[n]*(sigma + h[n])) + alpha*sum[d](w[d]**2)
    """,
)


# The gradient is float64 whatever the data: so are the coefficients that HuberRegressor fits.
linear_huber.register(
    value_and_grad(_huber_loss_and_gradient, names={"weight": "sample_weight"}),
    name="sklearn_linear_huber",
    dtypes=["float64"],
)
