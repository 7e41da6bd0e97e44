"""Modules, functions and autograd.Functions of torch as layers, and what is said of wrong ones."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

import gradverify
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
    catalog,
    oracle,
    verify,
)
from gradverify.adapter import NotOffered
from gradverify.adapters import torch_function, torch_module
from gradverify.errors import UsageError

linear = catalog("linear")
NAMES = {"w": "weight", "b": "bias"}
scale = Spec(
    "scale", x=Input("N C"), w=Param("C"), y=Output("N C"), definition="y[n,c] = w[c]*x[n,c]"
)
same = Spec("same", x=Input("N C"), y=Output("N C"), definition="y[n,c] = x[n,c]")


def judged(adapter, spec=scale, *, checks=("contract",), **options):
    """Return the result of a layer at few cases."""
    layer = Layer(spec, adapter, name="layer")
    (result,) = verify(layer, profile="quick", checks=checks, **options).layers
    return result


def the_finding(adapter, spec=scale, **options):
    """Return the only thing that is found wrong in a layer."""
    (finding,) = judged(adapter, spec, **options).findings
    return finding


def first(finding):
    """Return a finding's message without the number of its cases."""
    return finding.message.partition(" (in ")[0]


class Scale(nn.Module):
    """A right module of a person; others differ from it in one thing."""

    def __init__(self, C):
        super().__init__()
        self.w = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return self.w * x


def scaling(forward, **buffers):
    """Return a factory of modules like Scale with another forward, and with buffers."""

    class Module(Scale):
        def __init__(self, C):
            super().__init__(C)
            for name, value in buffers.items():
                self.register_buffer(name, value.clone())

    Module.forward = forward
    return Module


# -- what is right


def test_a_factory_gets_sizes_and_constants_by_name():
    """A module that is made anew for each size is verified, in both precisions, with the next
    values of its buffers and both modes."""
    spec = catalog("batch_norm_running")
    made = set()

    def batch_norm(C, eps, momentum):
        made.add((C, eps, momentum))
        return nn.BatchNorm1d(C, eps=eps, momentum=momentum)

    adapter = torch_module(batch_norm, params={"gamma": "weight", "beta": "bias"})
    layer = Layer(spec, adapter)
    assert layer.name == "batch_norm"
    (result,) = verify(layer, profile="quick").layers
    assert result.verdict is Verdict.VERIFIED
    assert not result.findings
    assert {c for c, _, _ in made} > {1, 2}
    assert {(eps, m) for _, eps, m in made} > {(1e-5, 0.1), (1e-2, 0.4)}


def test_a_ready_module_keeps_its_own_values():
    """A module of fixed sizes is judged at other parameters, and has its own afterwards."""
    module = nn.Linear(3, 2)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    spec = Spec(
        "linear_3_to_2", x=Input("N D"), w=Param("K D"), b=Param("K"), y=Output("N K"),
        where=["D == 3", "K == 2"], definition="y[n,k] = sum[d](x[n,d]*w[k,d]) + b[k]",
    )  # fmt: skip
    result = judged(torch_module(module, params=NAMES), spec, checks=["contract", "symbolic"])
    assert not result.findings
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None and p.dtype is torch.float32 for p in module.parameters())


def test_a_module_may_be_called_otherwise():
    """`call` says how inputs and constants are passed, and what of the results is meant."""

    class Shifted(Scale):
        def forward(self, pair, *, shift):
            return {"y": self.w * pair[0] + shift, "rest": None}

    spec = Spec(
        "shifted", x=Input("N C"), w=Param("C"), shift=Constant(1.5, -0.5), y=Output("N C"),
        definition="y[n,c] = w[c]*x[n,c] + shift",
    )  # fmt: skip
    adapter = torch_module(Shifted, call=lambda m, x, shift: m((x, None), shift=shift)["y"])
    assert not judged(adapter, spec, checks=["contract", "symbolic"]).findings


