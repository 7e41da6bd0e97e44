"""pair: a forward that returns a cache, with its backward, as people write them."""

import numpy as np
import pytest
from adapted import contract, errors, judged, line_of, linear, told

from gradverify import Constant, Input, Layer, Output, Param, Spec, UsageError, Verdict, catalog
from gradverify.adapters import pair

# -- a tuple as cache


def affine_forward(x, w, b):
    return x.dot(w) + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, _ = cache
    return dout.dot(w.T), x.T.dot(dout), dout.sum(axis=0)


def test_a_pair_is_verified_as_it_is():
    """A tuple as cache and gradients in order; 50-digit arithmetic reaches both functions."""
    layer = Layer(linear, pair(affine_forward, affine_backward))
    assert layer.name == "affine_forward"
    result = judged(linear, layer.function)
    assert result.verdict is Verdict.VERIFIED
    assert {c.check: str(c.status) for c in result.checks}["exact"] == "passed"


# -- caches and gradients of other kinds


class Cache:
    """What a forward keeps, by name."""


def keeps_an_object(x, w, b):
    cache = Cache()
    cache.x, cache.w = x, w
    return x @ w + b, cache


def takes_the_object_first(cache, dy):
    return {"dw": cache.x.T @ dy, "dX": dy @ cache.w.T, "grad_b": dy.sum(axis=0)}


def keeps_a_dict(A_prev, W, bias):
    return A_prev @ W + bias, {"A": A_prev, "W": W}


def gives_a_dict(dZ, caches):
    return {"dW": caches["A"].T @ dZ, "dx": dZ @ caches["W"].T, "b": dZ.sum(axis=0)}


def keeps_nothing(w, b, x):
    return x @ w + b


def takes_all_again(dy, x, w):
    return {"x": dy @ w.T, "w": x.T @ dy, "b": dy.sum(axis=0)}


def keeps_none(*arrays):
    x, w, b = arrays
    return x @ w + b, None


def takes_any_names(**given):
    return given["x"] @ given["w"] + given["b"], (given["x"], given["w"], given["b"])


