"""Wrong layers that are written once, as a forward with residuals and a backward, and put into
each convention: what is said of them must be the same in all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradverify import Finding, Input, Layer, Output, Param, Profile, Spec, verify
from gradverify.adapters import autograd_function, jax_function

SQUARE = Spec(
    "square", x=Input("N D"), w=Param("D D"), b=Param("D"), y=Output("N D"), definition="y[n,k] = sum[d](x[n,d]*w[d,k]) + b[k]"
)  # fmt: skip
RMS = Spec(
    "rms", x=Input("N D"), y=Output("N D"),
    definition="""
        r[n]   = sqrt(mean[d](x[n,d]**2) + 1)
        y[n,d] = x[n,d]/r[n]
    """,
)  # fmt: skip
BENT = Spec(
    "bent", x=Input("N C"), s=Param("C"), y=Output("N C"), definition="y[n,c] = s[c]*where(x[n,c] > 0, x[n,c], x[n,c]**3)"
)  # fmt: skip


@dataclass(frozen=True)
class Wrong:
    """A wrong layer of a spec; `said` are words of the diagnosis by tensor."""

    spec: Spec
    forward: Callable[..., Any]  # tensors in declared order -> (output, residuals)
    backward: Callable[..., Any]  # (residuals, cotangent) -> gradients in declared order
    said: dict[str, str]

    def in_numpy(self) -> Callable[..., Any]:
        def layer(**tensors):
            y, residuals = self.forward(*tensors.values())
            return y, lambda dy: self.backward(residuals, dy)

        return layer

    def in_jax(self, **options: Any) -> Callable[..., Any]:
        import jax

        function = jax.custom_vjp(self._plain())
        function.defvjp(self.forward, self.backward)
        return jax_function(function, **options)

    def in_autograd(self) -> Callable[..., Any]:
        from autograd.extend import defvjp, primitive

        function = primitive(self._plain())

        def rule(k):
            def made(ans, *tensors):
                _, residuals = self.forward(*tensors)
                return lambda dy: self.backward(residuals, dy)[k]

            return made

        defvjp(function, *map(rule, range(len(self.spec.given))))
        return autograd_function(function)

    def _plain(self) -> Callable[..., Any]:
        names = ", ".join(self.spec.given)
        space = {"forward": self.forward}
        exec(f"def plain({names}): return forward({names})[0]", space)
        return space["plain"]


def square(x, w, b):
    return x @ w + b, (x, w)


def square_back(residuals, dy):
    x, w = residuals
    return dy @ w, -x.T @ dy, dy.mean(axis=0)


def rms(x):
    r = (1 + (x * x).mean(axis=1)) ** 0.5
    return x / r[:, None], (r,)


def rms_back(residuals, dy):
    (r,) = residuals
    return (dy / r[:, None],)


def bent(x, s):
    positive = (x > 0).astype(x.dtype)
    y = positive * x + (1 - positive) * x**3
    return s * y, (x, s, positive)


def bent_back(residuals, dy):
    x, s, positive = residuals
    slope = positive + (1 - positive) * 6 * x**2  # twice what it is where x < 0
    return dy * s * slope, (dy * x).sum(axis=0)  # x is not the residual that is meant


def narrow_back(residuals, dy):
    x, w = residuals
    narrow = dy.astype(np.float32).astype(dy.dtype)
    return dy @ w.T, x.T @ narrow, dy.sum(axis=0)


WRONG = {
    "three": Wrong(SQUARE, square, square_back, {
        "x": "w[k,d] is read where w[d,k] is derived", "w": "the wrong sign",
        "b": "a mean over N where the sum is derived",
    }),
    "missing": Wrong(RMS, rms, rms_back, {"x": "the path through"}),
    "bent": Wrong(BENT, bent, bent_back, {"x": "the term 3·x[n,c]² of the path from y to x is 2 times", "s": ""}),
    "narrow": Wrong(SQUARE, square, narrow_back, {"w": ""}),
}  # fmt: skip


# The plainest cases, of the precision in which formulas are told from rounding.
FEW = Profile(5, 0, 2, dtypes=("float64",), name="few")


def found_as_in_numpy(wrong: Wrong, made: Any) -> tuple[Finding, ...]:
    """Return the errors of a wrong layer that is `made` in another convention, once its findings
    are those of the same layer in NumPy and say what they have to."""
    ours, theirs = (
        verify(Layer(wrong.spec, each, name="layer"), profile=FEW, checks=["contract", "symbolic"])
        for each in (wrong.in_numpy(), made)
    )
    expected, told = ([(f.severity, f.question, f.tensor, f.diagnosis) for f in report.findings]
                      for report in (ours, theirs))  # fmt: skip
    assert told == expected
    errors = theirs.layers[0].errors
    assert {f.tensor for f in errors} == set(wrong.said)
    for finding in errors:
        assert wrong.said[finding.tensor] in finding.diagnosis
    return errors
