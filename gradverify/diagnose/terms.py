"""Causes that follow from the derivation: a term missing, scaled, of the wrong sign, unsummed."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np

from gradverify.calculus.compile import Oracle
from gradverify.calculus.derive import Derivation, Step, in_order
from gradverify.calculus.typeset import Printer
from gradverify.calculus.unicode import Unicode
from gradverify.calculus.weighted import Term, Weighted, unsummed, weighted
from gradverify.cases import Array, view_of
from gradverify.diagnose.cause import Cause, Instead, Scaled
from gradverify.diagnose.coefficient import Coefficient
from gradverify.diagnose.sample import Sample
from gradverify.trial import make_oracle
from gradverify.view import seen

# More terms than this are those of a whole network; the nearest to the tensor come first.
MOST_TERMS = 120
# An un-summed term with more axes has too many sums to try.
MOST_AXES = 5

Changed = Callable[[Sample, dict[str, float]], Array]


def told(what: str, factor: Coefficient) -> Cause:
    """Return what a factor that multiplies something means."""
    if factor.number == 0:
        return Cause("missing path", f"{what} is missing")
    if factor.number == -1 and not factor.sized:
        return Cause("sign", f"{what} has the wrong sign")
    if factor.sized:
        meant = _counted(factor)
        return Cause("count", f"{what} is {factor} times what is derived{meant}")
    return Cause("factor", f"{what} is {factor} times what is derived")


def _counted(factor: Coefficient) -> str:
    """Return what a factor of sizes says of a count, such as N-1 where N is derived."""
    if factor.number != 1:
        return ""
    if factor.less is not None and factor.powers:
        name, side = factor.less
        return f": {name}-1 where {name} is derived" if side < 0 else (
            f": {name} where {name}-1 is derived"
        )  # fmt: skip
    under = [d for d, p in factor.powers if p == -1]
    if len(under) == len(factor.powers):
        return f": a mean over {' and '.join(under)} where the sum is derived"
    if all(p == 1 for _, p in factor.powers):
        return f": not divided by {'*'.join(d for d, _ in factor.powers)}"
    return ""


def whole(tensor: str) -> Scaled:
    """Return that all of a gradient or an output is scaled."""
    return Scaled(lambda s, c: c * s.expected, lambda c: told(f"all of {tensor}", c))


def scaled_terms(sample: Sample) -> Iterator[Scaled]:
    """Yield, nearest to the tensor first, that a path or a summand of the derivation is scaled."""
    oracle = _oracle(sample)
    changed, weights = _weights(oracle, sample.tensor)
    printer = Printer(oracle.derivation, Unicode())
    outputs = oracle.program.declared.wanted
    through: dict[str, list[Term]] = {}
    for term in weights:
        if term.whole and term.to != sample.tensor:
            through.setdefault(term.to, []).append(term)
    groups: list[tuple[str, list[Term]]] = [
        (f"the path through {t}", terms) for t, terms in through.items()
    ]
    for term in weights:
        path = f"the path from {term.source} to {term.to}"
        if term.whole and term.to == sample.tensor and term.source not in outputs:
            path = f"the path through {term.source}"
        text = printer.text(term.value)
        groups.append((path if term.whole else f"the term {text} of {path}", [term]))
    for what, terms in groups:
        yield Scaled(
            lambda s, c, terms=terms: changed(s, {t.weight: c for t in terms}),  # type: ignore[misc]
            lambda c, what=what: told(what, c),  # type: ignore[misc]
        )


def two_paths(sample: Sample) -> Iterator[Instead]:
    """Yield that two paths to the tensor are missing at once."""
    changed, weights = _weights(_oracle(sample), sample.tensor)
    tensors = list(dict.fromkeys(t.to for t in weights if t.to != sample.tensor and t.whole))
    for a, b in combinations(tensors[:8], 2):
        dropped = {t.weight: 0.0 for t in weights if t.to in (a, b) and t.whole}
        yield Instead(
            lambda s, dropped=dropped: changed(s, dropped),  # type: ignore[misc]
            Cause("missing path", f"the paths through {a} and {b} are missing"),
        )


def dropped_factors(sample: Sample) -> Iterator[Instead]:
    """Yield that a factor of a term is forgotten."""
    oracle = _oracle(sample)
    changed, weights = _weights(oracle, sample.tensor, factors=True)
    printer = Printer(oracle.derivation, Unicode())
    for term in weights:
        what = printer.text(term.value)
        yield Instead(
            lambda s, weight=term.weight: changed(s, {weight: 0.0}),  # type: ignore[misc]
            Cause("missing path", f"the factor {what} is missing in what flows from {term.source} "
                                  f"to {term.to}"),
        )  # fmt: skip


def other_sums(sample: Sample) -> Iterator[Instead]:
    """Yield that the terms of the tensor's gradient are summed over other axes than derived."""
    d = _oracle(sample).derivation
    steps = [s for s in in_order(d.vjp) if s.target == d.cotangents.get(sample.tensor)]
    if len(steps) != 1 or len(steps[0].loops) > MOST_AXES:
        return
    step = steps[0]
    letters = [i for i, _ in step.loops]
    kept = [i for i in letters if i not in {j for j, _ in step.reduced}]
    full = _full(d, step)
    for count in range(len(letters) + 1):
        for axes in combinations(range(len(letters)), count):
            over = ", ".join(letters[k] for k in axes)
            names = [i for k, i in enumerate(letters) if k not in axes]
            if names == kept:
                continue
            how = f"summed over {over}" if axes else "not summed"
            derived = ", ".join(i for i, _ in step.reduced) or "nothing"
            text = f"the gradient of {sample.tensor} is {how}; derived is the sum over {derived}"
            kind = "axis" if count >= len(step.reduced) else "broadcast"
            for order in permutations(range(len(names))):
                yield Instead(_summed(full, axes, order), Cause(kind, text))
    reduced = tuple(k for k, i in enumerate(letters) if i not in kept)
    if reduced:
        over = ", ".join(letters[k] for k in reduced)
        for place, which in ((0, "first"), (-1, "last")):
            yield Instead(
                _taken(full, reduced, place),
                Cause("broadcast", f"the gradient of {sample.tensor} is the {which} term only, "
                                   f"not the sum over {over}"),
            )  # fmt: skip