def test_names_may_be_dotted_and_frozen_parameters_are_buffers():
    """Parameters inside of other modules have dotted names; one that is frozen is no parameter to
    the spec."""
    spec = Spec(
        "two", x=Input("N C"), w=Param("C C"), s=Buffer("C"), y=Output("N C"),
        definition="y[n,c] = sum[d](s[d]*x[n,d]*w[c,d])",
    )  # fmt: skip

    def made(C):
        module = nn.Sequential(Scale(C), nn.Linear(C, C, bias=False))
        module[0].w.requires_grad_(False)
        return module

    adapter = torch_module(made, params={"w": "1.weight"}, buffers={"s": "0.w"})
    assert not judged(adapter, spec, checks=["contract", "symbolic"]).findings


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 2 * x * dy


square = Spec("square", x=Input("N"), y=Output("N"), definition="y[n] = x[n]**2")


class SquareOfTwoParts(Square):
    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)


@pytest.mark.parametrize(
    "function",
    [lambda x: x * x, lambda x: Square.apply(x), Square, SquareOfTwoParts],
    ids=["plain", "applied", "Function", "setup_context"],
)
def test_functions_are_verified(function):
    """A function of tensors, with an autograd.Function inside or not, and one itself."""
    checks = ["contract", "forward", "symbolic"]
    assert not judged(torch_function(function), square, checks=checks).findings


def test_labels_and_gathers_take_no_gradient():
    """Integer inputs go in as they are, and sparse gradients come out dense."""
    adapter = torch_module(lambda V, D: nn.Embedding(V, D, sparse=True), params={"w": "weight"})
    assert not judged(adapter, catalog("embedding"), checks=["contract", "symbolic"]).findings


def test_lambdas_are_named_after_what_they_call():
    """A lambda has no name: its layer is called after the class or function in it."""
    assert torch_module(lambda C: nn.PReLU(C)).__name__ == "PReLU"
    assert torch_function(lambda x: F.softmax(x, x.shape[0])).__name__ == "softmax"
    assert torch_function(lambda x: torch.nn.functional.gelu(x)).__name__ == "gelu"
    assert torch_function(lambda x: Square.apply(x)).__name__ == "Square"
    assert torch_module(nn.GELU()).__name__ == "GELU"


def test_the_state_that_torch_shares_is_left_alone():
    """Neither the random numbers of torch, nor its threads, nor its mode of gradients are others
    after a layer was judged, also where it draws and is frozen."""
    torch.manual_seed(5)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    drop = Spec("drop", x=Input("N C"), y=Output("N C"))
    with torch.no_grad():
        judged(torch_module(lambda C: nn.Linear(C, C)), scale)
        result = judged(torch_module(nn.Dropout(0.3), seed=0), drop)
        assert not torch.is_grad_enabled()
    assert not result.findings
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


# -- what is said of modules that are not as declared


def declared_wrongly(adapter, spec):
    finding = the_finding(adapter, spec)
    assert (finding.check, finding.tensor) == ("contract", None)
    return finding.question, first(finding)


@pytest.mark.parametrize(
    ("adapter", "spec", "message"),
    [
        (
            torch_module(lambda D, K: nn.Linear(D, K)), linear,
            "Linear has no parameter 'w'; known are weight, bias. Where it has another name in the "
            'module: torch_module(..., params={"w": "..."})',
        ),
        (
            torch_module(lambda C: nn.BatchNorm1d(C), params={"w": "weight"}), scale,
            "BatchNorm1d has the parameter 'bias', of shape (1,), and scale does not declare it: "
            'declare a Param for it, or say why not, torch_module(..., left_out={"bias": "..."})',
        ),
        (
            torch_module(scaling(Scale.forward, mask=torch.ones(2))), scale,
            "Module has the buffer 'mask', of shape (2,), and scale does not declare it: declare a "
            'Buffer for it, or say why not, torch_module(..., left_out={"mask": "..."})',
        ),
        (
            torch_module(Scale, left_out={"maks": "is constant"}), scale,
            "torch_module(left_out={'maks': ...}): Scale has no such parameter or buffer; known "
            "are w",
        ),
        (
            torch_module(nn.BatchNorm1d(1), params={"w": "running_var"}), scale,
            "running_var is a buffer of BatchNorm1d, which no optimizer steps, and w is declared "
            "as a parameter: declare w=Buffer(...)",
        ),
        (
            torch_module(Scale), Spec("s", x=Input("N C"), w=Buffer("C"), y=Output("N C")),
            "w of Scale is trained (requires_grad=True), and w is declared as a buffer: declare "
            "w=Param(...)",
        ),
    ],
)  # fmt: skip
def test_what_is_declared_otherwise_is_told(adapter, spec, message):
    """Parameters and buffers that only one of module and spec has are a finding with a remedy."""
    assert declared_wrongly(adapter, spec) == ("undeclared", message)


