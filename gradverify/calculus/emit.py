"""Derived statements to the source of a NumPy function in the pullback convention."""

import keyword
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.arrays import Operand, align, gather, padding, scatter
from gradverify.calculus.code import HELPERS, Code
from gradverify.calculus.derive import Derivation, Order, Step, in_order
from gradverify.calculus.functions import Expm1, Floor, Select, StopGradient
from gradverify.calculus.time import ordered_index
from gradverify.calculus.views import Ranges, shape_code, size_code
from gradverify.notation.dims import normal, plus
from gradverify.notation.schedule import Block
from gradverify.notation.tree import Call, Expr, Name, Read, walk

_RESERVED = {
    *keyword.kwlist, *HELPERS, "np", "math", "dtype", "pullback", "noise", "switches",
    "sliding_window_view", "float", "max", "range", "reversed",
}  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """What the emitted source computes beside the plain values.

    `noise`: every additive term gets a random relative error (`noise.add`, `noise.sum`,
    `noise.round`); `absolute`: the pullback adds up absolute values; `switches`: the forward
    notes on which side of every kink it is, and takes another side where it is told to, in the
    pullback likewise. `bare`: the forward computes what the pullback reads, and returns nothing
    besides.
    """

    noise: bool = False
    absolute: bool = False
    switches: bool = False
    bare: bool = False


PLAIN = Mode()


