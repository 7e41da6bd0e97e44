"""A spec made of specs: Part, what parts add to the spec that declares them, and chains."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from gradverify.declare import Constant, Output, Tensor, parse_range
from gradverify.errors import SpecError, nearest
from gradverify.notation import compose, inline
from gradverify.notation.dims import parse_shape
from gradverify.notation.marks import check_marks, marked, parse_marked
from gradverify.notation.parse import Equation, Invocation, Source, parse_equations
from gradverify.notation.parse import parse_expression as parse
from gradverify.notation.ranges import Declared
from gradverify.notation.tree import Expr, Name, Number, free_names, text

Shapes = Mapping[str, tuple[Expr, ...]]


@dataclass(frozen=True, init=False)
class Part:
    """A spec that the definition of another calls: `y = fc(x)` with `fc=Part(linear, K="H")`.

    What is given binds dimensions (`K="H"`, `K="4*D"`, `K=3`) and constants (`eps=1e-5`, or a
    constant of the other spec, `eps="eps"`); the shapes at a call bind all other dimensions.
    """

    spec: Any  # a Spec, whose module imports this one
    given: Mapping[str, str | float]

    def __init__(self, spec: Any, /, **given: str | float) -> None:
        if not all(hasattr(spec, k) for k in ("dims", "constants", "equations")):
            raise SpecError(f"Part({spec!r}): the first argument is a Spec")
        known = (*spec.dims, *spec.constants)
        for name in given:
            if name not in known:
                raise SpecError(
                    f"Part({spec.name}, {name}=...): {spec.name} has no dimension or constant "
                    f"{name}; {nearest(name, known)}"
                )
        object.__setattr__(self, "spec", spec)
        object.__setattr__(self, "given", given)

    def values(self, name: str, constants: Mapping[str, Constant]) -> dict[str, Expr]:
        """Return what is given to the part called `name` of a spec with such constants."""
        return {k: self._value(f"{name}=Part(..., {k}={v!r})", k, v, constants)
                for k, v in self.given.items()}  # fmt: skip

    def callee(self, name: str, constants: Mapping[str, Constant]) -> inline.Part:
        """Return the part called `name` of a spec with such constants, as the notation has it."""
        spec, given = self.spec, self.values(name, constants)
        return inline.Part(
            spec.equations, spec.program.declared, spec.inputs, spec.dims, spec.where, given
        )

    def _value(
        self, what: str, name: str, value: str | float, constants: Mapping[str, Constant]
    ) -> Expr:
        if name in self.spec.dims:
            sizes = parse_shape(str(value), what)
            if len(sizes) != 1:
                raise SpecError(f'{what}: a dimension is one size, such as "4*D"')
            return sizes[0]
        found: Expr
        if isinstance(value, str):
            found = parse(Source(value, what))
            if not isinstance(found, Name) or found.id not in constants:
                raise SpecError(f"{what}: {value} is no number and no constant of this spec")
            integer = constants[found.id].is_integer
        else:
            constant = Constant(value)
            found, integer = Number(Fraction(value)), constant.is_integer
        if Constant(*self.spec.constants[name]).is_integer and not integer:
            raise SpecError(f"{what}: {name} of {self.spec.name} is an integer")
        return found


@dataclass(frozen=True)
class Body:
    """What a spec declares, its parts included, and its equations (None without a definition).

    `declared` and `source` are what the equations refer to and where they stand.
    """

    tensors: Mapping[str, Tensor]
    constants: Mapping[str, tuple[Any, ...]]
    shapes: Shapes
    where: tuple[Expr, ...]
    equations: tuple[Equation, ...]
    declared: Declared
    source: Source


def expand(
    declared: Mapping[str, Tensor | Constant | Part],
    definition: str | None,
    ranges: Mapping[str, Expr],
) -> Body:
    """Return a spec's declarations with its parts' parameters and constants in their places.

    SpecError shows what cannot be read, and a call of a part that does not fit.
    """
    tensors = {k: v for k, v in declared.items() if isinstance(v, Tensor)}
    constants = {k: v for k, v in declared.items() if isinstance(v, Constant)}
    parts = {k: v for k, v in declared.items() if isinstance(v, Part)}
    written = {k: parse_marked(t.shape, k) for k, t in tensors.items()}
    given = tuple(k for k, t in tensors.items() if t.kind != "output")
    check_marks(written, given, constants)
    shapes = {k: shape.sizes for k, shape in written.items()}
    source = Source("" if definition is None else definition).dedented()
    lines = () if definition is None else parse_equations(source, parts)
    for line in lines:
        if isinstance(line, Invocation) and parts[line.part].spec.program is None:
            raise source.error(
                f"{line.part} has no definition, so the definition of another cannot call it",
                line.at,
            )
    callees = {k: p.callee(k, constants) for k, p in parts.items() if p.spec.program is not None}
    sizes = [s for shape in shapes.values() for s in shape]
    sizes += [s for p in callees.values() for k, s in p.given.items() if k in p.dims]
    integers = {k for k, c in constants.items() if c.is_integer}
    names = {n for s in sizes for n in free_names(s)} - constants.keys()
    own = Declared(
        shapes=shapes,
        given=given,
        wanted=tuple(k for k, t in tensors.items() if t.kind == "output"),
        integers=frozenset(k for k, t in tensors.items() if t.integer),
        sizes=frozenset(names | integers),
        constants=tuple(constants),
        ranges=ranges,
        outside={k: t.outside for k, t in tensors.items() if t.outside is not None},
        stars=tuple(dict.fromkeys(s.star for s in written.values() if s.star)),
        ones={k: s.ones for k, s in written.items() if s.ones},
        limits={k: parse_range(t.range, k) for k, t in tensors.items() if t.integer and t.range},
        listed=frozenset(k for k, t in tensors.items() if t.values is not None),
    )
    unused = [k for k in parts if not any(isinstance(x, Invocation) and x.part == k for x in lines)]
    if unused:
        raise SpecError(
            f"no equation calls the part {unused[0]}: write e.g. y = {unused[0]}(x) in definition"
        )
    found = compose.compose(lines, source, own, callees)
    calls = [x for x in lines if isinstance(x, Invocation)]
    return _merged(declared, found, calls, source)


def _merged(
    declared: Mapping[str, Tensor | Constant | Part],
    found: compose.Composed,
    calls: Sequence[Invocation],
    source: Source,
) -> Body:
    tensors: dict[str, Tensor] = {}
    constants: dict[str, tuple[Any, ...]] = {}
    for key, value in declared.items():
        if isinstance(value, Tensor):
            tensors[key] = value
        elif isinstance(value, Constant):
            constants[key] = value.values
        else:
            binding, spec = found.bindings[key], value.spec
            updates = _updates(spec, [x for x in calls if x.part == key], found.declared, source)
            for p in (k for k in spec.given if k not in spec.inputs):
                shape = found.declared.shapes[f"{key}_{p}"]
                moved = _moved(spec.tensors[p], shape_text(shape), binding, p)
                tensors[f"{key}_{p}"] = replace(moved, update=updates.get(p))
            constants |= {f"{key}_{c}": values for c, values in spec.constants.items()
                          if c not in value.given}  # fmt: skip
    shapes = {k: found.declared.shapes[k] for k in tensors}
    return Body(
        tensors, constants, shapes, found.where, found.equations, found.declared, source
    )  # fmt: skip


def _updates(
    spec: Any, calls: Sequence[Invocation], declared: Declared, source: Source
) -> dict[str, str]:
    """Return, by buffer of a part, the output of the composition that is its next value."""
    first, *others = calls
    if spec.updates and others:
        raise source.error(
            f"each call of {first.part} gives its buffers other next values: declare a part for "
            f"each call, {first.part}2=Part(...)",
            others[0].at,
        )
    targets, found = dict(zip(spec.outputs, first.targets, strict=True)), {}
    for buffer, output in spec.updates.items():
        own, target = f"{first.part}_{buffer}", targets[output]
        if target.subscripts:
            raise source.error(
                f"{text(target)} has a value for each {text(target.subscripts[0])}, but {own} has "
                f"one next value: call {first.part} without subscripts",
                target.at,
            )
        if target.tensor not in declared.wanted:
            raise source.error(
                f"{target.tensor} is the next value of {own}: declare it, "
                f'{target.tensor}=Output("{shape_text(declared.shapes[own])}")',
                target.at,
            )
        found[buffer] = target.tensor
    return found


def _moved(tensor: Tensor, shape: str, binding: Mapping[str, Expr], name: str) -> Tensor:
    """Return a part's tensor with the shape and the range that it has in the composition."""
    bounds = tensor.range
    if bounds is not None:
        ends = (inline.substitute(e, binding) for e in parse_range(bounds, name))
        bounds = "..".join(map(text, ends))
    return replace(tensor, shape=shape, range=bounds)


