"""A derivation as equations to read, in several notations, or as NumPy code to paste."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fractions import Fraction
from itertools import count
from types import MappingProxyType
from typing import NamedTuple

import sympy
from sympy import Add, Mul, S, Symbol
from sympy import Expr as Scalar

from gradverify.calculus.bounded import bounded
from gradverify.calculus.closed_form import Closed
from gradverify.calculus.compile import Oracle
from gradverify.calculus.cover import bounds, covers, form, letters
from gradverify.calculus.derive import Derivation, Order, Step
from gradverify.calculus.functions import scalar
from gradverify.calculus.latex import Latex
from gradverify.calculus.mathml import MathML
from gradverify.calculus.steps import INDENT, tell
from gradverify.calculus.style import Line, Style
from gradverify.calculus.time import ordered_index
from gradverify.calculus.typeset import BIG, Printer
from gradverify.calculus.unicode import WIDTH, Unicode
from gradverify.errors import UsageError
from gradverify.notation.dims import affine, negative, plus, same
from gradverify.notation.schedule import Block
from gradverify.notation.tree import ONE, ZERO, Expr, Name, Number, Read, rebuild, replaced, walk

NOTATIONS: dict[str, Style] = {"unicode": Unicode(), "latex": Latex(), "mathml": MathML()}
STYLES = (*NOTATIONS, "numpy", "steps")
CLOSED = "closed forms, each checked against the equations above"
NOT_CLOSED = "closed forms: none was found, the equations above are what there is"
LEAVES = "(a term is 0 where a subscript of it leaves its tensor)"
PICKED = "1 where the maximum is first attained, else 0"

Loop = tuple[int, str, bool, Expr]  # place in the order, index, whether backwards, size
Placed = tuple[Step, tuple[int, int], Loop | None]  # a step, its place in the order, its loop


Forms = Mapping[str, Closed | None]


def emit(
    oracle: Oracle,
    style: str,
    name: str,
    parameters: Collection[str] = (),
    forms: Forms = MappingProxyType({}),
) -> str:
    """Return the definition and all its cotangents, in the order of the derivation.

    `style` is one of STYLES, `name` what the spec, or the NumPy function, is called,
    `parameters` are tensors that learn and `forms` the closed forms of gradients, None for a
    tensor that has none; UsageError for a style that is none of STYLES.
    """
    if style == "numpy":
        return oracle.source(name, sizes=False)
    if style not in STYLES:
        close = get_close_matches(style.lower(), STYLES, 1, 0.3)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"the style {style!r} is not one of {', '.join(STYLES)}{hint}")
    if style == "steps":
        narrow = Writer(oracle.derivation, Unicode(WIDTH - INDENT))
        return tell(narrow, name, parameters, forms)
    writer = Writer(oracle.derivation, NOTATIONS[style])
    parts = writer.parts()
    if forms:
        closed = writer.closed(forms)
        parts.append((CLOSED if closed else NOT_CLOSED, closed))
    return writer.style.document(name, parts)


def typeset(oracle: Oracle, forms: Forms = MappingProxyType({})) -> list[tuple[str, str, str]]:
    """Return what `emit` shows in parts: the heading of each, its text, and its MathML."""
    plain, math = Unicode(), MathML()
    both = []
    for style in (plain, math):
        writer = Writer(oracle.derivation, style)
        parts = writer.parts()
        if closed := writer.closed(forms):
            parts.append((CLOSED, closed))
        both.append(parts)
    return [
        (title, "\n".join(plain.page(lines)), math.math(rows))
        for (title, lines), (_, rows) in zip(*both, strict=True)
    ]


class Gradients:
    """The equations of each tensor's cotangent, written once for all that share them."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation, self.writer = derivation, Writer(derivation, NOTATIONS["unicode"])
        self.lines, definition = self.writer.cotangents(), self.writer.definition()
        # What the definition names is known to who wrote it; sums inside equations are not.
        self.inner = [e for e in definition if e.target in derivation.program.hoisted]

    def of(self, tensor: str) -> str:
        """Return the equations of one tensor's cotangent and, below, of what it needs: cotangents,
        and the sums that the definition holds inside its equations.

        UsageError for a tensor that the definition does not have.
        """
        derivation, writer = self.derivation, self.writer
        if tensor not in derivation.shapes:
            known = ", ".join(derivation.cotangents)
            raise UsageError(f"no tensor of the definition is called {tensor!r}; known are {known}")
        own = derivation.cotangents.get(tensor, f"d{tensor}")
        needed, before = {own}, 0
        while before < len(needed):
            before = len(needed)
            needed |= {r for line in self.lines if line.target in needed for r in line.reads}
        first = [line for line in self.lines if line.target == own]
        below = [line for line in self.lines if line.target in needed - {own}]
        read = {r for line in [*first, *below] for r in line.reads}
        for line in reversed(self.inner):
            read |= line.reads if line.target in read else set()
        below += [line for line in self.inner if line.target in read]
        nothing = f"{own} is given" if own in writer.given else f"{own} = 0"
        return "\n".join(writer.style.page([*first, *below]) if first else [nothing])


