"""stateful: objects with forward and backward that keep parameters and gradients, as people
write them."""

import importlib

import numpy as np
import pytest
from adapted import Linear, contract, errors, judged, line_of, linear, made, told

from gradverify import Constant, Input, Layer, Output, Param, Spec, UsageError, Verdict, catalog
from gradverify.adapters import stateful

# -- where parameters and gradients are kept


class Affine:
    """It is made with its weights."""

    def __init__(self, W, b):
        self.W, self.b = W, b
        self.x = self.dW = self.db = None

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return np.dot(dout, self.W.T)


class Dense:
    """It is made of sizes, keeps dicts, a bias of one row, and frees what it has kept."""

    def __init__(self, n_in, n_out):
        rng = np.random.default_rng(0)
        self.params = {"W": rng.standard_normal((n_in, n_out)), "b": np.zeros((1, n_out))}
        self.grads = {}

    def forward(self, inputs):
        self.cache = inputs
        return inputs @ self.params["W"] + self.params["b"]

    def backward(self, grad):
        x = self.cache
        del self.cache
        self.grads["W"] = x.T @ grad
        self.grads["b"] = grad.sum(axis=0, keepdims=True)
        return grad @ self.params["W"].T

    def update(self, lr):
        for name in self.params:
            self.params[name] -= lr * self.grads[name]


class Listed:
    """It keeps lists, as optimisers want them, and adds gradients up until they are cleared."""

    def __init__(self, n_in, n_out):
        self.params = [np.zeros((n_in, n_out)), np.zeros(n_out)]
        self.grads = [np.zeros_like(p) for p in self.params]
        self.lr = None

    def zero_grad(self):
        for grad in self.grads:
            grad[...] = 0

    def forward(self, x):
        W, b = self.params
        self.x = x
        return x @ W + b

    def backward(self, dy):
        self.grads[0] += self.x.T @ dy
        self.grads[1] += dy.sum(axis=0)
        return dy @ self.params[0].T

    def step(self):
        for param, grad in zip(self.params, self.grads, strict=True):
            param -= self.lr * grad


class Parameter:
    """An array with its gradient."""

    def __init__(self, data):
        self.data, self.grad = data, None


class Wrapped:
    """It has parameters of a class of their own, and other names for its methods."""

    def __init__(self, n_in, n_out):
        self.weight = Parameter(np.zeros((n_in, n_out)))
        self.bias = Parameter(np.zeros(n_out))
        self.stack = []

    def fprop(self, x):
        self.stack.append(x)
        return x @ self.weight.data + self.bias.data

    def bprop(self, dy):
        x = self.stack.pop()
        self.weight.grad, self.bias.grad = x.T @ dy, dy.sum(axis=0)
        return dy @ self.weight.data.T


class Net:
    """Its layer is an object of its own; gradients are in a dict of theirs."""

    def __init__(self, sizes):
        self.layers = [Affine(np.zeros(sizes), np.zeros(sizes[1]))]
        self.gradients = {}

    def forward(self, x):
        return self.layers[0].forward(x)

    def backward(self, dy):
        dx = self.layers[0].backward(dy)
        self.gradients = {"W1": self.layers[0].dW, "b1": self.layers[0].db}
        return (dx,)


class Leaves:
    """It returns nothing, and leaves its output and all gradients in attributes."""

    def __init__(self, n_inputs, n_neurons):
        self.weights, self.biases = np.zeros((n_inputs, n_neurons)), np.zeros((1, n_neurons))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)


