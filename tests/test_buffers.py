"""buffers: updated as declared, once, from what is given, and by nothing but the forward."""

from dataclasses import replace

import numpy as np
import pytest

from gradverify import (
    Buffer,
    Constant,
    Input,
    Layer,
    Output,
    Param,
    Spec,
    Status,
    Verdict,
    asking,
    catalog,
    checks,
    verify,
)
from gradverify.checks import buffers

NORM = catalog("batch_norm_running")
# The same without a definition.
UNDEFINED = Spec(
    "undefined",
    x=Input("N C"),
    gamma=Param("C"),
    beta=Param("C"),
    running_mean=Buffer("C", update="new_mean"),
    running_var=Buffer("C", update="new_var", range="0.1..3"),
    train=Constant(True, False),
    momentum=Constant(0.1, 0.4),
    eps=Constant(1e-5, 1e-2),
    y=Output("N C"),
    new_mean=Output("C"),
    new_var=Output("C"),
    where=["N >= 2"],
)


def norm(change=lambda new, given: new, undo=lambda new, given: None):
    """Return a batch norm whose next values are `change`d, and whose pullback does `undo`."""

    def layer(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
        given = {"x": x, "mean": running_mean, "var": running_var, "train": train,
                 "momentum": momentum}  # fmt: skip
        new = running_mean.copy(), running_var.copy()
        mean, var = running_mean.copy(), running_var.copy()
        if train:
            mean, var = x.mean(axis=0), x.var(axis=0)
            new = following(given, *new)
        sigma = np.sqrt(var + eps)
        xhat = (x - mean) / sigma
        new = change(new, given)

        def pullback(dy):
            undo(new, given)
            dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
            dx = dy - (dbeta + xhat * dgamma) / len(x) if train else dy
            return {"x": gamma / sigma * dx, "gamma": dgamma, "beta": dbeta}

        return (gamma * xhat + beta, *new), pullback

    return layer


def following(given, mean, var):
    """Return the running statistics after these."""
    x, m = given["x"], given["momentum"]
    return (1 - m) * mean + m * x.mean(axis=0), (1 - m) * var + m * x.var(axis=0, ddof=1)


def asked(layer, spec=NORM, profile="quick"):
    """Return what buffers says, and its findings by question and tensor."""
    (result,) = verify(Layer(spec, layer), checks=["buffers"], profile=profile).layers
    (check,) = (c for c in result.checks if c.check == "buffers")
    return check, {(f.question, f.tensor): f for f in result.findings}


class Twice:
    """Updates twice when it is given what it has returned."""

    def __init__(self):
        self.last = None

    def change(self, new, given):
        again = self.last is not None and np.array_equal(self.last, given["mean"])
        new = following(given, *new) if again and given["train"] else new
        self.last = new[0].copy()
        return new


class Stored:
    """Returns arrays that its next call overwrites."""

    def __init__(self):
        self.kept = {}

    def change(self, new, given):
        key = new[0].shape, new[0].dtype
        for old, value in zip(self.kept.setdefault(key, new), new, strict=True):
            old[...] = value
        return self.kept[key]


def in_evaluation(change):
    return lambda new, given: new if given["train"] else change(*new)


def in_training(change):
    return lambda new, given: change(*new) if given["train"] else new


def overwritten(new, given):
    if given["mean"].flags.writeable:
        given["mean"][...] = 0.5
    return new


def test_a_right_layer_passes():
    """Every buffer is answered for, with and without a definition."""
    for spec in (NORM, UNDEFINED):
        check, found = asked(norm(), spec)
        assert (check.status, found) == (Status.PASSED, {})
        assert list(check.tensors) == ["running_mean", "running_var"]


@pytest.mark.parametrize(
    "change",
    [
        lambda new, given: new if given["train"] else (given["mean"], given["var"]),
        lambda new, given: (given["mean"] + (new[0] - given["mean"]), new[1] * 1)
        if given["train"] else new,
        lambda new, given: tuple(np.asfortranarray(n) for n in new),
    ],
    ids=["the same object", "as a step", "another layout"],
)  # fmt: skip
def test_other_right_ways_pass(change):
    """What stays may be the array that was given, and an update may round otherwise."""
    check, found = asked(norm(change))
    assert (check.status, found) == (Status.PASSED, {})


@pytest.mark.parametrize(
    ("change", "tensors"),
    [
        (lambda new, given: new[::-1], ["running_mean", "running_var"]),
        (in_training(lambda mean, var: (mean, var * 1.001)), ["running_var"]),
        (lambda new, given: (given["mean"].copy(), new[1]), ["running_mean"]),
    ],
    ids=["swapped", "off by a thousandth", "not updated"],
)
def test_a_wrong_update_is_told(change, tensors):
    """The finding has the buffer's name, the declared next value and what was returned."""
    check, found = asked(norm(change))
    assert check.status is Status.FAILED
    assert sorted(found) == [("update", name) for name in tensors]
    finding = found["update", tensors[-1]]
    assert finding.message.startswith(f"the next value of {tensors[-1]} is not the declared one")
    assert abs(finding.got - finding.expected) > finding.allowed


def test_what_stays_stays_to_the_bit():
    """In evaluation the definition returns the statistics as they are: no rounding explains 1."""
    last_digit = in_evaluation(lambda mean, var: (np.nextafter(mean, mean + 1), var))
    _, found = asked(norm(last_digit))
    assert list(found) == [("kept", "running_mean")]
    finding = found["kept", "running_mean"]
    assert "running_mean stays as it is here, by definition" in finding.message
    assert "train=False" in finding.case
    assert 0 < abs(finding.got - finding.expected) < 1e-6


def test_equal_by_chance_is_not_to_the_bit():
    """Statistics of a batch that are the running ones already are mixed, and may be rounded."""
    spec = Spec(
        "mean", x=Input("N C"), run=Buffer("C", update="new"), y=Output("N C"), new=Output("C"),
        definition="""
            y[n,c] = x[n,c]
            new[c] = 0.9*run[c] + 0.1*mean[n](x[n,c])
        """,
    )  # fmt: skip

    def layer(x, run):
        return (x.copy(), run + 0.1 * (x.mean(axis=0) - run)), lambda dy: {"x": dy.copy()}

    (result,) = verify(Layer(spec, layer)).layers
    assert (result.findings, result.verdict) == ((), Verdict.VERIFIED)


def test_an_update_that_is_right_only_once():
    """Given its own next value, a layer that counts it in again is told apart."""
    check, found = asked(norm(Twice().change), profile="default")
    assert check.status is Status.FAILED
    assert sorted(found) == [("fed_back", "running_mean"), ("fed_back", "running_var")]
    message = found["fed_back", "running_mean"].message
    assert "right in one call, but not in a second that is given it" in message


@pytest.mark.parametrize("spec", [NORM, UNDEFINED], ids=["defined", "undefined"])
def test_a_next_value_that_the_next_call_changes(spec):
    """State that is returned itself, not a copy, is no value."""
    _, found = asked(norm(Stored().change), spec, profile="default")
    finding = found["overwritten", "running_mean"]
    assert "that one call has returned is changed by the next" in finding.message
    assert "return an array of its own" in finding.message


@pytest.mark.parametrize("spec", [NORM, UNDEFINED], ids=["defined", "undefined"])
@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (norm(overwritten), "the forward changes running_mean in place"),
        (norm(undo=overwritten), "the pullback changes running_mean: only the forward"),
        (
            norm(undo=lambda new, given: new[0].__imul__(0.9)),
            "the pullback changes the next value of running_mean that the forward has returned",
        ),
    ],
    ids=["forward", "pullback", "what was returned"],
)
def test_only_the_forward_updates_and_only_by_what_it_returns(layer, told, spec):
    """Neither part writes into the buffer it is given, nor the pullback into the next value."""
    _, found = asked(layer, spec)
    assert any(told in f.message for key, f in found.items() if key[0] == "untouched")


