"""forward: the outputs are the definition's, so that both cannot be wrong together."""

from collections.abc import Iterator

from gradverify.checks.compared import Outputs
from gradverify.checks.observation import Observation
from gradverify.checks.precision import judged
from gradverify.trial import Trial


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each output with the definition's."""
    outputs = Outputs(trial)
    for tensor in outputs.got:
        yield from judged("output", outputs, tensor)
