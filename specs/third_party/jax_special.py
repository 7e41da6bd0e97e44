"""The special functions of jax.scipy.special, against formulas in elementary and gamma functions.

Where there is no such formula, the spec has no definition: what is asked then is whether the
gradient is the slope of the function.

In jax 0.10.2 three of them are wrong. The gradient of i0 is 1 at 0, where i0 is flat: its factors
exp(abs(x)) and i0e(x) each take another slope there. That of spence is nan for x in 1..2, from the
logarithm of 1 - x in a branch that is not chosen. And betaln is off by some 1e-7 where a or b is 8
or more: of the two branches of TOMS 708's ALGDIV, x is taken from the one and all else from the
other, h/(1 + h) where 1/(1 + h) is meant.
"""

import jax.scipy.special as special

from gradverify import Input, Output, Spec
from gradverify.adapters import jax_function

# lgamma(19) is 36 and off by a few units in its last place, which exp makes a relative error.
EXP = (2e-5, "XLA computes it as exp(lgamma(x)), also in float32")
ALLOWED = {"gamma": {"y": EXP, "dx": EXP}}


def of_one(name, formula, values):
    """Return the spec of a function of one number, in a range."""
    definition = None if formula is None else f"y[n] = {formula}"
    return Spec(name, x=Input("N", range=values), y=Output("N"), definition=definition,
                allow=ALLOWED.get(name))  # fmt: skip


def of_two(name, formula, first, second):
    """Return the spec of a function of two numbers, each in a range."""
    return Spec(
        name,
        a=Input("N", range=first),
        b=Input("N", range=second),
        y=Output("N"),
        definition=None if formula is None else f"y[n] = {formula}",
    )


for name, formula, values in (
    ("erf", "erf(x[n])", "-5..5"),
    ("erfc", "erfc(x[n])", "-5..5"),
    ("erfcx", "exp(x[n]**2)*erfc(x[n])", "-4..4"),
    ("erfinv", None, "-0.99..0.99"),
    ("ndtr", "erfc(-x[n]/sqrt(2))/2", "-6..6"),
    ("log_ndtr", "log(erfc(-x[n]/sqrt(2))/2)", "-12..6"),
    ("ndtri", None, "0.01..0.99"),
    ("expit", "sigmoid(x[n])", "-30..30"),
    ("logit", "log(x[n]) - log1p(-x[n])", "0.001..0.999"),
    ("entr", "-x[n]*log(x[n])", "0.001..30"),
    ("gammaln", "lgamma(x[n])", "0.1..60"),
    ("gamma", "gamma(x[n])", "0.1..20"),
    ("digamma", "digamma(x[n])", "0.1..60"),
    ("i0", None, "-8..8"),
    ("i0e", None, "-8..8"),
    ("i1", None, "-8..8"),
    ("i1e", None, "-8..8"),
    ("exp1", None, "0.1..8"),
    ("expi", None, "0.1..8"),
    ("spence", None, "0.1..8"),
    ("dawsn", None, "-5..5"),
):

    def function(x, *, _name=name):
        return getattr(special, _name)(x)

    of_one(name, formula, values).register(jax_function(function), name=f"jax_{name}")

for name, formula, first, second in (
    ("xlogy", "a[n]*log(b[n])", "-5..5", "0.01..20"),
    ("xlog1py", "a[n]*log1p(b[n])", "-5..5", "-0.9..20"),
    ("rel_entr", "a[n]*log(a[n]/b[n])", "0.01..5", "0.01..5"),
    ("kl_div", "a[n]*log(a[n]/b[n]) - a[n] + b[n]", "0.01..5", "0.01..5"),
    ("beta", "exp(lgamma(a[n]) + lgamma(b[n]) - lgamma(a[n] + b[n]))", "0.2..8", "0.2..8"),
    ("betaln", "lgamma(a[n]) + lgamma(b[n]) - lgamma(a[n] + b[n])", "0.2..20", "0.2..20"),
    ("gammainc", None, "0.5..5", "0.2..8"),
    ("gammaincc", None, "0.5..5", "0.2..8"),
):

    def function(a, b, *, _name=name):
        return getattr(special, _name)(a, b)

    of_two(name, formula, first, second).register(jax_function(function), name=f"jax_{name}")

for order in (1, 2, 3):

    def function(x, *, _order=order):
        return special.polygamma(_order, x)

    spec = of_one(f"polygamma{order}", f"polygamma({order}, x[n])", "0.3..30")
    spec.register(jax_function(function), name=f"jax_polygamma{order}")
