"""contract: gradients are linear in the cotangent, in every layout, and to the last digit."""

import numpy as np
import pytest
from contracts import changed, errors, findings, right, scale, the_finding, told

from gradverify import Input, Layer, Output, Param, Spec, Verdict, verify
from gradverify.cases import parse_case
from gradverify.checks import contract, digits, linear
from gradverify.checks.memory import chosen_layouts, drawn_layouts, values_of
from gradverify.trial import Trial, make_oracle

unknown = Spec("unknown", x=Input("N C"), w=Param("C"), y=Output("N C"))  # without a definition


def rounded(a):
    return a.astype(np.float32).astype(a.dtype)


# -- linear in the cotangent


@pytest.mark.parametrize(
    ("where", "question", "at"),
    [
        (lambda dy: np.max(np.abs(dy), initial=0) > 1e5, "linear", "-1.07374e+09 times the"),
        (lambda dy: not dy.any(), "zero", "a zero"),
    ],
    ids=["large", "zero"],
)
def test_every_gradient_is_due_at_every_cotangent(where, question, at):
    """One that is left out, or of another shape, for some cotangents only is told for these."""

    def layer(odd):
        def forward(x, w):
            y, pullback = right(x, w)
            return y, lambda dy: odd(pullback(dy)) if where(dy) else pullback(dy)

        return forward

    rest = "every gradient is due at every cotangent, in its declared shape"
    missing = findings(layer(lambda found: {"x": found["x"]}))
    assert told(missing[question, "w"]) == f"{at} cotangent gives no gradient of w: {rest}"
    flat = findings(layer(lambda found: found | {"x": found["x"].ravel()}))
    assert told(flat[question, "x"]) == (
        f"{at} cotangent gives a gradient of x of shape ({flat[question, 'x'].case[2:3]},): {rest}"
    )


def thresholded(x, w, dy):
    return w * np.where(np.abs(dy) < 1e-6, 0, dy)


def normalised(x, w, dy):
    return w * dy / max(1, np.linalg.norm(dy))


@pytest.mark.parametrize(
    ("dx", "scale"),
    [
        (lambda x, w, dy: w * np.maximum(dy, 0), "-2"),
        (lambda x, w, dy: w * np.sign(dy).astype(dy.dtype), "-2"),
        (lambda x, w, dy: w * np.clip(dy, -1, 1), "-2"),
        (normalised, "-2"),
        (lambda x, w, dy: w * dy + dy.dtype.type(1e-3) * dy * dy, "-2"),
        (lambda x, w, dy: w * np.clip(dy, -1e4, 1e4), "-1.07374e+09"),
        (thresholded, "-9.31323e-10"),
    ],
    ids=["relu", "sign", "clip", "norm", "square", "clip far away", "cut off"],
)  # fmt: skip
def test_what_is_not_linear_is_told(dx, scale):
    """Clipping, thresholds and norms are the optimiser's, at whatever size they begin."""
    finding = findings(changed(x=dx))["linear", "x"]
    assert told(finding) == (
        f"{scale} times the cotangent does not give {scale} times the gradient of x"
    )


def test_what_only_scales_is_told():
    """Homogeneous is not enough: the largest element alone scales as a linear function does."""

    def largest(x, w, dy):
        return w * dy.flat[np.argmax(np.abs(dy))] + 0 * x

    assert told(findings(changed(x=largest), profile="default")["linear", "x"]) == (
        "the gradient of x at the sum -0.7 dy + 1.3 dz is not the sum of the "
        "gradients at each: a pullback is linear, whatever values its cotangents have"
    )


two = Spec("two", x=Input("N C"), a=Output("N C"), b=Output("N C"),
           definition="a[n,c] = 2*x[n,c]\nb[n,c] = 3*x[n,c]")  # fmt: skip


@pytest.mark.parametrize(
    "dx",
    [
        lambda da, db: 2 * da + 3 * db if da.any() else 0 * db,
        lambda da, db: 2 * da + 3 * db * (np.abs(da).sum() > 0),
    ],
    ids=["a branch", "a factor"],
)
def test_a_gradient_that_needs_the_other_cotangent_is_told(dx):
    """A loss may use one output alone: the cotangents of the others are then 0."""
    finding = the_finding(lambda x: ((2 * x, 3 * x), lambda da, db: (dx(da, db),)), "linear", "x",
                          two)  # fmt: skip
    assert told(finding) == (
        "the gradient of x at the cotangents of all outputs is not the sum of "
        "the gradients at each: a pullback is linear, whatever values its cotangents have"
    )


def test_a_product_of_cotangents_is_told():
    """A gradient in which the cotangents of two outputs are multiplied is not linear."""
    wrong = lambda x: ((2 * x, 3 * x), lambda da, db: (2 * da + 3 * db + da * db,))  # noqa: E731
    assert errors(wrong, two) == {("linear", "x")}
    assert not findings(lambda x: ((2 * x, 3 * x), lambda da, db: (2 * da + 3 * db,)), two)


