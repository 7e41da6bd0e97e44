"""What a layer claims: Spec, and the layers that are registered for it."""

import keyword
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, product
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar, cast, overload

from gradverify.declare import Constant, Tensor, checked_allow, checked_dtypes, parse_range
from gradverify.errors import SpecError
from gradverify.notation.check import check_program
from gradverify.notation.dims import (
    evaluate,
    parse_constraint,
    parse_shape,
    same,
    solutions,
)
from gradverify.notation.marks import marked
from gradverify.notation.parse import Equation, Source, parse_equations
from gradverify.notation.statements import Program, lower
from gradverify.notation.tree import ONE, Call, Expr, free_names, text
from gradverify.parts import Body, Part, chain, expand

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Registration:
    """A function registered as a layer of a spec; `file` and `line` are where that was done, and
    `module` is the code of that file where executing it did, so that its layer can be found again.
    """

    spec: "Spec"
    name: str
    function: Callable[..., Any]
    dtypes: tuple[str, ...] | None
    file: str
    line: int
    module: CodeType | None
    jvp: Callable[..., Any] | None
    double_vjp: Callable[..., Any] | None


# (real path of the registering file, layer name) -> registration
REGISTERED: dict[tuple[str, str], Registration] = {}


@dataclass(frozen=True, init=False, eq=False)
class Spec:
    """What a layer claims: its tensors, constants, constraints and, normally, its definition.

    Of its parts, specs that the definition calls, it has the parameters and constants, prefixed:
    `fc=Part(linear)` makes `fc_w` and `fc_b`. `gradients` are equations that a person claims for
    the gradients, which `prove` decides. `dims` are the free dimensions in order of
    appearance, `shapes` the sizes of each tensor, `equations` the definition with its calls
    written out and `program` the same as statements (None without one). `stars` are those of
    `dims` that are any number of dimensions to a layer (`*B`), one to all else here, and `ones`
    the axes, by tensor, on which a layer may be given size 1 (`N|1`). `allow={"dx": (1e-6,
    "interpolated from a table")}` lets a gradient, or an output by its name, be off by a fraction
    of its terms, for a reason that the report shows. Raises SpecError, with the
    place and the remedy, for anything that cannot be right.
    """

    name: str
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, tuple[Any, ...]]
    definition: str | None
    gradients: str | None
    location: str
    shapes: Mapping[str, tuple[Expr, ...]]
    dims: tuple[str, ...]
    stars: tuple[str, ...]
    ones: Mapping[str, tuple[int, ...]]
    allow: Mapping[str, tuple[float, str]]
    where: tuple[Expr, ...]
    equations: tuple[Equation, ...] = field(repr=False)
    program: Program | None = field(repr=False)

    def __init__(
        self,
        name: str,
        /,
        *,
        where: Sequence[str] = (),
        definition: str | None = None,
        gradients: str | None = None,
        ranges: Mapping[str, str] | None = None,
        allow: Mapping[str, tuple[float, str]] | None = None,
        **tensors: Tensor | Constant | Part,
    ) -> None:
        frame = sys._getframe(1)
        if not isinstance(name, str) or not name:
            raise SpecError(f'Spec({name!r}): a spec has a name, such as Spec("batch_norm", ...)')
        self._set(name=name, definition=definition, gradients=gradients,
                  location=f"{frame.f_code.co_filename}:{frame.f_lineno}")  # fmt: skip
        try:
            self._declare(tensors, where, ranges or {})
            names = (*self.outputs, *(f"d{k}" for k in self.differentiable))
            self._set(allow=checked_allow(allow or {}, names))
            if self.allow and self.program is None:
                raise SpecError(
                    "allow is what may be off from what a definition gives, and there is none: "
                    "write one, or leave it out"
                )
        except SpecError as error:
            raise SpecError(f"spec {name!r}: {error}") from None

    @classmethod
    def chain(cls, name: str, /, **parts: "Spec | Part") -> "Spec":
        """Return a spec of specs in a row: `Spec.chain("mlp", fc1=linear, act=relu, fc2=linear)`.

        The first output of each is the first input of the next. Other inputs of later specs are
        inputs with the part's name in front; a dimension that nothing binds gets its own name,
        or K2, K3, ... where that is taken. The `definition` it writes can be read.
        """
        frame = sys._getframe(1)
        if not parts:
            raise SpecError(f"Spec.chain({name!r}): name the specs, fc1=linear, act=relu, ...")
        wrapped = {k: p if isinstance(p, Part) else Part(p) for k, p in parts.items()}
        declared, definition = chain(wrapped)
        spec = cls(name, definition=definition, **cast(dict[str, Any], declared))
        spec._set(location=f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return spec

    def __repr__(self) -> str:
        return f"Spec({self.name!r})"

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _declare(
        self,
        declared: Mapping[str, Tensor | Constant | Part],
        where: Sequence[str],
        ranges: Mapping[str, str],
    ) -> None:
        if isinstance(where, str):
            raise SpecError(f'where is a list of texts: write where=["{where}"]')
        if not isinstance(self.definition, str | None):
            raise SpecError(f"definition={self.definition!r}: a definition is a text of equations")
        if not isinstance(self.gradients, str | None):
            raise SpecError(f"gradients={self.gradients!r}: gradients are a text of equations")
        if self.gradients is not None:
            parse_equations(Source(self.gradients, "gradients").dedented())
        if not isinstance(ranges, Mapping):
            raise SpecError(f'ranges={ranges!r}: write ranges={{"r": "K"}}')
        for key, value in declared.items():
            _check_declared(key, value)
        body = expand(declared, self.definition, _parsed(ranges))
        tensors, constants, shapes = body.tensors, body.constants, body.shapes
        self._set(tensors=tensors, constants=constants, equations=body.equations)
        if not self.outputs:
            raise SpecError('no output is declared: write e.g. y=Output("N C")')
        if not self.given:
            raise SpecError('no input or parameter is declared: write e.g. x=Input("N C")')
        bounds = {k: parse_range(t.range, k) for k, t in tensors.items() if t.range is not None}
        integers = {k for k, values in constants.items() if Constant(*values).is_integer}
        seen = [n for k in self.given for size in shapes[k] for n in free_names(size)]
        dims = tuple(n for n in dict.fromkeys(seen) if n not in constants)
        constraints = tuple(parse_constraint(w) for w in where) + body.where
        written = [*where, *map(text, body.where)]
        self._set(shapes=shapes, dims=dims, where=constraints)
        self._set(stars=body.declared.stars, ones=body.declared.ones)
        self._check_names(integers)
        self._check_updates()
        for what, exprs in (
            *((f"the shape of {k}", shape) for k, shape in shapes.items()),
            *((f"the range of {k}", ends) for k, ends in bounds.items()),
            *((f"the constraint {w!r}", (c,)) for w, c in zip(written, constraints, strict=True)),
        ):
            self._check_sizes(what, exprs, integers)
        if next(self.sizes(), None) is None:
            raise SpecError(
                "no sizes satisfy "
                + (" and ".join(map(repr, written)) or "the shapes")
                + " with every size at least 1"
                + (f", whatever {', '.join(constants)} is" if constants else "")
            )
        for tensor in bounds:
            for at in islice(self.sizes(), 4):
                low, high = self.bounds(tensor, at) or (0, 0)
                if low > high:
                    raise SpecError(f"{tensor}: the range {tensors[tensor].range!r} is empty")
                start = tensors[tensor].start
                if start is not None and not low <= start <= high:
                    raise SpecError(
                        f"{tensor} starts at {start:g}, outside its range "
                        f"{tensors[tensor].range!r}: write init= a number within"
                    )
        self._set(program=self._lowered(body, integers))

    def _lowered(self, body: Body, integers: set[str]) -> Program | None:
        """Return the definition as statements, None where there is none."""
        for letter, size in body.declared.ranges.items():
            self._check_sizes(f"ranges[{letter!r}]", (size,), integers)
        if self.definition is None:
            return None
        declared = replace(
            body.declared, given=self.given, shapes=self.shapes,
            sizes=frozenset(self.dims) | integers, constants=tuple(self.constants),
            updates=frozenset(self.updates.values()),
        )  # fmt: skip
        program = lower(body.equations, body.source, declared)
        check_program(program, body.source, islice(self.sizes(), 24))
        return program

    def _check_names(self, integers: set[str]) -> None:
        for name in self.tensors:
            if name in self.dims:
                raise SpecError(
                    f"{name} is both a tensor and a dimension: one name means one thing"
                )
        for name in self.constants:
            used = [n for shape in self.shapes.values() for s in shape for n in free_names(s)]
            if name in used and name not in integers:
                raise SpecError(
                    f"the constant {name} stands in a shape, so its values must all be integers"
                )

    def _check_updates(self) -> None:
        named: dict[str, str] = {}
        for buffer, output in self.updates.items():
            if output not in self.outputs:
                raise SpecError(
                    f"{buffer}: update={output!r} names no output: declare its next value, "
                    f"{output}=Output({self.tensors[buffer].shape!r})"
                )
            if output in named:
                raise SpecError(
                    f"{output} is the next value of both {named[output]} and {buffer}: declare an "
                    "output for each"
                )
            named[output] = buffer
            pair = self.shapes[buffer], self.shapes[output]
            if len(pair[0]) != len(pair[1]) or not all(map(same, *pair)):
                raise SpecError(
                    f"{buffer} has shape {self.shape_text(buffer)} but its next value {output} has "
                    f"{self.shape_text(output)}: declare {output}="
                    f"Output({self.tensors[buffer].shape!r})"
                )
        if not self.differentiable_outputs:
            raise SpecError(
                "every output is the next value of a buffer: declare one that the layer computes, "
                'such as y=Output("N C")'
            )

    def _check_sizes(self, what: str, exprs: Sequence[Expr], integers: set[str]) -> None:
        for expr in exprs:
            for name in free_names(expr):
                if name not in self.dims and name not in integers:
                    raise SpecError(
                        f"{what} names {name}, which is in no shape of an input or parameter "
                        "and no integer constant, so nobody could know it"
                    )

    def _of_kind(self, *kinds: str) -> tuple[str, ...]:
        return tuple(k for k, t in self.tensors.items() if t.kind in kinds)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, in declared order."""
        return self._of_kind("input")

    @cached_property
    def params(self) -> tuple[str, ...]:
        """The names of the parameters, in declared order."""
        return self._of_kind("param")

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in declared order."""
        return self._of_kind("output")

    @cached_property
    def updates(self) -> dict[str, str]:
        """By buffer, the output that is its next value; a buffer without one is left out."""
        return {k: t.update for k, t in self.tensors.items() if t.update is not None}

    @cached_property
    def differentiable_outputs(self) -> tuple[str, ...]:
        """The outputs that the pullback takes a cotangent of: all but next values of buffers."""
        return tuple(k for k in self.outputs if k not in self.updates.values())

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Inputs, parameters and buffers: what the layer is called with, in declared order."""
        return self._of_kind("input", "param", "buffer")

    @cached_property
    def differentiable(self) -> tuple[str, ...]:
        """The tensors whose gradient the pullback must return, in declared order."""
        return tuple(k for k in self.given if self.tensors[k].differentiable)

    @cached_property
    def least(self) -> dict[str, float]:
        """The smallest value of every dimension and constant."""
        return dict.fromkeys(self.dims, 1) | {c: min(v) for c, v in self.constants.items()}

    @cached_property
    def constant_choices(self) -> tuple[dict[str, Any], ...]:
        """Every combination of the constants' values."""
        names = tuple(self.constants)
        return tuple(dict(zip(names, v, strict=True)) for v in product(*self.constants.values()))

    def sizes(
        self,
        constants: Mapping[str, Any] | None = None,
        preferred: Mapping[str, int] | None = None,
        given: Mapping[str, int] | None = None,
    ) -> Iterator[dict[str, int]]:
        """Yield sizes of the dimensions that all constraints allow, those near `preferred` first.

        Without `constants`, sizes for every combination of their values, each with the
        constants' values among the result, in a few different patterns. `given` fixes some.
        """
        positive = [
            Call(">=", (size, ONE))
            for shape in self.shapes.values()
            for size in shape
            if free_names(size)
        ]
        if constants is not None:
            fixed = {k: v for k, v in constants.items() if isinstance(v, int)}
            chosen = dict(given or {})
            free = [n for n in self.dims if n not in chosen]
            known = {**fixed, **chosen}
            for found in solutions(free, (*self.where, *positive), known, preferred or {}):
                yield {n: chosen.get(n, found.get(n, 0)) for n in self.dims}
            return
        primes = dict(zip(self.dims, (2, 3, 5, 4, 7, 6, 8, 9) * len(self.dims), strict=False))
        mirrored = dict(zip(reversed(self.dims), primes.values(), strict=True))
        patterns = [primes, mirrored, dict.fromkeys(self.dims, 1), dict.fromkeys(self.dims, 2)]
        for pattern in patterns:
            for choice in self.constant_choices:
                for found in islice(self.sizes(choice, pattern), 1):
                    yield {**choice, **found}

    def shape(self, tensor: str, sizes: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the shape of a tensor in the definition at sizes and constants."""
        return tuple(evaluate(size, sizes) for size in self.shapes[tensor])

    def bounds(self, tensor: str, sizes: Mapping[str, Any]) -> tuple[float, float] | None:
        """Return the lowest and highest value a tensor may hold, None where it is unbounded."""
        declared = self.tensors[tensor].range
        if declared is None:
            return None
        low, high = parse_range(declared, tensor)
        return evaluate(low, sizes), evaluate(high, sizes)

    def shape_text(self, tensor: str) -> str:
        """Return the declared shape, such as "(N, C)" or "(*B, D)"."""
        sizes = marked(self.shapes[tensor], self.stars, self.ones.get(tensor, ()))
        return f"({', '.join(sizes)})"

    @overload
    def register(
        self,
        function: F,
        /,
        *,
        name: str | None = None,
        dtypes: Sequence[str] | None = None,
        jvp: Callable[..., Any] | None = None,
        double_vjp: Callable[..., Any] | None = None,
    ) -> F: ...
    @overload
    def register(
        self,
        /,
        *,
        name: str | None = None,
        dtypes: Sequence[str] | None = None,
        jvp: Callable[..., Any] | None = None,
        double_vjp: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]: ...
    def register(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        dtypes: Sequence[str] | None = None,
        jvp: Callable[..., Any] | None = None,
        double_vjp: Callable[..., Any] | None = None,
    ) -> Any:
        """Register a function, or an adapter, as a layer of this spec: `@spec.register`.

        `name` is the function's own by default; `dtypes` those the layer accepts, by default
        what it accepts when tried; `jvp` and `double_vjp` its forward mode and double backward, as
        of Layer. Raises SpecError where the file has such a layer already.
        """
        frame = sys._getframe(1)
        file, line = str(Path(frame.f_code.co_filename).resolve()), frame.f_lineno
        module = _executing(frame, frame.f_code.co_filename)

        def keep(function: Callable[..., Any]) -> Callable[..., Any]:
            if not callable(function):
                raise SpecError(f"spec {self.name!r}: {function!r} is not callable")
            label = str(name or getattr(function, "__name__", type(function).__name__))
            new = Registration(self, label, function, checked_dtypes(dtypes), file, line,
                               module, jvp, double_vjp)  # fmt: skip
            old = REGISTERED.get((file, label))
            if old is not None and (_place(old) != _place(new) or _at_once(old, new)):
                raise SpecError(
                    f"two layers are called {label!r} in {file}: rename one, "
                    f'or register it with a name of its own, @{self.name}.register(name="...")'
                )
            REGISTERED[file, label] = new
            return function

        return keep if function is None else keep(function)


def _check_declared(name: str, value: object) -> None:
    if isinstance(value, Spec):
        raise SpecError(f"{name}={value!r}: a spec that is called is a part: {name}=Part(...)")
    if not isinstance(value, Tensor | Constant | Part):
        raise SpecError(
            f"{name}={value!r}: declare it with Input, Param, Buffer, Output, Constant or Part"
        )
    if name.startswith("_"):
        raise SpecError(f"{name}: a name starting with _ is reserved")
    if keyword.iskeyword(name):
        raise SpecError(f"{name} has a meaning in Python: choose another name")


def _executing(frame: FrameType | None, file: str) -> CodeType | None:
    """Return the code of a file where it is being executed, not just a function of it."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and code.co_filename == file:
            return code
        frame = frame.f_back
    return None


def _at_once(old: Registration, new: Registration) -> bool:
    """Whether one execution of a file made both, each time from new code, and they differ: what a
    helper of the file registers in a loop, all of it written in one place."""
    same = old.spec is new.spec and old.function is new.function
    return new.module is not None and old.module is new.module and not same


def _place(entry: Registration) -> tuple[object, ...]:
    """Return where a function is written, so that loading a file twice is not a duplicate."""
    if (code := getattr(entry.function, "__code__", None)) is not None:
        return code.co_filename, code.co_firstlineno
    return entry.file, entry.line


def _parsed(ranges: Mapping[str, str]) -> dict[str, Expr]:
    """Return the declared ranges as sizes."""
    found = {}
    for letter, size in ranges.items():
        parsed = parse_shape(size, f"ranges[{letter!r}]")
        if len(parsed) != 1:
            raise SpecError(f'ranges[{letter!r}] = {size!r}: a range is one size, such as "4*H"')
        (found[letter],) = parsed
    return found
