"""`gradverify new`: the file it writes loads, and verifies at once what follows the convention."""

import sys
from pathlib import Path

import pytest
from inline import Inline

from gradverify.cli import main
from gradverify.loading import load
from gradverify.scaffold.write import _output

LAYERS = '''
import numpy as np

called = []


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y, lambda dy: (y * (dy - (dy * y).sum(axis=axis, keepdims=True)),)


def my_batch_norm(x, gamma, beta, *, eps):
    """It prints, which nobody wants to see."""
    print("called")
    sigma = np.sqrt(x.var(axis=0) + eps)
    xhat = (x - x.mean(axis=0)) / sigma

    def pullback(dy):
        dxhat = dy * gamma
        dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / sigma
        return {"x": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return gamma * xhat + beta, pullback


def gain_gate(x, gate, w):
    """Whole numbers would do for w, and are not what is meant."""
    return x * w * gate, lambda dy: {
        "x": dy * w * gate, "gate": dy * x * w, "w": (dy * x * gate).sum(0)
    }


def conv1d_forward(x, w, b, stride=1, pad=0):
    N, C, L = x.shape
    (F, _, K), padded = w.shape, np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    out = (L + 2 * pad - K) // stride + 1
    columns = [padded[:, :, o * stride : o * stride + K] for o in range(out)]
    y = np.stack([np.einsum("nck,fck->nf", c, w) for c in columns], -1) + b[:, None]
    return y, (padded, w, stride, pad, L)


def conv1d_backward(dy, cache):
    padded, w, stride, pad, L = cache
    dx, dw, K = np.zeros_like(padded), np.zeros_like(w), w.shape[2]
    for o in range(dy.shape[2]):
        part = slice(o * stride, o * stride + K)
        dx[:, :, part] += np.einsum("nf,fck->nck", dy[:, :, o], w)
        dw += np.einsum("nf,nck->fck", dy[:, :, o], padded[:, :, part])
    return dx[:, :, pad : pad + L], dw, dy.sum((0, 2))


def conv2d(x, w, b, stride=1):
    (n, c, h, width), (k, _, r, s) = x.shape, w.shape
    view = np.lib.stride_tricks.sliding_window_view(x, (r, s), (2, 3))[:, :, ::stride, ::stride]

    def pullback(dy):
        dx = np.zeros_like(x)
        back = np.einsum("nkpq,kcrs->ncpqrs", dy, w)
        for p in range(dy.shape[2]):
            for q in range(dy.shape[3]):
                i, j = p * stride, q * stride
                dx[:, :, i:i + r, j:j + s] += back[:, :, p, q]
        return {"x": dx, "w": np.einsum("nkpq,ncpqrs->kcrs", dy, view), "b": dy.sum((0, 2, 3))}

    return np.einsum("ncpqrs,kcrs->nkpq", view, w) + b[:, None, None], pullback


def embedding(ids, W):
    def pullback(dy):
        dW = np.zeros_like(W)
        np.add.at(dW, ids, dy)
        return {"W": dW}

    return W[ids], pullback


def log(x):
    return np.log(x), lambda dy: {"x": dy / x}


def halves(x):
    n, c = x.shape
    y = x.reshape(n, c // 2, 2).mean(axis=2)
    return y, lambda dy: {"x": np.repeat(dy, 2, axis=1) / 2}


def running(x, running_mean):
    new = 0.5 * running_mean + 0.5 * x.mean(axis=0)
    return (x - running_mean, np.asarray(new, x.dtype)), lambda dy: {"x": dy}


def affine_forward(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def conv_forward(x, w, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    wide = np.pad(x, ((0, 0), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(wide, len(w), 1)[:, ::stride]
    return views @ w, (wide, views, w, stride, pad)


def conv_backward(dout, cache):
    wide, views, w, stride, pad = cache
    dx = np.zeros_like(wide)
    for i in range(dout.shape[1]):
        dx[:, i * stride : i * stride + len(w)] += dout[:, i : i + 1] * w
    return dx[:, pad : dx.shape[1] - pad], np.einsum("ni,nik->k", dout, views)


def strided_forward(x, w, b, stride=1):
    return conv2d(x, w, b, stride)


def strided_backward(dout, cache):
    return cache(dout)


class Dense:
    def __init__(self, n_in, n_out):
        self.params = {"W1": np.ones((n_in, n_out)), "b1": np.zeros((1, n_out))}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.params["W1"] + self.params["b1"]

    def backward(self, dy):
        self.grads = {"W1": self.x.T @ dy, "b1": dy.sum(axis=0, keepdims=True)}
        return dy @ self.params["W1"].T


class Running:
    def __init__(self, C):
        self.running_mean = np.zeros(C)

    def forward(self, x):
        y = x - self.running_mean
        self.running_mean = 0.5 * self.running_mean + 0.5 * x.mean(axis=0)
        return y

    def backward(self, dy):
        return dy + 0


def only_forward(x, w):
    return np.tanh(x @ w)


class Linear:
    def __init__(self, n_in, n_out, bias=True):
        self.W, self.b = np.ones((n_out, n_in)), np.zeros(n_out)
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.W.T + self.b

    def backward(self, dy):
        self.grads = {"W": dy.T @ self.x, "b": dy.sum(axis=0)}
        return dy @ self.W


def gates(x, h, wx, wh):
    z = x @ wx.T + h @ wh.T
    i, g = np.split(z, 2, axis=1)
    return i * np.tanh(g)


def nothing_fits(x):
    raise ValueError("never")


def where(where):
    return where


def ends(x):
    import os
    os._exit(3)
'''