@dataclass
class Lines:
    """Lines of source being written; `assigned` are the tensors that have a value so far, and
    `borrowed` those among them that belong to the caller, so that they must not be changed."""

    lines: list[str] = field(default_factory=list)
    indent: int = 1
    assigned: set[str] = field(default_factory=set)
    borrowed: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Append a line at the present indentation."""
        self.lines.append("    " * self.indent + line)


def variables(derivation: Derivation) -> dict[str, str]:
    """Return the variable for each name that the code itself needs, such as a tensor `np`."""
    taken = _names(derivation)
    found = {}
    for name in sorted(taken & _RESERVED):
        found[name] = _fresh(name + "_", taken)
        taken.add(found[name])
    return found


def function_name(name: str) -> str:
    """Return a name that a function can have whose code needs others for itself.

    A function `softmax-2d` becomes softmax_2d, and `sigmoid`, which calls the helper, sigmoid_.
    """
    made = "".join(c if f"a{c}".isidentifier() else "_" for c in name)
    if not made.isidentifier():  # it starts with a digit
        made = f"_{made}"
    return _fresh(made, _RESERVED)


def _read_twice(steps: Iterable[Step]) -> set[str]:
    """Return the tensors that are read more than once, by one step or by several."""
    times = Counter[str]()
    for step in steps:
        for symbol, read in step.reads.items():
            times[read.tensor] += step.value.count(symbol)
        # What stands in a subscript is read wherever that is.
        times.update(2 * [*(step.sources - {r.tensor for r in step.reads.values()})])
    return {t for t, n in times.items() if n > 1}


def _names(derivation: Derivation) -> set[str]:
    declared = derivation.program.declared
    return set(derivation.shapes) | declared.sizes | set(declared.constants)


def _fresh(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


class Emitter:
    """Writes the steps of a derivation as NumPy code."""

    def __init__(self, derivation: Derivation, mode: Mode = PLAIN) -> None:
        self.d, self.mode = derivation, mode
        declared = derivation.program.declared
        # Nothing flows in from outside a tensor, and nothing out of it.
        derived = (derivation.cotangents, derivation.tangents)
        self.outside = dict(declared.outside) | {
            names[t]: 0.0 for t in declared.outside for names in derived if t in names
        }
        self.helpers: set[str] = set()
        # What stands in a variable already: padding, padded tensors, and windows of a tensor.
        self.known: dict[tuple[str, str], str] = {}
        self.integers = declared.integers
        self.variables = variables(derivation)
        self.taken = _names(derivation) | _RESERVED | set(self.variables.values())
        self.named = self._name_quotients()
        # The index of the loop being written, with its size, and where that loop begins.
        self.fixed: dict[str, Expr] = {}
        self.front = 0
        # With noise, what one statement defines whole and several read is computed twice, and each
        # read takes either: another implementation may compute a thing again (folded, in another
        # order) where this one reads it twice, and the two roundings then do not cancel.
        self.again: dict[str, str] = {}
        steps = [*in_order(derivation.forward), *in_order(derivation.vjp)]
        self.used = {t for s in steps for t in s.sources}
        self.shifted = {e.args[0] for s in steps for e in s.value.atoms(Expm1)}
        writers = Counter(s.target for s in steps)
        twice = mode.noise and not mode.switches  # a switch is noted once
        read = _read_twice(steps) if twice else frozenset[str]()
        self.alone = {self.variable(t) for t, n in writers.items() if n == 1 and t in read}
        # The number of each condition that is a kink, by the equation it stands in, and the index
        # of the loop around it.
        self.sides: dict[tuple[tuple[int, ...], Scalar], tuple[int, str | None]] = {}

    # -- sizes and names

    def _name_quotients(self) -> dict[frozenset[object], tuple[str, Expr]]:
        """Give a size with a quotient in it, such as a convolution's output, a short name."""
        taken = set(self.taken)
        named: dict[frozenset[object], tuple[str, Expr]] = {}
        for step in in_order(self.d.forward):
            for index, size in step.loops:
                quotient = any(isinstance(e, Call) and e.function == "//" for e in walk(size))
                if quotient and normal(size) not in named:
                    name = _fresh(f"n_{index}", taken)
                    taken.add(name)
                    named[normal(size)] = name, size
        return named

    def size(self, size: Expr) -> Expr:
        """Return a size, by its short name if it has one."""
        found = None if isinstance(size, Name) else self.named.get(normal(size))
        return Name(found[0]) if found else size

    def shape(self, tensor: str) -> tuple[Expr, ...]:
        """Return the shape of a tensor, cotangents and tangents included."""
        return tuple(self.size(s) for s in self.d.shapes[tensor])

    def variable(self, name: str) -> str:
        """Return the variable that holds a tensor, size or constant."""
        return self.variables.get(name, name)

    def local(self, name: str) -> str:
        """Return a name for a helping variable that no tensor, size or constant has."""
        return _fresh(name, self.taken)

    # -- statements

    def order(self, order: Order, out: Lines, record: bool = False) -> None:
        """Write statements in their order; `record` where the mode notes switches."""
        for entry in order:
            if not isinstance(entry, Block):
                self.step(entry, out, record)
                continue
            index, backwards, steps = ordered_index(entry.steps)
            for target in dict.fromkeys(s.target for s in steps):
                self.allocate(target, out)
            for step in steps:
                if step.pick is not None and self.picks(step):
                    self.allocate(step.pick, out)
            size = self.size(dict(steps[0].loops)[index])
            span = f"range({size_code(size)})"
            self.front = len(out.lines)
            out.add(f"for {index} in {f'reversed({span})' if backwards else span}:")
            out.indent += 1
            self.fixed = {index: size}
            for step in steps:
                self.step(step, out, record)
            self.fixed = {}
            out.indent -= 1

    def allocate(self, tensor: str, out: Lines) -> None:
        """Make sure that a tensor exists, and is nobody else's, before it is added to."""
        name = self.variable(tensor)
        if tensor in out.borrowed:
            out.borrowed.remove(tensor)
            out.add(f"{name} = np.array({name})")
        elif tensor not in out.assigned:
            out.assigned.add(tensor)
            out.add(f"{name} = np.zeros({shape_code(self.shape(tensor))}, dtype)")

    def step(self, step: Step, out: Lines, record: bool) -> None:
        """Write one statement."""
        ranges = {i: self.size(n) for i, n in step.loops if i not in self.fixed}
        target = scatter(
            step.subscripts, self.shape(step.target), ranges, lambda r: self.read(r, ranges, out)
        )
        left = [*target.axes, *target.looped]
        reduced = [i for i in ranges if i not in left]
        active = record and self.mode.switches and step.target in self.d.cotangents
        value = _Value(self, step, ranges, out, active, bool(target.looped))
        if step.kind == "max":
            self.maximum(step, value, left, reduced, ranges, out, active)
        elif step.kind == "prod":
            axes = [*left, *reduced]
            full, last = self.full(value.elementwise(axes), axes, ranges), _last(len(reduced))
            code = f"noise.prod({full}, {last})" if self.mode.noise else (
                f"np.prod({full}, axis={last})"
            )  # fmt: skip
            self.write(step, Operand(code, tuple(left), True), ranges, out)
        else:
            operand = value.summed(left, reduced)
            if not (step.reads or step.loops):
                # A number: not one of Python's, whose comparisons are no arrays.
                operand = Operand(f"dtype.type({operand.code})", (), True)
            self.write(step, operand, ranges, out)

    def maximum(
        self,
        step: Step,
        value: "_Value",
        left: list[str],
        reduced: list[str],
        ranges: Ranges,
        out: Lines,
        active: bool,
    ) -> None:
        """Write a maximum, and where it is attained if a gradient flows through it."""
        axes = [*left, *reduced]
        full = self.full(value.elementwise(axes), axes, ranges)
        name = self.local(f"{step.target}_terms")
        out.add(f"{name} = {full}")
        if self.picks(step):
            self.helpers.add("first_max")
            first = f"first_max({name}, {len(reduced)})"
            if active:
                first = f"switches.pick({self.key(step.pick)}, {name}, {first}, {len(reduced)})"
            picked = Operand(first, tuple(axes), True)
            order = [i for i, _ in step.pick_loops if i not in self.fixed]
            place = ""
            if self.fixed:
                places = (i if i in self.fixed else ":" for i, _ in step.pick_loops)
                place = f"[{', '.join(places)}]"
            out.add(f"{step.pick}{place} = {align(picked, order)}")
        largest = f"{name}.max(axis={_last(len(reduced))})"
        self.write(step, Operand(largest, tuple(left), True), ranges, out)

    def key(self, label: object) -> str:
        """Return the code of what a kink is noted by: one for each turn of a loop around it."""
        return f"({label!r}, {', '.join(self.fixed)})" if self.fixed else repr(label)

    def picks(self, step: Step) -> bool:
        """Whether the place of a maximum has to be kept, because a gradient flows to it."""
        return step.pick in self.used

    def full(self, operand: Operand, axes: Sequence[str], ranges: Ranges) -> str:
        """Return code that has every one of `axes`, at its full size."""
        code = align(operand, axes)
        if set(operand.axes) == set(axes):
            return code
        shape = shape_code([ranges[i] for i in axes])
        return f"np.broadcast_to({code}, {shape})"

    def write(self, step: Step, operand: Operand, ranges: Ranges, out: Lines) -> None:
        """Write a value to a statement's left side; what falls outside is cropped."""
        name = self.variable(step.target)
        shape = list(self.shape(step.target))
        subscripts = list(step.subscripts)
        crop: str | None = None
        if step.target in self.outside:
            pads = padding(subscripts, shape, ranges)
            if any(pads):
                wide = self.local(f"{step.target}_wide")
                parts, sizes = [], []
                for k, (pad, size) in enumerate(zip(pads, shape, strict=True)):
                    if pad is None:
                        parts.append(":")
                        sizes.append(size)
                        continue
                    low, high = self.pad(k, pad, out)
                    subscripts[k] = plus(subscripts[k], low)
                    parts.append(f"{low.id}:{low.id} + {size_code(size)}")
                    sizes.append(plus(size, low, high))
                out.add(f"{wide} = np.zeros({shape_code(sizes)}, dtype)")
                crop, shape = f"{wide}[{', '.join(parts)}]", sizes
                self.accumulate(wide, subscripts, shape, operand, ranges, out)
        if crop is None:
            plain = step.target not in out.assigned
            self.accumulate(
                name, subscripts, shape, operand, ranges, out,
                first=plain, allocate=lambda: self.allocate(step.target, out),
            )  # fmt: skip
        elif step.target in out.assigned:
            out.add(f"{name} = {name} + {crop}")
        else:
            out.add(f"{name} = {crop}")
        out.assigned.add(step.target)

    def accumulate(
        self,
        name: str,
        subscripts: Sequence[Expr],
        shape: Sequence[Expr],
        operand: Operand,
        ranges: Ranges,
        out: Lines,
        *,
        first: bool = False,
        allocate: Callable[[], None] = lambda: None,
    ) -> None:
        """Write `name[subscripts] += operand`; `first` where it may be a plain assignment."""

        def nested(read: Read) -> Operand:
            return self.read(read, ranges, out)

        target = scatter(subscripts, shape, ranges, nested)
        axes = [*target.axes, *target.looped]
        if target.whole and not target.looped:
            code = align(operand, axes)
            if target.folded:
                code = self.full(operand, axes, ranges)
                bare = not operand.computed or set(operand.axes) != set(axes)
                code = f"{code if bare else f'({code})'}.reshape{target.folded}"
            if not first:
                out.add(f"{name} = {name} + {code}")
            elif target.folded or set(operand.axes) == set(axes):
                # A bare view of another tensor must not become that tensor.
                out.add(f"{name} = {code}{'' if operand.computed or not axes else '.copy()'}")
                if name in self.alone and not self.fixed:
                    self.again[name] = self.local(f"{name}_again")
                    out.add(f"{self.again[name]} = {code}")
            else:
                allocate()
                out.add(f"{name} += {align(operand, axes)}")
            return
        allocate()
        if target.scattered:
            out.add(f"np.add.at({name}, {target.code}, {self.full(operand, axes, ranges)})")
            return
        if not target.looped:
            out.add(f"{name}[{target.code or '...'}] += {align(operand, axes)}")
            return
        part = self.local(f"{name}_part")
        out.add(f"{part} = {self.full(operand, axes, ranges)}")
        for index in target.looped:
            out.add(f"for {index} in range({size_code(ranges[index])}):")
            out.indent += 1
        out.add(f"{name}[{target.code}] += {part}[..., {', '.join(target.looped)}]")
        out.indent -= len(target.looped)

    def read(self, read: Read, ranges: Ranges, out: Lines) -> Operand:
        """Return the operand of one read; what lies outside a tensor is padded first."""
        name = self.variable(read.tensor)
        shape = list(self.shape(read.tensor))
        subscripts = list(read.subscripts)
        if read.tensor in self.outside:
            # With the range of a loop around it, so that one padding does for all its turns.
            pads = padding(subscripts, shape, {**ranges, **self.fixed})
            if any(pads):
                sides = [pad and self.pad(k, pad, out) for k, pad in enumerate(pads)]
                widths = ", ".join(f"({p[0].id}, {p[1].id})" if p else "(0, 0)" for p in sides)
                value = self.outside[read.tensor]
                shown = repr(value).replace("inf", "np.inf")
                fill = f", constant_values={shown}" if value else ""
                code = f"np.pad({name}, ({widths}{',' * (len(sides) == 1)}){fill})"
                for k, side in enumerate(sides):
                    if side is not None:
                        # A name, so that it takes part in sizes as one atom.
                        subscripts[k] = plus(subscripts[k], side[0])
                        shape[k] = plus(shape[k], *side)
                name = self.once(f"{read.tensor}_padded", code, out)
        again = self.again.get(name)
        if again is not None:
            name = f"noise.either({name}, {again})"
        found = gather(name, subscripts, shape, ranges, lambda r: self.read(r, ranges, out))
        # Inside of a loop, windows are those of one turn; with noise, those of one reading.
        if not found.windows or self.fixed or again is not None:
            return found
        return replace(found, code=self.once(f"{read.tensor}_windows", found.code, out))

    def pad(self, axis: int, widths: tuple[str, str], out: Lines) -> tuple[Name, Name]:
        """Return the names of how far subscripts reach below 0 and beyond the end of an axis."""
        low, high = (
            self.once(f"{side}{axis}", width, out)
            for side, width in zip(("low", "high"), widths, strict=True)
        )
        return Name(low), Name(high)

    def once(self, stem: str, code: str, out: Lines) -> str:
        """Return the variable of a value, which is written, in front of a loop, if it is new."""
        if (stem, code) not in self.known:
            name = _fresh(stem, self.taken | set(self.known.values()))
            self.known[stem, code] = name
            line = "    " * (out.indent - bool(self.fixed)) + f"{name} = {code}"
            out.lines.insert(self.front if self.fixed else len(out.lines), line)
            self.front += 1
        return self.known[stem, code]


