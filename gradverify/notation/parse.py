"""Text to expression trees, by a whitelisted `ast`; the text is never evaluated."""

import ast
import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from gradverify.errors import SpecError, caret, nearest
from gradverify.notation.tree import Call, Expr, Name, Number, Read, Reduce, text, walk

FUNCTIONS = {
    "exp": 1, "log": 1, "expm1": 1, "log1p": 1, "sqrt": 1, "abs": 1, "tanh": 1, "sigmoid": 1,
    "softplus": 1, "relu": 1, "silu": 1, "gelu": 1, "erf": 1, "erfc": 1, "sin": 1, "cos": 1,
    "tan": 1, "atan": 1, "sinh": 1, "cosh": 1, "gamma": 1, "lgamma": 1, "digamma": 1,
    "polygamma": 2, "logaddexp": 2, "max": 2, "min": 2, "where": 3, "stop_gradient": 1,
}  # fmt: skip
REDUCTIONS = ("sum", "mean", "var", "prod", "max", "min", "logsumexp")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

# Bounds that no definition a person writes comes near, and that keep hostile text cheap.
MAX_LENGTH, MAX_DEPTH, MAX_EXPONENT, MAX_DIGITS = 20_000, 60, 64, 40
# Reductions that are written by two others of the same body, which would double with each level.
_DOUBLED, MAX_DOUBLED = ("var", "logsumexp"), 4

_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==",
    ast.NotEq: "!=", ast.And: "and", ast.Or: "or", ast.USub: "neg", ast.Not: "not",
}  # fmt: skip


@dataclass(frozen=True)
class Equation:
    """One line of a definition: `target[subscripts] = body`; `adds` where it is `+=`.

    `at` tells equations apart: (line, column), and a number more for those of a part, which all
    stand where it is called. `ranges` are those declared for a part; None: the spec's own.
    """

    target: str
    subscripts: tuple[Expr, ...]
    body: Expr
    adds: bool
    at: tuple[int, ...]
    ranges: Mapping[str, Expr] | None = None

    def __str__(self) -> str:
        sign = "+=" if self.adds else "="
        return f"{text(Read(self.target, self.subscripts))} {sign} {text(self.body)}"


@dataclass(frozen=True)
class Invocation:
    """One line that calls a part, `targets = part(args)`: tensors with leading subscripts."""

    part: str
    targets: tuple[Read, ...]
    args: tuple[Read, ...]
    at: tuple[int, ...]


# An equation that begins in a line: what is left of = has brackets of its own, and no other.
_EQUATION = re.compile(r"\s*\w+\s*(\[[^][]*(\[[^][]*\][^][]*)*\])?\s*\+?=(?!=)")


def _margin(lines: Sequence[str]) -> int:
    return min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)


def _inner_margin(lines: Sequence[str]) -> int | None:
    """Return the margin of the other equations where the first stands right after the quotes."""
    inner = _margin(lines[1:])
    if _margin(lines) > 0 or inner == 0 or not _EQUATION.match(lines[0]):
        return None
    outer = (x for x in lines[1:] if x[inner : inner + 1].strip())
    return inner if any(map(_EQUATION.match, outer)) else None