def shape_text(
    shape: Sequence[Expr], stars: Collection[str] = (), ones: Collection[int] = ()
) -> str:
    """Return a shape as it is declared, such as "N 4*H" or "*B N|1"."""
    return " ".join(size.replace(" ", "") for size in marked(shape, stars, ones))


def chain(parts: Mapping[str, Part]) -> tuple[dict[str, Tensor | Constant | Part], str]:
    """Return the declarations and the definition of specs in a row.

    The first output of each is the first input of the next. Other inputs are inputs of the
    chain, with the part's name in front; outputs on the way are named likewise, of which next
    values of buffers are outputs of the chain, after its own. A dimension that the tensor handed
    on does not bind gets its own name, or K2, K3, ... where that is taken. What is any number of
    dimensions to the first spec is so to the chain.
    """
    declared: dict[str, Tensor | Constant | Part] = {}
    updates: dict[str, Tensor] = {}
    lines: list[str] = []
    taken = {n for p in parts.values() for v in p.given.values() for n in _named(v)}
    handed = ""
    shape: tuple[Expr, ...] = ()
    stars: set[str] = set()
    for name, part in parts.items():
        spec, last = part.spec, name == [*parts][-1]
        if not spec.inputs:
            raise SpecError(f"{name} takes no input, so it cannot stand in a chain")
        given, binding = _placed(name, part, shape if lines else None, declared, taken)
        if not lines:
            stars = {text(binding[dim]) for dim in spec.stars if isinstance(binding[dim], Name)}

        def own(tensor: str, plain: bool, part: str = name) -> str:
            free = plain and tensor not in declared and tensor not in parts
            return tensor if free else f"{part}_{tensor}"

        takes = {x: own(x, not lines) for x in spec.inputs}
        if lines:
            takes[spec.inputs[0]] = handed
        for x in spec.inputs:
            if takes[x] != handed:
                sizes = [inline.size(s, binding) for s in spec.shapes[x]]
                own_shape = shape_text(sizes, stars, spec.ones.get(x, ()))
                declared[takes[x]] = _moved(spec.tensors[x], own_shape, binding, x)
        declared[name] = Part(spec, **given)
        gives = {y: own(y, last) for y in spec.outputs}
        for y in spec.outputs if last else spec.updates.values():
            sizes = [inline.size(s, binding) for s in spec.shapes[y]]
            (declared if last else updates)[gives[y]] = Output(shape_text(sizes, stars))
        lines.append(f"{', '.join(gives.values())} = {name}({', '.join(takes.values())})")
        handed = gives[spec.outputs[0]]
        shape = tuple(inline.size(s, binding) for s in spec.shapes[spec.outputs[0]])
    return {**declared, **updates}, "\n".join(lines)


