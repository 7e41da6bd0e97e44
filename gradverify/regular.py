"""Cases at which a definition is regular: finite, and away from its kinks."""

from functools import lru_cache

import numpy as np

from gradverify.calculus.compile import Oracle
from gradverify.cases import AT_KINKS, Case, draw, is_large, view_of
from gradverify.sides import Vicinity, on_a_kink
from gradverify.spec import Spec
from gradverify.trial import widened
from gradverify.view import Seen, seen

# How often a case is drawn anew before it is given up.
REDRAWS = 20


@lru_cache(maxsize=1024)  # it is the same for all layers of a spec, and a case is small
def settled(spec: Spec, oracle: Oracle | None, case: Case) -> Case | None:
    """Return `case` with a seed for which the definition is finite and away from its kinks.

    None where no seed tried is; a point where the definition itself is not finite is no case,
    and at a kink several gradients are right. Values that are drawn to be on kinks may be.
    """
    if oracle is None:
        return case
    for k in range(REDRAWS):
        trial = case.other(k * 7919)
        if _regular(spec, seen(oracle, view_of(spec, trial)), trial):
            return trial
    return None


def _regular(spec: Spec, oracle: Oracle | Seen, case: Case) -> bool:
    arrays = widened(draw(spec, case))
    point, largest = case.point(arrays.tensors), float(np.finfo(case.dtype).max)
    outputs, pullback = oracle.run(point)
    results = (*outputs, *pullback(*arrays.cotangents).values())
    with np.errstate(all="ignore"):
        if not all(
            np.max(a, initial=0.0) < largest and np.min(a, initial=0.0) > -largest for a in results
        ):
            return False
    if case.dtype != "float64" and not is_large(spec):  # whose values are drawn near 1
        # A power, or in float16 a sum of squares, may leave the range on the way to a result that
        # does not: 1/inf is 0. Of the derived gradient only the value is meant, not the way.
        wide = oracle.kept(point)
        narrow = oracle.kept(case.point(draw(spec, case).tensors))
        if any(np.any(np.isfinite(wide[k]) & ~np.isfinite(y)) for k, y in narrow.items()):
            return False
    if case.values in AT_KINKS:
        return True
    return not on_a_kink(Vicinity(oracle, point, spec.differentiable, case.dtype, case.seed))
