"""Reverse and forward mode on statements: scalar derivatives, and gather for scatter."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import count

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.functions import Both, Equal, Negation, Select, StopGradient, scalar
from gradverify.errors import SpecError
from gradverify.notation.schedule import Block, schedule
from gradverify.notation.statements import Loops, Program
from gradverify.notation.tree import Expr, Name, Read, rename, text, walk

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
    pick: str | None = None
    at: tuple[int, ...] = (1, 0)
    others: str | None = None

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
class Kinds:
    """Which tensors need care because only a branch of a `where` reads them.

    Where the branch is not taken, `guarded` tensors may hold anything, 1/0 too, and `guards` are
    exactly 0. A cotangent of the one is one of the other; a tangent is what its tensor is.
    """

    guarded: frozenset[str] = frozenset()
    guards: frozenset[str] = frozenset()

    def derived(self, cotangents: Mapping[str, str], tangents: Mapping[str, str]) -> "Kinds":
        """Return these and their cotangents and tangents."""

        def named(tensors: Collection[str], names: Mapping[str, str]) -> set[str]:
            return {names[t] for t in tensors if t in names}

        return Kinds(
            self.guarded | named(self.guarded, tangents) | named(self.guards, cotangents),
            self.guards | named(self.guards, tangents) | named(self.guarded, cotangents),
        )


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
    kinds: Kinds


@dataclass(frozen=True)
class Gradient(Program):
    """The gradients of a program as a program of their own, in `steps` instead of statements.

    Given are the program's tensors and, after them, a cotangent for each of its outputs; wanted
    are the cotangents of the tensors that it was differentiated with respect to.
    """

    steps: tuple[Step, ...]
    kinds: Kinds


def derive(program: Program, wrt: Sequence[str]) -> Derivation:
    """Return the forward, vjp and jvp of a program with respect to the tensors `wrt`.

    For each occurrence X[e(L)] in a statement T[f(L)] += value, the vjp adds
    dX[e(L)] += dT[f(L)] * d value/d occurrence over the same loops: gather and scatter swap.
    Raises SpecError for a value or derivative that is no number whatever the tensors hold.
    """
    taken = set(program.shapes) | program.declared.sizes | set(program.declared.constants)
    if isinstance(program, Gradient):
        given, kinds = program.steps, program.kinds
    else:
        given = _steps(program, taken)
        kinds = Kinds(frozenset(s.target for s in program.statements if s.guarded))
    partials = _partials(program, given, kinds.guards)
    active = _active(given, partials, wrt, program.declared.seeded)
    steps, products = _with_others(given, partials, active, taken)
    cotangents = {t: fresh(f"d{t}", taken) for t in active}
    tangents = {t: fresh(f"{t}_dot", taken) for t in active}
    shapes = dict(program.shapes)
    shapes |= {cotangents[t]: shapes[t] for t in active}
    shapes |= {tangents[t]: shapes[t] for t in active}
    for s in steps:
        shapes |= {t: tuple(n for _, n in s.pick_loops) for t in (s.pick, s.others) if t}
    kinds = kinds.derived(cotangents, tangents)
    forward = schedule([*steps, *products])
    # The vjp goes through the steps backwards; `schedule` then only has to find the loops.
    position = {id(s): k for k, s in enumerate([*steps, *products])}
    vjp, jvp = [], []
    for step in in_order(forward):
        for symbol, read in step.reads.items():
            partial = partials.get((position[id(step)], symbol))
            if partial is None or read.tensor not in active or step.target not in active:
                continue
            dy = Read(cotangents[step.target], step.subscripts)
            to = Read(cotangents[read.tensor], read.subscripts)
            vjp.append(_contribution(step, dy, partial, to, kinds, inside=False))
            dx = Read(tangents[read.tensor], read.subscripts)
            to = Read(tangents[step.target], step.subscripts)
            jvp.append(_contribution(step, dx, partial, to, kinds, inside=True))
    return Derivation(
        program, tuple(wrt), forward, schedule(vjp[::-1]), schedule(jvp), cotangents, tangents,
        shapes, kinds,
    )  # fmt: skip


def in_order(order: Order) -> tuple[Step, ...]:
    """Return the steps of an order without its blocks."""
    return tuple(s for e in order for s in (e.steps if isinstance(e, Block) else (e,)))


def _steps(program: Program, taken: set[str]) -> tuple[Step, ...]:
    """Return the statements of a definition as steps."""
    steps = []
    for s in program.statements:
        reads: dict[sympy.Symbol, Read] = {}
        value = scalar(s.body, reads, program.declared.sizes)
        if value.has(*_NO_NUMBERS):
            raise SpecError(f"{s.target} is a real number nowhere: it is {text(s.body)}")
        used = {k: r for k, r in reads.items() if k in value.free_symbols}
        pick = fresh(f"{s.target}_pick", taken) if s.kind == "max" else None
        steps.append(Step(s.target, s.subscripts, s.kind, s.loops, value, used, pick, s.at))
    return tuple(steps)


def _partials(
    program: Program, steps: Sequence[Step], guards: Collection[str]
) -> dict[tuple[int, sympy.Symbol], Scalar]:
    """Return the derivative of each step's value by each of its reads, where it is not 0."""
    # A statement that is the only one of its equation is the whole value of what it defines.
    terms = Counter((s.target, s.at) for s in steps)
    partials = {}
    for k, step in enumerate(steps):
        whole = terms[step.target, step.at] == 1 and step.target not in program.scattered
        for symbol, read in step.reads.items():
            value = step.value
            if read.tensor in guards and is_guarded_by(value, symbol):
                # The value is a multiple of the guard: its derivative is the factor, at 0 too.
                value = value.args[1]
            derivative = sympy.diff(value, symbol)
            # The sign of a value is constant wherever it has a derivative.
            derivative = derivative.replace(sympy.DiracDelta, lambda *_: sympy.S.Zero)
            if derivative.has(*_NO_NUMBERS):
                raise SpecError(f"{step.target} has no derivative in {text(read)}")
            if derivative != 0:
                partials[k, symbol] = _in_terms_of_target(step, derivative) if whole else derivative
    return partials


