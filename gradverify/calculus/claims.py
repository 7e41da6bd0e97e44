"""Gradient equations that a person wrote, read against a derivation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradverify.calculus.derive import Derivation, Gradient, Order, Step, derive, gradient_program
from gradverify.errors import SpecError
from gradverify.notation.check import check_program
from gradverify.notation.parse import Source, parse_equations
from gradverify.notation.ranges import Declared
from gradverify.notation.schedule import Block
from gradverify.notation.statements import lower
from gradverify.notation.tree import Expr, Read


@dataclass(frozen=True)
class Claims:
    """Equations about cotangents, beside the derivation of the same cotangents.

    `names` maps each tensor that the equations define to the name that it has in `order` and
    `shapes`, where it is apart from the derived one; `judged` maps those that are cotangents of
    the definition to the derived tensor, or to None where that is 0. `program` computes what is
    claimed from the tensors and the cotangents of the outputs.
    """

    derivation: Derivation
    gradient: Gradient
    names: Mapping[str, str]
    judged: Mapping[str, str | None]
    order: Order
    shapes: Mapping[str, tuple[Expr, ...]]
    equations: Mapping[str, str]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The claimed steps, blocks taken apart."""
        return tuple(s for e in self.order for s in (e.steps if isinstance(e, Block) else (e,)))


def read_claims(
    derivation: Derivation, source: Source, sizes: Iterable[Mapping[str, Any]] = ()
) -> Claims:
    """Return the equations of a text about the gradients of a definition.

    They may name the tensors of the definition, cotangents as the derivation calls them, and
    tensors of their own. Raises SpecError, with the place, for what a definition may not hold
    either, and for equations of which none is about a gradient.
    """
    gradient, _ = gradient_program(derivation)
    program, declared = derivation.program, derivation.program.declared
    cotangents = {d: t for t, d in derivation.cotangents.items()}
    wanted = dict(zip(gradient.declared.wanted, derivation.wrt, strict=True))
    # A person calls dy what is given, also where another equation adds to it.
    cotangents_given = gradient.declared.given[len(declared.given) :]
    seeds = {f"d{y}": c for y, c in zip(declared.wanted, cotangents_given, strict=True)}
    equations = parse_equations(source)
    targets = dict.fromkeys(e.target for e in equations)
    for e in equations:
        if e.target in seeds or e.target in program.shapes:
            what = "given" if e.target in seeds else "part of the definition"
            raise source.error(f"{e.target} is {what}: write an equation for a gradient", e.at)
    about = {t for t in targets if t in cotangents or t in wanted}
    if not about:
        known = ", ".join(sorted({*wanted, *cotangents} - {*seeds}))
        raise SpecError(
            f"the {source.what} define no gradient of the definition; these are {known}"
        )
    visible = [t for t in program.shapes if t not in program.hoisted]
    derived = [t for t in (*wanted, *cotangents) if t not in targets and t not in seeds]
    given = tuple(dict.fromkeys([*visible, *seeds, *derived]))
    own = Declared(
        shapes={t: gradient.shapes[seeds.get(t, t)] for t in (*given, *about)},
        given=given,
        wanted=(),
        integers=declared.integers,
        sizes=declared.sizes,
        constants=declared.constants,
        ranges=declared.ranges,
        outside=declared.outside,
    )
    claimed = lower(equations, source, own)
    check_program(claimed, source, sizes)
    names = {t: _apart(t, {*gradient.shapes}) for t in claimed.shapes if t not in given} | seeds
    order = tuple(
        Block(tuple(_called(s, names) for s in e.steps)) if isinstance(e, Block)
        else _called(e, names)
        for e in derive(claimed, ()).forward
    )  # fmt: skip
    shown = {}
    for e in equations:
        line = source.text.splitlines()[e.at[0] - 1].strip()
        shown[e.target] = f"{shown[e.target]}\n{line}" if e.target in shown else line
    written = {s.target for s in gradient.steps}
    return Claims(
        derivation,
        gradient,
        names,
        {t: t if t in written else None for t in targets if t in about},
        order,
        {names[t]: claimed.shapes[t] for t in names if t not in seeds},
        shown,
    )


def _apart(name: str, taken: set[str]) -> str:
    found = f"{name}_claimed"
    while found in taken:
        found += "_"
    return found


def _called(step: Step, names: Mapping[str, str]) -> Step:
    """Return a step with other names for what the equations define."""

    def renamed(read: Read) -> Read:
        return replace(read, tensor=names.get(read.tensor, read.tensor))

    return replace(
        step,
        target=names.get(step.target, step.target),
        reads={k: renamed(r) for k, r in step.reads.items()},
        pick=None if step.pick is None else _apart(step.pick, set()),
    )
