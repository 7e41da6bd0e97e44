"""Site: where a fault is looked for, with the derived gradients in float64 and in 50 digits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice, product
from typing import Any

import numpy as np

from gradverify.audit.fault import Array, Asked, Gradients
from gradverify.calculus.derive import Derivation
from gradverify.calculus.exact import Exact, cost, evaluate_exactly
from gradverify.cases import (
    AT_KINKS,
    Arrays,
    Case,
    cases,
    draw,
    solved,
    view_of,
    with_layout,
)
from gradverify.cases.covering import factors_of
from gradverify.regular import settled
from gradverify.sides import Vicinity, on_a_kink
from gradverify.spec import Spec
from gradverify.trial import make_oracle
from gradverify.view import seen

# Beyond all blocks of vectorised code that a fault is planted at.
BEYOND = 67
# So many combinations of constants are tried there, with arrays drawn from this seed.
MOST_CHOICES, SEED = 8, 11


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

    def point(self, pullback: Callable[..., Gradients]) -> Asked:
        """Return the point at which a pullback is asked here."""
        return Asked(self.spec, self.arrays.tensors, dict(self.case.constants),
                     self.arrays.cotangents, pullback)  # fmt: skip

    @cached_property
    def derived(self) -> Asked:
        """The point with the derived pullback in float64."""
        oracle = make_oracle(self.spec)
        assert oracle is not None
        view = seen(oracle, view_of(self.spec, self.case))
        _, pullback = view.run(self.case.point(self._wide))
        return self.point(lambda *dy: pullback(*(np.asarray(d, float) for d in dy)))

    @cached_property
    def exact(self) -> Asked:
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
        point = view.inside(self.case.point(self.arrays.tensors))
        return evaluate_exactly(derivation, point, view.given(declared.seeded, cotangents))

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
        if oracle is None:  # nobody knows, so what may be on a kink is left alone
            return self.case.values not in AT_KINKS and not self.special
        gradients = self.derived.gradients.values()
        if not all(np.all(np.isfinite(g)) for g in gradients):
            return False
        around = Vicinity(
            seen(oracle, view_of(self.spec, self.case)), self.case.point(self._wide),
            self.spec.differentiable, self.case.dtype, self.case.seed,
        )  # fmt: skip
        return not on_a_kink(around)


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


def sites_of(spec: Spec, chosen: Iterable[Case]) -> tuple[Site, ...]:
    """Return where to look for a difference: at the cases given, the cheapest first."""
    return _cheapest_first(Site(spec, case) for case in chosen)


def _cheapest_first(sites: Iterable[Site]) -> tuple[Site, ...]:
    return tuple(sorted(sites, key=lambda site: site.terms))


@lru_cache(maxsize=4)
def more_sites(spec: Spec) -> tuple[Site, ...]:
    """Return sites that cases may miss: longer dimensions, special values, float32 where small."""
    oracle = make_oracle(spec)
    plainest = {name: values[0] for name, values in factors_of(spec, ("float64",)).items()}
    small = {d: 2 + k % 2 for k, d in enumerate(spec.dims)}
    wanted: list[tuple[dict[str, Any], dict[str, int]]] = []
    for constants in spec.constant_choices[:MOST_CHOICES]:
        row = plainest | constants
        wanted += [(row | one, small) for one in ({}, {"layout": "F"}, {"dtype": "float32"})]
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