@dataclass(frozen=True)
class Source:
    """A text that a user wrote, with what it is called in messages."""

    text: str
    what: str = "definition"

    def dedented(self) -> "Source":
        """Return the text at the left margin, where Python reads equations.

        A line that is indented further continues the one before it, brackets or not; the first
        may stand right after the quotes.
        """
        lines = self.text.expandtabs().splitlines()
        if (inner := _inner_margin(lines)) is not None:
            lines[0] = " " * inner + lines[0]
        margin = _margin(lines)
        lines = "\n".join(x[margin:] for x in lines).strip("\n").split("\n")
        depth = 0
        for k, line in enumerate(lines[:-1]):
            depth += sum((c in "([{") - (c in ")]}") for c in line.partition("#")[0])
            if depth == 0 and line.strip() and "#" not in line and lines[k + 1][:1] == " ":
                lines[k] += " \\"
        return Source("\n".join(lines), self.what)

    def place(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return (line, column) of a node of the parsed text."""
        line = self.text.splitlines()[node.lineno - 1]
        # Python counts columns in bytes of UTF-8, people in characters.
        return node.lineno, len(line.encode()[: node.col_offset].decode(errors="replace"))

    def error(self, message: str, at: tuple[int, ...]) -> SpecError:
        """Return an error that shows the line of the text with a caret under the place."""
        return SpecError(f"{message}\n{caret(self.text, at[0], at[1])}")


def parse_equations(
    source: Source, parts: Collection[str] = ()
) -> tuple[Equation | Invocation, ...]:
    """Return the lines of a definition, in order: equations, and calls of the `parts`.

    SpecError shows what cannot be read.
    """
    found: list[Equation | Invocation] = []
    tree = _parse(source, "exec")
    assert isinstance(tree, ast.Module)
    for node in tree.body:
        at = source.place(node)
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target: ast.expr = node.targets[0]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            target = node.target
        else:
            raise source.error(
                "this is not an equation: write `name[indices] = expression`, one per line", at
            )
        adds = isinstance(node, ast.AugAssign)
        reader = _Reader(source, parts)
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Name) and not adds:
            if called.id in parts:
                found.append(reader.invocation(target, node.value, at))
                continue
            if isinstance(target, ast.Tuple):
                hint = nearest(called.id, parts) if parts else "declare it, =Part(spec)"
                raise source.error(f"{called.id} is no part of this spec; {hint}", at)
        if not isinstance(target, ast.Name | ast.Subscript):
            raise source.error("the left side must be one tensor, such as y[n,c]", at)
        left = reader.tensor(target)
        found.append(Equation(left.tensor, left.subscripts, reader.read(node.value), adds, at))
    if not found:
        raise SpecError(f"the {source.what} is empty: write at least one equation")
    return tuple(found)


def parse_expression(source: Source) -> Expr:
    """Return one expression, such as a size, a constraint or a bound of a range."""
    source = Source(source.text.strip(), source.what)
    tree = _parse(source, "eval")
    assert isinstance(tree, ast.Expression)
    return _Reader(source).read(tree.body)


def _parse(source: Source, mode: str) -> ast.Module | ast.Expression:
    text = source.text
    if len(text) > MAX_LENGTH:
        raise SpecError(f"the {source.what} is longer than {MAX_LENGTH:,} characters")
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    # Runs of prefix operators nest as deeply as brackets do.
    prefix = max((len(m) for m in re.findall(r"(?:[-+~]\s*|not\s+)+", text)), default=0)
    if deepest > MAX_DEPTH or prefix > 4 * MAX_DEPTH:
        raise SpecError(f"the {source.what} is nested deeper than {MAX_DEPTH} brackets")
    if long := re.search(rf"\d{{{MAX_DIGITS + 1},}}", text):
        line = text.count("\n", 0, long.start()) + 1
        column = long.start() - (text.rfind("\n", 0, long.start()) + 1)
        raise source.error(f"a number has more than {MAX_DIGITS} digits", (line, column))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own remarks about odd but harmless syntax
            return ast.parse(text, mode=mode)  # type: ignore[return-value]
    except SyntaxError as error:
        line = min(error.lineno or 1, max(len(text.splitlines()), 1))
        message = f"the {source.what} cannot be read ({error.msg})"
        raise source.error(message, (line, max((error.offset or 1) - 1, 0))) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SpecError(f"the {source.what} cannot be read ({error})") from None


def _remedy(node: ast.expr) -> str | None:
    """Return what to write instead of something that Python has and the language has not."""
    match node:
        case ast.BinOp(op=ast.MatMult()):
            return "`@` has no meaning here: write sum[i](a[n,i]*b[i,k])"
        case ast.BinOp(op=ast.BitXor()):
            return "`^` has no meaning here: a power is written with **, x[n]**2"
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr()) | ast.UnaryOp(op=ast.Invert()):
            return "write and, or, not for conditions"
        case ast.IfExp():
            return "write where(condition, a, b) for a choice"
        case (
            ast.Attribute() | ast.Call(func=ast.Attribute()) | ast.Subscript(value=ast.Attribute())
        ):
            return "a dot has no meaning here: write tensors and functions by their plain names"
        case ast.Subscript(value=ast.Subscript()):
            return "write all subscripts in one pair of brackets, x[n,c]"
        case ast.Call(func=ast.Name() | ast.Subscript(), keywords=[_, *_]):
            return "arguments have no names here: write exp(x[n]), not exp(x=x[n])"
        case ast.Call(func=ast.Subscript(value=ast.Name(id=kind)), args=args):
            return f"{kind}[...] takes one argument, not {len(args)}"
        case ast.Constant(value=float()):
            return "this number is too large for a float64; for infinity write inf"
        case ast.Tuple():
            return "a comma can stand between subscripts and arguments only"
    return None


class _Reader:
    """Turns the nodes of one `ast` tree into ours and refuses every other node."""

    def __init__(self, source: Source, parts: Collection[str] = ()) -> None:
        self.source, self.parts = source, parts
        self.depth = self.doubled = 0

    def tensor(self, node: ast.expr) -> Read:
        """Return a tensor that may stand without subscripts."""
        match found := self.read(node):
            case Read():
                return found
            case Name(id, at):
                return Read(id, (), at)
        raise self.source.error(
            "a part takes and gives tensors, such as x or x[t]: "
            "give this expression an equation of its own",
            self.source.place(node),
        )

    def invocation(self, target: ast.expr, call: ast.expr, at: tuple[int, int]) -> Invocation:
        """Return the line `target = call` of a part."""
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        if call.keywords:
            raise self.source.error(
                f"the tensors that {call.func.id} takes stand in order, without their names", at
            )
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        return Invocation(
            call.func.id,
            tuple(self.tensor(t) for t in targets),
            tuple(self.tensor(a) for a in call.args),
            at,
        )

    def part(self, name: str, at: tuple[int, int]) -> SpecError:
        return self.source.error(
            f"{name} is a part of this spec: call it, on a line of its own, h = {name}(x)", at
        )

    def read(self, node: ast.expr) -> Expr:
        self.depth += 1
        if self.depth > 4 * MAX_DEPTH:
            raise SpecError(
                f"the {self.source.what} has an expression of more than {4 * MAX_DEPTH} levels: "
                "give parts of it names in equations of their own"
            )
        try:
            return self._read(node)
        finally:
            self.depth -= 1

    def _read(self, node: ast.expr) -> Expr:
        at = self.source.place(node)
        match node:
            case ast.Constant(value=bool() | str() | bytes() | complex() | None):
                raise self.source.error("only real numbers can stand here", at)
            case ast.Constant(value=int(value)):
                return Number(Fraction(value), at)
            case ast.Constant(value=float(value)) if math.isfinite(value):
                return Number(Fraction(value), at)
            case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)) if name in self.parts:
                raise self.part(name, at)
            case ast.Name(id=name):
                return Name(name, at)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as constant):
                number = self.read(constant)
                assert isinstance(number, Number)
                return Number(-number.value, at)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return Call(_OPERATORS[type(op)], (self.read(operand),), at)
            case ast.BinOp(op=ast.Pow()):
                return self._power(node, at)
            case ast.BinOp(
                op=ast.Div() | ast.FloorDiv() | ast.Mod(), right=ast.Constant(value=0 | 0.0)
            ):
                raise self.source.error("this divides by zero", self.source.place(node.right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return Call(_OPERATORS[type(op)], (self.read(left), self.read(right)), at)
            case ast.BoolOp(op=op, values=values):
                result = self.read(values[0])
                for operand in values[1:]:
                    result = Call(_OPERATORS[type(op)], (result, self.read(operand)), at)
                return result
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._comparison([left, *comparators], ops, at)
            case ast.Subscript(value=ast.Name(id=tensor), slice=inside):
                return Read(tensor, self._subscripts(inside), at)
            case ast.Call(func=ast.Name(id=function), args=args, keywords=[]):
                return self._call(function, args, at)
            case ast.Call(
                func=ast.Subscript(value=ast.Name(id=kind), slice=inside), args=[body], keywords=[]
            ):
                return self._reduction(kind, inside, body, at)
        raise self.source.error(
            _remedy(node)
            or "only numbers, names, subscripts, arithmetic, comparisons and the functions "
            f"{', '.join(FUNCTIONS)} can stand here",
            at,
        )

    def _subscripts(self, inside: ast.expr) -> tuple[Expr, ...]:
        parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        for part in parts:
            if isinstance(part, ast.Slice | ast.Starred):
                raise self.source.error(
                    "a slice has no meaning here: name an index, x[n,c]",
                    self.source.place(inside),
                )
        return tuple(self.read(part) for part in parts)

    def _comparison(self, parts: list[ast.expr], ops: list[ast.cmpop], at: tuple[int, int]) -> Expr:
        read = [self.read(part) for part in parts]
        result: Expr | None = None
        for left, op, right in zip(read, ops, read[1:], strict=False):
            if type(op) not in _OPERATORS:
                raise self.source.error("compare with < <= > >= == !=", at)
            link = Call(_OPERATORS[type(op)], (left, right), at)
            result = link if result is None else Call("and", (result, link), at)
        assert result is not None
        return result

    def _call(self, function: str, args: list[ast.expr], at: tuple[int, int]) -> Expr:
        if function in self.parts:
            raise self.part(function, at)
        if function not in FUNCTIONS:
            if function in REDUCTIONS:
                raise self.source.error(
                    f"{function} needs the indices it runs over: {function}[n](...)", at
                )
            close = get_close_matches(function, [*self.parts, *FUNCTIONS, *REDUCTIONS], 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            if not self.parts and args and all(isinstance(a, ast.Name) for a in args):
                hint += f"; to call a spec, declare it: {function}=Part(spec)"
            parts = f"\n    parts of this spec: {' '.join(self.parts)}" if self.parts else ""
            raise self.source.error(
                f"{function} is not a function of the language{hint}\n    known functions: "
                f"{' '.join(FUNCTIONS)}\n    reductions: {' '.join(f'{r}[i]' for r in REDUCTIONS)}"
                + parts,
                at,
            )
        if len(args) != FUNCTIONS[function] or any(isinstance(a, ast.Starred) for a in args):
            hint = f": for the {function} over an index write {function}[n](...)"
            raise self.source.error(
                f"{function} takes {FUNCTIONS[function]} argument(s), not {len(args)}"
                + (hint if function in REDUCTIONS else ""),
                at,
            )
        found = tuple(self.read(a) for a in args)
        if function == "polygamma":
            order = found[0]
            if not isinstance(order, Number) or order.value < 0 or order.value.denominator != 1:
                raise self.source.error(
                    "the order of polygamma is a whole number from 0, written out: polygamma(1, x)",
                    self.source.place(args[0]),
                )
        return Call(function, found, at)

    def _reduction(self, kind: str, inside: ast.expr, body: ast.expr, at: tuple[int, int]) -> Expr:
        if kind not in REDUCTIONS:
            close = get_close_matches(kind, REDUCTIONS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise self.source.error(
                f"{kind} is not a reduction{hint} (known: {' '.join(REDUCTIONS)})", at
            )
        indices, bounds = [], []
        for part in self._subscripts(inside):
            match part:
                case Name(id):
                    index = id
                case Call(op, (Name(id), _)) if op in COMPARISONS:
                    index = id
                    bounds.append(part)
                case Call(op) if op in (*COMPARISONS, "and"):
                    raise self.source.error(
                        f"a bound begins with its index and compares once, {kind}[j<=i](...); what "
                        f"it cannot say goes into the body, {kind}[j](where(...))",
                        part.at,
                    )
                case _:
                    index = ""
            if not re.fullmatch("[a-z]", index):
                raise self.source.error("a reduction runs over indices: single small letters", at)
            indices.append(index)
        if len(set(indices)) != len(indices):
            raise self.source.error("a reduction names an index twice", at)
        if bounds and kind in ("mean", "var"):
            raise self.source.error(
                f"{kind} takes no bound, since how many terms it has would not show: divide a sum "
                "by their number, such as sum[j<=i](x[j])/(i + 1)",
                bounds[0].at,
            )
        self.doubled += kind in _DOUBLED
        if self.doubled > MAX_DOUBLED:
            raise self.source.error(
                f"{kind} is nested in {MAX_DOUBLED} others: give those inside equations of their "
                "own",
                at,
            )
        result = Reduce(kind, tuple(indices), self.read(body), at, tuple(bounds))
        self.doubled -= kind in _DOUBLED
        return result

    def _power(self, node: ast.BinOp, at: tuple[int, int]) -> Expr:
        base, exponent = self.read(node.left), self.read(node.right)
        numeric = [all(isinstance(e, Number | Call) for e in walk(x)) for x in (base, exponent)]
        # Powers of numbers are folded exactly later on: 9**9**9 must not come that far.
        if numeric[1] and not isinstance(exponent, Number):
            raise self.source.error("write an exponent that is a number as one number", at)
        if isinstance(exponent, Number) and abs(exponent.value) > MAX_EXPONENT:
            raise self.source.error(f"an exponent beyond {MAX_EXPONENT} is refused", at)
        if numeric[0] and not isinstance(base, Number):
            raise self.source.error("write a power of numbers as one number", at)
        return Call("**", (base, exponent), at)
