"""A derivation told in words and equations, in the order in which it is done by hand."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING

import sympy
from sympy import Expr as Scalar
from sympy import Symbol

from gradverify.calculus.cover import bounds, letters
from gradverify.calculus.derive import Step, is_guarded_by
from gradverify.calculus.functions import Floor, StopGradient
from gradverify.calculus.style import Line
from gradverify.calculus.unicode import WIDTH
from gradverify.notation.tree import Name, Read, walk

if TYPE_CHECKING:
    from gradverify.calculus.show import Equation, Forms, Loop, Writer

HANG, INDENT = 4, 6  # of the words of a step behind its number, and of its equations
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")

Named = tuple[Step, Mapping[str, str]]  # a contribution and what its indices are called


def tell(writer: "Writer", name: str, parameters: Collection[str], forms: "Forms") -> str:
    """Return the derivation as a worked example; the style of `writer` is unicode."""
    return "\n\n".join(_Teller(writer, parameters, forms).blocks(name)) + "\n"


def _listed(words: Iterable[str]) -> str:
    *most, end = words
    return f"{', '.join(most)} and {end}" if most else end


def _terms(count: int) -> str:
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"{number} term{'s' * (count != 1)}"


def _times(reader: str, count: int) -> str:
    return reader if count == 1 else f"{reader} ({'twice' if count == 2 else f'{count} times'})"


def _words(words: str, number: str = "", hang: int = 0) -> str:
    """Return words wrapped, behind a number if there is one."""
    return fill(words, WIDTH, initial_indent=number.ljust(hang), subsequent_indent=" " * hang,
                break_long_words=False, break_on_hyphens=False)  # fmt: skip


class _Teller:
    """Finds the words for what happens to each tensor."""

    def __init__(self, writer: "Writer", parameters: Collection[str], forms: "Forms") -> None:
        self.writer, self.d, self.parameters = writer, writer.d, parameters
        self.forms = forms
        self.primals = {c: t for t, c in self.d.cotangents.items()}
        # In the order in which the definition is written.
        forward = sorted((step for step, _, _ in writer.forward), key=lambda s: s.at)
        self.others = {s.others: s.target for s in forward if s.others is not None}
        self.forward = [s for s in forward if s.target not in self.others]

    def blocks(self, name: str) -> Iterator[str]:
        """Yield the paragraphs, one for each cotangent and those around them."""
        outputs = self.d.program.declared.seeded
        given = [f"{self.d.cotangents.get(y, f'd{y}')} = ∂L/∂{y}" for y in outputs]
        yield f"{name}: derived step by step"
        yield _words(f"The definition, with {self.roles()}:")
        yield self.equations(self.writer.definition(), 2)
        yield _words(
            f"Given {_listed(given)}, where L is the loss. By the chain rule the cotangent of an "
            "element is the sum, over all that reads it, of the reader's cotangent times its "
            "local derivative. Going backwards through the equations:"
        )
        together = groupby(self.writer.derived(), lambda e: (e.steps[0].target, e.loop))
        groups = [(*key, list(group)) for key, group in together]
        last = {target: k for k, (target, _, _) in enumerate(groups)}
        turns = None
        for k, (target, loop, equations) in enumerate(groups):
            if loop != turns:
                yield _words(self.turning(loop, [t for t, own, _ in groups if own == loop]))
            turns = loop
            again = target in [t for t, _, _ in groups[:k]]
            yield self.step(f"{k + 1}.", target, equations, again, last[target] == k)
        yield from self.rest()
        if lines := self.writer.closed(self.forms):
            yield _words("Written out and put in order:")
            yield self.equations(lines, 2)
        elif self.forms:
            yield _words("No closed form was found: these equations are what there is.")

    def roles(self) -> str:
        """Return what the tensors of the definition and its constants are."""
        declared = self.d.program.declared
        roles = {
            "input": [t for t in declared.given if t not in self.parameters],
            "parameter": [t for t in declared.given if t in self.parameters],
            "constant": declared.constants,
            "output": declared.wanted,
        }
        return _listed(f"the {role}{'s' * (len(names) > 1)} {_listed(names)}"
                       for role, names in roles.items() if names)  # fmt: skip

    def turning(self, loop: "Loop | None", targets: Sequence[str]) -> str:
        """Return what is said where a loop begins, or where one has ended."""
        if loop is None:
            return "With these known for all turns of the loop:"
        _, index, backwards, _ = loop
        names = _listed(dict.fromkeys(self.own(self.primals[t]) for t in targets))
        return (
            f"From one {index} to the next, {names} depend on each other, and so do their "
            f"cotangents, {'backwards' if backwards else 'forwards'} in time: what follows is "
            f"found together {self.writer.turns(loop)}"
        )

    def equations(self, lines: Iterable[Line], indent: int = INDENT) -> str:
        """Return equations, aligned."""
        bare = [replace(line, loop=None) for line in lines]
        return "\n".join(" " * indent + row for row in self.writer.style.page(bare))

    def own(self, tensor: str) -> str:
        """Return what a tensor is called."""
        return self.writer.own(tensor)

    # -- one cotangent

    def step(
        self, number: str, target: str, equations: Sequence["Equation"], again: bool, last: bool
    ) -> str:
        """Return the paragraph of one cotangent, or of what a loop adds to it."""
        terms = [pair for e in equations for pair in zip(e.steps, e.names(), strict=True)]
        lines = [self.local(*term) for term in terms]
        tensor = self.primals[target]
        said = [
            *self.passed(terms, lines),
            *self.scattered(tensor, equations),
            *self.summed(terms),
        ] or ["Together." if len(terms) > 1 else "Hence."]
        parts = [
            _words(self.readers(target, terms, again), number, HANG),
            self.equations(lines),
            _words(" ".join(said).removesuffix(".") + ":", hang=HANG),
            self.equations(map(self.writer.line, equations)),
        ]
        if last and (role := self.role(tensor, self.own(target))):
            parts.append(_words(role, hang=HANG))
        return "\n".join(parts)

    def reader(self, step: Step) -> Read:
        """Return the read of the cotangent that a contribution comes from."""
        return next(r for r in step.reads.values() if r.tensor in self.primals)

    def readers(self, target: str, terms: Sequence[Named], again: bool) -> str:
        """Return which equations read a tensor, and how many terms its cotangent has."""
        tensor, given = self.primals[target], self.own(target) in self.writer.given
        own, cotangent = self.own(tensor), self.own(target)
        counts = Counter(self.own(self.primals[self.reader(s).tensor]) for s, _ in terms)
        order = list(dict.fromkeys(self.own(s.target) for s in self.forward))
        found = _listed(_times(r, counts[r]) for r in sorted(counts, key=order.index))
        silent = " ".join(dict.fromkeys(self.silent(tensor, counts)))
        many = _terms(len(terms))
        if again:
            return f"{own} occurs in {found} too, which adds {many} to {cotangent}:"
        if given:
            return (
                f"{cotangent} is given, and {own} occurs in {found} too, which adds {many} to it:"
            )
        if silent:
            return f"{own} occurs in {found}. {silent} So {cotangent} has {many}:"
        only = "only " if len(counts) == 1 else ""
        return f"{own} occurs {only}in {found}, so {cotangent} has {many}:"

    def local(self, step: Step, names: Mapping[str, str]) -> Line:
        """Return the local derivative that a contribution is made of."""
        read = self.reader(step)
        value = step.value.args[1] if _guarded(step) else step.value
        own = next(k for k, r in step.reads.items() if r == read)
        partial = value / own
        factor, inside = partial.primitive() if partial.is_Add else (sympy.S.One, partial)
        if -inside in self.writer.sums:
            factor, inside = -factor, -inside
        right = self.writer.text(self.writer.renamed(inside, step.reads, names))
        if factor != 1:
            style = self.writer.style
            right = style.product([self.writer.text(factor), style.fence("", right)])
        above = self.writer.place(replace(read, tensor=self.primals[read.tensor]), names)
        target = Read(self.primals[step.target], step.subscripts)
        left = f"∂{above}/∂{self.writer.place(target, names)}"
        return Line(self.own(step.target), left, "=", right)

    # -- why

    def silent(self, tensor: str, heard: Collection[str]) -> Iterator[str]:
        """Yield a remark on every reader of a tensor from which nothing comes back to it."""
        for step, where in self.zeros(tensor):
            if (reader := self.own(step.target)) not in heard:
                known = step.target in self.d.cotangents
                why = f"it stands {where}" if known else self.reason(step.target)
                yield f"It occurs in {reader} too, but nothing comes back from there: {why}."

    def zeros(self, tensor: str) -> Iterator[tuple[Step, str]]:
        """Yield, for each occurrence that passes nothing back, its equation and what it is in."""
        for step in self.forward:
            for symbol, read in step.reads.items():
                if read.tensor == tensor and sympy.diff(step.value, symbol) == 0:
                    yield step, _cut(step.value, symbol)
                elif read.tensor == tensor and step.target not in self.d.cotangents:
                    yield step, f"in {self.own(step.target)}, from which nothing comes back"

    def reason(self, tensor: str) -> str:
        """Return why a tensor has no cotangent."""
        where = dict.fromkeys(where for _, where in self.zeros(tensor))
        own = self.own(tensor)
        return f"{own} stands only {_listed(where)}" if where else f"no equation reads {own}"

    def summed(self, terms: Sequence[Named]) -> Iterator[str]:
        """Yield why indices that are not on the left side are summed over."""
        found: dict[tuple[str, ...], list[int]] = {}
        for k, (step, names) in enumerate(terms):
            indices = tuple(self.writer.style.name(names[i]) for i, _ in step.reduced)
            found.setdefault(indices, []).append(k)
        for indices, places in found.items():
            if not indices:
                continue
            step, names = terms[places[0]]
            element = self.writer.place(Read(self.primals[step.target], step.subscripts), names)
            what = "this is" if len(terms) == 1 else "all terms are"
            if len(places) < len(terms):
                which = _listed(_PLACES[k] if k < len(_PLACES) else str(k + 1) for k in places)
                what = f"the {which} term{'s are' if len(places) > 1 else ' is'}"
            over = _listed(indices)
            yield f"The same {element} is read for every {over}, so {what} summed over {over}."

    def passed(self, terms: Sequence[Named], lines: Sequence[Line]) -> Iterator[str]:
        """Yield what becomes of cotangents where the definition chooses."""
        picks = {s.pick for s in self.forward if s.pick is not None}
        for read in dict.fromkeys(r.tensor for step, _ in terms for r in step.reads.values()):
            if read in picks:
                yield (
                    "A maximum passes its cotangent on to one element only, the largest (the "
                    f"first of them where several are equal): there {self.own(read)} is 1, "
                    "elsewhere 0."
                )
            if read in self.others:
                yield (
                    "A product changes with one factor as the product of the others, "
                    f"{self.own(read)}."
                )
        if any("where(" in line.right for line in lines):
            yield "A branch that is not taken contributes nothing."
        if any(_guarded(step) for step, _ in terms):
            yield (
                "Where the branch is not taken its cotangent is 0, and 0 comes back, even where "
                "the derivative is infinite."
            )

    def scattered(self, tensor: str, equations: Sequence["Equation"]) -> Iterator[str]:
        """Yield how terms find their elements, where the left side is not the whole tensor."""
        own, steps = self.own(tensor), [e.steps[0] for e in equations]
        given = self.own(steps[0].target) in self.writer.given
        if len(steps) > 1 and all(e.op == "=" for e in equations):
            yield f"Each of them reads another part of {own}."
            return
        for e in equations:
            step, (names, *_) = e.steps[0], e.names()
            inside = [i for i in letters(step) if Name(i) not in step.subscripts]
            nested = [s for part in step.subscripts for s in walk(part) if isinstance(s, Read)]
            if nested and inside:
                index = _listed(dict.fromkeys(self.writer.place(s, names) for s in nested))
                yield f"It goes back to where it was read and adds up where {index} repeats."
            elif inside and bounds(step) is None:
                several = _listed(self.writer.style.name(names[i]) for i in inside)
                yield (
                    f"Several values of {several} may reach the same element of {own}: there "
                    "what comes back adds up."
                )
            elif e.op == "+=" and not (e.loop or len(equations) > 1 or given):
                element = self.writer.place(Read(tensor, step.subscripts), names)
                yield f"Only the elements {element} are read; the others get 0."
        if tensor in self.d.program.outside and any(
            not isinstance(s, Name) for step in steps for s in step.subscripts
        ):
            yield f"What would come back to a place outside of {own} is dropped."

    # -- roles

    def role(self, tensor: str, cotangent: str) -> str:
        """Return what the cotangent of an input or a parameter is good for."""
        if tensor in self.parameters:
            return (
                f"{tensor} is a parameter: a step of gradient descent subtracts {cotangent} times "
                "the learning rate from it."
            )
        if tensor in self.d.wrt:
            return f"{tensor} is an input: {cotangent} is handed to the layer before."
        return ""

    def rest(self) -> Iterator[str]:
        """Yield what is to be said of tensors that no cotangent reaches."""
        for tensor in self.d.wrt:
            if tensor not in self.d.cotangents:
                yield _words(f"d{tensor} = 0: {self.reason(tensor)}.")
        others = [t for t in self.d.program.declared.given if t not in self.d.wrt]
        if others:
            yield _words(f"No gradient is asked for {_listed(others)}.")


def _guarded(step: Step) -> bool:
    """Whether a contribution is 0 wherever the cotangent is, whatever the derivative is there."""
    return any(is_guarded_by(step.value, symbol) for symbol in step.reads)


def _cut(value: Scalar, symbol: Symbol) -> str:
    """Return where a value has a symbol without a derivative by it."""
    for kind, where in ((StopGradient, "under stop_gradient"), (Floor, "under a floor")):
        if any(symbol in e.free_symbols for e in value.atoms(kind)):
            return where
    return "in a condition"
