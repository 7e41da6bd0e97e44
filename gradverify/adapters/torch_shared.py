"""What torch shares among all that use it, random numbers and threads, and puts back as it was."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradverify.layer import ConventionError

if TYPE_CHECKING:
    from torch import Tensor


# As many elements as torch gives one thread at least, where it asks how many there are.
FEW = 2**15


@contextmanager
def working(tensors: "Iterable[Tensor]") -> Iterator[None]:
    """Record for autograd, with one thread where there is little to do.

    Some kernels wake a thread for every channel; where processes are as many as processors, that
    takes a thousand times as long as the work.
    """
    import torch

    threads = torch.get_num_threads()
    few = sum(t.numel() for t in tensors) <= FEW
    try:
        torch.set_num_threads(1 if few else threads)
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def frozen(seed: int | None) -> Iterator[None]:
    """Seed torch's generator, and put it back as it was; nothing where the seed is None."""
    import torch

    if seed is None:
        yield
        return
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


@contextmanager
def undrawn(name: str) -> Iterator[None]:
    """Raise ConventionError where random numbers are drawn that nobody has frozen."""
    import torch

    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise ConventionError(
            "repeatable",
            f"{name} draws random numbers in its forward, so that the same call twice gives two "
            "results: freeze them, seed=0; or judge it in eval mode, train=Constant(False); or "
            "take what it draws as an input",
        )


def differing(one: "Mapping[str, Tensor]", other: "Mapping[str, Tensor]") -> str | None:
    """Return the first tensor that is not the same in both, None where all are."""
    for name, a in one.items():
        b = other[name]
        if a.shape != b.shape or not bool(((a == b) | (a.isnan() & b.isnan())).all()):
            return name
    return None
