"""The equations of a part, with the names that they have where it is called."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from string import ascii_lowercase

from gradverify.notation.dims import plus, tidy, times
from gradverify.notation.parse import Equation, Invocation, Source
from gradverify.notation.ranges import INDEX, Declared
from gradverify.notation.tree import ONE, Call, Expr, Name, Read, Reduce, free_names, rebuild, walk

Binding = dict[str, Expr]


@dataclass(frozen=True)
class Part:
    """A definition that equations may call.

    `dims` are its dimensions in order of appearance, `given` what is said of dimensions and
    constants where the part is declared.
    """

    equations: tuple[Equation, ...]
    declared: Declared
    inputs: tuple[str, ...]
    dims: tuple[str, ...]
    where: tuple[Expr, ...]
    given: Mapping[str, Expr]

    @property
    def params(self) -> tuple[str, ...]:
        """What it is given besides its inputs; each call of it reads the same."""
        return tuple(k for k in self.declared.given if k not in self.inputs)


def substitute(expr: Expr, binding: Mapping[str, Expr]) -> Expr:
    """Return a size or constraint with its names replaced."""
    if isinstance(expr, Name):
        return binding.get(expr.id, expr)
    found = rebuild(expr, lambda e: substitute(e, binding))
    match found:  # a constant that is given as a number: H + 2*0, 1*K, H//1
        case Call("*", (a, b)):
            return times(a, b)
        case Call("+", (a, b)):
            return plus(a, b)
        case Call("//", (a, b)) if b == ONE:
            return a
    return found


def size(formal: Expr, binding: Mapping[str, Expr]) -> Expr:
    """Return a size of a part as it is in a composition."""
    found = substitute(formal, binding)
    return found if isinstance(formal, Name) else tidy(found)


def fresh(stem: str, taken: set[str]) -> str:
    """Return `stem`, or stem2, stem3, ... where it is taken; it is taken from now on."""
    name = next(n for k in count(1) if (n := stem if k == 1 else f"{stem}{k}") not in taken)
    taken.add(name)
    return name


@dataclass(frozen=True)
class Place:
    """Where a call stands: in which text, which names have a meaning there (more are added as
    the call takes them), and the ranges declared there of the indices that it is mapped over."""

    call: Invocation
    letters: tuple[str, ...]
    source: Source
    taken: set[str]
    ranges: Mapping[str, Expr]

    def free(self, used: set[str], wanted: int) -> list[str]:
        """Return small letters that mean nothing here, at least `wanted`; SpecError if too few."""
        found = [x for x in ascii_lowercase if x not in used and x not in self.taken]
        if wanted > len(found):
            raise self.source.error(
                f"no letters are left for the indices of {self.call.part}: "
                "give tensors and constants of one letter longer names",
                self.call.at,
            )
        return found

    @property
    def mapped(self) -> set[str]:
        """The indices that the call's own subscripts use."""
        inside = (n for a in self.call.args for s in a.subscripts for n in free_names(s))
        return {*self.letters, *inside}


