"""Faults of the derivation: a path, a factor or a count that is forgotten, a tensor mistaken.

The gradients of the layer become its own + (those of the changed derivation - the derived ones).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from gradverify.audit.fault import Array, Asked, Fault, Gradients, of_values
from gradverify.calculus.compile import Oracle
from gradverify.calculus.derive import Derivation, Step, derive, in_order, read_symbol
from gradverify.notation.schedule import schedule
from gradverify.notation.statements import Program
from gradverify.notation.tree import Call, Expr, Name, Number, Read, rebuild, replaced, text
from gradverify.spec import Spec
from gradverify.trial import make_oracle

Change = Callable[[], Derivation]


def derivation_faults(spec: Spec) -> Iterator[Fault]:
    """Yield the faults of the derivation of a spec; none where it has no definition."""
    oracle = make_oracle(spec)
    if oracle is None:
        return
    for k, step in enumerate(in_order(oracle.derivation.vjp)):
        yield from _of_path(spec, oracle.derivation, k, step)
    yield from _of_constants(spec, oracle.derivation)


def _fault(spec: Spec, kind: str, name: str, told: str | None, what: str, change: Change) -> Fault:
    changed = lru_cache(maxsize=1)(change)
    wrong = lru_cache(maxsize=1)(lambda: _compiled(changed()))

    def alter(point: Asked) -> Gradients:
        own, found = point.gradients, _gradients(wrong(), point)
        right = _gradients(_derived(spec), point)
        return own | {
            k: own[k] + (found[k] - right[k])
            for k in right
            if k in own and np.shape(own[k]) == np.shape(right[k])
        }

    made = of_values(kind, f"{kind}:{name}", told, what, alter)
    return replace(made, derivation=changed)


@lru_cache(maxsize=4)
def _derived(spec: Spec) -> Callable[..., Any]:
    oracle = make_oracle(spec)
    assert oracle is not None
    return _compiled(oracle.derivation)


def _compiled(derivation: Derivation) -> Callable[..., Any]:
    """Return the layer that a derivation describes, as a person would paste it."""
    oracle = Oracle.of(derivation)
    namespace: dict[str, Any] = {"np": np, "math": math}
    exec(compile(oracle.source("changed", sizes=False), "<changed derivation>", "exec"), namespace)
    name = next(k for k in reversed(namespace) if k.startswith("changed"))
    return namespace[name]  # type: ignore[no-any-return] # a function, whose source is ours


def _gradients(function: Callable[..., Any], point: Asked) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        _, pullback = function(**point.tensors, **point.constants)
        return dict(pullback(*point.cotangents))


# -- a step of the pullback is dropped, or its value changed


def _of_path(spec: Spec, d: Derivation, k: int, step: Step) -> Iterator[Fault]:
    place = f"{step.target}:{k}"
    told = f"the term {_shown(step)} of {step.target}"

    def with_value(value: sympy.Expr) -> Change:
        return lambda: _with(d, k, replace(step, value=value, reads=_read(step, value)))

    def less_one(size: sympy.Symbol) -> Change:
        return lambda: with_value(step.value.subs(size, size - 1))()

    def reading(symbol: sympy.Symbol, read: Read) -> Change:
        return lambda: _reading(d, k, step, symbol, read)

    yield _fault(spec, "missing path", place, "missing path", f"{told} is missing",
                 lambda: _without(d, k))  # fmt: skip
    yield _fault(spec, "negated path", place, "sign", f"{told} has the other sign",
                 with_value(-step.value))  # fmt: skip
    yield _fault(spec, "scaled path", place, "factor", f"{told} is doubled",
                 with_value(2 * step.value))  # fmt: skip
    sizes = spec.dims
    for symbol in sorted(step.value.free_symbols - step.reads.keys(), key=str):
        if str(symbol) in sizes:
            yield _fault(spec, "miscounted path", f"{place}:{symbol}", "count",
                         f"{told} has {symbol}-1 for {symbol}", less_one(symbol))  # fmt: skip
    cotangents = {*d.cotangents.values()}
    # The order in which sympy keeps its arguments differs from process to process.
    for j, part in enumerate(sorted(_parts(step.value), key=sympy.default_sort_key)):
        if any(step.reads[s].tensor in cotangents for s in part.free_symbols & step.reads.keys()):
            continue
        yield _fault(spec, "missing factor", f"{place}:{j}", "missing path|factor|count",
                     f"{told} lacks {part}", with_value(_lacking(step.value, part)))  # fmt: skip
    for symbol, read in sorted(step.reads.items(), key=lambda item: str(item[0])):
        for other in () if read.tensor in cotangents else _alike(d, read):
            changed = Read(other, read.subscripts)
            yield _fault(spec, "mistaken tensor", f"{place}:{read.tensor}:{other}", None,
                         f"{told} reads {other} where {read.tensor} is derived",
                         reading(symbol, changed))  # fmt: skip


def _shown(step: Step) -> str:
    value = str(step.value)
    return value if len(value) <= 60 else value[:57] + "..."


def _read(step: Step, value: sympy.Expr) -> Mapping[sympy.Symbol, Read]:
    return {s: r for s, r in step.reads.items() if s in value.free_symbols}


def _reading(d: Derivation, k: int, step: Step, symbol: sympy.Symbol, read: Read) -> Derivation:
    new = read_symbol(read)
    value = step.value.xreplace({symbol: new})
    reads = {s: r for s, r in {**step.reads, new: read}.items() if s in value.free_symbols}
    return _with(d, k, replace(step, value=value, reads=reads))


def _alike(d: Derivation, read: Read) -> list[str]:
    """Return the other tensors of the forward that have the shape of one that is read."""

    def shape(tensor: str) -> tuple[str, ...]:
        return tuple(map(text, d.shapes[tensor]))

    integers = d.program.declared.integers
    known = [*d.program.declared.given, *(s.target for s in d.program.statements)]
    same = (t for t in dict.fromkeys(known) if shape(t) == shape(read.tensor))
    return [t for t in same if t != read.tensor and t not in integers]


def _parts(value: sympy.Expr) -> list[sympy.Expr]:
    """Return what can be forgotten in a value: its factors, and the terms of one of them."""
    factors = [f for f in sympy.Mul.make_args(value) if f != -1]
    if len(factors) < 2:
        return []
    sums = [term for f in factors if f.is_Add for term in f.args]
    return [*factors, *sums]


def _lacking(value: sympy.Expr, part: sympy.Expr) -> sympy.Expr:
    factors = list(sympy.Mul.make_args(value))
    if part in factors:
        return sympy.Mul(*(f for f in factors if f != part))
    return sympy.Mul(*(f - part if f.is_Add and part in f.args else f for f in factors))


def _with(d: Derivation, k: int, step: Step) -> Derivation:
    steps = list(in_order(d.vjp))
    steps[k] = step
    return replace(d, vjp=schedule(steps))


def _without(d: Derivation, k: int) -> Derivation:
    """Return a derivation without a step, and without what nothing flows into any more."""
    steps = [s for j, s in enumerate(in_order(d.vjp)) if j != k]
    seeds = {d.cotangents[y] for y in d.program.declared.seeded if y in d.cotangents}
    while True:
        dead = {*d.cotangents.values()} - seeds - {s.target for s in steps}
        kept = [s for s in steps if not s.sources & dead]
        if len(kept) == len(steps):
            return replace(d, vjp=schedule(steps))
        steps = kept


# -- a constant stands elsewhere in the definition that the gradients are derived from


def _of_constants(spec: Spec, d: Derivation) -> Iterator[Fault]:
    def changed(body: Callable[[Expr], Expr]) -> Change:
        return lambda: _derived_from(d, body)

    for name, values in spec.constants.items():
        if not all(isinstance(v, float) for v in values):
            continue  # it may stand in shapes and subscripts
        kind, told = ("eps", "eps|constant") if "eps" in name else ("constant", "constant")
        for value in dict.fromkeys((0, 1, values[0])):
            yield _fault(spec, kind, f"{name}:{value}", told if value else f"{told}|missing path",
                         f"gradients are derived as if {name} were {value}",
                         changed(_everywhere(name, Number(Fraction(value)))))  # fmt: skip
        yield _fault(spec, kind, f"{name}:outside", told,
                     f"gradients are derived as if {name} stood outside of the root",
                     changed(_outside(name)))  # fmt: skip


def _derived_from(d: Derivation, change: Callable[[Expr], Expr]) -> Derivation:
    program: Program = d.program
    statements: Sequence[Any] = [replace(s, body=change(s.body)) for s in program.statements]
    return derive(replace(program, statements=tuple(statements)), d.wrt)


def _everywhere(name: str, value: Expr) -> Callable[[Expr], Expr]:
    return lambda body: replaced(body, {name: value})


def _outside(name: str) -> Callable[[Expr], Expr]:
    def visit(expr: Expr) -> Expr:
        expr = rebuild(expr, visit)
        match expr:
            case Call("sqrt", (Call("+", (inner, Name(added))),)) if added == name:
                return Call("+", (Call("sqrt", (inner,), expr.at), Name(added)), expr.at)
        return expr

    return visit
