"""contract: a layer that is called again, in every order, and what it does to others' arrays."""

from collections import deque

import numpy as np
import pytest
from contracts import errors, findings, right, the_finding, told

from gradverify import Input, Output, Spec
from gradverify.checks import contract, order

# -- what a forward leaves behind


class Remembers:
    """What the last forward was given lives on the object."""

    def __call__(self, x, w):
        self.x, self.w = x, w
        return w * x, lambda dy: {"x": self.w * dy, "w": (self.x * dy).sum(axis=0)}


def in_a_default(x, w, kept={}):  # noqa: B006 # that is what is wrong with it
    kept["x"] = x
    return w * x, lambda dy: {"x": w * dy, "w": (kept["x"] * dy).sum(axis=0)}


def in_a_closure():
    last = None

    def layer(x, w):
        nonlocal last
        last = x
        return w * x, lambda dy: {"x": w * dy, "w": (last * dy).sum(axis=0)}

    return layer


def on_a_stack():
    kept = []

    def layer(x, w):
        kept.append(x)
        return w * x, lambda dy: {"x": w * dy, "w": (kept.pop() * dy).sum(axis=0)}

    return layer


def in_a_queue():
    kept = deque(maxlen=100)

    def layer(x, w):
        kept.append(x)
        return w * x, lambda dy: {"x": w * dy, "w": (kept[0] * dy).sum(axis=0)}

    return layer


def in_a_buffer_by_shape():
    kept = {}

    def layer(x, w):
        mine = kept.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
        mine[...] = x
        return w * x, lambda dy: {"x": w * dy, "w": (mine * dy).sum(axis=0)}

    return layer


def in_two_buffers_in_turn():
    kept, calls = {}, [0]

    def layer(x, w):
        calls[0] += 1
        key = x.shape, x.dtype, calls[0] % 2
        mine = kept.setdefault(key, np.empty(x.shape, x.dtype))
        mine[...] = x
        return w * x, lambda dy: {"x": w * dy, "w": (mine * dy).sum(axis=0)}

    return layer


@pytest.mark.parametrize(
    "layer",
    [
        Remembers(), in_a_default, in_a_closure(), in_a_buffer_by_shape(), in_two_buffers_in_turn(),
    ],
    ids=["object", "default argument", "closure", "a buffer by shape", "two buffers in turn"],
)  # fmt: skip
def test_what_belongs_to_the_last_call_is_stale(layer):
    """Wherever it is kept: the pullback of an earlier call gets what belongs to a later one."""
    assert ("stale", "w") in errors(layer)
    assert told(findings(layer)["stale", "w"]) == (
        "the gradient of w changes when another forward has run in between: what the forward keeps "
        "for its pullback must belong to that call"
    )


@pytest.mark.parametrize("layer", [on_a_stack(), in_a_queue()], ids=["stack", "queue"])
def test_an_order_of_pullbacks_that_is_taken_for_granted_is_told(layer):
    """Pullbacks may come in the order of the forwards or in the other, and more than once."""
    assert errors(layer)


def test_a_size_of_the_last_call_is_told():
    """What only the last size is wrong of shows when other sizes come in between."""
    last = {}

    def layer(x, w):
        last["n"] = x.shape[0]
        return w * x, lambda dy: {"x": w * dy, "w": (x * dy).mean(axis=0) * last["n"]}

    assert errors(layer) == {("stale", "w")}


def test_a_dtype_of_the_last_call_is_told():
    """What only the last dtype is wrong of shows when another dtype comes in between."""
    last = {}

    def layer(x, w):
        last["dtype"] = x.dtype

        def pullback(dy):
            dw = (x * dy).sum(axis=0)
            return {"x": w * dy, "w": dw.astype(last["dtype"]).astype(w.dtype)}

        return w * x, pullback

    assert ("stale", "w") in errors(layer, profile="default")


def test_without_several_calls_two_buffers_in_turn_pass(monkeypatch):
    """It is this question that finds them."""
    assert errors(in_two_buffers_in_turn())
    without = tuple(q for q in contract.QUESTIONS if q.examine is not order.deep)
    monkeypatch.setattr(contract, "QUESTIONS", without)
    assert not errors(in_two_buffers_in_turn())