def _in_terms_of_target(step: Step, derivative: Scalar) -> Scalar:
    """Write a derivative by the statement's value where it occurs: sigma for sqrt(var + eps)."""
    if step.kind != "sum" or step.reduced or step.value.is_Atom or derivative.is_Atom:
        return derivative
    if isinstance(step.value, sympy.Add | sympy.Mul | StopGradient):
        return derivative
    own = read_symbol(Read(step.target, step.subscripts))
    return derivative.subs(step.value, own)


def fresh(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
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
    """Return the read of what a term of the reduction counts: a max step's one-hot, the other
    factors of a product, or nothing for a sum."""
    name = step.pick or step.others
    if name is None:
        return {}
    read = Read(name, tuple(Name(i) for i, _ in step.pick_loops))
    return {read_symbol(read): read}


def _with_others(
    steps: Sequence[Step],
    partials: Mapping[tuple[int, sympy.Symbol], Scalar],
    active: Collection[str],
    taken: set[str],
) -> tuple[list[Step], list[Step]]:
    """Return the steps, and those to add that write the other factors of each product which a
    gradient flows through; the steps of a gradient have theirs already."""
    found, products = list(steps), []
    for k, s in enumerate(steps):
        flows = any((k, x) in partials and r.tensor in active for x, r in s.reads.items())
        if s.kind == "prod" and s.others is None and s.target in active and flows:
            found[k] = replace(s, others=fresh(f"{s.target}_others", taken))
            products.append(_others(found[k], taken))
    return found, products


def _others(step: Step, taken: set[str]) -> Step:
    """Return the step that writes, for each factor of a product, the product of the others.

    Nothing is divided, so zeros among the factors do no harm; and as a product itself it can be
    differentiated again.
    """
    assert step.others is not None
    used = taken | dict(step.loops).keys()
    moved: dict[str, str] = {}
    for i, _ in step.reduced:
        moved[i] = next(n for k in count(1) if (n := f"{i[0]}{k}") not in used)
        used.add(moved[i])
    index = {i: sympy.Symbol(i, real=True) for pair in moved.items() for i in pair}
    itself = reduce(Both, (Equal(index[new], index[old]) for old, new in moved.items()))
    reads = {x: rename(r, moved) for x, r in step.reads.items()}
    renamed = {x: read_symbol(r) for x, r in reads.items() if isinstance(r, Read)}
    factor = step.value.xreplace({index[old]: index[new] for old, new in moved.items()} | renamed)
    return replace(
        step,
        target=step.others,
        subscripts=tuple(Name(i) for i, _ in step.pick_loops),
        loops=(*step.pick_loops, *((moved[i], n) for i, n in step.reduced)),
        value=Select(itself, sympy.S.One, factor),
        reads={read_symbol(r): r for r in reads.values() if isinstance(r, Read)},
        others=None,
    )


def read_symbol(read: Read) -> sympy.Symbol:
    """Return the symbol that stands for a read in the value of a step."""
    return sympy.Symbol(text(read) if read.subscripts else read.tensor, real=True)


def _contribution(
    step: Step, factor: Read, partial: Scalar, to: Read, kinds: Kinds, *, inside: bool
) -> Step:
    """Return the step that adds `factor` times a partial derivative of `step` to another place.

    `inside` puts the factor into the branches of a `where`, even if it should be finite.
    """
    extra = {read_symbol(factor): factor, **_picked(step)}
    own = Read(step.target, step.subscripts)
    known = {**extra, **step.reads, read_symbol(own): own}
    inside = inside or factor.tensor in kinds.guarded or not kinds.guards.isdisjoint(step.sources)
    value = (_into_branches if inside else _product)(sympy.Mul(*extra), partial)
    reads = {k: r for k, r in known.items() if k in value.free_symbols}
    # A guard that is 0 makes a product 0 if the rest is finite: polynomial in what is finite.
    finite = value.is_polynomial(*reads) and not any(r.tensor in kinds.guarded
                                                     for r in reads.values())  # fmt: skip
    for symbol, read in reads.items():
        if read.tensor in kinds.guards and not finite and not is_guarded_by(value, symbol):
            value = Select(_taken(symbol), value, sympy.S.Zero)
    return Step(to.tensor, to.subscripts, "sum", step.loops, value, reads, None, step.at)


def _product(front: Scalar, partial: Scalar) -> Scalar:
    # A common factor stays in front of a sum: dvar*2*(x - mu), not dvar*(2*x - 2*mu).
    factors = [part for f in sympy.Mul.make_args(partial)
               for part in (f.primitive() if f.is_Add else (f,))]  # fmt: skip
    return sympy.Mul(front, *factors)


def _into_branches(front: Scalar, partial: Scalar) -> Scalar:
    """Return front*partial with all factors in the branches of a Select: what is infinite where
    a branch is not taken must not meet the 0 that stands there."""
    if not partial.has(Select):
        return _product(front, partial)
    if isinstance(partial, Select):
        condition, *branches = partial.args
        return Select(condition, *(_into_branches(front, b) for b in branches))
    if partial.is_Add:
        return sympy.Add(*(_into_branches(front, term) for term in partial.args))
    for k, f in enumerate(partial.args if partial.is_Mul else ()):
        if isinstance(f, Select) or (f.is_Add and f.has(Select)):
            rest = sympy.Mul(*partial.args[:k], *partial.args[k + 1 :])
            if isinstance(f, Select):
                condition, *branches = f.args
                parts = (_into_branches(front, rest * b) for b in branches)
                return Select(condition, *parts)
            return sympy.Add(*(_into_branches(front, rest * term) for term in f.args))
    return _product(front, partial)


def _taken(guard: sympy.Symbol) -> Scalar:
    return Negation(Equal(guard, 0))


def is_guarded_by(value: Scalar, guard: sympy.Symbol) -> bool:
    """Whether a contribution is 0 where a cotangent is, whatever the derivative is there."""
    return isinstance(value, Select) and value.args[0] == _taken(guard)
