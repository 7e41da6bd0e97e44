"""The gradient of a program as a program of its own, to be differentiated again."""

from dataclasses import replace

import sympy

from gradverify.calculus.derive import Derivation, Gradient, Step, fresh, in_order, read_symbol
from gradverify.notation.statements import Program
from gradverify.notation.tree import Expr, Name, Read


def gradient_program(d: Derivation) -> tuple[Gradient, tuple[str, ...]]:
    """Return the program that computes the gradients of a derivation, and what to differentiate
    it with respect to: the same tensors, and the cotangents of the outputs.

    The steps of a vjp are of the form of those of a forward, so that all that holds for a
    program holds for its gradient: the vjp of a Gradient is the double backward, its jvp along
    the tensors a product with the Hessian.
    """
    program, declared = d.program, d.program.declared
    shapes = {t: s for t, s in d.shapes.items() if t not in d.tangents.values()}
    taken = {*shapes, *declared.sizes, *declared.constants}
    forward, vjp = in_order(d.forward), in_order(d.vjp)
    written = {s.target for s in vjp}
    between: list[Step] = []
    given, wanted = [], []
    for y in declared.seeded:
        total = d.cotangents.get(y)
        if total is not None and total not in written:
            given.append(total)
            continue
        given.append(fresh(f"d{y}", taken))
        shapes[given[-1]] = shapes[y]
        if total is not None:
            # Another equation reads this output: what is given is not all of its cotangent.
            between.append(_copy(total, given[-1], shapes[y]))
    for t in d.wrt:
        name = d.cotangents.get(t)
        if name is None:
            name = fresh(f"d{t}", taken)
            shapes[name] = shapes[t]
            between.append(_copy(name, None, shapes[t]))
        wanted.append(name)
    outside = {d.cotangents[t]: 0.0 for t in declared.outside if t in d.cotangents}
    own = replace(
        declared,
        given=(*declared.given, *given),
        wanted=tuple(wanted),
        outside={**declared.outside, **outside},
        shapes={t: shapes[t] for t in (*declared.given, *given, *wanted)},
    )
    found = Gradient(
        (), shapes, own.outside, program.origins, program.scattered | written, program.hoisted, own,
        (*forward, *between, *vjp), d.kinds,
    )  # fmt: skip
    return found, (*d.wrt, *given)


def seed_names(program: Program, gradient: Gradient) -> dict[str, str]:
    """Return, by what a person calls the given cotangent of each output, its name in `gradient`.

    That is dy, also where another equation adds to it, unless a tensor is called so.
    """
    seeds = gradient.declared.given[len(program.declared.given) :]
    pairs = zip(program.declared.seeded, seeds, strict=True)
    return {c if f"d{y}" in program.shapes else f"d{y}": c for y, c in pairs}


def _copy(target: str, source: str | None, shape: tuple[Expr, ...]) -> Step:
    """Return the step that adds a tensor, or 0, to another of the same shape."""
    letters = tuple(Name(f"{target}_{k}") for k in range(len(shape)))
    loops = tuple((i.id, n) for i, n in zip(letters, shape, strict=True))
    if source is None:
        return Step(target, letters, "sum", loops, sympy.S.Zero, {})
    read = Read(source, letters)
    return Step(target, letters, "sum", loops, read_symbol(read), {read_symbol(read): read})
