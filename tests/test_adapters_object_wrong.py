"""stateful: objects that are wrong, told in their own words with the diagnosis of their pullback."""

import numpy as np
import pytest
from adapted import Linear, contract, errors, line_of, linear, made, told

from gradverify import Input, Output, Spec
from gradverify.adapters import stateful


def test_a_wrong_object_gets_the_diagnosis_of_its_pullback():
    """The same findings with the same causes; they name the line of its backward."""

    class Mean(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.db = dy.mean(axis=0)
            return dx

    def twin(x, w, b):
        return x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.mean(axis=0))

    asked = {"checks": ["contract", "symbolic", "descent"]}
    found, known = errors(linear, made(Mean), **asked), errors(linear, twin, **asked)
    assert {k: f.diagnosis for k, f in found.items()} == {k: f.diagnosis for k, f in known.items()}
    assert found["symbolic", "gradient", "b"].location == line_of(Mean.backward)


class Stale(Linear):
    """It keeps the first batch of each shape."""

    def forward(self, x):
        if self.cache is None or self.cache.shape != x.shape:
            self.cache = x
        return x @ self.W + self.b


class RowOfGradients(Linear):
    def backward(self, dy):
        dx = super().backward(dy)
        self.db = dy.sum(axis=0, keepdims=True)
        return dx


class WithoutOne(Linear):
    def backward(self, dy):
        self.dW = self.cache.T @ dy
        return dy @ self.W.T


class StepsInBackward(Linear):
    def backward(self, dy):
        dx = super().backward(dy)
        self.W = self.W - 0.1 * self.dW
        return dx


class WritesInForward(Linear):
    def forward(self, x):
        self.W *= 0.9
        return super().forward(x)


class Blurs(Linear):
    random = np.random.default_rng(0)

    def forward(self, x):
        self.mask = self.random.normal(1, 0.5, x.shape).astype(x.dtype)
        return super().forward(x * self.mask)

    def backward(self, dy):
        return super().backward(dy) * self.mask


class Upwards(Linear):
    def update(self, lr):
        self.W += lr * self.dW
        self.b -= lr * self.db


class Halved(Linear):
    def update(self, lr):
        self.b -= 0.5 * lr * self.db


FOUND = {
    Stale: (
        ("stale", "w"),
        "the gradient of w is another when the object was used at other values before: what a "
        "forward keeps must be all from that forward",
    ),
    RowOfGradients: (("shape", "b"), "the gradient of b has shape (1, 1), declared (M) = (1,)"),
    WithoutOne: (
        ("missing", "b"),
        "the gradient of b is missing; returned: x, w; the object has no self.db or another place "
        "called like it after backward; it has self.W, self.b, self.cache, self.dW: say where with "
        'grads={"b": "..."}',
    ),
    StepsInBackward: (
        ("mutates", None),
        "backward puts another array in the place of self.W, which holds w: a step is for an "
        "update",
    ),
    WritesInForward: (
        ("mutates", "w"),
        "the forward changed w in place: the caller still uses it; work on a copy; self.W holds "
        "it: what steps is an update, which is called apart",
    ),
    Blurs: (
        ("repeatable", "w"),
        "the same call twice gives two gradients of w; if the forward draws random numbers, give "
        "the object its mask as an input, or verify it where it draws none",
    ),
}


@pytest.mark.parametrize("kind", FOUND, ids=lambda kind: kind.__name__)
def test_a_wrong_object_is_told_in_its_own_words(kind):
    """What it keeps, leaves, draws or writes to, with the attribute that it is about."""
    key, message = FOUND[kind]
    found = contract(linear, made(kind))
    assert told(found[key]) == message
    assert {k[0] for k in found} <= {key[0], "raises"}


def test_an_update_has_to_follow_the_gradients():
    """The sign, the size, and a parameter that is forgotten; a right one is let be."""
    assert contract(linear, made(Linear, update="update")) == {}
    assert contract(linear, made(Upwards)) == {}  # nobody has said that it has one
    (finding,) = contract(linear, made(Upwards, update="update")).values()
    assert (finding.question, finding.tensor) == ("update_rule", "w")
    assert finding.message.startswith("update(0.125) changed self.W by ")
    assert told(finding).endswith(" times its gradient is -0.142248: it goes up the gradient")
    found = contract(linear, made(Halved, update="update"))
    assert told(found["update_rule", "w"]) == (
        "update(0.125) leaves self.W as it is, where its gradient is not 0"
    )
    assert told(found["update_rule", "b"]).endswith(": 0.5 times as far")


def test_how_the_rate_is_told_is_said():
    """The only argument or an attribute of a usual name, or one that is named."""

    class Only(Linear):
        def update(self, how_much):
            super().update(how_much)

    assert contract(linear, made(Only, update="update")) == {}

    class Own(Linear):
        how_fast = None

        def go(self):
            self.W -= self.how_fast * self.dW
            self.b -= self.how_fast * self.db

    (finding,) = contract(linear, made(Own, update="go")).values()
    assert told(finding) == (
        "go() takes no learning rate, and the object has no attribute that is called like one: "
        'say which with update=("go", "...")'
    )
    Own.__init__ = lambda self, *sizes: (
        Linear.__init__(self, *sizes) or setattr(self, "how_fast", 1)
    )
    assert contract(linear, made(Own, update=("go", "how_fast"))) == {}
    (finding,) = contract(linear, made(Linear, update="step")).values()
    assert "the object has no method step, which update names" in finding.message


def test_what_grows_with_each_step_is_a_warning():
    """A list that nobody takes from; one that backward pops from stays as long as it is."""

    class Grows(Linear):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.caches = []

        def forward(self, x):
            self.caches.append(x)
            return super().forward(x)

    found = contract(linear, made(Grows))
    finding = found["grows", None]
    assert (len(found), finding.severity) == (1, "warning")
    assert told(finding) == (
        "self.caches keeps 1 more after each forward and backward: memory grows for as long as it "
        "is trained"
    )


def test_a_batch_of_at_least_two_is_told():
    """Where the forward raises for one example only, the constraint to declare is named."""

    class Centred:
        def forward(self, x):
            if len(x) < 2:
                raise ValueError("expected more than 1 value per channel")
            return x - x.mean(axis=0)

        def backward(self, dy):
            return dy - dy.mean(axis=0)

    spec = Spec("centred", x=Input("N C"), y=Output("N C"),
                definition="mu[c] = mean[n](x[n,c])\ny[n,c] = x[n,c] - mu[c]")  # fmt: skip
    (finding,) = contract(spec, stateful(Centred)).values()
    assert finding.question == "raises"
    assert finding.diagnosis == (
        "only where N = 1: if at least 2 are needed, as for the variance of a batch, declare "
        'where=["N >= 2"]'
    )
