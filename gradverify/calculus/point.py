"""Where a definition is computed: the values of everything that it is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Point:
    """Values, by name, of what a program is given: its tensors, its constants, and the sizes of its
    dimensions."""

    tensors: Mapping[str, Array]
    constants: Mapping[str, Any]
    sizes: Mapping[str, int]
