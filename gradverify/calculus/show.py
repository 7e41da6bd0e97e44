"""A derivation as equations to read: in unicode, in LaTeX, or as NumPy code to paste."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from itertools import count

import sympy
from sympy import Add, Mul, S, Symbol
from sympy import Expr as Scalar
from sympy.printing.latex import greek_letters_set

from gradverify.calculus.code import LARGEST_DENOMINATOR
from gradverify.calculus.compile import Oracle
from gradverify.calculus.derive import Derivation, Order, Step
from gradverify.calculus.functions import Equal, Less, LessEqual, scalar
from gradverify.calculus.time import ordered_index
from gradverify.errors import UsageError
from gradverify.notation.dims import affine, negative, plus, same, times
from gradverify.notation.schedule import Block
from gradverify.notation.tree import (
    ONE,
    ZERO,
    Expr,
    Name,
    Number,
    Read,
    free_names,
    rebuild,
    text,
    walk,
)  # fmt: skip

STYLES = ("unicode", "latex", "numpy")
WIDTH = 98  # 100 with the indent
ADDS = "(+= adds to the given value, or to 0)"
LEAVES = "(a term is 0 where a subscript of it leaves its tensor)"
PICKED = "1 where the maximum is first attained, else 0"


def emit(oracle: Oracle, style: str, name: str) -> str:
    """Return the definition and all its cotangents, in the order of the derivation.

    `style` is one of STYLES and `name` what the spec, or the NumPy function, is called;
    UsageError for a style that is none of them.
    """
    if style == "numpy":
        return oracle.source(name, sizes=False)
    if style not in STYLES:
        close = get_close_matches(style.lower(), STYLES, 1, 0.3)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"the style {style!r} is not one of {', '.join(STYLES)}{hint}")
    d = oracle.derivation
    writer = _Writer(d, latex=style == "latex")
    parts = [writer.page(lines) for lines in (writer.definition(), writer.cotangents())]
    if writer.latex:
        body = " \\\\[2ex]\n".join(" \\\\\n".join(part) for part in parts)
        return f"% {name}\n\\begin{{align*}}\n{body}\n\\end{{align*}}\n"
    given = ", ".join(d.cotangents.get(y, f"d{y}") for y in d.program.declared.wanted)
    heads = f"{name}: definition", f"{name}: cotangents, given {given}"
    shown = ["\n  ".join([head, *part]) for head, part in zip(heads, parts, strict=True)]
    return "\n\n".join(shown) + "\n"


def gradient_equations(derivation: Derivation, tensor: str) -> str:
    """Return the equations of one tensor's cotangent and, below, of the cotangents it needs.

    UsageError for a tensor that the definition does not have.
    """
    if tensor not in derivation.shapes:
        known = ", ".join(derivation.cotangents)
        raise UsageError(f"no tensor of the definition is called {tensor!r}; known are {known}")
    writer = _Writer(derivation)
    lines = writer.cotangents()
    own = derivation.cotangents.get(tensor, f"d{tensor}")
    needed, before = {own}, 0
    while before < len(needed):
        before = len(needed)
        needed |= {r for line in lines if line.target in needed for r in line.reads}
    first = [line for line in lines if line.target == own]
    below = [line for line in lines if line.target in needed - {own}]
    nothing = f"{own} is given" if own in writer.given else f"{own} = 0"
    return "\n".join(writer.page([*first, *below]) if first else [nothing])


# -- what the left side of a step covers

Loop = tuple[int, str, bool, Expr]  # place in the order, index, whether backwards, size
Placed = tuple[Step, tuple[int, int], Loop | None]  # a step, its place in the order, its loop


def _letters(step: Step) -> tuple[str, ...]:
    """Return the loop indices on the left side, in order."""
    loops = dict(step.loops)
    names = (e.id for s in step.subscripts for e in walk(s) if isinstance(e, Name))
    return tuple(dict.fromkeys(i for i in names if i in loops))


def _replaced(e: Expr, names: Mapping[str, Expr]) -> Expr:
    if isinstance(e, Name):
        return names.get(e.id, e)
    return rebuild(e, lambda c: _replaced(c, names))


def _form(step: Step) -> tuple[str, ...]:
    """Return what is the same for steps whose left sides differ in letters only."""
    letters, sizes = _letters(step), dict(step.loops)
    places = {i: Name(f"#{k}") for k, i in enumerate(letters)}
    shown = (_replaced(s, places) for s in step.subscripts)
    return *(text(sizes[i]) for i in letters), *map(text, shown)


def _bounds(step: Step) -> list[tuple[Expr, Expr]] | None:
    """Return (first, extent) of each subscript on a left side that is one to one, else None."""
    loops, seen = dict(step.loops), 0
    found: list[tuple[Expr, Expr]] = []
    for subscript in step.subscripts:
        split = affine(subscript, loops)
        if split is None:
            return None
        extent: Expr = ONE
        rest = split[0]
        seen += len(rest)
        # As digits of a number: one index counts units, the next steps over all its values.
        while rest:
            digit = next((i for i, c in rest.items() if same(c, extent)), None)
            if digit is None:
                return None
            rest = {i: c for i, c in rest.items() if i != digit}
            extent = times(extent, loops[digit])
        found.append((split[1], extent))
    return found if seen == len(_letters(step)) else None


def _covers(steps: Sequence[Step], shape: Sequence[Expr]) -> bool:
    """Whether left sides are proved to cover a tensor exactly once: whole, or as tiles in a row."""
    bounds = [b for s in steps if (b := _bounds(s)) is not None]
    if len(bounds) < len(steps):
        return False
    split = [
        k for k, size in enumerate(shape)
        if not all(same(b[k][0], ZERO) and same(b[k][1], size) for b in bounds)
    ]  # fmt: skip
    if len(split) != 1:
        return not split and len(steps) == 1
    end: Expr = ZERO
    tiles = [b[split[0]] for b in bounds]
    while tile := next((t for t in tiles if same(t[0], end)), None):
        tiles.remove(tile)
        end = plus(end, tile[1])
    return not tiles and same(end, shape[split[0]])


# -- scalars

_GREEK = (greek_letters_set - {"omicron"}) | {
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"
}  # fmt: skip
_CONSTANTS = {S.Pi: ("π", r"\pi"), S.Infinity: ("∞", r"\infty"),
              S.NegativeInfinity: ("-∞", r"-\infty"), S.Exp1: ("e", "e")}  # fmt: skip
_COMPARED = {"Less": ("<", "<"), "LessEqual": ("≤", r"\le"), "Equal": ("=", "="),
             "Greater": (">", ">"), "GreaterEqual": ("≥", r"\ge"), "Unequal": ("≠", r"\ne"),
             "Both": ("and", r"\land"), "Either": ("or", r"\lor")}  # fmt: skip
_REVERSED = {"Less": "Greater", "LessEqual": "GreaterEqual"}  # x > 0 for 0 < x
_WORDS = {"Select": "where", "StopGradient": "stop_gradient", "Negation": "not"}
_OPERATORS = frozenset({"exp", "log", "tanh", "sin", "cos", "max", "min"})  # that LaTeX has
_FENCES = {"": ("({})", r"\left({}\right)"), "Abs": ("|{}|", r"\left|{}\right|"),
           "Floor": ("⌊{}⌋", r"\left\lfloor {}\right\rfloor")}  # fmt: skip
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
# How tightly what is printed binds; a Σ holds all factors to its right.
_TEST, _SUM, _BIG, _PRODUCT, _POWER, _ATOM = range(6)


def _below(e: Scalar) -> bool:
    """Whether a factor stands below the fraction bar."""
    return bool(e.is_Pow and e.exp.is_number and e.exp.is_negative)


def _decimal(value: sympy.Rational) -> str:
    # What a product with a decimal adds in its last two digits is left out.
    exact, short = repr(float(value)), f"{float(value):.15g}"
    return short if len(short) < len(exact) - 1 else exact


def _divides(a: Scalar, b: Scalar) -> bool:
    return bool(sympy.fraction(b / a)[1] == 1)


def _distributed(e: Scalar) -> Scalar:
    """Undo that sympy clears denominators, where they are those of decimals."""
    coefficient, rest = e.as_coeff_Mul()
    for f in Mul.make_args(rest):
        if f.is_Add and any(abs(r.p) > 10**9 for r in f.atoms(sympy.Rational)):
            return Mul(Add(*(coefficient * a for a in f.args)), rest / f)
    return e


class _Printer:
    """Prints sympy expressions with the reads in them, in an order that people write."""

    def __init__(self, d: Derivation, *, latex: bool = False) -> None:
        self.latex, self.sizes = latex, d.program.declared.sizes
        self.reads: dict[Symbol, Read] = {}
        self.rank: dict[str, int] = {}
        self.inside = 0  # how deep in subscripts
        self.primals = {c: t for t, c in d.cotangents.items() if c == f"d{t}"}

    def tensor(self, name: str) -> str:
        if not self.latex or len(name) == 1:
            return name
        if name in self.primals:
            return rf"\mathrm{{d}}{self.tensor(self.primals[name])}"
        if hat := re.fullmatch("(.+?)_?hat", name):
            return rf"\hat{{{self.tensor(hat[1])}}}"
        escaped = name.replace("_", r"\_")
        return f"\\{name}" if name in _GREEK else rf"\mathrm{{{escaped}}}"

    def name(self, name: str) -> str:
        """Return the name of an index, a size or a constant."""
        if re.fullmatch(r"[a-z]\d+", name):
            return f"{name[0]}_{{{name[1:]}}}" if self.latex else name.translate(_LOWERED)
        return self.tensor("epsilon" if name == "eps" and self.latex else name)

    def element(self, read: Expr) -> str:
        assert isinstance(read, Read)
        self.inside += 1
        shown = ",".join(self.text(scalar(s, self.reads, self.sizes)) for s in read.subscripts)
        self.inside -= 1
        form = ("_{{{}}}" if self.latex else "[{}]") if read.subscripts else ""
        return self.tensor(read.tensor) + form.format(shown)

    def fence(self, kind: str, shown: str) -> str:
        return _FENCES[kind][self.latex].format(shown)

    def text(self, e: Scalar, above: int = 0) -> str:
        """Return an expression, in brackets where it binds less tightly than `above`."""
        shown, level = self.show(e)
        return shown if level >= above else self.fence("", shown)

    def show(self, e: Scalar) -> tuple[str, int]:
        """Return an expression and how tightly it binds."""
        if e.is_Symbol:
            return (self.element(self.reads[e]) if e in self.reads else self.name(e.name)), _ATOM
        if e in _CONSTANTS:
            return _CONSTANTS[e][self.latex], _ATOM if e.is_positive else _SUM
        if e.is_Add:
            return self.joined(self.terms(e)), _SUM
        if e.is_Pow and not _below(e):
            return self.power(*e.args), _POWER
        if e.is_Mul or e.is_Pow or e.is_Number:
            sign, shown = self.term(e)
            return (shown, _PRODUCT) if sign > 0 else (f"-{shown}", _SUM)
        return self.call(type(e).__name__, e.args)

    def order(self, e: Scalar) -> tuple[object, ...]:
        """Return the place by what an expression reads: as the definition first names it."""
        names = {self.reads[s].tensor if s in self.reads else s.name for s in e.free_symbols}
        ranks = sorted(self.rank.get(n, len(self.rank)) for n in names)
        return ranks, sympy.count_ops(e), str(e)

    def terms(self, e: Scalar) -> list[tuple[int, str]]:
        """Return the terms of a sum: subtracted ones last, numbers first (last in subscripts)."""

        def place(a: Scalar) -> tuple[object, ...]:
            subtracted = bool(a.as_coeff_Mul()[0] < 0)
            return subtracted, a.is_Number == bool(self.inside), self.order(a)

        return [self.term(a) for a in sorted(Add.make_args(e), key=place)]

    def joined(self, terms: Sequence[tuple[int, str]]) -> str:
        (sign, first), *rest = terms
        between = ("+", "-") if self.inside else (" + ", " - ")
        return "-" * (sign < 0) + first + "".join(between[s < 0] + t for s, t in rest)

    def term(self, e: Scalar, indices: Sequence[str] = (), big: str = "") -> tuple[int, str]:
        """Return the sign and the text of a product: numbers, constants, tensors, functions, sums.

        `big` is a Σ over `indices`; it comes after the factors that do not have them.
        """

        def place(f: Scalar) -> tuple[object, ...]:
            base = f.base if f.is_Pow else f
            kinds = base in self.reads, base.is_Function, base.is_Add
            return max(k * bool(v) for k, v in enumerate(kinds, 1)), self.order(f)

        coefficient, rest = _distributed(e).as_coeff_Mul()
        number = abs(coefficient)
        factors = sorted((f for f in Mul.make_args(rest) if f != 1), key=place)
        roots = [f for f in factors if f.is_Pow and f.base.is_number and abs(f.exp) == S.Half]
        over = [f for f in factors if not _below(f) and f not in roots]
        under = [1 / f for f in factors if _below(f) and f not in roots]
        p, q = (number.p, number.q) if number.q <= LARGEST_DENOMINATOR else (_decimal(number), 1)
        top, bottom = [str(p)] * (p != 1), [str(q)] * (q != 1)
        if roots:
            n, d = Mul(*(f**2 for f in roots)).as_numer_denom()
            (bottom if n == 1 else top).append(self.root(d if n == 1 else n / d))
        front: list[str] = []
        if big:
            free = [f for f in over if not self.names(f) & set(indices)]
            free = free if len(free) < len(over) else []
            front, top = [*top, *(self.text(f, _PRODUCT) for f in free)], []
            over = [f for f in over if f not in free]
        # A factor that stands alone needs fewer brackets, none where a fraction bar holds it.
        alone, bar = len(top) + len(over) == 1, bool(bottom or under)
        level = _PRODUCT if not alone or (bar and not self.latex) else _BIG if not bar else 0
        top += [self.text(f, level) for f in over]
        level = 0 if self.latex and len(bottom) + len(under) == 1 else _POWER
        bottom += [self.text(f, level) for f in under]
        shown = self.fraction(top, bottom)
        shown = self.product([*front, f"{big} {shown}"]) if big else shown
        return -1 if coefficient < 0 else 1, shown

    def names(self, e: Scalar) -> set[str]:
        """Return all names that an expression has, in subscripts too."""
        symbols = e.free_symbols
        return {n for s in symbols for n in free_names(self.reads.get(s, Name(s.name)))}

    def product(self, factors: Sequence[str]) -> str:
        return (r" \, " if self.latex else "·").join(factors)

    def fraction(self, top: Sequence[str], bottom: Sequence[str]) -> str:
        over, under = self.product(top) or "1", self.product(bottom)
        if not bottom:
            return over
        if self.latex:
            return rf"\frac{{{over}}}{{{under}}}"
        return f"{over}/{under}" if len(bottom) == 1 else f"{over}/({under})"

    def power(self, base: Scalar, exponent: Scalar) -> str:
        if exponent == S.Half:
            return self.root(base)
        shown = self.text(base, _ATOM)
        if self.latex:
            return f"{shown}^{{{self.text(exponent)}}}"
        if exponent.is_Integer:
            return shown + str(exponent).translate(_RAISED)
        return f"{shown}^{self.text(exponent, _ATOM)}"

    def root(self, e: Scalar) -> str:
        if self.latex:
            return rf"\sqrt{{{self.text(e)}}}"
        bare = e.is_Integer or (e.is_Symbol and e not in self.reads)
        return f"√{self.text(e)}" if bare else f"√({self.text(e)})"

    def big(self, kind: str, indices: Sequence[str]) -> str:
        inside = ",".join(map(self.name, indices))
        word = "Σ" if kind == "sum" else kind
        return rf"\{kind}_{{{inside}}}" if self.latex else f"{word}[{inside}]"

    def call(self, kind: str, args: Sequence[Scalar]) -> tuple[str, int]:
        """Return a function; choices and comparisons as the definition writes them."""
        if kind == "Select":
            pair = args[0].args if isinstance(args[0], Less | LessEqual) else ()
            if pair in (args[:0:-1], args[1:]):
                kind, args = "min" if pair == args[1:] else "max", args[1:]
            elif pair == (0, args[1]) and args[2] == -args[1]:
                kind, args = "Abs", args[1:2]
        elif kind == "Negation" and isinstance(args[0], Equal):
            kind, args = "Unequal", args[0].args
        elif kind in _REVERSED and args[0].is_number:
            kind, args = _REVERSED[kind], args[::-1]
        if kind in _COMPARED:
            sign = f" {_COMPARED[kind][self.latex]} "
            return sign.join(self.text(a, _SUM) for a in args), _TEST
        inside = ", ".join(map(self.text, args))
        if kind in _FENCES:
            return self.fence(kind, inside), _ATOM
        word = _WORDS.get(kind, kind.lower())
        if self.latex:
            escaped = word.replace("_", r"\_")
            word = f"\\{word}" if word in _OPERATORS else rf"\operatorname{{{escaped}}}"
        return word + self.fence("", inside), _ATOM


# -- equations


@dataclass(frozen=True)
class _Line:
    """One equation as text, `left op right`, for `every` index that is to be named."""

    target: str
    left: str
    op: str
    right: str
    reads: frozenset[str] = frozenset()
    every: tuple[str, ...] = ()
    loop: Loop | None = None
    note: str = ""


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


def _wrapped(line: str, hang: int) -> list[str]:
    """Break a line that is too long after a + or -, outside brackets where there is one."""
    depth, cuts = 0, []
    for k, character in enumerate(line[:WIDTH]):
        depth += (character in "([") - (character in ")]")
        if k > hang and line[k - 1 : k + 2] in (" + ", " - "):
            cuts.append((depth, -k))
    if len(line) <= WIDTH or not cuts:
        return [line]
    cut = 1 - min(cuts)[1]
    return [line[:cut], *_wrapped(" " * hang + line[cut + 1 :], hang)]


class _Writer(_Printer):
    """Joins the steps of a derivation into equations."""

    def __init__(self, d: Derivation, *, latex: bool = False) -> None:
        super().__init__(d, latex=latex)
        self.d, self.given = d, {d.cotangents.get(y) for y in d.program.declared.wanted}
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
        self.sums = {a for step, _, _ in self.forward for a in step.value.atoms(Add)}

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

    def summed(self, step: Step, names: Mapping[str, str]) -> list[tuple[int, str]]:
        """Return the terms that a step adds, with other indices."""
        # Sums have the sign that they have in the definition: x - mu, not mu - x.
        factors = Mul.make_args(step.value)
        turned = [f for f in factors if f.is_Add and f not in self.sums and -f in self.sums]
        value = Mul(*(-f if f in turned else f for f in factors), S.NegativeOne ** len(turned))
        new = {i: Name(n) for i, n in names.items()}
        shown = {s: self.home(step.reads.get(s, Name(s.name)), new) for s in value.free_symbols}
        value = value.xreplace({s: scalar(e, self.reads, self.sizes) for s, e in shown.items()})
        indices = [names[i] for i, _ in step.reduced]
        if step.kind == "max":
            return [(1, f"{self.big('max', indices)} {self.text(value, _BIG)}")]
        if not indices:
            return self.terms(value)
        big = self.big("sum", indices)
        total = Mul(*(scalar(n, {}, self.sizes) for _, n in step.reduced))
        if step.target in self.d.program.shapes and _divides(total, sympy.fraction(value)[1]):
            value *= total
            mean = rf"\frac{{1}}{{{self.text(total)}}} {big}"
            big = mean if self.latex else self.big("mean", indices)
        return [self.term(value, indices, big)]

    def line(self, steps: Sequence[Step], op: str, loop: Loop | None, note: str = "") -> _Line:
        """Return the equation of steps whose left sides differ in letters only."""
        bound = [{i for i, _ in s.reduced} for s in steps]
        # The letters of the step whose left side takes the fewest letters that others sum over.
        letters = min(map(_letters, steps), key=lambda own: sum(len(b & {*own}) for b in bound))
        chosen = tuple(_fresh(letters).values())
        terms = []
        for step in steps:
            left = dict(zip(_letters(step), chosen, strict=True))
            terms += self.summed(step, left | _fresh((i for i, _ in step.reduced), chosen))
        terms.sort(key=lambda term: term[0] < 0)
        first, names = steps[0], dict(zip(_letters(steps[0]), chosen, strict=True))
        places = {i: Name(n) for i, n in names.items()}
        shown = self.element(self.home(Read(first.target, first.subscripts), places))
        scattered = op == "+=" and _bounds(first) is None
        every = tuple(names[i] for i, _ in first.loops if scattered and i in names)
        reads = frozenset(self.own(t) for s in steps for t in s.sources)
        target, right = self.own(first.target), self.joined(terms)
        return _Line(target, shown, op, right, reads, every, loop, note)

    def definition(self) -> list[_Line]:
        """Return the equations of the definition, in the order in which they were written."""
        used = {t for step, _, _ in _placed(self.d.vjp) for t in step.sources}
        groups: dict[tuple[tuple[int, int], str], list[Step]] = {}
        for step, _, _ in self.forward:
            groups[step.at, step.target] = [*groups.pop((step.at, step.target), []), step]
        lines = []
        for (_, target), steps in sorted(groups.items(), key=lambda group: group[0][0]):
            op = "+=" if target in self.d.program.scattered else "="
            lines.append(self.line(steps, op, None))
            pick = steps[0].pick
            if pick is not None and pick in used:
                names = _fresh(i for i, _ in steps[0].pick_loops).values()
                left = self.element(self.home(Read(pick, tuple(map(Name, names)))))
                right = rf"\text{{{PICKED}}}" if self.latex else PICKED
                lines.append(_Line(self.own(pick), left, "=", right))
        return lines

    def cotangents(self) -> list[_Line]:
        """Return the equations of all cotangents, in the order of the derivation."""
        names = self.d.cotangents
        copied = {names.get(y) for y in self.copies}
        found: dict[str, list[Placed]] = {}
        for part in _placed(self.d.vjp):
            if not part[0].sources & copied:
                found.setdefault(part[0].target, []).append(part)
        lines = [line for target, parts in found.items() for line in self.joint(target, parts)]
        lines.sort(key=lambda line: (line[0], line[1].op != "="))
        zero = [f"d{t}" for t in self.d.wrt if t not in names]
        return [line for _, line in lines] + [_Line(t, self.tensor(t), "=", "0") for t in zero]

    def joint(self, target: str, parts: Sequence[Placed]) -> list[tuple[tuple[int, int], _Line]]:
        """Return the equations of one cotangent, each with its place: one with `=` where its left
        side is proved to cover the tensor, several where they are its tiles, else `+=`."""
        shape, given = self.d.shapes[target], self.own(target) in self.given
        groups: dict[object, list[Placed]] = {}
        for part in parts:
            groups.setdefault((part[2], _form(part[0])), []).append(part)
        whole, note = _covers([group[0][0] for group in groups.values()], shape), ""
        if not (whole or any(loop for _, _, loop in parts)):
            steps = [s for step, _, _ in parts if (s := self.shifted(step, shape)) is not None]
            if len(steps) == len(parts):
                groups, whole, note = {0: [(s, parts[-1][1], None) for s in steps]}, True, LEAVES
        lines: list[tuple[tuple[int, int], _Line]] = []
        for group in groups.values():
            steps, loop = [step for step, _, _ in group], group[0][2]
            alone = loop == parts[0][2] and _covers(steps[:1], shape)
            first = whole or (alone and all(line.op != "=" for _, line in lines))
            place = max(at for _, at, own in (group if loop else parts) if own == loop)
            line = self.line(steps, "=" if first and not given else "+=", loop, note)
            lines.append((place, line))
        return lines

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
            reads={k: replace(r, subscripts=tuple(_replaced(s, moved) for s in r.subscripts))
                   for k, r in step.reads.items()},
        )  # fmt: skip

    def page(self, lines: Sequence[_Line]) -> list[str]:
        """Return equations as lines of text, aligned at the equals sign, with their notes."""
        lefts = ["  " * bool(e.loop) + e.left for e in lines]
        left, op = (max(map(len, x), default=0) for x in (lefts, [e.op for e in lines]))
        shown: list[str] = []
        loop = None
        for e, start in zip(lines, lefts, strict=True):
            if e.loop and e.loop != loop:
                shown.append(self.turns(e.loop))
            loop = e.loop
            every = ", ".join(map(self.name, e.every))
            if self.latex:
                tail = rf" \quad \text{{for all ${every}$}}" if every else ""
                sign = r"\mathrel{+}=" if e.op == "+=" else "="
                middle = rf"&\quad {e.left} {sign}" if loop else f"{e.left} &{sign}"
                shown.append(f"{middle} {e.right}{tail}")
            else:
                tail = f"   for all {every}" if every else ""
                line = f"{start:<{left}} {e.op:>{op}} {e.right}{tail}"
                shown += _wrapped(line, left + op + 2)
        notes = [e.note for e in lines if e.note] + [ADDS for e in lines if e.op == "+="]
        return shown + [rf"& \text{{{n}}}" if self.latex else n for n in dict.fromkeys(notes)]

    def turns(self, loop: Loop) -> str:
        """Return the line above the equations of a loop."""
        _, index, backwards, size = loop
        last = self.text(scalar(plus(size, negative(ONE)), {}, self.sizes)).replace(" ", "")
        ends = (last, "0") if backwards else ("0", last)
        dots = r", \ldots, " if self.latex else ", ..., "
        span = f"{self.name(index)} = {dots.join(ends)}"
        return rf"& \text{{for ${span}$:}}" if self.latex else f"for {span}:"
