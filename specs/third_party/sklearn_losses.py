"""The pointwise losses of scikit-learn's boosting and linear models (sklearn._loss, compiled).

The same gradient is written up to three times there, each a layer here: in `loss_gradient`, in
`gradient`, and in `gradient_hessian`, whose second derivative is a double backward. Those of the
targets y and the sample weights are not offered.
"""

import numpy as np
from sklearn._loss import loss as losses

from gradverify import Constant, Input, Output, Spec

REAL = Input("N", differentiable=False)
COUNT = Input("N", range="0..9", differentiable=False)
POSITIVE = Input("N", range="0.1..9", differentiable=False)
SHARE = Input("N", range="0..1", differentiable=False)
LABEL = Input("N", dtype=int, range="0..C-1")
WEIGHT = Input("N", range="0..3", differentiable=False)


def pointwise(name, loss, *, y, raw="N", **constants):
    return Spec(
        name, raw=Input(raw) if isinstance(raw, str) else raw, y=y, weight=WEIGHT,
        loss=Output("N"), definition=f"loss[n] = weight[n]*({loss})", **constants,
    )  # fmt: skip


def data(raw, y, weight):
    # As documented: targets in the dtype of the predictions, and all of them contiguous.
    return [np.ascontiguousarray(a, raw.dtype) for a in (y, raw, weight)]


def register(spec, loss, hessian=True, name=None):
    """Register the ways to the gradients of the loss that `loss(**constants)` is."""
    name = name or f"sklearn_{spec.name}"

    def together(raw, y, weight, **constants):
        value, gradient = loss(**constants).loss_gradient(*data(raw, y, weight))
        return value, lambda dloss: {"raw": (dloss.T * gradient.T).T}

    def apart(raw, y, weight, **constants):
        at = data(raw, y, weight)
        value, gradient = loss(**constants).loss(*at), loss(**constants).gradient(*at)
        return value, lambda dloss: {"raw": (dloss.T * gradient.T).T}

    def second(raw, y, weight, **constants):
        at = data(raw, y, weight)
        value, (gradient, _) = loss(**constants).loss(*at), loss(**constants).gradient_hessian(*at)
        return value, lambda dloss: {"raw": (dloss.T * gradient.T).T}

    def double_vjp(tensors, cotangents, seeds, constants):
        gradient, hessian = loss(**constants).gradient_hessian(*data(**tensors))
        along = seeds["raw"]
        return {"raw": cotangents["loss"] * hessian * along}, {"loss": gradient * along}

    spec.register(together, name=f"{name}_loss_gradient")
    spec.register(apart, name=f"{name}_gradient")
    spec.register(second, name=f"{name}_gradient_hessian",
                  double_vjp=double_vjp if hessian else None)  # fmt: skip


half_squared_error = pointwise("half_squared_error", "(raw[n] - y[n])**2 / 2", y=REAL)
register(half_squared_error, losses.HalfSquaredError)

# The Hessians of these two are 1 instead of 0, as their documentation says.
absolute_error = pointwise("absolute_error", "abs(raw[n] - y[n])", y=REAL)
register(absolute_error, losses.AbsoluteError, hessian=False)

pinball = pointwise(
    "pinball",
    "where(y[n] >= raw[n], quantile*(y[n] - raw[n]), (1 - quantile)*(raw[n] - y[n]))",
    y=REAL, quantile=Constant(0.5, 0.9),
)  # fmt: skip
register(pinball, losses.PinballLoss, hessian=False)

huber = pointwise(
    "huber",
    """where(abs(raw[n] - y[n]) <= delta,
              (raw[n] - y[n])**2 / 2, delta*(abs(raw[n] - y[n]) - delta/2))""",
    y=REAL, delta=Constant(0.5, 2.0),
)  # fmt: skip
register(huber, losses.HuberLoss)

half_poisson = pointwise("half_poisson", "exp(raw[n]) - y[n]*raw[n]", y=COUNT)
register(half_poisson, losses.HalfPoissonLoss)

half_gamma = pointwise("half_gamma", "raw[n] + y[n]*exp(-raw[n])", y=POSITIVE)
register(half_gamma, losses.HalfGammaLoss)

half_tweedie = pointwise(
    "half_tweedie",
    "exp((2 - power)*raw[n])/(2 - power) - y[n]*exp((1 - power)*raw[n])/(1 - power)",
    y=POSITIVE, power=Constant(1.5, 3.0, -0.5),
)  # fmt: skip
register(half_tweedie, losses.HalfTweedieLoss)

# The powers 0, 1 and 2 are branches of their own.
half_tweedie_0 = pointwise("half_tweedie_0", "(exp(raw[n]) - y[n])**2 / 2", y=REAL)
register(half_tweedie_0, lambda: losses.HalfTweedieLoss(power=0))
register(half_poisson, lambda: losses.HalfTweedieLoss(power=1), name="sklearn_half_tweedie_1")
register(half_gamma, lambda: losses.HalfTweedieLoss(power=2), name="sklearn_half_tweedie_2")

half_tweedie_identity = pointwise(
    "half_tweedie_identity",
    """y[n]**(2 - power)/((1 - power)*(2 - power))
       - y[n]*raw[n]**(1 - power)/(1 - power) + raw[n]**(2 - power)/(2 - power)""",
    raw=Input("N", range="0.1..9"), y=POSITIVE, power=Constant(1.5, 3.0, -0.5),
)  # fmt: skip
register(half_tweedie_identity, losses.HalfTweedieLossIdentity)

half_tweedie_identity_1 = pointwise(
    "half_tweedie_identity_1",
    "where(y[n] == 0, raw[n], y[n]*log(y[n]/raw[n]) + raw[n] - y[n])",
    raw=Input("N", range="0.1..9"), y=COUNT,
)  # fmt: skip
register(half_tweedie_identity_1, lambda: losses.HalfTweedieLossIdentity(power=1))

half_tweedie_identity_2 = pointwise(
    "half_tweedie_identity_2", "log(raw[n]/y[n]) + y[n]/raw[n] - 1",
    raw=Input("N", range="0.1..9"), y=POSITIVE,
)  # fmt: skip
register(half_tweedie_identity_2, lambda: losses.HalfTweedieLossIdentity(power=2))

half_binomial = pointwise("half_binomial", "softplus(raw[n]) - y[n]*raw[n]", y=SHARE)
register(half_binomial, losses.HalfBinomialLoss)

exponential = pointwise("exponential", "y[n]*exp(-raw[n]) + (1 - y[n])*exp(raw[n])", y=SHARE)
register(exponential, losses.ExponentialLoss)

# Its Hessian is the diagonal alone. One class is refused by the compiled code.
half_multinomial = pointwise(
    "half_multinomial", "logsumexp[c](raw[n,c]) - raw[n,y[n]]", y=LABEL, raw="N C",
    where=["C >= 2"],
)  # fmt: skip
register(half_multinomial, losses.HalfMultinomialLoss, hessian=False)
