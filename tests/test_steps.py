"""Derivations told step by step: the words say what the equations do, for every layer."""

import re
from functools import cache

import pytest
from catalogue import SPECS, oracle

from gradverify import Input, Output, Param, Spec
from gradverify.calculus.compile import Oracle
from gradverify.calculus.show import emit


@cache
def told(name):
    return tell(SPECS[name])


def tell(spec):
    return emit(Oracle(spec.program, spec.differentiable), "steps", spec.name, spec.params)


def joined(text):
    """The text with every paragraph on one line."""
    return " ".join(text.split())


BATCH_NORM = """\
batch_norm: derived step by step

The definition, with the input x, the parameters gamma and beta, the constant eps and the output
y:

  mu[c]     = mean[n] x[n,c]
  var[c]    = mean[n] (x[n,c] - mu[c])²
  sigma[c]  = √(var[c] + eps)
  xhat[n,c] = (x[n,c] - mu[c])/sigma[c]
  y[n,c]    = gamma[c]·xhat[n,c] + beta[c]

Given dy = ∂L/∂y, where L is the loss. By the chain rule the cotangent of an element is the sum,
over all that reads it, of the reader's cotangent times its local derivative. Going backwards
through the equations:

1.  beta occurs only in y, so dbeta has one term:
      ∂y[n,c]/∂beta[c] = 1
    The same beta[c] is read for every n, so this is summed over n:
      dbeta[c] = Σ[n] dy[n,c]
    beta is a parameter: a step of gradient descent subtracts dbeta times the learning rate from
    it.

2.  xhat occurs only in y, so dxhat has one term:
      ∂y[n,c]/∂xhat[n,c] = gamma[c]
    Hence:
      dxhat[n,c] = dy[n,c]·gamma[c]

3.  gamma occurs only in y, so dgamma has one term:
      ∂y[n,c]/∂gamma[c] = xhat[n,c]
    The same gamma[c] is read for every n, so this is summed over n:
      dgamma[c] = Σ[n] dy[n,c]·xhat[n,c]
    gamma is a parameter: a step of gradient descent subtracts dgamma times the learning rate from
    it.

4.  sigma occurs only in xhat, so dsigma has one term:
      ∂xhat[n,c]/∂sigma[c] = -(x[n,c] - mu[c])/sigma[c]²
    The same sigma[c] is read for every n, so this is summed over n:
      dsigma[c] = -Σ[n] dxhat[n,c]·(x[n,c] - mu[c])/sigma[c]²

5.  var occurs only in sigma, so dvar has one term:
      ∂sigma[c]/∂var[c] = 1/(2·sigma[c])
    Hence:
      dvar[c] = dsigma[c]/(2·sigma[c])

6.  mu occurs in var and xhat, so dmu has two terms:
      ∂xhat[n,c]/∂mu[c] = -1/sigma[c]
      ∂var[c]/∂mu[c]    = -2·(x[n,c] - mu[c])/N
    The same mu[c] is read for every n, so all terms are summed over n:
      dmu[c] = -Σ[n] dxhat[n,c]/sigma[c] - 2·dvar[c]·Σ[n] (x[n,c] - mu[c])/N

7.  x occurs in mu, var and xhat, so dx has three terms:
      ∂xhat[n,c]/∂x[n,c] = 1/sigma[c]
      ∂var[c]/∂x[n,c]    = 2·(x[n,c] - mu[c])/N
      ∂mu[c]/∂x[n,c]     = 1/N
    Together:
      dx[n,c] = dxhat[n,c]/sigma[c] + 2·dvar[c]·(x[n,c] - mu[c])/N + dmu[c]/N
    x is an input: dx is handed to the layer before.
"""


def test_the_whole_of_batch_norm():
    """The worked example, from the definition to the gradient of the input."""
    assert told("batch_norm") == BATCH_NORM