def test_nan_for_a_zero_cotangent_is_told():
    """A normalisation that is undone is linear but at 0."""

    def dx(x, w, dy):
        top = np.abs(dy).max()
        return w * (dy / top) * top

    assert errors(changed(x=dx)) == {("zero", "x")}


# -- layouts


def told_by_flags(x, w):
    y, pullback = right(x, w)
    ordered = x.ndim < 2 or x.flags.c_contiguous or not x.flags.f_contiguous
    return (y if ordered else -y), pullback


def told_by_strides(x, w):
    return right(x, w * (1 if w.strides[0] >= 0 else 2))


def in_memory_order(x, w):
    y, pullback = right(x, w)

    def wrong(dy):
        dx = np.multiply(w, dy)
        return pullback(dy) | {"x": dx.ravel("K").reshape(dx.shape)}

    return y, wrong


@pytest.mark.parametrize(
    ("layer", "tensor", "message"),
    [
        (told_by_flags, "y", "x in Fortran order gives another output y than in C order: use "
         "shapes and indices, not memory"),
        (told_by_strides, "y", "w of negative strides gives another output y than in C order: use "
         "shapes and indices, not memory"),
        (in_memory_order, "x", "the cotangent of y in Fortran order gives another gradient of x "
         "than in C order: use shapes and indices, not memory"),
    ],
)  # fmt: skip
def test_what_depends_on_memory_is_told(layer, tensor, message):
    """Each array lies in memory in every way, alone too, and the array that matters is named."""
    for spec in (scale, unknown):
        assert told(findings(layer, spec, profile="default")["layout", tensor]) == message


def test_a_broadcast_cotangent_is_as_good_as_any():
    """`y.sum()` has a cotangent of strides 0: a fast path for it that is wrong is told."""

    def dx(x, w, dy):
        return w * dy if any(dy.strides) else w * dy.flat[0] * dy.size + 0 * x

    found = findings(changed(x=dx))
    assert {key for key in found if key[0] != "empty"} == {("layout", "x")}
    assert told(found["layout", "x"]) == (
        "a cotangent of equal elements gives another gradient of x where it is broadcast (strides "
        "of 0) than in C order: use shapes and indices, not memory"
    )


def test_a_layer_that_raises_for_a_layout_is_told():
    """The array and the layout are named; an odd address, which is rare, is worth a warning."""

    def shaped(x, w):
        flat = x.view()
        flat.shape = (-1,)
        return right(x, w)

    message = told(findings(shaped, profile="default")["layout", None])
    assert message.startswith("with x ")
    assert "it raises AttributeError: " in message

    def aligned(x, w):
        if not x.flags.aligned:
            raise TypeError("array must have flags ['ALIGNED']")
        return right(x, w)

    finding = the_finding(aligned, "alignment", None, severity="warning", profile="default")
    line = aligned.__code__.co_firstlineno + 2
    assert told(finding) == (
        f"with x at an odd address it raises TypeError: array must have flags ['ALIGNED'] "
        f"(line {line})"
    )


def test_another_order_of_summation_is_no_other_answer():
    """Sums over arrays that lie otherwise round otherwise; without a definition too."""
    mean = Spec("mean", x=Input("N C"), y=Output("C"))

    def layer(x):
        x = x + 1000
        n = x.shape[0]
        # What is summed is far larger than what is left of it.
        y = x.sum(axis=0) - 1000 * x.dtype.type(n)
        return y, lambda dy: np.ones_like(x) * dy

    assert findings(layer, mean) == {}


