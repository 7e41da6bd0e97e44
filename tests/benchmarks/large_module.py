"""Verify a torch module of 10 million parameters in this process; print what it took, as JSON.

`python tests/benchmarks/large_module.py [definition]`. The process is one of its own, since the most
memory that it has held at any time is one of the figures. Seconds are those of one processor.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is loaded: seconds are those of one

import json
import resource
import sys
import time
from statistics import mean, median

import torch
from torch import nn

from gradverify import Input, Layer, Output, Param, Spec, verify
from gradverify.adapters import torch_module
from gradverify.trial import calling

WIDE, OUT = 2000, 1000
RUNS, BATCH = 5, 128
DEFINITION = """
    a[n,i] = tanh(sum[d](x[n,d]*w1[i,d]) + b1[i])
    b[n,j] = tanh(sum[i](a[n,i]*w2[j,i]) + b2[j])
    y[n,k] = sum[j](b[n,j]*w3[k,j]) + b3[k]
"""
NAMES = {"w1": "0.weight", "b1": "0.bias", "w2": "2.weight", "b2": "2.bias", "w3": "4.weight",
         "b3": "4.bias"}  # fmt: skip


def once(module, size, dtype):
    """Return the seconds of one forward and backward of a batch, the median of a few."""
    module, found = module.to(dtype), []
    x = torch.randn(size, WIDE, dtype=dtype, requires_grad=True)
    dy = torch.randn(size, OUT, dtype=dtype)
    for _ in range(RUNS):
        began = time.process_time()
        torch.autograd.grad(module(x), [x, *module.parameters()], dy)
        found.append(time.process_time() - began)
    return median(found)


def most_memory():
    """Return the bytes that the process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(*, definition):
    """Print the figures."""
    torch.set_num_threads(1)
    module = nn.Sequential(nn.Linear(WIDE, WIDE), nn.Tanh(), nn.Linear(WIDE, WIDE), nn.Tanh(),
                           nn.Linear(WIDE, OUT))  # fmt: skip
    count = sum(p.numel() for p in module.parameters())
    spec = Spec(
        "large", x=Input(f"N {WIDE}"), w1=Param(f"{WIDE} {WIDE}"), b1=Param(f"{WIDE}"),
        w2=Param(f"{WIDE} {WIDE}"), b2=Param(f"{WIDE}"), w3=Param(f"{OUT} {WIDE}"),
        b3=Param(f"{OUT}"), y=Output(f"N {OUT}"), definition=DEFINITION if definition else None,
    )  # fmt: skip
    layer = Layer(spec, torch_module(module, params=NAMES), dtypes=("float64", "float32"))
    once(module, 2, torch.float32)  # what torch loads when it is first used is not ours
    cases = []
    calling.set(lambda case: cases.append((case.at["N"], getattr(torch, case.dtype))))
    before, began = most_memory(), time.process_time()
    (result,) = verify(layer, profile="quick").layers
    took, held = time.process_time() - began, most_memory() - before
    assert result.verdict == "verified", result
    same = mean(once(module, size, dtype) for size, dtype in cases)
    usual = mean(once(module, BATCH, dtype) for _, dtype in cases)
    print(json.dumps({
        "parameters": count,
        "seconds": took,
        "seconds over one forward and backward, at the batches and dtypes of the run": took / same,
        f"seconds over one forward and backward, at its dtypes and a batch of {BATCH}":
            took / usual,
        "most memory over that of the parameters in float64": held / (8 * count),
        "most memory over that of the parameters in float32": held / (4 * count),
        "checks": {c.check: round(c.seconds, 1) for c in result.checks if c.seconds},
    }))  # fmt: skip


if __name__ == "__main__":
    main(definition="definition" in sys.argv[1:])
