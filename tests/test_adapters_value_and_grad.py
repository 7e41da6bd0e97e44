"""value_and_grad: functions of a parameter vector, as users of scipy.optimize write them."""

import numpy as np
import pytest
from adapted import contract, errors, judged, line_of, told

from gradverify import Constant, Input, Layer, Output, Param, Spec, UsageError, Verdict
from gradverify.adapters import value_and_grad

logistic = Spec(
    "logistic", w=Param("D"), b=Param(""), X=Input("N D", differentiable=False),
    t=Input("N", values=(0, 1), differentiable=False), lam=Constant(0.0, 0.5), loss=Output(""),
    definition="""
        z[n] = sum[d](X[n,d]*w[d]) + b
        loss = mean[n](softplus(z[n]) - t[n]*z[n]) + lam/2*sum[d](w[d]**2)
    """,
)  # fmt: skip


def objective(theta, X, t, lam):
    """The value with its gradient, of one vector of w and b."""
    w, b = theta[:-1], theta[-1]
    z = X @ w + b
    off = (1 / (1 + np.exp(-z)) - t) / len(t)
    gradient = np.empty_like(theta)
    gradient[:-1] = X.T @ off + lam * w
    gradient[-1] = off.sum()
    return np.mean(np.logaddexp(0, z) - t * z) + lam / 2 * w @ w, gradient


def fun(params, *args, alpha=0.0):
    return objective(params, *args, alpha)[0]


def jac(params, *args, alpha=0.0):
    return objective(params, *args, alpha)[1]


def in_parts(lam, b, w, X, t):
    """Arguments by name, in an order of its own, and gradients by name."""
    value, gradient = objective(np.append(w, b), X, t, lam)
    return value, {"dw": gradient[:-1], "db": gradient[-1]}


def in_a_tuple(b, w, X, t, lam):
    """Gradients in the order of the arguments."""
    value, gradients = in_parts(lam, b, w, X, t)
    return value, (gradients["db"], gradients["dw"])


