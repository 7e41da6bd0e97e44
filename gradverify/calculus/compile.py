"""The oracle: a derivation compiled to NumPy functions that are valid at any size."""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from gradverify.calculus.code import HELPERS
from gradverify.calculus.derive import Derivation, Order, derive, in_order
from gradverify.calculus.emit import PLAIN, Emitter, Lines, Mode, function_name, variables
from gradverify.calculus.gradient import gradient_program
from gradverify.calculus.outside import Outside
from gradverify.calculus.repeated import repeated
from gradverify.errors import SpecError
from gradverify.notation.dims import affine
from gradverify.notation.statements import Program
from gradverify.notation.tree import Name, free_names, text

Array = np.ndarray[Any, Any]
# What stands for a kink: its number or name, with the turn of the loop where it is in one.
Label = int | str
Kink = Label | tuple[Label, int]

NOISE, ABSOLUTE, SWITCHES = Mode(noise=True), Mode(absolute=True), Mode(switches=True)

# Arrays of more elements take their random numbers from a table of as many, a block at a time from
# a place of its own: to draw each takes ten times as long as all else that is done to it. That two
# elements far apart have the same is nothing to the largest of them, which is what counts, and
# blocks stay in the processor's cache.
TABLE, BLOCK = 2**18, 2**14
# Random numbers that are drawn at once for small arrays, and draws of all that is computed.
AT_ONCE, DRAWS_AT_ONCE = 2**11, 8


