"""What findings mean in the words of torch, and what its own errors ask of a spec."""

from collections.abc import Iterator
from contextlib import contextmanager

from gradverify.layer import ConventionError
from gradverify.notation.tree import text
from gradverify.spec import Spec

# By question of `contract`.
WORDS = {
    "accumulates": "in torch: a graph that is retained (retain_graph=True) is run again, and what "
    "its ctx holds must be the same then",
    "aliases": "in torch: a backward returns grad.clone() in place of what its caller holds",
    "dtype": "in torch: torch.zeros and torch.tensor make torch.get_default_dtype(); give "
    "dtype=x.dtype, or use x.new_zeros and torch.zeros_like",
    "layout": "in torch: a tensor need not be contiguous; x.contiguous() before data_ptr() and "
    "as_strided, reshape in place of view",
    "missing": "in torch: its .grad stays None (allow_unused); the forward does not use it, takes "
    "it from a list that is no nn.ParameterList, or cuts it off by .detach(), .data, .item() or "
    "torch.no_grad(); or the backward returns None for it",
    "mutates": "in torch: operations that end in _ and out= write in place; clone() first",
    "precision": "in torch: look for .float(), .half(), autocast, and what is made without "
    "dtype=x.dtype",
    "repeatable": "in torch: a graph that is retained (retain_graph=True) is run again, so that a "
    "backward must keep what its ctx holds",
    "shares": "in torch: it is a view, or the same tensor; clone() makes it one of its own",
    "stale": "in torch: save_for_backward and attributes of ctx belong to one call; self, a class "
    "and globals do not",
}


@contextmanager
def told(spec: Spec) -> Iterator[None]:
    """Say what to declare where a normalization is given too few values, and what to change where
    an input is written to."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 "):
            raise
        sizes = [f"({size})" if not size.isalnum() else size
                 for size in map(text, spec.shapes[spec.given[0]])]  # fmt: skip
        counted = sizes[2:] if "spatial" in str(error) else sizes[:1] + sizes[2:]
        raise ConventionError(
            "raises", f'{error}: declare where=["{"*".join(counted)} >= 2"]'
        ) from error
    except RuntimeError as error:
        if "leaf Variable that requires grad is being used in an in-place" not in str(error):
            raise
        raise ConventionError(
            "mutates",
            f"{error} The forward writes to what it is given: inplace=False, or clone() first",
        ) from error
