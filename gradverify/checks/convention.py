"""What is wrong with a layer in the convention that it is written in, and with objects of it that
were used before."""

from collections.abc import Iterator

from gradverify.cases import draw
from gradverify.checks.agreement import Answer, Refused, copies, forward, pulled, refusing, told
from gradverify.checks.blame import same
from gradverify.checks.memory import as_drawn
from gradverify.checks.observation import Observation, failed, passed, warned
from gradverify.trial import Trial

USED = (
    "{} is another when the object was used at other values before: what a forward keeps must be "
    "all from that forward"
)


def own(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Ask what the convention of the layer asks besides."""
    lent = as_drawn(trial)
    with refusing(trial.layer):
        flaws = trial.layer.flaws(lent.tensors, trial.constants, lent.cotangents)
    for flaw in flaws:
        tell = failed if flaw.severity == "error" else warned
        yield tell(flaw.question, flaw.tensor, flaw.message)


def used(trial: Trial, first: Answer) -> Iterator[Observation]:
    """Use an object at other values, and again at those of the case."""
    if not trial.layer.keeps_objects:
        return
    trial.layer.renew()
    others = draw(trial.spec, trial.case.other())
    try:
        _, pullback = forward(trial, others.tensors)
        pulled(trial, pullback, others.cotangents)
    except Refused:
        return  # other values may be no case
    del others, pullback
    lent = as_drawn(trial)
    outputs, pullback = forward(trial, lent.tensors)
    found = Answer(copies(outputs), copies(pulled(trial, pullback, lent.cotangents)))
    for name in first.results:
        if same(trial, first, found.results, name):
            yield passed("stale", name)
        else:
            yield failed("stale", name, USED.format(told(trial, name)))