OBJECTS = {
    "attributes": stateful(Affine),
    "dicts": stateful(lambda D, M: Dense(D, M), stored={"b": "1 M"}, update="update"),
    "left": stateful(lambda D, M: Leaves(D, M), stored={"b": "1 M"}),
    "wrapped": stateful(lambda D, M: Wrapped(D, M), forward="fprop", backward="bprop"),
    "places": stateful(
        lambda D, M: Net((D, M)),
        params={"w": "layers[0].W", "b": "layers[0].b"},
        grads={"w": "gradients['W1']", "b": "gradients['b1']"},
    ),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_is_verified_as_it_is(kind):
    """Parameters in attributes, dicts, objects of their own and in a layer inside, by usual names
    or where it is said; made of sizes or with its weights; 50 digits reach it."""
    result = judged(linear, OBJECTS[kind])
    assert (result.verdict, result.findings) == (Verdict.VERIFIED, ())
    assert {c.check: str(c.status) for c in result.checks}["exact"] == "passed"


@pytest.mark.parametrize("how", ["zero_grad", True])
def test_gradients_that_add_up_may_be_cleared(how):
    """By a method of the object, or by zeros that are written where they are."""
    adapter = stateful(lambda D, M: Listed(D, M), accumulates=how, update="step")
    assert Layer(linear, adapter).name == "Listed"
    # The arrays that it adds to are made of float64.
    asked = {"checks": ["contract", "symbolic", "exact"]}
    assert errors(linear, adapter, dtypes=["float64"], **asked) == {}
    wrong = {("contract", "dtype", "w"), ("contract", "dtype", "b")}
    assert errors(linear, adapter, **asked).keys() == wrong


def test_gradients_that_add_up_unsaid_are_told():
    """It is found in steps of one object, and what to say where it is meant."""
    found = contract(linear, stateful(lambda D, M: Listed(D, M)))
    assert told(found["accumulates", "w"]) == (
        "a pullback called twice gives another gradient of w the second time: it adds up or uses "
        "up what it kept; if the object is meant to add gradients up until they are cleared, say "
        'so with accumulates="zero_grad", the method that clears them, or accumulates=True'
    )
    assert not [key for key in found if key[0] == "stale"]


# -- modes, constants and buffers


class BatchNorm:
    """Running statistics in attributes, one of them changed in place."""

    def __init__(self, C, eps=1e-5):
        self.gamma, self.beta = np.ones(C), np.zeros(C)
        self.running_mean, self.running_var = np.zeros(C), np.ones(C)
        self.training, self.momentum, self.eps = True, 0.1, eps

    def forward(self, x):
        if self.training:
            mean, var, n, m = x.mean(axis=0), x.var(axis=0), len(x), self.momentum
            self.running_mean += m * (mean - self.running_mean)
            self.running_var = (1 - m) * self.running_var + m * var * n / (n - 1)
        else:
            mean, var = self.running_mean, self.running_var
        self.sigma = np.sqrt(var + self.eps)
        self.xhat = (x - mean) / self.sigma
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.xhat).sum(axis=0), dy.sum(axis=0)
        dx = self.gamma / self.sigma * dy
        if self.training:
            dx -= self.gamma / self.sigma * (self.dbeta + self.xhat * self.dgamma) / len(dy)
        return dx


class Switched(BatchNorm):
    """Its mode is set by methods."""

    def train(self):
        self.training = True

    def eval(self):
        self.training = False


class ByArgument(BatchNorm):
    """Its mode is an argument of the forward."""

    def forward(self, x, is_train=True):
        self.training = is_train
        return super().forward(x)


running = catalog("batch_norm_running")
SOME = {"checks": ["contract", "forward", "symbolic", "buffers"]}
MODES = {
    "attribute": stateful(BatchNorm),
    "methods": stateful(lambda C, eps: Switched(C, eps)),
    "argument": stateful(ByArgument, constants={"train": "is_train"}),
}


@pytest.mark.parametrize("kind", MODES)
def test_modes_and_buffers_are_the_objects_own(kind):
    """A mode is an attribute, a pair of methods or an argument; a constant is told to what makes
    the object or is an attribute; the next value of a buffer is read from the object."""
    assert errors(running, MODES[kind], **SOME) == {}


class ChangedInEval(BatchNorm):
    def forward(self, x):
        y = super().forward(x)
        if not self.training:
            self.running_mean = 0.9 * self.running_mean
        return y


class ChangedByBackward(BatchNorm):
    def backward(self, dy):
        self.running_var = self.running_var + 1
        return super().backward(dy)


def test_a_buffer_that_changes_where_it_must_not_is_told():
    """In eval mode it stays as it is; a backward leaves it alone."""
    found = errors(running, stateful(ChangedInEval), **SOME)
    finding = found["buffers", "update", "running_mean"]
    assert told(finding) == "the next value of running_mean is not the declared one"
    found = errors(running, stateful(ChangedByBackward), **SOME)
    (finding,) = found.values()
    assert told(finding) == (
        "backward changes self.running_var, which holds running_var: only the forward gives a "
        "next value"
    )
    assert finding.location == line_of(ChangedByBackward.backward)


