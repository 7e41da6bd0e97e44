"""symbolic: every gradient is the derived one, element by element, at every drawn size."""

from collections.abc import Iterator

from gradverify.checks.compared import Gradients
from gradverify.checks.observation import Observation
from gradverify.checks.precision import judged
from gradverify.trial import Trial


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each gradient with the derived one."""
    gradients = Gradients(trial)
    for tensor in gradients.got:
        yield from judged("gradient", gradients, tensor)
