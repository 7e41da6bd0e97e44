"""Wrong layers that are written as autograd.Function are caught as those in NumPy are.

Each is named after what is wrong with it: `dx_...` has a wrong gradient of x.
"""

import inspect

import numpy as np
import pytest
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gradverify import Input, Layer, Output, Param, Spec, Verdict, catalog, verify
from gradverify.adapters import torch_function, torch_module

batch_norm = catalog("batch_norm")
linear = catalog("linear")
scale = Spec(
    "scale", x=Input("N C"), w=Param("C"), y=Output("N C"), definition="y[n,c] = w[c]*x[n,c]"
)


def findings(function, spec, **options):
    """Return what is found in a layer, by check, question and tensor."""
    (result,) = verify(Layer(spec, function, name="layer"), profile="quick", **options).layers
    assert result.verdict is not Verdict.VERIFIED
    return {(f.check, f.question, f.tensor): f for f in result.errors}


def diagnoses(found):
    """Return the diagnosis by check, question and tensor; exact arithmetic is not for torch."""
    return {key: f.diagnosis for key, f in found.items() if key[0] != "exact"}


# -- the same formulas in torch and in NumPy, of which one thing is wrong


class BatchNorm(Function):
    """A right batch norm; those below it return other gradients."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        xc = x - x.mean(0)
        sigma = (xc.square().mean(0) + eps).sqrt()
        ctx.save_for_backward(xc / sigma, sigma, gamma)
        return gamma * (xc / sigma) + beta

    @classmethod
    def parts(cls, ctx, dy):
        xhat, sigma, gamma = ctx.saved_tensors
        dgamma, dbeta = (dy * xhat).sum(0), dy.sum(0)
        dx = gamma / sigma * (dy - (dbeta + xhat * dgamma) / len(dy))
        return dx, dgamma, dbeta, xhat, sigma, gamma

    @staticmethod
    @once_differentiable  # what it saves is no input
    def backward(ctx, dy):
        return *BatchNorm.parts(ctx, dy)[:3], None


class DxWithoutTheMean(BatchNorm):
    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        _, dgamma, dbeta, xhat, sigma, gamma = BatchNorm.parts(ctx, dy)
        return gamma / sigma * (dy - xhat * dgamma / len(dy)), dgamma, dbeta, None


class DxWithNMinus1(BatchNorm):
    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        _, dgamma, dbeta, xhat, sigma, gamma = BatchNorm.parts(ctx, dy)
        N = len(dy)
        dx = gamma / sigma * (dy - dbeta / N - xhat * dgamma / (N - 1))
        return dx, dgamma, dbeta, None


class DbetaAveraged(BatchNorm):
    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        dx, dgamma, *_ = BatchNorm.parts(ctx, dy)
        return dx, dgamma, dy.mean(0), None


class DxDgammaSwapped(BatchNorm):
    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        dx, dgamma, dbeta, *_ = BatchNorm.parts(ctx, dy)
        return dx, dbeta, dgamma, None


def numpy_batch_norm(wrong):
    """Return a batch norm of which `wrong(gradients, parts)` replaces some gradients."""

    def layer(x, gamma, beta, *, eps):
        xc = x - x.mean(axis=0)
        sigma = np.sqrt((xc * xc).mean(axis=0) + eps)
        xhat = xc / sigma

        def pullback(dy):
            dgamma, dbeta = (dy * xhat).sum(axis=0), dy.sum(axis=0)
            dx = gamma / sigma * (dy - (dbeta + xhat * dgamma) / len(dy))
            right = {"x": dx, "gamma": dgamma, "beta": dbeta}
            return right | wrong(dy, xhat, sigma, gamma, dgamma, dbeta)

        return gamma * xhat + beta, pullback

    return layer


class Scale(Function):
    """A right y = w*x; those below it do something else besides."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return w * x

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return w * dy, (x * dy).sum(0)


class Stale(Scale):
    @staticmethod
    def forward(ctx, x, w):
        Stale.kept = x, w
        return w * x

    @staticmethod
    def backward(ctx, dy):
        x, w = Stale.kept
        return w * dy, (x * dy).sum(0)


