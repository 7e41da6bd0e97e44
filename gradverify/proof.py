"""Gradient equations that a person wrote, proven or refuted for all sizes of a spec."""

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from textwrap import wrap
from time import monotonic
from typing import Any, Literal

import numpy as np

from gradverify.calculus.claims import Claims, claims, read_claims
from gradverify.calculus.closed_form import Closed, ClosedForms
from gradverify.calculus.compile import Oracle
from gradverify.calculus.derive import Derivation, derive
from gradverify.calculus.emit import PLAIN, Mode
from gradverify.calculus.point import Point
from gradverify.calculus.prove import proven, residual
from gradverify.errors import SpecError, UsageError
from gradverify.notation.parse import Source
from gradverify.notation.tree import Call, Expr, Name, Number, Read, text, walk
from gradverify.spec import Spec
from gradverify.witness import Witness, draw, growing, witnesses

Array = np.ndarray[Any, Any]

# Of what a proof assumes, which may be much; the command line indents by 6.
WIDTH = 94
# A closed form in float64 against the step-by-step derivation, in the size of the largest
# element: the one rounds in another order than the other, with a few hundred terms.
CONFIRMED = 1e-9
# A gradient that vanishes at so many is worth the attempt to prove that it always does.
ZERO_POINTS = 3
VANISHED = 1e-9  # of its terms: rounding leaves some 1e-16, a value that is not 0 rarely this


