"""Whether a fault changes anything at all, and where: a fault that never shows is none."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice, product
from typing import Any

import numpy as np

from gradverify import sides
from gradverify.audit.fault import Array, Fault, Gradients, Point
from gradverify.calculus.derive import Derivation
from gradverify.calculus.exact import Exact, cost, evaluate_exactly
from gradverify.cases import Arrays, Case, cases, draw, solved, view_of, with_layout
from gradverify.cases.covering import factors_of
from gradverify.errors import SpecError
from gradverify.layer import Layer
from gradverify.spec import Spec
from gradverify.trial import make_oracle, settled
from gradverify.view import seen

# Two 50-digit numbers that differ by more of what they are the sums of are different: 20 digits
# are for what rounds on the way.
DIFFERENT = 1e-30
# What is compared in float64, since it is no function of derived gradients, differs by more than
# rounding, which is the same in both but for what is altered.
BY_ROUNDING = 1e-10
# 50-digit evaluation takes some hundred microseconds a term: half a second for one gradient.
MOST_TERMS = 5_000
# Beyond all blocks of vectorised code that a fault is planted at.
BEYOND = 67
# So many combinations of constants are tried there, with arrays drawn from this seed.
MOST_CHOICES, SEED = 8, 11
# Where float64 shows a difference it is looked at in 50 digits; that many times it may be wrong.
TRIES = 3


@dataclass(frozen=True)
class Site:
    """A case and its arrays; those of `kind`, inputs or parameters, may be made special."""

    spec: Spec
    case: Case
    special: str = ""
    kind: str = ""

    @cached_property
    def arrays(self) -> Arrays:
        """What a layer is called with."""
        drawn = draw(self.spec, self.case)
        if not self.special:
            return drawn
        change, declared = SPECIAL[self.special], self.spec.tensors
        made = {
            k: with_layout(change(v), self.case.layout)
            if declared[k].kind == self.kind and declared[k].differentiable
            and declared[k].range is None else v
            for k, v in drawn.tensors.items()
        }  # fmt: skip
        return Arrays(made, drawn.cotangents)

    @property
    def _wide(self) -> dict[str, Array]:
        return {k: np.asarray(v, float) if v.dtype.kind == "f" else v
                for k, v in self.arrays.tensors.items()}  # fmt: skip

    def point(self, pullback: Callable[..., Gradients]) -> Point:
        """Return the point at which a pullback is asked here."""
        return Point(self.spec, self.arrays.tensors, dict(self.case.constants),
                     self.arrays.cotangents, pullback)  # fmt: skip

    @cached_property
    def derived(self) -> Point:
        """The point with the derived pullback in float64."""
        oracle = make_oracle(self.spec)
        assert oracle is not None
        view = seen(oracle, view_of(self.spec, self.case))
        _, pullback = view.run(self._wide, dict(self.case.constants), dict(self.case.sizes))
        return self.point(lambda *dy: pullback(*(np.asarray(d, float) for d in dy)))

    @cached_property
    def exact(self) -> Point:
        """The point with the derived pullback in 50-digit arithmetic."""
        view, cotangents = view_of(self.spec, self.case), self.arrays.cotangents

        def pullback(*dy: Array) -> Gradients:
            own = all(a is b for a, b in zip(dy, cotangents, strict=True))
            found = self._derived_exactly if own else self.exactly(self._derivation, dy)
            return dict(view.to_layer(found.gradients))

        return self.point(pullback)

    @property
    def magnitudes(self) -> dict[str, float]:
        """The size of the largest sum of the absolute terms of each derived gradient."""
        found = self._derived_exactly.magnitudes
        return {k: float(max((abs(x) for x in v.flat), default=0)) for k, v in found.items()}

    @property
    def _derivation(self) -> Derivation:
        oracle = make_oracle(self.spec)
        assert oracle is not None
        return oracle.derivation

    @cached_property
    def _derived_exactly(self) -> Exact:
        return self.exactly(self._derivation, self.arrays.cotangents)

    def gradients_of(self, derivation: Derivation) -> Gradients:
        """Return the gradients that follow from a derivation, in 50-digit arithmetic."""
        found = self.exactly(derivation, self.arrays.cotangents)
        return dict(view_of(self.spec, self.case).to_layer(found.gradients))

    def exactly(self, derivation: Derivation, cotangents: Sequence[Array]) -> Exact:
        """Return what a derivation gives in 50-digit arithmetic, as the definition has it."""
        view, declared = view_of(self.spec, self.case), derivation.program.declared
        given = dict(zip(declared.seeded, cotangents, strict=True))
        return evaluate_exactly(
            derivation, view.to_definition(self.arrays.tensors), dict(self.case.constants),
            dict(self.case.sizes), tuple(view.to_definition(given).values()),
        )  # fmt: skip

    @property
    def terms(self) -> int:
        """How many terms the derived gradients have; elements, without a definition."""
        if make_oracle(self.spec) is None:
            return sum(v.size for v in self.arrays.tensors.values())
        return cost(self._derivation, self.case.at)

    @cached_property
    def smooth(self) -> bool:
        """Whether the definition is finite here, with no kink: there only one gradient is right."""
        oracle = make_oracle(self.spec)
        if oracle is None:
            return True
        gradients = self.derived.gradients.values()
        if not all(np.all(np.isfinite(g)) for g in gradients):
            return False
        place = sides.Point(
            seen(oracle, view_of(self.spec, self.case)), self._wide, dict(self.case.constants),
            dict(self.case.sizes), self.spec.differentiable, self.case.dtype, self.case.seed,
        )  # fmt: skip
        return not sides.on_a_kink(place)


def _some(array: Array, value: float) -> Array:
    flat = np.array(array).reshape(-1)
    flat[::2] = value
    return flat.reshape(array.shape)


# What values a site can be given that a case draws rarely or never.
SPECIAL: Mapping[str, Callable[[Array], Array]] = {
    "exact zeros": lambda x: _some(x, 0.0),
    "tiny values": lambda x: 1e-5 * x,
    "large values": lambda x: 30 * x,
    "equal values": lambda x: np.full_like(x, 0.75),
}


def sites_of(spec: Spec, chosen: Sequence[Case]) -> tuple[Site, ...]:
    """Return where to look for a difference: at the cases given, the cheapest first."""
    return _cheapest_first(Site(spec, case) for case in chosen)


def _cheapest_first(sites: Iterable[Site]) -> tuple[Site, ...]:
    return tuple(sorted(sites, key=lambda site: site.terms))


@lru_cache(maxsize=4)
def more_sites(spec: Spec) -> tuple[Site, ...]:
    """Return sites that cases may miss: longer dimensions and special values."""
    oracle = make_oracle(spec)
    plainest = {name: values[0] for name, values in factors_of(spec, ("float64",)).items()}
    small = {d: 2 + k % 2 for k, d in enumerate(spec.dims)}
    wanted: list[tuple[dict[str, Any], dict[str, int]]] = []
    for constants in spec.constant_choices[:MOST_CHOICES]:
        row = plainest | constants
        wanted += [(row, small), (row | {"layout": "F"}, small)]
        wanted += [(row, dict.fromkeys(spec.dims, others) | {dim: BEYOND})
                   for dim, others in product(spec.dims, (1, 2))]  # fmt: skip
    made = (solved(spec, row, sizes, SEED) for row, sizes in wanted)
    usable = (settled(spec, oracle, case) for case in made if case is not None)
    found = [Site(spec, case) for case in usable if case is not None]
    plain = [settled(spec, oracle, c) for c in islice(cases(spec, ("float64",), 0, 3), 6)]
    for special in SPECIAL:
        found += [Site(spec, case, special, kind) for case in plain if case is not None
                  for kind in ("input", "param")]  # fmt: skip
    return _cheapest_first(site for site in found if site.smooth)


@dataclass(frozen=True)
class Witness:
    """Where a fault shows: the site, and by how much of the tensor's largest gradient."""

    site: Site
    tensor: str | None
    difference: float