def test_a_frozen_parameter_is_told():
    """A parameter that takes no gradient cannot be learnt, whatever the spec says."""

    def made(C):
        return Scale(C).requires_grad_(False)

    assert declared_wrongly(torch_module(made), scale) == (
        "frozen", "w of Scale is frozen (requires_grad=False), and w is declared as a parameter: "
        "declare w=Buffer(...), or do not freeze it",
    )  # fmt: skip


def test_a_parameter_of_another_shape_is_told():
    """A module that is there already has its sizes, whatever could be put in their place."""
    finding = the_finding(torch_module(nn.Linear(3, 2), params=NAMES), linear)
    assert finding.question == "shape"
    assert first(finding) == (
        "weight of Linear has the shape (2, 3), and w (K, D) = (1, 1): make it of the same sizes; "
        'those of a module that is there already are declared, where=["K == 2", "D == 3"]'
    )


def test_an_input_that_is_written_to_is_told():
    """What torch refuses, to write to a leaf, is told with the remedy."""
    finding = the_finding(torch_module(nn.ReLU(inplace=True)), same)
    assert finding.question == "mutates"
    assert first(finding) == (
        "a leaf Variable that requires grad is being used in an in-place operation. The forward "
        "writes to what it is given: inplace=False, or clone() first"
    )


def test_what_is_left_out_stays_as_it_was_made():
    """A buffer that is left out has the value that it was made with in every call."""

    def forward(self, x):
        self.factor.mul_(2)
        first, self.first = self.first, ~self.first
        return self.w * x * self.factor / 2 if first else x

    factory = scaling(forward, factor=torch.ones(()), first=torch.tensor(True))
    adapter = torch_module(factory, left_out={"factor": "is 1", "first": "is True"})
    assert not judged(adapter, checks=["contract", "symbolic"]).findings


def test_a_counter_needs_no_declaration_unless_it_matters():
    """num_batches_tracked is no finding, but where momentum=None makes the statistics depend on
    it."""
    spec = catalog("batch_norm_running")
    names = {"gamma": "weight", "beta": "bias"}
    adapter = torch_module(lambda C, eps: nn.BatchNorm1d(C, eps, momentum=None), params=names)
    finding = the_finding(adapter, spec)
    assert finding.question == "undeclared"
    assert finding.message.startswith(
        "BatchNorm1d counts in the buffer 'num_batches_tracked' and returns another new_mean at "
        "another count: declare it, or let nothing depend on it (in batch norm, momentum=None does)"
    )


def test_a_buffer_that_changes_in_eval_mode_is_told():
    """In eval mode a module only reads its buffers."""

    def forward(self, x):
        self.seen += 1.0
        return self.w * x

    class Eval(scaling(forward, seen=torch.zeros(()))):
        def __init__(self, C):
            super().__init__(C)
            self.eval()

    adapter = torch_module(Eval, left_out={"seen": "is not read"})
    assert declared_wrongly(adapter, scale) == (
        "eval", "the buffer 'seen' of Eval changes in eval mode: update it under `if "
        "self.training:`",
    )  # fmt: skip


