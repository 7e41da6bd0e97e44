"""What the tests of contract share: a small layer, ways to break it, and what is found in it."""

import numpy as np

from gradverify import Input, Layer, Output, Param, Spec, Status, verify

# y = w*x: everything that a layer can get wrong besides the formula, it can get wrong here.
scale = Spec(
    "scale", x=Input("N C"), w=Param("C"), y=Output("N C"), definition="y[n,c] = w[c]*x[n,c]"
)
SMALLEST = "N=1 C=1 dtype=float64 layout=C values=ordinary cotangent=signed seed="


def right(x, w):
    return w * x, lambda dy: {"x": w * dy, "w": (x * dy).sum(axis=0)}


def changed(**change):
    """Return a layer like `right`, with some gradients replaced by functions of (x, w, dy)."""

    def layer(x, w):
        y, pullback = right(x, w)
        return y, lambda dy: pullback(dy) | {k: f(x, w, dy) for k, f in change.items()}

    return layer


def findings(function, spec=scale, **options):
    """Return what contract finds in a layer, by question and tensor."""
    layer = Layer(spec, function, name="layer")
    report = verify(layer, **{"profile": "quick", "checks": ["contract"], **options})
    (result,) = report.layers
    failing = {f.tensor for f in result.errors} - {None}
    (contract,) = (c for c in result.checks if c.check == "contract")
    assert contract.status is (Status.FAILED if result.errors else Status.PASSED)
    assert {t for t, r in contract.tensors.items() if r.status is Status.FAILED} == (
        failing & contract.tensors.keys()
    )
    return {(f.question, f.tensor): f for f in result.findings}


def the_finding(function, question, tensor, spec=scale, *, severity="error", **options):
    """Return the only thing that contract finds in a layer."""
    found = findings(function, spec, **options)
    assert list(found) == [(question, tensor)]
    finding = found[question, tensor]
    assert finding.check == "contract"
    assert finding.severity == severity
    return finding


def errors(function, spec=scale, **options):
    """Return question and tensor of the errors that contract finds in a layer."""
    found = findings(function, spec, **options)
    return {key for key, finding in found.items() if finding.severity == "error"}


def told(finding):
    """Return a finding's message without the number of its cases."""
    return finding.message.split(" (in ")[0]


def copied(values):
    return {k: np.array(v) for k, v in values.items()}
