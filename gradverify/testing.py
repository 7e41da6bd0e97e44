"""gradverify in one's own tests: `check` a layer, or `parametrize` a test over layers and cases."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

from gradverify.errors import UsageError
from gradverify.layer import Layer, registered

if TYPE_CHECKING:
    from gradverify.cases import Array, Arrays, Case
    from gradverify.config import Profile
    from gradverify.result import Report

F = TypeVar("F", bound=Callable[..., Any])

_ARGUMENTS = ("layer", "check", "case")


def check(
    layer: Layer | Callable[..., Any],
    *,
    checks: Sequence[str] | None = None,
    profile: "str | Profile | None" = None,
    seed: int | None = None,
    sizes: Mapping[str, int] | None = None,
) -> "Report":
    """Verify a layer in a test, and fail it with the findings where a check does not pass.

    The arguments are those of `verify`, and the Report is returned. Of the checks only those that
    are named have to pass (default: all). Profile and seed are by default those that pytest was
    given: `--gradverify-profile`, `--gradverify-seed`, pyproject.toml. Raises AssertionError, whose
    text is the findings, and UsageError as `verify` does.
    """
    __tracebackhide__ = True
    from gradverify.engine import checked_names, verify
    from gradverify.outcome import Kind, outcome_of
    from gradverify.report import Page
    from gradverify.report.finding import show

    ours_profile, ours_seed = _defaults(profile, seed)
    report = verify(layer, profile=ours_profile, checks=checks, seed=ours_seed, sizes=sizes)
    (result,) = report.layers
    outcomes = {name: outcome_of(result, name) for name in checked_names(checks)}
    failed = {name: o for name, o in outcomes.items() if o.kind is Kind.FAILS}
    if not failed and all(o.kind is Kind.SKIPS for o in outcomes.values()):
        failed = outcomes  # never green on nothing
    if failed:
        told = [show(result.layer, f, Page()).plain for o in failed.values() for f in o.findings]
        bare = [f"{result.layer} · {n}: {o.reason}" for n, o in failed.items() if not o.findings]
        headline = f"{result.layer}: {next(iter(failed.values())).reason}"
        raise AssertionError("\n\n".join([headline, *told, *bare]))
    return report


@dataclass(frozen=True)
class DrawnCase:
    """A case for a test: what to call a layer with. `str(case)` is the line that names it.

    Arrays have the layout of the case and are made anew for every test; a layer may be handed them
    as they are. `cotangents` are in the order in which a pullback takes them.
    """

    layer: Layer
    case: "Case"

    def __str__(self) -> str:
        return str(self.case)

    @cached_property
    def _arrays(self) -> "Arrays":
        from gradverify.cases import draw

        return draw(self.layer.spec, self.case)

    @property
    def tensors(self) -> "dict[str, Array]":
        """The tensors that the layer is given, by name."""
        return self._arrays.tensors

    @property
    def cotangents(self) -> "tuple[Array, ...]":
        """A cotangent for each differentiable output."""
        return self._arrays.cotangents

    @property
    def constants(self) -> dict[str, Any]:
        """The constants by name."""
        return dict(self.case.constants)

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions by name."""
        return dict(self.case.sizes)


def parametrize(
    *layers: Layer | Callable[..., Any],
    checks: Sequence[str] | None = None,
    profile: "str | Profile | None" = None,
    seed: int | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Callable[[F], F]:
    """Parametrize a test over layers; what it gets is said by the names of its arguments.

    As with fixtures, a test takes what it names. `layer` is a Layer, one item each. `check` is the
    name of a check: one item per layer and check. `case` is a DrawnCase: one item per layer and
    case, of the same cases that `verify` would try.

        @gradverify.parametrize(my_batch_norm, my_layer_norm)
        def test_gradients(layer, check):
            gradverify.check(layer, checks=[check])

        @gradverify.parametrize(my_softmax, profile="quick")
        def test_rows_sum_to_one(case):
            y, pullback = my_softmax(**case.tensors, **case.constants)
            np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)

    The other arguments are those of `check`. Raises UsageError for a test that takes none of them,
    and as `verify` does.
    """
    if not layers:
        raise UsageError("gradverify.parametrize(): name a layer, or several")
    chosen = [each if isinstance(each, Layer) else registered(each) for each in layers]

    def decorate(function: F) -> F:
        import pytest

        wanted = [n for n in inspect.signature(function).parameters if n in _ARGUMENTS]
        if not wanted:
            raise UsageError(
                f"gradverify.parametrize: {function.__name__} takes none of the arguments "
                f"{', '.join(_ARGUMENTS)}, and would be called with nothing new"
            )
        rows = []
        for layer in chosen:
            values: dict[str, list[Any]] = {"layer": [layer]}
            if "check" in wanted:
                from gradverify.engine import checked_names

                values["check"] = sorted(checked_names(checks))
            if "case" in wanted:
                values["case"] = list(_cases(layer, profile, seed, sizes))
            for row in product(*values.values()):
                named = dict(zip(values, row, strict=True))
                label = "-".join([layer.name, *(str(v).replace(" ", ",") for v in row[1:])])
                rows.append(pytest.param(*(named[n] for n in wanted), id=label))
        marked: F = pytest.mark.parametrize(wanted, rows)(function)
        return marked

    return decorate


def _cases(
    layer: Layer,
    profile: "str | Profile | None",
    seed: int | None,
    sizes: Mapping[str, int] | None,
) -> Iterator[DrawnCase]:
    import numpy as np

    from gradverify.engine import profile_of
    from gradverify.ground import ground_of

    asked, number = _defaults(profile, seed)
    with np.errstate(all="ignore"):  # a layer is called to learn which dtypes it takes
        ground = ground_of(layer, profile_of(asked), number, sizes)
    for case in ground.cases:
        yield DrawnCase(layer, case)


def _defaults(profile: "str | Profile | None", seed: int | None) -> "tuple[str | Profile, int]":
    """Return profile and seed: as given, else those of the pytest that runs, else the usual."""
    from gradverify.pytest_plugin import RUNNING

    if RUNNING:
        from gradverify.plugin.settings import settings_of

        settings = settings_of(RUNNING[-1])
        profile = settings.chosen if profile is None else profile
        seed = settings.seed if seed is None else seed
    return profile or "default", seed or 0
