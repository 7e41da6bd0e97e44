"""Faults of the source: one operator, factor, axis or number of the layer's own Python changed."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

from gradverify.audit.fault import Fault, Plant
from gradverify.layer import Layer

_OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip
_COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}  # fmt: skip
_NAMES = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "sin": "cos", "cos": "sin",
          "maximum": "minimum", "minimum": "maximum", "exp": "expm1", "expm1": "exp",
          "log": "log1p", "log1p": "log", "var": "std", "sqrt": "square"}  # fmt: skip


def source_faults(layer: Layer) -> Iterator[Fault]:
    """Yield changes of the layer's source, and of the functions beside it that it calls.

    None where there is no Python source, as in a layer of an adapter or a compiled one.
    """
    found = _functions(layer.function)
    if not found:
        return
    tree = ast.Module([*found], [])
    for k, node in enumerate(ast.walk(tree)):
        for j, (before, after) in enumerate(_changes(node)):
            told = f"{_short(before)} -> {_short(after)}"
            plant = _plant(layer.function, tree, k, j)
            yield Fault("source", f"source:{told}", None, f"in its source {told}", plant)


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def _functions(function: Callable[..., Any]) -> list[ast.FunctionDef]:
    """Return the source of a function, first, and of those of the same file that it names."""
    if not isinstance(function, FunctionType) or function.__closure__:
        return []
    space, left = function.__globals__, [function]
    found: dict[str, ast.FunctionDef] = {}
    while left:
        current = left.pop(0)
        if current.__name__ in found:
            continue
        try:
            text = textwrap.dedent(inspect.getsource(current))
            (tree,) = ast.parse(text).body
        except (OSError, TypeError, SyntaxError, ValueError):
            return []
        if not isinstance(tree, ast.FunctionDef):  # a lambda in the middle of something else
            return []
        tree.decorator_list = []
        ast.increment_lineno(tree, current.__code__.co_firstlineno - 1)
        found[current.__name__] = tree
        names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
        left += [
            f for f in map(space.get, names)
            if isinstance(f, FunctionType) and f.__globals__ is space and not f.__closure__
        ]  # fmt: skip
    return list(found.values())


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield (node, what may stand in its place); the node's first line of a file is not lost."""
    match node:
        case ast.BinOp(left, op, right):
            if type(op) in _OPERATORS:
                yield node, ast.BinOp(left, _OPERATORS[type(op)](), right)
            if isinstance(op, ast.Add | ast.Sub | ast.Mult):
                yield node, left
                yield node, ast.UnaryOp(ast.USub(), right) if isinstance(op, ast.Sub) else right
            if isinstance(op, ast.Div | ast.Pow):
                yield node, left
        case ast.AugAssign(target, ast.Add() | ast.Sub() as op, value):
            yield node, ast.AugAssign(target, _OPERATORS[type(op)](), value)
        case ast.UnaryOp(ast.USub(), operand):
            yield node, operand
        case ast.Compare(left, [op], [right]) if type(op) in _COMPARISONS:
            yield node, ast.Compare(left, [_COMPARISONS[type(op)]()], [right])
        case ast.Attribute(value, "T", ast.Load()):
            yield node, value
        case ast.Attribute(value, name, ast.Load()) if name in _NAMES:
            yield node, ast.Attribute(value, _NAMES[name], ast.Load())
        case ast.Constant(bool()):
            yield node, ast.Constant(not node.value)
        case ast.Constant(int() | float() as number):
            for other in dict.fromkeys((0, 1, number + 1, -number)):
                if other != number:
                    yield node, ast.Constant(type(number)(other))
        case ast.Call(ast.Attribute(value, "swapaxes" | "transpose" | "copy"), _, _):
            yield node, value
        case ast.Subscript(value, ast.Slice(None, None, ast.UnaryOp(ast.USub(), ast.Constant(1)))):
            yield node, value
        case ast.Name(name, ast.Load()) if len(name) == 1 and name.isupper():
            yield node, ast.BinOp(node, ast.Sub(), ast.Constant(1))


def _plant(function: Callable[..., Any], tree: ast.Module, k: int, j: int) -> Plant:
    def planted(layer: Layer) -> Callable[..., Any]:
        assert isinstance(function, FunctionType)
        wrong = copy.deepcopy(tree)
        node = list(ast.walk(wrong))[k]
        _, after = list(_changes(node))[j]
        changed = ast.fix_missing_locations(_Replace(node, after).visit(wrong))
        space = dict(function.__globals__)
        exec(compile(changed, function.__code__.co_filename, "exec"), space)
        made = space[function.__name__]
        made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
        return made  # type: ignore[no-any-return] # a function

    return planted


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, ast.copy_location(new, old)

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)