def _placed(order: Order) -> Iterator[Placed]:
    for k, entry in enumerate(order):
        if not isinstance(entry, Block):
            yield entry, (k, 0), None
            continue
        index, backwards, steps = ordered_index(entry.steps)
        loop = k, index, backwards, dict(steps[0].loops)[index]
        yield from ((step, (k, m), loop) for m, step in enumerate(steps))


def _fresh(indices: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return a name for each index: its letter, with a number only where that is taken."""
    names: dict[str, str] = {}
    for i in indices:
        used = {*taken, *names.values()}
        names[i] = next(n for k in count() if (n := f"{i[0]}{k or ''}") not in used)
    return names


def _divides(a: Scalar, b: Scalar) -> bool:
    return bool(sympy.fraction(b / a)[1] == 1)


class Equation(NamedTuple):
    """Steps that are one equation, since their left sides differ in letters only."""

    steps: Sequence[Step]
    op: str
    loop: Loop | None = None
    note: str = ""

    def names(self) -> list[dict[str, str]]:
        """Return what each step's indices are called, so that all left sides are the same."""
        bound = [{i for i, _ in s.reduced} for s in self.steps]
        # The letters of the step whose left side takes the fewest letters that others sum over.
        own = min(map(letters, self.steps), key=lambda used: sum(len(b & {*used}) for b in bound))
        chosen = tuple(_fresh(own).values())
        return [
            dict(zip(letters(s), chosen, strict=True)) | _fresh((i for i, _ in s.reduced), chosen)
            for s in self.steps
        ]


class Writer(Printer):
    """Joins the steps of a derivation into equations."""

    def __init__(self, d: Derivation, style: Style) -> None:
        super().__init__(d, style)
        self.d, self.given = d, {d.cotangents.get(y) for y in d.program.declared.seeded}
        # What a tensor is called, and how many elements it holds before index 0: an output with
        # initial values is a copy of its path, which goes by the name of the output.
        self.homes: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.copies: set[str] = set()
        for s in d.program.statements:
            if isinstance(s.body, Read) and s.loops and s.loops[0][0] == f"{s.target}_0":
                self.copies.add(s.target)
                self.homes[s.body.tensor] = s.target, ()
        for tensor, origin in d.program.origins.items():
            own = self.own(tensor)
            self.homes[tensor], self.homes[f"{tensor}_pick"] = (own, origin), (f"{own}_pick", ())
            if tensor in d.cotangents:
                self.homes[d.cotangents[tensor]] = d.cotangents.get(own, f"d{own}"), origin
        known = [self.own(c) for c in d.cotangents.values()]
        for s in d.program.statements:
            inside = [e for e in walk(self.home(s.body)) if isinstance(e, Read | Name)]
            known += [e.tensor if isinstance(e, Read) else e.id for e in inside]
        self.rank = {name: k for k, name in enumerate(dict.fromkeys(known))}
        self.forward = [x for x in _placed(d.forward) if x[0].target not in self.copies]
        self.inlined: dict[str, Step] = {}
        self.sums = {a for step, _, _ in self.forward for a in step.value.atoms(Add)}

    def parts(self) -> list[tuple[str, list[Line]]]:
        """Return the definition and the cotangents, each with what it is."""
        outputs = self.d.program.declared.seeded
        given = ", ".join(self.d.cotangents.get(y, f"d{y}") for y in outputs)
        self.inlined = self.once()
        return [("definition", self.definition()),
                (f"cotangents, given {given}", self.cotangents())]  # fmt: skip

    def closed(self, forms: Forms) -> list[Line]:
        """Return the closed forms, and a note of the tensors that have none."""
        lines = []
        for closed in forms.values():
            if closed is not None:
                left = self.place(Read(closed.target, closed.subscripts), {})
                lines.append(Line(closed.target, left, "=", self.text(self.scalar(closed.body))))
        without = [f"d{t}" for t, closed in forms.items() if closed is None]
        if lines and without:
            note = f"(no closed form was found of {', '.join(without)})"
            lines[-1] = replace(lines[-1], note=note)
        return lines

    def once(self) -> dict[str, Step]:
        """Return the sums inside of an expression that nothing else reads, no cotangent either."""
        program = self.d.program
        reads = [e.tensor for s in program.statements for e in walk(s.body) if isinstance(e, Read)]
        named = {t for step, _, _ in _placed(self.d.vjp) for t in step.sources}
        return {s.target: s for s, _, _ in self.forward if s.kind == "sum"
                and s.target in program.hoisted - named and reads.count(s.target) == 1}  # fmt: skip

    def show(self, e: Scalar) -> tuple[str, int]:
        """Return an expression and how tightly it binds; a sum that is inlined as what it is."""
        read = self.reads.get(e)
        if read is None or read.tensor not in self.inlined:
            return super().show(e)
        step = self.inlined[read.tensor]
        own = [s.id for s in read.subscripts if isinstance(s, Name)]
        names = dict(zip(letters(step), own, strict=True))
        terms = self.summed(step, names | _fresh((i for i, _ in step.reduced), own))
        return self.joined(terms), BIG if terms[0][0] > 0 else 0

    def own(self, tensor: str) -> str:
        """Return what a tensor is called."""
        return self.homes.get(tensor, (tensor,))[0]

    def home(self, e: Expr, names: Mapping[str, Expr] | None = None) -> Expr:
        """Return a read with other indices, by the name and the subscripts that users know."""
        if isinstance(e, Name):
            return (names or {}).get(e.id, e)
        e = rebuild(e, lambda c: self.home(c, names))
        if isinstance(e, Read) and e.tensor in self.homes:
            own, origin = self.homes[e.tensor]
            starts = (*origin, *[0] * (len(e.subscripts) - len(origin)))
            pairs = zip(e.subscripts, starts, strict=True)
            return Read(own, tuple(plus(s, Number(Fraction(-k))) if k else s for s, k in pairs))
        return e

    def renamed(
        self, value: Scalar, reads: Mapping[Symbol, Read], names: Mapping[str, str]
    ) -> Scalar:
        """Return a value with other indices, its reads as users know them."""
        # Sums have the sign that they have in the definition: x - mu, not mu - x.
        factors = Mul.make_args(value)
        turned = [f for f in factors if f.is_Add and f not in self.sums and -f in self.sums]
        value = Mul(*(-f if f in turned else f for f in factors), S.NegativeOne ** len(turned))
        new = {i: Name(n) for i, n in names.items()}
        shown = {s: self.home(reads.get(s, Name(s.name)), new) for s in value.free_symbols}
        return value.xreplace({s: scalar(e, self.reads, self.sizes) for s, e in shown.items()})

    def summed(self, step: Step, names: Mapping[str, str]) -> list[tuple[int, str]]:
        """Return the terms that a step adds, with other indices."""
        value = self.renamed(step.value, step.reads, names)
        indices = [names[i] for i, _ in step.reduced]
        value, limits = bounded(step.kind, value, indices)
        shown = {i: self.compared(*limit, tight=True) for i, limit in limits.items()}
        below = [shown.get(i) or self.style.name(i) for i in indices]
        if step.kind != "sum":
            big = self.style.big(step.kind, below)
            return [(1, self.style.reduced(big, self.text(value, BIG)))]
        if not indices:
            return self.terms(value)
        big = self.style.big("sum", below)
        if limits:
            return [self.term(value, indices, big)]
        total = Mul(*(scalar(n, {}, self.sizes) for _, n in step.reduced))
        if step.target in self.d.program.shapes and _divides(total, sympy.fraction(value)[1]):
            value *= total
            big = self.style.mean(self.text(total), below)
        return [self.term(value, indices, big)]

    def place(self, read: Read, names: Mapping[str, str]) -> str:
        """Return an element with other indices, as users know it."""
        shown = self.home(read, {i: Name(n) for i, n in names.items()})
        return self.element(shown)

    def line(self, equation: Equation) -> Line:
        """Return an equation as text."""
        steps, op, loop, note = equation
        named = equation.names()
        terms = [term for s, n in zip(steps, named, strict=True) for term in self.summed(s, n)]
        terms.sort(key=lambda term: term[0] < 0)
        first, names = steps[0], named[0]
        shown = self.place(Read(first.target, first.subscripts), names)
        left = letters(first) if op == "+=" and bounds(first) is None else ()
        every = tuple(self.style.name(names[i]) for i, _ in first.loops if i in left)
        reads = frozenset(self.own(t) for s in steps for t in s.sources)
        target, right = self.own(first.target), self.joined(terms)
        place, turns = (loop[0], self.turns(loop)) if loop else (None, "")
        return Line(target, shown, op, right, reads, every, place, turns, note)

    def turns(self, loop: Loop) -> str:
        """Return the line above the equations of a loop."""
        _, index, backwards, size = loop
        last, zero = self.tight(plus(size, negative(ONE))), self.style.number("0")
        ends = (last, zero) if backwards else (zero, last)
        return self.style.turns(self.style.name(index), *ends)

    def definition(self) -> list[Line]:
        """Return the equations of the definition, in the order in which they were written."""
        used = {t for step, _, _ in _placed(self.d.vjp) for t in step.sources}
        groups: dict[tuple[tuple[int, ...], str], list[Step]] = {}
        for step in (s for s, _, _ in self.forward if s.target not in self.inlined):
            groups[step.at, step.target] = [*groups.pop((step.at, step.target), []), step]
        lines = []
        for (_, target), steps in sorted(groups.items(), key=lambda group: group[0][0]):
            op = "+=" if target in self.d.program.scattered else "="
            lines.append(self.line(Equation(steps, op)))
            pick = steps[0].pick
            if pick is not None and pick in used:
                names = _fresh(i for i, _ in steps[0].pick_loops).values()
                left = self.place(Read(pick, tuple(map(Name, names))), {})
                lines.append(Line(self.own(pick), left, "=", self.style.words(PICKED)))
        return lines

    def cotangents(self) -> list[Line]:
        """Return the equations of all cotangents, in the order of the derivation."""
        zero = [f"d{t}" for t in self.d.wrt if t not in self.d.cotangents]
        return [self.line(equation) for equation in self.derived()] + [
            Line(t, self.tensor(t), "=", self.style.number("0")) for t in zero
        ]

    def derived(self) -> list[Equation]:
        """Return the cotangents that are not 0, in the order of the derivation."""
        copied = {self.d.cotangents.get(y) for y in self.copies}
        found: dict[str, list[Placed]] = {}
        for part in _placed(self.d.vjp):
            if not part[0].sources & copied:
                found.setdefault(part[0].target, []).append(part)
        joint = [pair for target, parts in found.items() for pair in self.joint(target, parts)]
        joint.sort(key=lambda pair: (pair[0], pair[1].op != "="))
        return [equation for _, equation in joint]

    def joint(self, target: str, parts: Sequence[Placed]) -> list[tuple[tuple[int, int], Equation]]:
        """Return the equations of one cotangent, each with its place: one with `=` where its left
        side is proved to cover the tensor, several where they are its tiles, else `+=`."""
        shape, given = self.d.shapes[target], self.own(target) in self.given
        groups: dict[object, list[Placed]] = {}
        for part in parts:
            groups.setdefault((part[2], form(part[0])), []).append(part)
        whole, note = covers([group[0][0] for group in groups.values()], shape), ""
        if not (whole or any(loop for _, _, loop in parts)):
            steps = [s for step, _, _ in parts if (s := self.shifted(step, shape)) is not None]
            if len(steps) == len(parts):
                groups, whole, note = {0: [(s, parts[-1][1], None) for s in steps]}, True, LEAVES
        found: list[tuple[tuple[int, int], Equation]] = []
        for group in groups.values():
            steps, loop = [step for step, _, _ in group], group[0][2]
            alone = loop == parts[0][2] and covers(steps[:1], shape)
            first = whole or (alone and all(e.op != "=" for _, e in found))
            place = max(at for _, at, own in (group if loop else parts) if own == loop)
            op = "=" if first and not given else "+="
            found.append((place, Equation(steps, op, loop, note)))
        return found

    def shifted(self, step: Step, shape: Sequence[Expr]) -> Step | None:
        """Return a step with plain indices on its left, dx[t+1] += dy[t] as dx[t] += dy[t-1], if
        it then reads beyond a cotangent wherever the left side did not reach; else None."""
        loops = dict(step.loops)
        moved: dict[str, Expr] = {}
        inside = [
            (s, n) for r in step.reads.values() if r.tensor in self.d.cotangents.values()
            for s, n in zip(r.subscripts, self.d.shapes[r.tensor], strict=True)
        ]  # fmt: skip
        for subscript, size in zip(step.subscripts, shape, strict=True):
            split = affine(subscript, loops)
            if split is None or list(split[0].values()) != [ONE]:
                return None
            (i,), start = split[0], split[1]
            full = same(start, ZERO) and same(loops[i], size)
            beyond = any(s == Name(i) and same(n, loops[i]) for s, n in inside)
            if i in moved or not (full or beyond):
                return None
            moved[i] = plus(Name(i), negative(start))
        return replace(
            step,
            subscripts=tuple(map(Name, moved)),
            loops=(*zip(moved, shape, strict=True), *step.reduced),
            value=step.value.xreplace(
                {Symbol(i, real=True): scalar(e, {}, self.sizes) for i, e in moved.items()}
            ),
            reads={k: replace(r, subscripts=tuple(replaced(s, moved) for s in r.subscripts))
                   for k, r in step.reads.items()},
        )  # fmt: skip
