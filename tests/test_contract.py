"""contract: the promises every layer makes, each with layers that keep and layers that break it."""

import warnings

import numpy as np
import pytest
from contracts import SMALLEST, changed, findings, right, scale, the_finding, told

from gradverify import Input, Layer, Output, Param, Spec, Status, verify
from gradverify.cases import parse_case
from gradverify.checks import contract
from gradverify.loading import catalogue_folder, load
from gradverify.trial import Trial, make_oracle

RIGHT = {
    layer.spec.name: layer
    for name in ("attention", "batch_norm", "dropout", "embedding", "lstm_cell", "softmax")
    for layer in load(catalogue_folder() / f"{name}.py")
}
embedding, lstm_cell = RIGHT["embedding"].spec, RIGHT["lstm_cell"].spec

# -- layers that keep it


@pytest.mark.parametrize("name", ["batch_norm", "dropout", "embedding", "lstm_cell"])
def test_the_catalogue_keeps_it(name):
    """Layers with constants, integers, masks and several outputs break no promise."""
    assert findings(RIGHT[name].function, RIGHT[name].spec) == {}


@pytest.mark.parametrize(
    "layer",
    [
        right,
        lambda x, w: (w * x, lambda dy: (w * dy, (x * dy).sum(axis=0))),
        lambda x, w: (w * x, lambda dy: [w * dy, (x * dy).sum(axis=0)]),
        lambda x, w: ((w * x,), lambda dy: {"w": (x * dy).sum(axis=0), "x": w * dy}),
        changed(x=lambda x, w, dy: np.asfortranarray(w * dy)),
        changed(x=lambda x, w, dy: np.ma.masked_array(w * dy)),
    ],
    ids=["dict", "tuple", "list", "a tuple of outputs", "Fortran order", "a subclass"],
)
def test_every_way_of_returning_is_allowed(layer):
    """Gradients come as a dict or in declared order, outputs alone or in a tuple."""
    assert findings(layer) == {}


def test_a_gradient_that_is_not_due_may_be_left_out_or_be_none():
    """Integer inputs have no gradient: left out, None, a tuple with None or exact zeros."""

    def layer(returned):
        def forward(ids, w):
            def pullback(dy):
                dw = np.zeros_like(w)
                np.add.at(dw, ids, dy)
                return returned(ids, dw)

            return w[ids], pullback

        return forward

    for returned in (
        lambda ids, dw: {"w": dw},
        lambda ids, dw: {"ids": None, "w": dw},
        lambda ids, dw: (None, dw),
        lambda ids, dw: dw,
        lambda ids, dw: {"ids": np.zeros(ids.shape), "w": dw},
    ):
        assert findings(layer(returned), embedding) == {}


# -- what is returned


def test_a_layer_that_raises_is_told_with_its_line():
    """The finding says what was raised, by which part, and in which line."""

    def forward_raises(x, w):
        raise ZeroDivisionError("no")

    def pullback_raises(x, w):
        def pullback(dy):
            return {"x": dy / w, "w": [][1]}

        return w * x, pullback

    line = forward_raises.__code__.co_firstlineno + 1
    finding = the_finding(forward_raises, "raises", None)
    assert told(finding) == f"the forward raised ZeroDivisionError: no (line {line})"
    assert finding.case.startswith(SMALLEST)
    assert finding.location == f"{__file__}:{line - 1}"

    line = pullback_raises.__code__.co_firstlineno + 2
    finding = the_finding(pullback_raises, "raises", None)
    assert told(finding) == f"the pullback raised IndexError: list index out of range (line {line})"


def test_a_layer_that_exits_or_recurses_is_told():
    """SystemExit and endless recursion are the layer's doing, and end nothing else."""

    def exits(x, w):
        raise SystemExit(3)

    def recurses(x, w):
        return recurses(x, w)

    def warns(x, w):
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return right(x, w)

    assert "the forward raised SystemExit: 3 (line" in told(the_finding(exits, "raises", None))
    assert "RecursionError" in told(the_finding(recurses, "raises", None))
    # Warnings are errors here, as in every test run that is strict.
    assert "DeprecationWarning: deprecated" in told(the_finding(warns, "raises", None))


