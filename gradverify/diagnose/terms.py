"""Causes that follow from the derivation: a term missing, scaled, of the wrong sign, unsummed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np

from gradverify.calculus import weighted
from gradverify.calculus.compile import Oracle, most_at_once
from gradverify.calculus.typeset import Printer
from gradverify.calculus.unicode import Unicode
from gradverify.calculus.weighted import Term, Weighted
from gradverify.cases import Array, Case
from gradverify.diagnose.cause import LINEAR, TRIED, Both, Cause, Instead, Scaled
from gradverify.diagnose.coefficient import Coefficient, sized
from gradverify.diagnose.sample import MUCH_WORK, Sample
from gradverify.trial import make_oracle

# More terms than this are those of a whole network; the nearest to the tensor come first.
MOST_TERMS = 120
# Of a definition with more terms not all factors of sizes are tried for each.
MOST_TRIED = 30
# An un-summed term with more axes has too many sums to try.
MOST_AXES = 5
# Of the paths nearest to a tensor so many are paired.
MOST_PATHS = 6

Weights = dict[str, float]
Change = frozenset[tuple[str, float]]


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
    if factor.number != 1 or not factor.powers:
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


def whole(tensor: str, *, gradient: bool) -> Scaled:
    """Return that all of a gradient or an output is scaled."""
    what = f"the gradient of {tensor}" if gradient else f"the output {tensor}"

    def cause(factor: Coefficient) -> Cause:
        if factor.number == 0:
            return Cause("missing path", f"{what} is zero")
        return told(what, factor)

    return Scaled(lambda s, c: c * s.expected, cause)


def scaled_terms(sample: Sample) -> Iterator[Scaled]:
    """Yield, nearest to the tensor first, that a path or a summand of the derivation is scaled."""
    made = _summands(_oracle(sample))
    groups = _groups(sample, made)
    _ahead(made, sample, (dict.fromkeys((t.weight for t in own), factor)
                          for _, own in groups for factor in LINEAR))  # fmt: skip
    for what, own in groups:
        yield _scaled(made, what, own)


def _groups(sample: Sample, made: Weighted) -> list[tuple[str, list[Term]]]:
    """Return what may be scaled together, with what it is called: paths, and single terms."""
    oracle = _oracle(sample)
    terms, printer = _near(sample, made.terms), Printer(oracle.derivation, Unicode())
    outputs = oracle.program.declared.wanted
    through: dict[str, list[Term]] = {}
    for term in terms:
        if term.whole and term.to != sample.tensor:
            through.setdefault(term.to, []).append(term)
    groups = [(f"the path through {t}", own) for t, own in through.items()]
    for term in terms:
        path = f"the path from {term.source} to {term.to}"
        if term.whole and term.to == sample.tensor and term.source not in outputs:
            path = f"the path through {term.source}"
        shown = path if term.whole else f"the term {printer.text(term.value)} of {path}"
        groups.append((shown, [term]))
    return groups


def scaled_definition(sample: Sample) -> Iterator[Scaled]:
    """Yield that a summand of the definition is scaled, in the outputs and so in gradients."""
    oracle = _oracle(sample)
    made, printer = _definition(oracle), Printer(oracle.derivation, Unicode())
    # A gradient that is wrong by a factor of sizes is so by one of its own terms.
    few = len(made.terms) <= MOST_TRIED and not sample.of_gradient
    sizes = sample.counts if few else ()

    def tries(first: Sample) -> Iterable[Coefficient]:
        return sized(first.sizes, sizes)

    terms = made.terms[:MOST_TERMS]
    factors = {*LINEAR, *map(float, TRIED)}
    _ahead(made, sample, ({t.weight: factor} for t in terms for factor in sorted(factors)))
    for term in terms:
        what = f"in the forward, {term.to}"
        if not term.whole:
            what = f"in the forward, the term {printer.text(term.value)} of {term.to}"
        yield _scaled(made, what, [term], tries)


def _scaled(
    made: Weighted,
    what: str,
    terms: Sequence[Term],
    tries: Callable[[Sample], Iterable[Coefficient]] = lambda sample: (),
) -> Scaled:
    def at(sample: Sample, factor: float) -> Array:
        return _changed(made, sample, {t.weight: factor for t in terms})

    return Scaled(at, lambda factor: told(what, factor), tries)


def two_paths(sample: Sample) -> Iterator[Both]:
    """Yield that two of the paths nearest to the tensor are scaled at once."""
    made = _summands(_oracle(sample))
    paths = [(what, own) for what, own in _groups(sample, made) if all(t.whole for t in own)]
    for (one, some), (other, more) in combinations(paths[:MOST_PATHS], 2):

        def at(
            s: Sample, a: float, b: float, some: Sequence[Term] = some, more: Sequence[Term] = more
        ) -> Array:
            return _changed(made, s, {t.weight: a for t in some} | {t.weight: b for t in more})

        yield Both(_scaled(made, one, some), _scaled(made, other, more), at)


def dropped_factors(sample: Sample) -> Iterator[Instead]:
    """Yield that a factor of a term is forgotten."""
    oracle = _oracle(sample)
    made, printer = _factors(oracle), Printer(oracle.derivation, Unicode())
    terms = _near(sample, made.terms)
    _ahead(made, sample, ({t.weight: 0.0} for t in terms))
    for term in terms:
        what = printer.text(term.value)
        yield Instead(
            lambda s, weight=term.weight: _changed(made, s, {weight: 0.0}),  # type: ignore[misc]
            Cause("missing path", f"the factor {what} is missing in what flows from {term.source} "
                                  f"to {term.to}"),
        )  # fmt: skip


def other_reads(sample: Sample) -> Iterator[Instead]:
    """Yield that another tensor of the same shape is read."""
    oracle = _oracle(sample)
    made, printer = _reads(oracle), Printer(oracle.derivation, Unicode())
    terms = _near(sample, made.terms)
    with suppress(ValueError):  # a window of one tensor does not fit into the other
        _ahead(made, sample, ({t.weight: 1.0} for t in terms))
    for term in terms:
        assert term.instead is not None
        value, instead = printer.text(term.value), printer.text(term.instead)
        same = str(term.value).partition("[")[0] == str(term.instead).partition("[")[0]
        kind = "transposed" if same else "swapped"

        def at(s: Sample, weight: str = term.weight) -> Array | None:
            try:
                return _changed(made, s, {weight: 1.0})
            except ValueError:
                return None

        yield Instead(
            at, Cause(kind, f"{instead} is read where {value} is derived, in what flows from "
                             f"{term.source} to {term.to}"),
        )  # fmt: skip


def other_sums(sample: Sample) -> Iterator[Instead]:
    """Yield that the terms of the tensor's gradient are summed over other axes than derived."""
    found = list(weighted.unsummed(_oracle(sample).derivation, sample.tensor))
    if len(found) != 1 or len(found[0][0].loops) > MOST_AXES:
        return
    ((step, full),) = found
    letters, summed = [i for i, _ in step.loops], [i for i, _ in step.reduced]
    derived = ", ".join(summed) or "nothing"
    for count in range(len(letters) + 1):
        for axes in combinations(range(len(letters)), count):
            names = [i for k, i in enumerate(letters) if k not in axes]
            over = ", ".join(letters[k] for k in axes)
            if over == derived:
                continue
            how = f"summed over {over}" if axes else "not summed"
            text = f"the gradient of {sample.tensor} is {how}; derived is the sum over {derived}"
            kind = "axis" if count >= len(summed) else "broadcast"
            for order in permutations(range(len(names))):

                def total(
                    terms: Array, axes: tuple[int, ...] = axes, order: tuple[int, ...] = order
                ) -> Array:
                    return np.asarray(terms.sum(axis=axes).transpose(order))

                yield Instead(_of_terms(full, total), Cause(kind, text))
    reduced = tuple(k for k, i in enumerate(letters) if i in summed)

    def average(terms: Array) -> Array:
        return np.asarray(terms.sum(axis=reduced) / np.count_nonzero(terms, reduced).clip(1))

    if reduced:
        text = f"the gradient of {sample.tensor} is the mean of all terms that are not 0"
        yield Instead(_of_terms(full, average), Cause("count", f"{text}; derived is their sum"))
    for place, which in ((0, "first"), (-1, "last")) if reduced else ():

        def one(terms: Array, place: int = place) -> Array:
            index = tuple(place if k in reduced else slice(None) for k in range(terms.ndim))
            return np.asarray(terms[index])

        yield Instead(
            _of_terms(full, one),
            Cause("broadcast", f"the gradient of {sample.tensor} is the {which} term only, not "
                               f"the sum over {derived}"),
        )  # fmt: skip


