"""A derivation that computes everything several times at once, along an axis of its own."""

from collections.abc import Collection
from dataclasses import replace

from gradverify.calculus.derive import Derivation, Order, Step, fresh, in_order
from gradverify.notation.schedule import Block
from gradverify.notation.statements import Program
from gradverify.notation.tree import Expr, Name, Read


def repeated(d: Derivation, apart: Collection[str] = ()) -> tuple[Derivation, str]:
    """Return a derivation whose tensors have one more axis, their first, and the name of its size.

    What stands at one place along that axis depends on nothing at another. Integer tensors stay as
    they are; constants that are `apart`, of which no size is made, become tensors with that axis
    alone, given after the others. Only its forward and its vjp are meant to be compiled.
    """
    program, declared = d.program, d.program.declared
    taken = {*d.shapes, *declared.sizes, *declared.constants}
    taken |= {
        index for order in (d.forward, d.vjp) for step in in_order(order) for index, _ in step.loops
    }
    size, letter = fresh("REPEATS", taken), Name(fresh("repeat", taken))
    integers = declared.integers

    def shapes(found: dict[str, tuple[Expr, ...]]) -> dict[str, tuple[Expr, ...]]:
        own = {t: s if t in integers else (Name(size), *s) for t, s in found.items()}
        return own | dict.fromkeys(apart, (Name(size),))

    def step(one: Step) -> Step:
        reads = {
            k: r if r.tensor in integers else Read(r.tensor, (letter, *r.subscripts))
            for k, r in one.reads.items()
        }
        reads |= {k: Read(k.name, (letter,)) for k in one.value.free_symbols if k.name in apart}
        loops = ((letter.id, Name(size)), *one.loops)
        return replace(one, subscripts=(letter, *one.subscripts), loops=loops, reads=reads)

    def order(steps: Order) -> Order:
        return tuple(
            Block(tuple(map(step, entry.steps))) if isinstance(entry, Block) else step(entry)
            for entry in steps
        )

    own = replace(
        declared,
        given=(*declared.given, *apart),
        constants=tuple(c for c in declared.constants if c not in apart),
        shapes=shapes({**declared.shapes}),
        sizes=declared.sizes | {size},
    )
    made: Program = replace(program, shapes=shapes({**program.shapes}), declared=own)
    return replace(
        d, program=made, forward=order(d.forward), vjp=order(d.vjp), shapes=shapes({**d.shapes})
    ), size
