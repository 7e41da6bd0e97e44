"""How long it takes to derive and to compile the gradients of each layer, after all imports."""

import time
from statistics import median

from measure import catalogue
from sympy.core.cache import clear_cache

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.calculus.compile import ABSOLUTE, NOISE, SWITCHES, Oracle
from gradverify.calculus.emit import PLAIN

RUNS = 5
COLUMNS = ["derive", "compile", "both", "compile all"]

# Pre-norm, with 4*D hidden units and GELU by erf, as the encoder of a vision transformer has it.
TRANSFORMER_BLOCK = Spec(
    "transformer_block",
    x=Input("B T NH*DH"),
    gamma=Param("NH*DH", init="ones"),
    beta=Param("NH*DH", init="zeros"),
    wq=Param("NH*DH NH*DH"),
    bq=Param("NH*DH", init="zeros"),
    wk=Param("NH*DH NH*DH"),
    bk=Param("NH*DH", init="zeros"),
    wv=Param("NH*DH NH*DH"),
    bv=Param("NH*DH", init="zeros"),
    wo=Param("NH*DH NH*DH"),
    bo=Param("NH*DH", init="zeros"),
    gamma2=Param("NH*DH", init="ones"),
    beta2=Param("NH*DH", init="zeros"),
    w1=Param("F NH*DH"),
    b1=Param("F", init="zeros"),
    w2=Param("NH*DH F"),
    b2=Param("NH*DH", init="zeros"),
    eps=Constant(1e-5, 1e-2),
    y=Output("B T NH*DH"),
    ranges={"h": "NH", "e": "DH"},
    definition="""
        mu[b,t]       = mean[d](x[b,t,d])
        var[b,t]      = mean[d]((x[b,t,d] - mu[b,t])**2)
        sigma[b,t]    = sqrt(var[b,t] + eps)
        xhat[b,t,d]   = (x[b,t,d] - mu[b,t])/sigma[b,t]
        u[b,t,d]      = gamma[d]*xhat[b,t,d] + beta[d]
        q[b,t,j]      = sum[d](u[b,t,d]*wq[j,d]) + bq[j]
        k[b,t,j]      = sum[d](u[b,t,d]*wk[j,d]) + bk[j]
        v[b,t,j]      = sum[d](u[b,t,d]*wv[j,d]) + bv[j]
        z[b,h,t,s]    = sum[e](q[b,t,h*DH+e]*k[b,s,h*DH+e])/sqrt(DH)
        m[b,h,t]      = stop_gradient(max[s](z[b,h,t,s]))
        r[b,h,t,s]    = exp(z[b,h,t,s] - m[b,h,t])
        p[b,h,t,s]    = r[b,h,t,s]/sum[i](r[b,h,t,i])
        o[b,t,h*DH+e] = sum[s](p[b,h,t,s]*v[b,s,h*DH+e])
        c[b,t,j]      = sum[d](o[b,t,d]*wo[j,d]) + bo[j]
        l[b,t,d]      = x[b,t,d] + c[b,t,d]
        mu2[b,t]      = mean[d](l[b,t,d])
        var2[b,t]     = mean[d]((l[b,t,d] - mu2[b,t])**2)
        sigma2[b,t]   = sqrt(var2[b,t] + eps)
        lhat[b,t,d]   = (l[b,t,d] - mu2[b,t])/sigma2[b,t]
        u2[b,t,d]     = gamma2[d]*lhat[b,t,d] + beta2[d]
        a[b,t,f]      = sum[d](u2[b,t,d]*w1[f,d]) + b1[f]
        g[b,t,f]      = a[b,t,f]*(1 + erf(a[b,t,f]/sqrt(2)))/2
        y[b,t,d]      = l[b,t,d] + sum[f](g[b,t,f]*w2[d,f]) + b2[d]
    """,
)


def test_derive_and_compile(show):
    rows = [row(layer.spec) for layer in catalogue()]
    columns = list(zip(*rows, strict=True))[1:]
    worst = max(rows, key=lambda row: row[1 + COLUMNS.index("both")])
    show(
        "Milliseconds to derive the gradients of a layer, of first order, and to compile them, "
        "SymPy's cache being empty; the checks compile four kinds of function (plain, with noise, "
        f"of absolute values, with kinks); {worst[0]} takes longest:",
        [
            ["layer", *COLUMNS],
            *rows,
            ["median", *(float(median(column)) for column in columns)],
            ["largest", *(float(max(column)) for column in columns)],
        ],
    )


def test_a_transformer_block(show):
    lines = len(TRANSFORMER_BLOCK.definition.strip().splitlines())
    show(
        f"The same for a transformer block of {lines} equations and 16 parameters:",
        [["layer", *COLUMNS], row(TRANSFORMER_BLOCK)],
    )


def row(spec):
    runs = [once(spec) for _ in range(RUNS)]
    return [spec.name, *(1e3 * median(found) for found in zip(*runs, strict=True))]


def once(spec):
    """Return the seconds to derive, to compile the plain functions, both, and to compile all."""
    clear_cache()
    began = time.perf_counter()
    oracle = Oracle(spec.program, spec.differentiable)
    derivation = oracle.derivation
    derived = time.perf_counter()
    texts = [oracle.source("plain", PLAIN)]
    compile(texts[0], "plain", "exec")
    plain = time.perf_counter()
    for mode in (NOISE, ABSOLUTE, SWITCHES):
        texts.append(oracle.source("other", mode))
        compile(texts[-1], "other", "exec")
    ended = time.perf_counter()
    assert set(derivation.wrt) == set(spec.differentiable)
    assert all(f'"{tensor}":' in text for text in texts for tensor in spec.differentiable)
    return derived - began, plain - derived, plain - began, ended - derived