@dataclass(frozen=True, eq=False)  # one that is compiled is not looked into to compare it
class Oracle:
    """What a definition says a layer computes: forward, vjp and jvp as NumPy functions.

    All take `tensors` (inputs and parameters by name), `constants` and `sizes` by name and
    compute in the dtype of the first floating tensor.
    """

    program: Program
    wrt: tuple[str, ...]
    _functions: dict[tuple[str, Mode], Callable[..., Any]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of(cls, derivation: Derivation) -> "Oracle":
        """Return the oracle of a derivation that is there already, changed perhaps."""
        made = cls(derivation.program, derivation.wrt)
        made.__dict__["derivation"] = derivation
        return made

    @cached_property
    def derivation(self) -> Derivation:
        """The derived statements."""
        return derive(self.program, self.wrt)

    @cached_property
    def gradient(self) -> "Oracle":
        """The oracle of the gradients: its tensors are these and, after them, a cotangent for
        each output; its outputs are the gradients by `wrt`."""
        return Oracle(*gradient_program(self.derivation))

    def source(self, name: str, mode: Mode = PLAIN, *, sizes: bool = True) -> str:
        """Return the source of the function in the pullback convention.

        With `sizes` it takes the dimensions as keyword arguments, without it reads them off the
        shapes, so that it can be pasted as a layer. A name that no function can have is changed.
        """
        return _pullback_source(self.derivation, function_name(name), mode, sizes)

    def pushforward_source(self, name: str) -> str:
        """Return the source of the jvp: `name(tensors, tangents, constants, sizes)`."""
        return _pushforward_source(self.derivation, name)

    def _function(self, kind: str, mode: Mode = PLAIN) -> Callable[..., Any]:
        key = (kind, mode)
        if key not in self._functions:
            if kind == "vjp":
                source = self.source("oracle", mode)
            else:
                source = self.pushforward_source("oracle")
            namespace: dict[str, Any] = {"np": _NUMPY, "math": math}
            exec(compile(source, f"<{kind} derived>", "exec"), namespace)
            self._functions[key] = namespace["oracle"]
        return self._functions[key]

    @cached_property
    def _sizes(self) -> CodeType:
        lines = _sizes_from_shapes(Emitter(self.derivation))
        return compile("\n".join(lines), "<sizes derived>", "exec")

    def sizes(self, tensors: Mapping[str, Array], constants: Mapping[str, Any]) -> dict[str, int]:
        """Return the dimensions that follow from the shapes of the tensors, by name."""
        renamed = variables(self.derivation)
        names = {renamed.get(k, k): v for k, v in {**tensors, **constants}.items()}
        exec(self._sizes, names)
        return {n: names[n] for n in sorted(self.program.declared.sizes - {*constants})
                if n in names}  # fmt: skip

    def _arguments(
        self, tensors: Mapping[str, Array], constants: Mapping[str, Any], sizes: Mapping[str, int]
    ) -> dict[str, Any]:
        dims = {n: sizes[n] for n in self.program.declared.sizes if n not in constants}
        renamed = variables(self.derivation)
        return {renamed.get(k, k): v for k, v in {**tensors, **constants, **dims}.items()}

    def run(
        self,
        tensors: Mapping[str, Array],
        constants: Mapping[str, Any],
        sizes: Mapping[str, int],
        mode: Mode = PLAIN,
        **tools: Any,
    ) -> tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]:
        """Return (outputs, pullback); the pullback returns the gradients by name.

        `tools` are what the mode needs: `noise` or `switches`.
        """
        function = self._function("vjp", mode)
        dtype = _dtype(self.program, tensors)
        with _quiet(constants):
            outputs, pullback = function(**self._arguments(tensors, constants, sizes), **tools)

        def checked(*cotangents: Array) -> dict[str, Array]:
            with _quiet(constants):
                gradients = pullback(*cotangents)
            return {k: np.asarray(g, dtype) for k, g in gradients.items()}

        if not isinstance(outputs, tuple):
            outputs = (outputs,)
        return tuple(np.asarray(y, dtype) for y in outputs), checked

    @cached_property
    def _repeated(self) -> tuple["Oracle", str]:
        derivation, size = repeated(self.derivation)
        return Oracle.of(derivation), size

    def noisy(
        self,
        tensors: Mapping[str, Array],
        constants: Mapping[str, Any],
        sizes: Mapping[str, int],
        cotangents: Sequence[Array],
        noise: "Noise",
        draws: int,
        mode: Mode = NOISE,
    ) -> Iterator[tuple[tuple[Array, ...], dict[str, Array]]]:
        """Yield outputs and gradients under so many draws of random rounding, several at once
        where arrays are so small that to call anything takes longer than to compute it."""
        largest = max((a.size for a in (*tensors.values(), *cotangents)), default=1)
        at_once = max(1, min(DRAWS_AT_ONCE, BLOCK // max(largest, 1)))
        made, size = self._repeated if min(at_once, draws) > 1 else (self, "")
        for first in range(0, draws, at_once):
            count = min(at_once, draws - first)
            if count == 1:
                outputs, pullback = self.run(tensors, constants, sizes, mode, noise=noise)
                yield outputs, pullback(*cotangents)
                continue
            given = {k: v if k in self.program.declared.integers else _several(v, count)
                     for k, v in tensors.items()}  # fmt: skip
            outputs, pullback = made.run(
                given, constants, {**sizes, size: count}, mode, noise=noise
            )
            gradients = pullback(*(_several(dy, count) for dy in cotangents))
            for k in range(count):
                yield tuple(y[k] for y in outputs), {t: g[k] for t, g in gradients.items()}

    def kept(
        self, tensors: Mapping[str, Array], constants: Mapping[str, Any], sizes: Mapping[str, int]
    ) -> dict[str, Array]:
        """Return the outputs, and the tensors of the forward that the pullback reads, by name."""
        function = self._function("vjp")
        with _quiet(constants):
            outputs, pullback = function(**self._arguments(tensors, constants, sizes))
        if not isinstance(outputs, tuple):
            outputs = (outputs,)
        found = dict(zip(self.program.declared.wanted, outputs, strict=True))
        found |= inspect.getclosurevars(pullback).nonlocals
        return {k: np.asarray(v) for k, v in found.items() if hasattr(v, "dtype")}

    def jvp(
        self,
        tensors: Mapping[str, Array],
        tangents: Mapping[str, Array],
        constants: Mapping[str, Any],
        sizes: Mapping[str, int],
    ) -> tuple[Array, ...]:
        """Return the tangents of the outputs along `tangents` (one for every tensor of wrt).

        An output that is a buffer's next value has none.
        """
        names = self.derivation.tangents
        given = {names[k]: v for k, v in tangents.items() if k in names}
        with _quiet(constants):
            outputs = self._function("jvp")(**self._arguments(tensors, constants, sizes), **given)
        dtype = _dtype(self.program, tensors)
        return tuple(np.asarray(y, dtype) for y in outputs)


def _several(array: Array, count: int) -> Array:
    """Return an array so many times, along an axis before the others."""
    return np.broadcast_to(array, (count, *array.shape))


def _einsum(subscripts: str, *factors: Any, **how: Any) -> Array:
    """Return np.einsum, of large arrays by products of matrices where that can be."""
    if max(map(np.size, factors)) > TABLE:
        how = {"optimize": True, **how}
    return np.asarray(np.einsum(subscripts, *factors, **how))


# What compiled source calls np: NumPy with another einsum.
_NUMPY = ModuleType("numpy")
_NUMPY.__dict__.update(vars(np))
_NUMPY.__dict__["einsum"] = _einsum


@contextmanager
def _quiet(constants: Mapping[str, Any]) -> Iterator[None]:
    """Let arrays overflow silently; SpecError where Python's own numbers, the constants, do."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (ArithmeticError, ValueError) as error:
        # math.log(-1) is a ValueError, and so is a wrong shape, which would be a defect of ours.
        if isinstance(error, ValueError) and not re.search("domain|expected a", str(error)):
            raise
        values = ", ".join(f"{k}={v}" for k, v in constants.items())
        raise SpecError(f"the definition is not finite at {values} ({error})") from None


def _dtype(program: Program, tensors: Mapping[str, Array]) -> np.dtype[Any]:
    floats = [v for k, v in tensors.items() if k not in program.declared.integers]
    return floats[0].dtype if floats else np.dtype(float)


class _Stream:
    """What a generator gives, taken in pieces: a call of it for each small array takes longer than
    all else that is done to it."""

    def __init__(self, draw: Callable[[int], Array]) -> None:
        self._draw, self._drawn, self._used = draw, np.empty(0), 0

    def take(self, shape: tuple[int, ...]) -> Array:
        """Return an array of what comes next."""
        size = math.prod(shape)
        if self._used + size > self._drawn.size:
            self._drawn, self._used = self._draw(max(size, AT_ONCE)), 0
        self._used += size
        return self._drawn[self._used - size : self._used].reshape(shape)


class Noise:
    """Random relative errors of size `amplitude` on every additive term (Gaussian, continuous).

    A sum of terms t gets amplitude * xi * sqrt(sum t**2): the distribution that independent
    errors of all its terms have together. What is smaller than `least` gets an error as if it
    were that: so it is with numbers that underflow.
    """

    def __init__(self, amplitude: float, rng: np.random.Generator, least: float = 0.0) -> None:
        self.amplitude, self.rng, self.least = amplitude, rng, least
        self._last: tuple[Array, Array] | None = None
        self._normals = _Stream(lambda n: amplitude * rng.standard_normal(n))
        self._coins = _Stream(lambda n: rng.random(n) < 0.5)

    @cached_property
    def _table(self) -> Array:
        return self.amplitude * self.rng.standard_normal(TABLE + BLOCK)

    def _perturb(self, value: Array, scale: Array) -> Array:
        if scale.size > TABLE and value.shape == scale.shape:
            return self._perturb_blocks(lambda scale: scale, value, scale)
        error = np.maximum(scale, self.least) * self._normals.take(scale.shape)
        if not math.isfinite(np.add.reduce(error, axis=None)):
            error = np.where(np.isfinite(error), error, 0.0)
        return np.asarray(value + error)

    def _perturb_blocks(self, scale_of: Callable[..., Array], value: Array, *more: Array) -> Array:
        """Return values with errors of the size `scale_of(*more)`, computed block by block."""
        turned = all(a.flags.f_contiguous for a in (value, *more))
        flat = [a.reshape(-1, order="F" if turned else "C") for a in (value, *more)]
        result = np.empty(value.size)
        for start, place in zip(
            range(0, value.size, BLOCK),
            self.rng.integers(TABLE, size=-(-value.size // BLOCK)),
            strict=True,
        ):
            values, *parts = (a[start : start + BLOCK] for a in flat)
            error = np.maximum(scale_of(*parts), self.least)
            error *= self._table[place : place + error.size]
            error[~np.isfinite(error)] = 0.0
            np.add(values, error, out=result[start : start + BLOCK])
        return result.reshape(value.shape, order="F" if turned else "C")

    def _square(self, factor: Array) -> Array:
        """Return a factor squared; the large one that was last is kept, as it comes twice often."""
        if factor.size <= TABLE:
            return np.square(factor)
        if self._last is None or self._last[0] is not factor:
            self._last = factor, np.square(factor)
        return self._last[1]

    def add(self, *terms: Any) -> Array:
        """Return the sum of terms."""
        value, squares = terms[0], np.square(terms[0], dtype=float)
        for term in terms[1:]:
            value, squares = value + term, squares + np.square(term, dtype=float)
        return self._perturb(np.asarray(value), np.sqrt(squares))

    def square(self, *terms: Any) -> Array:
        """Return the square of a sum, as if it had been multiplied out (one-pass variance).

        The error of a term's square is common to all elements that the term is broadcast to.
        """
        value = np.asarray(sum(terms)) ** 2
        for term in terms:
            value = self._perturb(value, np.square(term, dtype=float))
        return value

    def select(self, condition: Array, a: Any, b: Any) -> Array:
        """Return np.where(condition, a, b), as if one branch had been written as a correction to
        the other, x + (slope - 1)*min(x, 0): with a rounding of the larger one.

        Not where the other branch is larger than all that is selected by more than 1000: it may
        be anything where it is not meant.
        """
        value = np.where(condition, a, b)
        scale, other = np.abs(value), np.abs(np.where(condition, b, a))
        most = 1000 * np.max(scale, initial=0.0) or np.inf
        correcting = np.isfinite(other) & (other <= most)
        return self._perturb(value, np.where(correcting, np.maximum(scale, other), scale))

    def either(self, a: Array, b: Array) -> Array:
        """Return, element by element, one of two roundings of the same tensor."""
        return np.where(self._coins.take(np.shape(a)), a, b)

    def sum(self, subscripts: str, *factors: Any) -> Array:
        """Return np.einsum(subscripts, *factors), as if rounded after every addition.

        Over random orders of n terms t with sum S, the squares of the partial sums add up to
        n/3*S**2 + n/6*sum(t**2) on average, for large n.
        """
        # To look for an order of two factors takes longer than their product.
        shapes = tuple(map(np.shape, factors))
        search = len(factors) > 2 or max(map(math.prod, shapes)) > TABLE
        value = np.einsum(subscripts, *factors, optimize=search)
        squares = np.einsum(subscripts, *map(self._square, factors), optimize=search)
        more = _terms(subscripts, shapes) - 1

        def scale(squares: Array, value: Array) -> Array:
            return np.sqrt((1 + more / 6) * squares + more / 3 * np.square(value))

        if value.size > TABLE:
            return self._perturb_blocks(scale, value, squares, value)
        return self._perturb(value, scale(squares, value))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Return a.sum(axis=axes, keepdims=True), as if rounded after every addition."""
        letters = "".join(map(chr, range(ord("a"), ord("a") + a.ndim)))
        kept = "".join(i for k, i in enumerate(letters) if k not in axes)
        total = self.sum(f"{letters}->{kept}", a)
        return total.reshape([1 if k in axes else n for k, n in enumerate(a.shape)])

    def prod(self, factors: Array, axes: Any) -> Array:
        """Return np.prod(factors, axes), as if rounded after every multiplication."""
        value = np.prod(factors, axis=axes)
        count = factors.size / max(value.size, 1)
        return self._perturb(value, math.sqrt(max(count - 1, 0)) * np.abs(value))

    def unit(self, value: Any) -> Array:
        """Return a value with an absolute error, as if it had been subtracted from 1."""
        return self._perturb(np.asarray(value), np.maximum(1.0, np.abs(value)))

    def round(self, value: Any) -> Array:
        """Return a value with one relative error."""
        return self._perturb(np.asarray(value), np.abs(value))


@lru_cache(maxsize=1024)
def _terms(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> int:
    """Return how many terms each sum of an einsum has."""
    inputs, _, left = subscripts.partition("->")
    sizes = {
        letter: n
        for letters, shape in zip(inputs.split(","), shapes, strict=True)
        for letter, n in zip(letters, shape, strict=True)
    }
    return math.prod(n for letter, n in sizes.items() if letter not in left)


class Switches:
    """The sides of all kinks that a forward is on, by kink; `forced` are those it takes instead.

    A side is an array of truths (of a condition), of whole numbers (a floor), or of zeros and
    ones (the one-hot picks of a maximum, over the last axes); a kink in a loop has one for each
    turn. A forced side may be a mixture, numbers between 0 and 1 for truths; the value of a
    maximum stays what it is. `terms` holds what maxima are taken of, with the number of the axes
    that are reduced.
    """

    def __init__(self, forced: Mapping[Kink, Array] | None = None) -> None:
        self.forced = forced or {}
        self.sides: dict[Kink, Array] = {}
        self.terms: dict[Kink, tuple[Array, int]] = {}

    def __len__(self) -> int:
        return len(self.sides)

    def note(self, kink: Kink, condition: Array) -> Array:
        """Keep the side of a kink and return it, or the one that is forced."""
        self.sides[kink] = np.asarray(self.forced.get(kink, condition))
        return self.sides[kink]

    def turns(self, label: Label, condition: Array, axis: int) -> Array:
        """Return the sides that the turns of a loop have noted, along an axis; `condition` has
        their shape."""
        return np.stack([self.sides[label, t] for t in range(condition.shape[axis])], axis)

    def pick(self, kink: Kink, terms: Array, pick: Array, axes: int) -> Array:
        """Keep the terms of a maximum too."""
        self.terms[kink] = terms, axes
        return self.note(kink, pick)

    @staticmethod
    def select(condition: Array, a: Any, b: Any) -> Array:
        """Return np.where(condition, a, b), or a mixture of both by a forced side that is one."""
        if condition.dtype == bool:
            return np.asarray(np.where(condition, a, b))
        mixed = condition * a + (1 - condition) * b
        # A branch of no weight may be anything.
        return np.asarray(np.where(condition == 1, a, np.where(condition == 0, b, mixed)))

    def same(self, other: "Switches") -> bool:
        """Whether every kink is on the same side."""
        return self.sides.keys() == other.sides.keys() and all(
            np.array_equal(side, other.sides[kink]) for kink, side in self.sides.items()
        )


def _signature(emitter: Emitter, sizes: bool, extra: Sequence[str]) -> str:
    declared = emitter.d.program.declared
    keywords = [emitter.variable(n) for n in declared.constants]
    if sizes:
        keywords += [n for n in sorted(declared.sizes) if n not in declared.constants]
    keywords += extra
    given = [emitter.variable(n) for n in declared.given]
    return ", ".join([*given, *(["*", *keywords] if keywords else [])])


def _header(emitter: Emitter, out: Lines, sizes: bool) -> None:
    declared = emitter.d.program.declared
    outside = Outside(emitter)
    if not sizes:
        for line in (*outside.flattened(), *_sizes_from_shapes(emitter)):
            out.add(line)
    floats = [emitter.variable(t) for t in declared.given if t not in declared.integers]
    out.add(f"dtype = {floats[0]}.dtype" if floats else "dtype = np.dtype(float)")
    for name, size in emitter.named.values():
        out.add(f"{name} = {text(size)}")
    if not sizes:
        for line in outside.expanded():
            out.add(line)


def _pullback_source(d: Derivation, name: str, mode: Mode, sizes: bool) -> str:
    emitter = Emitter(d, mode)
    if not sizes:
        name = emitter.local(name)  # a layer called sigmoid would hide the helper it calls
    declared = d.program.declared
    extra = ["noise"] * mode.noise + ["switches"] * mode.switches
    signature = _signature(emitter, sizes, extra)
    out = Lines()
    out.assigned |= set(declared.given)
    forward = Emitter(d, replace(mode, absolute=False))
    forward.named = emitter.named
    forward.order(_read_by(d.forward, d.vjp) if mode.bare else d.forward, out, record=True)
    emitter.known, emitter.again, emitter.sides = forward.known, forward.again, forward.sides
    # The oracle itself is given the definition's tensors, what is pasted a layer's.
    outside = None if sizes else Outside(emitter)
    outputs = ", ".join(
        outside.output(y) if outside else emitter.variable(y) for y in declared.wanted
    )
    cotangents = {y: _cotangent(emitter, y) for y in declared.seeded}
    out.add("")
    out.add(f"def pullback({', '.join(cotangents.values())}):")
    out.indent += 1
    active = {d.cotangents[y] for y in cotangents if y in d.cotangents}
    out.assigned |= active
    for y, c in cotangents.items():
        for line in outside.cotangent(y, c) if outside else ():
            out.add(line)
    if mode.absolute:
        for c in cotangents.values():
            out.add(f"{c} = np.abs({c})")
    else:
        # Further terms may add to the cotangent of an output that another equation reads.
        out.borrowed |= active
    emitter.order(d.vjp, out)
    gradients = {t: _cotangent(emitter, t) for t in d.wrt}
    for tensor, gradient in gradients.items():
        if d.cotangents.get(tensor) not in out.assigned:
            shape = ", ".join(text(s) for s in emitter.shape(tensor))
            tail = "," if len(emitter.shape(tensor)) == 1 else ""
            out.add(f"{gradient} = np.zeros(({shape}{tail}), dtype)")
    results = {t: outside.gradient(t, g) if outside else g for t, g in gradients.items()}
    pairs = ", ".join(f'"{t}": {result}' for t, result in results.items())
    out.add(f"return {{{pairs}}}")
    out.indent -= 1
    out.add("")
    if mode.bare:
        outputs = ""
    out.add(f"return {outputs}, pullback" if len(declared.wanted) == 1 and outputs
            else f"return ({outputs}), pullback")  # fmt: skip
    head = Lines()
    _header(emitter, head, sizes)
    helpers = sorted(emitter.helpers | forward.helpers)
    lines = [*head.lines, *out.lines]
    if sizes or not emitter.variables.keys() & {*declared.given, *declared.constants}:
        return _module(name, signature, lines, helpers)
    # Called by the names of the spec, which the code inside needs for itself.
    inner = emitter.local(f"{name}_")
    keywords = ["*", *declared.constants] if declared.constants else []
    arguments = ", ".join([*declared.given, *keywords])
    passed = ", ".join(
        [*declared.given, *(f"{emitter.variable(c)}={c}" for c in declared.constants)]
    )
    wrapper = f"\n\ndef {name}({arguments}):\n    return {inner}({passed})\n"
    return _module(inner, signature, lines, helpers) + wrapper


def _read_by(forward: Order, vjp: Order) -> Order:
    """Return what of a forward its vjp reads, and all that this is made of."""
    read = {t for step in in_order(vjp) for t in step.sources}
    kept = []
    for entry in reversed(forward):
        steps = in_order((entry,))
        if any(s.target in read or s.pick in read for s in steps):
            read |= {t for s in steps for t in s.sources}
            kept.append(entry)
    return tuple(reversed(kept))


def _cotangent(emitter: Emitter, tensor: str) -> str:
    """Return the variable of a tensor's cotangent; a tensor outside of the gradient has one too."""
    found = emitter.d.cotangents.get(tensor)
    return emitter.local(f"d{tensor}") if found is None else emitter.variable(found)


def _pushforward_source(d: Derivation, name: str) -> str:
    emitter = Emitter(d)
    declared = d.program.declared
    tangents = [d.tangents[t] for t in d.wrt if t in d.tangents]
    signature = _signature(emitter, True, tangents)
    out = Lines()
    out.assigned |= set(declared.given) | set(tangents)
    emitter.order(d.forward, out)
    emitter.order(d.jvp, out)
    names = []
    for y in declared.seeded:
        tangent = d.tangents.get(y)
        names.append(emitter.local(f"{y}_dot") if tangent is None else tangent)
        if tangent not in out.assigned:
            out.add(f"{names[-1]} = np.zeros_like({emitter.variable(y)})")
    out.add(f"return ({', '.join(names)},)")
    head = Lines()
    _header(emitter, head, True)
    return _module(name, signature, [*head.lines, *out.lines], sorted(emitter.helpers))


def _module(name: str, signature: str, lines: Sequence[str], helpers: Sequence[str]) -> str:
    body = "\n".join(line.rstrip() for line in lines)
    parts = [HELPERS[h] for h in helpers]
    parts.append(f"def {name}({signature}):\n{body}")
    imports = "import numpy as np"
    if any("math." in text for text in (body, *parts)):
        imports = "import math\n\nimport numpy as np"
    if "sliding_window_view(" in body:
        imports += "\nfrom numpy.lib.stride_tricks import sliding_window_view"
    return imports + "\n\n\n" + "\n\n\n".join(parts) + "\n"


def _sizes_from_shapes(emitter: Emitter) -> list[str]:
    """Return lines that read the dimensions off the shapes of the given tensors.

    Axes that may have size 1 tell nothing.
    """
    program, declared = emitter.d.program, emitter.d.program.declared
    known = set(declared.constants)
    wanted = {n for n in declared.sizes if n not in known}
    lines: list[str] = []
    for tensor in declared.given:
        shape = program.shapes[tensor]
        ones = declared.ones.get(tensor, ())
        plain = [
            s.id if isinstance(s, Name) and s.id in wanted - known and axis not in ones else "_"
            for axis, s in enumerate(shape)
        ]
        if set(plain) - {"_"}:
            left = ", ".join(plain) + ("," if len(plain) == 1 else "")
            lines.append(f"{left} = {emitter.variable(tensor)}.shape")
            known |= set(plain) - {"_"}
    # One size found can be what another was waiting for.
    before = -1
    while before < len(known):
        before = len(known)
        for tensor in declared.given:
            for axis, size in enumerate(program.shapes[tensor]):
                unknown = [n for n in free_names(size) if n not in known]
                told = len(unknown) == 1 and axis not in declared.ones.get(tensor, ())
                split = affine(size, unknown) if told else None
                if split is not None:
                    (name,) = unknown
                    start = f"{emitter.variable(tensor)}.shape[{axis}]"
                    if text(split[1]) != "0":
                        start = f"({start} - ({text(split[1])}))"
                    lines.append(f"{name} = {start} // ({text(split[0][name])})")
                    known.add(name)
    return lines