def _of_terms(full: Oracle, change: Callable[[Array], Array]) -> Callable[[Sample], Array | None]:
    """Return what a change makes of the un-summed terms in a case."""

    def at(sample: Sample) -> Array | None:
        trial = sample.trial
        if trial.view.changes:
            return None
        _, pullback = full.run(trial.point)
        found = change(pullback(*trial.wide.cotangents)[sample.tensor])
        return found if found.shape == sample.got.shape else None

    return at


def _oracle(sample: Sample) -> Oracle:
    oracle = make_oracle(sample.trial.spec)
    assert oracle is not None
    return oracle


@lru_cache(maxsize=8)
def _summands(oracle: Oracle) -> Weighted:
    return weighted.weighted_summands(oracle.derivation)


@lru_cache(maxsize=8)
def _factors(oracle: Oracle) -> Weighted:
    return weighted.weighted_factors(oracle.derivation)


@lru_cache(maxsize=8)
def _reads(oracle: Oracle) -> Weighted:
    return weighted.weighted_reads(oracle.derivation)


@lru_cache(maxsize=8)
def _definition(oracle: Oracle) -> Weighted:
    return weighted.weighted_definition(oracle.derivation)


def _changed(made: Weighted, sample: Sample, weights: Weights) -> Array:
    """Return a gradient or an output as it is with other weights."""
    (found,) = _weighed(made, sample, [weights])
    return found[sample.tensor]