def test_arguments_that_do_not_fit_are_told():
    """A layer that is declared with other names than the spec's is told what Python says."""
    message = told(the_finding(lambda x, weight: None, "raises", None))
    assert "unexpected keyword argument 'w'" in message


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda x, w: w * x, "the layer returned a ndarray where (output, pullback) is expected"),
        (lambda x, w: None, "the layer returned None where (output, pullback) is expected"),
        (
            lambda x, w: (w * x, w),
            "the layer's second result is a ndarray, not a pullback that can be called with the "
            "cotangent of its output",
        ),
        (
            lambda x, w: ((w * x, w), lambda dy: None),
            "the layer returned a tuple of 2 as outputs where (y) are declared",
        ),
        (
            lambda x, w: (w * x, lambda dy: w * dy),
            "the pullback returned a ndarray where a dict of the gradients of x, w (or a tuple in "
            "this order) is expected",
        ),
        (
            lambda x, w: (w * x, lambda dy: (dy, dy, dy)),
            "the pullback returned a tuple of 3 where a dict of the gradients of x, w (or a tuple "
            "in this order) is expected",
        ),
        (
            lambda x, w: (w * x, lambda dy: None),
            "the pullback returned None where a dict of the gradients of x, w (or a tuple in this "
            "order) is expected",
        ),
    ],
)
def test_what_is_no_layer_is_told(layer, message):
    """Outputs, pullback and gradients that do not have the agreed form are one clear finding."""
    finding = the_finding(layer, "convention", None)
    assert told(finding) == message
    assert finding.case.startswith(SMALLEST)


def test_outputs_that_are_too_few_are_told():
    """A layer with two outputs that returns one is told which are declared."""

    def layer(x, h, c, wx, wh, b):
        return h, lambda dh, dc: {}

    message = told(the_finding(layer, "convention", None, lstm_cell))
    assert message == (
        "the layer returned a ndarray as outputs where (h_next, c_next) are declared"
    )


def test_a_missing_gradient_is_named():
    """A gradient that is left out or None is missing; the message lists what is there."""

    def left_out(x, w):
        y, pullback = right(x, w)
        return y, lambda dy: {"x": pullback(dy)["x"]}

    finding = the_finding(left_out, "missing", "w")
    assert told(finding) == "the gradient of w is missing; returned: x"
    assert finding.case.startswith(SMALLEST)
    finding = the_finding(changed(w=lambda x, w, dy: None), "missing", "w")
    assert told(finding) == "the gradient of w is None; returned: x"


def test_a_gradient_of_nothing_is_named():
    """A gradient of what is no tensor of the spec is a misspelling until shown otherwise."""
    finding = the_finding(changed(weight=lambda x, w, dy: dy), "extra", None)
    assert told(finding) == "a gradient of 'weight' is returned; the spec declares x, w"


@pytest.mark.parametrize("dids", [lambda ids: np.ones(ids.shape), lambda ids: "one", list])
def test_a_gradient_of_integers_is_refused(dids):
    """An integer input takes no gradient, so that one can only be a mistake."""

    def layer(ids, w):
        def pullback(dy):
            dw = np.zeros_like(w)
            np.add.at(dw, ids, dy)
            return {"ids": dids(ids + 1), "w": dw}

        return w[ids], pullback

    finding = the_finding(layer, "extra", "ids", embedding)
    assert told(finding) == (
        "ids takes no gradient, yet one is returned: leave it out, or return None"
    )


@pytest.mark.parametrize(
    ("dw", "shape"),
    [
        (lambda x, w, dy: (x * dy).sum(axis=0, keepdims=True), (1, 1)),
        (lambda x, w, dy: (x * dy).sum(), ()),
        (lambda x, w, dy: x * dy, (1, 1)),
        (lambda x, w, dy: (x * dy).sum(axis=0)[:0], (0,)),
    ],
    ids=["(1, C)", "a scalar", "not summed", "empty"],
)
def test_a_gradient_of_another_shape_is_refused(dw, shape):
    """A gradient has its tensor's shape; what would broadcast to it has not."""
    finding = the_finding(changed(w=dw), "shape", "w")
    assert told(finding) == f"the gradient of w has shape {shape}, declared (C) = (1,)"
    assert finding.case.startswith(SMALLEST)


