"""Calls of parts, written out as the plain equations that they stand for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gradverify.errors import SpecError
from gradverify.notation.dims import same
from gradverify.notation.inline import Binding, Part, Place, fresh, size, substitute, write
from gradverify.notation.parse import Equation, Invocation, Source
from gradverify.notation.ranges import INDEX, Declared, check_ranges, infer
from gradverify.notation.tree import ONE, ZERO, Call, Expr, Name, Read, Reduce, free_names, text

Shape = tuple[Expr, ...]


@dataclass(frozen=True)
class Composed:
    """Plain equations and what they may refer to.

    `bindings` say, by part, what its dimensions and constants are in the composition, as far as
    its parameters need them; `where` are the constraints of all parts.
    """

    equations: tuple[Equation, ...]
    declared: Declared
    bindings: Mapping[str, Binding]
    where: tuple[Expr, ...]


def compose(
    lines: Sequence[Equation | Invocation],
    source: Source,
    declared: Declared,
    parts: Mapping[str, Part],
) -> Composed:
    """Return the equations that the lines of a definition stand for, calls written out.

    The parameter w of a part fc becomes fc_w, its constant eps fc_eps and its intermediate
    tensor z fc_z; what it takes and gives are the tensors of the call. Its dimensions are bound
    by the shapes of these. Raises SpecError, with the place, where a call does not fit.
    """
    return _Composer(lines, source, declared, parts).run()


def unify(binding: Binding, dims: Sequence[str], formal: Shape, actual: Shape) -> None:
    """Bind the dimensions that stand plainly in a formal shape to the sizes of the actual one."""
    for wanted, found in zip(formal, actual, strict=True):
        if isinstance(wanted, Name) and wanted.id in dims:
            binding.setdefault(wanted.id, found)


@dataclass
class _Composer:
    """The state of one composition: calls are written out as soon as their shapes show."""

    lines: Sequence[Equation | Invocation]
    source: Source
    declared: Declared
    parts: Mapping[str, Part]
    bindings: dict[str, Binding] = field(default_factory=dict)
    where: dict[Expr, None] = field(default_factory=dict)

    def run(self) -> Composed:
        self._check_calls()
        pending = {k: x for k, x in enumerate(self.lines) if isinstance(x, Invocation)}
        written: dict[int, list[Equation]] = {
            k: [x] for k, x in enumerate(self.lines) if isinstance(x, Equation)
        }
        while pending:
            plain = [e for k in written for e in written[k]]
            shapes = self._shapes(plain, pending.values())
            ready = [k for k, x in pending.items() if all(a.tensor in shapes for a in x.args)]
            bound = [k for k in ready if not self._unify(pending[k], shapes)[1]]
            if not bound:
                # What its left side does not show of a tensor, its uses may.
                shapes = self._shapes(plain, pending.values(), by_uses=True)
                # In a recurrence whose state shows nowhere else, some call has to be the first.
                least = min(ready or pending, key=lambda k: len(self._unify(pending[k], shapes)[1]))
                bound = [least]
            for k in bound:
                call = pending.pop(k)
                written[k] = self._write(call, self._bind(call, shapes))
        equations = tuple(e for k in sorted(written) for e in written[k])
        return Composed(equations, self.declared, self.bindings, tuple(self.where))

    def _check_calls(self) -> None:
        """Check what can be checked before any shape is known, and reserve the names."""
        self.ranks = {k: len(shape) for k, shape in self.declared.shapes.items()}
        for line in self.lines:
            if isinstance(line, Equation):
                self.ranks.setdefault(line.target, len(line.subscripts))
            else:
                self._check_call(line)
        for name in {"pi", "inf"} & self.ranks.keys() if self.parts else ():
            raise SpecError(f"{name} is a number to the parts: give the tensor {name} another name")
        # A size that is in the shape of an output only is still to be bound, by some part.
        known = [n for k in self.declared.given for n in self.declared.shapes[k]]
        known += [part.given[k] for part in self.parts.values() for k in part.given]
        self.taken = {*self.ranks, *self.declared.constants,
                      *(x for n in known for x in free_names(n))}  # fmt: skip
        seen: set[str] = set()
        for call in self.lines:
            if not isinstance(call, Invocation):
                continue
            part = self.parts[call.part]
            for actual in call.args:
                if actual.tensor not in self.ranks:
                    raise self.source.error(
                        f"{actual.tensor} is no tensor of this spec: a part takes tensors, and "
                        "nothing declares or defines this one",
                        actual.at,
                    )
            if call.part in seen:
                continue
            seen.add(call.part)
            constants = [c for c in part.declared.constants if c not in part.given]
            for own in (*part.params, *constants):
                name = f"{call.part}_{own}"
                if name in self.taken or name in self.parts:
                    raise self.source.error(
                        f"{own} of the part {call.part} is called {name} here, and something else "
                        "is called so already: rename that, or the part",
                        call.at,
                    )
                self.taken.add(name)

    def _check_call(self, call: Invocation) -> None:
        part, outputs = self.parts[call.part], self.parts[call.part].declared.wanted
        for what, names, found in (
            ("takes", part.inputs, call.args),
            ("gives", outputs, call.targets),
        ):
            if len(names) != len(found):
                raise self.source.error(
                    f"{call.part} {what} {len(names)} tensor(s), {', '.join(names)}, "
                    f"not {len(found)}",
                    call.at,
                )
        for name, target in zip(outputs, call.targets, strict=True):
            rank = len(target.subscripts) + len(part.declared.shapes[name])
            self.ranks.setdefault(target.tensor, rank)

    def _place(self, call: Invocation) -> Place:
        """Return where a call stands; it is mapped over the subscripts of its targets."""
        first, *others = (t.subscripts for t in call.targets)
        letters = tuple(s.id for s in first if isinstance(s, Name))
        plain = len(set(letters)) == len(first) and all(INDEX.fullmatch(x) for x in letters)
        if not plain or any(o != first for o in others):
            raise self.source.error(
                "what a part gives has plain leading indices, the same for all: h[t], c[t] = ...",
                call.targets[0].at,
            )
        ranges = {k: n for k, n in self.declared.ranges.items() if k in letters}
        return Place(call, letters, self.source, self.taken, ranges)

    def _shapes(
        self,
        equations: Sequence[Equation],
        pending: Iterable[Invocation],
        *,
        by_uses: bool = False,
    ) -> dict[str, Shape]:
        """Return the shapes that show, each pending call standing for an equation that defines
        its targets and reads its arguments in one way or another."""
        stand_ins = []
        for call in pending:
            place = self._place(call)
            rest = {t: max(self.ranks[t.tensor] - len(t.subscripts), 0)
                    for t in (*call.args, *call.targets)}  # fmt: skip
            pool = place.free(place.mapped, max(rest.values()))
            body: Expr = ZERO
            for a in call.args:
                axes = tuple(pool[: rest[a]])
                read: Expr = replace(a, subscripts=(*a.subscripts, *map(Name, axes)))
                body = Call("+", (body, Reduce("sum", axes, read, a.at) if axes else read), a.at)
            for t in call.targets:
                left = (*t.subscripts, *map(Name, pool[: rest[t]]))
                stand_ins.append(Equation(t.tensor, left, body, False, t.at, place.ranges))
        scopes, shapes, _ = infer(
            [*equations, *stand_ins], self.source, self.declared, by_uses=by_uses
        )
        self.scopes = scopes[: len(equations)]
        return shapes

    def _unify(self, call: Invocation, shapes: Mapping[str, Shape]) -> tuple[Binding, list[str]]:
        """Return what the shapes of a call bind, and the dimensions that they do not bind."""
        part = self.parts[call.part]
        constants = {c: Name(f"{call.part}_{c}") for c in part.declared.constants}
        binding: Binding = {**constants, **part.given, **self.bindings.get(call.part, {})}
        for name, actual in self._pairs(call):
            formal, rank = part.declared.shapes[name], self.ranks[actual.tensor]
            if rank != len(actual.subscripts) + len(formal):
                raise self._mismatch(call, name, binding, actual, shapes)
            if actual.tensor in shapes:
                unify(binding, part.dims, formal, shapes[actual.tensor][len(actual.subscripts) :])
        return binding, [d for d in part.dims if d not in binding]

    def _pairs(self, call: Invocation) -> tuple[tuple[str, Read], ...]:
        """Return the tensors of a part, each with what it is in a call."""
        part = self.parts[call.part]
        names, tensors = (*part.inputs, *part.declared.wanted), (*call.args, *call.targets)
        return tuple(zip(names, tensors, strict=True))

    def _bind(self, call: Invocation, shapes: Mapping[str, Shape]) -> Binding:
        """Return what the dimensions and constants of a part are in one call of it."""
        part = self.parts[call.part]
        binding, unbound = self._unify(call, shapes)
        for dim in unbound:
            if dim in self.taken:
                # What would bind it may be a shape that does not show, for want of a range.
                hidden = {a.tensor for a in call.args if a.tensor not in shapes}
                hidden_ones = (s for s in self.scopes if s.equation.target in hidden)
                check_ranges(hidden_ones, self.source, self.declared.sizes)
                raise self.source.error(
                    f"nothing says what {dim} of {call.part} is, and {dim} has a meaning here "
                    f'already: write {call.part}=Part(..., {dim}="{fresh(dim, self.taken)}")',
                    call.at,
                )
            self.taken.add(dim)
            binding[dim] = Name(dim)
        if call.part not in self.bindings:
            self._declare(call.part, binding, unbound)
        for name, actual in self._pairs(call):
            formal = part.declared.shapes[name]
            found = shapes.get(actual.tensor)
            if found is not None and not all(
                same(substitute(a, binding), b)
                for a, b in zip(formal, found[len(actual.subscripts) :], strict=True)
            ):
                raise self._mismatch(call, name, binding, actual, shapes)
            if name in part.declared.integers and actual.tensor not in self.declared.integers:
                raise self.source.error(
                    f"{name} of {call.part} holds integers, but {actual.tensor} does not: "
                    "declare it Input(..., dtype=int)",
                    actual.at,
                )
        return binding

    def _declare(self, name: str, binding: Binding, own: Sequence[str]) -> None:
        """Make the parameters and constants of a part known; its first call binds their sizes."""
        part, declared = self.parts[name], self.declared
        shapes = {
            f"{name}_{p}": tuple(size(s, binding) for s in part.declared.shapes[p])
            for p in part.params
        }
        constants = {c: f"{name}_{c}" for c in part.declared.constants if c not in part.given}
        sizes = {n for k in part.dims for n in free_names(binding[k])}
        sizes |= {constants[c] for c in constants if c in part.declared.sizes}
        outside = part.declared.outside
        self.declared = replace(
            declared,
            shapes={**declared.shapes, **shapes},
            given=(*declared.given, *shapes),
            sizes=declared.sizes | sizes,
            constants=(*declared.constants, *constants.values()),
            outside={**declared.outside,
                     **{f"{name}_{p}": outside[p] for p in part.params if p in outside}},
        )  # fmt: skip
        held = {n for p in part.params for s in part.declared.shapes[p] for n in free_names(s)}
        held |= {*own, *constants}
        self.bindings[name] = {k: v for k, v in binding.items() if k in held}

    def _mismatch(
        self,
        call: Invocation,
        name: str,
        binding: Binding,
        actual: Read,
        shapes: Mapping[str, Shape],
    ) -> SpecError:
        formal = self.parts[call.part].declared.shapes[name]
        here = [(s, substitute(s, binding)) for s in formal]
        bound = {text(s): f"{text(s)} = {text(n)}" for s, n in here if s != n}
        known = shapes.get(actual.tensor)
        if known is None:
            rank = self.ranks[actual.tensor] - len(actual.subscripts)
            found = f"{max(rank, 0)} dimension(s)"
        else:
            found = f"the shape {_shape_text(known[len(actual.subscripts) :])}"
        return self.source.error(
            f"{name} of {call.part} has the shape {_shape_text(formal)}"
            + (f" with {', '.join(bound.values())}" if bound else "")
            + f", but {text(actual)} has {found}",
            actual.at,
        )

    def _write(self, call: Invocation, binding: Binding) -> list[Equation]:
        part = self.parts[call.part]
        equations, outside = write(part, binding, self._place(call))
        self.declared = replace(self.declared, outside={**self.declared.outside, **outside})
        self._constrain(part, binding)
        return equations

    def _constrain(self, part: Part, binding: Binding) -> None:
        # What it gives may be of a size, such as H-K+1, that is positive at some sizes only.
        sizes = (n for k in part.declared.wanted for n in part.declared.shapes[k])
        inner = [Call(">=", (size(n, binding), ONE)) for n in sizes if isinstance(n, Call)]
        for found in (*(substitute(c, binding) for c in part.where), *inner):
            if free_names(found):
                self.where[found] = None


def _shape_text(shape: Shape) -> str:
    return "(" + ", ".join(text(s) for s in shape) + ")"