SAID = {
    "max_pool2d": "Several values of p, r, q and t may reach the same element of x",
    "conv2d": "What would come back to a place outside of x is dropped",
    "embedding": "It goes back to where it was read and adds up where ids[n] repeats",
    "softmax_cross_entropy": "Only the elements logp[n,t[n]] are read; the others get 0",
    "attention": "It occurs in max1 too, but nothing comes back from there: max1 stands only under "
    "stop_gradient",
    "causal_attention": "A branch that is not taken contributes nothing",
    "lstm_cell": "Each of them reads another part of z",
    "dropout": "No gradient is asked for mask",
    "plain_rnn": "From one t to the next, pre and h depend on each other, and so do their cotangents, "
    "backwards in time: what follows is found together for t = T-1, ..., 0:",
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_peculiar_to_a_layer_is_said(name):
    """Scatter, gather, padding, choices, cuts, parts and recurrences each have their sentence."""
    assert SAID[name] in joined(told(name))


def test_a_maximum_and_a_given_cotangent():
    """Only the largest gets a maximum's cotangent; an output that is read adds to what is given."""
    assert "there y_pick is 1, elsewhere 0." in joined(told("max_pool2d"))
    head = "dc_next is given, and c_next occurs in h_next too, which adds one term to it:"
    assert head in joined(told("lstm_cell"))
    assert "With these known for all turns of the loop:" in told("plain_rnn")


@pytest.mark.parametrize("name", SPECS)
def test_every_cotangent_is_derived_in_order(name):
    """The steps hold the equations of the unicode style, each tensor by its role, none too long."""
    text, spec = told(name), SPECS[name]
    plain = emit(oracle(name), "unicode", name)
    whole = re.compile(r"^ +(d\S+) +(\+?=) (.*?)(?:   for all.*)?$", re.M)
    equations = [left for left, _, _ in whole.findall(plain.partition("cotangents, given")[2])]
    assert [left for left, _, _ in whole.findall(text) if left in equations] == equations
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", text, re.M)]
    assert numbers == [*range(1, len(numbers) + 1)]
    for tensor in spec.differentiable:
        role = "a parameter: a step" if tensor in spec.params else "an input: d"
        assert f"{tensor} is {role}" in joined(text) or f"d{tensor} = 0: " in text
    assert max(map(len, text.splitlines())) <= 98


@pytest.mark.parametrize("name", SPECS)
def test_as_many_local_derivatives_as_terms(name):
    """What the words count is what the equations list."""
    words = "one two three four five six seven eight nine ten"
    count = {word: k for k, word in enumerate(words.split(), 1)}
    for step in re.split(r"^\d+\. ", told(name), flags=re.M)[1:]:
        (number,) = re.findall(r"(?:has|adds) (\w+) terms?\b", joined(step))
        assert len(re.findall(r"^ +∂\S+/∂", step, re.M)) == (count.get(number) or int(number))


MIXED = Spec(
    "mixed",
    x=Input("N"), w=Param("N"), v=Param("N"), u=Param("N"), q=Param("N"),
    y=Output("N"), k=Output(""),
    definition="""
        s = sum[n](u[n]*x[n])
        y[n] = where(x[n] > 0 and w[n] > 0, log(x[n]), abs(x[n])) + stop_gradient(v[n])*x[n]
        k = min[n](x[n]*3)
    """,
)  # fmt: skip


def test_a_gradient_of_zero_has_its_reason():
    """In a condition, under stop_gradient, in what nothing reads, or read by nothing itself."""
    *_, w, v, u, q = told_mixed = tell(MIXED).rstrip("\n").split("\n\n")
    assert w == "dw = 0: w stands only in a condition."
    assert v == "dv = 0: v stands only under stop_gradient."
    assert u == "du = 0: u stands only in s, from which nothing comes back."
    assert q == "dq = 0: no equation reads q."
    whole = joined(" ".join(told_mixed))
    assert "It occurs in s too, but nothing comes back from there: no equation reads s." in whole


def test_a_recurrence_that_nothing_reads_has_an_end():
    """Tensors that read each other and that no output needs are named once."""
    spec = Spec(
        "dead", x=Input("T"), a=Param(""), y=Output("T"), ranges={"t": "T"},
        definition="h[t] = a*h[t-1] + x[t]\nh[-1] = 0\ny[t] = x[t]",
    )  # fmt: skip
    text = joined(tell(spec))
    assert "da = 0: a stands only in h, from which nothing comes back." in text
    assert "h stands only in h, from which nothing comes back. So dx has one term" in text


@pytest.mark.parametrize(
    ("definition", "shapes", "sentences"),
    [
        ("y[i,j] = sum[k](x[i,k]*x[k,j])", ("N N", "N N"),
         ["x occurs only in y (twice), so dx has two terms: "
          "∂y[i,j]/∂x[k,j] = x[i,k] ∂y[k,j₁]/∂x[k,j] = x[j,j₁] ",
          "read for every i, so the first term is summed over i.",
          "read for every j₁, so the second term is summed over j₁:"]),
        ("y[t] = (x[t+1] - x[t])**2", ("T+1", "T"),
         ["∂y[t]/∂x[t] = -2·(x[t+1] - x[t]) ∂y[t-1]/∂x[t] = 2·(x[t] - x[t-1])"]),
        ("y = prod[n](x[n])", ("N", ""),
         ["∂y/∂x[n] = y_others[n] A product changes with one factor as the product of the others, "
          "y_others: dx[n] = dy·y_others[n]"]),
        ("y = sum[t](x[t+1])", ("T+1", ""), ["Only the elements x[t+1] are read; the others"]),
        ("y[n] = where(x[n] > 1, sum[m](sqrt(x[m] - x[n])), 0)", ("N", "N"),
         ["comes back, even where the derivative is infinite"]),
    ],
)  # fmt: skip
def test_occurrences_are_told_one_by_one(definition, shapes, sentences):
    """Each occurrence has its own local derivative, in the letters of the result."""
    ranges = {"t": "T"} if "T" in shapes[0] else {}
    spec = Spec("here", x=Input(shapes[0]), y=Output(shapes[1]), ranges=ranges,
                definition=definition)  # fmt: skip
    text = joined(tell(spec))
    for sentence in sentences:
        assert sentence in text
