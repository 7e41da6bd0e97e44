"""The special functions of HIPS autograd (github.com/HIPS/autograd), whose rules are hand-written.

Where there is no formula in elementary and gamma functions, the spec has no definition: what is
asked then is whether the gradient is the slope of the function.
"""

import autograd.scipy.special as special

from gradverify import Input, Output, Spec
from gradverify.adapters import autograd_function


def of_one(name, formula, values):
    """Return the spec of a function of one number, in a range."""
    definition = None if formula is None else f"y[n] = {formula}"
    return Spec(name, x=Input("N", range=values), y=Output("N"), definition=definition)


for name, formula, values in (
    ("erf", "erf(x[n])", "-5..5"),
    ("erfc", "erfc(x[n])", "-5..5"),
    ("erfinv", None, "-0.99..0.99"),
    ("erfcinv", None, "0.01..1.99"),
    ("expit", "sigmoid(x[n])", "-30..30"),
    ("logit", "log(x[n]) - log1p(-x[n])", "0.001..0.999"),
    ("gammaln", "lgamma(x[n])", "0.1..60"),
    ("gamma", "gamma(x[n])", "0.1..20"),
    ("rgamma", "1/gamma(x[n])", "0.1..20"),
    ("psi", "digamma(x[n])", "0.1..60"),
    ("digamma", "digamma(x[n])", "0.1..60"),
    ("j0", None, "-8..8"),
    ("j1", None, "-8..8"),
    ("y0", None, "0.5..8"),
    ("y1", None, "0.5..8"),
    ("i0", None, "-8..8"),
    ("i1", None, "-8..8"),
):

    def function(x, *, _name=name):
        return getattr(special, _name)(x)

    of_one(name, formula, values).register(autograd_function(function), name=f"autograd_{name}")

for name, formula in (
    ("beta", "exp(lgamma(a[n]) + lgamma(b[n]) - lgamma(a[n] + b[n]))"),
    ("betaln", "lgamma(a[n]) + lgamma(b[n]) - lgamma(a[n] + b[n])"),
):
    spec = Spec(
        name,
        a=Input("N", range="0.2..8"),
        b=Input("N", range="0.2..8"),
        y=Output("N"),
        definition=f"y[n] = {formula}",
    )

    def function(a, b, *, _name=name):
        return getattr(special, _name)(a, b)

    spec.register(autograd_function(function), name=f"autograd_{name}")

for name in ("gammainc", "gammaincc"):
    # Their rules are those of x; autograd gives no gradient of a.
    spec = Spec(
        name,
        a=Input("N", range="0.5..5", differentiable=False),
        x=Input("N", range="0.2..8"),
        y=Output("N"),
    )

    def function(a, x, *, _name=name):
        return getattr(special, _name)(a, x)

    spec.register(autograd_function(function), name=f"autograd_{name}")

betainc = Spec(
    "betainc",
    a=Input("N", range="0.5..5", differentiable=False),
    b=Input("N", range="0.5..5", differentiable=False),
    x=Input("N", range="0.01..0.99"),
    y=Output("N"),
)


@betainc.register
@autograd_function
def autograd_betainc(a, b, x):
    return special.betainc(a, b, x)


for order in (1, 2):

    def function(x, *, _order=order):
        return special.polygamma(_order, x)

    spec = of_one(f"polygamma{order}", f"polygamma({order}, x[n])", "0.3..30")
    # Scipy computes it in float64 alone, as it does those of a whole order.
    spec.register(
        autograd_function(function), name=f"autograd_polygamma{order}", dtypes=["float64"]
    )

for name in ("jn", "yn", "iv", "ive"):

    def function(x, *, _name=name):
        return getattr(special, _name)(3, x)

    of_one(f"{name}3", None, "0.5..8").register(
        autograd_function(function), name=f"autograd_{name}3", dtypes=["float64"]
    )

logsumexp = Spec(
    "logsumexp", x=Input("N C"), y=Output("N"), definition="y[n] = logsumexp[c](x[n,c])"
)


@logsumexp.register
@autograd_function
def autograd_logsumexp(x):
    return special.logsumexp(x, axis=1)