def test_what_overflows_at_larger_cotangents_tells_nothing():
    """In float16 twice a gradient may be too large, and four times one is often."""
    cubic = Spec("cubic", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**3")
    layer = Layer(cubic, lambda x: (x * x * x, lambda dy: 3 * x * x * dy), dtypes=["float16"])
    assert verify(layer, checks=["contract"]).findings == ()


def test_on_a_kink_no_layout_is_tried():
    """Rounding decides there, and it may be otherwise where arrays lie otherwise."""
    relu = Spec("relu", x=Input("N C"), y=Output("N C"), definition="y[n,c] = max(x[n,c], 0)")
    layer = Layer(relu, lambda x: (np.maximum(x, 0), lambda dy: dy * (x > 0)))
    line = "N=9 C=8 dtype=float64 layout={} values={} params=ordinary cotangent=signed seed=6"
    for values in ("ordinary", "ties"):
        for layout in ("C", "mixed"):
            case = parse_case(line.format(layout, values), relu)
            trial = Trial(layer, case, make_oracle(relu))
            same = chosen_layouts(trial, values_of(trial)) == drawn_layouts(trial)
            assert same == (values == "ties")


# -- digits

dense = Spec("dense", x=Input("N D"), w=Param("K D"), y=Output("N K"))  # without a definition
exact = Spec("dense", x=Input("N D"), w=Param("K D"), y=Output("N K"),
             definition="y[n,k] = sum[d](x[n,d]*w[k,d])")  # fmt: skip


def matmul(a, b, dtype):
    return (a.astype(dtype) @ b.astype(dtype)).astype(a.dtype)


def layer_in(forward, backward):
    def layer(x, w):
        def pullback(dy):
            return {
                "x": matmul(dy, w, backward or x.dtype),
                "w": matmul(dy.T, x, backward or x.dtype),
            }

        return matmul(x, w.T, forward or x.dtype), pullback

    return layer


@pytest.mark.parametrize("spec", [dense, exact])
def test_a_pullback_in_float32_is_told(spec):
    """Rounding to float32 shows in sums of cotangents, with a definition and without."""
    found = errors(layer_in(None, np.float32), spec, profile="default")
    assert found == {("precision", "x"), ("precision", "w")}
    finding = findings(layer_in(None, np.float32), spec, profile="default")["precision", "x"]
    assert finding.message.startswith("the gradient of x is the same to ")
    assert "something inside is computed in a lower precision than float64" in finding.message


def test_a_forward_in_float32_is_told_without_a_definition():
    """Outputs that do not follow what float64 can tell are rounded on the way."""
    found = findings(layer_in(np.float32, None), dense, profile="default")
    assert found.keys() >= {("precision", "x"), ("precision", "w")}
    assert {question for question, _ in found} == {"precision"}
    assert told(found["precision", "w"]) == (
        "the outputs do not follow changes of w that float64 can tell: it is rounded to a lower "
        "precision inside"
    )
    assert findings(layer_in(None, None), dense, profile="default") == {}


def test_one_operand_in_float32_is_told():
    """It is enough that a parameter alone is rounded."""

    def layer(x, w):
        return x @ w.astype(np.float32).T.astype(x.dtype), layer_in(None, None)(x, w)[1]

    found = findings(layer, dense, profile="default")
    assert set(found) == {("precision", "w")}


def test_another_formula_for_float32_is_told_without_a_definition():
    """The results of float64 are the measure of those in float32."""
    found = findings(changed(w=lambda x, w, dy: (x * dy).sum(axis=0) * (1 + (x.itemsize == 4))),
                     unknown, profile="default")  # fmt: skip
    assert set(found) == {("dtypes", "w")}
    assert told(found["dtypes", "w"]) == (
        "the gradient of w in float32 is another than in float64 at the same values"
    )


def quantised(x, w):
    """Steps are what it is meant to compute, and they are wider than what float32 can tell."""
    return np.round(x * 16) / 16, lambda dy: {"x": dy + 0, "w": 0 * w}


def test_what_is_flat_or_steep_is_not_rounded():
    """Saturation, steps and cancellation are no lack of digits."""

    def saturated(x, w):
        y = np.tanh(50 * x * w)
        return y, lambda dy: {
            "x": 50 * w * dy * (1 - y * y), "w": (50 * x * dy * (1 - y * y)).sum(axis=0)
        }  # fmt: skip

    def cancelling(x, w):
        return (x + 100) * w - 100 * w, lambda dy: {"x": w * dy, "w": (x * dy).sum(axis=0)}

    for layer in (quantised, saturated, cancelling):
        assert findings(layer, unknown, profile="default") == {}


# -- these tests can fail


@pytest.mark.parametrize(
    ("question", "wrong", "spec"),
    [
        (linear.zero, changed(x=lambda x, w, dy: w * dy + (not dy.any())), scale),
        (linear.additive, changed(x=lambda x, w, dy: rounded(w * dy)), scale),
        (linear.alone, lambda x: ((2 * x, 3 * x),
                                  lambda da, db: (2 * da + 3 * db if da.any() else 0 * db,)), two),
        (linear.broadcast, changed(x=lambda x, w, dy: w * dy * (1 if any(dy.strides) else 2)), scale),
        (digits.examine, lambda x, w: right(rounded(x), w), unknown),
    ],
    ids=["zero", "additive", "alone", "broadcast", "precision"],
)  # fmt: skip
def test_without_its_question_a_wrong_layer_passes(question, wrong, spec, monkeypatch):
    """It is this question, and no other, that finds it."""
    sizes = {"N": 5, "C": 4}
    assert errors(wrong, spec, profile="default", sizes=sizes)
    rest = tuple(q for q in contract.QUESTIONS if q.examine is not question)
    assert len(rest) == len(contract.QUESTIONS) - 1
    monkeypatch.setattr(contract, "QUESTIONS", rest)
    assert not errors(wrong, spec, profile="default", sizes=sizes)


def test_all_that_is_only_a_warning_leaves_a_layer_verified():
    """A layer with nothing but warnings is verified."""

    def layer(a, b):
        return a + b, lambda dy: (dy, dy)

    add = Spec("add", a=Input("N C"), b=Input("N C"), y=Output("N C"),
               definition="y[n,c] = a[n,c] + b[n,c]")  # fmt: skip
    (result,) = verify(Layer(add, layer, name="add")).layers
    assert {f.severity for f in result.findings} == {"warning"}
    assert result.verdict is Verdict.VERIFIED
