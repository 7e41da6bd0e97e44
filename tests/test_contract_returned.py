"""contract: what exactly is returned, and what an empty batch gives."""

import numpy as np
import pytest
from contracts import changed, errors, findings, right, the_finding, told

from gradverify import Input, Output, Param, Spec
from gradverify.checks import contract, empty

# -- shapes


@pytest.mark.parametrize(
    ("dw", "shape"),
    [
        (lambda x, w, dy: (x * dy).sum(axis=0)[None], (1, 1)),
        (lambda x, w, dy: (x * dy).sum(axis=0)[:, None], (1, 1)),
        (lambda x, w, dy: np.diag((x * dy).sum(axis=0)), (1, 1)),
    ],
    ids=["(1, C)", "(C, 1)", "a diagonal"],
)
def test_a_shape_that_would_broadcast_is_refused(dw, shape):
    """A row or a column is no vector, though it can be added to one."""
    finding = findings(changed(w=dw))["shape", "w"]
    assert told(finding) == f"the gradient of w has shape {shape}, declared (C) = (1,)"


def test_a_single_element_is_no_scalar():
    """() and (1,) are two shapes, both ways."""
    finding = findings(changed(w=lambda x, w, dy: (x * dy).sum()), sizes={"C": 1})["shape", "w"]
    assert told(finding) == "the gradient of w has shape (), declared (C) = (1,)"
    slope = Spec("slope", x=Input("N"), a=Param(""), y=Output("N"), definition="y[n] = a*x[n]")

    def layer(x, a):
        return a * x, lambda dy: {"x": a * dy, "a": np.array([(x * dy).sum()])}

    finding = findings(layer, slope)["shape", "a"]
    assert told(finding) == "the gradient of a has shape (1,), declared () = ()"


# -- types and dtypes

loss = Spec("loss", x=Input("N"), a=Param(""), y=Output(""), definition="y = a*sum[n](x[n])")


@pytest.mark.parametrize("number", [float, np.array, lambda v: v], ids=["float", "0-d", "NumPy's"])
def test_a_scalar_may_be_a_number(number):
    """A float of Python, an array without dimensions and a number of NumPy's own dtype all do."""

    def layer(x, a):
        y = a * x.sum()
        return number(y), lambda dy: {"x": np.full_like(x, a * dy), "a": number(x.sum() * dy)}

    assert findings(layer, loss) == {}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (lambda g: g != 0, "bool"),
        (lambda g: np.round(g).astype(int), "int64"),
        (lambda g: g.astype(np.float16), "float16"),
        (lambda g: g.astype(">f8"), ">f8"),
    ],
)
def test_another_dtype_is_refused(value, dtype):
    """Booleans, integers and fewer or swapped bytes are told, for gradients and outputs."""
    finding = findings(changed(w=lambda x, w, dy: value((x * dy).sum(axis=0))))["dtype", "w"]
    assert told(finding).startswith(f"the gradient of w is {dtype} for float")
    finding = findings(lambda x, w: (value(w * x), right(x, w)[1]))["dtype", "y"]
    assert told(finding).startswith(f"output y is {dtype} for float")


def test_a_wider_scalar_is_refused():
    """NumPy's float64 turns what it meets into float64, unlike Python's float."""

    def layer(x, a):
        return np.float64(a * x.sum()), lambda dy: {"x": np.full_like(x, a * dy), "a": x.sum() * dy}

    assert told(the_finding(layer, "dtype", "y", loss)) == (
        "output y is float64 for float32 input; if only float64 is meant, register it with "
        'dtypes=["float64"]'
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda g: g.tolist(), "list"),
        (lambda g: (row for row in g), "generator"),
        (lambda g: {"x": g}, "dict"),
        (lambda g: None if g.size < 0 else np.array([None] * g.size).reshape(g.shape), "ndarray of dtype object"),
    ],
    ids=["list", "generator", "dict", "objects"],
)  # fmt: skip
def test_what_only_holds_numbers_is_refused(value, kind):
    """A list has no dtype, and a generator is used up by whoever reads it first."""
    wrong = changed(x=lambda x, w, dy: value(w * dy))
    message = told(the_finding(wrong, "type", "x"))
    assert message == f"the gradient of x is a {kind}, not an array of real numbers"


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_masks_and_matrices_are_told():
    """What is under a mask is no value; a matrix multiplies otherwise than an array."""

    def masked(x, w, dy):
        return np.ma.masked_array(w * dy, x > 0)

    assert told(findings(changed(x=masked))["type", "x"]) == (
        "the gradient of x has masked elements: what is under the mask is no value; return an "
        "array without a mask"
    )
    assert findings(changed(x=lambda x, w, dy: np.ma.masked_array(w * dy))) == {}
    matrix = changed(x=lambda x, w, dy: np.asmatrix(w * dy))
    assert told(the_finding(matrix, "subclass", "x", severity="warning")) == (
        "the gradient of x is a matrix, of which * is the matrix product to the caller: return "
        "np.asarray of it"
    )


