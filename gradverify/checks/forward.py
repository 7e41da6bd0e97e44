"""forward: the outputs are the definition's, so that both cannot be wrong together."""

from collections.abc import Iterator

from gradverify.checks.observation import Observation, compare
from gradverify.checks.precision import in_precision
from gradverify.checks.symbolic import doubtful
from gradverify.trial import Trial


def examine(trial: Trial) -> Iterator[Observation]:
    """Compare each output with the definition's."""
    reference = trial.reference
    for tensor, got in trial.outputs.items():
        allowance = reference.allowed_outputs[tensor]
        for seen in compare("output", tensor, reference.outputs[tensor], got, allowance):
            if doubtful(trial, seen) and (exact := trial.exact) is not None:
                truth = exact.outputs[trial.spec.outputs.index(tensor)].astype(float)
                (seen,) = compare("output", tensor, truth, got, allowance)
            yield in_precision(trial, seen, allowance, "outputs")