def test_a_buffer_that_changes_without_a_next_value_is_told():
    """A buffer that the spec says is only read must not be written to."""

    def forward(self, x):
        self.s = self.s * 2
        return self.w * x

    spec = Spec("scale", x=Input("N C"), w=Param("C"), s=Buffer(""), y=Output("N C"))
    adapter = torch_module(scaling(forward, s=torch.ones(())))
    assert declared_wrongly(adapter, spec) == (
        "undeclared", "the buffer 's' of Module changes in a forward, and s is declared without a "
        'next value: s=Buffer(..., update="new_s"), new_s=Output(...)',
    )  # fmt: skip


# -- what is said of modules that do what they should not


def test_a_parameter_without_a_gradient_is_told():
    """p.grad that stays None is a finding of that parameter alone."""
    finding = the_finding(torch_module(scaling(lambda self, x: self.w.detach() * x)))
    assert (finding.question, finding.tensor) == ("missing", "w")
    assert first(finding) == (
        "the gradient of w is None; returned: x; in torch: its .grad stays None (allow_unused); "
        "the forward does not use it, takes it from a list that is no nn.ParameterList, or cuts it "
        "off by .detach(), .data, .item() or torch.no_grad(); or the backward returns None for it"
    )


def test_another_dtype_or_device_is_told():
    """What comes back in another dtype, or on another device, is named as torch does."""
    finding = the_finding(torch_module(scaling(lambda self, x: (self.w * x).double())))
    assert (finding.question, finding.tensor) == ("dtype", "y")
    assert first(finding).startswith("output y is float64 for float32 input; ")
    assert first(finding).endswith("; give dtype=x.dtype, or use x.new_zeros and torch.zeros_like")
    finding = the_finding(torch_module(scaling(lambda self, x: (self.w * x).bfloat16())))
    assert first(finding).startswith("output y is torch.bfloat16, which it was not given: make ")
    finding = the_finding(torch_module(scaling(lambda self, x: (self.w * x).to("meta"))))
    assert finding.question == "device"
    assert first(finding) == (
        "output y is on the device meta, what was given is on cpu: make new tensors with "
        "device=x.device, or x.new_zeros(...) and torch.zeros_like(x)"
    )


def test_a_view_of_the_input_is_told():
    """A view is right in torch until someone writes to it in place: a warning, and nothing is said
    of gradients that autograd passes on as they are."""
    finding = the_finding(torch_module(nn.Identity()), same)
    assert (finding.severity, finding.question, finding.tensor) == ("warning", "shares", "y")
    assert first(finding) == (
        "output y shares memory with x: who writes to one changes the other; in torch: it is a "
        "view, or the same tensor; clone() makes it one of its own"
    )


def test_a_batch_that_is_too_small_is_told():
    """Batch norm raises for one value a channel, and the finding says what to declare."""
    spec = Spec("norm", x=Input("N C H W"), y=Output("N C H W"))
    batch_norm = torch_function(lambda x: F.batch_norm(x, None, None, training=True))
    finding = the_finding(batch_norm, spec)
    assert finding.question == "raises"
    assert first(finding).endswith(
        'got input size torch.Size([1, 1, 1, 1]): declare where=["N*H*W >= 2"]'
    )
    instance_norm = torch_function(lambda x: F.instance_norm(x))
    assert first(the_finding(instance_norm, spec)).endswith('declare where=["H*W >= 2"]')


def test_random_numbers_are_found_or_frozen():
    """Dropout in train mode draws: that is a finding, unless a seed freezes it."""
    drop = Spec("drop", x=Input("N C"), y=Output("N C"))
    finding = the_finding(torch_module(nn.Dropout(0.3)), drop)
    assert finding.question == "repeatable"
    assert first(finding) == (
        "Dropout draws random numbers in its forward, so that the same call twice gives two "
        "results: freeze them, seed=0; or judge it in eval mode, train=Constant(False); or take "
        "what it draws as an input"
    )
    frozen = torch_function(lambda x: F.dropout(x, 0.3), seed=1)
    assert judged(frozen, drop, checks=None).verdict is Verdict.VERIFIED