def witness(fault: Fault, layer: Layer, where: Iterable[Site]) -> Witness | None:
    """Return where a fault shows, None where no site shows it: it may be none at all."""
    if fault.alter is None or layer.spec.program is None:
        for site in where:
            if site.smooth and (tensor := _behaves_otherwise(fault, layer, site)) is not None:
                return Witness(site, tensor, float("inf"))
        return None
    try:
        return _exact_witness(fault, where)
    except (ArithmeticError, SpecError):  # what a changed definition says is no number anywhere
        return None


def _exact_witness(fault: Fault, where: Iterable[Site]) -> Witness | None:
    assert fault.alter is not None
    tries = 0
    for site in where:
        if not site.smooth:
            continue
        rough = _difference(site.derived.gradients, fault.alter(site.derived))
        if rough is None or rough[1] < 1e-12 or site.terms > MOST_TERMS:
            continue
        exact = site.exact.gradients
        if fault.derivation is None:
            altered = fault.alter(site.exact)
        else:
            altered = site.gradients_of(fault.derivation())
        found = _difference(exact, altered, site.magnitudes)
        if found is not None and found[1] > DIFFERENT:
            return Witness(site, found[0], float(found[1]))
        tries += 1
        if tries == TRIES:
            return None
    return None


def _difference(
    right: Gradients, wrong: Gradients, terms: Mapping[str, float] | None = None
) -> tuple[str, float] | None:
    """Return the tensor that differs most, and by how much of its terms or largest element."""
    found: list[tuple[float, str]] = []
    for tensor, g in right.items():
        other = wrong.get(tensor)
        if other is None or np.shape(other) != np.shape(g):
            return tensor, float("inf")
        a, b = np.asarray(g), np.asarray(other)
        if a.size == 0:
            continue
        with np.errstate(all="ignore"):
            most = terms[tensor] if terms else max(abs(x) for x in a.flat)
            off = max((abs(x - y) if x == x and y == y else float("inf"))
                      for x, y in zip(a.flat, b.flat, strict=True))  # fmt: skip
        if off:
            found.append((float(off / most) if most else float("inf"), tensor))
    return (max(found)[1], max(found)[0]) if found else None