def test_keys_that_are_no_names_are_told():
    """Gradients by number, or by anything else but their tensor's name, are named in the finding."""

    def layer(x, w):
        return w * x, lambda dy: {0: w * dy, 1: (x * dy).sum(axis=0)}

    found = findings(layer)
    assert told(found["extra", None]) == "a gradient of 0 is returned; the spec declares x, w"
    assert told(found["missing", "x"]) == "the gradient of x is missing; returned: 0, 1"
    named = lambda x, w: (w * x, lambda dy: {np.str_(k): g for k, g in right(x, w)[1](dy).items()})  # noqa: E731
    assert findings(named) == {}


def test_a_pullback_that_yields_is_told():
    """A generator function returns no gradients."""

    def layer(x, w):
        def pullback(dy):
            yield w * dy
            yield (x * dy).sum(axis=0)

        return w * x, pullback

    assert told(the_finding(layer, "convention", None)).startswith(
        "the pullback returned a generator where a dict of the gradients of x, w"
    )


def test_another_dtype_at_the_second_call_is_told():
    """What a first call returned in the right dtype the next must not return in another."""
    seen = set()

    def layer(x, w):
        again = (x.shape, x.dtype) in seen
        seen.add((x.shape, x.dtype))
        y, pullback = right(x, w)
        return (
            y,
            lambda dy: (
                pullback(dy) | {"w": (x * dy).sum(axis=0).astype("f4" if again else w.dtype)}
            ),
        )

    assert errors(layer)


# -- a dimension of 0


def test_the_range_that_is_advised_is_that_of_the_tensor_at_fault():
    """Of two parameters the one is named whose large values, or zeros, make a result infinite."""
    shifted = Spec("shifted", x=Input("N D"), mu=Param("D"), s=Param("D"), y=Output("N D"),
                   definition="y[n,d] = (x[n,d] - mu[d])*exp(-s[d])")  # fmt: skip

    def overflows(x, mu, s):
        e = np.exp(s)

        def pullback(dy):
            ds = -((dy * (x - mu) / e**2) * e).sum(axis=0)  # e**2 is beyond float32
            return {"x": dy / e, "mu": -(dy / e).sum(axis=0), "s": ds}

        return (x - mu) / e, pullback

    message = told(findings(overflows, shifted, profile="default")["finite", "s"])
    assert "s has large values, up to " in message
    assert message.endswith('such as s=Param(..., range="-10..10")')

    unit = Spec("unit", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")

    def divides(x):
        return x**2, lambda dy: {"x": 2 * x**2 * dy / x}

    message = told(findings(divides, unit, profile="default")["finite", "x"])
    assert message.endswith('from 0 on; if such are not meant, declare its range, such as '
                            'x=Input(..., range="0.1..10")')  # fmt: skip


def looped(x, w):
    y = np.array([w * row for row in x])
    return y, right(x, w)[1]


def stacked(x, w):
    return np.stack([w * row for row in x]), right(x, w)[1]


def averaged(x, w):
    return w * x, lambda dy: {"x": w * dy, "w": (x * dy).mean(axis=0) * x.shape[0]}


@pytest.mark.parametrize(
    ("layer", "tensor", "message"),
    [
        (looped, "y", "at N=0 C=1 output y has shape (0,), declared (N, C) = (0, 1)"),
        (
            stacked,
            None,
            "at N=0 C=1 it raises ValueError: need at least one array to stack "
            f"(line {stacked.__code__.co_firstlineno + 1})",
        ),
        (averaged, "w", "at N=0 C=1 the gradient of w is not what the definition gives"),
    ],
)
def test_an_empty_batch_is_worth_a_warning(layer, tensor, message):
    """Nobody declared a size of 0: a layer that is right from 1 on has passed."""
    found = findings(layer, profile="default")["empty", tensor]
    assert (told(found), found.severity) == (message, "warning")


def test_a_size_of_0_is_asked_only_where_it_is_a_case():
    """Not where the constraints forbid it, nor where the definition is not finite there."""
    larger = Spec("larger", x=Input("N C"), w=Param("C"), y=Output("N C"), where=["N >= 1", "C >= 1"],
                  definition="y[n,c] = w[c]*x[n,c]")  # fmt: skip
    mean = Spec("mean", x=Input("N"), y=Output(""), definition="y = mean[n](x[n])")
    largest = Spec("largest", x=Input("N"), y=Output(""), definition="y = max[n](x[n])")

    def maximum(x):
        k = np.argmax(x)
        return x[k], lambda dy: (np.where(np.arange(len(x)) == k, dy, 0).astype(x.dtype),)

    assert findings(stacked, larger, profile="default") == {}
    assert findings(lambda x: (x.mean(), lambda dy: (np.full_like(x, dy / len(x)),)), mean) == {}
    assert findings(maximum, largest, profile="default") == {}


def test_without_its_question_an_empty_batch_is_not_looked_at(monkeypatch):
    """It is this question that finds it."""
    assert findings(stacked, profile="default")
    rest = tuple(q for q in contract.QUESTIONS if q.examine is not empty.empty)
    monkeypatch.setattr(contract, "QUESTIONS", rest)
    assert not findings(stacked, profile="default")