def test_a_wrong_gradient_of_torch_itself_is_found():
    """The batch norm of torch 2.13 reads a weight in its backward without the stride of it."""
    spec = catalog("batch_norm")
    norm = torch_function(
        lambda x, gamma, beta, eps: F.batch_norm(x, None, None, gamma, beta, True, 0.1, eps)
    )
    case = (
        "N=2 C=2 eps=1e-05 dtype=float64 layout=C values=ordinary cotangent=signed seed=2732912765"
    )
    finding = the_finding(norm, spec, case=case)
    assert (finding.question, finding.tensor) == ("layout", "x")
    assert finding.message.startswith(
        "gamma every second element of an array gives another gradient of x than in C order: "
    )


def test_what_is_no_tensor_is_told():
    """A dict, a number and too many results are told, and what to do about them."""
    choose = "say which are meant, torch_module(..., call=lambda module, x: module(x)[0])"
    told = {
        f"Module returned a dict where y is declared: {choose}": lambda self, x: {"y": self.w * x},
        f"Module returned 2 values where y is declared: {choose}": lambda self, x: (self.w * x, x),
        "output y is a float, not a torch.Tensor": lambda self, x: (1.0,),
    }
    for message, forward in told.items():
        assert first(the_finding(torch_module(scaling(forward)))) == message
    assert first(the_finding(torch_function(lambda x, w: (w * x, x)))) == (
        "<lambda> returned 2 values where y is declared: return a tensor, or a tuple of tensors in "
        "declared order"
    )


def test_a_module_that_takes_other_inputs_is_told():
    """Inputs go in declared order; where a module takes them otherwise, it has to be said how."""
    finding = the_finding(torch_module(scaling(lambda self, x, state: self.w * x)))
    assert first(finding) == (
        "Module.forward(x, state) cannot be called with x: say how it is, torch_module(..., "
        "call=lambda module, x: module(...))"
    )


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_wrong_use_is_told():
    """What is no module and no function, and a reason that is none, are told at once."""
    with pytest.raises(UsageError, match=r"give it an nn\.Module or what makes one of sizes"):
        torch_module(3)
    with pytest.raises(UsageError, match=r"an nn\.Module has parameters: give it to torch_module"):
        torch_function(nn.GELU())
    with pytest.raises(UsageError, match="give it a function of tensors or an "):
        torch_function(3)
    with pytest.raises(UsageError, match="give the module that it was made from"):
        torch_module(torch.jit.trace(nn.ReLU(), torch.ones(2)))
    with pytest.raises(UsageError, match="say why it is not declared"):
        torch_module(Scale, left_out={"mask": ""})
    with pytest.raises(AssertionError):
        gradverify.check(Layer(scale, torch_module(lambda: 3)), checks=["contract"])


def test_names_that_a_factory_or_function_asks_for_are_told():
    """A factory gets what the spec declares; a Function has its arguments' names from it."""
    finding = the_finding(torch_module(lambda D: nn.Linear(D, D)))
    assert first(finding) == (
        "torch_module: 'D' is asked for to make the module, and is no dimension or constant of "
        "scale; known are N, C"
    )
    finding = the_finding(torch_function(Square), scale)
    assert first(finding) == (
        "Square.forward takes x, and the spec has x, w; say which is which: torch_function("
        "lambda x, w: Square.apply(x, w))"
    )