PAIRS = {
    "any names": (takes_any_names, affine_backward),
    "object": (keeps_an_object, takes_the_object_first),
    "dict": (keeps_a_dict, gives_a_dict),
    "nothing": (keeps_nothing, takes_all_again),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_caches_are_of_any_kind(kind):
    """An object that is taken first, a dict, and no cache at all; arguments by name, whatever
    their order and capitals, or in declared order; gradients by the usual names."""
    assert errors(linear, pair(*PAIRS[kind]), checks=["contract", "symbolic"]) == {}


def test_gradients_in_a_tuple_have_the_order_of_the_arguments():
    """That of the forward's own, which need not be the declared one."""

    def forward(bias, W, x):
        return x @ W + bias, (x, W)

    def backward(dy, cache):
        return dy.sum(axis=0), cache[0].T @ dy, dy @ cache[1].T

    adapter = pair(forward, backward, names={"b": "bias"})
    assert errors(linear, adapter, checks=["contract", "symbolic"]) == {}


def test_a_cache_of_none_is_one():
    """That a forward returns None as cache does not mean that it returns none."""
    seen = []

    def backward(dy, cache):
        seen.append(cache)
        return dy, dy, dy

    contract(linear, pair(keeps_none, backward))
    assert set(seen) == {None}


# -- constants and options

strided = Spec(
    "strided", x=Input("N L", outside=0), w=Param("K"), S=Constant(1, 2), P=Constant(0, 1),
    y=Output("N (L+2*P-K)//S+1"), where=["L+2*P >= K"],
    definition="y[n,i] = sum[k](x[n,S*i+k-P]*w[k])",
)  # fmt: skip


def conv_forward(x, w, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    padded = np.pad(x, ((0, 0), (pad, pad)))
    count = (padded.shape[1] - len(w)) // stride + 1
    y = np.stack([padded[:, i * stride : i * stride + len(w)] @ w for i in range(count)], axis=1)
    return y, (padded, w, conv_param)


def conv_backward(dout, cache):
    padded, w, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i in range(dout.shape[1]):
        at = slice(i * stride, i * stride + len(w))
        dw += dout[:, i] @ padded[:, at]
        dx[:, at] += dout[:, i : i + 1] * w
    return dx[:, pad : dx.shape[1] - pad], dw


def by_keyword(x, w, *, stride, pad):
    return conv_forward(x, w, {"stride": stride, "pad": pad})


STRIDED = {"S": "stride", "P": "pad"}


def test_options_in_a_dict_are_one_argument():
    """All constants go into it, by the names that the code has for them."""
    adapter = pair(conv_forward, conv_backward, names=STRIDED, options="conv_param")
    assert errors(strided, adapter, checks=["contract", "symbolic"]) == {}
    adapter = pair(by_keyword, conv_backward, names=STRIDED)
    assert errors(strided, adapter, checks=["contract", "symbolic"]) == {}


def running(x, gamma, beta, param):
    """Batch norm that keeps its running statistics in the dict of its options."""
    if param["train"]:
        mean, var, n, m = x.mean(axis=0), x.var(axis=0), len(x), param["momentum"]
        param["running_mean"] = (1 - m) * param["running_mean"] + m * mean
        param["running_var"] = (1 - m) * param["running_var"] + m * var * n / (n - 1)
    else:
        mean, var = param["running_mean"], param["running_var"]
    sigma = np.sqrt(var + param["eps"])
    xhat = (x - mean) / sigma
    return gamma * xhat + beta, (xhat, sigma, gamma, param["train"])


def running_backward(dy, cache):
    xhat, sigma, gamma, train = cache
    dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
    dx = gamma / sigma * dy
    if train:
        dx -= gamma / sigma * (dbeta + xhat * dgamma) / len(dy)
    return dx, dgamma, dbeta


def test_buffers_may_be_kept_among_the_options():
    """They are put into the dict, and their next values are read from it."""
    spec = catalog("batch_norm_running")
    adapter = pair(running, running_backward, options="param")
    assert errors(spec, adapter, checks=["contract", "forward", "symbolic", "buffers"]) == {}


def test_two_outputs_and_a_next_value_come_in_declared_order():
    """Before the cache, or as a tuple of their own; the backward takes a cotangent of each, and
    none of what is a buffer's next value."""
    spec = Spec("two", x=Input("N"), u=Output("N"), v=Output("N"),
                definition="u[n] = 2*x[n]\nv[n] = x[n]**2")  # fmt: skip

    def flat(x):
        return 2 * x, x * x, x

    def nested(x):
        return (2 * x, x * x), x

    def backward(du, dv, x):
        return 2 * du + 2 * x * dv

    for forward in (flat, nested):
        assert errors(spec, pair(forward, backward), checks=["contract", "symbolic"]) == {}


# -- what is wrong is told as of a pullback


def twin(x, w, b):
    return x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.mean(axis=0))


def mean_backward(dout, cache):
    dx, dw, _ = affine_backward(dout, cache)
    return dx, dw, dout.mean(axis=0)


def test_a_wrong_pair_gets_the_diagnosis_of_its_pullback():
    """The same findings, with the same causes; they name the line of the backward."""
    asked = {"checks": ["contract", "symbolic", "descent"]}
    found = errors(linear, pair(affine_forward, mean_backward), **asked)
    known = errors(linear, twin, **asked)
    assert {k: f.diagnosis for k, f in found.items()} == {k: f.diagnosis for k, f in known.items()}
    finding = found["symbolic", "gradient", "b"]
    assert "a mean over N where the sum is derived" in finding.diagnosis
    assert finding.location == line_of(mean_backward)


def test_a_cache_that_is_used_up_is_told():
    """A backward that pops from its cache gives another gradient the second time, or raises."""

    def forward(x, w, b):
        return x @ w + b, [x, w]

    def backward(dy, cache):
        w, x = cache.pop(), cache.pop()
        return dy @ w.T, x.T @ dy, dy.sum(axis=0)

    (finding,) = contract(linear, pair(forward, backward)).values()
    assert finding.question == "repeatable"
    assert "a later one raised IndexError: pop from empty list" in finding.message


def test_a_cache_of_the_module_is_told():
    """What two calls share is the gradient of the last."""
    last = {}

    def forward(x, w, b):
        last.update(x=x, w=w)
        return x @ w + b, None

    def backward(dy, cache):
        return dy @ last["w"].T, last["x"].T @ dy, dy.sum(axis=0)

    found = contract(linear, pair(forward, backward))
    assert ("stale", "w") in found


def test_a_gradient_that_is_left_out_is_told():
    """A dict without b, and with a name that nobody declared."""

    def backward(dy, cache):
        return {"dx": dy @ cache[1].T, "dw": cache[0].T @ dy, "dbias_of_y": dy.sum(axis=0)}

    found = contract(linear, pair(affine_forward, backward))
    assert told(found["missing", "b"]) == (
        "the gradient of b is missing; returned: x, w, dbias_of_y"
    )
    assert ("extra", None) in found


# -- how it is called

WRONG = {
    "no place": (
        pair(lambda x, w, /: (x @ w, None), affine_backward),
        "takes no argument for b: say what it is called there with names=",
    ),
    "an option": (
        pair(lambda x, w, eps=0.1: (x @ w, None), affine_backward),
        "takes no argument for b: say what it is called there with names=",
    ),
    "too many": (
        pair(lambda x, w, b, eps: (x @ w + b, None), affine_backward),
        "needs eps, and what is declared is x, w, b: say what it is called there",
    ),
    "results": (
        pair(lambda x, w, b: (x, w, b), affine_backward),
        "<lambda> returned 3 values where (y, cache) is expected",
    ),
    "names": (
        pair(affine_forward, affine_backward, names={"W": "weights"}),
        "the spec declares no 'W'; known are x, w, b",
    ),
    "gradients": (
        pair(affine_forward, lambda dy, cache: (dy, dy)),
        "the pullback returned a tuple of 2 where a dict of the gradients of x, w, b",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_pair_that_does_not_fit_is_one_message(kind):
    """It says what has no place, and how to say where it belongs."""
    adapter, message = WRONG[kind]
    (finding,) = contract(linear, adapter).values()
    assert finding.question == "convention"
    assert message in finding.message


def test_what_cannot_be_called_is_refused():
    """At once, where it is written."""
    with pytest.raises(UsageError, match="pair: the backward is 3, which cannot be called"):
        pair(affine_forward, 3)