def test_a_loss_takes_no_cotangent():
    """A backward without arguments is that of one number, whose cotangent it is multiplied by;
    an input without a gradient gets none."""

    class Loss:
        def forward(self, pred, target):
            self.off = pred - target
            return np.mean(self.off**2)

        def backward(self):
            return 2 * self.off / self.off.size

    mse = Spec("mse", x=Input("N"), t=Input("N", differentiable=False), loss=Output(""),
               definition="loss = mean[n]((x[n] - t[n])**2)")  # fmt: skip
    assert errors(mse, stateful(Loss)) == {}
    flat = Spec("flat", x=Input("N"), t=Input("N"), y=Output("N"))
    (finding,) = contract(flat, stateful(Loss)).values()
    assert "backward() takes no cotangent, as if its output was one number" in finding.message


def test_two_inputs_get_a_tuple():
    """Gradients come in declared order; integer inputs may be left out or None."""

    class Embed:
        def __init__(self, V, D):
            self.W = np.zeros((V, D))

        def forward(self, ids, scale):
            self.ids, self.scale = ids, scale
            return self.W[ids] * scale

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            np.add.at(self.dW, self.ids, dy * self.scale)
            return None, dy * self.W[self.ids]

    spec = Spec("embed", ids=Input("N", dtype=int, range="0..V-1"), scale=Input("N D"),
                W=Param("V D"), y=Output("N D"), definition="y[n,d] = W[ids[n],d]*scale[n,d]")  # fmt: skip
    assert errors(spec, stateful(Embed)) == {}


# -- what does not fit