# -- adding up


def in_a_global_total():
    total = {}

    def layer(x, w):
        def pullback(dy):
            dw = (x * dy).sum(axis=0)
            total[w.shape, w.dtype] = dw + total.get((w.shape, w.dtype), 0)
            return {"x": w * dy, "w": total[w.shape, w.dtype]}

        return w * x, pullback

    return layer


def in_place(x, w):
    dw = np.zeros_like(w)

    def pullback(dy):
        nonlocal dw
        dw += (x * dy).sum(axis=0)
        return {"x": w * dy, "w": dw}

    return w * x, pullback


@pytest.mark.parametrize("layer", [in_a_global_total(), in_place], ids=["global", "in place"])
def test_gradients_that_add_up_are_told(layer):
    """To add up the gradients of several calls is the caller's choice."""
    assert told(findings(layer)["accumulates", "w"]) == (
        "a pullback called twice gives another gradient of w the second time: it adds up or uses "
        "up what it kept"
    )


# -- the same call again


def test_a_first_call_that_differs_is_told():
    """What is computed at the first call of a shape, and found in a table later, is the same."""
    seen = set()

    def layer(x, w):
        first, _ = (x.shape, x.dtype) not in seen, seen.add((x.shape, x.dtype))
        y, pullback = right(x, w)
        return y, lambda dy: pullback(dy) | ({"w": w * 0} if first else {})

    assert ("repeatable", "w") in errors(layer)


def test_a_second_call_that_changes_its_input_is_told():
    """An input is changed in place although the first call of each shape changed nothing."""
    seen = set()

    def layer(x, w):
        if (x.shape, x.dtype) in seen and x.flags.writeable:
            x += 1
        seen.add((x.shape, x.dtype))
        return right(x, w)

    assert ("mutates", "x") in errors(layer)


def test_a_first_call_that_changes_its_input_is_told():
    """An input is changed in place by the first call of each shape only."""
    seen = set()

    def layer(x, w):
        if (x.shape, x.dtype) not in seen and x.flags.writeable:
            x += 1
            seen.add((x.shape, x.dtype))
        return right(x, w)

    assert told(findings(layer)["mutates", "x"]) == (
        "a call changed x in place: the caller still uses it; work on a copy"
    )


@pytest.mark.parametrize("period", [2, 3])
def test_a_call_in_some_that_differs_is_told(period):
    """Whichever of a few calls it is, and nothing else is blamed."""
    calls = [0]

    def layer(x, w):
        calls[0] += 1
        y, pullback = right(x, w)
        return (y + 1 if calls[0] % period == 0 else y), pullback

    assert errors(layer, profile="default") == {("repeatable", "y")}


def by_identity(known):
    """Return a layer that remembers the last call by the id of its arrays, where `known` says so.

    It keeps the array itself, so that no other gets its id.
    """
    last = {}

    def layer(x, w):
        if not (last and last["key"] == (id(x), id(w)) and known(last, x)):
            last.update(key=(id(x), id(w)), x=x, w=w, old=x.copy(), wx=w * x)
        return last["wx"].copy(), right(x, w)[1]

    return layer


def test_a_cotangent_that_was_filled_anew_is_another():
    """The same holds for the arrays that a pullback is called with."""
    last = {}

    def layer(x, w):
        def pullback(dy):
            if last.get("dy") is not dy:
                last.update(dy=dy, old=dy.copy())
            return right(x, w)[1](last["old"])

        return w * x, pullback

    assert errors(layer) == {("identity", "x"), ("identity", "w")}


def test_an_array_that_was_filled_anew_is_another():
    """A caller who reads the next batch into the same array must get the next answer."""
    finding = the_finding(by_identity(lambda last, x: True), "identity", "y")
    assert told(finding) == (
        "output y is that of an earlier call when an array that was given before has other values "
        "now: recognise what was computed already by its values, not by id()"
    )