def _last(count: int) -> str:
    """Return the code of the last `count` axes."""
    last = ", ".join(str(-k) for k in range(count, 0, -1))
    return f"({last})" if count > 1 else last


class _Value:
    """The value of one step as code over chosen axes."""

    def __init__(
        self, emitter: Emitter, step: Step, ranges: Ranges, out: Lines, record: bool, taps: bool
    ) -> None:
        self.emitter, self.step, self.ranges, self.out = emitter, step, ranges, out
        self.record, self.taps = record, taps
        # Integers that are only compared need not become numbers of the tensors' dtype.
        self.numbers = _outside_conditions(step.value)
        self.operands: dict[sympy.Symbol, Operand] = {}
        for symbol in step.value.free_symbols:
            self.operands[symbol] = self.operand(symbol)

    def operand(self, symbol: sympy.Symbol) -> Operand:
        read = self.step.reads.get(symbol)
        if read is not None:
            found = self.emitter.read(read, self.ranges, self.out)
            number = read.tensor in self.emitter.integers and symbol in self.numbers
            return replace(found, code=f"{found.code}.astype(dtype)") if number else found
        if symbol.name in self.ranges:
            size = size_code(self.ranges[symbol.name])
            tail = ".astype(dtype)" if symbol in self.numbers else ""
            return Operand(f"np.arange({size}){tail}", (symbol.name,))
        return Operand(self.emitter.variable(symbol.name), ())

    def axes(self, expr: Scalar) -> set[str]:
        symbols = expr.free_symbols & self.operands.keys()  # the others are decimals
        return {a for s in symbols for a in self.operands[s].axes}

    def code(self, expr: Scalar, axes: Sequence[str]) -> str:
        """Return the code of an expression, broadcast over `axes`."""

        def symbol_code(symbol: sympy.Symbol) -> str:
            found = self.operands.get(symbol)
            return symbol.name if found is None else align(found, axes)

        arrays = {s for s in self.operands if s in self.step.reads or self.operands[s].axes}
        mode = self.emitter.mode
        printer = Code(
            symbol_code,
            arrays=arrays,
            data=self.step.reads,
            total="noise.add" if mode.noise else None,
            switch=(lambda c: self.switch(c, axes)) if mode.switches else None,
            shifted=self.emitter.shifted,
        )
        code = printer.code(expr)
        self.emitter.helpers |= printer.helpers
        return code

    def switch(self, condition: Scalar, axes: Sequence[str]) -> str:
        """Return code that notes a condition on which a derivative depends, else nothing.

        It is evaluated over its own indices in their order, so that it has the same elements in
        the pullback as in the forward.
        """
        sides, place = self.emitter.sides, (self.step.at, condition)
        if self.record and self.active(condition):
            sides.setdefault(place, (len(sides), next(iter(self.emitter.fixed), None)))
        if place not in sides:
            return ""
        number, turn = sides[place]
        own = tuple(i for i in self.ranges if i in self.axes(condition))
        if isinstance(condition, Floor):
            code = f"np.floor({self.code(condition.args[0], own)})"
        else:
            code = self.code(condition, own)
        if turn in own:  # a loop of the forward that the pullback does without
            noted = f"switches.turns({number}, {code}, {own.index(turn)})"
        else:
            noted = f"switches.note({self.emitter.key(number)}, {code})"
        return align(Operand(noted, own, True), axes)

    def active(self, condition: Scalar) -> bool:
        """Whether a condition depends on what a gradient flows through."""
        cotangents, reads = self.emitter.d.cotangents, self.step.reads
        return any(reads[s].tensor in cotangents for s in condition.free_symbols if s in reads)

    def elementwise(self, axes: Sequence[str]) -> Operand:
        value = self.step.value
        used = self.axes(value)
        kept = tuple(a for a in axes if a in used)
        code = self.code(value, kept)
        if self.emitter.mode.noise:
            code = f"noise.round({code})"
        elif self.emitter.mode.absolute:
            code = f"np.abs({code})"
        bare = value.args[0] if isinstance(value, StopGradient) else value
        return Operand(code, kept, bare not in self.operands or self.emitter.mode.noise)

    def summed(self, left: Sequence[str], reduced: Sequence[str]) -> Operand:
        """Return the value summed over `reduced`: a sum over one group of factors that share
        their indices, einsum over several, and outside of it what needs no reduced index."""
        if not reduced:
            return self.elementwise(left)
        outer = sympy.S.One
        groups: dict[frozenset[str], Scalar] = {}
        for factor in sympy.Mul.make_args(self.step.value):
            used = self.axes(factor)
            if used & set(reduced):
                key = frozenset(used)
                groups[key] = groups.get(key, sympy.S.One) * factor
            else:
                outer *= factor
        covered = set().union(*groups) if groups else set()
        for index in reduced:
            if index not in covered:
                outer *= sympy.Symbol(f"({size_code(self.ranges[index])})")
        for s in outer.free_symbols - self.operands.keys():
            self.operands[s] = Operand(s.name, ())
        inner = self.inner(groups, left, reduced)
        if inner is None:
            self.step = replace(self.step, value=outer)
            return self.elementwise(left)
        used = self.axes(outer) | set(inner.axes)
        kept = tuple(a for a in left if a in used)
        code = align(inner, kept)
        if outer != 1:
            total = sympy.Symbol("TOTAL")
            self.operands[total] = Operand(code, kept)
            code = self.code(outer * total, kept)
        if self.emitter.mode.absolute and outer != 1:
            code = f"np.abs({code})"
        return Operand(code, kept, True)

    def natural(self, factor: Scalar, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Return `axes` in the order of a tensor that has them all, so that none is transposed."""
        orders = [self.operands[s].axes for s in factor.free_symbols]
        return min((o for o in orders if set(o) == set(axes)), default=axes)

    def inner(
        self, groups: dict[frozenset[str], Scalar], left: Sequence[str], reduced: Sequence[str]
    ) -> Operand | None:
        if not groups:
            return None
        mode = self.emitter.mode
        parts = []
        for key, factor in groups.items():
            if factor in self.operands and not mode.absolute:
                parts.append(self.operands[factor])
                continue
            axes = self.natural(factor, tuple(a for a in (*left, *reduced) if a in key))
            code = self.code(factor, axes)
            parts.append(Operand(f"np.abs({code})" if mode.absolute else code, axes, True))
        kept = tuple(a for a in left if any(a in p.axes for p in parts))
        if len(parts) == 1 and not mode.noise:
            (part,) = parts
            places = [str(k) for k, a in enumerate(part.axes) if a in reduced]
            order = tuple(a for a in part.axes if a not in reduced)
            axis = ", ".join(places) if len(places) == 1 else f"({', '.join(places)})"
            body = f"({part.code})" if part.computed else part.code
            over = "" if len(places) == len(part.axes) else f"axis={axis}"
            return Operand(f"{body}.sum({over})", order, True)
        letters = {a: chr(ord("a") + k) for k, a in enumerate((*left, *reduced))}
        letters |= {a: a for a in letters if len(a) == 1 and _distinct(letters)}
        inputs = ",".join("".join(letters[a] for a in p.axes) for p in parts)
        codes = ", ".join(p.code for p in parts)
        subscripts = f'"{inputs}->{"".join(letters[a] for a in kept)}"'
        if mode.noise:
            return Operand(f"noise.sum({subscripts}, {codes})", kept, True)
        # To look for an order of two factors takes longer than their product, unless elements
        # repeat in windows: that is worth a copy, for BLAS to multiply.
        large = self.taps or any(p.windows for p in parts)
        search = ", optimize=True" if len(parts) > 2 or large else ""
        return Operand(f"np.einsum({subscripts}, {codes}{search})", kept, True)


def _distinct(letters: Iterable[str]) -> bool:
    return all(len(a) == 1 for a in letters)


def _outside_conditions(value: Scalar) -> set[sympy.Symbol]:
    """Return the symbols that stand anywhere but in a condition."""
    if isinstance(value, Select):
        return set().union(*(_outside_conditions(a) for a in value.args[1:]))
    if value.is_Symbol:
        return {value}
    return set().union(*(_outside_conditions(a) for a in value.args))
