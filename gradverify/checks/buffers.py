"""buffers: running statistics are updated as declared, by the forward alone."""

from collections.abc import Iterator
from gradverify.checks.observation import Observation
from gradverify.spec import Spec
from gradverify.trial import Trial


def tensors(spec: Spec) -> tuple[str, ...]:
    """x"""
    return ()


def absent(spec: Spec) -> str | None:
    """x"""
    return "the spec has no buffers"


def examine(trial: Trial) -> Iterator[Observation]:
    """x"""
    yield from ()
