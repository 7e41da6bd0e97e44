"""Derived equations as text: exact for some layers, and read back as a definition for all."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from catalogue import CATALOGUE, RNN, SPECS, oracle

from gradverify import (
    Constant,
    Input,
    Layer,
    Output,
    Param,
    Spec,
    UsageError,
    Verdict,
    verify,
)
from gradverify.calculus.compile import Oracle
from gradverify.calculus.emit import function_name
from gradverify.calculus.point import Point
from gradverify.calculus.show import LEAVES, STYLES, Gradients, emit
from gradverify.calculus.style import ADDS
from gradverify.commands.derive import STYLES as EMITTED
from gradverify.notation.tree import text
from gradverify.result import Status

BATCH_NORM = """\
batch_norm: definition
  mu[c]     = mean[n] x[n,c]
  var[c]    = mean[n] (x[n,c] - mu[c])²
  sigma[c]  = √(var[c] + eps)
  xhat[n,c] = (x[n,c] - mu[c])/sigma[c]
  y[n,c]    = gamma[c]·xhat[n,c] + beta[c]

batch_norm: cotangents, given dy
  dbeta[c]   = Σ[n] dy[n,c]
  dxhat[n,c] = dy[n,c]·gamma[c]
  dgamma[c]  = Σ[n] dy[n,c]·xhat[n,c]
  dsigma[c]  = -Σ[n] dxhat[n,c]·(x[n,c] - mu[c])/sigma[c]²
  dvar[c]    = dsigma[c]/(2·sigma[c])
  dmu[c]     = -Σ[n] dxhat[n,c]/sigma[c] - 2·dvar[c]·Σ[n] (x[n,c] - mu[c])/N
  dx[n,c]    = dxhat[n,c]/sigma[c] + 2·dvar[c]·(x[n,c] - mu[c])/N + dmu[c]/N
"""

MAX_POOL = f"""\
max_pool2d: definition
  y[n,c,p,q]          = max[r,t] x[n,c,S·p+r,S·q+t]
  y_pick[n,c,p,q,r,t] = 1 where the maximum is first attained, else 0

max_pool2d: cotangents, given dy
  dx[n,c,S·p+r,S·q+t] += dy[n,c,p,q]·y_pick[n,c,p,q,r,t]   for all n, c, p, q, r, t
  {ADDS}
"""

RECURRENT = f"""\
plain_rnn: definition
  h[t,n,k]   = tanh(pre[t,n,k])
  pre[t,n,k] = Σ[d] x[t,n,d]·w[k,d] + Σ[m] h[t-1,n,m]·u[k,m]
  h[-1,n,k]  = h0[n,k]

plain_rnn: cotangents, given dh
  for t = T-1, ..., 0:
    dpre[t,n,k]  = dh[t,n,k]·(1 - h[t,n,k]²)
    dh[t-1,n,m] += Σ[k] dpre[t,n,k]·u[k,m]
  du[k,m]        = Σ[t,n] dpre[t,n,k]·h[t-1,n,m]
  dh0[n,k]       = dh[-1,n,k]
  dw[k,d]        = Σ[t,n] dpre[t,n,k]·x[t,n,d]
  dx[t,n,d]      = Σ[k] dpre[t,n,k]·w[k,d]
  {ADDS}
