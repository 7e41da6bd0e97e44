"""What the tests of adapters share: small specs, and what is found in layers of them."""

import inspect

from gradverify import Constant, Input, Layer, Output, Param, Spec, verify

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
