"""One case through all five checks, beside torch's gradcheck on the same layer at the same case."""

import time
from itertools import islice
from statistics import median

import numpy as np
import torch
from measure import catalogue, seconds

from gradverify.cases import cases, draw
from gradverify.checks import CHECKS
from gradverify.ground import derived_zero
from gradverify.regular import settled
from gradverify.result import Status
from gradverify.trial import Trial, make_oracle

RUNS = 7


def test_five_checks_beside_gradcheck(show):
    torch.set_num_threads(1)
    rows = [row(layer) for layer in catalogue()]
    columns = list(zip(*rows, strict=True))[3:]
    checks = [name.replace("finite_", "f.") for name in CHECKS]
    heads = ["layer", "elements", "fwd+bwd", "derived", *checks, "all", "fast", "slow"]
    show(
        "One case through the checks, which share the derived values and what is allowed around "
        "them, and torch.autograd.gradcheck in its fast and slow mode, all as "
        "multiples of one forward and backward (µs) of the same layer at the same case:",
        [heads, *rows, ["median", "", "", *(float(median(c)) for c in columns)]],
    )


def row(layer):
    """Return the figures of one layer, having asserted that all of them judge it right."""
    oracle = make_oracle(layer.spec)
    few = [settled(layer.spec, oracle, c) for c in islice(cases(layer.spec, ["float64"], 0, 0), 8)]
    zero = derived_zero(layer.spec, "float64", [case for case in few if case])
    case = few[0]
    arrays, constants = draw(layer.spec, case), dict(case.constants)

    def once():
        _, pullback = layer.function(**arrays.tensors, **constants)
        pullback(*arrays.cotangents)

    names = layer.spec.differentiable
    given = [torch.tensor(arrays.tensors[k], requires_grad=True) for k in names]
    function = as_torch(layer, arrays.tensors, constants)

    def gradcheck(fast):
        assert torch.autograd.gradcheck(function, given, fast_mode=fast)

    unit = seconds(once)
    five = five_checks(layer, case, oracle, zero)
    torch_modes = [seconds(lambda fast=fast: gradcheck(fast), RUNS) for fast in (True, False)]
    elements = sum(arrays.tensors[k].size for k in names)
    multiples = [s / unit for s in (*five, sum(five), *torch_modes)]
    return [layer.name.removeprefix("numpy_"), elements, 1e6 * unit, *map(float, multiples)]


def five_checks(layer, case, oracle, zero):
    """Return the median seconds of deriving values and allowances, and of each check then."""
    runs = []
    for _ in range(RUNS + 1):  # the first compiles
        trial = Trial(layer, case, oracle, zero)
        began = time.perf_counter()
        assert trial.reference.gradients.keys() == {*layer.spec.differentiable}
        taken = [time.perf_counter() - began]
        for check in CHECKS.values():
            began = time.perf_counter()
            seen = list(check.examine(trial))
            taken.append(time.perf_counter() - began)
            assert seen
            assert not any(o.outcome is Status.FAILED for o in seen), (layer.name, check.name)
        runs.append(taken)
    return [median(found) for found in zip(*runs[1:], strict=True)]


def as_torch(layer, tensors, constants):
    """Return a function of torch tensors whose forward and backward are the layer's own."""
    names = layer.spec.differentiable
    seeded = [y in layer.spec.differentiable_outputs for y in layer.spec.outputs]

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *given):
            arrays = {k: g.detach().numpy() for k, g in zip(names, given, strict=True)}
            outputs, ctx.pullback = layer.function(**{**tensors, **arrays}, **constants)
            if not isinstance(outputs, tuple):
                return torch.as_tensor(np.asarray(outputs))
            results = tuple(torch.as_tensor(np.asarray(y)) for y in outputs)
            ctx.mark_non_differentiable(*(y for y, s in zip(results, seeded, strict=True) if not s))
            return results

        @staticmethod
        def backward(ctx, *cotangents):
            given = (c for c, s in zip(cotangents, seeded, strict=True) if s)
            gradients = ctx.pullback(*(c.numpy() for c in given))
            return tuple(torch.as_tensor(np.asarray(gradients[k])) for k in names)

    return Wrapped.apply
