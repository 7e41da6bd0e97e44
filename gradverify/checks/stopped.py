"""Whether gradients are meant to be the slope of the forward: not where a stop_gradient matters."""

from dataclasses import replace
from functools import lru_cache
from itertools import islice

import numpy as np

from gradverify.calculus.compile import Oracle
from gradverify.cases import cases
from gradverify.layer import Layer
from gradverify.notation.tree import Call, Expr, rebuild, walk
from gradverify.regular import settled
from gradverify.spec import Spec
from gradverify.trial import Trial, make_oracle
from gradverify.view import seen

# In so many cases a stop that matters shows.
CASES = 6
# Rounding of two formulas of the same thing, in units of what is allowed for one.
BOTH = 4.0


@lru_cache(maxsize=64)
def absent(spec: Spec) -> str | None:
    """Return why the gradients of a spec are not the slope of its forward, None where they are.

    The maximum that a softmax subtracts may be stopped or not: what does not matter is no reason.
    """
    program, oracle = spec.program, make_oracle(spec)
    if program is None or oracle is None:
        return None
    if not any(map(_stops, (e for s in program.statements for e in walk(s.body)))):
        return None
    statements = tuple(replace(s, body=_flowing(s.body)) for s in program.statements)
    flowing = Oracle(replace(program, statements=statements), spec.differentiable)
    layer = Layer(spec, absent, name="", file="")  # none is called
    differing: set[str] = set()
    for case in islice(cases(spec, ("float64",), 0, 0), CASES):
        if (usable := settled(spec, oracle, case)) is None:
            continue
        trial = Trial(layer, usable, oracle)
        _, pullback = seen(flowing, trial.view).run(trial.point)
        allowed = trial.reference.allowed_gradients
        for name, gradient in pullback(*trial.wide.cotangents).items():
            off = np.abs(gradient - trial.reference.gradients[name])
            if np.max(off, initial=0.0) > BOTH * allowed[name].value:
                differing.add(name)
    if not differing:
        return None
    return f"stop_gradient: the gradient of {', '.join(sorted(differing))} is not meant as a slope"


def _stops(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.function == "stop_gradient"


def _flowing(expr: Expr) -> Expr:
    inner = rebuild(expr, _flowing)
    return inner.args[0] if isinstance(inner, Call) and _stops(inner) else inner