class Accumulates(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        ctx.dw = getattr(ctx, "dw", 0) + (x * dy).sum(0)
        return w * dy, ctx.dw


class Imprecise(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return w * dy, (x.float() * dy.float()).sum(0).to(w.dtype)


class Nonlinear(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return (w * dy).clamp(-1, 1), (x * dy).sum(0)


def numpy_scale(wrong):
    """Return y = w*x of which `wrong(x, w, dy)` replaces some gradients."""

    def layer(x, w):
        kept["it"] = x, w
        state = {}

        def pullback(dy):
            return {"x": w * dy, "w": (x * dy).sum(axis=0)} | wrong(x, w, dy, state)

        return w * x, pullback

    return layer


kept = {}


def accumulated(x, w, dy, state):
    state["w"] = state.get("w", 0) + (x * dy).sum(axis=0)
    return dict(state)


def of_the_last_call(x, w, dy, state):
    x, w = kept["it"]
    return {"x": w * dy, "w": (x * dy).sum(axis=0)}


PAIRS = {
    DxWithoutTheMean: numpy_batch_norm(
        lambda dy, xhat, sigma, gamma, dgamma, dbeta: {
            "x": gamma / sigma * (dy - xhat * dgamma / len(dy))
        }
    ),
    DxWithNMinus1: numpy_batch_norm(
        lambda dy, xhat, sigma, gamma, dgamma, dbeta: {
            "x": gamma / sigma * (dy - dbeta / len(dy) - xhat * dgamma / (len(dy) - 1))
        }
    ),
    DbetaAveraged: numpy_batch_norm(lambda dy, *_: {"beta": dy.mean(axis=0)}),
    DxDgammaSwapped: numpy_batch_norm(
        lambda dy, xhat, sigma, gamma, dgamma, dbeta: {"gamma": dbeta, "beta": dgamma}
    ),
    Stale: numpy_scale(of_the_last_call),
    Accumulates: numpy_scale(accumulated),
    Imprecise: numpy_scale(
        lambda x, w, dy, _: {
            "w": (x.astype(np.float32) * dy.astype(np.float32)).sum(axis=0).astype(w.dtype)
        }
    ),
    Nonlinear: numpy_scale(lambda x, w, dy, _: {"x": np.clip(w * dy, -1, 1)}),
}


@pytest.mark.parametrize("function", [BatchNorm, Scale], ids=lambda f: f.__name__)
def test_what_the_wrong_ones_are_made_from_is_right(function):
    """The Functions that are broken below are verified as they are."""
    spec = batch_norm if function is BatchNorm else scale
    (result,) = verify(Layer(spec, torch_function(function)), profile="quick").layers
    assert result.verdict is Verdict.VERIFIED
    assert not result.findings


@pytest.mark.parametrize("function", PAIRS, ids=lambda f: f.__name__)
def test_a_wrong_function_is_found_as_in_numpy(function):
    """The same mistake has the same findings and the same diagnosis in torch and in NumPy, and the
    finding points to the Function's backward."""
    spec = batch_norm if issubclass(function, BatchNorm) else scale
    ours, theirs = (findings(f, spec) for f in (torch_function(function), PAIRS[function]))
    # NumPy's offer no derivatives of other kinds.
    ours = {k: f for k, f in ours.items() if k[0] not in ("second_order", "forward_mode")}
    assert ours
    assert diagnoses(ours) == diagnoses(theirs)
    line = inspect.unwrap(function.backward).__code__.co_firstlineno
    assert {f.location for f in ours.values()} == {f"{__file__}:{line}"}


# -- what only torch's way of writing makes wrong


class Freed(Scale):
    @staticmethod
    def forward(ctx, x, w):
        ctx.kept = x, w
        return w * x

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.kept
        del ctx.kept
        return w * dy, (x * dy).sum(0)


class SavedChanged(Scale):
    @staticmethod
    def forward(ctx, x, w):
        z = x.clone()
        ctx.save_for_backward(z, w)
        y = w * z
        z.data.relu_()  # not seen by the version of a saved tensor
        return y


class Contiguous(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dy = dy.as_strided(dy.shape, (dy.shape[1], 1))  # whatever its strides are
        return w * dy, (x * dy).sum(0)


class WrongNeed(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dw = (x * dy).sum(0) if ctx.needs_input_grad[0] else None
        return w * dy, dw


class InPlace(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dw = (x * dy).sum(0)
        return dy.mul_(w), dw


class Cut(Scale):
    @staticmethod
    def backward(ctx, dy):
        x, _ = ctx.saved_tensors
        return None, (x * dy).sum(0)


def told(function, question, tensor, spec=scale):
    """Return what contract says of a question about a tensor, without the number of cases."""
    found = findings(torch_function(function), spec, checks=["contract"])
    assert ("contract", question, tensor) in found, sorted(found)
    return found["contract", question, tensor].message.partition(" (in ")[0]


def test_a_backward_that_frees_what_it_kept_is_told():
    """A graph that is retained is run again: ctx must still hold what it did."""
    message = told(Freed, "repeatable", None)
    assert "a later one raised AttributeError: " in message
    assert message.endswith(
        "; in torch: a graph that is retained (retain_graph=True) is run again, so that a backward "
        "must keep what its ctx holds"
    )


def test_a_saved_tensor_that_is_changed_is_found():
    """What autograd cannot see, a write through .data after saving, makes a wrong gradient."""
    found = findings(torch_function(SavedChanged), scale, checks=["symbolic"])
    assert set(found) == {("symbolic", "gradient", "w")}


def test_a_backward_that_reads_memory_as_if_it_were_contiguous_is_told():
    """as_strided with strides of its own is right for contiguous cotangents only."""
    assert told(Contiguous, "layout", "x").endswith(
        "; in torch: a tensor need not be contiguous; x.contiguous() before data_ptr() and "
        "as_strided, reshape in place of view"
    )


def test_a_backward_that_returns_none_is_told():
    """None is no gradient, for an input as for a parameter."""
    message = told(Cut, "missing", "x")
    assert message.startswith("the gradient of x is None; returned: w; in torch: its .grad stays ")


def test_a_backward_that_writes_to_its_cotangent_is_told():
    """The gradient that a backward is given belongs to its caller."""
    assert told(InPlace, "mutates", None) == (
        "the pullback changed its cotangent in place: the caller still uses it; work on a copy; in "
        "torch: operations that end in _ and out= write in place; clone() first"
    )


def test_a_wrong_index_of_needs_input_grad_is_told():
    """A backward that leaves out what is not asked for may leave out another one: that shows where
    some of its inputs take no gradient."""
    assert told(WrongNeed, "frozen", "w") == (
        "asked for the gradient of w alone, and not that of x (requires_grad=False), there is "
        "none: look at the indices of ctx.needs_input_grad"
    )


def test_a_gradient_of_another_shape_is_told_by_torch():
    """A transposed gradient is refused by torch itself, at sizes that are not equal, and wrong to
    every check at equal ones."""

    class Transposed(Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w)
            return x @ w.T + b

        @staticmethod
        def backward(ctx, dy):
            x, w = ctx.saved_tensors
            return dy @ w, x.T @ dy, dy.sum(0)

    assert "returned an invalid gradient at index 1 - got" in told(
        Transposed, "raises", None, linear
    )
    found = findings(torch_function(Transposed), linear, sizes={"D": 3, "K": 3})
    assert found["symbolic", "gradient", "w"].diagnosis == (
        "w is transposed: its axes are in the order (1, 0)"
    )


class Cached(torch.nn.Module):
    """A module that keeps its last input for a backward of its own."""

    def __init__(self, C):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(C))

    def forward(self, x):
        self.x, module = x.detach(), self

        class Times(Function):
            @staticmethod
            def forward(ctx, x, w):
                return w * x

            @staticmethod
            def backward(ctx, dy):
                return module.w * dy, (module.x * dy).sum(0)

        return Times.apply(x, self.w)


def test_a_module_that_keeps_its_cache_for_the_next_call_is_told():
    """What a module keeps in itself is that of its last forward, whichever backward reads it."""
    found = findings(torch_module(Cached), scale, checks=["contract"])
    assert (
        found["contract", "stale", "w"]
        .message.partition(" (in ")[0]
        .endswith(
            "; in torch: save_for_backward and attributes of ctx belong to one call; self, a class and "
            "globals do not"
        )
    )
