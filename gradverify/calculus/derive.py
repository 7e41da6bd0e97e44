"""Reverse and forward mode on statements: scalar derivatives, and gather for scatter."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.functions import Equal, Negation, Select, StopGradient, scalar
from gradverify.errors import SpecError
from gradverify.notation.schedule import Block, schedule
from gradverify.notation.statements import Loops, Program
from gradverify.notation.tree import Expr, Name, Read, text, walk

_NO_NUMBERS = (sympy.nan, sympy.zoo, sympy.I)


@dataclass(frozen=True)
class Step:
    """`target[subscripts] += value` over the loops, or `max=` for kind "max".

    `value` is a sympy expression in one symbol per read; `reads` maps these symbols. A max step
    with `pick` also writes that tensor, one-hot over the reduced indices, of the first maximum;
    it has an axis for every loop (`pick_loops`), whatever the subscripts of the target are.
    """

    target: str
    subscripts: tuple[Expr, ...]
    kind: str
    loops: Loops
    value: Scalar
    reads: Mapping[sympy.Symbol, Read]
    guarded: bool = False
    pick: str | None = None
    at: tuple[int, ...] = (1, 0)

    @cached_property
    def sources(self) -> frozenset[str]:
        """The tensors that the step reads, in its value and in subscripts."""
        inside = (e for s in self.subscripts for e in walk(s))
        nested = (e for r in self.reads.values() for e in walk(r))
        return frozenset(e.tensor for e in (*inside, *nested) if isinstance(e, Read))

    @property
    def reduced(self) -> Loops:
        """The loops whose index does not stand on the left side."""
        left = {e.id for s in self.subscripts for e in walk(s) if isinstance(e, Name)}
        return tuple((i, n) for i, n in self.loops if i not in left)

    @property
    def pick_loops(self) -> Loops:
        """All loops, those that are reduced last."""
        reduced = self.reduced
        return (*(loop for loop in self.loops if loop not in reduced), *reduced)


Order = tuple[Step | Block[Step], ...]


@dataclass(frozen=True)
class Derivation:
    """A definition with its derivatives.

    `cotangents` and `tangents` map a tensor to the name of its cotangent and tangent; only
    tensors that lie between a differentiable input and an output have one. `shapes` are those
    of every tensor, cotangents and tangents included.
    """

    program: Program
    wrt: tuple[str, ...]
    forward: Order
    vjp: Order
    jvp: Order
    cotangents: Mapping[str, str]
    tangents: Mapping[str, str]
    shapes: Mapping[str, tuple[Expr, ...]]


def derive(program: Program, wrt: Sequence[str]) -> Derivation:
    """Return the forward, vjp and jvp of a program with respect to the tensors `wrt`.

    For each occurrence X[e(L)] in a statement T[f(L)] += value, the vjp adds
    dX[e(L)] += dT[f(L)] * d value/d occurrence over the same loops: gather and scatter swap.
    Raises SpecError for a value or derivative that is no number whatever the tensors hold.
    """
    sizes = program.declared.sizes
    taken = set(program.shapes) | sizes | set(program.declared.constants)
    steps = []
    for s in program.statements:
        reads: dict[sympy.Symbol, Read] = {}
        value = scalar(s.body, reads, sizes)
        if value.has(*_NO_NUMBERS):
            raise SpecError(f"{s.target} is a real number nowhere: it is {text(s.body)}")
        used = {k: r for k, r in reads.items() if k in value.free_symbols}
        pick = _fresh(f"{s.target}_pick", taken) if s.kind == "max" else None
        steps.append(
            Step(s.target, s.subscripts, s.kind, s.loops, value, used, s.guarded, pick, s.at)
        )
    # A statement that is the only one of its equation is the whole value of what it defines.
    terms = Counter((s.target, s.at) for s in steps)
    partials = {}
    for k, step in enumerate(steps):
        whole = terms[step.target, step.at] == 1 and step.target not in program.scattered
        for symbol in step.reads:
            derivative = sympy.diff(step.value, symbol)
            if derivative.has(*_NO_NUMBERS):
                raise SpecError(f"{step.target} has no derivative in {text(step.reads[symbol])}")
            if derivative != 0:
                partials[k, symbol] = _in_terms_of_target(step, derivative) if whole else derivative
    active = _active(steps, partials, wrt, program.declared.wanted)
    cotangents = {t: _fresh(f"d{t}", taken) for t in active}
    tangents = {t: _fresh(f"{t}_dot", taken) for t in active}
    shapes = dict(program.shapes)
    shapes |= {cotangents[t]: shapes[t] for t in active}
    shapes |= {tangents[t]: shapes[t] for t in active}
    shapes |= {s.pick: tuple(n for _, n in s.pick_loops) for s in steps if s.pick}
    forward = schedule(steps)
    # The vjp goes through the steps backwards; `schedule` then only has to find the loops.
    position = {id(s): k for k, s in enumerate(steps)}
    flat = [s for entry in forward for s in (entry.steps if isinstance(entry, Block) else [entry])]
    vjp, jvp = [], []
    for step in flat:
        for symbol, read in step.reads.items():
            partial = partials.get((position[id(step)], symbol))
            if partial is None or read.tensor not in active or step.target not in active:
                continue
            vjp.append(_adjoint(step, read, partial, cotangents))
            jvp.append(_push(step, read, partial, tangents))
    return Derivation(
        program, tuple(wrt), forward, schedule(vjp[::-1]), schedule(jvp), cotangents, tangents,
        shapes,
    )  # fmt: skip


def _in_terms_of_target(step: Step, derivative: Scalar) -> Scalar:
    """Write a derivative by the statement's value where it occurs: sigma for sqrt(var + eps)."""
    if step.kind != "sum" or step.reduced or step.value.is_Atom or derivative.is_Atom:
        return derivative
    if isinstance(step.value, sympy.Add | sympy.Mul | StopGradient):
        return derivative
    own = _symbol(Read(step.target, step.subscripts))
    return derivative.subs(step.value, own)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _active(
    steps: Sequence[Step],
    partials: Mapping[tuple[int, sympy.Symbol], Scalar],
    wrt: Iterable[str],
    outputs: Iterable[str],
) -> tuple[str, ...]:
    """Return the tensors that depend on `wrt` and that an output depends on."""
    edges = [(steps[k].reads[symbol].tensor, steps[k].target) for k, symbol in partials]

    def reach(start: Iterable[str], links: Sequence[tuple[str, str]]) -> dict[str, None]:
        found = dict.fromkeys(start)
        while new := [b for a, b in links if a in found and b not in found]:
            found |= dict.fromkeys(new)
        return found

    below = reach(wrt, edges)
    above = reach(outputs, [(b, a) for a, b in edges])
    return tuple(t for t in below if t in above)