FOREIGN = """
import autograd.numpy as anp
import jax
import jax.numpy as jnp
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, d_in, d_hidden):
        super().__init__()
        self.fc = nn.Linear(d_in, d_hidden)
        self.norm = nn.BatchNorm1d(d_hidden)

    def forward(self, x):
        return torch.relu(self.norm(self.fc(x)))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * x @ w

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return 2 * x * (dy @ w.T), (x * x).T @ dy


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        return ctx * w

    @staticmethod
    def setup_context(context, inputs, output):
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context, dy):
        ctx, w = context.saved_tensors
        return dy * w, (dy * ctx).sum(0)


@jax.custom_vjp
def affine(x, w, b):
    return x @ w + b


affine.defvjp(
    lambda x, w, b: (x @ w + b, (x, w)), lambda r, dy: (dy @ r[1].T, r[0].T @ dy, dy.sum(0))
)


def squared(x, w):
    return Square.apply(x, w)


def soft_clip(x, gain, *, top=2.0):
    return top * jnp.tanh(gain * x / top)


def pooled(x, size=2):
    return torch.nn.functional.avg_pool1d(x, size), x.amax(-1)


def gated(x, w):
    return anp.tanh(x) * anp.dot(x, w)
"""
OF_FRAMEWORKS = {
    "Net": ['fc_weight=Param("K C"),', 'norm_running_var=Buffer("K", update="new_norm_running_var"),',
            'where=["N >= 2"],', "relu may have kinks", "lambda C, K: Net(d_in=C, d_hidden=K),",
            'buffers={"norm_running_mean": "norm.running_mean", '],
    "Square": ['w=Param("C K"),', 'y=Output("N K"),', "spec.register(torch_function(Square))"],
    # Without a context, whatever its first argument is called.
    "Scaled": ['ctx=Input("N C"),', 'w=Param("C"),', "spec.register(torch_function(Scaled))"],
    "affine": ['b=Param("K", init="zeros"),', "spec.register(jax_function(affine))"],
    # Functions that use a framework.
    "squared": ['w=Param("C K"),', 'y=Output("N K"),', "spec.register(torch_function(squared))"],
    "soft_clip": ["top=Constant(2.0),", "spec.register(jax_function(soft_clip))"],
    "pooled": ["size=Constant(2),", 'y1=Output("N C//2"),', 'y2=Output("N"),', 'where=["C >= 2"],',
               "spec.register(torch_function(pooled))"],
    "gated": ['w=Param("C C"),', "spec.register(autograd_function(gated))"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A project with a package of layers, where they are called in this process."""
    package = tmp_path / "lib_of_layers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text(LAYERS, "utf-8")
    (package / "foreign.py").write_text(FOREIGN, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradverify.workers.WorkerPool", Inline)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        if name.startswith("lib_of_layers"):
            del sys.modules[name]


def new(name, *options):
    """Write the spec file of a layer and return its text."""
    assert main(["new", f"lib_of_layers.layers:{name}", "--output", "specs/it.py", *options]) == 0
    return Path("specs/it.py").read_text("utf-8")


# What is declared of a layer, and with which verdict it is verified at once.
SHOWN = {
    "softmax": ['x=Input("N C"),', "axis=Constant(-1),", 'y=Output("N C"),'],
    "my_batch_norm": ['x=Input("N C"),', 'gamma=Param("C", init="ones"),',
                      'beta=Param("C", init="zeros"),', "eps=Constant(1e-05),"],
    "gain_gate": ['gate=Input("N C"),', 'w=Param("C"),', 'y=Output("N C"),'],
    "conv1d_forward": ['x=Input("B T D"),', 'w=Param("K T R"),', 'b=Param("K", init="zeros"),',
                       'y=Output("B K (D+2*PAD-R)//STRIDE+1"),'],
    "conv2d": ['x=Input("N C H W"),', 'w=Param("K C R S"),', 'b=Param("K", init="zeros"),',
             "STRIDE=Constant(1, 2),", 'y=Output("N K (H-R)//STRIDE+1 (W-S)//STRIDE+1"),',
             'where=["H >= R", "W >= S"],',
             "    return conv2d(x=x, w=w, b=b, stride=STRIDE)"],
    "embedding": ['ids=Input("N", dtype=int, range="0..K-1"),', 'W=Param("K R"),',
                  "#     y[n,r] = W[ids[n],r]"],
    "log": ['x=Input("N C", range="0.1..3"),'],
    "halves": ['x=Input("N C"),', 'y=Output("N C//2"),', 'where=["C % 2 == 0"],'],
    "running": ['running_mean=Buffer("C", update="new_running_mean"),',
                'new_running_mean=Output("C"),'],
    "affine_forward": ['w=Param("C K"),', "import affine_backward, affine_forward",
                       "from gradverify.adapters import pair",
                       "spec.register(pair(affine_forward, affine_backward))\n"],
    "strided_forward": ["STRIDE=Constant(1, 2),",
                        "spec.register(pair(strided_forward, strided_backward, "
                        'names={"STRIDE": "stride"}))\n'],
    "Linear": ['W=Param("K C"),', "from gradverify.adapters import stateful",
               "spec.register(stateful(lambda C, K: Linear(n_in=C, n_out=K)))\n"],
    "Dense": ['W1=Param("C K"),', 'b1=Param("K", init="zeros"),', 'stored={"b1": "1 K"}'],
    "Running": ['running_mean=Buffer("C", update="new_running_mean"),',
                'new_running_mean=Output("C"),', "spec.register(stateful(lambda C: Running(C=C)))"],
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_observed_is_declared_and_verified_at_once(capsys, name):
    """Shapes, ties, constants, ranges, constraints and the pullback's convention are found, and
    nothing but the definition is left to be written."""
    text = new(name)
    for line in SHOWN[name]:
        assert line in text
    assert "# TODO: say what the layer computes" in text
    out = capsys.readouterr().out
    assert out.startswith("wrote specs/it.py, with ")
    assert "called" not in out
    assert out.endswith('next: gradverify verify "specs/it.py"\n')
    asked = ["--profile", "quick", "--select", "contract,finite_difference,buffers"]
    main(["verify", "specs/it.py", *asked])
    out = capsys.readouterr().out
    assert "1 layer: 1 incomplete\n" in out.replace("; 1 warning", "")  # for it was not asked all
    assert "FAIL" not in out


def test_a_forward_alone_gets_a_pullback_to_write():
    """The file loads; what it cannot know is a TODO that raises."""
    text = new("only_forward")
    assert '        # TODO: return {"x": ..., "w": ...}\n' in text
    (layer,) = load_it()
    assert layer.name == "only_forward"
    assert layer.spec.shape_text("w") == "(C, K)"


def load_it():
    return load(Path("specs/it.py"))


def test_where_no_shape_is_accepted_the_file_says_so(monkeypatch):
    """It loads all the same, with shapes to correct."""
    monkeypatch.setattr("gradverify.scaffold.observe.SHARES", (20,))
    text = new("nothing_fits")
    assert "# no shapes that it accepts were found: correct those below" in text
    assert 'x=Input("N C"),  # TODO: its shape' in text
    assert [layer.name for layer in load_it()] == ["nothing_fits"]


def test_an_example_gives_the_shapes():
    """Equal sizes are one dimension, and what only parameters have may be a multiple of one."""
    call = "gates(np.ones((3, 5)), np.ones((3, 7)), np.ones((14, 5)), wh=np.ones((14, 7)))"
    text = new("gates", "--call", call)
    for line in ('x=Input("N C"),', 'h=Input("N K"),', 'wx=Param("2*K C"),', 'wh=Param("2*K K"),',
                 'y=Output("N K"),'):  # fmt: skip
        assert line in text


def test_a_constant_that_is_part_of_another_name_leaves_that_alone():
    """Sizes are renamed by whole names: d is D, and pad is PAD, whichever comes first."""
    sizes = ["H+2*pad-d*(R-1)", "d"]
    for names in (("d", "pad"), ("pad", "d")):
        renamed = {name: name.upper() for name in names}
        assert _output("y", sizes, renamed) == 'y=Output("H+2*PAD-D*(R-1) D"),'


def test_a_dict_in_an_example_is_of_options():
    """Its numbers are constants, and the layer takes them in a dict of that name."""
    call = "conv_forward(np.ones((4, 7)), np.ones(3), {'stride': 1, 'pad': 0})"
    text = new("conv_forward", "--call", call)
    for line in ('x=Input("N C"),', "STRIDE=Constant(1, 2),", "PAD=Constant(0, 1),",
                 'y=Output("N (C+2*PAD-K)//STRIDE+1"),', 'options="conv_param"'):  # fmt: skip
        assert line in text
    (layer,) = load_it()
    assert layer.name == "conv_forward"
    assert max(map(len, text.partition("spec.register")[2].splitlines())) <= 100


def test_an_example_makes_an_object():
    """Of a class, the example says with what it is made and called."""
    text = new("Linear", "--call", "Linear(4, 6).forward(np.ones((5, 4)))")
    assert 'W=Param("K C"),' in text
    assert "# Observed: x (5, 4), W (6, 4), b (6,) -> y (5, 6)" in text


@pytest.mark.parametrize("name", OF_FRAMEWORKS)
def test_layers_of_frameworks_are_observed_and_come_in_their_adapter(capsys, name):
    """A module, an autograd.Function, a custom_vjp and functions that use a framework are called at
    many shapes like all else, and what is written is judged at once."""
    assert main(["new", f"lib_of_layers/foreign.py:{name}", "--output", "specs/it.py"]) == 0
    text = Path("specs/it.py").read_text("utf-8")
    for line in OF_FRAMEWORKS[name]:
        assert line in " ".join(text.replace("#   ", "").split("\n")) or line in text
    (layer,) = load_it()
    assert layer.name == name
    main(["verify", "specs/it.py", "--profile", "quick", "--select", "contract"])
    assert "FAIL" not in capsys.readouterr().out


def test_an_example_may_be_of_tensors():
    """Shapes are read off tensors, and constants that stand in shapes are capitals there."""
    call = "pooled(torch.ones(3, 4, 12), size=3)"
    target = "lib_of_layers/foreign.py::pooled"
    assert main(["new", target, "--output", "specs/it.py", "--call", call]) == 0
    text = Path("specs/it.py").read_text("utf-8")
    for line in ('x=Input("B T D"),', "SIZE=Constant(3, 2),", 'y1=Output("B T D//SIZE"),',
                 "torch_function(lambda x, *, SIZE: pooled(x=x, size=SIZE)),"):  # fmt: skip
        assert line in text
    (layer,) = load_it()
    assert layer.name == "pooled"


def test_a_file_is_never_overwritten(here, capsys):
    """What is there stays as it is, and another name is asked for."""
    (here / "mine.py").write_text("my work")
    assert main(["new", "lib_of_layers.layers:log", "--output", "mine.py"]) == 2
    assert (here / "mine.py").read_text() == "my work"
    assert capsys.readouterr().err == (
        "gradverify: mine.py is there already, and stays as it is: name another --output\n"
    )


def test_without_output_the_specs_of_the_project_are_where_it_goes(here, capsys):
    """The folder that pyproject.toml names, else `specs`; `-` prints instead."""
    assert main(["new", "lib_of_layers.layers:log"]) == 0
    assert (here / "specs" / "log.py").is_file()
    (here / "pyproject.toml").write_text('[tool.gradverify]\nspecs = ["gradients"]\n')
    assert main(["new", "lib_of_layers/layers.py:log"]) == 0
    assert (here / "gradients" / "log.py").is_file()
    capsys.readouterr()
    assert main(["new", "lib_of_layers.layers:log", "--output", "-"]) == 0
    assert "from lib_of_layers.layers import log" in capsys.readouterr().out


def test_the_catalogue_is_pointed_at(capsys):
    """A layer that is called like one of the catalogue may need no spec of its own."""
    new("Linear")
    assert (
        "the catalogue has a spec linear, with its definition: if this is the same layer, register "
        'it with gradverify.catalog("linear") in place of this spec'
    ) in capsys.readouterr().out
    Path("specs/it.py").unlink()
    new("my_batch_norm")
    assert (
        'gradverify.catalog("batch_norm").register(my_batch_norm) is all it needs'
        in capsys.readouterr().out
    )


WRONG = {
    "lib_of_layers.layers": "lib_of_layers.layers: name a function, such as mylib.layers:relu",
    "lib_of_layers.layers:sofmax": "lib_of_layers.layers has no 'sofmax'; did you mean 'softmax'?",
    "lib_of_layers.layers:called": "lib_of_layers.layers:called is no function and no class",
    "lib_of_layers.layers:where": "a spec cannot have a tensor called where: write a function",
    "lib_of_layers.lyers:softmax": "lib_of_layers.lyers does not import: ModuleNotFoundError",
    "no_such.py:softmax": "no_such.py does not exist",
    "a b:softmax": "a b:softmax: a b is no module and no Python file",
}


@pytest.mark.parametrize("target", WRONG)
def test_what_cannot_be_is_one_message(here, capsys, target):
    """Exit code 2, what to write, and no file."""
    assert main(["new", target]) == 2
    assert WRONG[target] in capsys.readouterr().err
    assert not (here / "specs").exists()


CALLS = {
    "log(": "'(' was never closed",
    "3": "is no call: write",
    "log(nothing)": "NameError: name 'nothing' is not defined",
    "log()": "--call gives no x",
    "log('text')": "--call: x='text' is no array of numbers",
    "log(np.ones((2, 0)), y=1)": "--call: the example raises when it is called",
    "conv_forward(np.ones((4, 7)), np.ones(3), {'stride': 'two'})": "--call: conv_param is a dict",
}


@pytest.mark.parametrize("call", CALLS)
def test_an_example_that_is_none_is_one_message(capsys, call):
    """What is wrong with --call is said, and no file is written."""
    name = "conv_forward" if call.startswith("conv") else "log"
    assert main(["new", f"lib_of_layers.layers:{name}", "--call", call]) == 2
    assert CALLS[call] in capsys.readouterr().err


def test_a_function_that_ends_its_process_ends_no_other(here, monkeypatch, capsys):
    """It is called in a process of its own, with a time limit."""
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main(["new", "lib_of_layers/layers.py:ends"]) == 2
    assert "while it was called: its process exited with code 3" in capsys.readouterr().err