def test_a_pullback_that_updates_when_it_is_called_again():
    """It is called twice."""

    def undo(new, given):
        given["calls"] = given.get("calls", 0) + 1
        if given["calls"] == 2:
            new[1][...] += 1

    _, found = asked(norm(undo=undo))
    assert "when it is called twice" in found["untouched", "running_var"].message


def test_a_call_that_cannot_take_its_own_next_value():
    """What the second call raises is told with what it was given."""

    class Once:
        last = None

        def change(self, new, given):
            if self.last is not None and np.array_equal(self.last, given["mean"]):
                raise ValueError("seen before")
            self.last = new[0].copy()
            return new

    _, found = asked(norm(Once().change), profile="default")
    (finding,) = (f for (question, _), f in found.items() if question == "fed_back")
    assert finding.message.startswith("given the next values that it has returned, the forward")
    assert "ValueError: seen before" in finding.message


def test_a_buffer_that_is_only_read_stays():
    """Without a declared update, all that is asked is that nobody writes to it."""
    spec = Spec(
        "scaled", x=Input("N"), scale=Buffer("N", range="0.5..2"), y=Output("N"),
        definition="y[n] = scale[n]*x[n]",
    )  # fmt: skip

    def layer(x, scale):
        return scale * x, lambda dy: {"x": dy * scale}

    def writes(x, scale):
        def pullback(dy):
            kept = scale.copy()
            if scale.flags.writeable:
                scale[...] *= 2
            return {"x": dy * kept}

        return scale * x, pullback

    assert asked(layer, spec)[0].status is Status.PASSED
    assert ("untouched", "scale") in asked(writes, spec)[1]


def test_without_buffers_there_is_nothing_to_ask():
    """Not applicable, by the spec."""
    check, _ = asked(lambda x: (np.tanh(x), lambda dy: {"x": dy}), catalog("tanh"))
    assert (check.status, check.reason) == (Status.NOT_APPLICABLE, "the spec has no buffers")


def test_a_check_that_does_not_compare_lets_a_wrong_update_through(monkeypatch):
    """These tests can fail: with comparing left out, the wrong update passes or is vacuous."""
    wrong = norm(in_training(lambda mean, var: (mean, var * 1.001)))
    assert asked(wrong)[0].status is Status.FAILED
    monkeypatch.setattr(buffers, "_as_declared", lambda *_: iter(()))
    assert asked(wrong)[0].status is not Status.FAILED
    silent = replace(checks.CHECKS["buffers"], examine=lambda trial: iter(()))
    monkeypatch.setattr(asking, "CHECKS", dict(checks.CHECKS) | {"buffers": silent})
    assert asked(wrong)[0].status is Status.VACUOUS
