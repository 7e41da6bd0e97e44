"""A function called with arrays of some shapes: what it returns, and what its pullback does."""

import contextlib
import io
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradverify.scaffold.roles import Argument

Array = np.ndarray[Any, Any]
# Combinations of constants that are tried where they have no default.
MOST_CONSTANTS = 12


@dataclass(frozen=True)
class Answer:
    """Outputs of a call, and its gradients by name; None where it gives no pullback."""

    outputs: tuple[Array, ...]
    gradients: Mapping[str, Any] | None = None
    second: Any = None  # what a function returns besides, that is no pullback


@dataclass(frozen=True)
class Called:
    """A function with its arguments, and how tensors are filled: which are whole numbers, which
    above 0, and what constants are."""

    function: Callable[..., Any]
    arguments: tuple[Argument, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    positive: frozenset[str] = frozenset()
    tops: Mapping[str, int] = field(default_factory=dict)  # of whole numbers, the largest

    @property
    def tensors(self) -> tuple[Argument, ...]:
        """The arguments that are tensors."""
        return tuple(a for a in self.arguments if a.role in ("input", "param", "buffer"))

    def given(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
        """Return an array for each tensor."""
        rng = np.random.default_rng(0)
        found: dict[str, Array] = {}
        for tensor in self.tensors:
            shape = shapes[tensor.name]
            if tensor.integer:
                found[tensor.name] = np.full(shape, self.tops.get(tensor.name, 0))
            elif tensor.like == "mask":
                found[tensor.name] = np.ones(shape)
            elif tensor.name in self.positive or tensor.role == "buffer":
                found[tensor.name] = rng.uniform(0.2, 0.9, shape)
            else:
                found[tensor.name] = rng.standard_normal(shape)
                if not shape:  # a number above 0 by chance would tell nothing
                    found[tensor.name] = -np.abs(found[tensor.name])
        return found

    def ask(self, shapes: Mapping[str, tuple[int, ...]]) -> Answer | None:
        """Return the answer at shapes; None where it raises, or where something is wrong with it.

        Outputs are finite arrays of real numbers, and gradients have the shapes of their tensors:
        what broadcasts by chance is not taken for a shape that is meant.
        """
        answer = quietly(lambda: _answer(self, self.given(shapes)))
        return answer if answer is not None and _fits(answer, shapes) else None

    def choices(self) -> list["Called"]:
        """Return the function with every combination of the first values of its constants."""
        constants = [a for a in self.arguments if a.role == "constant"]
        listed = itertools.product(*(a.values for a in constants))
        return [replace(self, constants=dict(zip((a.name for a in constants), v, strict=True)))
                for v in itertools.islice(listed, MOST_CONSTANTS)]  # fmt: skip


def quietly(call: Callable[[], Any]) -> Any:
    """Return what a call returns, None where it raises; what it prints and warns of is lost."""
    silent = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(silent),
            contextlib.redirect_stderr(silent),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            return call()
    except (Exception, SystemExit):
        return None


def _answer(called: Called, given: Mapping[str, Array]) -> Answer | None:
    result = called.function(**given, **called.constants)
    second = None
    if isinstance(result, tuple) and len(result) == 2 and not isinstance(result[1], np.ndarray):
        result, second = result
    outputs = result if isinstance(result, tuple) else (result,)
    if not outputs or not all(map(_real, outputs)):
        return None
    arrays = tuple(np.asarray(y) for y in outputs)
    if not callable(second):
        return Answer(arrays, None, second)
    return Answer(arrays, _gradients(called, second, arrays), second)


def _gradients(
    called: Called, pullback: Callable[..., Any], outputs: Sequence[Array]
) -> dict[str, Any] | None:
    rng = np.random.default_rng(1)
    cotangents = [np.asarray(rng.standard_normal(y.shape)) for y in outputs]
    found = quietly(lambda: pullback(*cotangents))
    if found is None and len(cotangents) > 1:  # the others are next values of buffers
        found = quietly(lambda: pullback(cotangents[0]))
    if isinstance(found, Mapping):
        return dict(found)
    listed = found if isinstance(found, tuple | list) else (found,)
    names = [t.name for t in called.tensors]
    some = [t.name for t in called.tensors if not t.integer and t.role != "buffer"]
    for chosen in (names, some):
        if len(chosen) == len(listed):
            return dict(zip(chosen, listed, strict=True))
    return {}


def _real(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in "fiu"
    except Exception:
        return False


def _fits(answer: Answer, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if not all(y.size and np.all(np.isfinite(y)) for y in answer.outputs):
        return False
    if answer.gradients is None:
        return True
    if not any(value is not None for value in answer.gradients.values()):
        return False
    return all(
        np.shape(value) == shapes[name] and np.all(np.isfinite(value))
        for name, value in answer.gradients.items()
        if name in shapes and value is not None
    )