def _placed(
    name: str,
    part: Part,
    shape: tuple[Expr, ...] | None,
    declared: dict[str, Tensor | Constant | Part],
    taken: set[str],
) -> tuple[dict[str, str | float], dict[str, Expr]]:
    """Return what to give to a part that is handed a tensor of `shape`, and what is bound then."""
    spec, given = part.spec, dict(part.given)
    for c, values in spec.constants.items():
        if c not in given and Constant(*values).is_integer:
            # It may stand in shapes of the chain, so it is a constant of the chain's own.
            given[c] = inline.fresh(c, taken)
            declared[str(given[c])] = Constant(*values)
    constants = {k: v for k, v in declared.items() if isinstance(v, Constant)}
    binding = Part(spec, **given).values(name, constants)
    if shape is not None and len(shape) == len(spec.shapes[spec.inputs[0]]):
        compose.unify(binding, spec.dims, spec.shapes[spec.inputs[0]], shape)
    for dim in spec.dims:
        if dim not in binding:
            given[dim] = inline.fresh(dim, taken)
            binding[dim] = Name(str(given[dim]))
    binding |= {c: Name(f"{name}_{c}") for c in spec.constants if c not in binding}
    return given, binding


def _named(given: str | float) -> tuple[str, ...]:
    return free_names(parse(Source(given, "a size"))) if isinstance(given, str) else ()