ONE = Affine(np.ones((1, 1)), np.ones(1))
MISFITS = {
    "sizes": (
        stateful(Linear),
        "Linear(n_in, n_out) needs n_in, n_out, and what makes objects is given what it names of "
        "N, D, M, w, b: write a function of some of these, such as lambda D, M: Linear(...)",
    ),
    "transposed": (
        stateful(lambda D, M: Linear(M, D)),
        "self.W of a new object has shape (1, 2), and w is declared (D, M) = (2, 1)",
    ),
    "stored": (
        made(Dense),
        "self.params['b'] of a new object has shape (1, 1), and b is declared (M) = (1,): if it is "
        'only kept in another shape, say stored={"b": "..."}',
    ),
    "stored of nothing": (
        made(Dense, stored={"b": "1 K"}),
        "stored: K, in the shape of b, is no dimension and no constant; known are N, D, M",
    ),
    "place": (
        made(Linear, params={"w": "weights"}),
        "the object has no self.weights, where w, a parameter, is said to be; it has self.W, "
        'self.b, self.cache: say where with params={"w": "..."}',
    ),
    "nothing": (
        stateful(lambda: type("Empty", (), {"forward": None, "backward": None})()),
        "what the factory made is a Empty, which has no method forward",
    ),
    "same": (
        stateful(lambda: ONE),
        "<lambda> returned the same object twice: make a new one each time, so that forwards do",
    ),
    "clears": (
        made(Linear, accumulates="clear"),
        "the object has no method clear, which accumulates says clears its gradients",
    ),
    "name": (
        made(Linear, grads={"weight": "dW"}),
        "the spec declares no 'weight'; known are x, w, b",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_an_object_that_does_not_fit_is_one_message(kind):
    """It names the attribute or the argument, what there is, and what to say."""
    adapter, message = MISFITS[kind]
    (finding,) = contract(linear, adapter).values()
    assert finding.question == "convention"
    assert message in finding.message


def test_an_output_that_is_nowhere_is_told():
    """A forward that returns nothing has to leave its output by a usual name."""

    class Nowhere(Leaves):
        def forward(self, inputs):
            super().forward(inputs)
            del self.output

    (finding,) = contract(linear, made(Nowhere, stored={"b": "1 M"})).values()
    assert told(finding) == (
        "forward returned None, and left nothing that is called like y; the object has "
        "self.weights, self.biases, self.inputs"
    )


def test_a_constant_that_reaches_nothing_is_told():
    """An object that is never told a constant cannot depend on it."""
    spec = Spec("scaled", x=Input("N"), w=Param(""), k=Constant(1, 2), y=Output("N"))

    class Scaled:
        def __init__(self):
            self.w = 1.0

        def forward(self, x):
            return self.w * x

        def backward(self, dy):
            return dy

    (finding,) = contract(spec, stateful(Scaled)).values()
    assert "the object is not told the constant k: name it in the function that" in finding.message


def test_a_gradient_has_the_shape_that_is_stored():
    """A row that is stored, with a gradient that is none, is told although both are as declared."""

    class Flat(Dense):
        def backward(self, grad):
            dx = super().backward(grad)
            self.grads["b"] = grad.sum(axis=0)
            return dx

    (finding,) = contract(linear, made(Flat, stored={"b": "1 M"})).values()
    assert "self.grads['b'] has shape (1,), and self.params['b'], of which it is the gradient, is " \
           "stored as (1, 1)" in finding.message  # fmt: skip


def test_what_cannot_be_meant_is_refused():
    """At once, where it is written."""

    class Forward:
        def forward(self, x):
            return x

    with pytest.raises(UsageError, match=r"stateful\(Forward\): it has no method backward"):
        stateful(Forward)
    with pytest.raises(UsageError, match=r"params: w='W\[': write an attribute, such as"):
        stateful(Linear, params={"w": "W["})
    with pytest.raises(UsageError, match="stateful: this is 3: give the class, or a function that"):
        stateful(3)
    with pytest.raises(UsageError, match="stateful: this is an object of Linear: give the class"):
        stateful(Linear(2, 3))


# -- how objects are used


def test_objects_are_used_as_in_training():
    """Step after step the same; another for a forward before the backward of the last; the last
    one again where its backward is called twice; and none after the case."""
    seen = []

    class Watched(Linear):
        def forward(self, x):
            seen.append(self)
            return super().forward(x)

    layer = Layer(linear, made(Watched))
    given = {"x": np.ones((2, 3)), "w": np.ones((3, 4)), "b": np.zeros(4)}
    dy = np.ones((2, 4))
    _, first = layer.forward(given, {})
    _, second = layer.forward({**given, "x": 2 * given["x"]}, {})
    assert np.all(second(dy)["w"] == 2 * first(dy)["w"])
    layer.forward(given, {})
    assert seen[0] is seen[2] is not seen[1]
    assert np.all(first(dy)["w"] == 2)  # its object is in use: another one does it
    assert seen[3] is seen[1]
    layer.renew()
    layer.forward(given, {})
    assert seen[4] not in seen[:4]
    layer.forward({k: v.astype("float32") for k, v in given.items()}, {})
    assert seen[5] not in seen[:5]


def test_the_class_is_read_off_what_makes_objects():
    """From its text, so that files and lines are known at once; else when the first is made."""

    def make(D, M):
        return Linear(D, M)

    at_once = Layer(linear, stateful(lambda D, M: Linear(D, M)))
    assert at_once.location == line_of(Linear.forward)
    later = Layer(linear, stateful(lambda D, M: make(D, M)), name="later")
    assert later.location != line_of(Linear.forward)
    given = {"x": np.ones((2, 3)), "w": np.ones((3, 4)), "b": np.zeros(4)}
    _, pullback = later.forward(given, {})
    assert later.backward_location(pullback) == line_of(Linear.backward)


def test_all_of_a_package_is_reached_in_50_digits(tmp_path, monkeypatch):
    """What an object calls may be written in another folder of its package."""
    inner = tmp_path / "package_of_objects" / "nn"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("")
    (inner.parent / "tools.py").write_text(
        "import numpy as np\n\n\ndef empty(n, dtype):\n    return np.zeros(n, dtype)\n"
    )
    (inner / "doubles.py").write_text(
        "from ..tools import empty\n\n\nclass Doubles:\n"
        "    def forward(self, x):\n"
        "        y = empty(x.shape, x.dtype)\n        y += 2 * x\n        return y\n\n"
        "    def backward(self, dy):\n        return 2 * dy\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    doubles = importlib.import_module("package_of_objects.nn.doubles")
    spec = Spec("doubles", x=Input("N"), y=Output("N"), definition="y[n] = 2*x[n]")
    result = judged(spec, stateful(doubles.Doubles), checks=["exact"])
    assert {c.check: (str(c.status), c.reason) for c in result.checks}["exact"] == ("passed", "")