def test_an_output_of_another_shape_is_refused():
    """An output has its declared shape."""
    finding = the_finding(lambda x, w: (right(x, w)[0].sum(), right(x, w)[1]), "shape", "y")
    assert told(finding) == "output y has shape (), declared (N, C) = (1, 1)"


def test_another_precision_is_refused_with_its_remedy():
    """float64 for float32 input is wrong, unless float32 is not meant to be accepted."""
    wide = changed(x=lambda x, w, dy: (w * dy).astype(float))
    finding = the_finding(wide, "dtype", "x")
    assert told(finding) == (
        "the gradient of x is float64 for float32 input; if only float64 is meant, register it "
        'with dtypes=["float64"]'
    )
    assert finding.case.startswith("N=1 C=1 dtype=float32 layout=C values=ordinary cotangent=sig")
    report = verify(Layer(scale, wide, dtypes=["float64"]), profile="quick", checks=["contract"])
    assert report.findings == ()


def test_a_lower_precision_is_refused():
    """float32 for float64 input loses half the digits; there is no remedy but to keep them."""
    finding = the_finding(changed(w=lambda x, w, dy: np.float32((x * dy).sum(axis=0))), "dtype",
                          "w", sizes={"N": 1})  # fmt: skip
    assert told(finding) == "the gradient of w is float32 for float64 input"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda g: "text", "str"),
        (lambda g: [[1.0], [1.0, 2.0]], "list"),
        (lambda g: g.astype(object), "ndarray of dtype object"),
        (lambda g: g + 1j, "ndarray of dtype complex128"),
        (lambda g: object(), "object"),
    ],
    ids=["text", "ragged", "objects", "complex", "an object"],
)
def test_what_is_no_array_is_refused(value, kind):
    """Text, ragged lists and complex numbers are no gradients, and no outputs."""
    wrong = changed(x=lambda x, w, dy: value(np.array(w * dy, float)))
    message = told(the_finding(wrong, "type", "x"))
    assert message == f"the gradient of x is a {kind}, not an array of real numbers"

    def output(x, w):
        y, pullback = right(x, w)
        return value(np.array(y, float)), pullback

    message = told(the_finding(output, "type", "y"))
    assert message == f"output y is a {kind}, not an array of real numbers"


def test_nan_is_refused_where_the_definition_is_finite():
    """nan and infinity are named with their place, which the finding points to."""

    def bad(x, w, dy):
        dx = w * dy
        dx[-1, -1] = np.nan
        return dx

    found = findings(changed(x=bad))
    finding = found["finite", "x"]
    assert told(finding) == ("the gradient of x is nan at x[0, 0], where the definition is finite")
    assert finding.index == (0, 0)
    assert finding.case.startswith(SMALLEST)

    def infinite(x, w):
        y, pullback = right(x, w)
        return y / 0, pullback

    with np.errstate(all="ignore"):
        finding = the_finding(infinite, "finite", "y")
    assert "output y is " in told(finding)
    assert "inf at y[0, 0], where the definition is finite" in told(finding)


