"""The oracle: a derivation compiled to NumPy functions that are valid at any size."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import CodeType, MappingProxyType, ModuleType
from typing import Any

import numpy as np

from gradverify.calculus.code import HELPERS
from gradverify.calculus.derive import Derivation, Order, derive, in_order
from gradverify.calculus.emit import PLAIN, Emitter, Lines, Mode, function_name, variables
from gradverify.calculus.gradient import gradient_program
from gradverify.calculus.noise import BLOCK, Noise
from gradverify.calculus.outside import Outside
from gradverify.calculus.point import Point
from gradverify.calculus.products import einsum
from gradverify.calculus.repeated import repeated
from gradverify.errors import SpecError
from gradverify.notation.dims import affine
from gradverify.notation.statements import Program
from gradverify.notation.tree import Name, free_names, text

Array = np.ndarray[Any, Any]
NOISE, ABSOLUTE, SWITCHES = Mode(noise=True), Mode(absolute=True), Mode(switches=True)

# How many draws of random rounding are computed at once.
DRAWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)  # one that is compiled is not looked into to compare it
class Oracle:
    """What a definition says a layer computes: forward, vjp and jvp as NumPy functions.

    All compute at a point, in the dtype of its first floating tensor.
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

    def _arguments(self, point: Point) -> dict[str, Any]:
        dims = {n: point.sizes[n] for n in self.program.declared.sizes if n not in point.constants}
        renamed, given = variables(self.derivation), {**point.tensors, **point.constants, **dims}
        return {renamed.get(k, k): v for k, v in given.items()}

    def run(
        self, point: Point, mode: Mode = PLAIN, **tools: Any
    ) -> tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]:
        """Return (outputs, pullback); the pullback returns the gradients by name.

        `tools` are what the mode needs: `noise` or `switches`.
        """
        dtype = _dtype(self.program, point)
        outputs, pullback = self._called(point, mode, **tools)

        def checked(*cotangents: Array) -> dict[str, Array]:
            with _quiet(point):
                gradients = pullback(*cotangents)
            return {k: np.asarray(g, dtype) for k, g in gradients.items()}

        return tuple(np.asarray(y, dtype) for y in outputs), checked

    def _called(
        self, point: Point, mode: Mode = PLAIN, **tools: Any
    ) -> tuple[tuple[Array, ...], Callable[..., dict[str, Array]]]:
        with _quiet(point):
            outputs, pullback = self._function("vjp", mode)(**self._arguments(point), **tools)
        return outputs if isinstance(outputs, tuple) else (outputs,), pullback

    @cached_property
    def _several(self) -> "Several":
        return Several.of(self.derivation)

    def noisy(
        self,
        point: Point,
        cotangents: Sequence[Array],
        noise: Noise,
        draws: int,
        mode: Mode = NOISE,
    ) -> Iterator[tuple[tuple[Array, ...], dict[str, Array]]]:
        """Yield outputs and gradients under so many draws of random rounding, several at once
        where arrays are small."""
        at_once = min(DRAWS_AT_ONCE, most_at_once((*point.tensors.values(), *cotangents)))
        for first in range(0, draws, at_once):
            count = min(at_once, draws - first)
            if count > 1:
                yield from self._several.run(point, cotangents, count, mode, noise=noise)
            else:
                outputs, pullback = self.run(point, mode, noise=noise)
                yield outputs, pullback(*cotangents)

    def kept(self, point: Point) -> dict[str, Array]:
        """Return the outputs, and the tensors of the forward that the pullback reads, by name."""
        outputs, pullback = self._called(point)
        found = dict(zip(self.program.declared.wanted, outputs, strict=True))
        found |= inspect.getclosurevars(pullback).nonlocals
        return {k: np.asarray(v) for k, v in found.items() if hasattr(v, "dtype")}

    def jvp(self, point: Point, tangents: Mapping[str, Array]) -> tuple[Array, ...]:
        """Return the tangents of the outputs along `tangents` (one for every tensor of wrt).

        An output that is a buffer's next value has none.
        """
        names = self.derivation.tangents
        given = {names[k]: v for k, v in tangents.items() if k in names}
        with _quiet(point):
            outputs = self._function("jvp")(**self._arguments(point), **given)
        dtype = _dtype(self.program, point)
        return tuple(np.asarray(y, dtype) for y in outputs)


@dataclass(frozen=True, eq=False)
class Several:
    """An oracle that computes all several times at once, along an axis whose size is called `size`,
    with the value of each time of some constants."""

    oracle: Oracle
    size: str

    @classmethod
    def of(cls, derivation: Derivation, apart: Sequence[str] = ()) -> "Several":
        """Return that of a derivation; constants that are `apart` have a value for each time."""
        made, size = repeated(derivation, apart)
        return cls(Oracle.of(made), size)

    def run(
        self,
        point: Point,
        cotangents: Sequence[Array],
        count: int,
        mode: Mode = PLAIN,
        apart: Mapping[str, Array] = MappingProxyType({}),
        **tools: Any,
    ) -> Iterator[tuple[tuple[Array, ...], dict[str, Array]]]:
        """Yield outputs and gradients of each time."""

        def each(array: Array) -> Array:
            return np.broadcast_to(array, (count, *array.shape))

        integers = self.oracle.program.declared.integers
        given = {k: v if k in integers else each(v) for k, v in point.tensors.items()}
        often = Point({**given, **apart}, point.constants, {**point.sizes, self.size: count})
        outputs, pullback = self.oracle.run(often, mode, **tools)
        gradients = pullback(*map(each, cotangents))
        for k in range(count):
            yield tuple(y[k] for y in outputs), {t: g[k] for t, g in gradients.items()}


def most_at_once(arrays: Iterable[Array]) -> int:
    """Return how often to compute at once with arrays: where they are so small that to call
    anything takes longer than to compute it, often."""
    return max(1, BLOCK // max([1, *(a.size for a in arrays)]))


# What compiled source calls np: NumPy with another einsum.
_NUMPY = ModuleType("numpy")
_NUMPY.__dict__.update(vars(np))
_NUMPY.__dict__["einsum"] = einsum


@contextmanager
def _quiet(point: Point) -> Iterator[None]:
    """Let arrays overflow silently; SpecError where Python's own numbers, the constants, do."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (ArithmeticError, ValueError) as error:
        # math.log(-1) is a ValueError, and so is a wrong shape, which would be a defect of ours.
        if isinstance(error, ValueError) and not re.search("domain|expected a", str(error)):
            raise
        values = ", ".join(f"{k}={v}" for k, v in point.constants.items())
        raise SpecError(f"the definition is not finite at {values} ({error})") from None


def _dtype(program: Program, point: Point) -> np.dtype[Any]:
    floats = [v for k, v in point.tensors.items() if k not in program.declared.integers]
    return floats[0].dtype if floats else np.dtype(float)


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
