"""The statements evaluated one scalar at a time in 50-digit arithmetic: the truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

import mpmath
import numpy as np
import sympy

from gradverify.calculus.code import ScalarCode
from gradverify.calculus.derive import Derivation, Order, Step
from gradverify.calculus.point import Point
from gradverify.calculus.time import ordered_index
from gradverify.notation.dims import evaluate
from gradverify.notation.schedule import Block
from gradverify.notation.tree import Expr, Number, Read, rebuild

DIGITS = 50

Array = np.ndarray[Any, Any]


def cost(derivation: Derivation, sizes: Mapping[str, Any]) -> int:
    """Return how many scalar terms one forward and vjp at these sizes evaluate."""
    total = 0
    for order in (derivation.forward, derivation.vjp):
        for entry in order:
            for step in entry.steps if isinstance(entry, Block) else (entry,):
                total += prod(evaluate(n, sizes) for _, n in step.loops)
    return total


@dataclass
class Exact:
    """One evaluation at a point.

    `outputs` and `gradients` are object arrays of mpmath numbers with DIGITS digits;
    `magnitudes` are the same gradients with absolute values added up.
    """

    outputs: tuple[Array, ...]
    gradients: dict[str, Array]
    magnitudes: dict[str, Array]


def evaluate_exactly(derivation: Derivation, point: Point, cotangents: Sequence[Array]) -> Exact:
    """Evaluate forward and vjp of a derivation in 50-digit arithmetic.

    Without `wrt` there are no gradients, and no cotangents are needed. Every float given is
    taken as the exact number it is. An interpreter of its own, so that
    it also checks the compiled NumPy.
    """
    run = _Run(derivation, point)
    run.order(derivation.forward)
    wanted = derivation.program.declared.wanted
    outputs = tuple(run.values[y] for y in wanted)
    if not derivation.wrt:
        return Exact(outputs, {}, {})
    gradients = _backward(run, cotangents, absolute=False)
    magnitudes = _backward(run, cotangents, absolute=True)
    return Exact(outputs, gradients, magnitudes)


def _backward(run: "_Run", cotangents: Sequence[Array], *, absolute: bool) -> dict[str, Array]:
    d, forward = run.derivation, dict(run.values)
    for y, dy in zip(d.program.declared.seeded, cotangents, strict=True):
        if y in d.cotangents:
            value = run.numbers(np.abs(dy) if absolute else np.asarray(dy))
            run.values[d.cotangents[y]] = value
    run.absolute = absolute
    run.order(d.vjp)
    found = {
        t: run.values[d.cotangents[t]]
        if d.cotangents.get(t) in run.values
        else run.zeros(run.shape(t))
        for t in d.wrt
    }
    run.values, run.absolute = forward, False
    return found


class _Run:
    def __init__(self, derivation: Derivation, point: Point) -> None:
        self.derivation = derivation
        self.context = mpmath.mp.clone()
        self.context.dps = DIGITS
        integers = {k: v for k, v in point.constants.items() if isinstance(v, int)}
        self.sizes = {**point.sizes, **integers}
        numbers = {**self.sizes, **point.constants}
        self.numbers_by_name = {k: self.context.mpf(v) for k, v in numbers.items()}
        indices = derivation.program.declared.integers
        self.values: dict[str, Array] = {
            k: np.asarray(v) if k in indices else self.numbers(np.asarray(v))
            for k, v in point.tensors.items()
        }
        self.absolute = False
        outside = derivation.program.declared.outside
        derived = (derivation.cotangents, derivation.tangents)
        self.outside = {k: self.context.mpf(v) for k, v in outside.items()} | {
            names[t]: self.context.mpf(0) for t in outside for names in derived if t in names
        }

    def numbers(self, array: Array) -> Array:
        out = np.empty(array.shape, object)
        for index in np.ndindex(array.shape):
            out[index] = self.context.mpf(float(array[index]))
        return out

    def zeros(self, shape: tuple[int, ...]) -> Array:
        out = np.empty(shape, object)
        out.fill(self.context.mpf(0))
        return out

    def shape(self, tensor: str) -> tuple[int, ...]:
        return tuple(evaluate(n, self.sizes) for n in self.derivation.shapes[tensor])

    def order(self, order: Order) -> None:
        for entry in order:
            if not isinstance(entry, Block):
                self.step(entry, {})
                continue
            index, backwards, steps = ordered_index(entry.steps)
            span = range(evaluate(dict(steps[0].loops)[index], self.sizes))
            for turn in reversed(span) if backwards else span:
                for step in steps:
                    self.step(step, {index: turn})

    def step(self, step: Step, fixed: Mapping[str, int]) -> None:
        if step.target not in self.values:
            self.values[step.target] = self.zeros(self.shape(step.target))
        target = self.values[step.target]
        function, symbols = self.compiled(step)
        reads = [step.reads[s] for s in symbols if s in step.reads]
        indices = [s.name for s in symbols if s not in step.reads]
        kept = len(step.pick_loops) - len(step.reduced)
        best: dict[tuple[int, ...], tuple[Any, tuple[int, ...], tuple[int, ...]]] = {}
        products = self.empty_products(step, fixed) if step.kind == "prod" else {}
        for point in self.points(step.loops, fixed):
            at = {**self.sizes, **point}
            args = [self.element(r, at) for r in reads]
            args += [
                self.context.mpf(point[i]) if i in point else self.numbers_by_name[i]
                for i in indices
            ]
            value = self.real(function, args)
            where = tuple(self.subscript(s, at) for s in step.subscripts)
            if step.kind == "max":
                picked = tuple(point[i] for i, _ in step.pick_loops)
                if picked[:kept] not in best or value > best[picked[:kept]][0]:
                    best[picked[:kept]] = value, where, picked
            elif step.kind == "prod":
                left = tuple(point[i] for i, _ in step.pick_loops)[:kept]
                factor = abs(value) if self.absolute else value
                products[left] = products[left][0] * factor, where
            elif self.inside(where, target.shape):
                target[where] = target[where] + (abs(value) if self.absolute else value)
        for value, where in products.values():
            if self.inside(where, target.shape):
                target[where] = target[where] + value
        if step.kind == "max":
            assert step.pick is not None
            pick = self.values.setdefault(step.pick, self.zeros(self.shape(step.pick)))
            for value, where, picked in best.values():
                target[where] = target[where] + value
                pick[picked] = self.context.mpf(1)

    def real(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        # What is no real number, 1/0 or sqrt(-1), may stand in a branch that is not taken.
        try:
            value = function(*args)
        except ZeroDivisionError:
            return self.context.nan
        return self.context.nan if isinstance(value, self.context.mpc) else value

    def empty_products(
        self, step: Step, fixed: Mapping[str, int]
    ) -> dict[tuple[int, ...], tuple[Any, tuple[int, ...]]]:
        """Return, by the indices on the left, a product of nothing and where it goes."""
        loops = [loop for loop in step.pick_loops if loop not in step.reduced]
        return {
            tuple(point[i] for i, _ in loops): (
                self.context.mpf(1),
                tuple(self.subscript(s, {**self.sizes, **point}) for s in step.subscripts),
            )
            for point in self.points(loops, fixed)
        }

    def points(
        self, loops: Sequence[tuple[str, Expr]], fixed: Mapping[str, int]
    ) -> Iterator[dict[str, int]]:
        spans = {i: range(evaluate(n, self.sizes)) for i, n in loops if i not in fixed}
        for values in product(*spans.values()):
            yield {**fixed, **dict(zip(spans, values, strict=True))}

    def inside(self, where: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        return all(0 <= k < n for k, n in zip(where, shape, strict=True))

    def subscript(self, expr: Expr, at: Mapping[str, int]) -> int:
        def visit(e: Expr) -> Expr:
            if isinstance(e, Read):
                return Number(Fraction(int(self.element(e, at))))
            return rebuild(e, visit)

        return evaluate(visit(expr), at)

    def element(self, read: Read, at: Mapping[str, int]) -> Any:
        where = tuple(self.subscript(s, at) for s in read.subscripts)
        array = self.values[read.tensor]
        if not self.inside(where, array.shape):
            return self.outside[read.tensor]
        return array[where]

    def compiled(self, step: Step) -> tuple[Callable[..., Any], list[sympy.Symbol]]:
        symbols = sorted(step.value.free_symbols, key=lambda s: (s not in step.reads, s.name))
        names = {s: f"v{k}" for k, s in enumerate(symbols)}
        code = ScalarCode(names).code(step.value)
        context = self.context
        namespace = {
            name: getattr(context, name)
            for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "tan", "atan", "sinh", "cosh",
                         "erf", "erfc", "expm1", "log1p", "floor", "sign", "pi", "inf")
        }  # fmt: skip
        namespace |= {
            "abs": abs,
            "sigmoid": lambda x: 1 / (1 + context.exp(-x)),
            "softplus": lambda x: context.log1p(context.exp(x)),
            "logaddexp": lambda a, b: max(a, b) + context.log1p(context.exp(-abs(a - b))),
            "gamma_function": context.gamma,
            "lgamma": lambda x: context.loggamma(x).real,
            "digamma": context.digamma,
            "polygamma": context.psi,
            "Q": lambda p, q: context.mpf(p) / q,
        }
        source = f"lambda {', '.join(names.values())}: {code}"
        return eval(source, namespace), symbols  # our own printed code
