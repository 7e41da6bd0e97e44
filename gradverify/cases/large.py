"""How many elements tensors have, which specs allow no small ones (modules of fixed sizes), and the
memory that these fill."""

import ctypes
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from math import prod
from typing import Any

from gradverify.spec import Spec

# At most this many elements of a tensor are drawn where a spec allows it, so that one case stays in
# milliseconds.
MAX_ELEMENTS = 20_000


def elements(spec: Spec, at: Mapping[str, Any]) -> int:
    """Return how many elements the largest tensor has at sizes and constants."""
    return max(prod(max(n, 1) for n in spec.shape(t, at)) for t in spec.tensors)


@lru_cache(maxsize=64)  # every case of a spec asks
def least_elements(spec: Spec) -> int:
    """Return how many elements the largest tensor has at the smallest sizes."""
    ones = dict.fromkeys(spec.dims, 1)
    least = []
    for constants in spec.constant_choices:
        if (sizes := next(spec.sizes(constants, ones), None)) is not None:
            least.append(elements(spec, {**sizes, **constants}))
    return min(least, default=0)


def is_large(spec: Spec) -> bool:
    """Whether a spec allows no case of small tensors."""
    return least_elements(spec) > MAX_ELEMENTS


def give_back() -> None:
    """Give memory that is free back to the system, where the C library would keep it (glibc's
    malloc_trim): between blocks of a tensor's size it keeps as much again."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no such function
            ctypes.CDLL(None).malloc_trim(0)