def test_remembering_by_values_is_allowed():
    """A cache that looks at the values, and hands out copies, is right."""

    def layer(x, w):
        key = x.tobytes(), w.tobytes(), x.shape, x.dtype
        if key not in kept:
            kept[key] = w * x
        return kept[key].copy(), right(x, w)[1]

    kept = {}
    assert findings(layer) == {}


# -- what was returned


def test_a_workspace_for_all_gradients_of_a_forward_is_told():
    """The second use of a pullback must leave alone what the first has returned."""

    def layer(x, w):
        dx = np.empty_like(x)

        def pullback(dy):
            np.multiply(w, dy, out=dx)
            return {"x": dx, "w": (x * dy).sum(axis=0)}

        return w * x, pullback

    assert told(the_finding(layer, "overwritten", "x")) == (
        "the gradient of x that a call has returned is changed by the next: return an array of its "
        "own"
    )


def test_outputs_in_two_buffers_in_turn_are_told():
    """Two buffers only hide it: the call after the next writes to what the caller still has."""
    buffers, calls = {}, [0]

    def layer(x, w):
        calls[0] += 1
        key = x.shape, x.dtype, calls[0] % 2
        out = buffers.setdefault(key, np.empty(x.shape, x.dtype))
        np.multiply(w, x, out=out)
        return out, right(x, w)[1]

    assert errors(layer) == {("overwritten", "y")}


def test_a_workspace_that_is_copied_from_is_allowed():
    """Where intermediate values are computed is nobody's business."""
    room = {}

    def layer(x, w):
        out = room.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
        np.multiply(w, x, out=out)
        y, mine = out.copy(), x.copy()

        def pullback(dy):
            np.multiply(mine, dy, out=out)
            return {"x": w * dy, "w": out.sum(axis=0)}

        return y, pullback

    assert findings(layer) == {}


# -- what is others'


def where_it_is_contiguous(x, w):
    flat = np.ascontiguousarray(x)  # a copy in other layouts, the caller's own array in C order
    if flat.flags.writeable:
        flat += 1
        return w * (flat - 1), lambda dy: {"x": w * dy, "w": ((flat - 1) * dy).sum(axis=0)}
    return right(x, w)


def put_back_by_the_pullback(x, w):
    if not x.flags.writeable:
        return right(x, w)
    old = x.copy()
    x *= 2

    def pullback(dy):
        x[...] = old
        return right(x, w)[1](dy)

    return w * old, pullback


def beside_its_elements(x, w):
    y, pullback = right(x, w)
    if x.base is not None and x.base.shape != x.shape and x.base.dtype == x.dtype:
        x.base[1::2] = 7
    return y, pullback


@pytest.mark.parametrize(
    "layer", [where_it_is_contiguous, put_back_by_the_pullback, beside_its_elements]
)
def test_a_change_in_some_layouts_or_for_some_time_is_one(layer):
    """In C order only, until the pullback puts it back, or between the elements of a view."""
    finding = findings(layer)["mutates", "x"]
    assert "changed x in place: the caller still uses it; work on a copy" in finding.message


def test_a_change_of_an_earlier_calls_input_is_told():
    """What a call was given must be left alone by later calls too."""
    earlier = []

    def layer(x, w):
        for old in earlier:
            old += 1
        earlier[:] = [x] if x.flags.writeable else []
        y, kept = w * x, x.copy()
        return y, lambda dy: {"x": w * dy, "w": (kept * dy).sum(axis=0)}

    assert ("mutates", "x") in errors(layer)


# -- memory that is shared

add = Spec(
    "add", a=Input("N C"), b=Input("N C"), y=Output("N C"), definition="y[n,c]=a[n,c]+b[n,c]"
)
flat = Spec("flat", x=Input("N C"), y=Output("N C"), definition="y[n,c] = x[n,c]")


def test_a_cotangent_may_be_returned_as_a_gradient():
    """That is what an addition does; who writes to gradients is warned."""
    found = findings(lambda a, b: (a + b, lambda dy: (dy, dy)), add)
    assert {key: f.severity for key, f in found.items()} == dict.fromkeys(
        [("shares", "a"), ("shares", "b")], "warning"
    )
    assert told(found["shares", "a"]) == (
        "the gradient of a shares memory with the cotangent of y: who writes to one changes the "
        "other"
    )
    found = findings(lambda a, b: (a + b, lambda dy: (dy + 0,) * 2), add)
    assert told(found["shares", "a"]) == (
        "the gradient of a shares memory with that of b: who writes to one changes the other"
    )
    assert findings(lambda a, b: (a + b, lambda dy: (dy.copy(), dy.copy())), add) == {}