def _behaves_otherwise(fault: Fault, layer: Layer, site: Site) -> str | None:
    """Return the tensor that the calls of a faulty layer show, "" for none in particular."""
    right, wrong = (behaviour(x, site) for x in (layer, fault.layer(layer)))
    if right is None or wrong is None:
        return None  # it raises: nothing that anyone has to be shown
    for key in {**right, **wrong}:
        if key not in right or key not in wrong or not _same(right[key], wrong[key]):
            return key[1]
    return None


Behaviour = dict[tuple[str, str], Any]


def behaviour(layer: Layer, site: Site) -> Behaviour | None:
    """Return what a layer does in calls one after the other, None where one raises."""
    case = site.case
    # Arrays of its own: a faulty layer may change them.
    given, fresh = (replace(site).arrays for _ in range(2))
    other = draw(site.spec, replace(case, seed=case.seed + 1))
    constants = dict(case.constants)
    found: Behaviour = {}

    def note(stage: str, values: Mapping[str, Any]) -> None:
        for k, v in values.items():
            array = None if v is None else np.array(v)
            found[stage, k] = array
            found[f"{stage}: dtype", k] = None if array is None else str(array.dtype)

    def cotangents() -> tuple[Array, ...]:
        return tuple(with_layout(np.array(dy), case.layout) for dy in fresh.cotangents)

    try:
        with np.errstate(all="ignore"):
            outputs, pullback = layer.forward(given.tensors, constants)
            named = dict(zip(site.spec.outputs, outputs, strict=True))
            note("output", named)
            first = layer.gradients(pullback, given.cotangents)
            note("gradient", first)
            note("second gradient", layer.gradients(pullback, cotangents()))
            note("given", given.tensors)
            note("cotangent", dict(zip(site.spec.differentiable_outputs, given.cotangents,
                                       strict=True)))  # fmt: skip
            _, another = layer.forward(other.tensors, constants)
            note("other gradient", layer.gradients(another, other.cotangents))
            note("kept output", named)
            note("kept gradient", first)
            note("late gradient", layer.gradients(pullback, cotangents()))
    except Exception:
        return None
    return found


def _same(a: Any, b: Any) -> bool:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray) and bool(a == b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fiub" or a.size == 0:
        return True
    x, y = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(all="ignore"):
        near = np.abs(x - y) <= BY_ROUNDING * np.max(np.abs(x), initial=0.0)
    return bool(np.all(near | (x == y) | (np.isnan(x) & np.isnan(y))))
