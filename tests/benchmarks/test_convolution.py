"""The oracle of a convolution of usual size beside torch's own: its time, and its memory."""

import tracemalloc

import numpy as np
import torch
from measure import seconds

from gradverify import catalog
from gradverify.calculus.point import Point
from gradverify.trial import make_oracle

SIZES = {"N": 16, "C": 16, "H": 32, "W": 32, "K": 32, "R": 3, "T": 3}
CONSTANTS = {"S": 1, "P": 1, "D": 1}


def test_a_convolution_beside_torch(show):
    torch.set_num_threads(1)
    rows = [row(dtype) for dtype in ("float64", "float32")]
    show(
        "Milliseconds of the forward and the gradients of a convolution of 16x16x32x32 with 32 "
        "filters of 3x3, by the derived source and by torch, on one thread; and the megabytes that "
        "NumPy's arrays take in the derived source at most:",
        [["dtype", "derived", "torch", "ratio", "peak"], *rows],
    )


def row(dtype):
    """Return the figures of one dtype, having asserted that both compute the same."""
    oracle = make_oracle(catalog("conv2d"))
    rng = np.random.default_rng(0)
    shapes = {"x": (16, 16, 32, 32), "w": (32, 16, 3, 3), "b": (32,)}
    tensors = {k: rng.standard_normal(shape).astype(dtype) for k, shape in shapes.items()}
    dy = rng.standard_normal((16, 32, 32, 32)).astype(dtype)
    given = {k: torch.tensor(a, requires_grad=True) for k, a in tensors.items()}

    def derived():
        (y,), pullback = oracle.run(Point(tensors, CONSTANTS, SIZES))
        return [y, *pullback(dy).values()]

    def torchs():
        y = torch.nn.functional.conv2d(*given.values(), padding=1)
        return [y, *torch.autograd.grad(y, [*given.values()], torch.from_numpy(dy))]

    for a, b in zip(derived(), torchs(), strict=True):
        expected = b.detach().numpy()
        # A gradient of w adds up 2**14 products, each sum of them being rounded.
        allowed = 2**14 * np.finfo(dtype).eps * abs(expected).max()
        np.testing.assert_allclose(a, expected, rtol=0, atol=allowed)
    tracemalloc.start()
    derived()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    ours, theirs = seconds(derived), seconds(torchs)
    return [dtype, 1e3 * ours, 1e3 * theirs, ours / theirs, peak / 1e6]