@dataclass(frozen=True)
class Proof:
    """What became of one claim.

    *proven* for all sizes and all values under the conditions of `assumed`; *refuted* by a
    `witness`, with what is claimed minus what is derived as `residual`, if that can be read; or
    *undecided*: it agreed at `points` random points in 50-digit arithmetic, which proves nothing.
    `reads` are claims that its equations read and that are refuted themselves.
    """

    target: str
    equation: str
    status: Literal["proven", "refuted", "undecided"]
    assumed: tuple[str, ...] = ()
    residual: str | None = None
    witness: Witness | None = None
    points: int = 0
    reads: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.target}: {self.status}", *self.equation.splitlines()]
        if self.status == "proven":
            lines[0] += " for all sizes and values"
            whole = ", ".join(a.replace(" ", "\u00a0") for a in self.assumed)  # never broken inside
            given = wrap(f"given {whole}", WIDTH, subsequent_indent="  ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip
            lines += [line.replace("\u00a0", " ") for line in given]
        elif self.witness is None:
            lines[0] += f": it agrees at {self.points} points to 30 digits, which proves nothing"
        else:
            place = f"[{','.join(map(str, self.witness.index))}]" if self.witness.index else ""
            both = self.witness.claimed, self.witness.derived
            lines += [f"(it reads {', '.join(self.reads)}, refuted as well)"] if self.reads else []
            lines += [self.residual] if self.residual else []
            lines.append(str(self.witness))
            lines.append(
                f"{self.target}{place} is {both[0]:.8g} as claimed, {both[1]:.8g} as derived"
            )
        return "\n    ".join(lines)


def prove(spec: Spec, gradients: str | None = None) -> tuple[Proof, ...]:
    """Decide equations about the gradients of a spec, one Proof for each cotangent they define.

    `gradients` is text in the notation of definitions, by default what the spec declares as
    `gradients=`; where it declares none, the claims are that the gradients which vanish at
    random points are 0. Raises SpecError, with the place, for equations that cannot be read, and
    UsageError where there is nothing to prove.
    """
    if spec.program is None:
        raise UsageError(
            f"the spec {spec.name!r} has no definition, so nothing can be proven about it: "
            'declare it with Spec(..., definition="...")'
        )
    derivation = derive(spec.program, spec.differentiable)
    given = gradients if gradients is not None else spec.gradients
    if given is None:
        forms = ClosedForms(derivation, spec.least)
        found = tuple(_proof(spec, claim, t) for t, claim in _zeros(spec, derivation, forms))
        if not found:
            raise UsageError(
                f"nothing to prove about {spec.name!r}: no gradient of it is 0; write what is to "
                'be proven as Spec(..., gradients="dx[n,c] = ...") or in a file, --gradients FILE'
            )
        return found
    try:
        source = Source(given, "gradients").dedented()
        read = read_claims(derivation, source, islice(spec.sizes(), 24))
        proofs = [_proof(spec, read, t) for t in read.judged]
    except SpecError as error:
        raise SpecError(f"spec {spec.name!r}: {error}") from None
    wrong = {p.target for p in proofs if p.status == "refuted"}
    return tuple(replace(p, reads=_refuted(read, p.target, wrong)) for p in proofs)


def vanishes(spec: Spec, tensor: str) -> bool:
    """Whether the gradient of a tensor is proven to be 0 for all sizes and values."""
    assert spec.program is not None
    derivation = derive(spec.program, spec.differentiable)
    forms = ClosedForms(derivation, spec.least)
    closed = forms.zero(forms.wanted[tensor])
    claim = claims(derivation, [closed.equation], Source(str(closed), "gradients"))
    return proven(claim, closed.target, spec.least)


def closed_forms(spec: Spec, seconds: float = inf) -> dict[str, Closed | None]:
    """Return, for each differentiable tensor of a spec, its gradient on one line, or None.

    Each is compiled and compared with the step-by-step derivation before it is returned; one
    that is 0 is proven. After so many `seconds` no other tensor is begun, and those left are left
    out.
    """
    assert spec.program is not None
    end = monotonic() + seconds
    derivation = derive(spec.program, spec.differentiable)
    forms = ClosedForms(derivation, spec.least)
    vanishing = {target for target, claim in _zeros(spec, derivation, forms)
                 if proven(claim, target, spec.least)}  # fmt: skip
    found: dict[str, Closed | None] = {}
    for tensor, cotangent in forms.wanted.items():
        if monotonic() > end:
            break
        if cotangent in vanishing:
            found[tensor] = forms.zero(cotangent)
            continue
        closed = forms.find(cotangent)
        found[tensor] = closed if closed and _confirmed(spec, derivation, closed) else None
    return found


def _proof(spec: Spec, claims: Claims, target: str) -> Proof:
    equation = "\n".join(map(str, (e for e in claims.equations if e.target == target)))
    if proven(claims, target, spec.least):
        return Proof(target, equation, "proven", tuple(_assumed(spec, claims)))
    points = 0
    for witness in witnesses(spec, claims, target):
        if witness is not None:
            shown = residual(claims, target, spec.least)
            return Proof(target, equation, "refuted", residual=shown, witness=witness)
        points += 1
    return Proof(target, equation, "undecided", points=points)


def _refuted(claims: Claims, target: str, wrong: Set[str]) -> tuple[str, ...]:
    """Return which of the `wrong` cotangents the equations of another read."""
    bodies = [e.body for e in claims.equations if e.target == target]
    read = {x.tensor if isinstance(x, Read) else x.id for body in bodies for x in walk(body)
            if isinstance(x, Read | Name)}  # fmt: skip
    return tuple(sorted(read & wrong - {target}))


def _assumed(spec: Spec, claims: Claims) -> Iterator[str]:
    """Yield what a proof takes for granted: sizes, constants, and where all is defined."""
    where = [text(w) for w in spec.where]
    found = [*where, *(f"{d} >= 1" for d in spec.dims if not any(w.startswith(f"{d} >")
                                                                  for w in where))]  # fmt: skip
    found += [f"{c} > 0" for c in spec.constants if spec.least[c] > 0]
    for equation in (*spec.equations, *claims.equations):
        for e in walk(equation.body):
            found += _defined(spec, e)
    yield from dict.fromkeys(found)


def _defined(spec: Spec, e: Expr) -> Iterator[str]:
    """Yield where an operation is defined and has a derivative."""
    match e:
        case Call("/", (_, by)):
            shown = [(by, "!= 0")]
        case Call("**", (base, Number(value))) if value < 0 or value.denominator > 1:
            shown = [(base, "!= 0" if value.denominator == 1 else "> 0" if value < 1 else ">= 0")]
        case Call("**", (base, exponent)) if any(isinstance(x, Read) for x in walk(exponent)):
            shown = [(base, "> 0")]  # it is exp(exponent*log(base))
        case Call("sqrt" | "log", (inside,)):
            shown = [(inside, "> 0")]
        case Call("relu" | "abs", (inside,)) if _real(spec, inside):
            shown = [(inside, "!= 0")]
        case Call("max" | "min" | "<" | "<=" | ">" | ">=", (a, b)) if _real(spec, e):
            shown = [(a, f"!= {text(b)}")]
        case _:
            shown = []
    for inside, condition in shown:
        if not _positive(spec, inside):
            yield f"{text(inside)} {condition}"


def _real(spec: Spec, e: Expr) -> bool:
    """Whether an expression reads real numbers; ties of others are part of the proof."""
    reads = {x.tensor for x in walk(e) if isinstance(x, Read)}
    declared = (spec.tensors.get(t) for t in reads)
    return any(t is None or not (t.integer or t.values) for t in declared)


def _positive(spec: Spec, e: Expr) -> bool:
    """Whether an expression is clearly above 0: sums and products of sizes and the like."""
    match e:
        case Number(value):
            return value > 0
        case Name(name):
            return name == "pi" or spec.least.get(name, 0) > 0
        case Call("+" | "*" | "/" | "**" | "sqrt" | "exp", args):
            return all(_positive(spec, a) for a in args)
    return False


def _zeros(spec: Spec, derivation: Derivation, forms: ClosedForms) -> Iterator[tuple[str, Claims]]:
    """Yield the claims that those gradients are 0 which vanish at random points."""
    assert spec.program is not None
    oracle = Oracle(spec.program, spec.differentiable)
    left = dict(forms.wanted)
    # The larger ones: at sizes of 1 gradients are 0 for other reasons.
    for k, sizes in enumerate([*growing(spec)][-ZERO_POINTS:]):
        rng = np.random.default_rng([k, 3])
        tensors = draw(spec, sizes, rng, decimals=15)
        dy = [rng.standard_normal(spec.shape(y, sizes)) for y in spec.differentiable_outputs]
        point = Point(tensors, {c: sizes[c] for c in spec.constants}, sizes)
        gradients, terms = (
            oracle.run(point, mode)[1](*map(np.asarray, dy))
            for mode in (PLAIN, Mode(absolute=True))
        )
        for t in [*left]:
            size, most = (np.max(np.abs(g[t]), initial=0) for g in (gradients, terms))
            if not size <= VANISHED * most:
                del left[t]
    for cotangent in left.values():
        closed = forms.zero(cotangent)
        found = claims(derivation, [closed.equation], Source(str(closed), "gradients"))
        yield cotangent, found


def _confirmed(spec: Spec, derivation: Derivation, closed: Closed) -> bool:
    """Whether the compiled closed form agrees with the compiled step-by-step derivation."""
    found = claims(derivation, [closed.equation], Source(str(closed), "closed form"))
    oracle = Oracle(found.program, ())
    agreed = 0
    for k, sizes in enumerate(growing(spec)):
        rng = np.random.default_rng([k, 2])
        tensors = draw(spec, sizes, rng, decimals=15)
        for y, seed in zip(spec.differentiable_outputs, found.seeds.values(), strict=True):
            tensors[seed] = np.asarray(rng.standard_normal(spec.shape(y, sizes)))
        point = Point(tensors, {c: sizes[c] for c in spec.constants}, sizes)
        (claimed, derived), _ = oracle.run(point)
        if not np.isfinite(derived).all():
            continue
        if not np.max(np.abs(claimed - derived), initial=0) <= CONFIRMED * max(
            1.0, np.max(np.abs(derived), initial=0)
        ):
            return False
        agreed += 1
    return agreed > 0
