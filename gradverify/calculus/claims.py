"""Gradient equations that a person wrote, read against a derivation."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from gradverify.calculus.derive import (
    Derivation,
    Gradient,
    Step,
    derive,
    in_order,
)
from gradverify.calculus.gradient import gradient_program, seed_names
from gradverify.errors import SpecError, few
from gradverify.notation.check import check_program
from gradverify.notation.parse import Equation, Source, parse_equations
from gradverify.notation.ranges import Declared
from gradverify.notation.statements import lower
from gradverify.notation.tree import Name, Read, walk


@dataclass(frozen=True)
class Claims:
    """Equations about cotangents, beside the derivation of the same cotangents.

    `program` computes both from the tensors and the cotangents of the outputs: it wants, for each
    tensor of `judged`, first what is claimed and then what is derived. `names` maps what the
    equations define, and the given cotangents, to the names that they have in `program`.
    """

    derivation: Derivation
    program: Gradient
    names: Mapping[str, str]
    judged: Mapping[str, str]
    equations: tuple[Equation, ...]

    @property
    def seeds(self) -> dict[str, str]:
        """The given cotangents, one for each output, by what a person calls them."""
        return seed_names(self.derivation.program, self.program)


def read_claims(
    derivation: Derivation, source: Source, sizes: Iterable[Mapping[str, Any]] = ()
) -> Claims:
    """Return the equations of a text about the gradients of a definition."""
    equations = [e for e in parse_equations(source) if isinstance(e, Equation)]
    return claims(derivation, equations, source, sizes)


def claims(
    derivation: Derivation,
    equations: Sequence[Equation],
    source: Source,
    sizes: Iterable[Mapping[str, Any]] = (),
) -> Claims:
    """Return equations about the gradients of a definition, which stand in `source`.

    They may name the tensors of the definition, cotangents as the derivation calls them, and
    tensors of their own. Raises SpecError, with the place, for what a definition may not hold
    either, and for equations of which none is about a gradient.
    """
    gradient, _ = gradient_program(derivation)
    program, declared = derivation.program, derivation.program.declared
    cotangents = {d: t for t, d in derivation.cotangents.items()}
    wanted = dict(zip(gradient.declared.wanted, derivation.wrt, strict=True))
    seeds = seed_names(program, gradient)
    targets = dict.fromkeys(e.target for e in equations)
    for e in equations:
        if e.target in seeds or e.target in program.shapes:
            what = "given" if e.target in seeds else "part of the definition"
            raise source.error(f"{e.target} is {what}: write an equation for a gradient", e.at)
    about = {t for t in targets if t in cotangents or t in wanted}
    known = sorted({*wanted, *cotangents} - {*seeds})
    _check_targets(equations, source, about, known)
    # What a path holds beside its tensor, initial values, has no name of the user's.
    hidden = program.hoisted | {t for t in program.origins if t not in declared.shapes}
    hidden |= {derivation.cotangents[t] for t in hidden if t in derivation.cotangents}
    visible = [t for t in program.shapes if t not in hidden]
    derived = [t for t in (*wanted, *cotangents)
               if t not in targets and t not in seeds and t not in hidden]  # fmt: skip
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
        limits=declared.limits,
        listed=declared.listed,
    )
    claimed = lower(equations, source, own)
    check_program(claimed, source, sizes)
    names = {t: _apart(t, {*gradient.shapes}) for t in claimed.shapes if t not in given} | seeds
    steps = [_called(s, names) for s in in_order(derive(claimed, ()).forward)]
    judged = {t: t for t in targets if t in about}
    program = replace(
        gradient,
        steps=(*gradient.steps, *steps),
        shapes={**gradient.shapes, **{names[t]: claimed.shapes[t] for t in claimed.shapes
                                      if t in names and t not in seeds}},
        scattered=gradient.scattered | {s.target for s in steps},
        declared=replace(
            gradient.declared, wanted=tuple(n for t in judged for n in (names[t], judged[t]))
        ),
    )  # fmt: skip
    return Claims(derivation, program, names, judged, tuple(equations))


def _check_targets(
    equations: Sequence[Equation], source: Source, about: Collection[str], known: Sequence[str]
) -> None:
    """Raise SpecError where no equation is `about` a gradient, or one is of no use: what nobody
    reads is no help for a claim, but a claim of which the name is wrong."""
    read = {x.tensor if isinstance(x, Read) else x.id
            for e in equations for x in walk(e.body) if isinstance(x, Read | Name)}  # fmt: skip
    claimable = f"what can be claimed is {few(known, 10)}"
    for e in equations:
        if e.target not in about and e.target not in read:
            close = get_close_matches(e.target, known, 1)
            hint = f"did you mean {close[0]}?" if close else claimable
            raise source.error(f"{e.target} is no gradient of the definition; {hint}", e.at)
    if not about:
        raise SpecError(f"the {source.what} define no gradient; {claimable}")


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