def _summed(
    full: Callable[[Sample], Array | None], axes: tuple[int, ...], order: tuple[int, ...]
) -> Callable[[Sample], Array | None]:
    def at(sample: Sample) -> Array | None:
        terms = full(sample)
        if terms is None:
            return None
        found = terms.sum(axis=axes).transpose(order)
        return found if found.shape == sample.got.shape else None

    return at


def _taken(
    full: Callable[[Sample], Array | None], axes: tuple[int, ...], place: int
) -> Callable[[Sample], Array | None]:
    def at(sample: Sample) -> Array | None:
        terms = full(sample)
        if terms is None:
            return None
        index = tuple(place if k in axes else slice(None) for k in range(terms.ndim))
        found = np.asarray(terms[index])
        return found if found.shape == sample.got.shape else None

    return at


def _oracle(sample: Sample) -> Oracle:
    oracle = make_oracle(sample.trial.spec)
    assert oracle is not None
    return oracle


@lru_cache(maxsize=16)
def _weighted(oracle: Oracle, factors: bool) -> Weighted:
    return weighted(oracle.derivation, factors=factors)


def _weights(
    oracle: Oracle, tensor: str, *, factors: bool = False
) -> tuple[Changed, Sequence[Term]]:
    """Return the gradient of a tensor as a function of some weights, and those it depends on."""
    made = _weighted(oracle, factors)

    def changed(sample: Sample, weights: dict[str, float]) -> Array:
        trial = sample.trial
        found = seen(made.oracle, view_of(trial.spec, trial.case))
        constants = {**trial.constants, **made.ones, **weights}
        _, pullback = found.run(trial.wide.tensors, constants, trial.sizes)
        return pullback(*trial.wide.cotangents)[tensor]

    return changed, _near(made.terms, tensor)


def _near(terms: Sequence[Term], tensor: str) -> list[Term]:
    """Return the terms that a tensor's gradient depends on, those of the last steps first."""
    found: list[Term] = []
    reached, frontier = {tensor}, [tensor]
    while frontier:
        step = [t for t in terms if t.to in frontier]
        found += [t for t in step if t not in found]
        frontier = [s for s in dict.fromkeys(t.source for t in step) if s not in reached]
        reached |= set(frontier)
    return found[:MOST_TERMS]


def _full(d: Derivation, step: Step) -> Callable[[Sample], Array | None]:
    oracle = unsummed(d, step)

    def at(sample: Sample) -> Array | None:
        trial = sample.trial
        view = view_of(trial.spec, trial.case)
        if view.changes:
            return None
        _, pullback = oracle.run(trial.wide.tensors, trial.constants, trial.sizes)
        return pullback(*trial.wide.cotangents)[sample.tensor]

    return at