"""

LINES = {
    "conv2d": "  dx[n,c,S·p+D·r-P,S·q+D·t-P] += Σ[k] dy[n,k,p,q]·w[k,c,r,t]"
    "   for all n, p, q, c, r, t",
    "embedding": "  dw[ids[n],d] += dy[n,d]   for all n, d",
    "lstm_cell": "  dc_next[n,u] += dh_next[n,u]·o[n,u]·(1 - tanh(c_next[n,u])²)",
    "group_norm": "  xhat[n,g·K+k,h,w] = (x[n,g·K+k,h,w] - mu[n,g])/sigma[n,g]",
    "batch_norm_running": "  new_mean[c] = where(train, mixed[c], running_mean[c])",
    "prelu": "  da[c]   = Σ[n] dy[n,c]·min(x[n,c], 0)",
    "gelu": "  t[n,c] = tanh(√(2/π)·(x[n,c] + 0.044715·x[n,c]³))",
    "causal_attention": "  z[b,t,s]  = where(s ≤ t, (Σ[d] q[b,t,d]·k[b,s,d])/√D, -∞)",
    "rnn": "  h[t,n,k]  = tanh(Σ[d] x[t,n,d]·wx[k,d] + Σ[m] h[t-1,n,m]·wh[k,m] + b[k])",
    "weight_norm": "  norm[k] = √(Σ[d] v[k,d]²)",
}


@pytest.mark.parametrize("whole", [BATCH_NORM, MAX_POOL, RECURRENT])
def test_the_whole_text(whole):
    """Batch norm reads as in its paper; a recurrence says in which order its equations run."""
    name = whole.partition(":")[0]
    assert emit(oracle(name), "unicode", name) == whole


@pytest.mark.parametrize("name", LINES)
def test_one_line_of_a_layer(name):
    """Scatter, gather, given cotangents, choices and roots are each written in one known way."""
    assert LINES[name] in emit(oracle(name), "unicode", name).splitlines()


@pytest.mark.parametrize(
    ("definition", "shapes", "expected"),
    [
        # Where terms are joined, an index whose letter is taken gets a number.
        ("y[i,j] = sum[k](x[i,k]*x[k,j])", ("N N", "N N"),
         ["dx[k,j] = Σ[i] dy[i,j]·x[i,k] + Σ[j₁] dy[k,j₁]·x[j,j₁]"]),
        # A shifted left side is turned round: dx[t+1] += dy[t] reads dx[t] = dy[t-1] ...
        ("y[t] = (x[t+1] - x[t])**2", ("T+1", "T"),
         ["dx[t] = 2·dy[t-1]·(x[t] - x[t-1]) - 2·dy[t]·(x[t+1] - x[t])", LEAVES]),
        # ... unless nothing would tell that it leaves x[0] alone.
        ("y = sum[t](x[t+1])", ("T+1", ""), ["dx[t+1] += dy", ADDS]),
        # A left side that is not one to one in its letters names them.
        ("y = sum[i](x[i,i])", ("N N", ""), ["dx[i,i] += dy   for all i", ADDS]),
        # What no output depends on is not passed over in silence.
        ("y[n] = 2.5", ("N", "N"), ["dx = 0"]),
        # A choice by indices is the bound of a Σ.
        ("y[i] = sum[j<=i](x[j])", ("N", "N"), ["dx[j] = Σ[i≥j] dy[i]"]),
        ("y[i] = sum[j](where(j < i + 1 and x[j] > 0, x[j], 0))", ("N", "N"),
         ["dx[j] = Σ[i] dy[i]·where((j < 1 + i) and (x[j] > 0), 1, 0)"]),
        ("y = prod[n](x[n])", ("N", ""), ["dx[n] = dy·y_others[n]"]),
        ("y[n] = lgamma(x[n]) + gamma(x[n])", ("N", "N"),
         ["dx[n] = dy[n]·(digamma(x[n]) + Γ(x[n])·digamma(x[n]))"]),
        ("y[n] = polygamma(1, x[n]) + atan(x[n])", ("N", "N"),
         ["dx[n] = dy[n]·(polygamma(2, x[n]) + 1/(1 + x[n]²))"]),
        ("y[n] = (1 + abs(x[n]))**0.25/3", ("N", "N"),
         ["dx[n] = dy[n]·where(x[n] > 0, 1, -1)/(12·(1 + |x[n]|)^(3/4))"]),
    ],
)  # fmt: skip
def test_left_sides_and_letters(definition, shapes, expected):
    """Each way in which a cotangent can be said is told from the others."""
    ranges = {"t": "T"} if "T" in shapes[0] else {}
    x, y = Input(shapes[0]), Output(shapes[1])
    spec = Spec("here", x=x, y=y, ranges=ranges, definition=definition)
    shown = emit(Oracle(spec.program, spec.differentiable), "unicode", "here")
    assert [line[2:] for line in shown.split("given dy\n")[1].splitlines()] == expected


def test_a_remainder_is_printed_as_one():
    """x % y keeps its sign, in subscripts and elsewhere; only its derivative in y has a floor."""
    spec = Spec("here", x=Input("G*K"), w=Input("", range="1..2"), G=Constant(2, 3),
                y=Output("G*K"),
                definition="y[c] = x[c%G*K + c//G]*(x[c] % (2*w))")  # fmt: skip
    found = Oracle(spec.program, spec.differentiable)
    shown = emit(found, "unicode", "here")
    assert "  y[c] = x[⌊c/G⌋+K·(c%G)]·(x[c] % (2·w))\n" in shown
    assert "  dw = -2·Σ[c] dy[c]·x[⌊c/G⌋+K·(c%G)]·⌊x[c]/(2·w)⌋\n" in re.sub(" +=", " =", shown)
    shown = emit(found, "latex", "here")
    assert r"K \, \left(c \bmod G\right)}" in shown
    assert r"\left(x_{c} \bmod \left(2 \, w\right)\right)" in shown
    assert "<mi>c</mi><mo>mod</mo><mi>G</mi>" in emit(found, "mathml", "here")
    assert "(x % (2*w))" in emit(found, "numpy", "here")


def test_choices_of_the_same_number_are_one():
    """where(a, 0, where(b, 1, 0)) is where(not a and b, 1, 0); a maximum in a choice stays one."""
    shown = emit(oracle("hinge"), "unicode", "hinge")
    assert "  l[n,c] = where(c = t[n], 0, max(margin + x[n,c] - x[n,t[n]], 0))\n" in shown
    assert "= dl[n,c]·where((c ≠ t[n]) and (margin + x[n,c] - x[n,t[n]] ≥ 0), 1, 0)\n" in shown
    shown = emit(oracle("hardswish"), "unicode", "hardswish")
    assert "where((max(3 + x[n,c], 0) ≤ 6) and (3 + x[n,c] ≥ 0), 1, 0)" in shown
    spec = Spec("here", x=Input("N"), a=Param(""), y=Output("N"),
                definition="y[n] = where(n > 2, where(n < 5, a, 1), 0)*x[n]")  # fmt: skip
    shown = emit(Oracle(spec.program, spec.differentiable), "unicode", "here")
    assert "y[n] = x[n]·where(n > 2, where(n < 5, a, 1), 0)\n" in shown


def test_a_sum_inside_of_an_expression_is_printed_there_unless_it_is_read_elsewhere():
    """A sum that a cotangent reads, or two equations do, has an equation and a name of its own."""
    spec = Spec("here", x=Input("N C"), w=Param("C"), y=Output("N C"), z=Output("N"), definition="""
        s      = tanh(sum[c](w[c]))
        y[n,c] = tanh(w[c] + sum[k](2*s*x[n,k]))*w[c]
        u[n]   = tanh(mean[c](x[n,c]**2) + sum[c](x[n,c]))
        z[n]   = u[n]*sum[c](x[n,c])
    """)  # fmt: skip
    found = Oracle(spec.program, spec.differentiable)
    lines = [re.sub(" +", " ", x) for x in emit(found, "unicode", "here").splitlines()]
    assert lines[1:7] == [
        " s = tanh(Σ[c] w[c])",
        " sum2[n] = 2·s·Σ[k] x[n,k]",  # dw reads it, for the tanh has no name
        " y[n,c] = w[c]·tanh(w[c] + sum2[n])",
        " sum3[n] = Σ[c] x[n,c]",  # u and z read it
        " u[n] = tanh(mean[c] x[n,c]² + sum3[n])",
        " z[n] = sum3[n]·u[n]",
    ]
    latex = emit(oracle("weight_norm"), "latex", "weight_norm")
    assert r"\mathrm{norm}_{k} &= \sqrt{\sum_{d} v_{k,d}^{2}} \\" in latex


def test_products_and_bounds():
    """A product is a Π over its factors; a bound stands with its index, in both styles."""
    spec = Spec("here", x=Input("N"), y=Output("N"), definition="""
        p    = prod[n](x[n])
        y[n] = p + max[m>n,i!=n](x[m]*x[i]) + mean[m](where(m < n, x[m], 0))
    """)  # fmt: skip
    found = Oracle(spec.program, spec.differentiable)
    shown = emit(found, "unicode", "here")
    for said in ("  p                = Π[n] x[n]", "  p_others[n]      = Π[n₁≠n] x[n₁]",
                 "= max[m>n,i≠n] x[i]·x[m]", "Σ[m<n] x[m]/N", "Σ[n>m] dy[n]/N"):  # fmt: skip
        assert said in shown
    latex = emit(found, "latex", "here")
    for said in (r"p &= \prod_{n} x_{n}", r"\prod_{n_{1} \ne n} x_{n_{1}}", r"\max_{m > n,i \ne n} ",
                 r"\sum_{m < n} \frac{x_{m}}{N}"):  # fmt: skip
        assert said in latex


def test_long_sums_are_broken_after_a_sign():
    """A line of more than 100 characters goes on under the start of its right side."""
    lines = emit(oracle("group_norm"), "unicode", "group_norm").splitlines()
    (k,) = (k for k, line in enumerate(lines) if line.startswith("  dx["))
    assert lines[k].endswith(" +")
    assert lines[k + 1] == " " * (lines[k].index("=") + 2) + "dmu[n,g]/(K·H·W)"


def test_long_choices_are_broken_after_a_comma():
    """Where a line has no sum in it, it goes on after an argument, or else after a factor."""
    spec = Spec("here", x=Input("N"), y=Output("N"),
                definition="y[n] = where(x[n] > 1 and x[n] < 2, exp(x[n]*sin(x[n])), "
                "log(x[n]*cos(x[n])*sin(x[n])*exp(x[n])*tanh(x[n])*sigmoid(x[n])))")  # fmt: skip
    lines = emit(Oracle(spec.program, spec.differentiable), "unicode", "here").splitlines()
    assert lines[1].endswith("exp(x[n]·sin(x[n])),")
    assert lines[2].startswith("         log(x[n]·")
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", SPECS)
def test_every_declared_gradient_has_an_equation(name):
    """Each tensor whose gradient is asked for stands on a left side, in both styles."""
    shown = emit(oracle(name), "unicode", name)
    for tensor in SPECS[name].differentiable:
        pattern = rf"^ +d{tensor}(\[.*\])? +\+?= "
        assert re.search(pattern, shown, re.M), tensor
        assert re.match(pattern, "  " + Gradients(oracle(name).derivation).of(tensor))
    rows = emit(oracle(name), "latex", name).splitlines()
    assert sum("&" in row for row in rows) >= len(SPECS[name].differentiable)


@pytest.mark.parametrize("style", ["unicode", "latex"])
@pytest.mark.parametrize("name", SPECS)
def test_nothing_of_the_machinery_shows(name, style):
    """No names or numbers that only the derivation knows, and no line that is too long."""
    shown = emit(oracle(name), style, name)
    for leaked in ("1.0*", "path", "Select", "**", "h_0", "144115188075855872", "-0)"):
        assert leaked not in shown
    if style == "unicode":
        assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("name", SPECS)
def test_latex_is_balanced(name):
    """Braces and fences match in every row, and there is one column of equals signs."""
    head, first, *rows, last, end = emit(oracle(name), "latex", name).split("\n")
    assert (head, first, last, end) == (f"% {name}", r"\begin{align*}", r"\end{align*}", "")
    for row in rows:
        assert row.count("{") == row.count("}")
        assert row.count(r"\left") == row.count(r"\right")
        assert row.count("&") == 1
        assert not re.search(r"(?<!\\)_(?!\{)", row), row
    assert all(row.endswith((r" \\", r" \\[2ex]")) for row in rows[:-1])


def test_latex_names():
    """Greek letters, hats, cotangents and underscores are set as they are written by hand."""
    rows = emit(oracle("batch_norm"), "latex", "batch_norm").splitlines()
    assert r"\sigma_{c} &= \sqrt{\mathrm{var}_{c} + \epsilon} \\" in rows
    assert r"\mathrm{d}\gamma_{c} &= \sum_{n} \mathrm{d}y_{n,c} \, \hat{x}_{n,c} \\" in rows
    assert r"\mu_{c} &= \frac{1}{N} \sum_{n} x_{n,c} \\" in rows
    spec = Spec("s", gamma=Input("N"), y=Output("N"), definition="""
        y[n] = gamma[n]*gamma(2)*lgamma(gamma[n]) + polygamma(1, gamma[n])*atan(gamma[n])
    """)  # fmt: skip
    shown = emit(Oracle(spec.program, spec.differentiable), "latex", "s")
    for said in (
        r"\gamma_{n} \, \Gamma\left(2\right) \, \log\Gamma\left(\gamma_{n}\right)",
        r"\psi\left(\gamma_{n}\right)",
        r"\psi^{(1)}\left(",
        r"\arctan\left(",
    ):
        assert said in shown
    shown = emit(oracle("lstm_cell"), "latex", "lstm_cell")
    assert r"\mathrm{d}\mathrm{c\_next}_{n,u} &\mathrel{+}= " in shown
    assert r"& \text{for $t = T-1, \ldots, 0$:} \\" in emit(oracle(RNN.name), "latex", "rnn")


def test_a_finding_shows_what_its_gradient_reads():
    """The tensor's own equation comes first, below it every cotangent that it needs."""
    d = oracle("batch_norm").derivation
    assert Gradients(d).of("gamma") == "dgamma[c] = Σ[n] dy[n,c]·xhat[n,c]"
    lines = Gradients(d).of("x").splitlines()
    assert [line.split("[")[0] for line in lines] == ["dx", "dxhat", "dsigma", "dvar", "dmu"]
    lines = Gradients(oracle(RNN.name).derivation).of("h0").splitlines()
    assert lines[:2] == ["dh0[n,k]       = dh[-1,n,k]", "for t = T-1, ..., 0:"]
    softmax = Spec("s", x=Input("N C"), y=Output("N C"),
                   definition="y[n,c] = exp(x[n,c] - logsumexp[j](x[n,j]))")  # fmt: skip
    d = Oracle(softmax.program, softmax.differentiable).derivation
    assert Gradients(d).of("x").splitlines()[-2:] == [
        "max1[n]  = max[j] x[n,j]",
        "sum1[n]  = Σ[j] exp(x[n,j] - stop_gradient(max1[n]))",
    ]