FUNCTIONS = {
    "in a tuple": value_and_grad(in_a_tuple),
    "one function": value_and_grad(objective),
    "two functions": value_and_grad(fun, jac, names={"lam": "alpha"}),
    "said": value_and_grad(objective, flat=("w", "b")),
    "in parts": value_and_grad(in_parts),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_are_verified_as_they_are(kind):
    """A vector is split into the declared tensors; what has their names gets them apart."""
    result = judged(logistic, FUNCTIONS[kind], checks=["contract", "symbolic", "exact", "descent"])
    assert result.findings == ()
    statuses = {c.check: str(c.status) for c in result.checks}
    assert {statuses[c] for c in ("contract", "symbolic", "exact", "descent")} == {"passed"}


def test_matrices_are_parts_of_a_vector_in_c_order():
    """In declared order, each in its shape."""
    spec = Spec("mlp", V=Param("D H"), u=Param("H"), x=Input("N D", differentiable=False),
                f=Output(""), definition="h[n,k] = tanh(sum[d](x[n,d]*V[d,k]))\n"
                                         "f = sum[n,k](h[n,k]*u[k])")  # fmt: skip

    def function(p, x):
        d = x.shape[1]
        V, u = p[: p.size - p.size // (d + 1)].reshape(d, -1), p[p.size - p.size // (d + 1) :]
        h = np.tanh(x @ V)
        dV = x.T @ ((1 - h * h) * u)
        return (h * u).sum(), np.concatenate([dV.ravel(), h.sum(axis=0)])

    assert errors(spec, value_and_grad(function)) == {}


def test_a_spec_without_parameters_has_its_inputs_as_vector():
    """As a function to minimise, which is a function of its only input."""
    spec = Spec("bowl", x=Input("N"), y=Output(""), definition="y = sum[i](x[i]**4)")
    result = judged(spec, value_and_grad(lambda x: (x**4).sum(), lambda x: 4 * x**3))
    assert (result.verdict, result.findings) == (Verdict.VERIFIED, ())


# -- what is wrong


def forgets_to_average(theta, X, t, lam):
    value, gradient = objective(theta, X, t, lam)
    gradient[-1] *= len(t)
    return value, gradient


def test_a_wrong_function_gets_the_diagnosis_of_its_pullback():
    """The same findings, with the same causes; they name the line of the function."""

    def twin(w, b, X, t, *, lam):
        value, gradient = forgets_to_average(np.append(w, b), X, t, lam)
        return value, lambda dy: (dy * gradient[:-1], dy * gradient[-1])

    asked = {"checks": ["contract", "symbolic", "descent"]}
    found = errors(logistic, value_and_grad(forgets_to_average), **asked)
    known = errors(logistic, twin, **asked)
    assert {k: f.diagnosis for k, f in found.items()} == {k: f.diagnosis for k, f in known.items()}
    finding = found["symbolic", "gradient", "b"]
    assert finding.diagnosis == "the gradient of b is N times what is derived: not divided by N"
    assert finding.location == line_of(forgets_to_average)


def test_a_gradient_of_the_last_value_is_told():
    """Two functions that share what the value has left: the gradient is that of another vector."""
    last = {}

    def value(theta, *rest):
        last["gradient"] = objective(theta, *rest)[1]
        return objective(theta, *rest)[0]

    def gradient(theta, *rest):
        return last["gradient"]

    def with_lam(function):
        return lambda theta, X, t, lam: function(theta, X, t, lam)

    found = contract(logistic, value_and_grad(with_lam(value), with_lam(gradient)))
    assert ("stale", "w") in found


def test_a_vector_that_is_written_to_is_told():
    """The optimiser goes on with it."""

    def function(theta, X, t, lam):
        theta *= 0.5
        return objective(theta, X, t, lam)

    (finding,) = contract(logistic, value_and_grad(function)).values()
    assert told(finding) == (
        "function changed the vector of (w, b) in place: the caller still uses it; work on a copy"
    )


def test_data_takes_no_gradient():
    """An input that is declared to take one says what to declare instead."""
    spec = Spec("line", w=Param("D"), X=Input("N D"), y=Output(""))
    found = contract(spec, value_and_grad(lambda w, X: ((X @ w).sum(), X.sum(axis=0))))
    assert told(found["missing", "X"]) == (
        "the gradient of X is missing; returned: w; what is data to the function takes no "
        "gradient: declare X=Input(..., differentiable=False)"
    )


two = Spec("two", w=Param("D"), b=Param("D"), y=Output(""))
MISFITS = {
    "shape": (two, value_and_grad(lambda p: (p.sum(), p[1:])), "the gradient has shape (1,), and "
              "the vector of (w, b) has 2 elements: 1 of w + 1 of b"),
    "value alone": (two, value_and_grad(lambda p: p.sum()), "<lambda> returned a float64 where "
                    "(value, gradient) is expected; where the gradient is a function of its own, "
                    "write value_and_grad(value, gradient)"),
    "parts": (two, value_and_grad(lambda w, b: (w.sum(), w)), "the gradients of (w, b) are "
              "expected, and 1 was returned"),
    "flat": (two, value_and_grad(lambda p: (p.sum(), p), flat=("v",)), "the spec declares no 'v'"),
    "arguments": (two, value_and_grad(lambda p, q: (p.sum(), p)), "needs q, and what is declared"),
    "output": (Spec("wide", w=Param("D"), y=Output("D")), value_and_grad(lambda w: (w, w)),
               'a value with its gradient is one number: declare y=Output("")'),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISFITS)
def test_a_function_that_does_not_fit_is_one_message(kind):
    """It says what was returned or asked, and what is expected."""
    spec, adapter, message = MISFITS[kind]
    (finding,) = contract(spec, adapter).values()
    assert message in finding.message


def test_what_cannot_be_called_is_refused():
    """At once, where it is written; the name of a layer is that of its function."""
    with pytest.raises(UsageError, match="value_and_grad: the gradient is 3, which cannot be"):
        value_and_grad(fun, 3)
    assert Layer(logistic, value_and_grad(objective)).name == "objective"
