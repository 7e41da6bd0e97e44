"""A derivation that computes everything several times at once, along an axis of its own."""

from dataclasses import replace

from gradverify.calculus.derive import Derivation, Order, Step, fresh, in_order
from gradverify.notation.schedule import Block
from gradverify.notation.statements import Program
from gradverify.notation.tree import Expr, Name, Read


def repeated(d: Derivation) -> tuple[Derivation, str]:
    """Return a derivation whose tensors have one more axis, their first, and the name of its size.

    What stands at one place along that axis depends on nothing at another. Integer tensors stay as
    they are. Only its forward and its vjp are meant to be compiled.
    """
    program, declared = d.program, d.program.declared
    taken = {*d.shapes, *declared.sizes, *declared.constants}
    taken |= {
        index for order in (d.forward, d.vjp) for step in in_order(order) for index, _ in step.loops
    }
    size, letter = fresh("REPEATS", taken), Name(fresh("repeat", taken))
    integers = declared.integers

    def shapes(found: dict[str, tuple[Expr, ...]]) -> dict[str, tuple[Expr, ...]]:
        return {t: s if t in integers else (Name(size), *s) for t, s in found.items()}

    def step(one: Step) -> Step:
        reads = {
            k: r if r.tensor in integers else Read(r.tensor, (letter, *r.subscripts))
            for k, r in one.reads.items()
        }
        loops = ((letter.id, Name(size)), *one.loops)
        return replace(one, subscripts=(letter, *one.subscripts), loops=loops, reads=reads)

    def order(steps: Order) -> Order:
        return tuple(
            Block(tuple(map(step, entry.steps))) if isinstance(entry, Block) else step(entry)
            for entry in steps
        )

    own = replace(declared, shapes=shapes({**declared.shapes}), sizes=declared.sizes | {size})
    made: Program = replace(program, shapes=shapes({**program.shapes}), declared=own)
    return replace(
        d, program=made, forward=order(d.forward), vjp=order(d.vjp), shapes=shapes({**d.shapes})
    ), size