def test_styles_and_errors():
    """Of the styles, numpy is the oracle's source; an unknown one gets the nearest of them."""
    source = oracle("linear").source("linear", sizes=False)
    assert emit(oracle("linear"), "numpy", "linear") == source
    assert STYLES == EMITTED == ("unicode", "latex", "mathml", "numpy", "steps")
    expected = (
        "the style 'latx' is not one of unicode, latex, mathml, numpy, steps; did you mean 'latex'?"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
        emit(oracle("relu"), "latx", "relu")
    expected = "no tensor of the definition is called 'z'; known are x, y"
    with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
        Gradients(oracle("relu").derivation).of("z")


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_numpy_that_is_printed_is_verified(name):
    """Pasted into an empty file, the forward and backward pass as a layer of their spec."""
    namespace = {}
    exec(emit(oracle(name), "numpy", name), namespace)
    layer = Layer(SPECS[name], namespace[function_name(name)])
    (result,) = verify(layer, profile="quick").layers
    assert result.errors == ()
    # Fewer cases than the default profile: what they could not tell is vacuous, never failed.
    assert result.verdict in (Verdict.VERIFIED, Verdict.INCOMPLETE)
    assert Status.ERROR not in {check.status for check in result.checks}


@pytest.mark.parametrize(
    ("name", "made"),
    [("softmax-2d", "softmax_2d"), ("2d", "_2d"), ("class", "class_"), ("a b\n", "a_b_"),
     ("x²", "x_"), ("sigmoid", "sigmoid_"), ("np", "np_"), ("max", "max_"), ("größe", "größe")],
)  # fmt: skip
def test_a_name_that_no_function_can_have_is_changed(name, made):
    """Source stays whole where a spec is called by no identifier, or as a helper of the code."""
    spec = Spec(name, x=Input("N"), y=Output("N"), definition="y[n] = sigmoid(x[n])")
    namespace = {}
    exec(emit(Oracle(spec.program, spec.differentiable), "numpy", name), namespace)
    y, pullback = namespace[made](np.zeros(2))
    np.testing.assert_array_equal(y, [0.5, 0.5])
    np.testing.assert_array_equal(pullback(np.ones(2))["x"], [0.25, 0.25])


def test_an_infinite_number_is_printed():
    """A factor of inf has no numerator and no denominator."""
    spec = Spec("here", x=Input("N"), y=Output("N"),
                definition="y[n] = x[n] - inf*(n < 0)")  # fmt: skip
    shown = emit(Oracle(spec.program, spec.differentiable), "unicode", "here")
    assert "  y[n] = x[n] - ∞·where(n < 0, 1, 0)\n" in shown


def test_the_order_does_not_depend_on_hashes():
    """Two processes with different hash seeds print the same."""
    code = (
        "from gradverify import catalog; from gradverify.calculus.compile import Oracle;"
        "from gradverify.calculus.show import emit; s = catalog('lstm_cell');"
        "print(emit(Oracle(s.program, s.differentiable), 'unicode', s.name).encode())"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(shown) == 1


def bracketed(line):
    """Write Σ[n] a·b + c as sum[n](a·b) + c: a Σ holds all factors to its right."""
    for big in reversed([*re.finditer(r"(?<!\w)(Σ|mean|max)(\[(?:[^][]|\[\w+\])+\]) ", line)]):
        depth, end = 0, big.end()
        while end < len(line):
            depth += (line[end] in "([") - (line[end] in ")]")
            if depth < 0 or (depth == 0 and line[end : end + 3] in (" + ", " - ")):
                break
            end += 1
        kind = big[1].replace("Σ", "sum") + big[2]
        line = f"{line[: big.start()]}{kind}({line[big.end() : end]}){line[end:]}"
    return line


def reread(spec):
    """The printed equations as the definition of a layer whose outputs are the gradients."""
    shown = re.sub(r"( [+-]|,)\n +", r"\1 ", emit(oracle(spec.name), "unicode", spec.name))
    shown = re.sub(r"·\n +", "·", shown)
    # A given cotangent that is added to gets a name of its own.
    for y in spec.differentiable_outputs:
        if re.search(rf"^  d{y}\S* +\+=", shown, re.M):
            shown = re.sub(rf"\bd{y}\b", f"total_{y}", shown)
            added = rf"  total_{y}\1 = d{y}\1 +"
            shown = re.sub(rf"^  total_{y}(\S*) +\+=", added, shown, flags=re.M)
    for a, b in {"·": "*", "²": "**2", "³": "**3", "≤": "<=", "≥": ">=", "≠": "!=", "π": "pi", "∞": "inf",
                 "√(": "sqrt(", "^": "**"}.items():  # fmt: skip
        shown = shown.replace(a, b)
    for a, b in {r"√(\w+)": r"sqrt(\1)", r"\|([^|]+)\|": r"abs(\1)",
                 r"where\((\S+) = ": r"where(\1 == "}.items():  # fmt: skip
        shown = re.sub(a, b, shown)
    shown = re.sub(r"⌊([^⌊⌋]+)/(\w+)⌋", r"((\1)//\2)", shown)
    lines = [line.split("   for all")[0].strip() for line in shown.splitlines()
             if "= " in line and "(+=" not in line]  # fmt: skip
    # The equations know one dimension for a starred one, and full sizes.
    tensors = {
        k: replace(t, shape=" ".join(text(n).replace(" ", "") for n in spec.shapes[k]))
        for k, t in spec.tensors.items()
    }
    d = oracle(spec.name).derivation
    for tensor, cotangent in d.cotangents.items():
        shape = " ".join(text(n).replace(" ", "") for n in d.shapes[tensor])
        tensors[cotangent] = Input(shape) if tensor in spec.outputs else Output(shape)
    # Padding is 0: what dx[S*p+D*r-P] adds outside of dx cannot be said in a definition.
    constants = {k: Constant(*([0] if k == "P" else v)) for k, v in spec.constants.items()}
    ranges = {k: v for e in spec.equations for k, v in (e.ranges or {}).items()}
    ranges |= spec.program.declared.ranges
    return Spec(
        "again",
        where=[text(w) for w in spec.where],
        ranges={k: text(v) for k, v in ranges.items()},
        definition="\n".join(map(bracketed, lines)),
        **tensors,
        **constants,
    )


# Max pooling and maxout pick, loops over time are printed as loops, and what local response
# normalization adds outside of its tensor cannot be said in a definition.
UNREADABLE = {"max_pool2d", "maxout", "rnn", "gru", "lstm", "local_response_norm"}


@pytest.mark.parametrize("name", sorted(CATALOGUE.keys() - UNREADABLE))
def test_what_is_printed_is_what_is_computed(name):
    """Read back as a definition, the printed equations give the gradients of the oracle."""
    spec, again = SPECS[name], reread(SPECS[name])
    rng = np.random.default_rng(0)
    at = [*again.sizes()][len(again.constant_choices) - 1]  # unequal primes, the last constants
    constants, sizes = {k: at[k] for k in again.constants}, {k: at[k] for k in again.dims}
    arrays = {}
    for k in again.given:
        shape = again.shape(k, at)
        low, high = again.bounds(k, at) or (0, 0)
        whole = again.tensors[k].integer
        arrays[k] = rng.integers(low, high + 1, shape) if whole else rng.standard_normal(shape)
    _, pullback = oracle(name).run(Point({k: arrays[k] for k in spec.given}, constants, sizes))
    gradients = pullback(*(arrays[f"d{y}"] for y in spec.differentiable_outputs))
    computed = Oracle(again.program, again.differentiable).run(Point(arrays, constants, sizes))[0]
    printed = dict(zip(again.outputs, computed, strict=True))
    for x in spec.differentiable:
        np.testing.assert_allclose(printed[f"d{x}"], gradients[x], 1e-10, 1e-12, err_msg=x)
