"""The distributions of HIPS autograd (github.com/HIPS/autograd), whose rules are hand-written.

They compute in float64 alone, as scipy.stats does. Those of a Dirichlet and of a multivariate
normal distribution take one point at a time.

In autograd 1.9.1 the gradients of chi2's pdf and logpdf are 0 where df is no whole number.
"""

import autograd.scipy.stats as stats

from gradverify import Input, Output, Spec
from gradverify.adapters import autograd_function

# log of the density and, where there is a formula, of the distribution function.
NORM = "-(x[n] - loc[n])**2/(2*scale[n]**2) - log(scale[n]) - log(2*pi)/2"
NORM_CDF = "erfc(-(x[n] - loc[n])/(scale[n]*sqrt(2)))/2"
T = """lgamma((df[n] + 1)/2) - lgamma(df[n]/2) - log(pi*df[n])/2 - log(scale[n])
            - (df[n] + 1)/2*log1p(((x[n] - loc[n])/scale[n])**2/df[n])"""
GAMMA = "(a[n] - 1)*log(x[n]) - x[n] - lgamma(a[n])"
BETA = """(a[n] - 1)*log(x[n]) + (b[n] - 1)*log1p(-x[n])
            + lgamma(a[n] + b[n]) - lgamma(a[n]) - lgamma(b[n])"""
CHI2 = "(df[n]/2 - 1)*log(x[n]) - x[n]/2 - df[n]/2*log(2) - lgamma(df[n]/2)"
POISSON = "k[n]*log(mu[n]) - mu[n] - lgamma(k[n] + 1)"

norm = {
    "x": Input("N", range="-5..5"),
    "loc": Input("N", range="-2..2"),
    "scale": Input("N", range="0.5..3"),
}
student = norm | {"df": Input("N", range="1..20")}
positive = {"x": Input("N", range="0.1..20"), "a": Input("N", range="0.3..8")}
beta = {
    "x": Input("N", range="0.05..0.95"),
    "a": Input("N", range="0.3..8"),
    "b": Input("N", range="0.3..8"),
}
chi2 = {
    "x": Input("N", range="0.1..20"),
    "df": Input("N", range="0.5..9", differentiable=False),
}
poisson = {"k": Input("N", dtype=int, range="0..12"), "mu": Input("N", range="0.2..9")}


def fixed(inputs, *names):
    """Return inputs of which some take no gradient: there is no rule of theirs."""
    return inputs | {k: Input("N", range=inputs[k].range, differentiable=False) for k in names}


for distribution, name, inputs, formula in (
    ("norm", "pdf", norm, f"exp({NORM})"),
    ("norm", "logpdf", norm, NORM),
    ("norm", "cdf", norm, NORM_CDF),
    ("norm", "logcdf", norm, f"log({NORM_CDF})"),
    ("norm", "sf", norm, NORM_CDF.replace("(-(", "((")),
    ("norm", "logsf", norm, f"log({NORM_CDF.replace('(-(', '((')})"),
    ("t", "pdf", student, f"exp({T})"),
    ("t", "logpdf", student, T),
    ("t", "cdf", fixed(student, "df", "scale"), None),
    ("t", "logcdf", fixed(student, "df", "scale"), None),
    ("gamma", "pdf", positive, f"exp({GAMMA})"),
    ("gamma", "logpdf", positive, GAMMA),
    ("gamma", "cdf", fixed(positive, "a"), None),
    ("beta", "pdf", beta, f"exp({BETA})"),
    ("beta", "logpdf", beta, BETA),
    ("beta", "cdf", fixed(beta, "a", "b"), None),
    ("chi2", "pdf", chi2, f"exp({CHI2})"),
    ("chi2", "logpdf", chi2, CHI2),
    ("chi2", "cdf", chi2, None),
    ("poisson", "pmf", poisson, f"exp({POISSON})"),
    ("poisson", "logpmf", poisson, POISSON),
    ("poisson", "cdf", poisson, None),
):
    primitive = getattr(getattr(stats, distribution), name)

    def function(*, _of=primitive, **given):
        first = [given.pop(k) for k in ("k", "x", "df", "a", "b", "mu") if k in given]
        return _of(*first, *(given[k] for k in ("loc", "scale") if k in given))

    spec = Spec(
        f"{distribution}_{name}",
        **inputs,
        y=Output("N"),
        definition=None if formula is None else f"y[n] = {formula}",
    )
    spec.register(
        autograd_function(function), name=f"autograd_{distribution}_{name}", dtypes=["float64"]
    )
