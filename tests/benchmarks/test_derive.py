"""How long it takes to derive and to compile the gradients of each layer, after all imports."""

import time
from statistics import median

from measure import catalogue
from sympy.core.cache import clear_cache

from gradverify.calculus.compile import ABSOLUTE, NOISE, SWITCHES
from gradverify.calculus.emit import PLAIN
from gradverify.trial import make_oracle

RUNS = 5


def test_derive_and_compile(show):
    rows = [row(layer.spec) for layer in catalogue()]
    columns = list(zip(*rows, strict=True))[1:]
    show(
        "Milliseconds to derive the gradients of a layer and to compile them, SymPy's cache being "
        "empty; the checks compile four kinds of function (plain, with noise, of absolute values, "
        "with kinks):",
        [
            ["layer", "derive", "compile", "both", "compile all"],
            *rows,
            ["median", *(float(median(column)) for column in columns)],
            ["largest", *(float(max(column)) for column in columns)],
        ],
    )


def row(spec):
    runs = [once(spec) for _ in range(RUNS)]
    return [spec.name, *(1e3 * median(found) for found in zip(*runs, strict=True))]


def once(spec):
    """Return the seconds to derive, to compile the plain functions, both, and to compile all."""
    clear_cache()
    began = time.perf_counter()
    oracle = make_oracle(spec)
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