def _picked(step: Step) -> dict[sympy.Symbol, Read]:
    """Return the read of a max step's one-hot, or nothing for a sum."""
    if step.pick is None:
        return {}
    read = Read(step.pick, tuple(Name(i) for i, _ in step.pick_loops))
    return {_symbol(read): read}


def _symbol(read: Read) -> sympy.Symbol:
    return sympy.Symbol(text(read) if read.subscripts else read.tensor, real=True)


def _contribution(
    step: Step, factor: Read, partial: Scalar, target: str, subscripts: tuple[Expr, ...]
) -> Step:
    extra = {_symbol(factor): factor, **_picked(step)}
    # A common factor stays in front of a sum: dvar*2*(x - mu), not dvar*(2*x - 2*mu).
    factors = [part for f in sympy.Mul.make_args(partial)
               for part in (f.primitive() if f.is_Add else (f,))]  # fmt: skip
    value = sympy.Mul(*extra, *factors)
    own = Read(step.target, step.subscripts)
    known = {**extra, **step.reads, _symbol(own): own}
    reads = {k: r for k, r in known.items() if k in value.free_symbols}
    return Step(target, subscripts, "sum", step.loops, value, reads, step.guarded, None, step.at)


def _adjoint(step: Step, read: Read, partial: Scalar, names: Mapping[str, str]) -> Step:
    cotangent = Read(names[step.target], step.subscripts)
    result = _contribution(step, cotangent, partial, names[read.tensor], read.subscripts)
    if step.guarded and not partial.is_polynomial():
        # Only a branch of a `where` reads this tensor: where the branch is not taken the
        # cotangent is 0 and contributes 0, even if the derivative is infinite there.
        taken = Negation(Equal(_symbol(cotangent), 0))
        value = Select(taken, result.value, sympy.S.Zero)
        result = Step(result.target, result.subscripts, "sum", result.loops, value,
                      result.reads, True, None, result.at)  # fmt: skip
    return result


def _push(step: Step, read: Read, partial: Scalar, names: Mapping[str, str]) -> Step:
    tangent = Read(names[read.tensor], read.subscripts)
    result = _contribution(step, tangent, partial, names[step.target], step.subscripts)
    if isinstance(partial, Select):
        # The tangent of a branch that is not taken may be infinite: it must not meet a factor 0.
        condition, *branches = partial.args
        front = sympy.Mul(_symbol(tangent), *_picked(step))
        value = Select(condition, *(front * b for b in branches))
        reads = {k: r for k, r in result.reads.items() if k in value.free_symbols}
        result = replace(result, value=value, reads=reads)
    return result