def _ahead(made: Weighted, sample: Sample, changes: Iterable[Weights]) -> None:
    """Compute together what will be asked of a sample with one weight after the other changed."""
    if sample.work <= MUCH_WORK:
        _weighed(made, sample, [{}, *changes])


def _weighed(made: Weighted, sample: Sample, changes: Sequence[Weights]) -> list[dict[str, Array]]:
    """Return all outputs and gradients, by name, with each of some changes of weights."""
    # The next tensor is tried with the same; of large ones that would fill the memory.
    known = _known(made.oracle, sample.case) if sample.work <= MUCH_WORK else {}
    plain = made.plain.items()
    keys = [frozenset(change.items() - plain) for change in changes]
    missing = [key for key in dict.fromkeys(keys) if key not in known]
    if missing:
        known |= zip(missing, _computed(made, sample, missing), strict=True)
    return [known[key] for key in keys]


@lru_cache(maxsize=64)
def _known(oracle: Oracle, case: Case) -> dict[Change, dict[str, Array]]:
    """Return where to keep what is known of a weighted oracle in a case."""
    return {}


def _computed(
    made: Weighted, sample: Sample, changes: Sequence[Change]
) -> Iterator[dict[str, Array]]:
    trial, spec, view = sample.trial, sample.trial.spec, sample.trial.view
    point = view.inside(trial.point)
    cotangents = view.given(spec.differentiable_outputs, trial.wide.cotangents)
    at_once = most_at_once((*point.tensors.values(), *cotangents))
    for first in range(0, len(changes), at_once):
        some = [made.plain | dict(change) for change in changes[first : first + at_once]]
        apart = {w: np.array([weights[w] for weights in some]) for w in made.plain}
        for outputs, gradients in made.several.run(point, cotangents, len(some), apart=apart):
            results = dict(zip(spec.outputs, outputs, strict=True))
            yield view.to_layer(results | gradients)


def _near(sample: Sample, terms: Sequence[Term]) -> list[Term]:
    """Return the terms that a tensor's gradient depends on, those of the last steps first."""
    flows = {(t.to, t.source) for t in _summands(_oracle(sample)).terms}
    found: list[Term] = []
    reached, frontier = {sample.tensor}, [sample.tensor]
    while frontier:
        found += [t for t in terms if t.to in frontier and t not in found]
        sources = [s for to, s in flows if to in frontier and s is not None and s not in reached]
        frontier = sorted(set(sources))
        reached |= set(frontier)
    return found[:MOST_TERMS]