@pytest.mark.parametrize("dtypes", [("float64", "float16"), ("float16", "float64")])
def test_nan_that_is_wrong_is_an_error_whatever_else_overflows(dtypes):
    """A question that is warned of in float16 and failed in float64 is failed, where it is."""
    square = Spec("square", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")

    def forward(x):
        def pullback(dy):
            dx = x * 3000 / 3000 * 2 * dy  # beyond float16 for large x
            if x.dtype == np.float64 and len(x) >= 4:
                dx[3] = np.nan
            return {"x": dx}

        return x * x, pullback

    with np.errstate(all="ignore"):
        (judged,) = verify(Layer(square, forward, dtypes=dtypes), checks=["contract"]).layers
    found = [(f.severity, f.question, f.index) for f in judged.findings]
    assert found == [("error", "finite", (3,))]
    assert "dtype=float64" in judged.findings[0].case


def test_nan_is_no_finding_where_nobody_knows():
    """Without a definition the point itself may be bad, so contract says nothing of nan."""
    unknown = Spec("unknown", x=Input("N C"), w=Param("C"), y=Output("N C"))
    assert findings(lambda x, w: (right(x, w)[0] * np.nan, right(x, w)[1]), unknown) == {}


# -- what is changed


def test_a_forward_that_changes_what_it_is_given_is_told():
    """An input or parameter changed in place is the caller's, who still uses it."""

    def clips(x, w):
        if x.flags.writeable:
            np.maximum(x, -100, out=x)
            x += 1
            x -= 0.5
        return right(x, w)

    finding = findings(clips)["mutates", "x"]
    assert told(finding) == (
        "the forward changed x in place: the caller still uses it; work on a copy"
    )
    assert finding.case.startswith(SMALLEST)


def test_a_pullback_that_changes_a_parameter_is_told():
    """An optimiser step inside the pullback is a change in place."""

    def steps(x, w):
        y, pullback = right(x, w)

        def wrong(dy):
            grads = {k: g.copy() for k, g in pullback(dy).items()}
            if w.flags.writeable:
                w[...] -= w.dtype.type(0.1) * grads["w"]
            return grads

        return y, wrong

    message = told(findings(steps)["mutates", "w"])
    assert message == "the pullback changed w in place: the caller still uses it; work on a copy"


def test_a_pullback_that_changes_its_cotangent_is_told():
    """A cotangent is read by every other pullback that it reaches."""

    def scales(x, w):
        y, pullback = right(x, w)

        def wrong(dy):
            grads = pullback(dy)
            if dy.flags.writeable:
                dy *= w
            return grads

        return y, wrong

    finding = the_finding(scales, "mutates", None)
    assert told(finding) == (
        "the pullback changed its cotangent in place: the caller still uses it; work on a copy"
    )


def test_a_layer_that_needs_to_write_is_told_of_read_only_arrays():
    """A change in place raises where an array is read-only, and that is told as well."""

    def clips(x, w):
        x += 0
        return right(x, w)

    finding = the_finding(clips, "raises", None)
    assert "the forward raised ValueError: output array is read-only (line" in finding.message
    assert "layout=readonly" in finding.case or "layout=broadcast" in finding.case


# -- the same again


def test_chance_in_the_forward_is_told():
    """Two calls with the same values give the same, or nobody can check or debug anything."""

    chance = np.random.default_rng(0)

    def noisy(x, w):
        y, pullback = right(x, w)
        return y + chance.standard_normal(y.shape).astype(y.dtype), pullback

    finding = the_finding(noisy, "repeatable", "y")
    assert told(finding) == "the same call twice gives two outputs y"


def test_chance_in_the_gradient_is_told():
    """The same holds for gradients."""

    chance = np.random.default_rng(0)

    def noisy(x, w):
        y, pullback = right(x, w)
        noise = chance.standard_normal(w.shape).astype(w.dtype)
        return y, lambda dy: pullback(dy) | {"w": (x * dy).sum(axis=0) * noise}

    finding = findings(noisy)["repeatable", "w"]
    assert told(finding) == "the same call twice gives two gradients of w"


def test_a_second_call_that_raises_is_told():
    """What a pullback uses up it does not have the second time; its line is named."""

    def once(x, w):
        y, pullback = right(x, w)
        kept = [pullback]
        return y, lambda dy: kept.pop()(dy)

    finding = the_finding(once, "repeatable", None)
    line = once.__code__.co_firstlineno + 3
    assert told(finding) == (
        f"the first call succeeded, a later one raised IndexError: pop from empty list (line {line})"
    )


def test_a_pullback_that_adds_up_is_told():
    """Called twice, a pullback gives the same gradient twice, and not their sum."""

    def adds(x, w):
        y, pullback = right(x, w)
        total = np.zeros_like(w)

        def wrong(dy):
            total[...] += (x * dy).sum(axis=0)
            return pullback(dy) | {"w": total.copy()}

        return y, wrong

    finding = findings(adds)["accumulates", "w"]
    assert told(finding) == (
        "a pullback called twice gives another gradient of w the second time: it adds up or uses "
        "up what it kept"
    )
    assert finding.case.startswith(SMALLEST)


def test_what_the_last_forward_left_behind_is_told():
    """State on the function belongs to the last call: a pullback of an earlier one is stale."""

    def keeps(x, w):
        keeps.x = x
        return w * x, lambda dy: {"x": w * dy, "w": (keeps.x * dy).sum(axis=0)}

    finding = findings(keeps)["stale", "w"]
    assert told(finding) == (
        "the gradient of w changes when another forward has run in between: what the forward keeps "
        "for its pullback must belong to that call"
    )
    assert finding.case.startswith(SMALLEST)


def test_a_buffer_for_all_calls_is_told():
    """What a call has returned is the caller's: the next call must not write to it."""
    buffers = {}

    def reuses(x, w):
        y, pullback = right(x, w)
        out = buffers.setdefault((y.shape, y.dtype), np.empty(y.shape, y.dtype))
        out[...] = y
        return out, pullback

    finding = findings(reuses)["overwritten", "y"]
    assert told(finding) == (
        "output y that a call has returned is changed by the next: return an array of its own"
    )

    def reuses_for_gradients(x, w):
        y, pullback = right(x, w)

        def wrong(dy):
            dx = buffers.setdefault((x.shape, x.dtype, "dx"), np.empty(x.shape, x.dtype))
            dx[...] = w * dy
            return pullback(dy) | {"x": dx}

        return y, wrong

    finding = findings(reuses_for_gradients)["overwritten", "x"]
    assert told(finding) == (
        "the gradient of x that a call has returned is changed by the next: return an array of its "
        "own"
    )


def test_a_layer_may_keep_what_does_not_depend_on_values():
    """A table by shape, kept from call to call, is no state that a gradient depends on."""
    tables = {}

    def keeps(x, w):
        ones = tables.setdefault((x.shape, x.dtype), np.ones(x.shape, x.dtype))
        return w * x * ones, lambda dy: {"x": w * dy * ones, "w": (x * dy).sum(axis=0)}

    assert findings(keeps) == {}


# -- linear in the cotangent


def test_a_gradient_that_is_not_linear_is_told():
    """A gradient is linear in the cotangent; one of |dy| is right for positive ones only."""
    finding = the_finding(changed(x=lambda x, w, dy: w * np.abs(dy)), "linear", "x")
    assert told(finding) == "-2 times the cotangent does not give -2 times the gradient of x"
    assert finding.case.startswith(SMALLEST)


def test_a_clipped_gradient_is_told():
    """Clipping belongs to the optimiser: it is not linear."""
    wrong = changed(w=lambda x, w, dy: np.clip((x * dy).sum(axis=0), -5, 5))
    assert list(findings(wrong)) == [("linear", "w")]


def test_a_gradient_of_nothing_is_zero():
    """Without a cotangent there is no gradient; weight decay is the optimiser's."""
    finding = findings(changed(w=lambda x, w, dy: (x * dy).sum(axis=0) + w))["zero", "w"]
    assert told(finding) == "a zero cotangent gives a gradient of w that is not 0"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("softmax", "N=11 C=10 dtype=float32 layout=C values=large cotangent=one-hot seed=2147483647"),
        ("attention", "B=1 T=1 D=4 S=3 E=1 dtype=float64 layout=C values=large cotangent=signed seed=3"),
        ("attention", "B=2 T=2 D=1 S=3 E=2 dtype=float64 layout=strided values=offset cotangent=signed seed=4088419074"),
        ("lstm_cell", "N=9 D=2 H=9 dtype=float32 layout=C values=large cotangent=one-hot seed=1066438"),
    ],
)  # fmt: skip
def test_rounding_is_not_taken_for_a_broken_promise(name, line):
    """Scaling by -2 is exact but where numbers underflow, which saturation makes them do."""
    layer = RIGHT[name]
    trial = Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))
    assert [seen for seen in contract.examine(trial) if seen.outcome is Status.FAILED] == []