def write(part: Part, binding: Binding, place: Place) -> tuple[list[Equation], dict[str, float]]:
    """Return the equations of a part in one call, and what lies outside of tensors they define."""
    call, padding = place.call, part.declared.outside
    lead = tuple(Name(x, call.at) for x in place.letters)
    actuals = dict(zip(part.inputs, call.args, strict=True))
    homes = actuals | {p: Read(f"{call.part}_{p}", ()) for p in part.params}
    homes |= dict(zip(part.declared.wanted, call.targets, strict=True))
    # What is read beyond its edge is copied: the actual tensor may have another outside, or none.
    padded = [x for x in part.inputs if x in padding]
    inside = dict.fromkeys(e.target for e in part.equations if e.target not in homes)
    for name in (*inside, *padded):
        homes[name] = Read(fresh(f"{call.part}_{name}", place.taken), lead)
    equations = []
    for name in padded:
        rank = len(part.declared.shapes[name])
        axes = tuple(map(Name, place.free(place.mapped, rank)[:rank]))
        whole = replace(actuals[name], subscripts=(*actuals[name].subscripts, *axes))
        copy = homes[name]
        equations.append(Equation(copy.tensor, (*lead, *axes), whole, False, call.at, place.ranges))
    letters = _renamed(part, place)
    names = {**binding, **{old: Name(new) for old, new in letters.items()}}
    writer = _Writer(homes, names, letters, call.at)
    for e in part.equations:
        target = homes[e.target]
        ranges = {**_left_ranges(e, part.declared),
                  **(part.declared.ranges if e.ranges is None else e.ranges)}  # fmt: skip
        placed = {letters.get(k, k): size(n, binding) for k, n in ranges.items()}
        left = (*target.subscripts, *map(writer.visit, e.subscripts))
        body = writer.visit(e.body)
        placed |= place.ranges
        equations.append(Equation(target.tensor, left, body, e.adds, call.at, placed))
    numbered = [replace(e, at=(*call.at[:2], k)) for k, e in enumerate(equations)]
    return numbered, {homes[k].tensor: padding[k] for k in (*inside, *padded) if k in padding}


def _renamed(part: Part, place: Place) -> dict[str, str]:
    """Return other letters for the indices of a part that mean something else at a call."""
    known = {*part.declared.shapes, *part.declared.constants}
    known |= {e.target for e in part.equations}
    own: dict[str, None] = {}
    for e in (x for q in part.equations for y in (*q.subscripts, q.body) for x in walk(y)):
        names = e.indices if isinstance(e, Reduce) else [e.id] if isinstance(e, Name) else []
        own |= {n: None for n in names if INDEX.fullmatch(n) and n not in known}
    clash = [x for x in own if x in place.mapped or x in place.taken]
    pool = place.free({*own, *place.mapped}, len(clash))
    found = {}
    for x in clash:  # the next letters of the alphabet, so that i becomes j rather than a
        pool.sort(key=lambda y: (y < x, y))
        found[x] = pool.pop(0)
    return found


@dataclass(frozen=True)
class _Writer:
    """Rewrites expressions of a part: tensors to their homes, names to what they are bound to."""

    homes: Mapping[str, Read]
    names: Mapping[str, Expr]
    letters: Mapping[str, str]
    at: tuple[int, ...]

    def visit(self, e: Expr) -> Expr:
        match e:
            case Name(id) if id in self.homes:
                return replace(self.homes[id], at=self.at)  # a scalar tensor
            case Name(id) if id in self.names:
                return self.placed(self.names[id])
            case Read(tensor, subscripts):
                home, own = self.homes[tensor], map(self.visit, subscripts)
                return Read(home.tensor, (*home.subscripts, *own), self.at)
            case Reduce(kind, indices, body, _, bounds):
                indices = tuple(self.letters.get(i, i) for i in indices)
                within = tuple(map(self.visit, bounds))
                return Reduce(kind, indices, self.visit(body), self.at, within)
        return replace(rebuild(e, self.visit), at=self.at)

    def placed(self, e: Expr) -> Expr:
        return replace(rebuild(e, self.placed), at=self.at)


def _left_ranges(equation: Equation, declared: Declared) -> dict[str, Expr]:
    """Return the ranges that only the declared shape of an output gives, as that of p in
    `y[p] = sum[r](x[p+r]*w[r])`: the tensor that it is in a composition has no declared shape."""
    shape = declared.shapes.get(equation.target, ())
    reads = (e for e in walk(equation.body) if isinstance(e, Read))
    shown = {s.id for e in reads for s in e.subscripts if isinstance(s, Name)}
    return {s.id: n for s, n in zip(equation.subscripts, shape, strict=False)
            if isinstance(s, Name) and INDEX.fullmatch(s.id) and s.id not in shown}  # fmt: skip