def test_torch_is_imported_by_who_uses_it():
    """gradverify and its adapters import no torch; where it is missing, the adapter says what to
    install."""
    code = """
import sys
sys.modules["torch"] = None
from gradverify.adapters import torch_function, torch_module
for adapter in (torch_module, torch_function):
    try:
        adapter(print)
    except Exception as error:
        print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "UsageError torch_module needs the package torch: pip install 'gradverify[torch]'",
        "UsageError torch_function needs the package torch: pip install 'gradverify[torch]'",
    ]


# -- derivatives that are offered


def drawn(spec, sizes, seed=0):
    """Return values, and directions of the differentiable tensors."""
    rng = np.random.default_rng(seed)
    values = {k: rng.normal(size=spec.shape(k, sizes)) for k in spec.given}
    along = {k: rng.normal(size=spec.shape(k, sizes)) for k in spec.differentiable}
    dys = {k: rng.normal(size=spec.shape(k, sizes)) for k in spec.differentiable_outputs}
    return values, along, dys


def test_forward_mode_and_double_backward_are_those_of_the_definition():
    """A module of torch has both, whichever its parameters are called."""
    spec = catalog("batch_norm")
    adapter = torch_module(
        lambda C, eps: nn.BatchNorm1d(C, eps, track_running_stats=False),
        params={"gamma": "weight", "beta": "bias"},
    )
    layer, derived = Layer(spec, adapter), oracle(spec)
    values, along, dys = drawn(spec, {"N": 4, "C": 3})
    eps = {"eps": 1e-2}
    got, right = layer.jvp(values, along, eps), derived.jvp(values, along, eps)
    np.testing.assert_allclose(got["y"], right["y"], rtol=1e-12, atol=1e-13)
    del along["beta"]  # what is left out is zero
    got = layer.double_vjp(values, dys, along, eps)
    for ours, theirs in zip(got, derived.double_vjp(values, dys, along, eps), strict=True):
        assert ours.keys() == theirs.keys()
        for name, gradient in theirs.items():
            np.testing.assert_allclose(ours[name], gradient, rtol=1e-11, atol=1e-12)


class SquareOnce(Square):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 2 * x * dy

    @staticmethod
    def jvp(ctx, dx):
        (x,) = ctx.saved_tensors
        return 2 * x * dx


class SquareBothWays(SquareOnce):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x * x


def test_what_is_not_offered_is_told():
    """A Function without a jvp has no forward mode, one that is marked so no double backward; who
    has them gives them."""
    values, along, dys = drawn(square, {"N": 3})
    layer = Layer(square, torch_function(Square))
    with pytest.raises(NotOffered, match="forward mode: You must implement the jvp function"):
        layer.jvp(values, along, {})
    first, second = layer.double_vjp(values, dys, along, {})
    np.testing.assert_allclose(first["x"], 2 * dys["y"] * along["x"])
    np.testing.assert_allclose(second["y"], 2 * values["x"] * along["x"])
    once = Layer(square, torch_function(SquareBothWays))
    with pytest.raises(NotOffered, match="double backward: it is marked once_differentiable"):
        once.double_vjp(values, dys, along, {})
    np.testing.assert_allclose(once.jvp(values, along, {})["y"], 2 * values["x"] * along["x"])


def test_what_is_not_offered_keeps_no_layer_from_being_verified():
    """A layer is asked for what it has: forward mode and double backward are checked where torch
    offers them, and no more is due."""
    (result,) = verify(Layer(square, torch_function(SquareBothWays)), profile="quick").layers
    found = {c.check: (c.status, c.reason) for c in result.checks}
    assert result.verdict is Verdict.VERIFIED
    assert found["forward_mode"] == (Status.PASSED, "")
    assert found["second_order"] == (
        Status.NOT_APPLICABLE,
        "the layer offers no double backward: it is marked once_differentiable",
    )


def test_a_backward_outside_of_the_graph_has_no_second_derivative():
    """What NumPy computes inside of a backward is constant to autograd: its derivative is 0, which
    is not what the definition says, and a finding."""

    class InNumPy(Square):
        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return torch.from_numpy(2 * x.detach().numpy() * dy.detach().numpy())

    values, along, dys = drawn(square, {"N": 3})
    first, second = Layer(square, torch_function(InNumPy)).double_vjp(values, dys, along, {})
    assert not first["x"].any()
    assert not second["y"].any()
    result = judged(torch_function(InNumPy), square, checks=["symbolic", "second_order"])
    assert {(f.check, f.tensor) for f in result.errors} == {
        ("second_order", "x"),
        ("second_order", "y"),
    }
