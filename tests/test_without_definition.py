"""Right layers without a definition are failed by nobody: where ReLUs follow parameters that are
zero, and where what they compute cancels, nothing but their own code says what is right."""

import numpy as np
import pytest

from gradverify import Constant, Input, Layer, Output, Param, Spec, verify

DENSE = Spec("dense", x=Input("N D"), w=Param("D M"), y=Output("N M"))
SCORED = Spec("scored", x=Input("N D"), g=Param("D"), labels=Input("N", dtype=int, range="0..D-1"),
              loss=Output(""))  # fmt: skip
SCALED = Spec("scaled", x=Input("N D"), c=Param("D"), y=Output("N D"))
ENTROPY = Spec("entropy", x=Input("N D"), w=Param("D"), b=Param(""),
               t=Input("N", values=(0, 1), differentiable=False), eps=Constant(1e-7, 1e-9),
               loss=Output(""))  # fmt: skip
DISTANCE = Spec("distance", x=Input("N D"), c=Param("D"), y=Output("N"))


def dense(x, w):
    a = x @ w

    def pullback(dy):
        da = dy * (a > 0)
        return {"x": da @ w.T, "w": x.T @ da}

    return np.maximum(a, 0), pullback


def scored(x, g, labels):
    """ReLUs behind a parameter, and the cross entropy of them all."""
    a, rows = x * g, np.arange(len(x))
    z = np.maximum(a, 0)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)

    def pullback(dl):
        dz = p.copy()
        dz[rows, labels] -= 1
        da = dz * (a > 0) * (dl / len(x))
        return {"x": da * g, "g": (da * x).sum(axis=0)}

    return -np.log(p[rows, labels]).mean(), pullback


def scaled(x, c):
    """exp(c) - 1 loses all its digits where c is tiny."""
    e = np.exp(c)
    return x * (e - 1), lambda dy: {"x": dy * (e - 1), "c": (dy * x).sum(axis=0) * e}


def entropy(x, w, b, t, *, eps):
    """1 - p is 0 in float64 where the eps alone is left."""
    p = 1 / (1 + np.exp(-(x @ w + b)))
    loss = -(t * np.log(p + eps) + (1 - t) * np.log(1 - p + eps)).mean()

    def pullback(g):
        dp = -g / len(x) * (t / (p + eps) - (1 - t) / (1 - p + eps))
        dz = dp * p * (1 - p)
        return {"x": dz[:, None] * w, "w": x.T @ dz, "b": dz.sum()}

    return loss, pullback


def distance(x, c):
    """arccosh beside 1, where half of the digits are lost."""
    d = x - c
    q = 1 + (d * d).sum(axis=1) + 1e-9

    def pullback(dy):
        g = (dy / np.sqrt(q**2 - 1))[:, None] * 2 * d
        return {"x": g, "c": -g.sum(axis=0)}

    return np.arccosh(q), pullback


# With seeds at which each was failed, by one check or another.
FAILED_ONCE = [
    (DENSE, dense, 2), (DENSE, dense, 4), (DENSE, dense, 11),
    (SCORED, scored, 0), (SCORED, scored, 1), (SCORED, scored, 4), (SCORED, scored, 8),
    (SCALED, scaled, 0), (ENTROPY, entropy, 1), (ENTROPY, entropy, 2),
    (DISTANCE, distance, 0), (DISTANCE, distance, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "function", "seed"), FAILED_ONCE,
    ids=[f"{spec.name}-{seed}" for spec, _, seed in FAILED_ONCE],
)  # fmt: skip
def test_a_right_layer_is_failed_by_no_check(spec, function, seed):
    """On kinks and where digits are lost: nothing is an error, at the default profile."""
    (result,) = verify(Layer(spec, function), seed=seed).layers
    assert result.errors == ()


def halved(function, name):
    """Return a layer with one gradient that is half of what it should be."""

    def layer(*args, **kwargs):
        y, pullback = function(*args, **kwargs)
        return y, lambda dy: (found := pullback(dy)) | {name: found[name] / 2}

    return layer


@pytest.mark.parametrize(
    ("spec", "function", "name"),
    [(DENSE, dense, "w"), (SCORED, scored, "g"), (SCALED, scaled, "c"), (ENTROPY, entropy, "b"),
     (DISTANCE, distance, "c")],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_the_same_layer_with_a_wrong_gradient_is_failed(spec, function, name):
    """What excuses a right layer does not excuse a wrong one."""
    (result,) = verify(Layer(spec, halved(function, name)), profile="quick").layers
    assert name in {f.tensor for f in result.errors}