def test_an_output_may_be_a_view_of_an_input():
    """A reshape gives one; who writes to it is warned."""
    view = the_finding(lambda x: (x[:], lambda dy: dy * 1), "shares", "y", flat, severity="warning")
    assert told(view) == "output y shares memory with x: who writes to one changes the other"


def test_results_that_nobody_can_write_to_are_allowed():
    """Read-only outputs and broadcast gradients cannot be changed by mistake."""
    total = Spec("total", x=Input("N C"), y=Output("N"), definition="y[n] = sum[c](x[n,c])")

    def layer(x):
        y = x.sum(axis=1)
        y.flags.writeable = False
        return y, lambda dy: np.broadcast_to(dy[:, None], x.shape)

    assert findings(layer, total) == {}


def test_a_gradient_that_the_pullback_goes_on_with_is_told():
    """Optimisers scale and clip gradients in place: the pullback must not depend on them."""

    def layer(x, w):
        nothing, ones = np.zeros_like(w), np.ones_like(x)

        def pullback(dy):
            dx = np.multiply(w, dy)
            return {"x": dx + nothing, "w": (x * dy * ones).sum(axis=0)}

        return w * x, pullback

    assert findings(layer) == {}
    spec = Spec("idle", x=Input("N C"), b=Input("C"), y=Output("N C"),
                definition="y[n,c] = x[n,c] + b[c] - b[c]")  # fmt: skip

    def idle(x, b):
        nothing = np.zeros_like(b)
        return x + 0, lambda dy: {"x": dy + 0, "b": nothing}

    assert told(the_finding(idle, "aliases", "b", spec)) == (
        "the gradient of b is what the layer goes on with: who writes to it changes the next one; "
        "return a copy"
    )


def test_an_output_that_a_table_goes_on_with_is_told():
    """A cache that hands out its own arrays gives the next caller what this one wrote."""
    kept = {}

    def layer(x, w):
        key = x.tobytes(), w.tobytes(), x.shape, x.dtype
        return kept.setdefault(key, w * x), right(x, w)[1]

    assert told(findings(layer)["aliases", "y"]) == (
        "output y is what the layer goes on with: who writes to it changes the next one; return a "
        "copy"
    )


def test_what_a_layer_does_to_the_shape_of_an_array_is_a_change():
    """The caller's array has another shape after the call, or cannot be written to."""

    def flattens(x, w):
        y, pullback = right(x, w)
        if x.flags.c_contiguous:
            x.shape = (x.size,)
        return y, pullback

    def freezes(x, w):
        w.flags.writeable = False
        return right(x, w)

    assert ("mutates", "x") in errors(flattens)
    assert ("mutates", "w") in errors(freezes)


# -- what all share


def test_settings_and_random_numbers_of_all_are_left_alone():
    """A layer that changes np.seterr or draws from np.random is warned, and verified."""

    def seeds(x, w):
        np.random.seed(0)  # noqa: NPY002 # that is what is wrong with it
        return right(x, w)

    def sets(x, w):
        np.seterr(divide="warn")
        return right(x, w)

    message = told(the_finding(seeds, "effects", None, severity="warning"))
    assert message == (
        "it seeds or draws from np.random, which everybody shares: use a generator of its own, "
        "np.random.default_rng(...)"
    )
    message = told(the_finding(sets, "effects", None, severity="warning"))
    assert message == (
        "it leaves np.seterr changed for everybody: put `with np.errstate(...)` around the place"
    )


def test_a_layer_may_print(capsys):
    """What a layer prints is its own affair."""

    def layer(x, w):
        print("forward")
        return right(x, w)

    assert findings(layer) == {}
    assert capsys.readouterr().out.startswith("forward\n")
